//! Who asks the same at the same time shares one call.

use super::{
    flight::{Call, Counts, Flights, Limits, Waiter},
    on_call::OnCall,
};
use crate::base::{BoxError, Error, Kind, sync::Arc};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Lets concurrent calls with one key share one call of the service: a stampede of a thousand makes one call. Also known
/// as single flight, request collapsing, cache lock.
///
/// ```text
/// GET /a ──┐
/// GET /a ──┼─► one call ──► the same answer, or the same error, for all
/// GET /a ──┘
/// GET /b ────► another
/// ```
///
/// For requests that only read. A request without a key (`None`) passes alone. It keeps nothing once the call is over:
/// that is what [`CacheLayer`](super::CacheLayer) does. All services of one layer, and all their clones, share the calls.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`calls`](Self::calls) | 10,000 under way; who needs one more is refused | linkerd's request queue |
/// | [`waiters`](Self::waiters) | 10,000 for each; any beyond are refused | linkerd's request queue |
///
/// **Guarantees**
/// - At any moment at most one call of a key is under way; who comes after its end makes the next.
/// - Nobody hangs: whoever is polled drives the call, no task is spawned, and the first may leave, or be held by a task
///   that never polls it again.
/// - When the last who waits is dropped, the call is dropped.
/// - A panic of the service reaches who drives it; the others get [`Kind::Panicked`], other calls go on.
/// - Keys may come from outside: they are kept in order, not hashed, and only while in use.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call made, and made ready inside it.
///
/// **Not guaranteed**: that a call is made with the longest deadline of those who wait; it carries that of the first.
/// Layers inside see one request.
///
/// # Errors
/// [`Kind::Overloaded`] at the bounds. Errors of the service are given to all who wait, widened where they are foreign.
///
/// ```
/// use seedpod::layer::CoalesceLayer;
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = CoalesceLayer::by(|id: &u32| Some(*id));
/// let load = service_fn(|id: u32| async move {
///     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
///     Ok::<_, std::io::Error>(format!("row {id}"))
/// });
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(load);
/// let (one, same, other) = tokio::join!(service.call(1), service.call(1), service.call(2));
/// assert_eq!((one.unwrap(), same.unwrap(), other.unwrap()), ("row 1".into(), "row 1".into(), "row 2".into()));
/// assert_eq!((layer.handle().led(), layer.handle().joined()), (2, 1));
/// # });
/// ```
pub struct CoalesceLayer<K, T, F> {
    handle: CoalesceHandle<K, T>,
    key: F,
}

impl<K: Ord + Clone, T, F> CoalesceLayer<K, T, F> {
    /// Shares calls by what this makes of the request; `None` passes alone.
    pub fn by<Req>(key: F) -> Self
    where
        F: Fn(&Req) -> Option<K>,
    {
        let limits = Limits { flights: 10_000, waiters: 10_000 };
        CoalesceLayer { handle: CoalesceHandle(Arc::new(Flights::new(limits))), key }
    }

    /// How many different calls may be under way at a time.
    #[must_use]
    pub fn calls(self, most: usize) -> Self {
        self.handle.set_calls(most);
        self
    }

    /// How many may wait for one call, the first included.
    #[must_use]
    pub fn waiters(self, most: usize) -> Self {
        self.handle.set_waiters(most);
        self
    }

    /// Reads and changes this layer and all that it made.
    pub fn handle(&self) -> CoalesceHandle<K, T> {
        self.handle.clone()
    }
}

impl<K, T, F: Clone> Clone for CoalesceLayer<K, T, F> {
    fn clone(&self) -> Self {
        CoalesceLayer { handle: self.handle.clone(), key: self.key.clone() }
    }
}

impl<K: Ord + Clone, T, F> fmt::Debug for CoalesceLayer<K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The live side of [`CoalesceLayer`].
pub struct CoalesceHandle<K, T>(Arc<Flights<K, T>>);

