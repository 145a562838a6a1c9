//! Whom a request goes to, and what each of them gets.

use super::super::{Endpoints, cell::state, load::Count, snapshot::Endpoint};
use crate::{
    base::{Error, Kind, Outcome, Result, sync::Lock},
    layer::Metadata,
};
use std::{fmt, sync::Arc};
use tower::Service;

/// One of those that a request goes to.
///
/// It stays where it is while the request is under way; only what its service makes of its request is pinned elsewhere.
#[derive(Debug)]
#[must_use]
pub struct Leaf<S, Req> {
    pub(super) who: Who,
    /// None where it is known not to answer.
    pub(super) service: Option<S>,
    /// Taken by the call.
    pub(super) request: Option<Req>,
    pub(super) error: Option<Error>,
}

/// What a leaf goes by.
pub(super) enum Who {
    /// A name of its own, counted nowhere any more.
    Named(Arc<str>),
    /// The endpoint in whose load it is counted.
    Counted(Count),
}

impl Who {
    #[inline(always)]
    fn name(&self) -> Option<&Arc<str>> {
        match self {
            Who::Named(name) => Some(name),
            Who::Counted(count) => Some(count.cell()?.key()),
        }
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

impl<S, Req> Leaf<S, Req> {
    /// A leaf of this name: the service, which need not be ready, and what it is asked.
    #[inline]
    pub fn new(name: impl Into<Arc<str>>, service: S, request: Req) -> Self {
        Leaf { who: Who::Named(name.into()), service: Some(service), request: Some(request), error: None }
    }

    /// A leaf that is known not to answer. It counts as one that failed.
    pub fn failed(name: impl Into<Arc<str>>, error: Error) -> Self {
        Leaf { who: Who::Named(name.into()), service: None, request: None, error: Some(error) }
    }

    /// The leaf's name.
    pub fn name(&self) -> &str {
        self.shared_name().map_or("", |name| name)
    }

    pub(in super::super) fn request_mut(&mut self) -> Option<&mut Req> {
        self.request.as_mut()
    }

    /// None once it has ended and nobody has [kept](Self::keep_name) the name.
    #[inline(always)]
    pub(super) fn shared_name(&self) -> Option<&Arc<str>> {
        self.who.name()
    }

    /// It has answered: its load is given back. `keeps_name`: it is known under its name from now on.
    #[inline(always)]
    pub(super) fn succeed(&mut self, keeps_name: bool) {
        if let Who::Counted(count) = &mut self.who {
            let name = if keeps_name { count.cell().map(|cell| cell.key().clone()) } else { None };
            count.succeed();
            if let Some(name) = name {
                self.who = Who::Named(name);
            }
        }
    }

    /// It has failed: its load is given back with this outcome, and it is known under its name.
    #[cold]
    pub(super) fn fail(&mut self, outcome: Outcome) {
        let name = self.shared_name().cloned();
        if let Who::Counted(count) = &mut self.who {
            count.settle(outcome);
        }
        if let Some(name) = name {
            self.who = Who::Named(name);
        }
    }

    /// Its load is given back, with what [the drop says](crate::layer::attempt::dropped).
    pub(super) fn drop_count(&mut self) {
        if let Some(name) = self.shared_name().cloned() {
            self.who = Who::Named(name);
        }
    }
}

impl<S: Clone, Req: Metadata> Leaf<S, Req> {
    /// A leaf that is an endpoint of a set, and counted there. One that is not ready has failed and is not asked.
    pub(in super::super) fn of(endpoint: &Endpoint<S>, ready: bool, request: &Req) -> Result<Self> {
        if !ready {
            return Ok(Leaf::unready(endpoint));
        }
        let leaf = Leaf::ready(endpoint, request);
        if leaf.request.is_some() { Ok(leaf) } else { Err(only_once()) }
    }

    /// It has no request where that cannot be made again.
    #[inline(always)]
    fn ready(endpoint: &Endpoint<S>, request: &Req) -> Self {
        Leaf {
            who: Who::Counted(Count::new(&endpoint.cell)),
            service: Some(endpoint.service.clone()),
            request: request.repeat(),
            error: None,
        }
    }

    #[cold]
    fn unready(endpoint: &Endpoint<S>) -> Self {
        Leaf::failed(endpoint.cell.key().clone(), Error::new(Kind::Unavailable, "it is not ready").unsent())
    }
}

#[cold]
fn only_once() -> Error {
    Error::new(Kind::Invalid, "scatter: this request cannot be sent to several").unsent()
}

/// Says for each request whom it goes to.
///
/// - an [`Endpoints`]: the same request, to every endpoint of the set
/// - [`Parts`]: parts of the request, to identical replicas
/// - a closure from the request to a list of leaves: whatever you like
///
/// ```
/// use seedpod::{base::Error, layer::Request, serving::{Leaf, Scatter}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let square = service_fn(|n: Request<u64>| async move { Ok::<_, Error>(n.message() * n.message()) });
/// let mut squares = Scatter::new(move |numbers: Request<Vec<u64>>| {
///     let leaf = |number: u64| Leaf::new(number.to_string(), square, Request::new(number));
///     Ok(numbers.into_message().into_iter().map(leaf).collect())
/// });
/// let answers = squares.call(Request::new(vec![2, 3, 4])).await?;
/// assert_eq!(answers.into_values().sum::<u64>(), 29);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub trait Leaves<Req> {
    /// What a leaf is. A clone of it makes the second attempt, where there is one.
    type Service: Service<Self::Request>;
    /// What a leaf is asked.
    type Request;

    /// The leaves of this request, in the order in which they are asked. One that cannot be asked is
    /// [among them](Leaf::failed) all the same, so that what is covered is exact.
    ///
    /// # Errors
    /// Where it cannot be said whom the request goes to: then it is answered with that.
    fn leaves(&mut self, request: Req) -> Result<Vec<Leaf<Self::Service, Self::Request>>>;
}

impl<F, Req, S, R> Leaves<Req> for F
where
    F: FnMut(Req) -> Result<Vec<Leaf<S, R>>>,
    S: Service<R>,
{
    type Service = S;
    type Request = R;

    fn leaves(&mut self, request: Req) -> Result<Vec<Leaf<S, R>>> {
        self(request)
    }
}

/// All that are in the set, but for those that drain: they are leaving. One that a probe finds not ready has failed and is
/// not asked. One that is ejected is asked all the same: nobody else has what it has.
impl<S, Req> Leaves<Req> for Endpoints<S>
where
    S: Service<Req> + Clone,
    Req: Metadata,
{
    type Service = S;
    type Request = Req;

    #[inline]
    fn leaves(&mut self, request: Req) -> Result<Vec<Leaf<S, Req>>> {
        let current = self.current();
        let mut leaves = Vec::with_capacity(current.list.len());
        let is_ready = |endpoint: &Endpoint<S>| endpoint.cell.state() & state::UNREADY == 0;
        if current.whole && current.list.iter().all(is_ready) {
            let mut sound = true;
            leaves.extend(current.list.iter().map(|endpoint| {
                let leaf = Leaf::ready(endpoint, &request);
                sound &= leaf.request.is_some();
                leaf
            }));
            if !sound {
                return Err(only_once());
            }
        } else {
            for (endpoint, about) in current.list.iter().zip(&current.about) {
                if about.draining || about.attributes.weight == 0 {
                    continue;
                }
                leaves.push(Leaf::of(endpoint, about.attributes.ready && is_ready(endpoint), &request)?);
            }
        }
        if leaves.is_empty() {
            return Err(Error::new(Kind::Unavailable, "it has no endpoints").at(self.name_shared()).unsent());
        }
        Ok(leaves)
    }
}

/// Parts of the work, for identical replicas: a function cuts the request, and each part goes to a clone of one service,
/// usually [`Replicas`](super::super::Replicas), which spreads them. The parts are named by their number.
///
/// ```
/// use seedpod::{base::Error, layer::Request, serving::{Parts, Replicas, Scatter}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let workers = Replicas::named("adders");
/// for name in ["a", "b", "c"] {
///     let add = |part: Request<Vec<u64>>| async move { Ok::<_, Error>(part.message().iter().sum::<u64>()) };
///     workers.endpoints().insert(name, service_fn(add));
/// }
/// let halves = |all: Request<Vec<u64>>| all.message().chunks(50).map(|part| Request::new(part.to_vec())).collect();
/// let mut sum = Scatter::new(Parts::new(workers, halves)).gather(|parts| parts.into_values().sum::<u64>());
/// assert_eq!(sum.call(Request::new((1..=100).collect())).await?.value, 5050);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Parts<S, F> {
    service: S,
    cut: F,
    /// The numbers that have been needed so far, as names: at most [`NAMES`].
    names: Arc<Lock<Vec<Arc<str>>>>,
}

