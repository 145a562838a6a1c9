//! Try again what may help, within the deadline, under one budget.

use super::{Budget, Classify, Metadata, Standard, on_call::OnCall, timer::Timer};
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
/// - Nothing lasts longer than the request's deadline, and no attempt starts that cannot end before it.
/// - When it gives up, the last result stands as it was; a time-out names the attempt and has the failure before as its
///   source.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call and made ready inside it. Dropping
///   the call drops what is under way.
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
    rules: Rules,
    classify: C,
    seed: Seed,
}

/// The settings, all plain values.
#[derive(Clone, Debug)]
struct Rules {
    attempts: u32,
    backoff: Backoff,
    budget: Budget,
    attempt_timeout: Option<Duration>,
    attempt_min: Duration,
}

impl RetryLayer {
    /// The defaults, seeded by the running simulation or the system.
    pub fn new() -> Self {
        let rules = Rules {
            attempts: 3,
            backoff: Backoff::default(),
            budget: Budget::default(),
            attempt_timeout: None,
            attempt_min: Duration::ZERO,
        };
        RetryLayer { rules, classify: Standard, seed: Seed::ambient().fork("retry") }
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
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.rules.attempts = attempts.max(1);
        self
    }

    /// How long to wait before each further attempt.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = backoff;
        self
    }

    /// The budget that further attempts draw on: a clone of the one that others in front of the same service use.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.rules.budget = budget;
        self
    }

    /// How long one attempt may take; what takes longer is dropped and counts as [`Kind::Timeout`].
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.rules.attempt_timeout = Some(timeout);
        self
    }

    /// The least time in which an attempt can end: none is started when less is left before the deadline.
    #[must_use]
    pub fn attempt_min(mut self, min: Duration) -> Self {
        self.rules.attempt_min = min;
        self
    }

    /// Reads results: which are worth another try.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<D> {
        RetryLayer { rules: self.rules, classify, seed: self.seed }
    }

    /// Where the jitter comes from.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }
}

impl<C> fmt::Debug for RetryLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let (rules, classify, seed) = (self.rules.clone(), self.classify.clone(), self.seed);
        Retry { shared: Arc::new(Shared { inner, rules, classify, seed, retried: AtomicU64::new(0) }) }
    }
}

struct Shared<S, C> {
    inner: S,
    rules: Rules,
    classify: C,
    seed: Seed,
    retried: AtomicU64,
}

impl<S, C> Shared<S, C> {
    /// A generator of its own for each call that needs one, by the order in which they do.
    fn rng(&self) -> Rng {
        self.seed.fork_index(self.retried.fetch_add(1, Relaxed)).rng()
    }
}

impl Rules {
    /// When an attempt that starts now must end.
    fn attempt_until(&self, now: Instant, deadline: Option<Deadline>) -> Option<Instant> {
        let timeout = self.attempt_timeout.and_then(|timeout| now.checked_add(timeout));
        match (timeout, deadline.map(Deadline::instant)) {
            (Some(timeout), Some(deadline)) => Some(timeout.min(deadline)),
            (timeout, deadline) => timeout.or(deadline),
        }
    }

