//! A tower service as hyper calls it, and what of it is under way on a connection.

use super::{Body, date::DateHeader, error};
use crate::{
    base::{BoxError, Error, Kind, Result, time},
    net::Connection,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::util::{Oneshot, ServiceExt};

/// Who is at the other end of a request's connection: every request that [`serve`](super::serve) hands on carries it
/// among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end's address.
    pub address: SocketAddr,
    /// This end's address.
    pub local: SocketAddr,
    /// The destination that was meant, where an interception brought the connection here.
    pub original: Option<SocketAddr>,
}

impl Peer {
    pub(super) fn of(connection: &Connection) -> Self {
        Peer {
            address: connection.peer_addr(),
            local: connection.local_addr(),
            original: connection.original_destination(),
        }
    }
}

/// What is under way on one connection. Counting costs no timer and no clock per request, as hyper's time-outs would.
#[derive(Default)]
pub(super) struct Activity {
    /// Beginnings and ends.
    changes: AtomicU64,
    under_way: AtomicUsize,
}

impl Activity {
    /// Ends once nothing has been under way for this long, at the latest after twice as long.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let before = self.changes.load(Relaxed);
            time::sleep(limit).await;
            if self.under_way.load(Relaxed) == 0 && self.changes.load(Relaxed) == before {
                return;
            }
        }
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        self.changes.fetch_add(1, Relaxed);
        self.under_way.fetch_add(1, Relaxed);
        UnderWay(self.clone())
    }
}

/// A request under way, until its response is over.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
        self.0.changes.fetch_add(1, Relaxed);
    }
}

/// A tower service as hyper calls it: it never fails.
#[derive(Clone)]
pub(super) struct Handler<S> {
    service: S,
    date: Arc<DateHeader>,
    activity: Arc<Activity>,
    peer: Peer,
}

impl<S> Handler<S> {
    pub(super) fn new(service: S, date: Arc<DateHeader>, activity: Arc<Activity>, peer: Peer) -> Self {
        Handler { service, date, activity, peer }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Handler<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError> + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Handling<S>;

    fn call(&self, request: Request<Incoming>) -> Handling<S> {
        let mut request = request.map(Body::from);
        request.extensions_mut().insert(self.peer);
        Handling {
            answer: self.service.clone().oneshot(request),
            date: self.date.clone(),
            under_way: Some(self.activity.begin()),
        }
    }
}

pin_project! {
    pub(super) struct Handling<S>
    where
        S: tower::Service<Request<Body>>,
    {
        #[pin]
        answer: Oneshot<S, Request<Body>>,
        date: Arc<DateHeader>,
        under_way: Option<UnderWay>,
    }
}

impl<S, B> Future for Handling<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError> + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match ready!(this.answer.poll(cx)) {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                let error = Error::adopt(error, Kind::Failed);
                tracing::warn!(error = error.chain(), "a service failed, its caller is told the status alone");
                error::answer(&error)
            }
        };
        this.date.stamp(response.headers_mut());
        let under_way = this.under_way.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, _under_way: under_way })))
    }
}

/// The body of a response: its request is under way as long as it lives.
pub(super) struct Answer {
    body: Body,
    _under_way: Option<UnderWay>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
