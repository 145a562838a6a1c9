//! Make the slowest calls a second time, elsewhere, and take the first success.

use super::{
    Budget, Classify, Metadata, Standard,
    attempt::{self, Tried},
    moment,
    on_call::OnCall,
    timer::Timer,
};
use crate::base::{
    BoxError, Deadline, Error, Kind, Outcome, Result,
    sync::Arc,
    time::{self, Instant},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

mod latency;
pub(crate) mod paid;
mod tuning;

use paid::Paid;

pub use tuning::HedgeHandle;

/// Makes a call a second time when it takes longer than most, and answers with whichever succeeds first: the tail of a
/// service with several replicas becomes that of the faster of two, for a load of a few per cent.
///
/// 1. The delay is what all but so many calls take at most: with an extra load of 1 %, the 99th percentile of the last
///    half minute. It follows the service by itself.
/// 2. A call that takes longer is made once more, if that can end before the deadline and the budgets allow it. Only then
///    is the service cloned and made ready for it.
/// 3. The first answer that the [classifier](Classify) calls no failure wins. The other attempt is dropped.
/// 4. A failure of one waits for the other. Where both fail, the result is that of the first attempt.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | extra load, in [`new`](Self::new) | none: Finagle's is 1 % | |
/// | [`HedgeHandle::set_delay_min`] | 1 ms | Finagle |
/// | window of latencies | 30 s in three parts, read anew every 3 s | Finagle |
/// | [`budget`](Self::budget) | none but its own | |
///
/// **Guarantees**
/// - Only requests that are idempotent, by nature or by their key, are made twice.
/// - In any ten seconds no more hedges start than their part of the calls, however slow the service becomes; with a
///   shared [`Budget`], no more than that allows either. Who is refused goes on waiting for the first attempt.
/// - A fast failure of the second attempt never hurts the first one.
/// - Recorded are answers, time-outs, and losers with the time until they lost: what is slow never goes unseen, and the
///   delay does not creep down. Failures are not recorded.
/// - Whatever chooses endpoints further in is told where the first attempt went ([`attempt`]), so that it
///   can prefer another, and that the loser was [superseded](attempt::dropped).
/// - Always ready: the service, which must be `Sync` for that, is cloned once per attempt and made ready inside the call.
///   Dropping the call drops what is under way.
///
/// **Not guaranteed**: that both attempts are not carried out in full. A failure before the delay is over is the result:
/// trying again is [`RetryLayer`](super::RetryLayer)'s, outside of this.
///
/// Needs a tokio runtime with time, unless the inner service answers at its first poll.
///
/// ```
/// use seedpod::{base::{Error, time}, layer::{HedgeLayer, Request}};
/// use std::{sync::atomic::{AtomicU32, Ordering}, time::Duration};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let calls = AtomicU32::new(0);
/// let mostly_fast = service_fn(|_: Request<()>| {
///     let slow = calls.fetch_add(1, Ordering::Relaxed) == 1_000;
///     async move { Ok::<_, Error>(time::sleep(Duration::from_millis(if slow { 5_000 } else { 10 })).await) }
/// });
/// let layer = HedgeLayer::new(0.01)?;
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(mostly_fast);
/// for _ in 0..1_000 {
///     service.call(Request::new(()).idempotent()).await?;
/// }
/// let start = time::now();
/// service.call(Request::new(()).idempotent()).await?; // this one hangs, its second attempt does not
/// assert!(start.elapsed() < Duration::from_millis(30));
/// assert_eq!((layer.handle().hedged(), layer.handle().won()), (1, 1));
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct HedgeLayer<C = Standard> {
    handle: HedgeHandle,
    budget: Option<Budget>,
    classify: C,
}

impl HedgeLayer {
    /// Makes at most this part of the calls twice, from 0 to below 1: 0.01 is one in a hundred.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for any other part.
    pub fn new(extra_load: f64) -> Result<Self> {
        Ok(HedgeLayer { handle: HedgeHandle::new(extra_load)?, budget: None, classify: Standard })
    }
}

impl<C> HedgeLayer<C> {
    /// A budget that hedges draw on besides their own: a clone of the one that retry in front of the same service uses,
    /// which counts the requests.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Reads results: which are failures, to wait for the other attempt.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> HedgeLayer<D> {
        HedgeLayer { handle: self.handle, budget: self.budget, classify }
    }

    /// Reads and changes the settings of this layer and of all that it made.
    pub fn handle(&self) -> HedgeHandle {
        self.handle.clone()
    }
}

impl<C> fmt::Debug for HedgeLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<S, C: Clone> Layer<S> for HedgeLayer<C> {
    type Service = Hedge<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge { shared: Arc::new(Shared { inner, layer: self.clone() }) }
    }
}

struct Shared<S, C> {
    inner: S,
    layer: HedgeLayer<C>,
}

/// The service that [`HedgeLayer`] makes. Its clones share the inner service, which is cloned once per attempt.
pub struct Hedge<S, C = Standard> {
    shared: Arc<Shared<S, C>>,
}

