//! A call ends in time, whatever the request is.

use super::{
    attempt,
    deadline::{nanos, until},
    moment,
    on_call::OnCall,
    timer::Timer,
};
use crate::base::{
    BoxError, Error, Kind,
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

/// Ends a call that has not been answered this long after it was made: the time-out **per attempt**, put inside retry
/// and hedge, where each attempt is a call of its own.
///
/// It asks nothing of the request. Where requests carry a deadline, [`DeadlineLayer`](super::DeadlineLayer) also tells
/// whatever stands behind how much time is left.
///
/// **Guarantees**: no call lasts longer; what is under way is dropped then, and its endpoint
/// [is told that it failed](super::attempt::dropped). An answer that is there at the last moment wins. Readiness is passed
/// through. **Not guaranteed**: waiting for readiness happens before the call and is not
/// counted, [`TotalTimeoutLayer`] counts it; a body that follows the answer is not either, `IdleLayer` (feature `http`)
/// bounds that.
///
/// Needs a tokio runtime with time, unless the inner service answers at its first poll.
///
/// # Errors
/// [`Kind::Timeout`]. Errors of the service pass through, widened where they are foreign.
///
/// ```
/// use seedpod::layer::TimeoutLayer;
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = TimeoutLayer::new(Duration::from_secs(1));
/// let slow = service_fn(|wait: u64| async move {
///     tokio::time::sleep(Duration::from_secs(wait)).await;
///     Ok::<_, std::io::Error>(wait)
/// });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(slow);
/// assert!(service.ready().await.unwrap().call(2).await.unwrap_err().is_timeout());
/// layer.handle().set_within(Duration::from_secs(3)); // for calls from now on
/// assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct TimeoutLayer(TimeoutHandle);

/// Ends a call this long after it was made, waiting for readiness and all attempts included: the **total** time-out, put
/// outside of everything that waits or tries again.
///
/// As [`TimeoutLayer`], but always ready: the service, which must be `Sync` for that, is cloned once per call and made ready inside it, where the time
/// runs already.
#[derive(Clone, Debug)]
pub struct TotalTimeoutLayer(TimeoutHandle);

impl TimeoutLayer {
    /// Calls end within this long; zero gives a call one poll. Longer than 584 years counts as that.
    pub fn new(within: Duration) -> Self {
        TimeoutLayer(TimeoutHandle::new(within))
    }

    /// Reads and changes the time-out of this layer and of all that it made.
    pub fn handle(&self) -> TimeoutHandle {
        self.0.clone()
    }
}

impl TotalTimeoutLayer {
    /// Calls end within this long; zero gives a call one poll. Longer than 584 years counts as that.
    pub fn new(within: Duration) -> Self {
        TotalTimeoutLayer(TimeoutHandle::new(within))
    }

    /// Reads and changes the time-out of this layer and of all that it made.
    pub fn handle(&self) -> TimeoutHandle {
        self.0.clone()
    }
}

/// The live side of [`TimeoutLayer`] and [`TotalTimeoutLayer`].
#[derive(Clone)]
pub struct TimeoutHandle(Arc<Shared>);

struct Shared {
    within: AtomicU64,
    timed_out: AtomicU64,
}

impl TimeoutHandle {
    fn new(within: Duration) -> Self {
        TimeoutHandle(Arc::new(Shared { within: AtomicU64::new(nanos(within)), timed_out: AtomicU64::new(0) }))
    }

    /// How long a call may last.
    pub fn within(&self) -> Duration {
        Duration::from_nanos(self.0.within.load(Relaxed))
    }

    /// Changes how long a call may last, for calls from now on.
    pub fn set_within(&self, within: Duration) {
        self.0.within.store(nanos(within), Relaxed);
    }

    /// How many calls ended because their time was up.
    pub fn timed_out(&self) -> u64 {
        self.0.timed_out.load(Relaxed)
    }

    fn time<F>(&self, now: Instant, future: F) -> Timed<F> {
        let until = until(now, self.within(), None);
        Timed { future: Some(future), until, timer: Timer::default(), handle: self.clone() }
    }
}

impl fmt::Debug for TimeoutHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeoutHandle({:?}; {} timed out)", self.within(), self.timed_out())
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout { inner, handle: self.handle() }
    }
}

impl<S> Layer<S> for TotalTimeoutLayer {
    type Service = TotalTimeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TotalTimeout { inner: Arc::new(inner), handle: self.handle() }
    }
}

/// The service that [`TimeoutLayer`] makes.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    handle: TimeoutHandle,
}

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Timed<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let now = moment::now();
        let _handed = moment::hand(now);
        self.handle.time(now, self.inner.call(request))
    }
}

