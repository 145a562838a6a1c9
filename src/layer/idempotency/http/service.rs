//! The call by the header: a key that is read, a body that is read whole, and refusals that are answered.

use super::{
    HttpIdempotencyLayer, HttpSuccess, KeptAnswer,
    key::{content, is_meant, name, owned},
    whole::{PROBLEM, Whole, adopt},
};
use crate::{
    base::{BoxError, Error, Result, sync::Arc},
    layer::{
        Classify, KeptBody,
        cache::http::{Read, address, read},
        idempotency::{IdempotencyKey, Refused},
        on_call::OnCall,
    },
};
use ::http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use std::{
    fmt,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// The service that [`HttpIdempotencyLayer`] makes.
pub struct HttpIdempotency<S, C = HttpSuccess> {
    inner: Arc<S>,
    layer: HttpIdempotencyLayer<C>,
}

impl<S, C> HttpIdempotency<S, C> {
    pub(super) fn new(inner: S, layer: HttpIdempotencyLayer<C>) -> Self {
        HttpIdempotency { inner: Arc::new(inner), layer }
    }
}

impl<S, C: Clone> Clone for HttpIdempotency<S, C> {
    fn clone(&self) -> Self {
        HttpIdempotency { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, C: fmt::Debug> fmt::Debug for HttpIdempotency<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpIdempotency").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, Req, B, C> Service<Request<Req>> for HttpIdempotency<S, C>
where
    S: Service<Request<Req>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Body<Data = Bytes> + From<Bytes> + Send + 'static,
    Req::Error: Into<BoxError> + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
    C: Classify<KeptAnswer> + Clone + Send + Sync + 'static,
{
    type Response = Response<KeptBody<B>>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<KeptBody<B>>>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            let name = match name(&request) {
                Ok(None) if !layer.required || !is_meant(request.method()) => {
                    let response = OnCall::new(S::clone(&inner), request).await;
                    return response.map(|response| response.map(KeptBody::passing)).map_err(adopt);
                }
                Ok(Some(name)) => name,
                Ok(None) => return Ok(problem(StatusCode::BAD_REQUEST, "an Idempotency-Key is required")),
                Err(what) => return Ok(problem(StatusCode::BAD_REQUEST, what)),
            };
            let address = address(&request);
            let (mut head, body) = request.into_parts();
            let Read::Whole(body, _) = read(body, layer.body).await? else {
                return Ok(problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long for an Idempotency-Key"));
            };
            let name = owned(name, &(layer.owner)(&head));
            head.extensions.insert(IdempotencyKey::new(name).of(&content(address.as_deref(), &head, &body)[..]));
            let whole = Whole::new(inner, layer.body);
            match OnCall::new(layer.core.layer(whole), Request::from_parts(head, body)).await {
                Ok(answer) => Ok(given(answer)),
                Err(error) => match error.downcast_ref::<Refused>() {
                    Some(Refused::Reused) => {
                        Ok(problem(StatusCode::UNPROCESSABLE_ENTITY, "the key stands for another request"))
                    }
                    Some(Refused::UnderWay) => {
                        let mut response = problem(StatusCode::CONFLICT, "the first request is under way");
                        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                        Ok(response)
                    }
                    None => Err(error),
                },
            }
        })
    }
}

fn problem<B: Body<Data = Bytes>>(status: StatusCode, title: &'static str) -> Response<KeptBody<B>> {
    let body = format!("{{\"title\":\"{title}\",\"status\":{}}}", status.as_u16());
    let mut response = Response::new(KeptBody::kept(body.into(), None));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PROBLEM);
    response
}

fn given<B: Body<Data = Bytes>>(answer: KeptAnswer) -> Response<KeptBody<B>> {
    let mut response = Response::new(KeptBody::kept(answer.body, answer.trailers));
    (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
    response
}
