//! The `Idempotency-Key` header: a POST that is sent again gets the first answer.

use super::{IdempotencyHandle, IdempotencyKey, IdempotencyLayer, IdempotencyStore, Refused};
use crate::base::{BoxError, Error, Kind, Outcome, Result, sync::Arc};
use crate::layer::{
    Classify, KeptBody,
    cache::http::{Read, address, copied, read},
    http::IDEMPOTENCY_KEY,
    on_call::OnCall,
};
use ::http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, RETRY_AFTER},
    request::Parts,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use sha2::{Digest, Sha256};
use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

/// How long a key may be.
const LENGTH: usize = 255;
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const TOO_LONG: &str = "{\"title\":\"carried out, but the answer is too long to be kept\",\"status\":502}";

/// An answer as it is kept: whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptAnswer {
    /// What became of the request.
    pub status: StatusCode,
    /// The head.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
    /// Stands for an answer that was too long to be kept: kept whatever the classifier says.
    pub lasts: bool,
}

impl KeptAnswer {
    /// An answer without trailers, read back from where it was kept.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        KeptAnswer { status, headers, body, trailers: None, lasts: false }
    }

    fn weight(&self) -> usize {
        let head = self.headers.iter().chain(self.trailers.iter().flatten());
        size_of::<Self>()
            + self.body.len()
            + head.map(|(name, value)| name.as_str().len() + value.len() + 64).sum::<usize>()
    }
}

/// Reads HTTP answers as the first of their key: below 400 is a success and kept; all else may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpSuccess;

impl Classify<KeptAnswer> for HttpSuccess {
    fn outcome(&self, result: Result<&KeptAnswer, &Error>) -> Outcome {
        match result {
            Err(error) => Outcome::of(error),
            Ok(answer) if answer.status.as_u16() < 400 => Outcome::Success,
            Ok(_) => Outcome::Failure,
        }
    }
}

/// Keeps what lasts, and for the rest asks the classifier.
#[derive(Clone, Copy, Debug)]
struct Lasting<C>(C);

impl<C: Classify<KeptAnswer>> Classify<KeptAnswer> for Lasting<C> {
    fn outcome(&self, result: Result<&KeptAnswer, &Error>) -> Outcome {
        match result {
            Ok(answer) if answer.lasts => Outcome::Success,
            result => self.0.outcome(result),
        }
    }
}

type Core<C> = IdempotencyLayer<KeptAnswer, fn(&Request<Bytes>) -> Option<IdempotencyKey>, Lasting<C>>;

/// [`IdempotencyLayer`] for HTTP services, by the header `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header).
///
/// POST and PATCH with the header are carried out once, and their answers kept; other requests pass. A key stands for the
/// method, the address with its host, and the body, and belongs to who sent it. The key goes on with the request.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`required`](Self::required) | no: without a key it passes | |
/// | [`owner`](Self::owner) | `Authorization` and `Cookie`, as they are: another of either is another user | |
/// | [`body`](Self::body) | 1 MiB of a request, and of an answer | |
/// | [`window`](Self::window), [`store`](Self::store), [`carry_on`](Self::carry_on) | as those of [`IdempotencyLayer`] | |
/// | answers kept | below 400 ([`HttpSuccess`]) | |
///
/// **Guarantees**: as those of [`IdempotencyLayer`]. An answer that is longer than what is kept is replaced by a 502, for all
/// and for the window, so that what it tells of is not done twice.
///
/// **Not guaranteed**: that a repeated request is recognised where its credentials are not those of the first: signed anew,
/// a token that was refreshed, a cookie that was set meanwhile. There, say with [`owner`](Self::owner) who sends it.
///
/// # Errors
/// Answered: 422 where the key stands for another request, 409 with `Retry-After` where another process is at it, 400 for a
/// key that is missing, doubled, empty or longer than 255 characters, 413 for a body that is too long; as
/// `application/problem+json`. Errors of the service pass.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use seedpod::{Error, layer::HttpIdempotencyLayer};
/// use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
/// use tower::{Layer, Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// static ORDERS: AtomicU32 = AtomicU32::new(0);
/// let order = service_fn(|_: Request<Full<Bytes>>| async {
///     let order = format!("order {}", ORDERS.fetch_add(1, SeqCst));
///     Response::builder().status(201).body(Full::<Bytes>::from(order)).map_err(Error::from)
/// });
/// let mut service = HttpIdempotencyLayer::new().layer(order);
/// let post = |body| Request::post("/orders").header("idempotency-key", "\"7\"").body(Full::<Bytes>::from(body)).unwrap();
/// assert_eq!(service.call(post("apple")).await?.status(), 201);
/// assert_eq!(service.call(post("apple")).await?.status(), 201);
/// assert_eq!(service.call(post("pear")).await?.status(), 422);
/// assert_eq!(ORDERS.load(SeqCst), 1);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct HttpIdempotencyLayer<C = HttpSuccess> {
    core: Core<C>,
    owner: Owner,
    required: bool,
    body: usize,
}

/// Who sends a request.
type Owner = Arc<dyn Fn(&Parts) -> Vec<u8> + Send + Sync>;

impl<C> fmt::Debug for HttpIdempotencyLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("HttpIdempotencyLayer");
        all.field("core", &self.core)
            .field("required", &self.required)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl HttpIdempotencyLayer {
    /// By the header, where it is there.
    pub fn new() -> Self {
        let key: fn(&Request<Bytes>) -> Option<IdempotencyKey> = |request| request.extensions().get().cloned();
        let memory = super::IdempotencyMemory::new().weigh(KeptAnswer::weight);
        let core = IdempotencyLayer::by(key).store(memory).classify(Lasting(HttpSuccess));
        HttpIdempotencyLayer { core, owner: Arc::new(credentials), required: false, body: 1 << 20 }
    }
}

