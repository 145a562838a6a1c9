//! A body that stops coming ends.

use super::timer::Timer;
use crate::base::{
    BoxError, Error, Kind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{self, Instant},
};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service};

/// Ends a response's body when nothing of it has come for this long, or when all of it takes too long.
///
/// Time-outs of calls end with the head of the response; a body that stalls holds its connection, and whoever reads it,
/// for ever. Here the wait for each frame is bounded, so that a long download goes on as long as it moves; and
/// optionally the whole ([`total`](Self::total)).
///
/// - 5 min idle by default: Envoy's `stream_idle_timeout`
/// - time runs only while somebody waits: a reader that is slow itself does not make the body late
///
/// **Guarantees**: readiness, head, frames, trailers and length pass through. After the time-out the body has ended.
///
/// # Errors
/// The body ends with [`Kind::Timeout`]. Errors of service and body pass through, widened where they are foreign.
///
/// ```
/// use bytes::Bytes;
/// use futures::stream;
/// use http_body::Frame;
/// use http_body_util::{BodyExt, StreamBody};
/// use seedpod::{Error, layer::IdleLayer};
/// use std::time::Duration;
/// use tower::{Layer, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let stalls = service_fn(|()| async {
///     let frames = stream::pending::<Result<Frame<Bytes>, Error>>();
///     Ok::<_, Error>(http::Response::new(StreamBody::new(frames)))
/// });
/// let response = IdleLayer::new().idle(Duration::from_secs(5)).layer(stalls).oneshot(()).await?;
/// assert!(response.into_body().collect().await.unwrap_err().is_timeout());
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct IdleLayer(IdleHandle);

impl IdleLayer {
    /// 5 min between frames, and as long as it takes for the whole.
    pub fn new() -> Self {
        let idle = AtomicU64::new(millis(Duration::from_secs(300)));
        IdleLayer(IdleHandle(Arc::new(Limits { idle, total: AtomicU64::new(u64::MAX) })))
    }

    /// How long the body may pause, in whole milliseconds, at least one.
    #[must_use]
    pub fn idle(self, idle: Duration) -> Self {
        self.0.set_idle(idle);
        self
    }

    /// How long the whole body may take, from the head of the response, in whole milliseconds.
    #[must_use]
    pub fn total(self, total: Duration) -> Self {
        self.0.set_total(total);
        self
    }

    /// Reads and changes the limits of this layer and of all that it made.
    pub fn handle(&self) -> IdleHandle {
        self.0.clone()
    }

    /// Bounds any other body: a request's, on the side that reads it.
    pub fn bound<B>(&self, body: B) -> IdleBody<B> {
        let Limits { idle, total } = &*self.0.0;
        let now = time::now();
        IdleBody {
            body,
            idle: Duration::from_millis(idle.load(Relaxed)),
            end: now.checked_add(Duration::from_millis(total.load(Relaxed))),
            until: None,
            timer: None,
            over: false,
        }
    }
}

impl Default for IdleLayer {
    fn default() -> Self {
        IdleLayer::new()
    }
}

impl fmt::Debug for IdleLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdleLayer").field(&self.0.idle()).finish()
    }
}

/// The live side of [`IdleLayer`]; changes hold for bodies that begin from now on.
#[derive(Clone)]
pub struct IdleHandle(Arc<Limits>);

struct Limits {
    idle: AtomicU64,
    total: AtomicU64,
}

impl IdleHandle {
    /// How long a body may pause.
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.0.idle.load(Relaxed))
    }

    /// Changes how long a body may pause, in whole milliseconds, at least one.
    pub fn set_idle(&self, idle: Duration) {
        self.0.idle.store(millis(idle).max(1), Relaxed);
    }

    /// Changes how long a whole body may take, in whole milliseconds.
    pub fn set_total(&self, total: Duration) {
        self.0.total.store(millis(total), Relaxed);
    }
}

impl fmt::Debug for IdleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdleHandle").field(&self.idle()).finish()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<S> Layer<S> for IdleLayer {
    type Service = Idle<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Idle { inner, layer: self.clone() }
    }
}

/// The service that [`IdleLayer`] makes.
#[derive(Clone, Debug)]
pub struct Idle<S> {
    inner: S,
    layer: IdleLayer,
}

