//! Delay and fail calls on purpose.

use super::timer::Timer;
use crate::base::{
    BoxError, Error, Faults, Kind, Result, Seed, Verdict,
    fault::Guard,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
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

/// Delays or fails calls by rules that come and go while requests flow: to see what becomes of a system before it
/// happens by itself.
///
/// A rule is a closure that sees the request and gives its [`Verdict`]; the first that does not pass decides, and it
/// holds until its guard is dropped. An [`Injection`] is a rule ready made: what, how often, for which requests, drawn
/// from the layer's seed.
///
/// - no rule by default, which costs one lock
/// - so many faults at a time as are asked for ([`max_active`](Self::max_active)); no bound by default (Envoy's
///   `max_active_faults`). A fault is active from the verdict until the call goes on or fails
///
/// **Guarantees**: readiness is passed through. A call that fails is never made, and leaves the service ready for the next
/// one; one that is delayed holds the instance that was ready for it. One seed gives one sequence of faults. Dropping a
/// call that is delayed ends its fault.
///
/// # Errors
/// Those that the rules give. Errors of the service pass through, widened where they are foreign.
///
/// ```
/// use seedpod::{base::{Error, Kind, Seed}, layer::{FaultLayer, Injection}};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = FaultLayer::new().seed(Seed::new(7));
/// let echo = service_fn(|n: u32| async move { Ok::<_, Error>(n) });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(echo);
/// let outage = layer.handle().inject(Injection::fail(Kind::Unavailable).share(0.3).when(|n: &u32| *n < 1_000))?;
/// let mut failed = 0;
/// for n in 0..2_000 {
///     failed += u32::from(service.call(n).await.is_err());
/// }
/// assert!((250..350).contains(&failed)); // of the first thousand
/// drop(outage);
/// assert!(service.call(1).await.is_ok());
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub struct FaultLayer<Req>(FaultHandle<Req>);

impl<Req: 'static> FaultLayer<Req> {
    /// No faults yet, seeded by the running simulation or the system.
    pub fn new() -> Self {
        FaultLayer(FaultHandle {
            rules: Faults::default(),
            shared: Arc::new(Shared::default()),
            seed: Seed::ambient().fork("fault"),
        })
    }

    /// Where chance comes from, for what is injected from now on.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.0.seed = seed;
        self
    }

    /// How many faults may be active at a time; calls beyond pass.
    #[must_use]
    pub fn max_active(self, most: u64) -> Self {
        self.0.set_max_active(most);
        self
    }

    /// Adds and removes faults of this layer and of all that it made.
    pub fn handle(&self) -> FaultHandle<Req> {
        self.0.clone()
    }
}

impl<Req: 'static> Default for FaultLayer<Req> {
    fn default() -> Self {
        FaultLayer::new()
    }
}

impl<Req> Clone for FaultLayer<Req> {
    fn clone(&self) -> Self {
        FaultLayer(self.0.clone())
    }
}

impl<Req> fmt::Debug for FaultLayer<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to inject, how often, and into which calls.
pub struct Injection<Req> {
    verdict: Verdict,
    share: f64,
    when: Box<dyn FnMut(&Req) -> bool + Send>,
}

impl<Req> Injection<Req> {
    /// Calls go on this much later.
    pub fn delay(wait: Duration) -> Self {
        Injection::of(Verdict::Delay(wait))
    }

    /// Calls fail with this error, or an error of this kind.
    pub fn fail(error: impl Into<Error>) -> Self {
        Injection::of(Verdict::Fail(error.into()))
    }

    fn of(verdict: Verdict) -> Self {
        Injection { verdict, share: 1.0, when: Box::new(|_| true) }
    }

    /// Into which part of the calls that match, from 0 to 1; all by default.
    #[must_use]
    pub fn share(mut self, part: f64) -> Self {
        self.share = part;
        self
    }

    /// Only into calls that match: by a header, a method, a key. Must not call back into the layer.
    #[must_use]
    pub fn when(mut self, when: impl FnMut(&Req) -> bool + Send + 'static) -> Self {
        self.when = Box::new(when);
        self
    }
}

impl<Req> fmt::Debug for Injection<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injection").field("verdict", &self.verdict).field("share", &self.share).finish_non_exhaustive()
    }
}

/// The live side of [`FaultLayer`].
pub struct FaultHandle<Req> {
    rules: Faults<Req>,
    shared: Arc<Shared>,
    seed: Seed,
}

struct Shared {
    max_active: AtomicU64,
    active: AtomicU64,
    delayed: AtomicU64,
    failed: AtomicU64,
    injected: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            max_active: AtomicU64::new(u64::MAX),
            active: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            injected: AtomicU64::new(0),
        }
    }
}

