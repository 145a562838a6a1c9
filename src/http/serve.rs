//! The server: any tower HTTP service on a listener.

use super::{
    Body,
    date::DateHeader,
    handler::{Activity, Handler, Peer},
};
use crate::{
    base::{BoxError, Error, Kind, Result, time},
    net::{Connection, Listener, Scope},
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    fmt,
    future::{Future, IntoFuture, Pending, pending},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a connection may have nothing under way: hyper's time for headers, which is also its time for idle ones.
const IDLE: Duration = Duration::from_secs(30);
/// How long a connection that is closed for being idle may take over its last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves any tower HTTP service on a listener: axum and tonic routers are ones, and so is a
/// [`Client`](super::Client).
///
/// HTTP/1.1 with upgrades, and HTTP/2 (by its preface, without TLS), on the same port. Connections and streams are tasks
/// of the listener's scope, and die with it.
///
/// ```
/// use seedpod::{http, net::{HostOptions, Net}};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let net = Net::memory().build();
/// let server = net.host(HostOptions { name: "server".into(), ..Default::default() })?;
/// let listener = server.listen(80).await?;
/// let hello = tower::service_fn(|_: ::http::Request<http::Body>| async { Ok::<_, seedpod::Error>(http::text(200, "hello")) });
/// server.scope().spawn(http::serve(listener, hello).into_future());
///
/// let client = http::Client::new(&net.host(HostOptions::default())?);
/// assert_eq!(client.get("http://server/").await?.into_body().text().await?, "hello");
/// # use std::future::IntoFuture;
/// # seedpod::Result::<()>::Ok(()) }).unwrap();
/// ```
///
/// # Guarantees
///
/// - A service that fails answers with 500 (503 where overloaded or unavailable, 504 where timed out), and is traced.
///   One that panics ends its connection alone.
/// - `Date` comes from the network's wall clock, so that paused time repeats byte for byte.
/// - Bounded: at most 16,384 connections at once (further ones wait in the backlog), 200 streams on each, 100 headers,
///   400 KiB of them under HTTP/1.1 and 16 KiB under HTTP/2 (hyper's figures). A connection on which nothing is under
///   way for 30 s, be it idle or slow with its headers, is closed, at the latest after twice that time.
pub fn serve<S>(listener: Listener, service: S) -> Serve<S> {
    Serve { listener, service, until: pending(), connections: 16_384 }
}

/// What [`serve`] is about to do; it begins when awaited.
#[must_use = "nothing is served until it is awaited"]
pub struct Serve<S, U = Pending<()>> {
    listener: Listener,
    service: S,
    until: U,
    connections: usize,
}

impl<S, U> Serve<S, U> {
    /// Ends gracefully when this future does: accepts nothing more but what waits already, lets what is under way come
    /// to its end, closes what is idle, and returns. How long that may take is up to the caller, who can kill the scope.
    pub fn until<V: Future>(self, until: V) -> Serve<S, V> {
        let Serve { listener, service, connections, .. } = self;
        Serve { listener, service, until, connections }
    }

    /// How many connections are served at once; further ones wait in the backlog, and are refused when that is full.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }
}

impl<S, U> fmt::Debug for Serve<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<S, B, U> IntoFuture for Serve<S, U>
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    U: Future,
{
    type Output = Result;
    type IntoFuture = Serving<U>;

    fn into_future(self) -> Serving<U> {
        let stop = CancellationToken::new();
        let run = Box::pin(run(self.listener, self.service, self.connections, stop.clone()));
        Serving { until: self.until, stop, run }
    }
}

pin_project! {
    /// A server that runs.
    ///
    /// # Errors
    /// Ends with [`Kind::Closed`] once its scope was killed.
    ///
    /// **Cancel-safety**: dropping it stops accepting; open connections stay until they end or their scope is killed.
    #[must_use = "nothing is served until it is awaited"]
    pub struct Serving<U> {
        #[pin]
        until: U,
        stop: CancellationToken,
        run: BoxFuture<'static, Result>,
    }
}

impl<U: Future> Future for Serving<U> {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result> {
        let this = self.project();
        if !this.stop.is_cancelled() && this.until.poll(cx).is_ready() {
            this.stop.cancel();
        }
        this.run.as_mut().poll(cx)
    }
}

impl<U> fmt::Debug for Serving<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("stopping", &self.stop.is_cancelled()).finish_non_exhaustive()
    }
}

async fn run<S, B>(mut listener: Listener, service: S, connections: usize, stop: CancellationToken) -> Result
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let scope = listener.scope().clone();
    let date = Arc::new(DateHeader::new(listener.host().net().wall_clock()));
    let builder = builder(scope.clone());
    let (open, room) = (TaskTracker::new(), Arc::new(Semaphore::new(connections)));
    let begin = {
        let (scope, open, stop) = (scope.clone(), open.clone(), stop.clone());
        // all by value: a service need not be `Sync`
        move |permit, connection| {
            let activity = Arc::<Activity>::default();
            let peer = Peer::of(&connection);
            let handler = Handler::new(service.clone(), date.clone(), activity.clone(), peer);
            let (builder, stop) = (builder.clone(), stop.clone());
            scope.spawn(open.track_future(async move {
                let _permit: OwnedSemaphorePermit = permit;
                let serving = builder.serve_connection_with_upgrades(TokioIo::new(connection), handler);
                attend(pin!(serving), &stop, activity).await;
            }));
        }
    };
    loop {
        let next = async {
            // a semaphore that nobody closes always gives
            let permit = room.clone().acquire_owned().await.map_err(|_| Error::from(Kind::Closed))?;
            Ok::<_, Error>((permit, listener.accept().await?))
        };
        let (permit, connection) = select! { biased; () = stop.cancelled() => break, next = next => next? };
        begin(permit, connection);
    }
    // what had come before the end is under way as well: closing the port now would reset it
    while let Ok(permit) = room.clone().try_acquire_owned()
        && let Some(Ok(connection)) = listener.accept().now_or_never()
    {
        begin(permit, connection);
    }
    drop(listener);
    open.close();
    open.wait().await;
    Ok(())
}

/// Serves one connection to its end: until it ends, or is to drain, or nothing has been under way for too long.
async fn attend<S, B>(
    mut serving: Pin<&mut auto::UpgradeableConnection<'_, TokioIo<Connection>, S, Scope>>,
    stop: &CancellationToken,
    activity: Arc<Activity>,
) where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // a request that is there already is under way, even where the end came before its connection's first turn
    if let Some(ended) = serving.as_mut().now_or_never() {
        return note(ended);
    }
    let ended = select! {
        biased;
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = activity.idle(IDLE) => {
            serving.as_mut().graceful_shutdown();
            select! { biased; () = time::sleep(FAREWELL) => return, ended = serving => ended }
        }
        ended = &mut serving => ended,
    };
    note(ended);
}

fn note(ended: Result<(), BoxError>) {
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "a connection failed"); // its peer's doing, most often: not ours to fail
    }
}

fn builder(scope: Scope) -> auto::Builder<Scope> {
    let mut builder = auto::Builder::new(scope);
    // `Date` and idle time are our own: see `date.rs` and `handler.rs`
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).auto_date_header(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(200)
        .max_local_error_reset_streams(1024)
        .enable_connect_protocol();
    builder
}

impl<F> hyper::rt::Executor<F> for Scope
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.spawn(future));
    }
}
