//! Answers are kept and given again.

use super::{
    Classify, Standard,
    flight::{Aboard, Call, Flights, Limits},
    on_call::OnCall,
};
use crate::base::{
    BoxError, Error, Kind, Outcome, Result,
    sync::{Arc, Lock},
    time::{self, Instant},
};
use std::{fmt, hash::Hash, time::Duration};
use tower::{Layer, Service};

#[cfg(feature = "http")]
pub mod http;
mod service;
mod store;

pub use service::{Cache, Caching};
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
/// [`Kind::Overloaded`] where too many calls are under way or wait for one. Errors of the service are given to all who
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
            handle: CacheHandle(Arc::new(Shared { flights, state })),
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

    /// Keeps errors, too, for this long: those that are an answer about the request ([`Kind::NotFound`],
    /// [`Kind::Invalid`], [`Kind::Rejected`]), never failures of who answers.
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

/// The live side of [`CacheLayer`].
pub struct CacheHandle<K, T>(Arc<Shared<K, T>>);

struct Shared<K, T> {
    flights: Arc<Flights<K, T>>,
    state: Lock<State<K, T>>,
}

struct State<K, T> {
    store: Store<K, Arc<Kept<T>>>,
    rules: Rules,
    stats: CacheStats,
}

/// An answer, or an error that is one, and when it came.
struct Kept<T> {
    result: Result<T>,
    at: Instant,
}

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

#[derive(Clone, Copy)]
struct Rules {
    ttl: Duration,
    revalidate: Duration,
    if_error: Duration,
    negative: Duration,
}

/// What a kept answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Fresh,
    /// Given, and refreshed.
    Stale,
    /// Given in place of a failure.
    IfError,
    Nothing,
}

impl Rules {
    fn judge(&self, answer: bool, age: Duration) -> Use {
        match answer {
            true if age < self.ttl => Use::Fresh,
            true if age < self.ttl.saturating_add(self.revalidate) => Use::Stale,
            true if age < self.ttl.saturating_add(self.if_error) => Use::IfError,
            false if age < self.negative => Use::Fresh,
            _ => Use::Nothing,
        }
    }
}

impl<K: Ord + Hash + Clone, T> Shared<K, T> {
    /// What there is for this key now; counts what is given.
    fn find(&self, key: &K) -> (Use, Option<Arc<Kept<T>>>) {
        let now = time::now();
        let mut state = self.state.lock();
        let Some(kept) = state.store.get(key).cloned() else { return (Use::Nothing, None) };
        let good = state.rules.judge(kept.result.is_ok(), now.saturating_duration_since(kept.at));
        let gone = match good {
            Use::Fresh => {
                state.stats.hits += 1;
                None
            }
            Use::Stale => {
                state.stats.stale += 1;
                None
            }
            Use::IfError => None,
            Use::Nothing => state.store.remove(key),
        };
        drop(state);
        drop(gone);
        (good, (good != Use::Nothing).then_some(kept))
    }

    /// Whether this may still be given in place of a failure; counts that it is.
    fn rescue(&self, kept: &Kept<T>) -> bool {
        let age = time::now().saturating_duration_since(kept.at);
        let mut state = self.state.lock();
        let good = kept.result.is_ok() && state.rules.judge(true, age) != Use::Nothing;
        state.stats.stale_if_error += u64::from(good);
        good
    }

    /// Keeps a result that is worth it, unless it was recalled.
    fn keep(&self, key: K, kept: Kept<T>, bytes: usize, aboard: &Aboard) {
        let mut state = self.state.lock();
        if !aboard.is_recalled() {
            let out = state.store.insert(key, Arc::new(kept), bytes);
            drop(state);
            drop(out);
        }
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

impl<S, K, T, F: Clone, C: Clone> Layer<S> for CacheLayer<K, T, F, C> {
    type Service = Cache<S, K, T, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Cache::new(inner, self.clone())
    }
}

#[cfg(test)]
mod tests;
