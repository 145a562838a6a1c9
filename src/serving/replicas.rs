//! Equal endpoints behind one service.

use super::{
    Among, Choice, Draw, Endpoints, Lease, LeastPending, Picker, Status,
    affinity::Told,
    eject::Explanation,
    snapshot::{Endpoint, Snapshot},
};
use crate::{
    base::{BoxError, Error, Kind},
    layer::{Classify, Standard, attempt, on_call::OnCall},
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

mod calling;
mod choosing;
mod picked;

pub use calling::Calling;
use calling::State;
use choosing::{choose, tried_out};
pub use picked::Picked;

/// Equal endpoints behind one service: every call goes to the less loaded of two drawn at random, or by another
/// [`Picker`].
///
/// Use it wherever several instances can answer the same request. The endpoints are services themselves, so patterns
/// nest: a replica may be another `Replicas`.
///
/// ```text
///              ┌─► cart-a   3 in flight
/// Replicas ─?──┤   cart-b                  two drawn, the less loaded one called
///              └─► cart-c   1 in flight ✓
/// ```
///
/// ```
/// use seedpod::{base::Error, serving::{Endpoints, Replicas}};
/// use tower::{Service, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let endpoints = Endpoints::named("greeter");
/// let mut replicas = Replicas::new(endpoints.clone());
/// let hello = |name: &'static str| async move { Ok::<_, Error>(format!("hello {name}")) };
/// endpoints.insert("a", service_fn(hello));
/// endpoints.insert("b", service_fn(hello)); // also while requests flow
/// assert_eq!(replicas.ready().await?.call("world").await?, "hello world");
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
///
/// Who fails too much is left out for a while, where the set is told to [eject](Endpoints::eject):
///
/// ```
/// use seedpod::{base::{Error, Kind, time}, serving::{Ejection, Endpoints, Replicas}};
/// use std::time::Duration;
/// use tower::{Service, util::BoxCloneService, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let ejection = Ejection::new().wait(Duration::from_secs(30)).jitter(0.0);
/// let mut replicas = Replicas::new(Endpoints::named("cart").eject(ejection)?);
/// let good = service_fn(|(): ()| async { Ok::<_, Error>("in stock") });
/// let bad = service_fn(|(): ()| async { Err::<&str, _>(Error::new(Kind::Failed, "no database")) });
/// replicas.endpoints().insert("cart-a", BoxCloneService::new(good));
/// replicas.endpoints().insert("cart-b", BoxCloneService::new(bad));
///
/// while replicas.explain().out.is_empty() {
///     let _ = replicas.call(()).await;
///     time::sleep(Duration::from_secs(1)).await;
/// }
/// assert_eq!(
///     replicas.explain().to_string(),
///     "1 of 2 out, 1 allowed\ncart-b: ejected since 1 s, 29 s to go: 5 failures in a row",
/// );
/// for _ in 0..1_000 {
///     assert_eq!(replicas.call(()).await?, "in stock");
/// }
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
///
/// **Guarantees**
/// - The load of an endpoint is what is in flight in it, over all handles; a call returns its load when it ends, fails
///   or is dropped.
/// - An endpoint that failed is second choice for a second, one that throttles for as long as it asks (300 s at most):
///   who fails fast never looks attractive. Where all failed, load decides.
/// - Each pick takes exactly one [`Outcome`](crate::base::Outcome), by the [classifier](Self::classify). A call that a
///   time-out in front ends, or the request's deadline, is a failure of its endpoint: one that hangs is second choice, and
///   ejected, as one that fails. A call that its caller drops says nothing ([`attempt::dropped`]).
/// - Of a request that [retry](crate::layer::Retry) or [hedge](crate::layer::Hedge) in front makes again, an attempt goes
///   to an endpoint that none went to before, while there is one that takes calls.
/// - Always ready: the pick is made in `call`, the endpoint is cloned once and made ready inside the call. Nothing is
///   allocated unless it fails.
///
/// **Not guaranteed**: that endpoints get equally many calls; back-pressure before the call (an endpoint that is not
/// ready makes its call wait); another try elsewhere (put [`Retry`](crate::layer::Retry) in front).
///
/// # Errors
/// [`Kind::Unavailable`] naming the set where it is empty, or where none in it takes calls: such a request
/// [was not sent](Error::is_unsent). Where some are ejected, it says [after how long](Error::retry_after) the first of
/// them is tried again. An endpoint's error carries its key, unless it names a place closer to the cause;
/// foreign errors become [`Kind::Failed`]. What an endpoint refuses was sent, even where the endpoint stands in this
/// process.
///
/// A handle is cheap to clone; one that is kept is faster, since it keeps the snapshot of the set that it saw last.
pub struct Replicas<S, C = Standard, P = LeastPending> {
    endpoints: Endpoints<S>,
    /// Filled by the second call: a handle that is cloned for one call takes what is there and goes.
    seen: Option<Arc<Snapshot<S>>>,
    /// None before the first call.
    pub(super) draw: Option<Draw>,
    classify: C,
    pub(super) picker: P,
}

impl<S> Replicas<S> {
    /// In front of this set, which goes on changing.
    pub fn new(endpoints: Endpoints<S>) -> Self {
        Replicas { endpoints, seen: None, draw: None, classify: Standard, picker: LeastPending }
    }

    /// In front of a set of its own, empty and of this name: fill it by [`endpoints`](Self::endpoints).
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Replicas::new(Endpoints::named(name))
    }
}

