//! The call through the cache: what is kept, what is good still, one call for all who want it, or one's own.

use super::{
    HttpCacheLayer, KeptBody, Key, Settings, Shared, Stored,
    directives::Asked,
    fetch::{Fetch, Fetched},
    route::Route,
    rules::{Use, is_error},
    status::{self, Way, Why},
};
use crate::base::{BoxError, Error, Kind, Outcome, Result, sync::Arc};
use crate::layer::{
    flight::{Call, Waiter},
    on_call::OnCall,
};
use ::http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{AGE, AUTHORIZATION, CONTENT_LENGTH, ETAG, LAST_MODIFIED},
    request,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use std::{
    fmt,
    future::{Future, poll_fn},
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};

impl<S, B> Layer<S> for HttpCacheLayer<B> {
    type Service = HttpCache<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpCache { inner: Arc::new(inner), layer: self.clone() }
    }
}

/// The service that [`HttpCacheLayer`] makes.
pub struct HttpCache<S, B> {
    inner: Arc<S>,
    layer: HttpCacheLayer<B>,
}

impl<S, B> Clone for HttpCache<S, B> {
    fn clone(&self) -> Self {
        HttpCache { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, B> fmt::Debug for HttpCache<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCache").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, Req, B> Service<Request<Req>> for HttpCache<S, B>
where
    S: Service<Request<Req>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Body + Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
{
    type Response = Response<KeptBody<B>>;
    type Error = Error;
    type Future = HttpCaching<S, Req, B>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        HttpCaching { at: At::Start(Some((self.inner.clone(), self.layer.shared.clone(), request))) }
    }
}

/// The future of [`HttpCache`].
#[must_use = "futures do nothing unless polled"]
pub struct HttpCaching<S, Req, B> {
    at: At<S, Req, B>,
}

#[expect(clippy::large_enum_variant, reason = "what is kept is given without an allocation")]
enum At<S, Req, B> {
    Start(Option<(Arc<S>, Arc<Shared<B>>, Request<Req>)>),
    Running(BoxFuture<'static, Result<Response<KeptBody<B>>>>),
}

impl<S, Req, B> Unpin for HttpCaching<S, Req, B> {}

impl<S, Req, B> Future for HttpCaching<S, Req, B>
where
    S: Service<Request<Req>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Body + Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
{
    type Output = Result<Response<KeptBody<B>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let At::Start(start) = &mut self.at {
            let Some((service, shared, request)) = start.take() else { return Poll::Pending };
            self.at = At::Running(match Route::of(service, shared, request) {
                Route::Pass(pass) => Box::pin(pass.run()),
                Route::Ask(ask) => match ask.look() {
                    Ok(response) => return Poll::Ready(Ok(response)),
                    Err(missing) => Box::pin(ask.run(missing)),
                },
            });
        }
        match &mut self.at {
            At::Running(future) => future.as_mut().poll(cx),
            At::Start(_) => Poll::Pending, // polled after it was over: no answer is owed
        }
    }
}

/// A request for a cache, and all that a call needs.
pub(super) struct Ask<S, Req, B> {
    service: Arc<S>,
    shared: Arc<Shared<B>>,
    head: request::Parts,
    url: Arc<str>,
    asked: Asked,
    body: PhantomData<fn() -> Req>,
}

/// Why the service has to be asked, and what might do if it fails.
struct Missing {
    why: Why,
    stale: Option<Arc<Stored>>,
    variant: Vec<u8>,
    alone: bool,
}

impl<S, Req, B> Ask<S, Req, B> {
    pub(super) fn new(
        service: Arc<S>,
        shared: Arc<Shared<B>>,
        head: request::Parts,
        url: Arc<str>,
        asked: Asked,
    ) -> Self {
        Ask { service, shared, head, url, asked, body: PhantomData }
    }
}

impl<S, Req, B: Body<Data = Bytes>> Ask<S, Req, B> {
    fn give(&self, settings: &Settings, answer: &Stored, own: Option<&HeaderMap>, way: Way) -> Response<KeptBody<B>> {
        let now = settings.clock.now();
        let has_it = answer.is_at_client(&self.head.headers);
        let mut response = if has_it {
            let mut response = Response::new(KeptBody::default());
            (*response.status_mut(), *response.headers_mut()) = (StatusCode::NOT_MODIFIED, answer.unmodified());
            response
        } else {
            let body = match self.head.method {
                Method::HEAD => KeptBody::default(),
                _ => KeptBody::kept(answer.body.clone(), answer.trailers.clone()),
            };
            let mut response = Response::new(body);
            (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers.clone());
            if self.head.method == Method::HEAD {
                response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| answer.body.len().into());
            }
            response
        };
        if let Some(own) = own {
            response.headers_mut().extend(own.clone());
        }
        let age = answer.terms.age_at(now).as_secs();
        if age > 0 || !matches!(way, Way::Forwarded { collapsed: false, .. }) {
            response.headers_mut().insert(AGE, age.into()); // §5.1
        }
        status::add(response.headers_mut(), &settings.name, way, Some(answer.terms.left_at(now)));
        response
    }

    /// Gives what is kept in place of a failure, where it may be.
    fn rescue(&self, missing: &Missing, status: Option<StatusCode>) -> Option<Response<KeptBody<B>>> {
        let stale = missing.stale.as_ref()?;
        let settings = {
            let mut state = self.shared.state.lock();
            let now = state.settings.clock.now();
            if !state.settings.rules.rescues(&stale.terms, &self.asked, now) {
                return None;
            }
            state.stats.stale_if_error += 1;
            state.settings.clone()
        };
        Some(self.give(&settings, stale, None, Way::InPlaceOfError { why: missing.why, status }))
    }
}

impl<S, Req, B> Ask<S, Req, B>
where
    S: Service<Request<Req>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Body + Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
{
    /// What there is for it now; counts what is given.
    fn look(&self) -> Result<Response<KeptBody<B>>, Missing> {
        let (settings, group) = {
            let mut state = self.shared.state.lock();
            let group = state.store.get(&self.url).cloned();
            (state.settings.clone(), group)
        };
        let (now, headers) = (settings.clock.now(), &self.head.headers);
        let kept = group.as_ref().and_then(|group| group.pick(headers)).cloned();
        let judged = kept.as_ref().map(|kept| settings.rules.judge(&kept.terms, &self.asked, now));
        let authorized = settings.rules.shared && headers.contains_key(AUTHORIZATION);
        let mut missing = Missing {
            why: Why::UriMiss,
            stale: kept,
            variant: group.as_ref().map(|group| group.variant(headers)).unwrap_or_default(),
            alone: authorized
                || self.asked.no_cache
                || judged == Some(Use::Asked)
                || group.as_ref().is_some_and(|group| group.alone.is_some_and(|until| now < until)),
        };
        missing.why = match (judged, &group) {
            (Some(judged), _) => Why::of(judged),
            (None, Some(group)) if !group.answers.is_empty() => Why::VaryMiss,
            (None, _) => Why::UriMiss,
        };
        if let (Some(kept), Some(judged)) = (&missing.stale, judged.filter(|judged| judged.gives())) {
            let response = self.give(&settings, kept, None, Way::Hit);
            {
                let stats = &mut self.shared.state.lock().stats;
                *(if judged == Use::Fresh { &mut stats.hits } else { &mut stats.stale }) += 1;
            }
            if judged == Use::Refresh {
                self.refresh(&missing);
            }
            return Ok(response);
        }
        if self.asked.only_if_cached {
            let mut response = Response::new(KeptBody::default());
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT; // §5.2.1.7
            status::add(response.headers_mut(), &settings.name, Way::OnlyIfCached, None);
            return Ok(response);
        }
        Err(missing)
    }

    fn key(&self, missing: &Missing) -> Key {
        let alone = if missing.alone {
            let mut state = self.shared.state.lock();
            state.tickets += 1;
            state.tickets
        } else {
            0
        };
        Key { url: self.url.clone(), variant: missing.variant.clone(), alone }
    }

    /// Joins the call that is under way for the like, or makes it.
    fn join(&self, key: Key, stale: Option<Arc<Stored>>) -> Result<Waiter<Key, Fetched<B>>> {
        self.shared.flights.join(key.clone(), |aboard| {
            let (shared, settings) = (self.shared.clone(), self.shared.state.lock().settings.clone());
            let (head, asked, aboard) = (self.head.clone(), self.asked.clone(), aboard.clone());
            let fetch = Fetch { shared, settings, head, asked, key, aboard };
            let call: Call<Fetched<B>> = Box::pin(fetch.run(S::clone(&self.service), stale));
            call
        })
    }

    /// Lets one task refresh it, unless a call for the like is under way.
    fn refresh(&self, missing: &Missing) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let key = Key { url: self.url.clone(), variant: missing.variant.clone(), alone: 0 };
        if self.shared.flights.has(&key) {
            return;
        }
        if let Ok(mut waiter) = self.join(key, missing.stale.clone())
            && waiter.led()
        {
            self.shared.state.lock().stats.refreshes += 1;
            runtime.spawn(poll_fn(move |cx| waiter.poll_shared(cx).map(drop)));
        }
    }

