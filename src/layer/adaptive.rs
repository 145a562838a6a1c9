//! So many calls at a time as the service takes without slowing down.

use super::{
    Classify, Standard, attempt,
    gate::{Entrance, Gate},
    on_call::OnCall,
};
use crate::base::{
    BoxError, Error, Kind, Outcome, Result,
    sync::{Arc, Lock},
    time::{self, Instant},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tower::{Layer, Service};

mod gradient;

pub use gradient::Gradient2;
pub(crate) use gradient::{Estimate, Sample};

/// Limits the calls under way to what the service takes without slowing down, and finds out itself how many those are:
/// [`Gradient2`], from the calls that are made anyway. What happens to more is said in the constructor: refused at once
/// ([`shed`](Self::shed)), or in a line of bounded length ([`wait`](Self::wait)).
///
/// What counts as a sample: answers the [classifier](Classify) calls a success, timed from the place to the answer. What
/// was throttled or timed out, also by a layer in front ([`attempt::dropped`]), makes the limit smaller. All else says nothing: errors, cancelled calls, and whatever the
/// classifier calls [`Outcome::Ignored`]; have it say so of streams and long polls, which take as long as they want.
///
/// One layer is one limit: all services that it makes, and all their clones, share it. The other guarantees, and the
/// errors, are those of [`ConcurrencyLimitLayer`](super::ConcurrencyLimitLayer).
///
/// **Guarantees**: the limit stays within its bounds; it is never lowered only to measure, so healthy traffic is not
/// shed for that. **Not guaranteed**: that it finds the best limit; a service that has been slow for as long as anyone
/// remembers counts as fast.
///
/// ```
/// use seedpod::layer::{AdaptiveLimitLayer, Gradient2};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let layer = AdaptiveLimitLayer::shed(Gradient2::new().between(5, 500))?;
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(service_fn(|n: u32| async move {
///     Ok::<_, std::io::Error>(n)
/// }));
/// assert_eq!(service.call(1).await?, 1);
/// assert_eq!(layer.handle().limit(), 20);
/// # Ok::<(), seedpod::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct AdaptiveLimitLayer<C = Standard> {
    handle: AdaptiveLimitHandle,
    classify: C,
}

impl AdaptiveLimitLayer {
    /// Refuses at once what exceeds the limit.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for settings that make no sense.
    pub fn shed(settings: Gradient2) -> Result<Self> {
        AdaptiveLimitLayer::wait(settings, 0)
    }

    /// Up to `line` more calls wait, any beyond are refused.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for settings that make no sense.
    pub fn wait(settings: Gradient2, line: u32) -> Result<Self> {
        let estimate = Estimate::new(settings)?;
        let gate = Arc::new(Gate::new(estimate.limit(), line, "all places are taken"));
        let shared = Shared { gate, estimate: Lock::new(estimate) };
        Ok(AdaptiveLimitLayer { handle: AdaptiveLimitHandle(Arc::new(shared)), classify: Standard })
    }
}

impl<C> AdaptiveLimitLayer<C> {
    /// How long to stand in line before being refused; for ever by default, until the caller gives up.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        self.handle.0.gate.set_patience(patience);
        self
    }

    /// Reads results: which are samples.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AdaptiveLimitLayer<D> {
        AdaptiveLimitLayer { handle: self.handle, classify }
    }

    /// Reads the limit, and changes the settings, of this layer and of all that it made.
    pub fn handle(&self) -> AdaptiveLimitHandle {
        self.handle.clone()
    }
}

impl<C> fmt::Debug for AdaptiveLimitLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The live side of [`AdaptiveLimitLayer`].
#[derive(Clone)]
pub struct AdaptiveLimitHandle(Arc<Shared>);

struct Shared {
    gate: Arc<Gate>,
    estimate: Lock<Estimate>,
}

impl AdaptiveLimitHandle {
    /// The limit at the moment.
    pub fn limit(&self) -> u32 {
        self.0.gate.limit()
    }

    /// The settings.
    pub fn settings(&self) -> Gradient2 {
        self.0.estimate.lock().settings().clone()
    }

    /// Changes the settings while calls flow: the limit so far is kept where it is within the new bounds.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for settings that make no sense; then nothing has changed.
    pub fn set(&self, settings: Gradient2) -> Result {
        let woken = {
            // set while it is locked: who is second here must not undo what the first has found
            let mut estimate = self.0.estimate.lock();
            estimate.set(settings)?;
            self.0.gate.change_limit(estimate.limit())
        };
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> u32 {
        self.0.gate.in_flight()
    }

    /// How many stand in line.
    pub fn waiting(&self) -> u32 {
        self.0.gate.waiting()
    }

    /// How many have been refused.
    pub fn refused(&self) -> u64 {
        self.0.gate.refused()
    }

    fn observe(&self, started: Instant, beside: u32, sample: Sample) {
        let now = time::now();
        let woken = {
            let mut estimate = self.0.estimate.lock();
            let changed = estimate.observe(now, now.saturating_duration_since(started), beside, sample);
            if changed { self.0.gate.change_limit(estimate.limit()) } else { Vec::new() }
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for AdaptiveLimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdaptiveLimit({} of {}, {} in line)", self.in_flight(), self.limit(), self.waiting())
    }
}

impl<S, C: Clone> Layer<S> for AdaptiveLimitLayer<C> {
    type Service = AdaptiveLimit<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        AdaptiveLimit { inner: Arc::new(inner), layer: self.clone() }
    }
}

/// The service that [`AdaptiveLimitLayer`] makes.
#[derive(Clone, Debug)]
pub struct AdaptiveLimit<S, C = Standard> {
    inner: Arc<S>,
    layer: AdaptiveLimitLayer<C>,
}

impl<S, Req, C> Service<Req> for AdaptiveLimit<S, C>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Adapting<S, Req, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let entrance = Entrance::new(self.layer.handle.0.gate.clone());
        let call = OnCall::new(S::clone(&self.inner), request);
        Adapting { call, entered: None, over: false, entrance, layer: self.layer.clone() }
    }
}

