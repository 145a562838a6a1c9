//! A service that cannot be cloned, behind a lock: what one writes to do without tower's buffer.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tower::Service;

/// Clones share the service. It is locked while a call is made, not while it is answered.
pub(crate) struct Locked<S>(Arc<Mutex<S>>);

impl<S> Locked<S> {
    pub(crate) fn new(service: S) -> Self {
        Locked(Arc::new(Mutex::new(service)))
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Locked<S> {
    fn clone(&self) -> Self {
        Locked(self.0.clone())
    }
}

impl<S: Service<Req, Future: Unpin>, Req: Unpin> Service<Req> for Locked<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Locking<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(())) // what one handle makes ready another may use: that is done with the call
    }

    fn call(&mut self, request: Req) -> Self::Future {
        Locking { service: self.clone(), request: Some(request), future: None }
    }
}

pub(crate) struct Locking<S: Service<Req>, Req> {
    service: Locked<S>,
    request: Option<Req>,
    future: Option<S::Future>,
}

impl<S: Service<Req, Future: Unpin>, Req: Unpin> Future for Locking<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.request.is_some() {
            let mut service = this.service.lock();
            ready!(service.poll_ready(cx))?;
            this.future = this.request.take().map(|request| service.call(request));
        }
        match &mut this.future {
            Some(future) => Pin::new(future).poll(cx),
            None => Poll::Pending,
        }
    }
}
