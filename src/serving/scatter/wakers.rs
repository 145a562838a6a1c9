//! Which leaves were woken: a bit each, and wakers that outlive the request they served.

use crate::base::sync::{
    Arc, TryLock,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire},
    },
};
use std::{
    cell::RefCell,
    ops::Range,
    task::{Wake, Waker},
};

/// The smallest set of wakers; each class has twice as many as the one before.
const LEAST: usize = 8;
/// Sets for 8 to 1024 leaves are kept.
const CLASSES: usize = 8;
/// How many wakers of each class a thread keeps at most.
const KEPT: usize = LEAST << (CLASSES - 1);

thread_local! {
    static POOL: RefCell<[Vec<Set>; CLASSES]> = const { RefCell::new([const { Vec::new() }; CLASSES]) };
}

struct Bits {
    words: Box<[AtomicU64]>,
    /// Stays when it is woken, so that a request that is woken by the same waker again need not put it back.
    parent: TryLock<Option<Waker>>,
}

impl Bits {
    fn new(count: usize) -> Self {
        Bits { words: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(), parent: TryLock::new(None) }
    }

    #[inline]
    fn wake(&self, place: usize) {
        let Some(word) = self.words.get(place / 64) else { return };
        // whoever set the first bit of the word has woken the parent, or is about to
        if word.fetch_or(1 << (place % 64), AcqRel) == 0
            && let Some(parent) = self.parent.look()
            && let Some(parent) = &*parent
        {
            parent.wake_by_ref();
        }
        // who changes the parent right now looks at all words after that
    }

    /// Another parent from now on. False where the one before is being woken right now.
    fn change(&self, parent: Option<Waker>) -> bool {
        let Some(mut place) = self.parent.change() else { return false };
        let before = std::mem::replace(&mut *place, parent);
        drop(place);
        drop(before);
        true
    }

    /// Takes the bits of the first of these words that has any; `sure`: also those that came while the parent was changed.
    #[inline(always)]
    fn take(&self, words: &mut Range<usize>, sure: bool) -> Option<(usize, u64)> {
        let from = words.start;
        for (word, bits) in self.words.get(words.clone())?.iter().enumerate() {
            if sure || bits.load(Acquire) != 0 {
                let bits = bits.swap(0, AcqRel);
                if bits != 0 {
                    words.start = from + word + 1;
                    return Some((from + word, bits));
                }
            }
        }
        words.start = words.end;
        None
    }
}

/// Wakes the parent for one leaf.
struct LeafWaker {
    bits: Arc<Bits>,
    place: u32,
}

impl Wake for LeafWaker {
    #[inline]
    fn wake(self: Arc<Self>) {
        self.bits.wake(self.place as usize);
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        self.bits.wake(self.place as usize);
    }
}

/// A waker for each of so many leaves.
struct Set {
    bits: Arc<Bits>,
    list: Box<[Waker]>,
}

impl Set {
    fn new(count: usize) -> Self {
        let bits = Arc::new(Bits::new(count));
        let waker = |place| Waker::from(Arc::new(LeafWaker { bits: bits.clone(), place }));
        Set { list: (0..count as u32).map(waker).collect(), bits }
    }
}

/// The wakers of one request's leaves. A thread keeps those that are done with: one that a leaf of an earlier request still
/// holds costs a later one a needless poll, and nothing else.
pub(super) struct Wakers {
    set: Option<Set>,
    /// A copy of the one that is woken now.
    parent: Option<Waker>,
    /// The parent was changed by this poll.
    changed: bool,
}

impl Wakers {
    /// For this many leaves.
    pub(super) fn take(count: usize) -> Self {
        let class = class(count);
        let kept = POOL.with_borrow_mut(|pool| pool.get_mut(class).and_then(Vec::pop));
        Wakers::of(kept.unwrap_or_else(|| Set::new(if class < CLASSES { LEAST << class } else { count })))
    }

    /// Bits that are still set are taken with the [first](Self::first) look at their word.
    fn of(set: Set) -> Self {
        Wakers { set: Some(set), parent: None, changed: false }
    }

    /// The set, if it can serve another request: not where somebody is waking the parent right now, which then goes with the
    /// last of the leaves' wakers.
    fn end(&mut self) -> Option<Set> {
        self.set.take().filter(|set| set.bits.change(None))
    }

    /// Who is woken for any leaf from now on. Comes before looking who [was woken](Self::woken).
    #[inline(always)]
    pub(super) fn register(&mut self, parent: &Waker) {
        self.changed = false;
        if !self.parent.as_ref().is_some_and(|before| before.will_wake(parent)) {
            self.change(parent);
        }
    }

