//! The live side: what the cache has done and holds, what it forgets, what may be changed.

use super::{Shared, url};
use crate::base::{Result, sync::Arc};
use std::{fmt, time::Duration};

/// The live side of [`HttpCacheLayer`](super::HttpCacheLayer).
pub struct HttpCacheHandle<B>(Arc<Shared<B>>);

/// What an HTTP cache has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpCacheStats {
    /// Given fresh.
    pub hits: u64,
    /// Given stale, while one refreshed it or because the request allowed it.
    pub stale: u64,
    /// Given stale in place of a failure.
    pub stale_if_error: u64,
    /// Calls made because nothing could be given, those that asked for what has changed included.
    pub misses: u64,
    /// Those who waited for such a call of another.
    pub coalesced: u64,
    /// Kept answers that were told to be good still (304).
    pub revalidated: u64,
    /// Calls made to refresh.
    pub refreshes: u64,
    /// Requests that are not for a cache.
    pub passed: u64,
    /// URLs forgotten because an unsafe request succeeded.
    pub invalidated: u64,
    /// URLs whose answers had to go for others.
    pub evicted: u64,
    /// Those refused because too many calls were under way, or waited for one.
    pub refused: u64,
    /// URLs of which something is kept now.
    pub urls: usize,
    /// Bytes kept now.
    pub bytes: usize,
    /// Calls under way now.
    pub in_flight: usize,
    /// Those who wait for them now, tasks that refresh included.
    pub waiting: usize,
}

impl<B> HttpCacheHandle<B> {
    pub(super) fn new(shared: Arc<Shared<B>>) -> Self {
        HttpCacheHandle(shared)
    }

    /// What it has done, and what it holds.
    pub fn stats(&self) -> HttpCacheStats {
        let (in_flight, waiting) = self.0.flights.under_way();
        let refused = self.0.flights.counts().refused;
        let state = self.0.state.lock();
        let (urls, bytes, evicted) = (state.store.len(), state.store.bytes(), state.store.evicted());
        HttpCacheStats { urls, bytes, evicted, refused, in_flight, waiting, ..state.stats }
    }

    /// Forgets all answers of this URL, and says how many there were. It is written as in requests: whole, or the path alone
    /// where they name no host. What is under way for it ends as it would, and is not kept.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) where it is no address.
    pub fn purge(&self, url: &str) -> Result<usize> {
        Ok(self.0.forget(&url::parse(url)?))
    }

    /// Forgets everything. What is under way ends as it would, and is not kept.
    pub fn purge_all(&self) {
        let mut state = self.0.state.lock();
        self.0.flights.recall(None);
        let gone = state.store.clear();
        drop(state);
        drop(gone);
    }

    /// Changes how much longer answers that do not say it are given while one call refreshes them.
    pub fn set_stale_while_revalidate(&self, more: Duration) {
        self.0.state.lock().settings.rules.stale_while_revalidate = more;
    }

    /// Changes how much longer answers that do not say it are given in place of a failure.
    pub fn set_stale_if_error(&self, more: Duration) {
        self.0.state.lock().settings.rules.stale_if_error = more;
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

    /// Changes how many URLs there are answers of; what exceeds them goes at once.
    pub fn set_urls(&self, most: usize) {
        let gone = self.0.state.lock().store.set_bounds(|bounds| bounds.entries = most);
        drop(gone);
    }
}

impl<B> Clone for HttpCacheHandle<B> {
    fn clone(&self) -> Self {
        HttpCacheHandle(self.0.clone())
    }
}

impl<B> fmt::Debug for HttpCacheHandle<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        let (bounds, len, held) = (state.store.bounds(), state.store.len(), state.store.bytes());
        write!(f, "HttpCache({len} of {} URLs, {held} of {} bytes)", bounds.entries, bounds.bytes)
    }
}
