//! Stop calling who fails or is slow, and probe when it is well again.

use super::{Classify, RateKey, Standard, attempt, moment, rate::Together};
use crate::base::{
    BoxError, Error, Kind, Outcome, Result, Seed,
    sync::Arc,
    time::{self, Instant},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service};

mod circuit;
mod handle;
mod window;

use circuit::Permit;
pub use circuit::{Circuit, Explained, Forced, Trip, Why};
pub use handle::BreakerHandle;
use handle::{Cell, Shared};
pub use window::Window;

/// A circuit breaker: refuses calls while a service fails or is slow, instead of adding to its trouble and waiting for
/// nothing.
///
/// ```text
///              failures or slow calls reach their part of the window
///        ┌───────────────────────────────────────────────────────────────┐
///   Closed ◄── all probes well ── Half open ◄── the time is over ── Open ◄┘
///                                     └────── probes fail: longer ──► ┘
/// ```
///
/// What is a failure says the [classifier](Classify): [`Outcome::Failure`], [`LocalOrigin`](Outcome::LocalOrigin) and
/// [`Throttled`](Outcome::Throttled) are; ignored, superseded and cancelled calls do not count at all, nor does what was
/// refused on this side ([`Error::is_unsent`]). When it trips says [`Trip`].
///
/// All services of one layer, and all their clones, share the circuit, or with [`keyed`](Self::keyed) one for each key
/// of the request (endpoint and route, tenant). 1024 keys are told apart by default; one that is closed and has seen no
/// failure of late is forgotten, and where all are needed, those that come new share one circuit.
///
/// **Guarantees**
/// - The counts are exact: of the last so many calls, or of the last so long in ten slots; how fast calls come changes
///   nothing.
/// - While it is open, no call is made. Half open, never more than [`Trip::probes`]; a probe that is dropped lets another
///   one in its place.
/// - The result of a call made before the state last changed does not count.
/// - A call that a time-out ends, inside or in front, or the request's deadline, has failed; one that its caller drops
///   does not count ([`attempt::dropped`]).
/// - Readiness is passed through; a call that is refused leaves the service ready for the next one.
///
/// Each change of state is counted ([`BreakerHandle::turns`]) and told by `tracing`.
///
/// **Not guaranteed**: that calls end: without a time-out, one that hangs is never counted.
///
/// # Errors
/// [`Kind::Overloaded`] for who is refused, with the reason, the breaker's name as the place, and [`Error::retry_after`]
/// where it is known; the error [is unsent](Error::is_unsent). Errors of the service pass through, widened where they are
/// foreign.
///
/// ```
/// use seedpod::{base::{Error, Kind}, layer::{BreakerLayer, Circuit, Forced, Trip, Window}};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = BreakerLayer::new("cart", Trip::new().window(Window::Calls(10)))?;
/// let down = service_fn(|_: u32| async { Err::<u32, _>(Error::from(Kind::Failed)) });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(down);
/// for n in 0..10 {
///     assert_eq!(service.call(n).await.unwrap_err().kind(), Kind::Failed);
/// }
/// let refused = service.call(10).await.unwrap_err();
/// assert_eq!(refused.to_string(), "cart: overloaded: the circuit is open: 10 of 10 calls failed");
/// assert_eq!(refused.retry_after().map(|wait| wait.as_secs()), Some(60));
/// layer.handle().force(Some(Forced::Disabled));
/// assert_eq!(service.call(11).await.unwrap_err().kind(), Kind::Failed);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub struct BreakerLayer<K = (), F = Together, C = Standard> {
    handle: BreakerHandle<K>,
    key: F,
    classify: C,
}

impl BreakerLayer {
    /// A breaker of this name, seeded by the running simulation or the system (only a back-off with jitter draws on it).
    ///
    /// # Errors
    /// [`Kind::Invalid`] for settings that make no sense.
    pub fn new(name: impl Into<Arc<str>>, trip: Trip) -> Result<Self> {
        trip.check()?;
        let shared = Shared::new(name.into(), trip, Seed::ambient().fork("breaker"));
        Ok(BreakerLayer { handle: BreakerHandle(Arc::new(shared)), key: Together, classify: Standard })
    }
}

impl<K: Ord, F, C> BreakerLayer<K, F, C> {
    /// For each key a circuit of its own. Keys may come from outside: they are kept in order, not hashed.
    #[must_use]
    pub fn keyed<L: Ord, G>(self, key: G) -> BreakerLayer<L, G, C> {
        let BreakerLayer { handle, classify, .. } = self;
        BreakerLayer { handle: BreakerHandle(Arc::new(handle.0.anew())), key, classify }
    }

