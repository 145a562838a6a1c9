//! The live side: what has been carried out, what was given again, what may be changed.

use super::{Held, Shared};
use crate::base::sync::Arc;
use std::{fmt, time::Duration};

/// The live side of [`IdempotencyLayer`](super::IdempotencyLayer).
pub struct IdempotencyHandle<T>(Arc<Shared<T>>);

/// What an idempotency layer has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdempotencyStats {
    /// Requests carried out.
    pub calls: u64,
    /// Kept answers given again.
    pub replayed: u64,
    /// Those who waited for the call of another.
    pub waited: u64,
    /// Those refused because their key stands for another request, or is held elsewhere.
    pub conflicts: u64,
    /// Answers that the store could not keep.
    pub lost: u64,
    /// Those refused because too many calls were under way, or waited for one.
    pub refused: u64,
    /// What the store holds.
    pub held: Held,
    /// Calls under way now.
    pub in_flight: usize,
    /// Those who wait for them now, tasks that carry on included.
    pub waiting: usize,
}

impl<T: 'static> IdempotencyHandle<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        IdempotencyHandle(shared)
    }

    /// What it has done, and what it holds.
    pub fn stats(&self) -> IdempotencyStats {
        let (in_flight, waiting) = self.0.flights.under_way();
        let refused = self.0.flights.counts().refused;
        let (stats, store) = {
            let state = self.0.state.lock();
            (state.stats, state.store.clone())
        };
        IdempotencyStats { held: store.held(), refused, in_flight, waiting, ..stats }
    }

    /// How long an answer is kept.
    pub fn window(&self) -> Duration {
        self.0.state.lock().settings.window
    }

    /// Changes how long answers are kept, for those that come from now on.
    pub fn set_window(&self, window: Duration) {
        self.0.state.lock().settings.window = window;
    }

    /// Changes how many different calls may be under way, for those that come from now on.
    pub fn set_calls(&self, most: usize) {
        self.0.flights.set_limits(|limits| limits.flights = most);
    }

    /// Changes how many may wait for one call, for those that come from now on.
    pub fn set_waiters(&self, most: usize) {
        self.0.flights.set_limits(|limits| limits.waiters = most);
    }
}

impl<T> Clone for IdempotencyHandle<T> {
    fn clone(&self) -> Self {
        IdempotencyHandle(self.0.clone())
    }
}

impl<T: 'static> fmt::Debug for IdempotencyHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        write!(f, "Idempotency({} carried out, {} given again, for {:?})", stats.calls, stats.replayed, self.window())
    }
}
