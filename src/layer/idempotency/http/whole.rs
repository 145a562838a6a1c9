//! The service with whole bodies: what it answers is read, up to a bound, as it is to be kept.

use super::KeptAnswer;
use crate::{
    base::{BoxError, Error, Kind, Result, sync::Arc},
    layer::{
        cache::http::{Read, copied, read},
        on_call::OnCall,
    },
};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use std::{
    marker::PhantomData,
    task::{Context, Poll},
};
use tower::Service;

pub(super) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const TOO_LONG: &str = "{\"title\":\"carried out, but the answer is too long to be kept\",\"status\":502}";

/// The service with whole bodies.
pub(super) struct Whole<S, Req> {
    inner: Arc<S>,
    most: usize,
    request: PhantomData<fn() -> Req>,
}

impl<S, Req> Whole<S, Req> {
    pub(super) fn new(inner: Arc<S>, most: usize) -> Self {
        Whole { inner, most, request: PhantomData }
    }
}

impl<S, Req> Clone for Whole<S, Req> {
    fn clone(&self) -> Self {
        Whole { inner: self.inner.clone(), most: self.most, request: PhantomData }
    }
}

impl<S, Req, B> Service<Request<Bytes>> for Whole<S, Req>
where
    S: Service<Request<Req>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: From<Bytes> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
{
    type Response = KeptAnswer;
    type Error = Error;
    type Future = BoxFuture<'static, Result<KeptAnswer>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (call, most) = (OnCall::new(S::clone(&self.inner), request.map(Req::from)), self.most);
        Box::pin(async move {
            let (parts, body) = call.await.map_err(adopt)?.into_parts();
            let Read::Whole(bytes, trailers) = read(body, most).await? else {
                let mut answer = KeptAnswer::new(StatusCode::BAD_GATEWAY, HeaderMap::new(), TOO_LONG.into());
                answer.headers.insert(CONTENT_TYPE, PROBLEM);
                answer.lasts = true;
                return Ok(answer);
            };
            // what came from a connection would hold the buffer that it was read into
            let (headers, trailers) = (copied(&parts.headers), trailers.as_ref().map(copied));
            let body = Bytes::copy_from_slice(&bytes);
            Ok(KeptAnswer { status: parts.status, headers, body, trailers, lasts: false })
        })
    }
}

pub(super) fn adopt<E: Into<BoxError> + 'static>(error: E) -> Error {
    Error::adopt(error, Kind::Failed)
}
