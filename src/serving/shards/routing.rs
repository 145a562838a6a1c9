//! The future of a request to its shard.

use super::super::Lease;
use super::{
    Moved, Route, bounded,
    core::{Core, astray},
    view::View,
};
use crate::{
    base::{BoxError, Error, Kind, Outcome, time::Instant},
    layer::{Classify, Metadata, attempt, on_call::OnCall},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;

pin_project! {
    /// The future of [`Shards`](super::Shards).
    #[must_use = "futures do nothing unless polled"]
    pub struct Routing<S: Service<Req>, Req, R, C> {
        lease: Lease,
        loaded: Option<bounded::Place>,
        #[pin]
        state: State<S, Req>,
        // the request once more, where it can be repeated: a fence may refuse it.
        spare: Option<Req>,
        // of the map that it was sent under
        version: u64,
        refusals: u32,
        until: Option<Instant>,
        core: Arc<Core<S, R, C>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<Req>, Req> {
        Found { #[pin] call: OnCall<S, Req> },
        Nobody { error: Error },
        Waiting { wait: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> },
    }
}

impl<S, Req, R, C> Routing<S, Req, R, C>
where
    S: Service<Req> + Clone,
    Req: Metadata,
    R: Route<Req>,
{
    /// Sends it to its shard under this view.
    #[inline(always)]
    pub(super) fn new(core: &Arc<Core<S, R, C>>, view: &View<S>, mut request: Req) -> Self {
        core.route.stamp(&mut request, view.map.version());
        let spare = request.repeat();
        let (lease, loaded, state) = send(core, view, request);
        let version = view.map.version();
        Routing { lease, loaded, state, spare, version, refusals: 0, until: None, core: core.clone() }
    }
}

#[inline(always)]
fn send<S, Req, R, C>(
    core: &Core<S, R, C>,
    view: &View<S>,
    request: Req,
) -> (Lease, Option<bounded::Place>, State<S, Req>)
where
    S: Service<Req> + Clone,
    R: Route<Req>,
{
    let place = core.route.with_key(&request, |key| view.map.locate(key));
    core.count(&view.map, place);
    match view.choose(place, || core.endpoints.rng()) {
        Ok(chosen) => {
            let lease = Lease::new(&chosen.endpoint.cell, chosen.watch);
            attempt::note_tried(chosen.endpoint.cell.key());
            (lease, chosen.loaded, State::Found { call: OnCall::new(chosen.endpoint.service.clone(), request) })
        }
        Err(error) => (Lease::none(), None, State::Nobody { error }),
    }
}

impl<S, Req, R, C> Future for Routing<S, Req, R, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    Req: Metadata,
    R: Route<Req> + Send + Sync + 'static,
    C: Classify<S::Response> + Send + Sync + 'static,
{
    type Output = Result<S::Response, Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let this = self.as_mut().project();
            match this.state.project() {
                StateProjection::Found { call } => match ready!(call.poll(cx)) {
                    Ok(response) => {
                        this.lease.settle(this.core.classify.outcome(Ok(&response)));
                        *this.loaded = None;
                        return Poll::Ready(Ok(response));
                    }
                    Err(error) => {
                        if let Err(error) = self.as_mut().refused(error) {
                            return Poll::Ready(Err(error));
                        }
                    }
                },
                StateProjection::Nobody { error } => return Poll::Ready(Err(error.clone())),
                StateProjection::Waiting { wait } => match ready!(wait.as_mut().poll(cx)) {
                    Ok(()) => self.as_mut().again(),
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }
}

impl<S, Req, R, C> Routing<S, Req, R, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    Req: Metadata,
    R: Route<Req> + Send + Sync + 'static,
    C: Classify<S::Response> + Send + Sync + 'static,
{
    /// What to do about an error: wait, where a fence has refused the request and it can be sent again.
    #[cold]
    fn refused(self: Pin<&mut Self>, error: S::Error) -> Result<(), Error> {
        let mut this = self.project();
        let mut error = Error::adopt(error, Kind::Failed).sent();
        if let Some(cell) = this.lease.cell() {
            error = error.at(cell.key().clone());
        }
        *this.loaded = None;
        let moved = Moved::of(&error);
        if let (Some(_), Some(cell)) = (moved, this.lease.cell()) {
            // it is the key's owner or says who is: the attempt that follows must not pass it by
            attempt::forget_tried(cell.key());
        }
        let (Some(moved), Some(spare)) = (moved, &this.spare) else {
            this.lease.settle(this.core.classify.outcome(Err(&error)));
            return Err(error);
        };
        this.lease.settle(Outcome::Ignored);
        if moved.is_decided() && moved.version() == *this.version {
            let map = this.core.maps.current();
            return Err(this.core.route.with_key(spare, |key| astray(&map, key, moved, &error)));
        }
        let until = *this.until.get_or_insert_with(|| this.core.patience(spare.deadline()));
        let (core, version, tries) = (this.core.clone(), *this.version, *this.refusals);
        *this.refusals += 1;
        let place = error.place().map(Arc::<str>::from);
        let wait = Box::pin(async move {
            let waited = core.wait(moved, version, tries, until).await;
            waited.map_err(|late| match place {
                Some(place) => late.at(place),
                None => late,
            })
        });
        this.state.set(State::Waiting { wait });
        Ok(())
    }

    /// Sends it once more, under the map of now.
    #[cold]
    fn again(self: Pin<&mut Self>) {
        let mut this = self.project();
        let view = this.core.view();
        let Some(mut request) = this.spare.as_ref().and_then(Metadata::repeat) else {
            let error = Error::new(Kind::Conflict, "the key has moved, and the request cannot be sent again");
            this.state.set(State::Nobody { error });
            return;
        };
        this.core.route.stamp(&mut request, view.map.version());
        *this.version = view.map.version();
        let (lease, loaded, state) = send(this.core, &view, request);
        let _ = mem::replace(this.lease, lease);
        *this.loaded = loaded;
        this.state.set(state);
    }
}

impl<S: Service<Req>, Req, R, C> fmt::Debug for Routing<S, Req, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routing").field("lease", &self.lease).field("map", &self.version).finish_non_exhaustive()
    }
}
