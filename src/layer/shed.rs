//! Refuse rather than wait.

use super::{
    deadline::{nanos, until},
    on_call::OnCall,
    timer::Timer,
};
use crate::base::{
    BoxError, Error, Kind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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

/// Refuses a call where the service behind does not become ready, instead of waiting for it: load shedding, for services
/// that say by their readiness that they are full.
///
/// Without [`patience`](Self::patience) a service that is not ready at once is too full. With it, a call waits that long
/// for readiness; when one has waited in vain, the service counts as stuck and further calls are refused at once, until
/// one finds it ready (linkerd's fail-fast, 3 s outbound there).
///
/// **Guarantees**: always ready; the service, which must be `Sync` for that, is cloned once per call and made ready inside it. Once it is ready the call
/// takes as long as it takes. **Not guaranteed**: that a service is protected that is always ready, as the ones of this
/// crate are: [`ConcurrencyLimitLayer::shed`](super::ConcurrencyLimitLayer::shed) and
/// [`AdaptiveLimitLayer::shed`](super::AdaptiveLimitLayer::shed) count calls themselves.
///
/// # Errors
/// [`Kind::Overloaded`] for who is refused. Errors of the service pass through, widened where they are foreign.
///
/// ```
/// use seedpod::{base::Kind, layer::ShedLayer};
/// use tower::{Service, ServiceBuilder, limit::ConcurrencyLimitLayer, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let slow = service_fn(|n: u32| async move {
///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///     Ok::<_, std::io::Error>(n)
/// });
/// let full = ServiceBuilder::new().layer(ShedLayer::new()).layer(ConcurrencyLimitLayer::new(1)).service(slow);
/// let (mut one, mut other) = (full.clone(), full);
/// let (answered, refused) = tokio::join!(one.call(1), other.call(2));
/// assert_eq!(answered.unwrap(), 1);
/// assert_eq!(refused.unwrap_err().kind(), Kind::Overloaded);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct ShedLayer(ShedHandle);

impl ShedLayer {
    /// Refuses who does not find the service ready at once: tower's rule.
    pub fn new() -> Self {
        let (patience, stuck, shed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
        ShedLayer(ShedHandle(Arc::new(Shared { patience, stuck, shed })))
    }

    /// Waits this long for readiness, unless another call has just waited in vain.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        self.0.set_patience(patience);
        self
    }

    /// Reads and changes this layer and all that it made.
    pub fn handle(&self) -> ShedHandle {
        self.0.clone()
    }
}

impl Default for ShedLayer {
    fn default() -> Self {
        ShedLayer::new()
    }
}

/// The live side of [`ShedLayer`].
#[derive(Clone)]
pub struct ShedHandle(Arc<Shared>);

struct Shared {
    patience: AtomicU64,
    stuck: AtomicBool,
    shed: AtomicU64,
}

impl ShedHandle {
    /// How long a call waits for readiness.
    pub fn patience(&self) -> Duration {
        Duration::from_nanos(self.0.patience.load(Relaxed))
    }

    /// Changes how long a call waits for readiness, for those that begin to wait from now on.
    pub fn set_patience(&self, patience: Duration) {
        self.0.patience.store(nanos(patience), Relaxed);
    }

    /// Whether the last call that waited did so in vain.
    pub fn is_stuck(&self) -> bool {
        self.0.stuck.load(Relaxed)
    }

    /// How many calls have been refused.
    pub fn shed(&self) -> u64 {
        self.0.shed.load(Relaxed)
    }
}

impl fmt::Debug for ShedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shed({:?}; {} refused)", self.patience(), self.shed())
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Shed { inner: Arc::new(inner), handle: self.handle() }
    }
}

/// The service that [`ShedLayer`] makes.
#[derive(Clone, Debug)]
pub struct Shed<S> {
    inner: Arc<S>,
    handle: ShedHandle,
}

impl<S, Req> Service<Req> for Shed<S>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Shedding<S, Req>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let call = OnCall::new(S::clone(&self.inner), request);
        Shedding { call, until: None, timer: Timer::default(), handle: self.handle.clone() }
    }
}

pin_project! {
    /// The future of [`Shed`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Shedding<S: Service<Req>, Req> {
        #[pin]
        call: OnCall<S, Req>,
        // until when it waits, once it does
        until: Option<Instant>,
        #[pin]
        timer: Timer,
        handle: ShedHandle,
    }
}

impl<S, Req> Future for Shedding<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let waited = this.call.is_waiting();
        let polled = this.call.as_mut().poll(cx);
        let shared = &*this.handle.0;
        if !this.call.is_waiting() {
            if waited && shared.stuck.load(Relaxed) {
                shared.stuck.store(false, Relaxed);
            }
            return polled.map_err(|error| Error::adopt(error, Kind::Failed));
        }
        let patience = if shared.stuck.load(Relaxed) { Duration::ZERO } else { this.handle.patience() };
        if !patience.is_zero() {
            let until = *this.until.get_or_insert_with(|| until(time::now(), patience, None));
            ready!(this.timer.poll_until(until, cx));
            shared.stuck.store(true, Relaxed);
        }
        this.call.stop();
        shared.shed.fetch_add(1, Relaxed);
        Poll::Ready(Err(Error::new(Kind::Overloaded, "the service is not ready").unsent()))
    }
}

impl<S: Service<Req>, Req> fmt::Debug for Shedding<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shedding").field("until", &self.until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use tower::{limit::ConcurrencyLimit, service_fn};

    const SECOND: Duration = Duration::from_secs(1);

    async fn work(seconds: u32) -> Result<u32, Error> {
        time::sleep(seconds * SECOND).await;
        Ok(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_it_full_is_refused_at_once_or_after_the_patience() {
        let layer = ShedLayer::new();
        let mut service = layer.layer(ConcurrencyLimit::new(service_fn(work), 1));
        let (mut held, start) = (Box::pin(service.call(5)), time::now());
        assert!(poll!(held.as_mut()).is_pending());
        assert_eq!(service.call(1).await.unwrap_err().kind(), Kind::Overloaded);
        assert_eq!(start.elapsed(), Duration::ZERO);
        layer.handle().set_patience(2 * SECOND);
        assert_eq!(service.call(1).await.unwrap_err().kind(), Kind::Overloaded);
        assert_eq!(start.elapsed(), 2 * SECOND);
        assert_eq!(held.await.unwrap(), 5);
        assert_eq!(service.call(1).await.unwrap(), 1, "its place is free again");
        assert_eq!(layer.handle().shed(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_has_waited_in_vain_all_fail_fast_until_one_finds_it_ready() {
        let layer = ShedLayer::new().patience(3 * SECOND);
        let mut service = layer.layer(ConcurrencyLimit::new(service_fn(work), 1));
        let (mut held, start) = (Box::pin(service.call(10)), time::now());
        assert!(poll!(held.as_mut()).is_pending());
        assert!(service.call(1).await.is_err() && layer.handle().is_stuck());
        for _ in 0..100 {
            assert!(service.call(1).await.is_err());
        }
        assert_eq!(start.elapsed(), 3 * SECOND, "one waited, a hundred did not");
        held.await.unwrap();
        assert_eq!(service.call(1).await.unwrap(), 1);
        assert!(!layer.handle().is_stuck(), "interrupted: the next one waits again");
    }
}
