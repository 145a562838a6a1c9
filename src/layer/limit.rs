//! So many calls at a time.

use super::{
    gate::{Entrance, Gate},
    on_call::OnCall,
};
use crate::base::{BoxError, Error, Kind, sync::Arc};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service};

/// Lets only so many calls through at a time. What happens to more is said in the constructor: they are refused at once
/// ([`shed`](Self::shed)), or wait in a line of bounded length ([`wait`](Self::wait)) and are refused where that is full.
///
/// One layer is one limit: all services that it makes, and all their clones, share it. Make another layer for another
/// limit.
///
/// **Guarantees**
/// - Never more calls under way than the limit, from the moment that the service is made ready to its answer, its error,
///   or the drop of the call.
/// - First come, first served; nobody overtakes the line.
/// - Nothing is held by who only could call: a call takes its place at its first poll.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call and made ready inside it. Put a time-out or a deadline outside;
///   time in line counts, and a call that is dropped leaves the line.
///
/// **Not guaranteed**: a body that follows the answer is not counted.
///
/// # Errors
/// [`Kind::Overloaded`] for who is refused. Errors of the service pass through, widened where they are foreign.
///
/// ```
/// use seedpod::{base::Kind, layer::ConcurrencyLimitLayer};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = ConcurrencyLimitLayer::wait(1, 1);
/// let echo = service_fn(|n: u32| async move {
///     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
///     Ok::<_, std::io::Error>(n)
/// });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(echo);
/// let (first, second, third) = tokio::join!(service.call(1), service.call(2), service.call(3));
/// assert_eq!((first.unwrap(), second.unwrap()), (1, 2)); // one after the other
/// assert_eq!(third.unwrap_err().kind(), Kind::Overloaded);
/// assert_eq!(layer.handle().refused(), 1);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitLayer(ConcurrencyLimitHandle);

impl ConcurrencyLimitLayer {
    /// At most this many calls at a time, 0 counts as 1; more are refused at once.
    pub fn shed(limit: u32) -> Self {
        ConcurrencyLimitLayer::wait(limit, 0)
    }

    /// At most this many calls at a time, 0 counts as 1; `line` more wait, any beyond are refused.
    pub fn wait(limit: u32, line: u32) -> Self {
        let gate = Gate::new(limit.max(1), line, "all places are taken");
        ConcurrencyLimitLayer(ConcurrencyLimitHandle(Arc::new(gate)))
    }

    /// How long to stand in line before being refused; for ever by default, until the caller gives up.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        self.0.0.set_patience(patience);
        self
    }

    /// Reads and changes the limit of this layer and of all that it made.
    pub fn handle(&self) -> ConcurrencyLimitHandle {
        self.0.clone()
    }
}

/// The live side of [`ConcurrencyLimitLayer`].
#[derive(Clone)]
pub struct ConcurrencyLimitHandle(Arc<Gate>);

impl ConcurrencyLimitHandle {
    /// How many calls may be under way.
    pub fn limit(&self) -> u32 {
        self.0.limit()
    }

    /// Changes how many calls may be under way, 0 counts as 1. Those that a higher limit lets in go at once; calls beyond
    /// a lower one end as they would, and nobody is let in until they have.
    pub fn set_limit(&self, limit: u32) {
        self.0.set_limit(limit.max(1));
    }

    /// Changes how many may stand in line. Who stands there already stays.
    pub fn set_line(&self, line: u32) {
        self.0.set_line(line);
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight()
    }

    /// How many stand in line.
    pub fn waiting(&self) -> u32 {
        self.0.waiting()
    }

    /// How many have been refused.
    pub fn refused(&self) -> u64 {
        self.0.refused()
    }
}

impl fmt::Debug for ConcurrencyLimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConcurrencyLimit({} of {}, {} in line)", self.in_flight(), self.limit(), self.waiting())
    }
}

impl<S> Layer<S> for ConcurrencyLimitLayer {
    type Service = ConcurrencyLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ConcurrencyLimit { inner: Arc::new(inner), handle: self.handle() }
    }
}

/// The service that [`ConcurrencyLimitLayer`] makes.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit<S> {
    inner: Arc<S>,
    handle: ConcurrencyLimitHandle,
}

impl<S, Req> Service<Req> for ConcurrencyLimit<S>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
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
        Limited::new(S::clone(&self.inner), request, self.handle.0.clone())
    }
}

pin_project! {
    /// A call that needs a place: the future of [`ConcurrencyLimit`] and of [`Bulkhead`](super::Bulkhead).
    #[must_use = "futures do nothing unless polled"]
    pub struct Limited<S: Service<Req>, Req> {
        // dropped before the place is given back
        #[pin]
        call: OnCall<S, Req>,
        entered: bool,
        #[pin]
        entrance: Entrance,
    }
}

