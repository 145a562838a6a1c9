//! One call of the service: what comes of it is kept where it may be, and otherwise is for one alone.

use super::{
    KeptBody, Key, Read, Settings, Shared, Stored,
    directives::Asked,
    read,
    rules::{Times, is_error},
    stored::left_out,
};
use crate::base::{BoxError, Error, Kind, Result, sync::Arc, sync::Lock};
use crate::layer::{flight::Aboard, on_call::OnCall};
use ::http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH},
    request, response,
};
use bytes::Bytes;
use http_body::Body;
use std::pin::pin;
use tower::Service;

/// What has come of a call.
pub(super) enum Fetched<B> {
    /// For all to whom it may be given; with what status the service answered, and the fields that are left out of what is
    /// kept: they are for the one whose request was sent.
    Whole { answer: Arc<Stored>, status: StatusCode, own: HeaderMap },
    /// For the one whose request was sent.
    Own { status: StatusCode, response: Lock<Option<Box<Response<KeptBody<B>>>>> },
}

/// A call, as far as it is not the service's.
pub(super) struct Fetch<B> {
    pub(super) shared: Arc<Shared<B>>,
    pub(super) settings: Settings,
    pub(super) head: request::Parts,
    pub(super) asked: Asked,
    pub(super) key: Key,
    pub(super) aboard: Arc<Aboard>,
}

impl<B> Fetch<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError> + 'static,
{
    /// Asks the service; where something stale is kept, for what has changed.
    pub(super) async fn run<S, Req>(self, service: S, mut stale: Option<Arc<Stored>>) -> Result<Fetched<B>>
    where
        S: Service<Request<Req>, Response = Response<B>>,
        S::Error: Into<BoxError> + 'static,
        Req: Default,
    {
        let (mut request, mut asks) = self.request(stale.as_ref());
        let mut sent = self.settings.clock.now();
        let mut call = pin!(OnCall::new(service, request));
        loop {
            let response = call.as_mut().await.map_err(|error| Error::adopt(error, Kind::Failed))?;
            let times = Times { sent, came: self.settings.clock.now() };
            match asks {
                Some(kept) if response.status() == StatusCode::NOT_MODIFIED => {
                    if kept.is_meant_by(response.headers()) {
                        return Ok(self.good_still(&kept, response.headers(), times));
                    }
                    // it speaks of another: asked for anew, and whole
                    stale = None;
                    (request, asks) = self.request(None);
                    sent = times.came;
                    call.as_mut().again(request);
                }
                _ => return self.taken(stale, response, times).await,
            }
        }
    }

    /// What is sent; and what is asked for by its validator.
    fn request<Req: Default>(&self, stale: Option<&Arc<Stored>>) -> (Request<Req>, Option<Arc<Stored>>) {
        let mut request = Request::from_parts(self.head.clone(), Req::default());
        request.headers_mut().remove(IF_NONE_MATCH);
        request.headers_mut().remove(IF_MODIFIED_SINCE);
        let asks = stale.filter(|stale| stale.ask(request.headers_mut())).cloned();
        (request, asks)
    }

    /// §4.3.4: kept, and told to be good still.
    fn good_still(&self, kept: &Stored, update: &HeaderMap, times: Times) -> Fetched<B> {
        let (rules, request) = (&self.settings.rules, &self.head.headers);
        let terms = rules.terms(request, &self.asked, kept.status, &kept.merged(update), times);
        let given = terms.clone().unwrap_or_else(|| kept.terms.clone());
        let own = left_out(update, &given, rules.shared);
        let answer = Arc::new(kept.freshened(update, given, rules.shared));
        self.shared.state.lock().stats.revalidated += 1;
        self.keep(terms.map(|_| answer.clone()));
        Fetched::Whole { answer, status: StatusCode::NOT_MODIFIED, own }
    }

    /// A whole answer, or what is none for a cache.
    async fn taken(&self, stale: Option<Arc<Stored>>, response: Response<B>, times: Times) -> Result<Fetched<B>> {
        let (rules, request) = (&self.settings.rules, &self.head.headers);
        let (parts, body) = response.into_parts();
        let status = parts.status;
        if is_error(status) && stale.is_some_and(|stale| rules.rescues(&stale.terms, &self.asked, times.came)) {
            return Ok(own(parts, KeptBody::passing(body))); // what is kept is worth more
        }
        let terms = rules.terms(request, &self.asked, status, &parts.headers, times);
        let read = match terms {
            Some(_) => read(body, self.settings.body).await?,
            None => Read::Longer(KeptBody::passing(body)),
        };
        match (terms, read) {
            (Some(terms), Read::Whole(bytes, trailers)) if is_complete(&parts.headers, bytes.len()) => {
                let (body, own) = ((bytes, trailers), left_out(&parts.headers, &terms, rules.shared));
                let answer = Arc::new(Stored::new(request, status, &parts.headers, body, terms, rules.shared));
                self.keep(Some(answer.clone()));
                Ok(Fetched::Whole { answer, status, own })
            }
            (_, read) => {
                if !is_error(status) {
                    self.keep(None);
                }
                Ok(match read {
                    Read::Whole(bytes, trailers) => own(parts, KeptBody::kept(bytes, trailers)),
                    Read::Longer(body) => own(parts, body),
                })
            }
        }
    }

    fn keep(&self, answer: Option<Arc<Stored>>) {
        self.shared.put(&self.key.url, &self.head.headers, answer, &self.aboard);
    }
}

fn own<B>(parts: response::Parts, body: KeptBody<B>) -> Fetched<B> {
    let status = parts.status;
    Fetched::Own { status, response: Lock::new(Some(Box::new(Response::from_parts(parts, body)))) }
}

/// §3.3: all that was announced has come.
fn is_complete(headers: &HeaderMap, length: usize) -> bool {
    let announced = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    announced.is_none_or(|announced| announced.trim_ascii() == length.to_string().as_bytes())
}
