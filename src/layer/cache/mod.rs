//! Answers are kept and given again.

use super::{
    Classify, Standard,
    flight::{Flights, Limits},
};
use crate::base::sync::{Arc, Lock};
use std::{fmt, hash::Hash, time::Duration};
use tower::Layer;

mod handle;
#[cfg(feature = "http")]
pub mod http;
mod service;
mod shared;
mod store;

pub use handle::{CacheHandle, CacheStats};
pub use service::{Cache, Caching};
use shared::{Rules, Shared, State};
use store::{Bounds, Store};

/// What an entry counts beside what is weighed: its places in the maps.
const OVERHEAD: usize = 128;

/// Keeps answers by a key of the request and gives them again, in front of any service: of replicas, one cache for all
/// endpoints, asked before the pick.
///
/// ```text
/// age   0 ──────── ttl ──── stale while revalidate ──────── stale if error ────────►
///       │  fresh    │  given, one refreshes behind it │ only where the call fails │ gone
/// ```
///
/// For requests that only read; a request without a key (`None`) passes. Calls that miss the same key share one call, as
/// with [`CoalesceLayer`](super::CoalesceLayer). All services of one layer, and all their clones, share what is kept.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`ttl`](Self::ttl) | 120 s | Varnish `default_ttl` |
/// | [`stale_while_revalidate`](Self::stale_while_revalidate) | 10 s more | Varnish `default_grace` |
/// | [`stale_if_error`](Self::stale_if_error) | 10 s more than the `ttl` | Varnish `default_grace` |
/// | [`negative`](Self::negative) | errors are not kept | |
/// | [`bytes`](Self::bytes), [`entries`](Self::entries) | 64 MiB, 10,000 | |
/// | [`weigh`](Self::weigh) | the size of the types, not what they own elsewhere | |
/// | [`classify`](CacheLayer::classify) | every answer is kept, no error | |
/// | [`calls`](Self::calls), [`waiters`](Self::waiters) | 10,000 each; any beyond are refused | linkerd's request queue |
///
/// **Guarantees**
/// - Never more bytes, as weighed, nor more entries than set; what goes first is decided by S3-FIFO, so that one sweep over
///   many keys does not drive out what is used.
/// - A thousand who miss at once make one call, whoever of them stays; dropping the last drops the call.
/// - A stale answer is given at once; one task per key, spawned on the runtime of the call, refreshes it, and the calls
///   under way bound those tasks. Without a runtime nothing refreshes until the answer is too old.
/// - What was asked for before a [`purge`](CacheHandle::purge) is not kept after it, nor given to who comes after it.
/// - Time is the clock that tests pause. Keys may come from outside: they are kept in order, not hashed.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call made, and made ready inside it.
///
/// **Not guaranteed**: that what is kept survives the process; that a kept answer is the newest, except after a purge.
///
/// # Errors
/// [`Kind::Overloaded`](crate::base::Kind::Overloaded) where too many calls are under way or wait for one. Errors of the service are given to all who
/// wait, widened where they are foreign.
///
/// ```
/// use seedpod::layer::CacheLayer;
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = CacheLayer::by(|id: &u32| Some(*id)).ttl(Duration::from_secs(60)).weigh(|_, row: &String| row.len());
/// let load = service_fn(|id: u32| async move { Ok::<_, std::io::Error>(format!("row {id}")) });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(load);
/// assert_eq!(service.call(7).await.unwrap(), "row 7");
/// assert_eq!(service.call(7).await.unwrap(), "row 7");
/// let stats = layer.handle().stats();
/// assert_eq!((stats.misses, stats.hits, stats.entries), (1, 1, 1));
/// layer.handle().purge(&7);
/// # });
/// ```
pub struct CacheLayer<K, T, F, C = Standard> {
    handle: CacheHandle<K, T>,
    key: F,
    weigh: Weigh<K, T>,
    classify: C,
}

type Weigh<K, T> = Arc<dyn Fn(&K, &T) -> usize + Send + Sync>;

