//! Every call ends in time.

use super::{Metadata, attempt, moment, timer::Timer};
use crate::base::{
    BoxError, Deadline, Error, Kind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

/// Gives every request a deadline and ends the call when it passes.
///
/// The deadline belongs to the request: it is this long from the call, or sooner where the request carries a sooner one
/// already, and it is set on the request, so that whatever stands behind knows how much time is left.
///
/// **Guarantees**: no call lasts longer than its deadline; one that is over already is refused without calling. What is
/// under way when it passes is dropped, and its endpoint [is told that it failed](super::attempt::dropped). **Not
/// guaranteed**: that the work ends, where the service has handed it on; that a deadline was long enough to be met.
/// Readiness is passed through; waiting for it happens before the call and is not counted.
///
/// Needs a tokio runtime with time, unless the inner service answers at its first poll.
///
/// # Errors
/// [`Kind::Timeout`] when the deadline passes; where it had passed before the call, the error
/// [is unsent](Error::is_unsent). Errors of the service pass through, widened where they are foreign.
///
/// ```
/// use seedpod::layer::{DeadlineLayer, Request};
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let slow = service_fn(|_: Request<u8>| async {
///     tokio::time::sleep(Duration::from_secs(5)).await;
///     Ok::<_, std::io::Error>(1)
/// });
/// let mut service = ServiceBuilder::new().layer(DeadlineLayer::new(Duration::from_secs(1))).service(slow);
/// let error = service.ready().await.unwrap().call(Request::new(7)).await.unwrap_err();
/// assert!(error.is_timeout());
/// # });
/// ```
#[derive(Clone)]
pub struct DeadlineLayer {
    within: Arc<AtomicU64>,
}

impl DeadlineLayer {
    /// Calls end within this long. Longer than 584 years counts as that.
    pub fn new(within: Duration) -> Self {
        DeadlineLayer { within: Arc::new(AtomicU64::new(nanos(within))) }
    }

    /// How long a call may last.
    pub fn within(&self) -> Duration {
        Duration::from_nanos(self.within.load(Relaxed))
    }

    /// Changes how long a call may last, for calls from now on, of this layer and of all that it made.
    pub fn set_within(&self, within: Duration) {
        self.within.store(nanos(within), Relaxed);
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for DeadlineLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineLayer").field("within", &self.within()).finish()
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, layer: self.clone() }
    }
}

/// The service that [`DeadlineLayer`] makes.
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, Req> Service<Req> for DeadlineService<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    Req: Metadata,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Bounded<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let now = moment::now();
        let until = until(now, self.layer.within(), request.deadline());
        request.set_deadline(Deadline::at(until));
        // refused without calling: the inner service keeps its readiness for the next call
        let _handed = moment::hand(now);
        let future = (until > now).then(|| self.inner.call(request));
        Bounded { future, until, timer: Timer::default() }
    }
}

/// When the call must end: the sooner of both; the clock's own end where `within` is beyond it.
pub(super) fn until(now: Instant, within: Duration, carried: Option<Deadline>) -> Instant {
    let ours = now.checked_add(within).unwrap_or_else(|| Deadline::within(within).instant());
    carried.map_or(ours, |carried| ours.min(carried.instant()))
}

pin_project! {
    /// The future of [`DeadlineService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Bounded<F> {
        #[pin]
        future: Option<F>,
        until: Instant,
        #[pin]
        timer: Timer,
    }
}

impl<F, T, E> Future for Bounded<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError> + 'static,
{
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let passed = || Error::new(Kind::Timeout, "the deadline has passed");
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(Err(passed().unsent())) };
        if let Poll::Ready(result) = future.poll(cx) {
            return Poll::Ready(result.map_err(|error| Error::adopt(error, Kind::Failed)));
        }
        if this.timer.poll_until(*this.until, cx).is_pending() {
            return Poll::Pending;
        }
        attempt::time_out(|| this.future.set(None));
        Poll::Ready(Err(passed()))
    }
}

impl<F> fmt::Debug for Bounded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("until", &self.until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::time, layer::Request};
    use tower::{ServiceExt, service_fn};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_sooner_of_both_holds_and_is_set_on_the_request() {
        let left = service_fn(|request: Request<()>| async move {
            Ok::<_, Error>(request.deadline().map(Deadline::remaining).unwrap_or_default())
        });
        let layer = DeadlineLayer::new(2 * SECOND);
        let service = layer.layer(left);
        assert_eq!(service.clone().oneshot(Request::new(())).await.unwrap(), 2 * SECOND);
        assert_eq!(service.clone().oneshot(Request::new(()).within(SECOND)).await.unwrap(), SECOND);
        layer.set_within(SECOND / 2);
        assert_eq!(service.clone().oneshot(Request::new(()).within(SECOND)).await.unwrap(), SECOND / 2);
        layer.set_within(Duration::MAX);
        assert!(service.oneshot(Request::new(())).await.unwrap() > 86_400 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline_and_one_that_is_late_is_never_made() {
        let (calls, start) = (std::cell::Cell::new(0), time::now());
        let endless = service_fn(|_: Request<()>| {
            calls.set(calls.get() + 1);
            std::future::pending::<Result<(), Error>>()
        });
        let mut service = DeadlineLayer::new(3 * SECOND).layer(endless);
        let request = Request::new(()).within(5 * SECOND);
        let cut_off = service.call(request.clone()).await.unwrap_err();
        assert!(cut_off.is_timeout() && !cut_off.is_unsent());
        assert_eq!(start.elapsed(), 3 * SECOND);
        assert!(service.call(request.clone()).await.unwrap_err().is_timeout());
        assert_eq!(start.elapsed(), 5 * SECOND);
        let late = service.call(request).await.unwrap_err();
        assert!(late.is_timeout() && late.is_unsent());
        assert_eq!((calls.get(), start.elapsed()), (2, 5 * SECOND));
    }
}
