//! Endpoints of different types in one set.

use crate::{
    base::{BoxError, Error, Kind},
    layer::on_call::OnCall,
};
use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// A service whose type is gone: only request and response are left, so that endpoints of any kind fit in one set.
///
/// Cloning is one count and calling one box (tower's boxed services take a box for both). Always ready: the service is
/// made ready inside the call.
///
/// ```
/// use seedpod::{base::Error, serving::{Endpoints, Erased, Replicas}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut replicas = Replicas::named("sums");
/// replicas.endpoints().insert("one", Erased::new(service_fn(|n: u32| async move { Ok::<_, Error>(n + 1) })));
/// replicas.endpoints().insert("two", Erased::new(Replicas::<Erased<u32, u32>>::named("nested")));
/// replicas.endpoints().remove("two");
/// assert_eq!(replicas.call(1).await?, 2);
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
pub struct Erased<Req, Res>(Arc<dyn Dispatch<Req, Res>>);

trait Dispatch<Req, Res>: Send + Sync {
    fn dispatch(&self, request: Req) -> BoxFuture<'static, Result<Res, Error>>;
}

impl<Req, Res> Erased<Req, Res> {
    /// This service, its type erased. Its errors become ours, as [`Kind::Failed`] where they are foreign.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Req, Response = Res> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send,
        Req: Send + 'static,
    {
        Erased(Arc::new(Typed(service)))
    }
}

struct Typed<S>(S);

impl<S, Req, Res> Dispatch<Req, Res> for Typed<S>
where
    S: Service<Req, Response = Res> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
{
    fn dispatch(&self, request: Req) -> BoxFuture<'static, Result<Res, Error>> {
        Box::pin(Adopted { call: OnCall::new(self.0.clone(), request) })
    }
}

pin_project! {
    struct Adopted<S: Service<Req>, Req> {
        #[pin]
        call: OnCall<S, Req>,
    }
}

impl<S, Req> Future for Adopted<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }
}

impl<Req, Res> Clone for Erased<Req, Res> {
    #[inline]
    fn clone(&self) -> Self {
        Erased(self.0.clone())
    }
}

impl<Req, Res> Service<Req> for Erased<Req, Res> {
    type Response = Res;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Res, Error>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        self.0.dispatch(request)
    }
}

impl<Req, Res> fmt::Debug for Erased<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Erased(..)")
    }
}