/// How many names are kept; a request that is cut into more makes the rest for itself.
const NAMES: usize = 1_024;

impl<S, F> Parts<S, F> {
    /// Cuts requests like this, and sends the parts to clones of this service.
    pub fn new(service: S, cut: F) -> Self {
        Parts { service, cut, names: Arc::default() }
    }
}

impl<S, F> fmt::Debug for Parts<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts(..)")
    }
}

impl<S, F, Req, Part> Leaves<Req> for Parts<S, F>
where
    S: Service<Part> + Clone,
    F: FnMut(Req) -> Vec<Part>,
{
    type Service = S;
    type Request = Part;

    fn leaves(&mut self, request: Req) -> Result<Vec<Leaf<S, Part>>> {
        let parts = (self.cut)(request);
        if parts.is_empty() {
            return Err(Error::new(Kind::Invalid, "scatter: the request was cut into no parts").unsent());
        }
        let mut names = self.names.lock();
        while names.len() < parts.len().min(NAMES) {
            let number = names.len();
            names.push(format!("part {number}").into());
        }
        let leaf = |(number, part): (usize, Part)| {
            let name = names.get(number).cloned().unwrap_or_else(|| format!("part {number}").into());
            Leaf::new(name, self.service.clone(), part)
        };
        Ok(parts.into_iter().enumerate().map(leaf).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Request;
    use std::convert::Infallible;
    use tower::service_fn;

    #[test]
    fn of_the_names_of_parts_only_so_many_are_kept() {
        let serve = service_fn(|part: Request<usize>| async move { Ok::<_, Infallible>(part.into_message()) });
        let mut parts = Parts::new(serve, |count: Request<usize>| (0..*count.message()).map(Request::new).collect());
        for count in [3, 5_000, 2] {
            let leaves = parts.leaves(Request::new(count)).unwrap();
            let last = leaves.last().map(|leaf| leaf.name().to_owned());
            assert_eq!((leaves.len(), last), (count, Some(format!("part {}", count - 1))));
        }
        assert_eq!(parts.names.lock().len(), NAMES);
    }
}
