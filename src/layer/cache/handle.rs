//! The live side: what was given, what is held, what may be changed and forgotten.

use super::{Bounds, Shared};
use crate::base::sync::Arc;
use std::{fmt, hash::Hash, time::Duration};

/// The live side of [`CacheLayer`](super::CacheLayer).
pub struct CacheHandle<K, T>(pub(super) Arc<Shared<K, T>>);

/// What a cache has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Given fresh.
    pub hits: u64,
    /// Given stale, while one refreshed it.
    pub stale: u64,
    /// Given stale in place of a failure.
    pub stale_if_error: u64,
    /// Calls made because nothing could be given.
    pub misses: u64,
    /// Those who waited for such a call of another.
    pub coalesced: u64,
    /// Calls made to refresh.
    pub refreshes: u64,
    /// Answers that had to go for others.
    pub evicted: u64,
    /// Those refused because too many calls were under way, or waited for one.
    pub refused: u64,
    /// Answers kept now.
    pub entries: usize,
    /// Bytes kept now.
    pub bytes: usize,
    /// Calls under way now.
    pub in_flight: usize,
    /// Those who wait for them now, tasks that refresh included.
    pub waiting: usize,
}

impl<K, T> CacheHandle<K, T> {
    pub(super) fn new(shared: Shared<K, T>) -> Self {
        CacheHandle(Arc::new(shared))
    }
}

impl<K: Ord + Hash + Clone, T> CacheHandle<K, T> {
    /// What it has done, and what it holds.
    pub fn stats(&self) -> CacheStats {
        let (in_flight, waiting) = self.0.flights.under_way();
        let refused = self.0.flights.counts().refused;
        let state = self.0.state.lock();
        let (entries, bytes, evicted) = (state.store.len(), state.store.bytes(), state.store.evicted());
        CacheStats { entries, bytes, evicted, refused, in_flight, waiting, ..state.stats }
    }

    /// Forgets the answer of this key. What is under way for it ends as it would, and is not kept.
    pub fn purge(&self, key: &K) {
        let mut state = self.0.state.lock();
        self.0.flights.recall(Some(key));
        let gone = state.store.remove(key);
        drop(state);
        drop(gone);
    }

    /// Forgets everything. What is under way ends as it would, and is not kept.
    pub fn purge_all(&self) {
        let mut state = self.0.state.lock();
        self.0.flights.recall(None);
        let gone = state.store.clear();
        drop(state);
        drop(gone);
    }

    /// Changes how long answers are fresh, those that are kept included.
    pub fn set_ttl(&self, ttl: Duration) {
        self.0.state.lock().rules.ttl = ttl;
    }

    /// Changes how much longer answers are given while one call refreshes them.
    pub fn set_stale_while_revalidate(&self, more: Duration) {
        self.0.state.lock().rules.revalidate = more;
    }

    /// Changes how much longer answers are given in place of a failure.
    pub fn set_stale_if_error(&self, more: Duration) {
        self.0.state.lock().rules.if_error = more;
    }

    /// Changes how long errors that are an answer are kept, those that are kept already included.
    pub fn set_negative(&self, ttl: Duration) {
        self.0.state.lock().rules.negative = ttl;
    }

    /// Changes how many different calls may be under way, for those that come from now on.
    pub fn set_calls(&self, most: usize) {
        self.0.flights.set_limits(|limits| limits.flights = most);
    }

    /// Changes how many may wait for one call, for those that come from now on.
    pub fn set_waiters(&self, most: usize) {
        self.0.flights.set_limits(|limits| limits.waiters = most);
    }

    /// Changes how many bytes are kept; what exceeds them goes at once.
    pub fn set_bytes(&self, most: usize) {
        let gone = self.0.state.lock().store.set_bounds(|bounds| bounds.bytes = most);
        drop(gone);
    }

    /// Changes how many answers are kept; what exceeds them goes at once.
    pub fn set_entries(&self, most: usize) {
        let gone = self.0.state.lock().store.set_bounds(|bounds| bounds.entries = most);
        drop(gone);
    }
}

impl<K, T> Clone for CacheHandle<K, T> {
    fn clone(&self) -> Self {
        CacheHandle(self.0.clone())
    }
}

impl<K: Ord + Hash + Clone, T> fmt::Debug for CacheHandle<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        let Bounds { bytes, entries } = state.store.bounds();
        let (len, held) = (state.store.len(), state.store.bytes());
        write!(f, "Cache({len} of {entries} entries, {held} of {bytes} bytes, {:?})", state.rules.ttl)
    }
}
