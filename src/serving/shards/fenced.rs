//! A fence in front of a service.

use super::{Fence, Pass, Route};
use crate::base::{BoxError, Error, Kind};
use pin_project_lite::pin_project;
use smallvec::SmallVec;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::{Layer, Service};

/// Puts a [`Fence`] in front of a shard's service: what the shard does not own is refused by [`Moved`](super::Moved), before
/// the service sees it.
///
/// A request is inside from its call until its answer. One that has [several keys](Route::each_key) is let in for all of
/// them or none. Routes that carry the [version](Route::version) of the router's map are also refused where the fence knows
/// only an older one.
///
/// Readiness passes through. **Cancel-safety**: dropping a call leaves the fence.
///
/// ```
/// use seedpod::{Error, layer::Request, serving::{By, Fence, FenceLayer, ShardMap, ShardMaps}};
/// use tower::{Layer, Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let maps = ShardMaps::new(ShardMap::planned(["s0", "s1"]).build()?);
/// let route = By::new(|request: &Request<String>| request.message());
/// let serve = service_fn(|request: Request<String>| async move { Ok::<_, Error>(request.into_message()) });
/// let mut s0 = FenceLayer::new(Fence::new("s0", maps.clone()), route).layer(serve);
/// let mut s1 = FenceLayer::new(Fence::new("s1", maps), route).layer(serve);
/// let answers = [s0.call(Request::new("ann".into())).await, s1.call(Request::new("ann".into())).await];
/// assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FenceLayer<R> {
    fence: Fence,
    route: R,
}

impl<R> FenceLayer<R> {
    /// This fence, for requests of this route: the router's own.
    pub fn new(fence: Fence, route: R) -> Self {
        FenceLayer { fence, route }
    }
}

impl<S, R: Clone> Layer<S> for FenceLayer<R> {
    type Service = Fenced<S, R>;

    fn layer(&self, inner: S) -> Fenced<S, R> {
        Fenced { inner, fence: self.fence.clone(), route: self.route.clone() }
    }
}

/// The service of [`FenceLayer`].
#[derive(Clone, Debug)]
pub struct Fenced<S, R> {
    inner: S,
    fence: Fence,
    route: R,
}

impl<S, Req, R> Service<Req> for Fenced<S, R>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    R: Route<Req>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Passing<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let version = self.route.version(&request);
        let (mut passes, mut moved) = (SmallVec::new(), None);
        self.route.each_key(&request, |key| {
            if moved.is_none() {
                match self.fence.enter(key, version) {
                    Ok(pass) => passes.push(pass),
                    Err(refused) => moved = Some(refused),
                }
            }
        });
        match moved {
            Some(moved) => Passing::Refused { error: Error::from(moved) },
            None => Passing::Inside { passes, future: self.inner.call(request) },
        }
    }
}

pin_project! {
    /// The future of [`Fenced`].
    #[project = PassingProjection]
    #[must_use = "futures do nothing unless polled"]
    pub enum Passing<F> {
        #[doc(hidden)]
        Inside { #[pin] future: F, passes: SmallVec<[Pass; 1]> },
        #[doc(hidden)]
        Refused { error: Error },
    }
}

impl<F, T, E> Future for Passing<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError> + 'static,
{
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            PassingProjection::Inside { future, passes } => {
                let result = ready!(future.poll(cx));
                passes.clear();
                Poll::Ready(result.map_err(|error| Error::adopt(error, Kind::Failed)))
            }
            PassingProjection::Refused { error } => Poll::Ready(Err(error.clone())),
        }
    }
}

impl<F> fmt::Debug for Passing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passing")
    }
}
