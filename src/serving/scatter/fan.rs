//! Many futures under one: polled at first, and then when they are woken.

use super::{slab::Slab, wakers::Wakers};
use std::{
    pin::Pin,
    task::{Context, Waker},
};

/// Up to so many, all are polled at each wake: a waker for each would cost more than the polls it spares.
const PLAIN: usize = 4;

/// Futures in places of their own. Each has its own waker, so that one that comes costs one poll, not a poll of all.
///
/// Whoever drives it registers, visits those that [were woken](Self::woken), then those that are
/// [new](Self::fresh).
pub(super) struct Fan<F> {
    slab: Slab<F>,
    wakers: Option<Wakers>,
    put: usize,
    visited: usize,
    /// Without wakers: who has not ended, a bit each.
    open: u64,
}

impl<F> Fan<F> {
    /// Places for this many.
    #[inline]
    pub(super) fn new(count: usize) -> Self {
        let wakers = (count > PLAIN).then(|| Wakers::take(count));
        Fan { slab: Slab::new(count), wakers, put: 0, visited: 0, open: 0 }
    }

    /// So many more places are to be visited.
    #[inline(always)]
    pub(super) fn put(&mut self, count: usize) {
        self.slab.put(count);
        self.put += count;
    }

    /// This one has ended, and is not visited again.
    #[inline(always)]
    pub(super) fn end(&mut self, place: usize) {
        if place < PLAIN {
            self.open &= !(1 << place);
        }
    }

    /// Drops all that are left.
    pub(super) fn clear(&mut self) {
        for place in 0..self.put {
            if let Some(mut slot) = self.slab.at(place) {
                slot.set(None);
            }
        }
    }

    /// Who is woken from now on. Comes before looking who was.
    #[inline]
    pub(super) fn register(&self, cx: &Context<'_>) {
        if let Some(wakers) = &self.wakers {
            wakers.register(cx);
        }
    }

    /// How many words of bits [`woken`](Self::woken) has.
    #[inline]
    pub(super) fn words(&self) -> usize {
        self.wakers.as_ref().map_or(1, Wakers::words)
    }

    /// Those of this word who are to be visited again, a bit each; the bits are taken.
    #[inline]
    pub(super) fn woken(&self, word: usize) -> u64 {
        match &self.wakers {
            Some(wakers) => wakers.woken(word),
            None => self.open,
        }
    }

    /// The next one that was never visited.
    #[inline]
    pub(super) fn fresh(&mut self) -> Option<usize> {
        let place = self.visited;
        (place < self.put).then(|| {
            self.visited += 1;
            if place < PLAIN {
                self.open |= 1 << place;
            }
            place
        })
    }

    /// Visits this place, with the waker that is its own.
    #[inline(always)]
    pub(super) fn visit<T>(
        &mut self,
        place: usize,
        cx: &mut Context<'_>,
        visit: impl FnOnce(Pin<&mut Option<F>>, &mut Context<'_>) -> T,
    ) -> Option<T> {
        if place >= self.visited {
            return None; // an earlier request's waker, which had more leaves
        }
        let own: Option<&Waker> = match &self.wakers {
            Some(wakers) => Some(wakers.get(place)?),
            None => None,
        };
        let slot = self.slab.at(place)?;
        Some(match own {
            Some(waker) => visit(slot, &mut Context::from_waker(waker)),
            None => visit(slot, cx),
        })
    }
}
