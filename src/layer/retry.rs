//! Try again what may help, within the deadline, under one budget.

use super::{
    Budget, Classify, Metadata, Standard,
    attempt::{self, Tried},
    budget::Extra,
    moment,
    on_call::OnCall,
    timer::Timer,
};
use crate::base::{
    Backoff, BoxError, Deadline, Error, Kind, Rng, Seed,
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

mod rules;

pub use rules::RetryHandle;
use rules::{Refusal, Rules};

/// Makes a call again where that may help.
///
/// 1. The request is sent with what is left of its deadline, or the attempt's time-out where that is sooner.
/// 2. The [classifier](Classify) reads the result. What is not worth another try is the result.
/// 3. Otherwise it waits: back-off with full jitter, or as long as the other side asked for where that is longer.
/// 4. The same request goes out again, unless the attempts, the [budget](Budget) or the time are used up.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`attempts`](Self::attempts) | 3, the first one included | resilience4j |
/// | [`backoff`](Self::backoff) | 25 ms, doubling up to 250 ms, full jitter | Envoy |
/// | [`budget`](Self::budget) | 10 a second and 20 % over 10 s | Finagle |
/// | [`attempt_timeout`](Self::attempt_timeout) | none | |
/// | [`attempt_min`](Self::attempt_min) | nothing | |
/// | [`classify`](RetryLayer::classify) | errors by [`Error::is_retryable`] | |
///
/// **Guarantees**
/// - Only requests that are idempotent, by nature or by their key, are sent more than once.
/// - All attempts carry the idempotency key of the request. None is made up where it has none: only the receiver can
///   know what a key of its caller means.
/// - Whatever chooses endpoints further in is told where earlier attempts went ([`attempt`]), so that it
///   can prefer others. Where an attempt's time or the deadline ends it, the endpoint
///   [is told that it failed](super::attempt::dropped).
/// - The budget is drawn on before the wait, and given back where the attempt never left: dropped before, or refused on
///   this side ([`Error::is_unsent`]).
/// - Nothing lasts longer than the request's deadline, and no attempt starts that cannot end before it.
/// - When it gives up, the last result stands as it was; a time-out names the attempt and has the failure before as its
///   source.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call and made ready inside it. Dropping
///   the call drops what is under way.
///
/// One layer is one set of settings: all services that it makes, and all clones, share them; its [handle](Self::handle)
/// changes them while requests flow, for whatever is decided from then on.
///
/// **Not guaranteed**: that a receiver carries out a request only once; it must know the key for that.
///
/// Needs a tokio runtime with time, unless the inner service answers well at its first poll.
///
/// ```
/// use seedpod::{base::{Error, Kind}, layer::{Request, RetryLayer}};
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let calls = AtomicU32::new(0);
/// let shaky = service_fn(|request: Request<u32>| {
///     let call = calls.fetch_add(1, Ordering::Relaxed);
///     async move { if call < 2 { Err(Error::from(Kind::Unavailable)) } else { Ok(request.into_message() + call) } }
/// });
/// let mut service = ServiceBuilder::new().layer(RetryLayer::new()).service(shaky);
/// let request = Request::new(40).idempotent();
/// assert_eq!(service.ready().await?.call(request).await?, 42);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct RetryLayer<C = Standard> {
    handle: RetryHandle,
    budget: Budget,
    classify: C,
    seed: Seed,
}

impl RetryLayer {
    /// The defaults, seeded by the running simulation or the system.
    pub fn new() -> Self {
        let seed = Seed::ambient().fork("retry");
        RetryLayer { handle: RetryHandle::default(), budget: Budget::default(), classify: Standard, seed }
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        RetryLayer::new()
    }
}

impl<C> RetryLayer<C> {
    /// How often a request is sent at most, the first time included; 0 counts as 1.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        self.handle.set_attempts(attempts);
        self
    }

    /// How long to wait before each further attempt.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.handle.set_backoff(backoff);
        self
    }

    /// The budget that further attempts draw on: a clone of the one that others in front of the same service use.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// How long one attempt may take; what takes longer is dropped and counts as [`Kind::Timeout`], here and as a failure of
    /// its endpoint.
    #[must_use]
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.handle.set_attempt_timeout(Some(timeout));
        self
    }

    /// The least time in which an attempt can end: none is started when less is left before the deadline.
    #[must_use]
    pub fn attempt_min(self, min: Duration) -> Self {
        self.handle.set_attempt_min(min);
        self
    }

    /// Reads results: which are worth another try.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<D> {
        RetryLayer { handle: self.handle, budget: self.budget, classify, seed: self.seed }
    }

    /// Where the jitter comes from.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Reads and changes the settings, and reads the counts, of this layer and of all that it made. The budget has
    /// [its own](Budget::set).
    pub fn handle(&self) -> RetryHandle {
        self.handle.clone()
    }
}

impl<C> fmt::Debug for RetryLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("handle", &self.handle).field("budget", &self.budget).finish()
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        Retry { shared: Arc::new(Shared { inner, layer, retried: AtomicU64::new(0) }) }
    }
}

struct Shared<S, C> {
    inner: S,
    layer: RetryLayer<C>,
    retried: AtomicU64,
}

impl<S, C> Shared<S, C> {
    /// A generator of its own for each call that needs one, by the order in which they do.
    fn rng(&self) -> Rng {
        self.layer.seed.fork_index(self.retried.fetch_add(1, Relaxed)).rng()
    }
}

/// The service that [`RetryLayer`] makes. Its clones share the inner service, which is cloned once per call.
pub struct Retry<S, C = Standard> {
    shared: Arc<Shared<S, C>>,
}

