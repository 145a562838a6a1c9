//! The call: whom it goes to and until when, and its future.

use super::{
    Scatter,
    answers::Tally,
    asking::Asking,
    gather::Gather,
    leaves::{Leaf, Leaves},
    settings::Plan,
    sink::{End, Sink},
};
use crate::{
    base::{
        BoxError, Deadline, Error, Kind, Result,
        time::{self, Instant},
    },
    layer::Metadata,
};
use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;

/// The leaves of this request, and until when they may answer; `deep`: an answer may stand for several.
#[inline]
pub(super) fn leaves_of<L, Req>(
    leaves: &mut L,
    plan: &Plan,
    mut request: Req,
    deep: bool,
) -> Result<(Vec<Leaf<L::Service, L::Request>>, Option<Instant>)>
where
    Req: Metadata,
    L: Leaves<Req>,
{
    let carried = request.deadline().map(Deadline::instant);
    let mut until = carried;
    if let Some(within) = plan.within {
        let ours = time::after(time::now(), within);
        let sooner = carried.map_or(ours, |carried| carried.min(ours));
        request.set_deadline(Deadline::at(sooner));
        until = Some(sooner);
    }
    if carried.is_some_and(|carried| Deadline::at(carried).is_over()) {
        return Err(Error::new(Kind::Timeout, "the deadline has passed").unsent());
    }
    let leaves = leaves.leaves(request)?;
    if leaves.is_empty() {
        return Err(Error::new(Kind::Unavailable, "scatter: there are no leaves").unsent());
    }
    let (count, needed) = (leaves.len(), plan.require.needs(leaves.len()));
    if needed > count && !deep {
        let message = format!("scatter: {needed} leaves were needed, and there are {count}");
        return Err(Error::new(Kind::Invalid, message).unsent());
    }
    Ok((leaves, until))
}

impl<L, G, Req> Service<Req> for Scatter<L, G>
where
    Req: Metadata,
    L: Leaves<Req>,
    L::Service: Clone,
    <L::Service as Service<L::Request>>::Error: Into<BoxError> + 'static,
    L::Request: Metadata,
    G: Gather<<L::Service as Service<L::Request>>::Response> + Clone,
{
    type Response = G::Output;
    type Error = Error;
    type Future = Scattering<L::Service, L::Request, G>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let plan = self.handle.plan(&mut self.seen);
        let (gather, state) = (self.gather.clone(), Some(self.gather.begin()));
        // each is made where it is to stay
        match leaves_of(&mut self.leaves, plan, request, G::DEEP) {
            Ok((leaves, until)) => {
                Scattering { asking: Some(Asking::new(leaves, plan, until, G::KEEPS)), refused: None, gather, state }
            }
            Err(error) => Scattering { asking: None, refused: Some(error), gather, state },
        }
    }
}

/// The future of [`Scatter`].
#[must_use = "futures do nothing unless polled"]
pub struct Scattering<S: Service<R>, R, G: Gather<S::Response>> {
    asking: Option<Asking<S, R, G::Kept>>,
    refused: Option<Error>,
    gather: G,
    state: Option<G::State>,
}

/// What is pinned is in boxes of its own.
impl<S: Service<R>, R, G: Gather<S::Response>> Unpin for Scattering<S, R, G> {}

/// Hands what comes to the gather.
struct Gathering<'a, T, G: Gather<T>> {
    gather: &'a G,
    state: &'a mut G::State,
}

impl<T, G: Gather<T>> Sink<T> for Gathering<'_, T, G> {
    type Kept = G::Kept;

    const DEEP: bool = G::DEEP;
    const KEEPS: bool = G::KEEPS;

    #[inline(always)]
    fn answered(&mut self, name: &Arc<str>, answer: T) -> (Tally, ControlFlow<G::Kept, G::Kept>) {
        (self.gather.tally(&answer), self.gather.take(self.state, name, answer))
    }

    fn failed(&mut self, _: &Arc<str>, error: &Error) -> Tally {
        self.gather.lost(error)
    }
}

impl<S, R, G> Future for Scattering<S, R, G>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
    G: Gather<S::Response>,
{
    type Output = Result<G::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (Some(asking), Some(state)) = (this.asking.as_mut(), this.state.as_mut()) else {
            return this.refused.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
        };
        let mut gathering = Gathering { gather: &this.gather, state };
        let end = ready!(asking.poll(cx, &mut gathering));
        let answers = asking.close::<Gathering<'_, S::Response, G>>(end);
        let result = match (end, this.state.take()) {
            (End::Done, Some(state)) => Ok(this.gather.finish(state, answers)),
            (end, _) => Err(asking.error::<Gathering<'_, S::Response, G>>(end, &answers)),
        };
        this.asking = None;
        Poll::Ready(result)
    }
}

impl<S: Service<R>, R, G: Gather<S::Response>> fmt::Debug for Scattering<S, R, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scattering").field("over", &self.asking.is_none()).finish_non_exhaustive()
    }
}