/// The service that [`TotalTimeoutLayer`] makes.
#[derive(Clone, Debug)]
pub struct TotalTimeout<S> {
    inner: Arc<S>,
    handle: TimeoutHandle,
}

impl<S, Req> Service<Req> for TotalTimeout<S>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = TotalTimed<S, Req>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        TotalTimed { timed: self.handle.time(moment::now(), OnCall::new(S::clone(&self.inner), request)) }
    }
}

pin_project! {
    /// The future of [`Timeout`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Timed<F> {
        #[pin]
        future: Option<F>,
        until: Instant,
        #[pin]
        timer: Timer,
        handle: TimeoutHandle,
    }
}

impl<F, T, E> Future for Timed<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError> + 'static,
{
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        if let Poll::Ready(result) = future.poll(cx) {
            return Poll::Ready(result.map_err(|error| Error::adopt(error, Kind::Failed)));
        }
        if this.timer.poll_until(*this.until, cx).is_pending() {
            return Poll::Pending;
        }
        attempt::time_out(|| this.future.set(None));
        this.handle.0.timed_out.fetch_add(1, Relaxed);
        Poll::Ready(Err(Error::new(Kind::Timeout, "no answer within the time-out")))
    }
}

impl<F> fmt::Debug for Timed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").field("until", &self.until).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`TotalTimeout`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TotalTimed<S: Service<Req>, Req> {
        #[pin]
        timed: Timed<OnCall<S, Req>>,
    }
}

impl<S, Req> Future for TotalTimed<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().timed.poll(cx)
    }
}

impl<S: Service<Req>, Req> fmt::Debug for TotalTimed<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timed.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;
    use std::future::pending;
    use tower::{ServiceExt, service_fn};

    const SECOND: Duration = Duration::from_secs(1);

    /// Becomes ready only after two seconds and answers after two more.
    #[derive(Clone)]
    struct Late(Arc<crate::base::sync::Lock<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>>);

    impl Service<()> for Late {
        type Response = ();
        type Error = Error;
        type Future = futures::future::BoxFuture<'static, Result<(), Error>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            let mut sleep = self.0.lock();
            sleep.get_or_insert_with(|| Box::pin(time::sleep(2 * SECOND))).as_mut().poll(cx).map(Ok)
        }

        fn call(&mut self, (): ()) -> Self::Future {
            *self.0.lock() = None;
            Box::pin(async {
                time::sleep(2 * SECOND).await;
                Ok(())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_timed_from_the_call_and_the_total_from_before_readiness() {
        let late = || Late(Arc::default());
        let start = time::now();
        TimeoutLayer::new(3 * SECOND).layer(late()).oneshot(()).await.unwrap();
        assert_eq!(start.elapsed(), 4 * SECOND, "two of them were spent before the call");

        let start = time::now();
        let layer = TotalTimeoutLayer::new(3 * SECOND);
        assert!(layer.layer(late()).oneshot(()).await.unwrap_err().is_timeout());
        assert_eq!((start.elapsed(), layer.handle().timed_out()), (3 * SECOND, 1));
        layer.handle().set_within(SECOND);
        assert!(layer.layer(late()).oneshot(()).await.unwrap_err().is_timeout(), "while it is not ready");
        assert_eq!(start.elapsed(), 4 * SECOND);
        layer.handle().set_within(Duration::MAX);
        layer.layer(late()).oneshot(()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_at_the_last_moment_wins_and_what_is_late_is_dropped() {
        let layer = TimeoutLayer::new(SECOND);
        let dropped = Arc::new(());
        let held = dropped.clone();
        let service = service_fn(move |wait: Duration| {
            let held = held.clone();
            async move {
                time::sleep(wait).await;
                drop(held);
                Ok::<_, Error>(())
            }
        });
        let mut service = layer.layer(service);
        service.call(SECOND).await.unwrap();
        let mut call = Box::pin(service.call(2 * SECOND));
        assert!(call.as_mut().await.unwrap_err().is_timeout());
        assert_eq!(Arc::strong_count(&dropped), 2, "the call is gone though its future is still here");
        assert!(futures::poll!(call).is_pending(), "polled after it was over, it owes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_at_all_gives_a_call_one_poll() {
        let layer = TimeoutLayer::new(Duration::ZERO);
        layer.layer(service_fn(|()| async { Ok::<_, Error>(()) })).oneshot(()).await.unwrap();
        let never = layer.layer(service_fn(|()| pending::<Result<(), Error>>()));
        assert!(never.oneshot(()).await.unwrap_err().is_timeout());
    }
}
