//! Items handed over as HTTP requests to localhost.

use super::{Hand, HandOver};
use crate::{
    base::{Backoff, Error, Kind, Result, Seed, time},
    http::{Body, Client},
    pod::Context,
    queue::Message,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tower::util::BoxCloneSyncService;

/// Hands items over as `POST` requests to the worker on localhost.
///
/// The body is the payload. `Idempotency-Key` is the message's id; `Message-Topic`, `Message-Subscription` and
/// `Message-Attempt` (how often it was tried before) say what it is. Of the message's own headers, `content-type`,
/// `traceparent` and `tracestate` go under their names, others as `Message-Header-<name>`; what no HTTP header can hold is
/// left out.
///
/// | the worker answers | the message |
/// | --- | --- |
/// | 2xx | is done, the body is its result |
/// | 429 or 503 | comes back after `Retry-After` (seconds or a date; else 1 s), uncharged |
/// | 408 or 425 | is tried again, charged |
/// | any other 4xx | goes to the dead letters |
/// | anything else, or the connection breaks | is tried again, charged: what kills its worker must not do so for ever |
/// | nothing listens at its port | waits for it; after [`patience`](ByHttp::patience) comes back 1 s later, uncharged |
///
/// A message whose lease is lost has its request reset.
#[derive(Clone, Debug)]
#[must_use = "an ambassador needs it"]
pub struct ByHttp {
    port: u16,
    path: String,
    patience: Duration,
    within: Duration,
    answer_bytes: usize,
}

const SOON: Duration = Duration::from_secs(1);
/// Between looks whether the worker listens.
const LISTENS: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1)).exact();
const REASON_BYTES: usize = 4096;

impl ByHttp {
    /// To this port of the pod, at `/`.
    pub fn port(port: u16) -> Self {
        let patience = Duration::from_secs(30);
        ByHttp { port, path: "/".into(), patience, within: Duration::MAX, answer_bytes: 8 << 20 }
    }

    /// At this path.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// How long a message waits for a worker that does not listen. Default 30 s.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// How long the worker may take over an item: after that it is tried again, charged. Default: as long as it takes.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// How long an answer may be; a longer one fails the message. Default 8 MiB.
    pub fn answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes;
        self
    }
}

impl HandOver for ByHttp {
    fn begin(&self, context: &Context) -> Result<Hand> {
        let url = format!("http://localhost:{}/{}", self.port, self.path.trim_start_matches('/'));
        url.parse::<http::Uri>().map_err(|error| Error::from(error).at(url.clone()))?;
        let way = Arc::new(Way { of: self.clone(), url, client: context.http(), context: context.clone() });
        Ok(BoxCloneSyncService::new(tower::service_fn(move |item: Message| {
            let way = way.clone();
            async move {
                way.listens().await?;
                let within = way.of.within;
                match time::Deadline::within(within).bound(way.hand_over(&item)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Error::new(Kind::Timeout, format!("the worker did not answer within {within:?}"))),
                }
            }
        })))
    }
}

/// The way to one worker.
struct Way {
    of: ByHttp,
    url: String,
    client: Client,
    context: Context,
}

impl Way {
    /// Waits for the worker, so that what is sent and not answered was the message's doing.
    async fn listens(&self) -> Result {
        let address = format!("localhost:{}", self.of.port);
        let wait = async {
            let mut tries = 0;
            while self.context.connect(&address).await.is_err() {
                time::sleep(LISTENS.wait(tries, &mut Seed::new(0).rng())).await;
                tries += 1;
            }
        };
        time::Deadline::within(self.of.patience)
            .bound(wait)
            .await
            .map_err(|_| Error::new(Kind::Unavailable, "nothing listens there").at(address.as_str()).after(SOON))
    }

    async fn hand_over(&self, item: &Message) -> Result<Bytes> {
        let response = self.client.request(self.request(item)?).await.map_err(|error| charged(error, &self.url))?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return body.bytes_within(self.of.answer_bytes).await.map_err(|error| charged(error, &self.url));
        }
        let reason = body.bytes_within(REASON_BYTES).await.unwrap_or_default();
        let reason = format!("{}: {}", head.status, String::from_utf8_lossy(&reason).trim());
        let error = |kind| Error::new(kind, reason.trim_end_matches([' ', ':']).to_string()).at(self.url.as_str());
        let head = Response::from_parts(head, ());
        Err(match head.status().as_u16() {
            429 | 503 => error(Kind::Overloaded).after(retry_after(&head, self.context.wall().now()).unwrap_or(SOON)),
            408 | 425 => error(Kind::Failed),
            400..500 => error(Kind::Invalid),
            _ => error(Kind::Failed),
        })
    }

    fn request(&self, item: &Message) -> Result<Request<Body>> {
        let mut request = Request::post(&self.url).body(Body::from(item.bytes()?))?;
        let headers = request.headers_mut();
        for (name, value) in item.headers().iter() {
            let own = matches!(name, "content-type" | "traceparent" | "tracestate");
            let name = if own { name.to_string() } else { format!("message-header-{name}") };
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                headers.insert(name, value);
            }
        }
        let attempt = item.attempts().total().to_string();
        let told = [
            ("idempotency-key", item.idempotency_key()),
            ("message-topic", item.topic().to_string()),
            ("message-subscription", item.subscription().name.to_string()),
            ("message-attempt", attempt),
        ];
        for (name, value) in told {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        Ok(request)
    }
}

/// Whatever went wrong on the way counts as the message's failure: neither wrong input nor to be forgiven.
fn charged(error: Error, url: &str) -> Error {
    Error::new(Kind::Failed, "the worker gave no answer").at(url).because(error)
}

/// What `Retry-After` says: seconds, or a date.
fn retry_after<B>(response: &Response<B>, now: SystemTime) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        let read =
            |text: &str| retry_after(&Response::builder().header(header::RETRY_AFTER, text).body(()).unwrap(), now);
        assert_eq!(read(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(read("Tue, 01 Jan 2030 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Tue, 01 Jan 2019 00:01:00 GMT"), Some(Duration::ZERO), "the past is now");
        assert_eq!((read("soon"), read("-1")), (None, None));
        assert_eq!(retry_after(&Response::new(()), now), None);
    }
}
