//! One call, from the choice of its endpoint to its outcome.

use crate::{
    base::{BoxError, Error, Kind},
    layer::{Classify, on_call::OnCall},
    serving::Lease,
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

pin_project! {
    /// The future of [`Replicas`](super::Replicas).
    #[must_use = "futures do nothing unless polled"]
    pub struct Calling<S: Service<Req>, Req, C> {
        pub(crate) lease: Lease,
        #[pin]
        pub(super) state: State<S, Req>,
        pub(super) classify: C,
    }
}

pin_project! {
    #[project = StateProjection]
    pub(super) enum State<S: Service<Req>, Req> {
        Found { #[pin] call: OnCall<S, Req> },
        Nobody { error: Error },
    }
}

impl<S, Req, C> Future for Calling<S, Req, C>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response>,
{
    type Output = Result<S::Response, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let call = match this.state.project() {
            StateProjection::Found { call } => call,
            StateProjection::Nobody { error } => return Poll::Ready(Err(error.clone())),
        };
        match ready!(call.poll(cx)) {
            Ok(response) => {
                this.lease.settle(this.classify.outcome(Ok(&response)));
                Poll::Ready(Ok(response))
            }
            Err(error) => Poll::Ready(Err(failed(this.lease, this.classify, error))),
        }
    }
}

#[cold]
fn failed<C: Classify<T>, T, E: Into<BoxError> + 'static>(lease: &mut Lease, classify: &C, error: E) -> Error {
    let mut error = Error::adopt(error, Kind::Failed).sent();
    if let Some(cell) = lease.cell() {
        error = error.at(cell.key().clone());
    }
    lease.settle(classify.outcome(Err(&error)));
    error
}

impl<S: Service<Req>, Req, C> fmt::Debug for Calling<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling").field("lease", &self.lease).finish_non_exhaustive()
    }
}
