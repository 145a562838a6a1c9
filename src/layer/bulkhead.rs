//! A limit for each, so that none takes everything.

use super::{gate::Gate, limit::Limited};
use crate::base::{
    BoxError, Error,
    sync::{Arc, Lock},
};
use std::{
    collections::BTreeMap,
    fmt,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// How many compartments are in use at most, unless said otherwise.
const COMPARTMENTS: usize = 1024;

/// Divides a service into compartments by a key of the request (tenant, route, kind of work), each with its own limit of
/// calls under way and its own line: who floods one leaves the others dry.
///
/// What happens at a compartment's limit is said in the constructor, as with
/// [`ConcurrencyLimitLayer`](super::ConcurrencyLimitLayer); put one of those around it to bound the whole. All services
/// of one layer, and all their clones, share the compartments.
///
/// - 1024 compartments in use at a time by default; a compartment is in use while it has calls under way, in line, or
///   made and not yet dropped, and costs nothing after that. A call that would need one more is refused.
///
/// **Guarantees**: those of [`ConcurrencyLimitLayer`](super::ConcurrencyLimitLayer), for each compartment. Keys may come
/// from outside: they are kept in order, not hashed, and only while in use.
///
/// # Errors
/// [`Kind::Overloaded`](crate::base::Kind::Overloaded) for who is refused. Errors of the service pass through, widened
/// where they are foreign.
///
/// ```
/// use seedpod::layer::BulkheadLayer;
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = BulkheadLayer::shed(1, |(tenant, _): &(&'static str, u32)| *tenant);
/// let work = service_fn(|(_, n): (&'static str, u32)| async move {
///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///     Ok::<_, std::io::Error>(n)
/// });
/// let mut service = ServiceBuilder::new().layer(layer).service(work);
/// let (first, again, other) =
///     tokio::join!(service.call(("loud", 1)), service.call(("loud", 2)), service.call(("quiet", 3)));
/// assert!(first.is_ok() && again.is_err() && other.is_ok());
/// # });
/// ```
pub struct BulkheadLayer<K, F> {
    handle: BulkheadHandle<K>,
    key: F,
}

impl<K, F> BulkheadLayer<K, F> {
    /// At most this many calls at a time for each key, 0 counts as 1; more are refused at once.
    pub fn shed(limit: u32, key: F) -> Self {
        BulkheadLayer::wait(limit, 0, key)
    }

    /// At most this many calls at a time for each key, 0 counts as 1; `line` more of each wait, any beyond are refused.
    pub fn wait(limit: u32, line: u32, key: F) -> Self {
        let sizes = Sizes { limit: limit.max(1), line, most: COMPARTMENTS };
        let none = Arc::new(Gate::new(0, 0, "all compartments are taken"));
        let held = Lock::new(Compartments { gates: BTreeMap::new(), sizes, sweep_at: 0 });
        BulkheadLayer { handle: BulkheadHandle(Arc::new(Shared { held, none })), key }
    }

    /// How many compartments may be in use at a time, 0 counts as 1.
    #[must_use]
    pub fn compartments(self, most: usize) -> Self {
        self.handle.0.held.lock().sizes.most = most.max(1);
        self
    }

    /// Reads and changes the limits of this layer and of all that it made.
    pub fn handle(&self) -> BulkheadHandle<K> {
        self.handle.clone()
    }
}

impl<K, F: Clone> Clone for BulkheadLayer<K, F> {
    fn clone(&self) -> Self {
        BulkheadLayer { handle: self.handle.clone(), key: self.key.clone() }
    }
}

impl<K, F> fmt::Debug for BulkheadLayer<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The live side of [`BulkheadLayer`].
pub struct BulkheadHandle<K>(Arc<Shared<K>>);

struct Shared<K> {
    held: Lock<Compartments<K>>,
    /// Where those go for whom there is no compartment.
    none: Arc<Gate>,
}

#[derive(Clone, Copy)]
struct Sizes {
    limit: u32,
    line: u32,
    most: usize,
}

struct Compartments<K> {
    gates: BTreeMap<K, Arc<Gate>>,
    sizes: Sizes,
    /// The unused are looked for only when twice as many have come as were in use the last time: a constant cost each.
    sweep_at: usize,
}

impl<K: Ord> Compartments<K> {
    /// This key's compartment; none where all are taken.
    fn gate(&mut self, key: K) -> Option<Arc<Gate>> {
        if let Some(gate) = self.gates.get(&key) {
            return Some(gate.clone());
        }
        if self.gates.len() >= self.sweep_at.min(self.sizes.most) {
            self.gates.retain(|_, gate| in_use(gate));
            self.sweep_at = (2 * self.gates.len()).max(16);
        }
        if self.gates.len() >= self.sizes.most {
            return None;
        }
        let what = "all places of this compartment are taken";
        let gate = Arc::new(Gate::new(self.sizes.limit, self.sizes.line, what));
        self.gates.insert(key, gate.clone());
        Some(gate)
    }
}

/// Whether a call holds it. Exact, since it is handed out only under the lock.
fn in_use(gate: &Arc<Gate>) -> bool {
    Arc::strong_count(gate) > 1
}

impl<K: Ord> BulkheadHandle<K> {
    /// How many calls of this key are under way.
    pub fn in_flight(&self, key: &K) -> u32 {
        self.0.held.lock().gates.get(key).map_or(0, |gate| gate.in_flight())
    }

    /// How many calls of this key stand in line.
    pub fn waiting(&self, key: &K) -> u32 {
        self.0.held.lock().gates.get(key).map_or(0, |gate| gate.waiting())
    }

    /// How many compartments are in use.
    pub fn compartments(&self) -> usize {
        self.0.held.lock().gates.values().filter(|gate| in_use(gate)).count()
    }

    /// Changes how many calls of each key may be under way, 0 counts as 1. Those that a higher limit lets in go at once;
    /// calls beyond a lower one end as they would.
    pub fn set_limit(&self, limit: u32) {
        let gates: Vec<_> = {
            let mut held = self.0.held.lock();
            held.sizes.limit = limit.max(1);
            held.gates.values().cloned().collect()
        };
        gates.iter().for_each(|gate| gate.set_limit(limit.max(1)));
    }
}

impl<K> Clone for BulkheadHandle<K> {
    fn clone(&self) -> Self {
        BulkheadHandle(self.0.clone())
    }
}

impl<K> fmt::Debug for BulkheadHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.0.held.lock().sizes;
        write!(f, "Bulkhead({} each, {} in line, {} compartments)", sizes.limit, sizes.line, sizes.most)
    }
}

impl<S, K, F: Clone> Layer<S> for BulkheadLayer<K, F> {
    type Service = Bulkhead<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead { inner: Arc::new(inner), handle: self.handle(), key: self.key.clone() }
    }
}

