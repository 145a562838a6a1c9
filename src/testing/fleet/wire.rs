//! The way from the clients to one server.

use crate::base::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::task::{Context, Poll};
use tower::Service;

/// What a client's endpoints are: the server behind it, and a count of what was sent there, by all clients, whatever
/// became of it.
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

impl<Req, T: Service<Req>> Service<Req> for Wire<T> {
    type Response = T::Response;
    type Error = T::Error;
    type Future = T::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.server.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.sent.fetch_add(1, Relaxed);
        self.server.call(request)
    }
}