impl<K: Ord + Clone, T> CoalesceHandle<K, T> {
    /// How many calls are under way.
    pub fn in_flight(&self) -> usize {
        self.0.under_way().0
    }

    /// How many wait for them, those who made them included.
    pub fn waiting(&self) -> usize {
        self.0.under_way().1
    }

    /// How many calls were made.
    pub fn led(&self) -> u64 {
        self.counts().led
    }

    /// How many calls were saved.
    pub fn joined(&self) -> u64 {
        self.counts().joined
    }

    /// How many have been refused.
    pub fn refused(&self) -> u64 {
        self.counts().refused
    }

    fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// Lets nobody else join the call of this key that is under way; who waits for it goes on.
    pub fn forget(&self, key: &K) {
        self.0.recall(Some(key));
    }

    /// Changes how many different calls may be under way, for those that come from now on.
    pub fn set_calls(&self, most: usize) {
        self.0.set_limits(|limits| limits.flights = most);
    }

    /// Changes how many may wait for one call, for those that come from now on.
    pub fn set_waiters(&self, most: usize) {
        self.0.set_limits(|limits| limits.waiters = most);
    }
}

impl<K, T> Clone for CoalesceHandle<K, T> {
    fn clone(&self) -> Self {
        CoalesceHandle(self.0.clone())
    }
}

impl<K: Ord + Clone, T> fmt::Debug for CoalesceHandle<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limits, counts) = (self.0.limits(), self.counts());
        let Limits { flights, waiters } = limits;
        write!(f, "Coalesce({flights} calls, {waiters} waiters each; {} led, {} joined)", counts.led, counts.joined)
    }
}

impl<S, K, T, F: Clone> Layer<S> for CoalesceLayer<K, T, F> {
    type Service = Coalesce<S, K, T, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Coalesce { inner: Arc::new(inner), handle: self.handle.clone(), key: self.key.clone() }
    }
}

/// The service that [`CoalesceLayer`] makes.
pub struct Coalesce<S, K, T, F> {
    inner: Arc<S>,
    handle: CoalesceHandle<K, T>,
    key: F,
}

impl<S, K, T, F: Clone> Clone for Coalesce<S, K, T, F> {
    fn clone(&self) -> Self {
        Coalesce { inner: self.inner.clone(), handle: self.handle.clone(), key: self.key.clone() }
    }
}

impl<S: fmt::Debug, K: Ord + Clone, T, F> fmt::Debug for Coalesce<S, K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce").field("inner", &self.inner).field("handle", &self.handle).finish()
    }
}

impl<S, Req, K, F> Service<Req> for Coalesce<S, K, S::Response, F>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Response: Clone,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    F: Fn(&Req) -> Option<K>,
    K: Ord + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Coalesced<S, Req, K>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        Coalesced {
            at: match (self.key)(&request) {
                Some(key) => {
                    let start = (self.inner.clone(), request, self.handle.0.clone(), key);
                    At::Start { start: Some(start) }
                }
                None => At::Alone { call: OnCall::new(S::clone(&self.inner), request) },
            },
        }
    }
}

/// One call of the service, for all who share it.
pub(crate) fn shared<S, Req>(service: S, request: Req) -> Call<S::Response>
where
    S: Service<Req> + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
{
    let call = OnCall::new(service, request);
    Box::pin(async move { call.await.map_err(|error| Error::adopt(error, Kind::Failed)) })
}

pin_project! {
    /// The future of [`Coalesce`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Coalesced<S, Req, K>
    where
        S: Service<Req>,
        K: Ord,
        K: Clone,
    {
        #[pin]
        at: At<S, Req, K>,
    }
}

