//! Send a copy of some requests to another service, and never wait for it.

use super::{Metadata, on_call::OnCall};
use crate::base::{
    BoxError, Deadline, Error, Kind, Result, Rng, Seed,
    sync::{
        Arc, Lock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

/// Mirrors a share of the requests to a second service, whose answers are ignored: to try a new version under the real
/// load.
///
/// ```text
///            ┌─► service   its answer is the answer
/// Shadow ────┤
///            └┄► mirror    in a task of its own; its answer is dropped
/// ```
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | share, in [`new`](Self::new) | none | |
/// | [`in_flight`](Self::in_flight) | 100 copies at a time; more are not sent | ours |
/// | [`within`](Self::within) | 15 s for each copy | Envoy's route time-out |
///
/// **Guarantees**
/// - The primary call is made and answered as if there were no mirror: readiness, answer and errors pass through. It
///   never waits; a mirror that hangs, fails, or panics is counted and no more.
/// - Never more copies under way than allowed, none for longer than it may last.
/// - A copy goes on when the primary call has been answered or dropped. It ends by itself, or with the runtime.
///
/// **Not guaranteed**: that a copy does no harm: the mirror gets all kinds of requests, also those that change something.
/// A request that cannot be [repeated](Metadata::repeat) is not mirrored.
///
/// Needs a tokio runtime with time; the mirror, its requests and futures must be `Send + 'static`.
///
/// ```
/// use seedpod::{base::Error, layer::{Request, ShadowLayer}};
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let next = service_fn(|_: Request<u32>| async { Err::<(), _>(std::io::Error::other("not finished")) });
/// let now = service_fn(|request: Request<u32>| async move { Ok::<_, Error>(request.into_message()) });
/// let layer = ShadowLayer::new(next, 1.0)?;
/// let mut service = ServiceBuilder::new().layer(layer.clone()).service(now);
/// assert_eq!(service.call(Request::new(7)).await?, 7);
/// tokio::task::yield_now().await;
/// assert_eq!((layer.handle().mirrored(), layer.handle().failed()), (1, 1));
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct ShadowLayer<M> {
    mirror: Arc<M>,
    handle: ShadowHandle,
}

impl<M> ShadowLayer<M> {
    /// Mirrors this part of the requests, from 0 to 1, to this service, seeded by the running simulation or the system.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for any other part.
    pub fn new(mirror: M, share: f64) -> Result<Self> {
        check(share)?;
        let within = Duration::from_secs(15);
        let settings = Settings { share, most: 100, within, rng: Seed::ambient().fork("shadow").rng() };
        let shared = Shared { settings: Lock::new(settings), counts: Counts::default() };
        Ok(ShadowLayer { mirror: Arc::new(mirror), handle: ShadowHandle(Arc::new(shared)) })
    }

    /// How many copies may be under way at a time.
    #[must_use]
    pub fn in_flight(self, most: u64) -> Self {
        self.handle.set_in_flight(most);
        self
    }

    /// How long a copy may last.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        self.handle.set_within(within);
        self
    }

    /// Where chance comes from.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.handle.0.settings.lock().rng = seed.rng();
        self
    }

    /// Reads and changes the settings of this layer and of all that it made.
    pub fn handle(&self) -> ShadowHandle {
        self.handle.clone()
    }
}

fn check(share: f64) -> Result {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("shadow: the share must be from 0 to 1, not {share}")))
}

impl<M> fmt::Debug for ShadowLayer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The live side of [`ShadowLayer`].
#[derive(Clone)]
pub struct ShadowHandle(Arc<Shared>);

struct Shared {
    settings: Lock<Settings>,
    counts: Counts,
}

struct Settings {
    share: f64,
    most: u64,
    within: Duration,
    rng: Rng,
}

#[derive(Default)]
struct Counts {
    under_way: AtomicU64,
    mirrored: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

impl ShadowHandle {
    /// Which part of the requests is mirrored.
    pub fn share(&self) -> f64 {
        self.0.settings.lock().share
    }

    /// Changes which part of the requests is mirrored.
    ///
    /// # Errors
    /// [`Kind::Invalid`] unless it is from 0 to 1; then nothing has changed.
    pub fn set_share(&self, share: f64) -> Result {
        check(share)?;
        self.0.settings.lock().share = share;
        Ok(())
    }

    /// Changes how many copies may be under way at a time; those that are go on.
    pub fn set_in_flight(&self, most: u64) {
        self.0.settings.lock().most = most;
    }

    /// Changes how long a copy may last, for those from now on.
    pub fn set_within(&self, within: Duration) {
        self.0.settings.lock().within = within;
    }

    /// How many copies are under way.
    pub fn under_way(&self) -> u64 {
        self.0.counts.under_way.load(Relaxed)
    }

    /// How many copies have been sent.
    pub fn mirrored(&self) -> u64 {
        self.0.counts.mirrored.load(Relaxed)
    }

    /// How many copies did not end well: an error, a panic, no answer in time.
    pub fn failed(&self) -> u64 {
        self.0.counts.failed.load(Relaxed)
    }

    /// How many copies were not sent: too many were under way, or the request cannot be repeated.
    pub fn skipped(&self) -> u64 {
        self.0.counts.skipped.load(Relaxed)
    }