impl<S, C, P> Replicas<S, C, P> {
    /// Reads results by this classifier instead of by the error alone.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> Replicas<S, D, P> {
        Replicas { endpoints: self.endpoints, seen: self.seen, draw: self.draw, classify, picker: self.picker }
    }

    /// Chooses by this picker instead of by least load.
    ///
    /// ```
    /// use seedpod::serving::{Endpoints, Replicas, RoundRobin};
    ///
    /// let endpoints = Endpoints::named("cart");
    /// let mut replicas = Replicas::new(endpoints.clone()).pick_by(RoundRobin::new());
    /// # endpoints.insert("a", 'a');
    /// ```
    #[must_use]
    pub fn pick_by<Q>(self, picker: Q) -> Replicas<S, C, Q> {
        Replicas { endpoints: self.endpoints, seen: self.seen, draw: self.draw, classify: self.classify, picker }
    }

    /// The set behind it.
    pub fn endpoints(&self) -> &Endpoints<S> {
        &self.endpoints
    }

    /// Who is out at this moment, why, since when and until when: [`Endpoints::explain`].
    pub fn explain(&self) -> Explanation {
        self.endpoints.explain()
    }

    #[cold]
    fn refresh(&mut self) {
        self.seen = Some(self.endpoints.current_shared());
    }

    /// Of a fresh handle: takes what is there without keeping it.
    fn first<Req>(&mut self, request: Req) -> Calling<S, Req, C>
    where
        S: Service<Req> + Clone,
        C: Clone,
        P: Picker<Req>,
    {
        let draw = self.draw.insert(Draw::new(self.endpoints.rng()));
        let current = self.endpoints.current();
        match choose(&self.picker, &current, &request, draw) {
            Some((endpoint, choice)) if endpoint.cell.is_out() => {
                let chosen = tried_out(&self.picker, &current, &request, draw, choice);
                self.send_seldom(chosen, request)
            }
            chosen => self.send(chosen, request),
        }
    }

    #[inline(always)]
    fn send<Req>(&self, chosen: Option<(&Endpoint<S>, Choice)>, request: Req) -> Calling<S, Req, C>
    where
        S: Service<Req> + Clone,
        C: Clone,
    {
        match chosen {
            Some((endpoint, choice)) if choice.watch.is_probe() => {
                let lease = Lease::new(&endpoint.cell, choice.watch); // before foreign code runs, as in `pick_for`
                attempt::note_tried(endpoint.cell.key());
                let call = OnCall::new(endpoint.service.clone(), request);
                Calling { lease, state: State::Found { call }, classify: self.classify.clone() }
            }
            Some((endpoint, choice)) => {
                let counted = endpoint.cell.clone();
                attempt::note_tried(endpoint.cell.key());
                let call = OnCall::new(endpoint.service.clone(), request);
                let lease = Lease::of(counted, choice.watch); // made where it is to stay
                Calling { lease, state: State::Found { call }, classify: self.classify.clone() }
            }
            None => {
                let state = State::Nobody { error: self.nobody() };
                Calling { lease: Lease::none(), state, classify: self.classify.clone() }
            }
        }
    }

    #[cold]
    fn send_seldom<Req>(&self, chosen: Option<(&Endpoint<S>, Choice)>, request: Req) -> Calling<S, Req, C>
    where
        S: Service<Req> + Clone,
        C: Clone,
    {
        self.send(chosen, request)
    }

    /// An attempt beyond the first.
    #[cold]
    fn send_elsewhere<Req>(&mut self, request: Req) -> Calling<S, Req, C>
    where
        S: Service<Req> + Clone,
        C: Clone,
        P: Picker<Req>,
    {
        let (Some(seen), Some(draw)) = (&self.seen, &mut self.draw) else { return self.send(None, request) };
        match choose(&self.picker, seen, &request, draw) {
            Some((endpoint, choice)) if endpoint.cell.is_out() => {
                let chosen = tried_out(&self.picker, seen, &request, draw, choice);
                self.send_seldom(chosen, request)
            }
            chosen => self.send(chosen, request),
        }
    }

    /// Why no endpoint was chosen.
    #[cold]
    fn nobody(&self) -> Error {
        if let Some(Told::Refused(error)) = self.draw.as_ref().map(|draw| &draw.told) {
            return error.clone();
        }
        let all = self.endpoints.describe();
        if all.is_empty() {
            return Error::new(Kind::Unavailable, "it has no endpoints").at(self.endpoints.name_shared()).unsent();
        }
        let count = |status| all.iter().filter(|endpoint| endpoint.status == status).count();
        let (unready, ejected, draining) = (count(Status::Unready), count(Status::Ejected), count(Status::Draining));
        let message = format!(
            "none of its {} endpoints takes this call: {unready} not ready, {ejected} ejected, {draining} draining, {} \
             others",
            all.len(),
            all.len() - unready - ejected - draining
        );
        let error = Error::new(Kind::Unavailable, message).at(self.endpoints.name_shared()).unsent();
        match self.explain().next() {
            Some(wait) => error.after(wait),
            None => error,
        }
    }
}