impl Default for HttpIdempotencyLayer {
    fn default() -> Self {
        HttpIdempotencyLayer::new()
    }
}

impl<C> HttpIdempotencyLayer<C> {
    /// Refuses POST and PATCH without a key.
    #[must_use]
    pub fn required(self) -> Self {
        HttpIdempotencyLayer { required: true, ..self }
    }

    /// To whom a key belongs, in place of `Authorization` and `Cookie`: whatever names the user in the head of the request,
    /// the same in every attempt. Requests of which it is empty share their keys. Only its digest is kept.
    ///
    /// ```
    /// use http::request::Parts;
    /// use seedpod::layer::HttpIdempotencyLayer;
    /// let user = |head: &Parts| head.headers.get("x-user").map(|user| user.as_bytes().to_vec()).unwrap_or_default();
    /// let layer = HttpIdempotencyLayer::new().owner(user);
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn owner<O: Into<Vec<u8>>>(self, owner: impl Fn(&Parts) -> O + Send + Sync + 'static) -> Self {
        HttpIdempotencyLayer { owner: Arc::new(move |head| owner(head).into()), ..self }
    }

    /// How many bytes of a request's body, and of an answer's, are read.
    #[must_use]
    pub fn body(self, most: usize) -> Self {
        HttpIdempotencyLayer { body: most, ..self }
    }

    /// How long an answer is kept.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        self.core.handle().set_window(window);
        self
    }

    /// Carries a call on when all who waited for it have left.
    #[must_use]
    pub fn carry_on(self) -> Self {
        HttpIdempotencyLayer { core: self.core.carry_on(), ..self }
    }

    /// Keeps answers there.
    #[must_use]
    pub fn store(self, store: impl IdempotencyStore<KeptAnswer>) -> Self {
        HttpIdempotencyLayer { core: self.core.store(store), ..self }
    }

    /// Reads answers: only a success is kept.
    #[must_use]
    pub fn classify<D: Classify<KeptAnswer>>(self, classify: D) -> HttpIdempotencyLayer<D> {
        let HttpIdempotencyLayer { core, owner, required, body } = self;
        HttpIdempotencyLayer { core: core.classify(Lasting(classify)), owner, required, body }
    }

    /// Reads and changes this layer and all that it made.
    pub fn handle(&self) -> IdempotencyHandle<KeptAnswer> {
        self.core.handle()
    }
}

impl<S, C: Clone> Layer<S> for HttpIdempotencyLayer<C> {
    type Service = HttpIdempotency<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpIdempotency { inner: Arc::new(inner), layer: self.clone() }
    }
}

/// The service that [`HttpIdempotencyLayer`] makes.
pub struct HttpIdempotency<S, C = HttpSuccess> {
    inner: Arc<S>,
    layer: HttpIdempotencyLayer<C>,
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
            let whole = Whole { inner, most: layer.body, request: PhantomData };
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

fn adopt<E: Into<BoxError> + 'static>(error: E) -> Error {
    Error::adopt(error, Kind::Failed)
}

fn is_meant(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PATCH)
}

/// What the header says, where it is meant: a string in quotes, as structured fields have it, or as it is.
fn name<B>(request: &Request<B>) -> Result<Option<String>, &'static str> {
    if !is_meant(request.method()) {
        return Ok(None);
    }
    let mut keys = request.headers().get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("there are two Idempotency-Keys"),
        (Some(key), None) => {
            let key = key.to_str().map_err(|_| "an Idempotency-Key is printable ASCII")?.trim();
            let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
            if key.is_empty() || key.len() > LENGTH {
                return Err("an Idempotency-Key has 1 to 255 characters");
            }
            Ok(Some(key.to_owned()))
        }
    }
}

/// What a request brings to say who sends it.
fn credentials(head: &Parts) -> Vec<u8> {
    let mut all = Vec::new();
    for name in [AUTHORIZATION, COOKIE] {
        for value in head.headers.get_all(&name) {
            all.extend_from_slice(name.as_str().as_bytes());
            all.extend_from_slice(value.as_bytes());
            all.push(b'\n'); // which no value contains
        }
    }
    all
}

/// Another user's key is another key: told apart by a digest, so that no secret is kept, which ends every name, so that
/// none can be chosen that is another's.
fn owned(mut name: String, owner: &[u8]) -> String {
    name.push(' ');
    name.extend(Sha256::digest(owner).iter().map(|byte| format!("{byte:02x}")));
    name
}

/// What the key stands for; an address that names two hosts counts as it is written.
fn content(address: Option<&str>, head: &Parts, body: &Bytes) -> Vec<u8> {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        digest.update(part);
        digest.update(b"\n");
    };
    add(head.method.as_str().as_bytes());
    match address {
        Some(address) => add(address.as_bytes()),
        None => {
            add(head.uri.to_string().as_bytes());
            head.headers.get_all(HOST).iter().for_each(|host| add(host.as_bytes()));
        }
    }
    digest.update(body);
    digest.finalize().to_vec()
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

/// The service with whole bodies.
struct Whole<S, Req> {
    inner: Arc<S>,
    most: usize,
    request: PhantomData<fn() -> Req>,
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
