//! One attempt at a leaf: the first one where the leaf stands, a second one by itself.

use super::leaves::{Leaf, Who};
use crate::{
    base::{BoxError, Error, Kind, Outcome, Result},
    layer::on_call::OnCall,
    serving::Lease,
};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

pin_project! {
    /// A second attempt at a leaf, which counts it as loaded.
    pub(super) struct Call<S: Service<R>, R> {
        lease: Lease,
        #[pin]
        call: OnCall<S, R>,
    }
}

impl<S: Service<R>, R> Call<S, R> {
    /// Another attempt at this leaf, with this request; none where it cannot be asked.
    pub(super) fn again(leaf: &Leaf<S, R>, request: R) -> Option<Self>
    where
        S: Clone,
    {
        let lease = match &leaf.who {
            Who::Counted(count) => count.again(),
            Who::Named(_) => Lease::none(),
        };
        Some(Call { lease, call: OnCall::new(leaf.service.clone()?, request) })
    }

    /// Whether it has still to become ready for the call.
    pub(super) fn is_waiting(&self) -> bool {
        self.call.is_waiting()
    }
}

impl<S, R> Future for Call<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match ready!(this.call.poll(cx)) {
            Ok(response) => {
                this.lease.settle(Outcome::Success);
                Poll::Ready(Ok(response))
            }
            Err(error) => {
                let error = adopt(error);
                this.lease.settle(Outcome::of(&error));
                Poll::Ready(Err(error))
            }
        }
    }
}

/// Polls the first attempt at a leaf: makes its service ready, calls that, and waits for the answer.
#[inline(always)]
pub(super) fn first<S, R>(
    leaf: &mut Leaf<S, R>,
    mut slot: Pin<&mut Option<S::Future>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response>>
where
    S: Service<R>,
    S::Error: Into<BoxError> + 'static,
{
    if leaf.request.is_some()
        && let Some(service) = &mut leaf.service
    {
        if let Err(error) = ready!(service.poll_ready(cx)) {
            leaf.request = None;
            return Poll::Ready(Err(adopt(error)));
        }
        if let Some(request) = leaf.request.take() {
            slot.set(Some(service.call(request)));
        }
    }
    let Some(future) = slot.as_mut().as_pin_mut() else { return known(leaf) };
    let result = ready!(future.poll(cx));
    slot.set(None);
    Poll::Ready(result.map_err(adopt))
}

/// Of a leaf that is not under way: it is over, or known not to answer.
#[cold]
fn known<S, R, T>(leaf: &mut Leaf<S, R>) -> Poll<Result<T>> {
    leaf.error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error.unsent())))
}

#[cold]
fn adopt<E: Into<BoxError> + 'static>(error: E) -> Error {
    Error::adopt(error, Kind::Failed)
}

/// Gives up the first attempt at a leaf.
pub(super) fn give_up<S: Service<R>, R>(leaf: &mut Leaf<S, R>, mut slot: Pin<&mut Option<S::Future>>) {
    slot.set(None);
    // a service that waits to become ready may hold a place in a line
    (leaf.service, leaf.request) = (None, None);
    leaf.drop_count();
}