impl<S, Req, B> Service<Req> for Idle<S>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: Into<BoxError> + 'static,
{
    type Response = Response<IdleBody<B>>;
    type Error = Error;
    type Future = Idling<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        Idling { future: self.inner.call(request), layer: self.layer.clone() }
    }
}

pin_project! {
    /// The future of [`Idle`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Idling<F> {
        #[pin]
        future: F,
        layer: IdleLayer,
    }
}

impl<F, B, E> Future for Idling<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError> + 'static,
{
    type Output = Result<Response<IdleBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx)).map_err(|error| Error::adopt(error, Kind::Failed));
        Poll::Ready(result.map(|response| response.map(|body| this.layer.bound(body))))
    }
}

impl<F> fmt::Debug for Idling<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idling").field("layer", &self.layer).finish_non_exhaustive()
    }
}

pin_project! {
    /// A body whose pauses are bounded; see [`IdleLayer`].
    pub struct IdleBody<B> {
        #[pin]
        body: B,
        idle: Duration,
        end: Option<Instant>,
        // when the frame that is waited for must be there
        until: Option<Instant>,
        // boxed, and only where it has to wait, so that a body that can be moved still can
        timer: Option<Pin<Box<Timer>>>,
        over: bool,
    }
}

impl<B> Body for IdleBody<B>
where
    B: Body,
    B::Error: Into<BoxError> + 'static,
{
    type Data = B::Data;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            *this.until = None;
            *this.over = frame.is_none();
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::adopt(error, Kind::Failed))));
        }
        let (idle, end) = (*this.idle, *this.end);
        let until = *this.until.get_or_insert_with(|| {
            let pause = super::deadline::until(time::now(), idle, None);
            end.map_or(pause, |end| end.min(pause))
        });
        ready!(this.timer.get_or_insert_default().as_mut().poll_until(until, cx));
        *this.over = true;
        let what = if end == Some(until) { "the body took too long" } else { "the body has stalled" };
        Poll::Ready(Some(Err(Error::new(Kind::Timeout, what))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.over { SizeHint::with_exact(0) } else { self.body.size_hint() }
    }
}

impl<B> fmt::Debug for IdleBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleBody").field("idle", &self.idle).field("over", &self.over).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tower::{ServiceExt, service_fn};

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers with a body whose frames come after these pauses, in seconds.
    async fn response(
        layer: &IdleLayer,
        pauses: &'static [u32],
    ) -> IdleBody<impl Body<Data = Bytes, Error = Error> + Unpin> {
        let frames = move |()| async move {
            let frames = stream::unfold(0, move |at| async move {
                time::sleep(*pauses.get(at)? * SECOND).await;
                Some((Ok::<_, Error>(Frame::data(Bytes::from_static(b"."))), at + 1))
            });
            Ok::<_, Error>(Response::new(StreamBody::new(Box::pin(frames))))
        };
        layer.layer(service_fn(frames)).oneshot(()).await.unwrap().into_body()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_goes_on_as_long_as_it_moves_and_ends_when_it_stalls() {
        let layer = IdleLayer::new().idle(3 * SECOND);
        let body = response(&layer, &[2, 2, 2, 2]).await;
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 4);

        let (mut body, start) = (response(&layer, &[2, 4, 1]).await, time::now());
        assert!(body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.is_timeout() && error.message().contains("stalled"), "{error}");
        assert_eq!(start.elapsed(), 5 * SECOND);
        assert!(body.is_end_stream() && body.frame().await.is_none(), "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_body_is_bounded_where_that_is_asked_for() {
        let layer = IdleLayer::new().idle(3 * SECOND).total(5 * SECOND);
        let (mut body, start) = (response(&layer, &[2, 2, 2]).await, time::now());
        assert!(body.frame().await.unwrap().is_ok() && body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.is_timeout() && error.message().contains("too long"), "{error}");
        assert_eq!(start.elapsed(), 5 * SECOND);
        layer.handle().set_total(Duration::MAX);
        assert_eq!(response(&layer, &[2, 2, 2]).await.collect().await.unwrap().to_bytes().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_slow_itself_does_not_make_the_body_late() {
        let layer = IdleLayer::new().idle(SECOND);
        let mut body = response(&layer, &[0, 0]).await;
        for _ in 0..2 {
            time::sleep(10 * SECOND).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }
}
