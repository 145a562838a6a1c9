//! Which requests are for a cache; those that are not pass, and forget what they have changed.

use super::{
    KeptBody, Shared,
    directives::Asked,
    service::Ask,
    status::{self, Way, Why},
    url,
};
use crate::base::{BoxError, Error, Kind, Result, sync::Arc};
use crate::layer::on_call::OnCall;
use ::http::{
    HeaderMap, Method, Request, Response,
    header::{CONTENT_LOCATION, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LOCATION, RANGE, UPGRADE},
};
use bytes::Bytes;
use http_body::Body;
use tower::Service;

/// Which way a request goes.
pub(super) enum Route<S, Req, B> {
    Ask(Ask<S, Req, B>),
    Pass(Pass<S, Req, B>),
}

impl<S, Req: Body, B> Route<S, Req, B> {
    pub(super) fn of(service: Arc<S>, shared: Arc<Shared<B>>, request: Request<Req>) -> Self {
        let headers = request.headers();
        let gets = matches!(*request.method(), Method::GET | Method::HEAD);
        let asked = Asked::read(headers);
        let conditions = [RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE];
        let bypass = asked.no_store
            || !request.body().is_end_stream()
            || conditions.iter().any(|condition| headers.contains_key(condition));
        match url::of(&request) {
            Some(url) if gets && !bypass => {
                let (head, _) = request.into_parts();
                Route::Ask(Ask::new(service, shared, head, url, asked))
            }
            url => {
                let why = if gets { Why::Bypass } else { Why::Method };
                Route::Pass(Pass { service, shared, request, url, why })
            }
        }
    }
}

/// A request that is not for a cache.
pub(super) struct Pass<S, Req, B> {
    service: Arc<S>,
    shared: Arc<Shared<B>>,
    request: Request<Req>,
    url: Option<Arc<str>>,
    why: Why,
}

impl<S, Req, B> Pass<S, Req, B>
where
    S: Service<Request<Req>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError> + 'static,
    B: Body<Data = Bytes>,
{
    pub(super) async fn run(self) -> Result<Response<KeptBody<B>>> {
        let Pass { service, shared, request, url, why } = self;
        let name = {
            let mut state = shared.state.lock();
            state.stats.passed += 1;
            state.settings.name.clone()
        };
        let safe = request.method().is_safe();
        let response = OnCall::new(S::clone(&service), request).await;
        let mut response = response.map_err(|error| Error::adopt(error, Kind::Failed))?.map(KeptBody::passing);
        if let Some(url) = url.filter(|_| !safe)
            && (response.status().is_success() || response.status().is_redirection())
        {
            invalidate(&shared, &url, response.headers());
        }
        let status = Some(response.status());
        status::add(response.headers_mut(), &name, Way::Forwarded { why, status, collapsed: false }, None);
        Ok(response)
    }
}

/// §4.4: what an unsafe request has changed.
fn invalidate<B>(shared: &Shared<B>, url: &Arc<str>, headers: &HeaderMap) {
    let others = [LOCATION, CONTENT_LOCATION].into_iter().filter_map(|name| {
        let reference = headers.get(name)?.to_str().ok()?;
        url::same_origin(url, reference)
    });
    let forgotten = std::iter::once(url.clone()).chain(others).filter(|url| shared.forget(url) > 0).count();
    shared.state.lock().stats.invalidated += forgotten as u64;
}