impl<S, C> Clone for Retry<S, C> {
    fn clone(&self) -> Self {
        Retry { shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Retry<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("inner", &self.shared.inner).field("layer", &self.shared.layer).finish()
    }
}

impl<S, Req, C> Service<Req> for Retry<S, C>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response>,
    Req: Metadata,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Retrying<S, Req, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let (layer, now) = (&self.shared.layer, moment::now());
        let rules = layer.handle.rules();
        layer.budget.deposit(now);
        rules.begin();
        let deadline = request.deadline();
        let spare = if rules.attempts() > 1 && request.is_idempotent() { request.repeat() } else { None };
        let until = rules.attempt_until(now, deadline);
        shrink(&mut request, until);
        Retrying {
            attempt: OnCall::new(self.shared.inner.clone(), request),
            step: if until.is_some_and(|until| until <= now) { Step::Late } else { Step::Attempt { until } },
            timer: Timer::default(),
            spare,
            tried: Tried::default(),
            extra: None,
            deadline,
            made: 1,
            rng: None,
            last: None,
            shared: self.shared.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Retry`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Retrying<S: Service<Req>, Req, C> {
        #[pin]
        attempt: OnCall<S, Req>,
        step: Step,
        // one for the attempt's end, the deadline and the back-off: never two at once
        #[pin]
        timer: Timer,
        spare: Option<Req>,
        tried: Tried,
        extra: Option<Extra>,
        deadline: Option<Deadline>,
        made: u32,
        rng: Option<Rng>,
        last: Option<Error>,
        shared: Arc<Shared<S, C>>,
    }
}

#[derive(Clone, Copy)]
enum Step {
    /// The deadline had passed before the first attempt.
    Late,
    /// An attempt is under way.
    Attempt { until: Option<Instant> },
    /// Between two attempts.
    Wait { start: Instant },
}

impl<S, Req, C> Future for Retrying<S, Req, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response>,
    Req: Metadata,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Shared { layer, .. } = &**this.shared;
        let rules = layer.handle.rules();
        loop {
            let until = match *this.step {
                Step::Attempt { until } => until,
                Step::Late => return Poll::Ready(Err(late(this.last.take()))),
                Step::Wait { start } => {
                    ready!(this.timer.as_mut().poll_until(start, cx));
                    let more = *this.made + 1 < rules.attempts();
                    let repeated = if more { this.spare.as_ref().and_then(Req::repeat) } else { None };
                    let Some(mut request) = repeated.or_else(|| this.spare.take()) else { return Poll::Pending };
                    let until = rules.attempt_until(time::now(), *this.deadline);
                    shrink(&mut request, until);
                    *this.made += 1;
                    *this.step = Step::Attempt { until };
                    rules.again();
                    this.attempt.as_mut().again(request);
                    until
                }
            };
            let attempt = this.attempt.as_mut();
            // only what may go out again needs to know where it went
            let follow = this.spare.is_some() || *this.made > 1;
            let polled = if follow { this.tried.follow(|| attempt.poll(cx)) } else { attempt.poll(cx) };
            let result = match polled {
                Poll::Ready(result) => result.map_err(|error| Error::adopt(error, Kind::Failed)),
                Poll::Pending => {
                    if let Some(extra) = this.extra {
                        extra.has_left(!this.attempt.is_waiting());
                    }
                    let Some(until) = until else { return Poll::Pending };
                    ready!(this.timer.as_mut().poll_until(until, cx));
                    let waiting = this.attempt.is_waiting();
                    attempt::time_out(|| this.attempt.as_mut().stop());
                    if this.deadline.is_some_and(|deadline| deadline.instant() <= until) {
                        *this.step = Step::Late;
                        continue;
                    }
                    let error = slow(*this.made, rules, this.last.take());
                    Err(if waiting { error.unsent() } else { error })
                }
            };
            if let Some(mut extra) = this.extra.take() {
                extra.has_left(!result.as_ref().is_err_and(Error::is_unsent));
            }
            let Some(asked) = layer.classify.retry_after(result.as_ref()) else { return Poll::Ready(result) };
            let next = if this.spare.is_some() {
                let rng = this.rng.get_or_insert_with(|| this.shared.rng());
                rules.next(*this.made, asked, *this.deadline, time::now(), rng, &layer.budget)
            } else if *this.made == 1 && rules.attempts() > 1 {
                Err(Refusal::Once)
            } else {
                Err(Refusal::Attempts)
            };
            match next {
                Err(refusal) => {
                    rules.given_up(refusal);
                    return Poll::Ready(result);
                }
                Ok((start, extra)) => {
                    this.attempt.as_mut().stop();
                    *this.extra = Some(extra);
                    *this.last = result.err();
                    *this.step = Step::Wait { start };
                }
            }
        }
    }
}

/// Tells the request when this attempt must end, where that is sooner than what it carries.
fn shrink<Req: Metadata>(request: &mut Req, until: Option<Instant>) {
    let until = until.map(Deadline::at);
    if let Some(until) = until.filter(|until| request.deadline().is_none_or(|deadline| *until < deadline)) {
        request.set_deadline(until);
    }
}

#[cold]
fn late(last: Option<Error>) -> Error {
    because(Error::new(Kind::Timeout, "the deadline has passed"), last)
}

#[cold]
fn slow(made: u32, rules: &Rules, last: Option<Error>) -> Error {
    let timeout = rules.attempt_timeout().unwrap_or_default();
    because(Error::new(Kind::Timeout, format!("attempt {made} of {} took {timeout:?}", rules.attempts())), last)
}

fn because(error: Error, last: Option<Error>) -> Error {
    match last {
        Some(last) => error.because(last),
        None => error,
    }
}

impl<S: Service<Req>, Req, C> fmt::Debug for Retrying<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying").field("made", &self.made).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
