//! The mapping as a layer: one request, one request to the application, one answer.

use super::{
    mapping::{Decision, Table},
    route::{Row, edit},
};
use crate::{
    base::{BoxError, Error, Kind, Result},
    http::{Body, text},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RANGE, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use http_body::Body as HttpBody;
use std::{
    fmt, mem,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Maps requests and answers of any HTTP service, by a [`Mapping`](super::Mapping).
///
/// ```
/// use seedpod::{adapter::api::{Edits, Mapping, Route}, http::{Body, text}};
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let application = service_fn(|request: Request<Body>| async move {
///     Ok::<Response<Body>, seedpod::Error>(text(200, format!("{} {}", request.method(), request.uri())))
/// });
/// let layer = Mapping::new().route(Route::new("GET", "/v2/orders/{id}").to("GET", "/order.cgi?no={id}")).layer()?;
/// let answer = layer.layer(application).oneshot(Request::get("/v2/orders/7?x=1").body(Body::empty())?).await?;
/// assert_eq!(answer.into_body().text().await?, "GET /order.cgi?no=7&x=1");
/// # seedpod::Result::<()>::Ok(()) }).unwrap();
/// ```
///
/// # Guarantees
/// - What a client puts into a path or a query stays there: a part that leads up (`..`, encoded too) is refused with 400, what
///   divides a query is encoded, and a parameter that a template sets is not set a second time.
/// - JSON bodies are read up to [`Body::LIMIT`] (more is 413, of the application 502) where there are edits for them; all others
///   are streams, and pass.
/// - It is ready when the service is, and calls the one that became ready.
///
/// # Not guaranteed
/// - Protocols that a connection is upgraded to pass as they are.
#[derive(Clone, Debug)]
pub struct MappingLayer {
    table: Table,
}

impl MappingLayer {
    pub(super) fn new(table: Table) -> Self {
        MappingLayer { table }
    }
}

impl<S> Layer<S> for MappingLayer {
    type Service = MappingService<S>;

    fn layer(&self, inner: S) -> MappingService<S> {
        MappingService { table: self.table.clone(), inner }
    }
}

/// A service behind a [`MappingLayer`].
#[derive(Clone)]
pub struct MappingService<S> {
    table: Table,
    inner: S,
}

impl<S> fmt::Debug for MappingService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappingService").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<Body>> for MappingService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.inner.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        let table = self.table.clone();
        Box::pin(async move { through(&table, inner, request).await })
    }
}

async fn through<S, B>(table: &Table, mut inner: S, mut request: Request<Body>) -> Result<Response<Body>>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError> + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (row, target) = match table.decide(request.method(), request.uri()) {
        Decision::Mapped(row, target) => (Some(row), target),
        Decision::Passed => (None, request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned()),
        Decision::NotFound => return Ok(text(404, "no such path\n")),
        Decision::Refused => return Ok(text(400, "the path leads up\n")),
        Decision::NotAllowed(methods) => {
            let mut answer = text(405, format!("{methods} alone\n"));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_str(&methods)?);
            return Ok(answer);
        }
    };
    // whom the client meant is not whom the application is
    *request.uri_mut() = Uri::from(target.parse::<PathAndQuery>()?);
    let Some(row) = row else {
        let answer = inner.call(request).await.map_err(|error| Error::adopt(error, Kind::Failed))?;
        return Ok(answer.map(Body::new));
    };
    let head = *request.method() == Method::HEAD;
    let request = match asked(row, request, head).await? {
        Ok(request) => request,
        Err(refusal) => return Ok(refusal),
    };
    let answer = inner.call(request).await.map_err(|error| Error::adopt(error, Kind::Failed))?;
    answered(row, answer.map(Body::new), head).await
}

/// The request as the application gets it, or why it does not.
async fn asked(row: &Row, mut request: Request<Body>, head: bool) -> Result<Result<Request<Body>, Response<Body>>> {
    if !head {
        *request.method_mut() = row.to_method.clone();
    }
    edit(request.headers_mut(), &row.request_headers);
    if !row.response.is_empty() || !row.failure.is_empty() {
        // what is compressed, or a part, cannot be edited
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request.headers_mut().remove(RANGE);
    }
    if row.request.is_empty() || request.body().is_end_stream() {
        return Ok(Ok(request));
    }
    if !is_json(request.headers()) || request.headers().contains_key(CONTENT_ENCODING) {
        return Ok(Err(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a body of JSON is needed here, not compressed\n")));
    }
    let (mut parts, body) = request.into_parts();
    let body = match body.bytes_within(Body::LIMIT).await {
        Ok(body) => body,
        Err(error) if error.kind() == Kind::Invalid => {
            return Ok(Err(text(StatusCode::PAYLOAD_TOO_LARGE, format!("{}\n", error.message()))));
        }
        Err(error) => return Err(error),
    };
    Ok(match row.request.apply(&body) {
        Ok(edited) => {
            framed(&mut parts.headers, &edited);
            Ok(Request::from_parts(parts, edited.into()))
        }
        Err(error) => Err(text(400, format!("{}\n", error.chain()))),
    })
}

/// The application's answer as the client gets it.
async fn answered(row: &Row, answer: Response<Body>, head: bool) -> Result<Response<Body>> {
    let (mut parts, body) = answer.into_parts();
    let edits = if parts.status.is_success() { &row.response } else { &row.failure };
    parts.status = row.status(parts.status);
    edit(&mut parts.headers, &row.response_headers);
    if edits.is_empty() || !is_json(&parts.headers) {
        return Ok(Response::from_parts(parts, body));
    }
    if head {
        parts.headers.remove(CONTENT_LENGTH); // that of what is not edited
        return Ok(Response::from_parts(parts, body));
    }
    if body.is_end_stream() {
        return Ok(Response::from_parts(parts, body));
    }
    let edited = match parts.headers.contains_key(CONTENT_ENCODING) {
        true => Err(Error::new(Kind::Invalid, "it is compressed, though it was asked not to be")),
        false => match body.bytes_within(Body::LIMIT).await {
            Ok(body) => edits.apply(&body),
            Err(error) => Err(error),
        },
    };
    Ok(match edited {
        Ok(edited) => {
            framed(&mut parts.headers, &edited);
            Response::from_parts(parts, edited.into())
        }
        Err(error) if error.kind() == Kind::Invalid => {
            tracing::warn!(error = error.chain(), "an answer of the application cannot be mapped");
            text(StatusCode::BAD_GATEWAY, "the application's answer cannot be mapped\n")
        }
        Err(error) => return Err(error),
    })
}

fn framed(headers: &mut HeaderMap, body: &str) {
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    // they are of the bytes that were
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}
