//! The way from the clients to one server.

use crate::base::{
    BoxError, Error, Kind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use futures::{TryFutureExt, future::MapErr};
use std::task::{Context, Poll};
use tower::Service;

/// What a client's endpoints are: the server behind it, and a count of what was sent there, by all clients, whatever
/// became of it.
///
/// Of an error that comes back over it, kind, place, message and the time to come back are left, as of one that was
/// read from a socket. So what the server's side refuses was sent, and counts as such.
#[derive(Clone, Debug)]
pub struct Wire<T> {
    server: T,
    sent: Arc<AtomicU64>,
}

impl<T> Wire<T> {
    pub(super) fn new(server: T) -> Self {
        Wire { server, sent: Arc::default() }
    }

    /// How many calls were sent over it.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

impl<Req, T> Service<Req> for Wire<T>
where
    T: Service<Req>,
    T::Error: Into<BoxError> + 'static,
{
    type Response = T::Response;
    type Error = Error;
    type Future = MapErr<T::Future, fn(T::Error) -> Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.server.poll_ready(cx).map_err(received)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.sent.fetch_add(1, Relaxed);
        self.server.call(request).map_err(received as fn(T::Error) -> Error)
    }
}

fn received<E: Into<BoxError> + 'static>(error: E) -> Error {
    let told = Error::adopt(error, Kind::Failed);
    let mut error = Error::new(told.kind(), told.message().to_string());
    if let Some(place) = told.place() {
        error = error.at(place);
    }
    match told.retry_after() {
        Some(wait) => error.after(wait),
        None => error,
    }
}