    async fn run(self, mut missing: Missing) -> Result<Response<KeptBody<B>>> {
        if self.head.method == Method::HEAD {
            return self.head(missing).await;
        }
        let mut rounds = 0;
        loop {
            let mut waiter = match self.join(self.key(&missing), missing.stale.clone()) {
                Ok(waiter) => waiter,
                Err(refused) => return self.rescue(&missing, None).ok_or(refused),
            };
            let (led, why) = (waiter.led(), missing.why);
            {
                let stats = &mut self.shared.state.lock().stats;
                *(if led { &mut stats.misses } else { &mut stats.coalesced }) += 1;
            }
            match &*match poll_fn(|cx| waiter.poll_shared(cx)).await {
                Ok(fetched) => fetched,
                Err(error) if is_failure(&error) => return self.rescue(&missing, None).ok_or(error),
                Err(error) => return Err(error),
            } {
                Fetched::Whole { answer, status, own } => {
                    let settings = self.shared.state.lock().settings.clone();
                    let is_for = answer.is_for(&self.head.headers);
                    if led || is_for && settings.rules.judge(&answer.terms, &self.asked, settings.clock.now()).gives() {
                        let way = Way::Forwarded { why, status: Some(*status), collapsed: !led };
                        return Ok(self.give(&settings, answer, led.then_some(own), way));
                    }
                    missing.alone = is_for; // §4: not to be given again, not even now
                }
                Fetched::Own { status, response } => {
                    if is_error(*status)
                        && let Some(stale) = self.rescue(&missing, Some(*status))
                    {
                        return Ok(stale);
                    }
                    let own = if led { response.lock().take() } else { None };
                    if let Some(mut response) = own {
                        let name = self.shared.state.lock().settings.name.clone();
                        let way = Way::Forwarded { why, status: Some(*status), collapsed: false };
                        status::add(response.headers_mut(), &name, way, None);
                        return Ok(*response);
                    }
                    missing.alone = true;
                }
            }
            // it was for another
            let alone = missing.alone;
            missing = match self.look() {
                Ok(response) => return Ok(response),
                Err(missing) => missing,
            };
            rounds += 1;
            missing.alone |= alone || rounds > 1;
        }
    }