pin_project! {
    /// The future of [`AdaptiveLimit`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Adapting<S: Service<Req>, Req, C> {
        // dropped before the place is given back
        #[pin]
        call: OnCall<S, Req>,
        // since when, and with how many under way
        entered: Option<(Instant, u32)>,
        over: bool,
        #[pin]
        entrance: Entrance,
        layer: AdaptiveLimitLayer<C>,
    }

    impl<S: Service<Req>, Req, C> PinnedDrop for Adapting<S, Req, C> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some((started, beside)) = *this.entered
                && !*this.over
                && attempt::dropped() == Outcome::Failure
            {
                this.layer.handle.observe(started, beside, Sample::Dropped);
            }
        }
    }
}

impl<S, Req, C> Future for Adapting<S, Req, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response>,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if *this.over {
            return Poll::Pending;
        }
        let (started, beside) = match *this.entered {
            Some(entered) => entered,
            None => match ready!(this.entrance.as_mut().poll_enter(cx)) {
                Ok(beside) => *this.entered.insert((time::now(), beside)),
                Err(error) => {
                    *this.over = true;
                    return Poll::Ready(Err(error));
                }
            },
        };
        let result = ready!(this.call.as_mut().poll(cx)).map_err(|error| Error::adopt(error, Kind::Failed));
        *this.over = true;
        this.call.stop();
        let sample = match (this.layer.classify.outcome(result.as_ref()), &result) {
            (Outcome::Success, _) => Some(Sample::Answered),
            (Outcome::Throttled(_), _) => Some(Sample::Dropped),
            (Outcome::Failure, Err(error)) if error.is_timeout() => Some(Sample::Dropped),
            _ => None,
        };
        if let Some(sample) = sample {
            this.layer.handle.observe(started, beside, sample);
        }
        this.entrance.leave();
        Poll::Ready(result)
    }
}

impl<S: Service<Req>, Req, C> fmt::Debug for Adapting<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapting").field("entered", &self.entered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use crate::layer::{Request, TimeoutLayer};
    use futures::future::join_all;
    use tower::service_fn;

    const MILLI: Duration = Duration::from_millis(1);

    /// A server that answers in 10 ms as long as no more than this many calls are under way, and slows down beyond.
    async fn serve(capacity: u32, under_way: &AtomicU32) -> Result<()> {
        let load = under_way.fetch_add(1, SeqCst) + 1;
        time::sleep(10 * MILLI * load.max(capacity) / capacity).await;
        under_way.fetch_sub(1, SeqCst);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_grows_into_a_fast_service_and_shrinks_when_it_slows_down() {
        let (capacity, under_way) = (AtomicU32::new(100), AtomicU32::new(0));
        let (capacity, under_way) = (&capacity, &under_way);
        let layer = AdaptiveLimitLayer::wait(Gradient2::new().window(100 * MILLI, 10), 1_000).unwrap();
        let handle = layer.handle();
        let service = layer.layer(service_fn(move |()| serve(capacity.load(SeqCst), under_way)));
        let flood = || async {
            let end = time::now() + Duration::from_secs(6);
            let callers = (0..300).map(|_| async {
                let mut service = service.clone();
                while time::now() < end {
                    service.call(()).await.unwrap();
                }
            });
            join_all(callers).await;
            handle.limit()
        };
        let grown = flood().await;
        assert!((60..=200).contains(&grown), "{grown}");
        capacity.store(10, SeqCst);
        let shrunk = flood().await;
        assert!((20..=40).contains(&shrunk), "{shrunk} after {grown}");
        assert_eq!((handle.in_flight(), handle.waiting(), handle.refused()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_throttled_or_late_shrinks_it_and_what_is_ignored_does_not() {
        let layer = AdaptiveLimitLayer::shed(Gradient2::new().between(1, 50)).unwrap();
        let answer = |kind: Kind| async move {
            time::sleep(200 * MILLI).await;
            Err::<(), _>(Error::from(kind))
        };
        let mut service = layer.layer(service_fn(answer));
        for (kind, shrinks) in [(Kind::Overloaded, true), (Kind::Timeout, true), (Kind::Invalid, false)] {
            let before = layer.handle().limit();
            for _ in 0..20 {
                assert!(service.call(kind).await.is_err());
            }
            assert_eq!(layer.handle().limit() < before, shrinks, "{kind}");
        }
        let before = layer.handle().limit();
        layer.handle().set(Gradient2::new().between(30, 50)).unwrap();
        assert!(before < 30 && layer.handle().limit() == 30, "{before}");
        assert!(layer.handle().set(Gradient2::new().tolerance(f64::NAN)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_time_out_in_front_ends_shrinks_it_and_what_its_caller_drops_does_not() {
        for (times_out, shrinks) in [(true, true), (false, false)] {
            let layer = AdaptiveLimitLayer::shed(Gradient2::new().between(1, 50)).unwrap();
            let hangs = layer.layer(service_fn(|_: Request<()>| std::future::pending::<Result<()>>()));
            let before = layer.handle().limit();
            for _ in 0..20 {
                let mut service = hangs.clone();
                if times_out {
                    TimeoutLayer::new(200 * MILLI).layer(service).call(Request::new(())).await.unwrap_err();
                } else {
                    tokio::time::timeout(200 * MILLI, service.call(Request::new(()))).await.unwrap_err();
                }
            }
            assert_eq!((layer.handle().limit() < before, layer.handle().in_flight()), (shrinks, 0));
        }
    }
}