impl<S: Service<Req>, Req> Limited<S, Req> {
    pub(super) fn new(service: S, request: Req, gate: Arc<Gate>) -> Self {
        Limited { call: OnCall::new(service, request), entered: false, entrance: Entrance::new(gate) }
    }
}

impl<S, Req> Future for Limited<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if !*this.entered {
            let entered = ready!(this.entrance.as_mut().poll_enter(cx));
            *this.entered = true;
            if let Err(error) = entered {
                this.call.stop();
                return Poll::Ready(Err(error));
            }
        }
        let result = ready!(this.call.as_mut().poll(cx));
        this.call.stop();
        this.entrance.leave();
        Poll::Ready(result.map_err(|error| Error::adopt(error, Kind::Failed)))
    }
}

impl<S: Service<Req>, Req> fmt::Debug for Limited<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("entered", &self.entered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;
    use futures::{FutureExt, future::join_all, poll};
    use tower::service_fn;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes so many seconds; 9 fails.
    async fn work(seconds: u32) -> Result<u32, Error> {
        time::sleep(seconds * SECOND).await;
        if seconds == 9 { Err(Kind::Failed.into()) } else { Ok(seconds) }
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_the_limit_first_come_first_served() {
        let layer = ConcurrencyLimitLayer::wait(2, 10);
        let (mut service, start) = (layer.layer(service_fn(work)), time::now());
        let calls = (0..6).map(|_| service.call(1).map(|result| result.map(|_| start.elapsed())));
        let ended: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ended, [SECOND, SECOND, 2 * SECOND, 2 * SECOND, 3 * SECOND, 3 * SECOND]);
        assert_eq!((layer.handle().in_flight(), layer.handle().waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn all_services_of_a_layer_and_all_clones_share_the_limit() {
        let layer = ConcurrencyLimitLayer::shed(1);
        let (mut one, mut other) = (layer.layer(service_fn(work)), layer.layer(service_fn(work)));
        let mut held = Box::pin(one.call(1));
        assert!(poll!(held.as_mut()).is_pending());
        for refused in [one.clone().call(1).await, other.call(1).await] {
            assert_eq!(refused.unwrap_err().kind(), Kind::Overloaded);
        }
        held.await.unwrap();
        other.call(1).await.unwrap();
        assert_eq!(layer.handle().refused(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_an_error_and_a_drop_each_give_the_place_back() {
        let layer = ConcurrencyLimitLayer::shed(1);
        let mut service = layer.layer(service_fn(work));
        service.call(1).await.unwrap();
        service.call(9).await.unwrap_err();
        let mut dropped = Box::pin(service.call(1));
        assert!(poll!(dropped.as_mut()).is_pending());
        assert_eq!(layer.handle().in_flight(), 1);
        drop(dropped);
        let idle = service.call(1);
        service.call(1).await.unwrap(); // a call that nobody polls holds nothing
        let mut over = Box::pin(idle);
        over.as_mut().await.unwrap();
        assert_eq!(layer.handle().in_flight(), 0, "given back with the answer, not with the future");
        assert!(poll!(over).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_full_or_too_slow_refuses() {
        let layer = ConcurrencyLimitLayer::wait(1, 2).patience(2 * SECOND);
        let (mut service, start) = (layer.layer(service_fn(work)), time::now());
        let calls: Vec<_> = (0..4).map(|_| service.call(5).map(|result| (result, start.elapsed()))).collect();
        let ended = join_all(calls).await;
        let say = |at: usize| (ended[at].0.as_ref().unwrap_err().message().to_string(), ended[at].1);
        assert_eq!(say(1), ("waited too long for a place".to_string(), 2 * SECOND));
        assert_eq!(say(3), ("all places are taken".to_string(), Duration::ZERO));
        assert_eq!((ended[0].1, layer.handle().refused()), (5 * SECOND, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_changes_while_calls_flow_and_none_is_lost() {
        let layer = ConcurrencyLimitLayer::wait(1, 100);
        let mut service = layer.layer(service_fn(work));
        let mut calls: Vec<_> = (0..10).map(|_| Box::pin(service.call(1))).collect();
        for call in &mut calls {
            assert!(poll!(call).is_pending());
        }
        let handle = layer.handle();
        assert_eq!((handle.in_flight(), handle.waiting()), (1, 9));
        handle.set_limit(4);
        assert_eq!((handle.in_flight(), handle.waiting()), (4, 6), "those let in have their places at once");
        drop(calls.remove(2)); // let in and dropped before it knew: the next one gets the place
        assert_eq!((handle.in_flight(), handle.waiting()), (4, 5));
        handle.set_limit(0);
        assert_eq!((handle.limit(), handle.in_flight()), (1, 4));
        handle.set_line(0);
        assert!(service.call(1).await.is_err(), "the line is closed, and who stands in it stays");
        let start = time::now();
        assert!(join_all(calls).await.into_iter().all(|result| result.is_ok()));
        assert_eq!(start.elapsed(), 6 * SECOND, "four together, then one by one");
    }
}