pin_project! {
    #[project = AtProjection]
    enum At<S, Req, K>
    where
        S: Service<Req>,
        K: Ord,
        K: Clone,
    {
        Start { start: Option<(Arc<S>, Req, Arc<Flights<K, S::Response>>, K)> },
        Alone { #[pin] call: OnCall<S, Req> },
        Shared { waiter: Waiter<K, S::Response> },
    }
}

impl<S, Req, K> Future for Coalesced<S, Req, K>
where
    S: Service<Req> + Clone + Send + 'static,
    S::Response: Clone,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    K: Ord + Clone,
{
    type Output = Result<S::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let waiter = match this.at.as_mut().project() {
                AtProjection::Alone { call } => {
                    return call.poll(cx).map_err(|error| Error::adopt(error, Kind::Failed));
                }
                AtProjection::Shared { waiter } => return Pin::new(waiter).poll(cx),
                AtProjection::Start { start } => {
                    let Some((service, request, flights, key)) = start.take() else { return Poll::Pending };
                    match flights.join(key, |_| shared(S::clone(&service), request)) {
                        Ok(waiter) => waiter,
                        Err(refused) => return Poll::Ready(Err(refused)),
                    }
                }
            };
            this.at.set(At::Shared { waiter });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{sync::atomic::AtomicU32, sync::atomic::Ordering::SeqCst, time};
    use futures::{FutureExt, future::join_all, poll};
    use std::time::Duration;
    use tower::service_fn;

    #[tokio::test(start_paused = true)]
    async fn a_stampede_of_a_thousand_is_one_call_and_after_its_end_another() {
        let calls = AtomicU32::new(0);
        let layer = CoalesceLayer::by(|key: &u32| (*key < 10).then_some(*key));
        let calls = Arc::new(calls);
        let counting = calls.clone();
        let mut service = layer.layer(service_fn(move |key: u32| {
            let call = counting.fetch_add(1, SeqCst);
            async move {
                time::sleep(Duration::from_millis(3)).await;
                if key == 3 { Err(Error::from(Kind::Unavailable)) } else { Ok(call) }
            }
        }));
        for round in 0..2 {
            let answers = join_all((0..1_000).map(|_| tokio::spawn(service.call(1)))).await;
            assert!(answers.into_iter().all(|answer| answer.unwrap().unwrap() == round));
        }
        let failed = join_all((0..100).map(|_| service.clone().call(3))).await;
        assert!(failed.into_iter().all(|failed| failed.unwrap_err().kind() == Kind::Unavailable));
        join_all((0..5).map(|_| service.call(10))).await;
        assert_eq!(calls.load(SeqCst), 2 + 1 + 5, "without a key each is alone");
        let handle = layer.handle();
        assert_eq!((handle.led(), handle.joined(), handle.in_flight(), handle.waiting()), (3, 1998 + 99, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_before_the_first_poll_and_the_bounds_are_said_clearly() {
        let layer = CoalesceLayer::by(|key: &u32| Some(*key)).calls(1).waiters(2);
        let mut service = layer.layer(service_fn(|key: u32| async move {
            time::sleep(Duration::from_millis(1)).await;
            Ok::<_, Error>(key)
        }));
        let (mut first, second) = (Box::pin(service.call(1)), service.call(1));
        let unpolled = service.call(1);
        assert_eq!(layer.handle().waiting(), 0);
        assert!(poll!(first.as_mut()).is_pending());
        let mut second = Box::pin(second);
        assert!(poll!(second.as_mut()).is_pending());
        assert_eq!(unpolled.await.unwrap_err().message(), "too many wait for the same call");
        let other = service.call(2).now_or_never().unwrap().unwrap_err();
        assert_eq!((other.kind(), other.message()), (Kind::Overloaded, "too many different calls are under way"));
        layer.handle().forget(&1);
        assert_eq!((service.call(1).await.unwrap(), first.await.unwrap(), second.await.unwrap()), (1, 1, 1));
        assert_eq!((layer.handle().refused(), layer.handle().led(), layer.handle().in_flight()), (2, 2, 0));
    }
}