impl<K: Ord + Hash + Clone, T, F> CacheLayer<K, T, F> {
    /// Keeps answers by what this makes of the request; `None` passes.
    pub fn by<Req>(key: F) -> Self
    where
        F: Fn(&Req) -> Option<K>,
    {
        let rules = Rules {
            ttl: Duration::from_secs(120),
            revalidate: Duration::from_secs(10),
            if_error: Duration::from_secs(10),
            negative: Duration::ZERO,
        };
        let store = Store::new(Bounds { bytes: 64 << 20, entries: 10_000 });
        let flights = Arc::new(Flights::new(Limits { flights: 10_000, waiters: 10_000 }));
        let state = Lock::new(State { store, rules, stats: CacheStats::default() });
        CacheLayer {
            handle: CacheHandle::new(Shared { flights, state }),
            key,
            weigh: Arc::new(|_, _| size_of::<K>() + size_of::<T>()),
            classify: Standard,
        }
    }
}

impl<K: Ord + Hash + Clone, T, F, C> CacheLayer<K, T, F, C> {
    /// How long an answer is fresh.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.handle.set_ttl(ttl);
        self
    }

    /// How much longer it is given while one call refreshes it.
    #[must_use]
    pub fn stale_while_revalidate(self, more: Duration) -> Self {
        self.handle.set_stale_while_revalidate(more);
        self
    }

    /// How much longer than fresh it is given in place of a failure, as when all replicas are out.
    #[must_use]
    pub fn stale_if_error(self, more: Duration) -> Self {
        self.handle.set_stale_if_error(more);
        self
    }

    /// Keeps errors, too, for this long: those that are an answer about the request ([`Kind::NotFound`](crate::base::Kind::NotFound),
    /// [`Kind::Invalid`](crate::base::Kind::Invalid), [`Kind::Rejected`](crate::base::Kind::Rejected)), never failures of who answers.
    #[must_use]
    pub fn negative(self, ttl: Duration) -> Self {
        self.handle.set_negative(ttl);
        self
    }

    /// How many bytes are kept, as weighed.
    #[must_use]
    pub fn bytes(self, most: usize) -> Self {
        self.handle.set_bytes(most);
        self
    }

    /// How many answers are kept.
    #[must_use]
    pub fn entries(self, most: usize) -> Self {
        self.handle.set_entries(most);
        self
    }

    /// Tells how many bytes a key and its answer own; 128 more are counted for the places in the maps.
    #[must_use]
    pub fn weigh(mut self, weigh: impl Fn(&K, &T) -> usize + Send + Sync + 'static) -> Self {
        self.weigh = Arc::new(weigh);
        self
    }

    /// How many different calls may be under way at a time, those that refresh included.
    #[must_use]
    pub fn calls(self, most: usize) -> Self {
        self.handle.set_calls(most);
        self
    }

    /// How many may wait for one call, the first included.
    #[must_use]
    pub fn waiters(self, most: usize) -> Self {
        self.handle.set_waiters(most);
        self
    }

    /// Reads answers: only a success is kept, and a failure gives way to a stale answer.
    #[must_use]
    pub fn classify<D: Classify<T>>(self, classify: D) -> CacheLayer<K, T, F, D> {
        CacheLayer { handle: self.handle, key: self.key, weigh: self.weigh, classify }
    }

    /// Reads, changes and purges what this layer, and all that it made, keeps.
    pub fn handle(&self) -> CacheHandle<K, T> {
        self.handle.clone()
    }
}

impl<K, T, F: Clone, C: Clone> Clone for CacheLayer<K, T, F, C> {
    fn clone(&self) -> Self {
        let (handle, key) = (self.handle.clone(), self.key.clone());
        CacheLayer { handle, key, weigh: self.weigh.clone(), classify: self.classify.clone() }
    }
}

impl<K: Ord + Hash + Clone, T, F, C> fmt::Debug for CacheLayer<K, T, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<S, K, T, F: Clone, C: Clone> Layer<S> for CacheLayer<K, T, F, C> {
    type Service = Cache<S, K, T, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Cache::new(inner, self.clone())
    }
}

#[cfg(test)]
mod tests;
