//! Many futures under one: polled at first, and then when they are woken.

use super::{slab::Slab, wakers::Wakers};
use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Waker},
};

/// Up to so many, all are polled at each wake: a waker for each would cost more than the polls it spares.
const PLAIN: usize = 4;

/// Futures in places of their own. Each has its own waker, so that one that comes costs one poll, not a poll of all.
///
/// Whoever drives it registers and visits those that are [due](Self::due); having [put](Self::put) more, those in the words
/// of bits that this tells.
pub(super) struct Fan<F> {
    slab: Slab<F>,
    wakers: Option<Wakers>,
    put: usize,
    /// Those below it have been due once.
    begun: usize,
    /// Without wakers: who has not ended, a bit each.
    open: u64,
}

impl<F> Fan<F> {
    /// Places for this many.
    #[inline]
    pub(super) fn new(count: usize) -> Self {
        let wakers = (count > PLAIN).then(|| Wakers::take(count));
        Fan { slab: Slab::new(count), wakers, put: 0, begun: 0, open: 0 }
    }

    /// So many more places are due, at least one; in these words.
    #[inline]
    pub(super) fn put(&mut self, count: usize) -> Range<usize> {
        self.slab.put(count);
        let from = self.put;
        self.put += count;
        from / 64..self.words()
    }

    /// This one has ended, and is not due again.
    #[inline(always)]
    pub(super) fn end(&mut self, place: usize) {
        self.open &= !(1 << (place % 64));
    }

    /// Drops all that are left.
    pub(super) fn clear(&mut self) {
        for place in 0..self.put {
            if let Some(mut slot) = self.slab.at(place) {
                slot.set(None);
            }
        }
    }

    /// Who is woken from now on. Comes before looking who is due.
    #[inline(always)]
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        if let Some(wakers) = &mut self.wakers {
            wakers.register(cx.waker());
        }
    }

    /// How many words of bits [`due`](Self::due) has.
    #[inline(always)]
    pub(super) fn words(&self) -> usize {
        self.put.div_ceil(64)
    }

    /// Those of this word that are to be visited, a bit each: who was woken, and who is there for the first time. They are
    /// told once.
    #[inline(always)]
    pub(super) fn due(&mut self, word: usize) -> u64 {
        let woken = self.wakers.as_ref().map_or(self.open, |wakers| wakers.woken(word));
        if woken == 0 && self.begun == self.put {
            return 0;
        }
        // an earlier request's waker may have woken one that is not there yet
        let (fresh, there) = (below(self.begun, word), below(self.put, word));
        if self.begun < self.put {
            self.begin(word, there);
        }
        (woken | !fresh) & there
    }

    #[inline]
    fn begin(&mut self, word: usize, there: u64) {
        self.begun = self.put.min(64 * (word + 1)).max(self.begun);
        if self.wakers.is_none() {
            self.open |= there;
        }
    }

    /// Visits this place, with the waker that is its own.
    #[inline(always)]
    pub(super) fn visit<T>(
        &mut self,
        place: usize,
        cx: &mut Context<'_>,
        visit: impl FnOnce(Pin<&mut Option<F>>, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let waker: &Waker = match &self.wakers {
            Some(wakers) => wakers.get(place)?,
            None => cx.waker(),
        };
        Some(visit(self.slab.at(place)?, &mut Context::from_waker(waker)))
    }
}

/// The bits of this word that stand for places below this one.
#[inline(always)]
fn below(place: usize, word: usize) -> u64 {
    match place.saturating_sub(64 * word) {
        bits @ 0..64 => (1 << bits) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_put_in_is_due_once_and_then_when_woken() {
        for (count, steps) in [(3, vec![1, 2]), (64, vec![64]), (130, vec![1, 63, 2, 64]), (200, vec![30, 170])] {
            let (mut fan, mut seen) = (Fan::<u8>::new(count), Vec::new());
            fan.register(&Context::from_waker(Waker::noop()));
            for step in steps {
                for word in fan.put(step) {
                    let due = fan.due(word);
                    seen.extend((0..64).filter(|bit| due >> bit & 1 == 1).map(|bit| word * 64 + bit));
                }
            }
            if count > PLAIN {
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
                assert!((0..fan.words()).all(|word| fan.due(word) == 0), "each once");
                fan.wakers.as_ref().and_then(|wakers| wakers.get(count - 1)).unwrap().wake_by_ref();
                assert_eq!(fan.due((count - 1) / 64), 1 << ((count - 1) % 64));
            } else {
                fan.end(1);
                assert_eq!((seen, fan.due(0)), (vec![0, 0, 1, 2], 0b101), "all that are open, at every look");
            }
        }
    }

    #[test]
    fn bits_below_a_place() {
        assert_eq!((below(0, 0), below(3, 0), below(64, 0), below(64, 1)), (0, 0b111, u64::MAX, 0));
        assert_eq!((below(65, 1), below(200, 1), below(10, 3)), (1, u64::MAX, 0));
    }
}
