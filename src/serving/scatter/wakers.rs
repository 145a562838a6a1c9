//! Which leaves were woken: a bit each, and wakers that outlive the request they served.

use crate::base::sync::{
    Arc,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};
use futures::task::AtomicWaker;
use std::{
    cell::RefCell,
    task::{Context, Wake, Waker},
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
    parent: AtomicWaker,
}

/// Wakes the parent for one leaf.
struct LeafWaker {
    bits: Arc<Bits>,
    place: u32,
}

impl Wake for LeafWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        let Some(word) = self.bits.words.get(self.place as usize / 64) else { return };
        // whoever set the first bit of the word has woken the parent, or is about to
        if word.fetch_or(1 << (self.place % 64), AcqRel) == 0 {
            self.bits.parent.wake();
        }
    }
}

/// A waker for each of so many leaves.
struct Set {
    bits: Arc<Bits>,
    list: Box<[Waker]>,
}

impl Set {
    fn new(count: usize) -> Self {
        let words = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let bits = Arc::new(Bits { words, parent: AtomicWaker::new() });
        let waker = |place| Waker::from(Arc::new(LeafWaker { bits: bits.clone(), place }));
        Set { list: (0..count as u32).map(waker).collect(), bits }
    }
}

/// The wakers of one request's leaves. A thread keeps those that are done with: one that a leaf of an earlier request still
/// holds costs a later one a needless poll, and nothing else.
pub(super) struct Wakers {
    set: Option<Set>,
    words: usize,
}

impl Wakers {
    /// For this many leaves.
    pub(super) fn take(count: usize) -> Self {
        let class = class(count);
        let kept = POOL.with_borrow_mut(|pool| pool.get_mut(class).and_then(Vec::pop));
        let set = kept.unwrap_or_else(|| Set::new(if class < CLASSES { LEAST << class } else { count }));
        for word in &set.bits.words {
            word.store(0, Relaxed);
        }
        Wakers { set: Some(set), words: count.div_ceil(64) }
    }

    /// How many words there are to look at.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Who is woken for any leaf from now on.
    #[inline]
    pub(super) fn register(&self, cx: &Context<'_>) {
        if let Some(set) = &self.set {
            set.bits.parent.register(cx.waker());
        }
    }

    /// Those of this word that were woken since it was asked last, a bit each.
    #[inline]
    pub(super) fn woken(&self, word: usize) -> u64 {
        match self.set.as_ref().and_then(|set| set.bits.words.get(word)) {
            Some(word) if word.load(Acquire) != 0 => word.swap(0, AcqRel),
            _ => 0,
        }
    }

    /// The waker of the leaf at this place.
    #[inline]
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
        let Some(set) = self.set.take() else { return };
        drop(set.bits.parent.take());
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(second.woken(0), 0);
        stale.wake();
        assert_eq!((second.woken(0), second.woken(0), second.woken(1)), (1 << 3, 0, 0));
        let many: Vec<Wakers> = (0..50).map(|_| Wakers::take(128)).collect();
        drop((second, many));
        POOL.with_borrow(|pool| assert_eq!(pool[class(128)].len(), KEPT / 128));
        let huge = Wakers::take(5_000);
        assert!(huge.get(4_999).is_some() && huge.words() == 79);
    }
}