    /// HEAD goes on as it is; where its answer speaks of another one than is kept, that is forgotten (§4.3.5).
    async fn head(self, missing: Missing) -> Result<Response<KeptBody<B>>> {
        let request = Request::from_parts(self.head.clone(), Req::default());
        let response = match OnCall::new(S::clone(&self.service), request).await {
            Ok(response) => response,
            Err(error) => {
                let error = Error::adopt(error, Kind::Failed);
                let rescued = if is_failure(&error) { self.rescue(&missing, None) } else { None };
                return rescued.ok_or(error);
            }
        };
        let status = response.status();
        if is_error(status)
            && let Some(stale) = self.rescue(&missing, Some(status))
        {
            return Ok(stale);
        }
        if let Some(kept) = &missing.stale
            && status == StatusCode::OK
            && [ETAG, LAST_MODIFIED].iter().any(|name| response.headers().get(name) != kept.headers.get(name))
        {
            self.shared.forget(&self.url);
        }
        let name = {
            let mut state = self.shared.state.lock();
            state.stats.passed += 1;
            state.settings.name.clone()
        };
        let mut response = response.map(KeptBody::passing);
        let way = Way::Forwarded { why: missing.why, status: Some(status), collapsed: false };
        status::add(response.headers_mut(), &name, way, None);
        Ok(response)
    }
}

fn is_failure(error: &Error) -> bool {
    matches!(Outcome::of(error), Outcome::Failure | Outcome::LocalOrigin | Outcome::Throttled(_))
}
