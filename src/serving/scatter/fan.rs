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
/// Whoever drives it registers and visits those that are [due](Self::due) in all [words](Self::words) of bits; having
/// [put](Self::put) more, in those words that this tells.
pub(super) struct Fan<F> {
    slab: Slab<F>,
    wakers: Option<Wakers>,
    count: usize,
    put: usize,
    /// Those below it have been due once.
    begun: usize,
    /// Without wakers: who has not ended, a bit each.
    open: u64,
}

impl<F> Fan<F> {
    /// Places for this many.
    #[inline(always)]
    pub(super) fn new(count: usize) -> Self {
        let wakers = (count > PLAIN).then(|| Wakers::take(count));
        Fan { slab: Slab::new(count), wakers, count, put: 0, begun: 0, open: 0 }
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

    /// The next of these words in which any are to be visited, and who, a bit each: those that were woken, and those that are
    /// there for the first time. They are told once; the words before it are taken off the range.
    #[inline(always)]
    pub(super) fn due(&mut self, words: &mut Range<usize>) -> Option<(usize, u64)> {
        if self.begun < self.count {
            return self.fresh(words);
        }
        match &self.wakers {
            Some(wakers) => wakers.woken(words),
            None => words.next().map(|word| (word, self.open)),
        }
    }

    /// The same while not all have been visited.
    #[inline(never)]
    fn fresh(&mut self, words: &mut Range<usize>) -> Option<(usize, u64)> {
        let word = words.next()?;
        // an earlier request's waker may have woken one that is not there yet
        let (before, there) = (below(self.begun, word), below(self.put, word));
        let woken = match &self.wakers {
            Some(wakers) if before != there => wakers.first(word),
            Some(wakers) => wakers.woken(&mut (word..word + 1)).map_or(0, |(_, bits)| bits),
            None => self.open,
        };
        self.begun = self.put.min(64 * (word + 1)).max(self.begun);
        if self.wakers.is_none() {
            self.open |= there & !before;
        }
        Some((word, (woken | !before) & there))
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
            let places = |fan: &mut Fan<u8>, mut words| {
                let mut seen = Vec::new();
                while let Some((word, due)) = fan.due(&mut words) {
                    seen.extend((0..64).filter(|bit| due >> bit & 1 == 1).map(|bit| word * 64 + bit));
                }
                seen
            };
            for step in steps {
                let words = fan.put(step);
                seen.extend(places(&mut fan, words));
            }
            let all = 0..fan.words();
            if count > PLAIN {
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
                assert!(places(&mut fan, all.clone()).is_empty(), "each once");
                fan.wakers.as_ref().and_then(|wakers| wakers.get(count - 1)).unwrap().wake_by_ref();
                assert_eq!(places(&mut fan, all), [count - 1]);
            } else {
                fan.end(1);
                assert_eq!(
                    (seen, places(&mut fan, all)),
                    (vec![0, 0, 1, 2], vec![0, 2]),
                    "at each look all that are open"
                );
            }
        }
    }

    #[test]
    fn bits_below_a_place() {
        assert_eq!((below(0, 0), below(3, 0), below(64, 0), below(64, 1)), (0, 0b111, u64::MAX, 0));
        assert_eq!((below(65, 1), below(200, 1), below(10, 3)), (1, u64::MAX, 0));
    }
}
