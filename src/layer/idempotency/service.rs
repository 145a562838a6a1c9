//! The call by its key: carried out, waited for, or given again.

use super::{IdempotencyKey, IdempotencyLayer, once::Once};
use crate::{
    base::{BoxError, Error, Kind, sync::Arc},
    layer::{Classify, Standard, flight::Waiter, on_call::OnCall},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

/// The service that [`IdempotencyLayer`] makes.
pub struct Idempotency<S, T, F, C = Standard> {
    inner: Arc<S>,
    layer: IdempotencyLayer<T, F, C>,
}

impl<S, T, F, C> Idempotency<S, T, F, C> {
    pub(super) fn new(inner: S, layer: IdempotencyLayer<T, F, C>) -> Self {
        Idempotency { inner: Arc::new(inner), layer }
    }
}

impl<S, T, F: Clone, C: Clone> Clone for Idempotency<S, T, F, C> {
    fn clone(&self) -> Self {
        Idempotency { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, T: 'static, F, C> fmt::Debug for Idempotency<S, T, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, Req, F, C> Service<Req> for Idempotency<S, S::Response, F, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    F: Fn(&Req) -> Option<IdempotencyKey>,
    C: Classify<S::Response> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Idempotent<S, Req, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let at = match (self.layer.key)(&request) {
            None => At::Alone { call: OnCall::new(S::clone(&self.inner), request) },
            Some(key) => {
                let (service, shared, classify) =
                    (self.inner.clone(), self.layer.shared.clone(), self.layer.classify.clone());
                At::Start { once: Some(Once { service, request, shared, key, classify }) }
            }
        };
        Idempotent { at }
    }
}

pin_project! {
    /// The future of [`Idempotency`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Idempotent<S, Req, C>
    where
        S: Service<Req>,
    {
        #[pin]
        at: At<S, Req, C>,
    }
}

pin_project! {
    #[project = AtProjection]
    enum At<S, Req, C>
    where
        S: Service<Req>,
    {
        Start { once: Option<Once<S, Req, S::Response, C>> },
        Alone { #[pin] call: OnCall<S, Req> },
        Waiting { waiter: Waiter<IdempotencyKey, Arc<S::Response>> },
    }
}

impl<S, Req, C> Future for Idempotent<S, Req, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    C: Classify<S::Response> + Send + 'static,
{
    type Output = Result<S::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let waiter = match this.at.as_mut().project() {
                AtProjection::Alone { call } => {
                    return call.poll(cx).map_err(|error| Error::adopt(error, Kind::Failed));
                }
                AtProjection::Waiting { waiter } => {
                    return Pin::new(waiter)
                        .poll(cx)
                        .map_ok(|answer| Arc::try_unwrap(answer).unwrap_or_else(|answer| S::Response::clone(&answer)));
                }
                AtProjection::Start { once } => {
                    let Some(once) = once.take() else { return Poll::Pending };
                    match once.join() {
                        Ok(waiter) => waiter,
                        Err(refused) => return Poll::Ready(Err(refused)),
                    }
                }
            };
            this.at.set(At::Waiting { waiter });
        }
    }
}