/// The service that [`BulkheadLayer`] makes.
pub struct Bulkhead<S, K, F> {
    inner: Arc<S>,
    handle: BulkheadHandle<K>,
    key: F,
}

impl<S, K, F: Clone> Clone for Bulkhead<S, K, F> {
    fn clone(&self) -> Self {
        Bulkhead { inner: self.inner.clone(), handle: self.handle.clone(), key: self.key.clone() }
    }
}

impl<S: fmt::Debug, K, F> fmt::Debug for Bulkhead<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("inner", &self.inner).field("handle", &self.handle).finish()
    }
}

impl<S, Req, K, F> Service<Req> for Bulkhead<S, K, F>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    F: Fn(&Req) -> K,
    K: Ord,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Limited<S, Req>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (shared, key) = (&self.handle.0, (self.key)(&request));
        let gate = shared.held.lock().gate(key);
        Limited::new(S::clone(&self.inner), request, gate.unwrap_or_else(|| shared.none.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Kind, Seed, time};
    use futures::{FutureExt, future::join_all, poll};
    use std::time::Duration;
    use tower::service_fn;

    const SECOND: Duration = Duration::from_secs(1);

    async fn work(_: u32) -> Result<(), Error> {
        time::sleep(SECOND).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn who_floods_one_compartment_leaves_the_others_dry() {
        let layer = BulkheadLayer::wait(2, 4, |key: &u32| *key);
        let (mut service, start) = (layer.layer(service_fn(work)), time::now());
        let mut flood: Vec<_> = (0..20).map(|_| Box::pin(service.call(0))).collect();
        let refused = flood.iter_mut().filter_map(|call| call.now_or_never()).count();
        let handle = layer.handle();
        assert_eq!((refused, handle.in_flight(&0), handle.waiting(&0)), (14, 2, 4));
        service.call(1).await.unwrap();
        assert_eq!(start.elapsed(), SECOND, "as if it were alone");
        handle.set_limit(4);
        drop(flood);
        assert_eq!(handle.compartments(), 0);
        assert!(join_all((0..4).map(|_| service.call(0))).await.into_iter().all(|result| result.is_ok()));
        assert_eq!(start.elapsed(), 2 * SECOND, "the new limit");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_without_end_leave_nothing_behind_and_too_many_at_once_are_refused() {
        let layer = BulkheadLayer::shed(1, |key: &u32| *key).compartments(8);
        let mut service = layer.layer(service_fn(work));
        for key in 0..2_000 {
            assert!(poll!(Box::pin(service.call(key))).is_pending());
            assert!(layer.handle().0.held.lock().gates.len() <= 8);
        }
        let mut calls: Vec<_> = (0..9).map(|key| Box::pin(service.call(key))).collect();
        let last = calls.pop().unwrap().await.unwrap_err();
        assert_eq!((last.kind(), last.message()), (Kind::Overloaded, "all compartments are taken"));
        assert!(join_all(calls).await.into_iter().all(|result| result.is_ok()));
        service.call(8).await.unwrap();
    }

    #[test]
    fn a_hundred_thousand_steps_never_lose_a_compartment_in_use() {
        let mut rng = Seed::new(8).rng();
        let mut held =
            Compartments { gates: BTreeMap::new(), sizes: Sizes { limit: 1, line: 0, most: 28 }, sweep_at: 0 };
        let mut model: BTreeMap<u64, Vec<Arc<Gate>>> = BTreeMap::new();
        let mut refused = 0;
        for _ in 0..100_000 {
            let key = rng.below(60);
            if rng.chance(0.5) {
                match held.gate(key) {
                    None => {
                        refused += 1;
                        assert!(model.len() == 28 && !model.contains_key(&key), "all are in use");
                    }
                    Some(gate) => {
                        let same = model.entry(key).or_default();
                        assert!(same.iter().all(|held| Arc::ptr_eq(held, &gate)));
                        same.push(gate);
                    }
                }
            } else {
                model.remove(&key);
            }
            assert!(held.gates.len() <= 28);
        }
        assert!(refused > 100, "{refused}");
    }
}
