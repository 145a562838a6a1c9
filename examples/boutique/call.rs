//! How one service calls another: JSON over HTTP to its name, within the request's deadline, again where that may help.
//!
//! What came in with a request goes out with every call made for it: its deadline, which shrinks from hop to hop, and
//! its idempotency key, which stays the same over all attempts and hops.

use super::refusal;
use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use seedpod::{
    Error, Result,
    base::{Backoff, Deadline, Seed},
    http::{Body, Client},
    layer::{DeadlineLayer, HttpStatus, Metadata, RetryLayer, http::IDEMPOTENCY_KEY},
    pod::Context,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, time::Duration};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

/// How much time is left for a request, in milliseconds: the deadline on the wire, where clocks may differ.
pub(crate) const TIME_LEFT: HeaderName = HeaderName::from_static("x-time-left-ms");

/// An HTTP client with a deadline and retries. Bodies are whole, so that a request can be sent again.
pub(crate) type Stack = BoxCloneSyncService<Request<Bytes>, Response<Bytes>, Error>;

/// Puts deadline and retries on a client.
///
/// The deadline of a request that has none yet is `patience`. A retry waits longer from attempt to attempt, so that even
/// a service whose pods are all being replaced is met again before the deadline.
pub(crate) fn stack(client: Client, seed: Seed, patience: Duration, attempts: u32) -> Stack {
    let attempt = tower::service_fn(move |request: Request<Bytes>| {
        let client = client.clone();
        async move {
            let response = client.request(on_the_wire(request)).await?;
            let (parts, body) = response.into_parts();
            Ok::<_, Error>(Response::from_parts(parts, body.bytes().await?))
        }
    });
    let retry = RetryLayer::new()
        .attempts(attempts)
        .backoff(Backoff::new(Duration::from_millis(20), Duration::from_millis(400)))
        .classify(HttpStatus)
        .seed(seed);
    BoxCloneSyncService::new(ServiceBuilder::new().layer(DeadlineLayer::new(patience)).layer(retry).service(attempt))
}

fn on_the_wire(mut request: Request<Bytes>) -> Request<Body> {
    if let Some(deadline) = request.deadline() {
        let left = HeaderValue::from(deadline.remaining().as_millis() as u64);
        request.headers_mut().insert(TIME_LEFT, left);
    }
    request.map(Body::from)
}

/// The other services, as seen from one request.
#[derive(Clone)]
pub(crate) struct Caller {
    stack: Stack,
    deadline: Option<Deadline>,
    key: Option<String>,
}

impl Caller {
    /// The other services, as seen from a container: no request yet.
    pub(crate) fn new(context: &Context) -> Self {
        let stack = stack(context.http(), context.seed().fork("calls"), Duration::from_secs(2), 4);
        Caller { stack, deadline: None, key: None }
    }

    /// The other services, as seen from outside of all pods.
    pub(crate) fn outside(client: Client) -> Self {
        let stack = stack(client, Seed::ambient(), Duration::from_secs(10), 8);
        Caller { stack, deadline: None, key: None }
    }

    /// The same, on behalf of a request with this idempotency key.
    pub(crate) fn keyed(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The idempotency key of the request on whose behalf calls are made.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, url: impl AsRef<str>) -> Result<T> {
        self.call(Method::GET, url.as_ref(), Bytes::new()).await
    }

    pub(crate) async fn delete(&self, url: impl AsRef<str>) -> Result {
        self.call(Method::DELETE, url.as_ref(), Bytes::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, url: impl AsRef<str>, body: &impl Serialize) -> Result<T> {
        self.call(Method::POST, url.as_ref(), serde_json::to_vec(body)?.into()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, url: &str, body: Bytes) -> Result<T> {
        let mut request = Request::builder().method(method).uri(url).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let mut request = request.body(body)?;
        if let Some(deadline) = self.deadline {
            request.set_deadline(deadline);
        }
        let response = self.stack.clone().oneshot(request).await.map_err(|error| error.at(url))?;
        if !response.status().is_success() {
            let said = String::from_utf8_lossy(response.body()).into_owned();
            return Err(Error::new(refusal::kind(response.status()), said).at(url));
        }
        serde_json::from_slice(response.body()).map_err(|error| Error::from(error).at(url))
    }
}

/// A handler that takes a `Caller` gets one that acts on behalf of its request.
impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Caller: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let time_left = header(TIME_LEFT.as_str()).and_then(|text| text.parse().ok());
        Ok(Caller {
            stack: Caller::from_ref(state).stack,
            deadline: time_left.map(|millis| Deadline::within(Duration::from_millis(millis))),
            key: header(IDEMPOTENCY_KEY).map(str::to_string),
        })
    }
}