    /// Whether to send a copy now, and how long it may last.
    fn draw(&self) -> Option<(Copy, Duration)> {
        let mut settings = self.0.settings.lock();
        let Settings { share, most, within, rng } = &mut *settings;
        if *share == 0.0 || !rng.chance(*share) {
            return None;
        }
        let counts = &self.0.counts;
        if counts.under_way.load(Relaxed) >= *most {
            counts.skipped.fetch_add(1, Relaxed);
            return None;
        }
        counts.under_way.fetch_add(1, Relaxed); // under the lock: never more
        Some((Copy { shared: self.0.clone(), well: false, sent: false }, *within))
    }
}

impl fmt::Debug for ShadowHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, mirrored, failed) = (self.share(), self.mirrored(), self.failed());
        write!(f, "Shadow({share} of the requests; {mirrored} mirrored, {failed} failed)")
    }
}

/// A copy under way, until dropped.
struct Copy {
    shared: Arc<Shared>,
    sent: bool,
    well: bool,
}

impl Copy {
    /// Takes the whole of it, so that it is held for as long as the copy is under way.
    fn end(mut self, well: bool) {
        self.well = well;
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let counts = &self.shared.counts;
        counts.under_way.fetch_sub(1, Relaxed);
        match (self.sent, self.well) {
            (false, _) => counts.skipped.fetch_add(1, Relaxed),
            (true, false) => counts.failed.fetch_add(1, Relaxed),
            (true, true) => 0,
        };
    }
}

impl<S, M> Layer<S> for ShadowLayer<M> {
    type Service = Shadow<S, M>;

    fn layer(&self, inner: S) -> Self::Service {
        Shadow { inner, layer: ShadowLayer { mirror: self.mirror.clone(), handle: self.handle.clone() } }
    }
}

/// The service that [`ShadowLayer`] makes.
pub struct Shadow<S, M> {
    inner: S,
    layer: ShadowLayer<M>,
}

impl<S: Clone, M> Clone for Shadow<S, M> {
    fn clone(&self) -> Self {
        let layer = ShadowLayer { mirror: self.layer.mirror.clone(), handle: self.layer.handle.clone() };
        Shadow { inner: self.inner.clone(), layer }
    }
}

impl<S: fmt::Debug, M> fmt::Debug for Shadow<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, M, Req> Service<Req> for Shadow<S, M>
where
    S: Service<Req>,
    M: Service<Req> + Clone + Send + 'static,
    M::Future: Send,
    M::Response: Send,
    M::Error: Into<BoxError> + Send + 'static,
    Req: Metadata + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        if let Some((mut copy, within)) = self.layer.handle.draw()
            && let Some(repeated) = request.repeat()
        {
            copy.sent = true;
            copy.shared.counts.mirrored.fetch_add(1, Relaxed);
            let mirror = M::clone(&self.layer.mirror);
            tokio::spawn(async move {
                let ended = Deadline::within(within).bound(OnCall::new(mirror, repeated)).await;
                copy.end(matches!(ended, Ok(Ok(_))));
            });
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::time, layer::Request};
    use tower::{ServiceExt, service_fn};

    const SECOND: Duration = Duration::from_secs(1);

    async fn echo(request: Request<u32>) -> Result<u32> {
        Ok(request.into_message())
    }

    /// A mirror that does what the message says: 0 answers, 1 fails, 2 panics, 3 hangs.
    async fn moody(request: Request<u32>) -> Result<u32> {
        match request.into_message() {
            0 => Ok(0),
            1 => Err(Kind::Failed.into()),
            2 => panic!("the mirror panics"),
            _ => std::future::pending().await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_the_mirror_does_the_primary_answers_at_once_as_if_alone() {
        let layer = ShadowLayer::new(service_fn(moody), 1.0).unwrap();
        let (service, handle, start) = (layer.layer(service_fn(echo)), layer.handle(), time::now());
        for mood in 0..4 {
            assert_eq!(service.clone().oneshot(Request::new(mood)).await.unwrap(), mood);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        time::sleep(SECOND).await;
        assert_eq!((handle.mirrored(), handle.failed(), handle.under_way()), (4, 2, 1));
        time::sleep(15 * SECOND).await;
        assert_eq!((handle.failed(), handle.under_way()), (3, 0), "it was given 15 s");
    }

    #[tokio::test(start_paused = true)]
    async fn copies_are_bounded_in_number_and_go_on_without_the_primary() {
        let layer = ShadowLayer::new(service_fn(moody), 1.0).unwrap().in_flight(3).within(SECOND);
        let never = service_fn(|_: Request<u32>| std::future::pending::<Result<u32>>());
        let (service, handle) = (layer.layer(never), layer.handle());
        for _ in 0..10 {
            assert!(futures::poll!(Box::pin(service.clone().oneshot(Request::new(3)))).is_pending());
        }
        assert_eq!((handle.under_way(), handle.mirrored(), handle.skipped()), (3, 3, 7));
        time::sleep(2 * SECOND).await;
        assert_eq!(handle.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_is_drawn_by_the_seed_and_changes_live() {
        let layer = ShadowLayer::new(service_fn(echo), 0.1).unwrap().seed(Seed::new(3)).in_flight(u64::MAX);
        let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
        let send = async || {
            for n in 0..10_000 {
                service.clone().oneshot(Request::new(n)).await.unwrap();
            }
            handle.mirrored()
        };
        let first = send().await;
        assert!((900..1_100).contains(&first), "{first}");
        handle.set_share(0.0).unwrap();
        assert_eq!(send().await, first);
        assert!(handle.set_share(f64::NAN).is_err() && ShadowLayer::new((), 1.5).is_err());
    }
}