impl<Req: 'static> FaultHandle<Req> {
    /// Injects this until the guard is dropped, behind the rules that are there.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where the share is not from 0 to 1.
    pub fn inject(&self, injection: Injection<Req>) -> Result<Guard> {
        let Injection { verdict, share, mut when } = injection;
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::new(Kind::Invalid, format!("fault: the share must be from 0 to 1, not {share}")));
        }
        let mut rng = self.seed.fork_index(self.shared.injected.fetch_add(1, Relaxed)).rng();
        let rule =
            move |request: &Req| if when(request) && rng.chance(share) { verdict.clone() } else { Verdict::Pass };
        Ok(self.rules.rule(rule))
    }

    /// Adds a rule behind those that are there, until the guard is dropped.
    pub fn rule(&self, rule: impl FnMut(&Req) -> Verdict + Send + 'static) -> Guard {
        self.rules.rule(rule)
    }
}

impl<Req> FaultHandle<Req> {
    /// How many faults may be active at a time.
    pub fn max_active(&self) -> u64 {
        self.shared.max_active.load(Relaxed)
    }

    /// Changes how many faults may be active at a time; those that are stay.
    pub fn set_max_active(&self, most: u64) {
        self.shared.max_active.store(most, Relaxed);
    }

    /// How many faults are active.
    pub fn active(&self) -> u64 {
        self.shared.active.load(Relaxed)
    }

    /// How many calls have been delayed.
    pub fn delayed(&self) -> u64 {
        self.shared.delayed.load(Relaxed)
    }

    /// How many calls have been failed.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Relaxed)
    }

    fn verdict(&self, request: &Req) -> (Verdict, Option<Active>) {
        match self.rules.verdict(request) {
            Verdict::Pass => (Verdict::Pass, None),
            verdict => match self.shared.enter() {
                None => (Verdict::Pass, None),
                active => (verdict, active),
            },
        }
    }
}

impl Shared {
    fn enter(self: &Arc<Self>) -> Option<Active> {
        let most = self.max_active.load(Relaxed);
        let entered = self.active.fetch_update(Relaxed, Relaxed, |active| (active < most).then(|| active + 1));
        entered.is_ok().then(|| Active(self.clone()))
    }
}

/// An active fault, until dropped.
struct Active(Arc<Shared>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl<Req> Clone for FaultHandle<Req> {
    fn clone(&self) -> Self {
        FaultHandle { rules: self.rules.clone(), shared: self.shared.clone(), seed: self.seed }
    }
}

impl<Req> fmt::Debug for FaultHandle<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (active, delayed, failed) = (self.active(), self.delayed(), self.failed());
        write!(f, "{:?}: {active} active, {delayed} delayed, {failed} failed", self.rules)
    }
}

impl<S, Req> Layer<S> for FaultLayer<Req> {
    type Service = Fault<S, Req>;

    fn layer(&self, inner: S) -> Self::Service {
        Fault { inner, handle: self.0.clone() }
    }
}

/// The service that [`FaultLayer`] makes.
pub struct Fault<S, Req> {
    inner: S,
    handle: FaultHandle<Req>,
}

impl<S: Clone, Req> Clone for Fault<S, Req> {
    fn clone(&self) -> Self {
        Fault { inner: self.inner.clone(), handle: self.handle.clone() }
    }
}

impl<S: fmt::Debug, Req> fmt::Debug for Fault<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("inner", &self.inner).field("handle", &self.handle).finish()
    }
}

impl<S, Req> Service<Req> for Fault<S, Req>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Faulted<S, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (verdict, active) = self.handle.verdict(&request);
        let shared = &self.handle.shared;
        let state = match verdict {
            Verdict::Fail(error) => {
                shared.failed.fetch_add(1, Relaxed);
                State::Fail { error: Some((error, active)) }
            }
            Verdict::Delay(wait) => {
                shared.delayed.fetch_add(1, Relaxed);
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let until = time::after(time::now(), wait);
                State::Delay { waiting: Some((ready, request, active)), until, timer: Timer::default() }
            }
            Verdict::Pass => State::Call { future: self.inner.call(request) },
        };
        Faulted { state }
    }
}

pin_project! {
    /// The future of [`Fault`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Faulted<S: Service<Req>, Req> {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Req>, Req> {
        Call { #[pin] future: S::Future },
        Delay { waiting: Option<(S, Req, Option<Active>)>, until: Instant, #[pin] timer: Timer },
        Fail { error: Option<(Error, Option<Active>)> },
    }
}

impl<S, Req> Future for Faulted<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjection::Call { future } => {
                    return future.poll(cx).map_err(|error| Error::adopt(error, Kind::Failed));
                }
                StateProjection::Fail { error } => {
                    return error.take().map_or(Poll::Pending, |(error, _)| Poll::Ready(Err(error)));
                }
                StateProjection::Delay { waiting, until, timer } => {
                    ready!(timer.poll_until(*until, cx));
                    let Some((mut service, request, _)) = waiting.take() else { return Poll::Pending };
                    service.call(request)
                }
            };
            state.set(State::Call { future });
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for Faulted<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulted").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
