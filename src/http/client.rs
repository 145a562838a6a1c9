//! The client: a service over a host's network, with its own pool.

use super::{
    Body,
    pool::{Home, Limits, Pool, Pooled},
};
use crate::{
    base::{BoxError, Error, Kind, Result},
    net::Host,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// How often a request that was not sent at all is tried again on another connection under HTTP/2.
const RESENDS: usize = 3;

/// Sends HTTP requests over a host's network; cheap to clone, and clones share their connections.
///
/// A [`tower::Service`], always ready: what bounds it is the number of requests under way, and it waits for room inside
/// the call. Names resolve as the host resolves them; without a port it is 80.
///
/// ```no_run
/// use seedpod::http::Client;
/// # async fn example(host: seedpod::net::Host) -> seedpod::Result {
/// let client = Client::new(&host);
/// let page = client.get("http://frontend/").await?.into_body().text().await?;
/// let cart = Client::new(&host).base("http://cart:7070")?;
/// let answer = cart.post_json("/items", &["apple", "pear"]).await?;
/// assert_eq!(answer.status(), 201);
/// # Ok(()) }
/// ```
///
/// # Guarantees
///
/// - A request that was not sent, because the server had closed the idle connection, is sent again on another one. No
///   request is ever sent twice.
/// - A response read to its end gives its connection back; one dropped earlier closes it.
/// - Its order repeats: the connection given back last is used first, and one sweep closes those idle too long.
/// - Upgrades work as hyper has them: `hyper::upgrade::on(response)`.
///
/// # Defaults
///
/// | setting | default | from |
/// | --- | --- | --- |
/// | [`http2`](Client::http2) | off | |
/// | [`requests`](Client::requests) | 1,024 under way per target; further ones wait | Envoy's circuit breakers |
/// | [`idle`](Client::idle) | 32 connections per target, for 20 s | below the 30 s of the server, so that they do not race |
/// | [`connect_within`](Client::connect_within) | 5 s | Envoy's connect time-out |
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    base: Option<Arc<Base>>,
    http2: bool,
}

struct Base {
    authority: Authority,
    /// Put before each path; no slash at its end.
    prefix: String,
}

impl Client {
    /// A client on this host. Its connections belong to the host's scope.
    pub fn new(host: &Host) -> Self {
        let limits =
            Limits { idle_for: Duration::from_secs(20), idle: 32, requests: 1024, connect: Duration::from_secs(5) };
        Client { pool: Arc::new(Pool::new(host.clone(), limits)), base: None, http2: false }
    }

    fn limited(self, change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = self.pool.limits();
        change(&mut limits);
        Client { pool: Arc::new(Pool::new(self.pool.host().clone(), limits)), ..self }
    }

    /// Speaks HTTP/2 from the first byte (without TLS there is no asking): one connection per target, for all requests.
    #[must_use]
    pub fn http2(self) -> Self {
        Client { http2: true, ..self }
    }

    /// Takes requests without an authority as meant for this one, below its path.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is not `http://host` with an optional port and path.
    pub fn base(self, url: &str) -> Result<Self> {
        let parts = url.parse::<Uri>().map_err(|error| Error::from(error).at(url))?.into_parts();
        if parts.scheme.is_none() {
            return Err(Error::new(Kind::Invalid, "not http://host").at(url));
        }
        let authority = check(parts.scheme.as_ref(), parts.authority).map_err(|error| error.at(url))?;
        let prefix = parts.path_and_query.map_or_else(String::new, |path| path.path().trim_end_matches('/').to_owned());
        Ok(Client { base: Some(Arc::new(Base { authority, prefix })), ..self })
    }

    /// How many connections to each target are kept idle, and for how long. Makes a pool of its own.
    #[must_use]
    pub fn idle(self, connections: usize, idle_for: Duration) -> Self {
        self.limited(|limits| (limits.idle, limits.idle_for) = (connections, idle_for))
    }

    /// How many requests to each target are under way at once; further ones wait. Makes a pool of its own.
    #[must_use]
    pub fn requests(self, requests: usize) -> Self {
        self.limited(|limits| limits.requests = requests.clamp(1, tokio::sync::Semaphore::MAX_PERMITS))
    }

    /// How long a connect may take. Makes a pool of its own.
    #[must_use]
    pub fn connect_within(self, wait: Duration) -> Self {
        self.limited(|limits| limits.connect = wait)
    }

    /// Gets this address, or this path below the base.
    ///
    /// # Errors
    /// As [`request`](Client::request).
    pub async fn get(&self, url: &str) -> Result<Response<Body>> {
        self.request(build(Method::GET, url, Body::empty())?).await
    }

