//! HTTP requests carry metadata; HTTP responses are read by their status.

use super::{Classify, Metadata};
use crate::base::{Deadline, Error, Outcome, Repeat};
use ::http::{HeaderMap, Method, Request, Response, StatusCode, header::RETRY_AFTER};
use std::time::Duration;

/// The header that carries the idempotency key (IETF draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The deadline travels in the extensions, the key in the header [`IDEMPOTENCY_KEY`]. Idempotent by nature are the
/// methods that RFC 9110 §9.2.2 calls so: GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
///
/// A body that is sent again must be at hand: bytes, or a `Body` made of them. A request whose body is a
/// stream is sent once.
impl<B: Repeat> Metadata for Request<B> {
    fn deadline(&self) -> Option<Deadline> {
        self.extensions().get().copied()
    }

    fn set_deadline(&mut self, deadline: Deadline) {
        self.extensions_mut().insert(deadline);
    }

    fn idempotency_key(&self) -> Option<&str> {
        self.headers().get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok())
    }

    fn is_idempotent(&self) -> bool {
        let by_nature = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
        by_nature.contains(self.method()) || self.headers().contains_key(IDEMPOTENCY_KEY)
    }

    fn repeat(&self) -> Option<Self> {
        let mut again = Request::new(self.body().again()?);
        *again.method_mut() = self.method().clone();
        *again.uri_mut() = self.uri().clone();
        *again.version_mut() = self.version();
        *again.headers_mut() = self.headers().clone();
        *again.extensions_mut() = self.extensions().clone();
        Some(again)
    }
}

/// Reads HTTP responses: 5xx is the endpoint's failure, 429 is throttled, all else is a success.
///
/// Worth another try are 502, 503 and 504 (Envoy's `gateway-error`) and 429, after what `Retry-After` asks for in
/// seconds; a 500 is not, since it is as likely to be repeated. Errors read as in [`Standard`](super::Standard).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpStatus;

impl<B> Classify<Response<B>> for HttpStatus {
    fn outcome(&self, result: Result<&Response<B>, &Error>) -> Outcome {
        match result {
            Err(error) => Outcome::of(error),
            Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
                Outcome::Throttled(asked(response.headers()))
            }
            Ok(response) if response.status().is_server_error() => Outcome::Failure,
            Ok(_) => Outcome::Success,
        }
    }

    fn retry_after(&self, result: Result<&Response<B>, &Error>) -> Option<Duration> {
        match result {
            Err(error) => error.is_retryable().then(|| error.retry_after().unwrap_or_default()),
            Ok(response) => matches!(response.status().as_u16(), 429 | 502..=504)
                .then(|| asked(response.headers()).unwrap_or_default()),
        }
    }
}

fn asked(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        if let Some(wait) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, wait.parse().unwrap());
        }
        response
    }

    #[test]
    fn statuses_are_read_as_outcomes_and_as_worth_another_try() {
        let second = Duration::from_secs(1);
        for (status, wait, outcome, retry) in [
            (200, None, Outcome::Success, None),
            (404, None, Outcome::Success, None),
            (429, Some("1"), Outcome::Throttled(Some(second)), Some(second)),
            (429, Some("Wed, 21 Oct 2015 07:28:00 GMT"), Outcome::Throttled(None), Some(Duration::ZERO)),
            (500, None, Outcome::Failure, None),
            (502, None, Outcome::Failure, Some(Duration::ZERO)),
            (503, Some(" 1 "), Outcome::Failure, Some(second)),
            (504, None, Outcome::Failure, Some(Duration::ZERO)),
        ] {
            let response = answer(status, wait);
            assert_eq!(HttpStatus.outcome(Ok(&response)), outcome, "{status}");
            assert_eq!(HttpStatus.retry_after(Ok(&response)), retry, "{status}");
        }
    }

    #[test]
    fn a_post_is_sent_again_only_with_a_key_and_keeps_it() {
        let post = Request::post("/pay").body("5 EUR").unwrap();
        assert!(!post.is_idempotent() && Request::get("/").body(()).unwrap().is_idempotent());
        let mut keyed = Request::post("/pay").header(IDEMPOTENCY_KEY, "order-17").body("5 EUR").unwrap();
        keyed.set_deadline(Deadline::within(Duration::from_secs(1)));
        let again = keyed.repeat().unwrap();
        assert!(again.is_idempotent());
        assert_eq!((again.idempotency_key(), again.deadline()), (Some("order-17"), keyed.deadline()));
    }
}
