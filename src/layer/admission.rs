//! Send less to a service that refuses much.

use super::{Classify, Standard};
use crate::base::{
    BoxError, Error, Kind, Outcome, Result, Rng, Seed,
    sync::{Arc, Lock},
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

/// Into how many slots the window is divided.
const SLOTS: u64 = 24;

/// How much a client tolerates before it sends less, and how much less at most.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`ratio`](Self::ratio) | 2 requests for each accepted one | Google (SRE book, ch. 21); Finagle's `NackAdmissionFilter` (half) |
/// | [`most`](Self::most) | 0.75 | Finagle |
/// | [`window`](Self::window) | 2 min | Google, Finagle |
/// | [`least`](Self::least) | 10 requests | ours: one refusal alone must not cost the next call |
#[derive(Clone, Debug, PartialEq)]
pub struct Throttle {
    ratio: f64,
    most: f64,
    window: Duration,
    least: u64,
}

impl Throttle {
    /// The defaults.
    pub fn new() -> Self {
        Throttle { ratio: 2.0, most: 0.75, window: Duration::from_secs(120), least: 10 }
    }

    /// How many requests to make for each one that is accepted, at least 1: the nearer to it, the less is sent in vain,
    /// and the later is it noticed that the service takes more again.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Which part of the requests is refused here at most, from 0 to 1. At 1 a service that accepted nothing for a whole
    /// window is hardly ever asked again.
    #[must_use]
    pub fn most(mut self, most: f64) -> Self {
        self.most = most;
        self
    }

    /// How far back the counts go, at least a millisecond.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many requests the window must hold before any is refused.
    #[must_use]
    pub fn least(mut self, requests: u64) -> Self {
        self.least = requests;
        self
    }

    fn check(&self) -> Result {
        let invalid = |what: &str| Err(Error::new(Kind::Invalid, format!("admission: {what}")));
        if !(self.ratio >= 1.0 && self.ratio.is_finite()) {
            return invalid("the ratio must be 1 or more");
        }
        if !(0.0..=1.0).contains(&self.most) {
            return invalid("at most all, at least none can be refused: from 0 to 1");
        }
        if self.window < Duration::from_millis(1) {
            return invalid("the window must be a millisecond or more");
        }
        Ok(())
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle::new()
    }
}

/// Refuses some calls here, without making them, while the service refuses much of what it gets: refusing costs it work
/// too, and a client that sends ever more to who is overloaded keeps it so.
///
/// With `requests` and `accepts` of the window, a call is refused with the probability
/// `(requests − ratio · accepts) / (requests + 1)`, at most [`Throttle::most`]. Calls refused here count as requests, so
/// that what gets through settles at the ratio.
///
/// Accepted is what the [classifier](Classify) does not call throttled ([`Outcome::Throttled`]) or never arrived
/// ([`Outcome::LocalOrigin`]): a service that fails at its work has taken it on. What was cancelled or superseded does
/// not count.
///
/// All services of one layer, and all their clones, share the counts.
///
/// **Guarantees**: readiness is passed through; a call that is refused leaves the service ready for the next one.
/// While everything is accepted, nothing is refused.
///
/// # Errors
/// [`Kind::Rejected`] for who is refused: trying again here only adds to what is too much (Finagle has it so). Errors of
/// the service pass through, widened where they are foreign.
///
/// ```
/// use seedpod::{base::{Error, Kind}, layer::{AdmissionLayer, Throttle}};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = AdmissionLayer::new(Throttle::new())?;
/// let full = service_fn(|_: u32| async { Err::<u32, _>(Error::from(Kind::Overloaded)) });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(full);
/// for n in 0..1000 {
///     service.call(n).await.unwrap_err();
/// }
/// assert!((700..800).contains(&layer.handle().refused())); // three of four were never sent
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct AdmissionLayer<C = Standard> {
    handle: AdmissionHandle,
    classify: C,
}

impl AdmissionLayer {
    /// Refuses by these settings, by a chance seeded by the running simulation or the system.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for settings that make no sense.
    pub fn new(settings: Throttle) -> Result<Self> {
        settings.check()?;
        let counts = Counts::new(settings, time::now());
        let state = State { counts, rng: Seed::ambient().fork("admission").rng(), refused: 0 };
        Ok(AdmissionLayer { handle: AdmissionHandle(Arc::new(Lock::new(state))), classify: Standard })
    }
}

impl<C> AdmissionLayer<C> {
    /// Where the chance comes from.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.handle.0.lock().rng = seed.rng();
        self
    }

    /// Reads results: what was accepted.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AdmissionLayer<D> {
        AdmissionLayer { handle: self.handle, classify }
    }

    /// Reads the counts, and changes the settings, of this layer and of all that it made.
    pub fn handle(&self) -> AdmissionHandle {
        self.handle.clone()
    }
}

impl<C> fmt::Debug for AdmissionLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The live side of [`AdmissionLayer`].
#[derive(Clone)]
pub struct AdmissionHandle(Arc<Lock<State>>);