impl<S, C: Clone, P: Clone> Clone for Replicas<S, C, P> {
    #[inline]
    fn clone(&self) -> Self {
        let (classify, picker) = (self.classify.clone(), self.picker.clone());
        Replicas { endpoints: self.endpoints.clone(), seen: None, draw: None, classify, picker }
    }
}

impl<S, C, P> fmt::Debug for Replicas<S, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replicas").field(&self.endpoints).finish()
    }
}

impl<S, Req, C, P> Service<Req> for Replicas<S, C, P>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    C: Classify<S::Response> + Clone,
    P: Picker<Req>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Calling<S, Req, C>;

    #[inline(always)]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        if self.draw.is_none() {
            return self.first(request);
        }
        if !self.seen.as_ref().is_some_and(|seen| self.endpoints.is_current(seen.version)) {
            self.refresh();
        }
        let (Some(seen), Some(draw)) = (&self.seen, &mut self.draw) else { return self.send(None, request) };
        if attempt::any_tried() {
            return self.send_elsewhere(request);
        }
        let among = Among::new(seen);
        let choice = self.picker.choose(&among, &request, draw);
        match choice.and_then(|choice| Some((seen.list.get(choice.place)?, choice))) {
            Some((endpoint, choice)) if endpoint.cell.is_out() => {
                let chosen = tried_out(&self.picker, seen, &request, draw, choice);
                self.send_seldom(chosen, request)
            }
            chosen => self.send(chosen, request),
        }
    }
}

#[cfg(test)]
mod tests;