    /// How many keys are told apart at a time.
    #[must_use]
    pub fn keys(self, most: usize) -> Self {
        self.handle.0.cells.lock().most = most;
        self
    }

    /// Reads results: what failed.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> BreakerLayer<K, F, D> {
        BreakerLayer { handle: self.handle, key: self.key, classify }
    }

    /// Where the jitter comes from.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.handle.0.cells.lock().rng = seed.rng();
        self
    }

    /// Reads, forces and changes the circuits of this layer and of all that it made.
    pub fn handle(&self) -> BreakerHandle<K> {
        self.handle.clone()
    }
}

impl<K, F: Clone, C: Clone> Clone for BreakerLayer<K, F, C> {
    fn clone(&self) -> Self {
        BreakerLayer { handle: self.handle.clone(), key: self.key.clone(), classify: self.classify.clone() }
    }
}

impl<K, F, C> fmt::Debug for BreakerLayer<K, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<S, K, F: Clone, C: Clone> Layer<S> for BreakerLayer<K, F, C> {
    type Service = Breaker<S, K, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker { inner, layer: self.clone() }
    }
}

/// The service that [`BreakerLayer`] makes.
pub struct Breaker<S, K = (), F = Together, C = Standard> {
    inner: S,
    layer: BreakerLayer<K, F, C>,
}

impl<S: Clone, K, F: Clone, C: Clone> Clone for Breaker<S, K, F, C> {
    fn clone(&self) -> Self {
        Breaker { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, F, C> fmt::Debug for Breaker<S, K, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, Req, K, F, C> Service<Req> for Breaker<S, K, F, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    F: RateKey<Req, K>,
    K: Ord,
    C: Classify<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Guarded<S::Future, K, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (shared, now) = (&self.layer.handle.0, moment::now());
        let cell = shared.cell(self.layer.key.key(&request), now);
        let state = match shared.admit(&cell, now) {
            // refused without calling: the inner service keeps its readiness for the next call
            Err(wait) => State::Refused { error: Some(refuse(shared, &cell, wait, now)) },
            Ok(permit) => {
                let held = Held { shared: shared.clone(), cell, permit: Some(permit) };
                let _handed = moment::hand(now);
                State::Called { future: self.inner.call(request), held }
            }
        };
        Guarded { state, classify: self.layer.classify.clone() }
    }
}

#[cold]
fn refuse<K>(shared: &Shared<K>, cell: &Cell, wait: Option<Duration>, now: Instant) -> Error {
    let said = cell.lock().explain(now);
    let what = format!("the circuit is {}: {}", said.circuit, said.why);
    let error = Error::new(Kind::Overloaded, what).at(shared.name.clone()).unsent();
    match wait {
        Some(wait) => error.after(wait),
        None => error,
    }
}

/// A call under way. Dropped by its caller, it counts for nothing and lets another one probe.
struct Held<K> {
    shared: Arc<Shared<K>>,
    cell: Arc<Cell>,
    permit: Option<Permit>,
}

impl<K> Held<K> {
    fn settle(&mut self, failed: Option<bool>, now: Instant) {
        if let Some(permit) = self.permit.take() {
            self.shared.settle(&self.cell, permit, failed, now);
        }
    }
}

impl<K> Drop for Held<K> {
    fn drop(&mut self) {
        if self.permit.is_some() {
            let late = attempt::dropped() == Outcome::Failure;
            self.settle(late.then_some(true), time::now());
        }
    }
}

pin_project! {
    /// The future of [`Breaker`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Guarded<F, K, C> {
        #[pin]
        state: State<F, K>,
        classify: C,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, K> {
        Called { #[pin] future: F, held: Held<K> },
        Refused { error: Option<Error> },
    }
}

impl<F, T, E, K, C> Future for Guarded<F, K, C>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError> + 'static,
    C: Classify<T>,
{
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (future, held) = match this.state.project() {
            StateProjection::Called { future, held } => (future, held),
            StateProjection::Refused { error } => {
                return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
            }
        };
        let result = ready!(future.poll(cx)).map_err(|error| Error::adopt(error, Kind::Failed));
        let failed = match this.classify.outcome(result.as_ref()) {
            _ if result.as_ref().is_err_and(Error::is_unsent) => None,
            Outcome::Success => Some(false),
            Outcome::Failure | Outcome::LocalOrigin | Outcome::Throttled(_) => Some(true),
            Outcome::Ignored | Outcome::Superseded | Outcome::Cancelled => None,
        };
        held.settle(failed, time::now());
        Poll::Ready(result)
    }
}

impl<F, K, C> fmt::Debug for Guarded<F, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