    /// Posts this to an address, or to a path below the base.
    ///
    /// # Errors
    /// As [`request`](Client::request).
    pub async fn post(&self, url: &str, body: impl Into<Body>) -> Result<Response<Body>> {
        self.request(build(Method::POST, url, body.into())?).await
    }

    /// Posts this as JSON to an address, or to a path below the base.
    ///
    /// # Errors
    /// As [`request`](Client::request); [`Kind::Invalid`] where it cannot be written as JSON.
    pub async fn post_json(&self, url: &str, value: &(impl serde::Serialize + ?Sized)) -> Result<Response<Body>> {
        let mut request = build(Method::POST, url, serde_json::to_vec(value)?.into())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.request(request).await
    }

    /// Sends a request. Any status is an answer: [`successful`](super::successful) tells them apart.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where nobody answers or the connection ends before its time; [`Kind::Timeout`] where the
    /// connect takes too long; [`Kind::Invalid`] for an address without a host; [`Kind::Unsupported`] for `https`; and
    /// what [`Host::connect`] says. The place is the target's address.
    ///
    /// **Cancel-safety**: dropped under way, it closes the connection (under HTTP/2 it resets the stream); the server
    /// may have acted.
    pub async fn request(&self, mut request: Request<Body>) -> Result<Response<Body>> {
        let authority = self.aim(&mut request)?;
        let target = self.pool.target(&authority);
        let sent = if self.http2 {
            self.send_http2(request, &target).await
        } else {
            self.send_http1(request, authority, &target).await
        };
        sent.map_err(|error| error.at(target.address()))
    }

    async fn send_http1(
        &self,
        mut request: Request<Body>,
        authority: Authority,
        target: &Arc<super::pool::Target>,
    ) -> Result<Response<Body>> {
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::try_from(authority.as_str())?);
        }
        let connects = *request.method() == Method::CONNECT;
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = if connects {
            authority.into()
        } else {
            request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into()
        };
        let permit = target.room().await?;
        loop {
            let (mut sender, reused) = self.pool.http1(target).await?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let status = response.status();
                    if status == StatusCode::SWITCHING_PROTOCOLS || connects && status.is_success() {
                        return Ok(response.map(Body::from)); // the connection is another protocol's now
                    }
                    let home = Home { pool: self.pool.clone(), target: target.clone(), sender: Some(sender), permit };
                    return Ok(response.map(|body| Body::pooled(Pooled::new(body, home))));
                }
                // the server had closed the idle connection before the request was on it
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
        }
    }

    async fn send_http2(
        &self,
        mut request: Request<Body>,
        target: &Arc<super::pool::Target>,
    ) -> Result<Response<Body>> {
        *request.version_mut() = Version::HTTP_2;
        let permit = target.room().await?;
        let mut tries = 0;
        loop {
            let mut sender = self.pool.http2(target).await?;
            tries += 1;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let home = Home { pool: self.pool.clone(), target: target.clone(), sender: None, permit };
                    return Ok(response.map(|body| Body::pooled(Pooled::new(body, home))));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if tries <= RESENDS => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
        }
    }

    /// Who the request is for; its address is absolute afterwards.
    fn aim(&self, request: &mut Request<Body>) -> Result<Authority> {
        let uri = request.uri();
        if uri.authority().is_some() {
            let authority = check(uri.scheme(), uri.authority().cloned());
            return authority.map_err(|error| error.at(uri.to_string()));
        }
        let Some(base) = &self.base else {
            return Err(Error::new(Kind::Invalid, "the address names no host").at(uri.to_string()));
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = if base.prefix.is_empty() { path.parse() } else { format!("{}{path}", base.prefix).parse() }?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(base.authority.clone());
        parts.path_and_query = Some(path);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| Error::from(http::Error::from(error)))?;
        Ok(base.authority.clone())
    }
}

/// An authority that can be spoken to without TLS, and without a password in it.
fn check(scheme: Option<&Scheme>, authority: Option<Authority>) -> Result<Authority> {
    let authority = authority.ok_or_else(|| Error::new(Kind::Invalid, "the address names no host"))?;
    if scheme.is_some_and(|scheme| *scheme != Scheme::HTTP) {
        return Err(Error::new(Kind::Unsupported, "only http:// is spoken here"));
    }
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(Error::new(Kind::Invalid, "the address must name a host, and no user"));
    }
    Ok(authority)
}

fn build(method: Method, url: &str, body: Body) -> Result<Request<Body>> {
    Request::builder().method(method).uri(url).body(body).map_err(|error| Error::from(error).at(url))
}

impl<B> tower::Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.request(request.map(Body::new)).await })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", self.pool.host())
            .field("base", &self.base.as_ref().map(|base| &base.authority))
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}