    /// When to make the next attempt, after `made` of them and a result that asks to wait at least this long; none to
    /// give up. Draws on the budget last, so that only what is sent is paid for.
    fn next(
        &self,
        made: u32,
        asked: Duration,
        deadline: Option<Deadline>,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<Instant> {
        if made >= self.attempts {
            return None;
        }
        let start = now.checked_add(self.backoff.wait(made.saturating_sub(1), rng).max(asked))?;
        if let Some(deadline) = deadline {
            let end = start.checked_add(self.attempt_min)?;
            if end >= deadline.instant() {
                return None;
            }
        }
        self.budget.withdraw(now).then_some(start)
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
        f.debug_struct("Retry").field("inner", &self.shared.inner).field("rules", &self.shared.rules).finish()
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
        let (rules, now) = (&self.shared.rules, time::now());
        rules.budget.deposit(now);
        let deadline = request.deadline();
        let spare = if rules.attempts > 1 && request.is_idempotent() { request.repeat() } else { None };
        let until = rules.attempt_until(now, deadline);
        shrink(&mut request, until);
        Retrying {
            attempt: OnCall::new(self.shared.inner.clone(), request),
            step: if until.is_some_and(|until| until <= now) { Step::Late } else { Step::Attempt { until } },
            timer: Timer::default(),
            spare,
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
        let rules = &this.shared.rules;
        loop {
            let until = match *this.step {
                Step::Attempt { until } => until,
                Step::Late => return Poll::Ready(Err(late(this.last.take()))),
                Step::Wait { start } => {
                    ready!(this.timer.as_mut().poll_until(start, cx));
                    let repeated =
                        if *this.made + 1 < rules.attempts { this.spare.as_ref().and_then(Req::repeat) } else { None };
                    let Some(mut request) = repeated.or_else(|| this.spare.take()) else { return Poll::Pending };
                    let until = rules.attempt_until(time::now(), *this.deadline);
                    shrink(&mut request, until);
                    *this.made += 1;
                    *this.step = Step::Attempt { until };
                    this.attempt.as_mut().again(request);
                    until
                }
            };
            let result = match this.attempt.as_mut().poll(cx) {
                Poll::Ready(result) => result.map_err(|error| Error::adopt(error, Kind::Failed)),
                Poll::Pending => {
                    let Some(until) = until else { return Poll::Pending };
                    ready!(this.timer.as_mut().poll_until(until, cx));
                    this.attempt.as_mut().stop();
                    if this.deadline.is_some_and(|deadline| deadline.instant() <= until) {
                        *this.step = Step::Late;
                        continue;
                    }
                    Err(slow(*this.made, rules, this.last.take()))
                }
            };
            if this.spare.is_none() {
                return Poll::Ready(result);
            }
            let Some(asked) = this.shared.classify.retry_after(result.as_ref()) else { return Poll::Ready(result) };
            let rng = this.rng.get_or_insert_with(|| this.shared.rng());
            match rules.next(*this.made, asked, *this.deadline, time::now(), rng) {
                None => return Poll::Ready(result),
                Some(start) => {
                    this.attempt.as_mut().stop();
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
    let timeout = rules.attempt_timeout.unwrap_or_default();
    because(Error::new(Kind::Timeout, format!("attempt {made} of {} took {timeout:?}", rules.attempts)), last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_decisions_keep_every_limit() {
        let mut rng = Seed::new(5).rng();
        let now = time::now();
        let (mut again, mut refused) = (0, 0);
        for _ in 0..100_000 {
            let layer = RetryLayer::new()
                .attempts(rng.below(5) as u32)
                .attempt_min(Duration::from_millis(rng.below(50)))
                .budget(Budget::new(rng.below(2) as u32, 0));
            let rules = layer.rules;
            let (made, asked) = (rng.range(1..6) as u32, Duration::from_millis(rng.below(400)));
            let deadline = rng.chance(0.7).then(|| Deadline::at(now + Duration::from_millis(rng.below(600))));
            match rules.next(made, asked, deadline, now, &mut rng) {
                None => refused += 1,
                Some(start) => {
                    again += 1;
                    assert!(made < rules.attempts && start >= now + asked);
                    assert!(start <= now + asked.max(rules.backoff.ceiling(made - 1)));
                    assert!(deadline.is_none_or(|deadline| start + rules.attempt_min < deadline.instant()));
                    assert_eq!(rules.budget.left(now), 9, "paid for once");
                }
            }
        }
        assert!(again > 5_000 && refused > 10_000, "{again} {refused}");
    }

    #[test]
    fn an_attempt_ends_at_its_time_out_or_at_the_deadline() {
        let (now, second) = (time::now(), Duration::from_secs(1));
        let (plain, timed) = (RetryLayer::new().rules, RetryLayer::new().attempt_timeout(second).rules);
        assert_eq!(plain.attempt_until(now, None), None);
        assert_eq!(timed.attempt_until(now, None), Some(now + second));
        assert_eq!(timed.attempt_until(now, Some(Deadline::at(now + second / 2))), Some(now + second / 2));
        assert_eq!(timed.attempt_until(now, Some(Deadline::at(now + 2 * second))), Some(now + second));
    }
}