impl<S, C> Clone for Hedge<S, C> {
    fn clone(&self) -> Self {
        Hedge { shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Hedge<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge").field("inner", &self.shared.inner).field("layer", &self.shared.layer).finish()
    }
}

impl<S, Req, C> Service<Req> for Hedge<S, C>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response>,
    Req: Metadata,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Hedging<S, Req, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (tuning, now) = (&self.shared.layer.handle.0, moment::now());
        tuning.own.deposit(now);
        let mut spare = None;
        if request.is_idempotent()
            && let Some(delay) = tuning.delay(now)
        {
            let at = time::after(now, delay);
            if request.deadline().map(Deadline::instant).is_none_or(|deadline| at < deadline) {
                spare = request.repeat().map(|request| (at, request));
            }
        }
        Hedging {
            tried: Tried::default(),
            first: OnCall::new(self.shared.inner.clone(), request),
            second: None,
            timer: Timer::default(),
            start: now,
            second_start: now,
            spare,
            extra: None,
            failed: Failed { first: None, second: false },
            shared: self.shared.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Hedge`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Hedging<S: Service<Req>, Req, C> {
        tried: Tried,
        #[pin]
        first: OnCall<S, Req>,
        #[pin]
        second: Option<OnCall<S, Req>>,
        #[pin]
        timer: Timer,
        start: Instant,
        second_start: Instant,
        // when to make the second attempt, and with what
        spare: Option<(Instant, Req)>,
        extra: Option<Paid>,
        failed: Failed<S::Response>,
        shared: Arc<Shared<S, C>>,
    }
}

/// The attempts that have failed while the other one goes on.
struct Failed<T> {
    first: Option<Result<T>>,
    second: bool,
}

impl<S, Req, C> Future for Hedging<S, Req, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    S: Clone,
    C: Classify<S::Response>,
    Req: Metadata,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Shared { inner, layer } = &**this.shared;
        let tuning = &layer.handle.0;
        if this.failed.first.is_none() {
            let first = this.first.as_mut();
            // only what may be made twice needs to know where it went
            let follow = this.spare.is_some() || this.second.is_some();
            let polled = if follow { this.tried.join(|| first.poll(cx)) } else { first.poll(cx) };
            if let Poll::Ready(result) = polled {
                let (result, bad, now) = read(&layer.classify, result);
                record(tuning, &result, bad, *this.start, now);
                let alone = this.second.is_none() || this.failed.second;
                if !bad || alone {
                    if !alone {
                        tuning.record(now.saturating_duration_since(*this.second_start), now);
                    }
                    attempt::supersede(|| this.second.set(None));
                    (*this.spare, *this.extra) = (None, None);
                    return Poll::Ready(result);
                }
                this.first.as_mut().stop();
                this.failed.first = Some(result);
            }
        }
        if let Some((at, _)) = *this.spare {
            if this.timer.as_mut().poll_until(at, cx).is_pending() {
                return Poll::Pending;
            }
            if let Some((_, request)) = this.spare.take() {
                let now = time::now();
                match layer.pay(now) {
                    None => {}
                    Some(extra) => {
                        (*this.extra, *this.second_start) = (Some(extra), now);
                        this.second.set(Some(OnCall::new(inner.clone(), request)));
                    }
                }
            }
        }
        if this.failed.second {
            return Poll::Pending;
        }
        let Some(mut second) = this.second.as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = this.tried.join(|| second.as_mut().poll(cx));
        let Poll::Ready(result) = polled else {
            paid::has_left(this.extra, !second.is_waiting());
            return Poll::Pending;
        };
        let (result, bad, now) = read(&layer.classify, result);
        paid::has_left(this.extra, !result.as_ref().is_err_and(Error::is_unsent));
        *this.extra = None;
        record(tuning, &result, bad, *this.second_start, now);
        if bad {
            second.stop();
            this.failed.second = true;
            return this.failed.first.take().map_or(Poll::Pending, Poll::Ready);
        }
        tuning.won();
        if this.failed.first.is_none() {
            tuning.record(now.saturating_duration_since(*this.start), now);
            attempt::supersede(|| this.first.stop());
        }
        this.failed.second = true; // it is over: nothing more is polled
        Poll::Ready(result)
    }
}

/// The result, whether it is a failure, and when that is.
#[inline(always)]
fn read<C: Classify<T>, T, E: Into<BoxError> + 'static>(
    classify: &C,
    result: Result<T, E>,
) -> (Result<T>, bool, Instant) {
    let result = result.map_err(|error| Error::adopt(error, Kind::Failed));
    let bad = !matches!(classify.outcome(result.as_ref()), Outcome::Success | Outcome::Ignored);
    (result, bad, time::now())
}

/// Failures say nothing of how long answers take; a time-out says that it takes at least so long.
#[inline(always)]
fn record<T>(tuning: &tuning::Tuning, result: &Result<T>, bad: bool, start: Instant, now: Instant) {
    if !bad || result.as_ref().is_err_and(Error::is_timeout) {
        tuning.record(now.saturating_duration_since(start), now);
    }
}

impl<S: Service<Req>, Req, C> fmt::Debug for Hedging<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedging").field("hedged", &self.second.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