    #[inline(never)]
    fn change(&mut self, parent: &Waker) {
        let Some(set) = &self.set else { return };
        self.changed = true;
        self.parent = Some(parent.clone());
        if !set.bits.change(Some(parent.clone())) {
            // the one before is being woken for what this poll may not see yet
            self.parent = None;
            parent.wake_by_ref();
        }
    }

    /// The first of these words of which any were woken since it was asked last, and who, a bit each; the words up to it are
    /// taken off the range.
    #[inline(always)]
    pub(super) fn woken(&self, words: &mut Range<usize>) -> Option<(usize, u64)> {
        self.set.as_ref()?.bits.take(words, self.changed)
    }

    /// Those of this word whose bits are set, whenever that was: to be asked before a place of this word gets its waker.
    pub(super) fn first(&self, word: usize) -> u64 {
        let set = self.set.as_ref().and_then(|set| set.bits.take(&mut (word..word + 1), true));
        set.map_or(0, |(_, bits)| bits)
    }

    /// The waker of the leaf at this place.
    #[inline(always)]
    pub(super) fn get(&self, place: usize) -> Option<&Waker> {
        self.set.as_ref()?.list.get(place)
    }
}

/// The class that has wakers for this many leaves.
fn class(count: usize) -> usize {
    count.div_ceil(LEAST).next_power_of_two().trailing_zeros() as usize
}

impl Drop for Wakers {
    fn drop(&mut self) {
        let Some(set) = self.end() else { return };
        let (class, count) = (class(set.list.len()), set.list.len());
        let mut set = Some(set);
        // none where the thread is ending: then what is left is dropped after this
        let _ = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && let Some(kept) = pool.get_mut(class)
                && (kept.len() + 1) * count <= KEPT
            {
                kept.extend(set.take());
            }
        });
    }
}

#[cfg(all(test, seedpod_loom))]
mod loom_model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::atomic::Ordering::Relaxed;

    #[test]
    fn a_class_has_enough_and_less_than_twice_as_many() {
        for count in 1..=KEPT {
            let size = LEAST << class(count);
            assert!(size >= count && (size == LEAST || size < 2 * count), "{count}: {size}");
        }
        assert!(class(KEPT + 1) >= CLASSES);
    }

    #[test]
    fn wakers_are_used_again_and_the_pool_is_bounded() {
        let first = Wakers::take(100);
        let stale = first.get(3).unwrap().clone();
        drop(first);
        let second = Wakers::take(90);
        assert!(stale.will_wake(second.get(3).unwrap()), "the same wakers");
        assert_eq!(second.woken(&mut (0..2)), None);
        stale.wake();
        second.get(70).unwrap().wake_by_ref();
        let mut words = 0..2;
        assert_eq!((second.woken(&mut words), second.woken(&mut words)), (Some((0, 1 << 3)), Some((1, 1 << 6))));
        assert_eq!((second.woken(&mut words), second.woken(&mut (0..2))), (None, None));
        let many: Vec<Wakers> = (0..50).map(|_| Wakers::take(128)).collect();
        drop((second, many));
        POOL.with_borrow(|pool| assert_eq!(pool[class(128)].len(), KEPT / 128));
        let huge = Wakers::take(5_000);
        assert!(huge.get(4_999).is_some() && huge.woken(&mut (0..79)).is_none());
    }

    #[derive(Default)]
    struct Flag(AtomicU64);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn whoever_polled_last_is_woken_and_nobody_is_held_when_it_is_over() {
        let flags = [Arc::new(Flag::default()), Arc::new(Flag::default())];
        let woken = || flags.each_ref().map(|flag| flag.0.load(Relaxed));
        let mut wakers = Wakers::take(9);
        for (parent, times) in [(0, [1, 0]), (1, [1, 1]), (1, [1, 2]), (0, [2, 2])] {
            wakers.register(&Waker::from(flags[parent].clone()));
            wakers.woken(&mut (0..1));
            wakers.get(3).unwrap().wake_by_ref();
            wakers.get(8).unwrap().wake_by_ref();
            assert_eq!(woken(), times, "once for all that are woken between two polls");
        }
        let stale = wakers.get(0).unwrap().clone();
        drop(wakers);
        stale.wake();
        assert_eq!((woken(), flags.each_ref().map(Arc::strong_count)), ([2, 2], [1, 1]));
    }
}
