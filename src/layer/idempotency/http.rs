//! The `Idempotency-Key` header: a POST that is sent again gets the first answer.

use super::{IdempotencyHandle, IdempotencyKey, IdempotencyLayer, IdempotencyMemory, IdempotencyStore};
use crate::{base::sync::Arc, layer::Classify};
use ::http::{Request, request::Parts};
use bytes::Bytes;
use std::{fmt, time::Duration};
use tower::Layer;

mod kept;
mod key;
mod service;
mod whole;

use kept::Lasting;
pub use kept::{HttpSuccess, KeptAnswer};
use key::credentials;
pub use service::HttpIdempotency;

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
        let memory = IdempotencyMemory::new().weigh(KeptAnswer::weight);
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
        HttpIdempotency::new(inner, self.clone())
    }
}