struct State {
    counts: Counts,
    rng: Rng,
    refused: u64,
}

impl AdmissionHandle {
    /// With which probability a call made now is refused.
    pub fn probability(&self) -> f64 {
        self.0.lock().counts.probability(time::now())
    }

    /// How many calls have been refused.
    pub fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// The settings.
    pub fn settings(&self) -> Throttle {
        self.0.lock().counts.settings.clone()
    }

    /// Changes the settings while calls flow. The counts are kept, unless the window is another.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for settings that make no sense; then nothing has changed.
    pub fn set(&self, settings: Throttle) -> Result {
        settings.check()?;
        let mut state = self.0.lock();
        if settings.window == state.counts.settings.window {
            state.counts.settings = settings;
        } else {
            state.counts = Counts::new(settings, time::now());
        }
        Ok(())
    }

    fn admit(&self) -> bool {
        let now = time::now();
        let mut state = self.0.lock();
        let State { counts, rng, refused } = &mut *state;
        let admitted = counts.admit(now, rng);
        *refused += u64::from(!admitted);
        admitted
    }
}

impl fmt::Debug for AdmissionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admission({:.2} refused)", self.probability())
    }
}

/// The decision: counts of the window, in slots.
struct Counts {
    settings: Throttle,
    start: Instant,
    tick: u64,
    /// Requests and accepts, by the tick's remainder.
    slots: [(u64, u64); SLOTS as usize],
    requests: u64,
    accepts: u64,
}

impl Counts {
    fn new(settings: Throttle, start: Instant) -> Self {
        Counts { settings, start, tick: 0, slots: [(0, 0); SLOTS as usize], requests: 0, accepts: 0 }
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, now: Instant) {
        let slot = (self.settings.window.as_nanos() / u128::from(SLOTS)).max(1);
        let tick = (now.saturating_duration_since(self.start).as_nanos() / slot) as u64;
        for _ in self.tick..tick.min(self.tick.saturating_add(SLOTS)) {
            self.tick += 1;
            let (requests, accepts) = std::mem::take(self.slot());
            self.requests -= requests;
            self.accepts -= accepts;
        }
        self.tick = self.tick.max(tick);
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the array's length")]
    fn slot(&mut self) -> &mut (u64, u64) {
        &mut self.slots[(self.tick % SLOTS) as usize]
    }

    fn count(&mut self, now: Instant, accepted: bool) {
        self.advance(now);
        let slot = self.slot();
        slot.0 += 1;
        slot.1 += u64::from(accepted);
        self.requests += 1;
        self.accepts += u64::from(accepted);
    }

    fn probability(&mut self, now: Instant) -> f64 {
        self.advance(now);
        if self.requests < self.settings.least {
            return 0.0;
        }
        let (requests, accepts) = (self.requests as f64, self.accepts as f64);
        ((requests - self.settings.ratio * accepts) / (requests + 1.0)).clamp(0.0, self.settings.most)
    }

    /// Whether to make a call; counts it where not.
    fn admit(&mut self, now: Instant, rng: &mut Rng) -> bool {
        let probability = self.probability(now);
        let admitted = probability == 0.0 || !rng.chance(probability);
        if !admitted {
            self.count(now, false);
        }
        admitted
    }
}

impl<S, C: Clone> Layer<S> for AdmissionLayer<C> {
    type Service = Admission<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, layer: self.clone() }
    }
}

/// The service that [`AdmissionLayer`] makes.
#[derive(Clone, Debug)]
pub struct Admission<S, C = Standard> {
    inner: S,
    layer: AdmissionLayer<C>,
}

impl<S, Req, C> Service<Req> for Admission<S, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Admitted<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        // refused without calling: the inner service keeps its readiness for the next call
        let future = self.layer.handle.admit().then(|| self.inner.call(request));
        Admitted { future, layer: self.layer.clone() }
    }
}

pin_project! {
    /// The future of [`Admission`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Admitted<F, C> {
        #[pin]
        future: Option<F>,
        layer: AdmissionLayer<C>,
    }
}

impl<F, T, E, C> Future for Admitted<F, C>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError> + 'static,
    C: Classify<T>,
{
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(future) = this.future.as_pin_mut() else { return Poll::Ready(Err(refuse())) };
        let result = ready!(future.poll(cx)).map_err(|error| Error::adopt(error, Kind::Failed));
        let accepted = match this.layer.classify.outcome(result.as_ref()) {
            Outcome::Throttled(_) | Outcome::LocalOrigin => Some(false),
            Outcome::Cancelled | Outcome::Superseded => None,
            _ => Some(true),
        };
        if let Some(accepted) = accepted {
            this.layer.handle.0.lock().counts.count(time::now(), accepted);
        }
        Poll::Ready(result)
    }
}

#[cold]
fn refuse() -> Error {
    Error::new(Kind::Rejected, "not sent: the service refuses too much of what it gets").unsent()
}

impl<F, C> fmt::Debug for Admitted<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("layer", &self.layer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
