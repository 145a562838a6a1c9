//! What foreign errors of HTTP read as, and what ours read as in HTTP.

use super::Body;
use crate::base::{Error, Kind, Result};
use http::{Response, StatusCode, header::RETRY_AFTER};
use std::{error::Error as StdError, io, time::Duration};

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        let mut next: Option<&(dyn StdError + 'static)> = error.source();
        let mut cause = None;
        while let Some(source) = next {
            if let Some(ours) = source.downcast_ref::<Error>() {
                return ours.clone();
            }
            cause = cause.or(source.downcast_ref::<io::Error>());
            next = source.source();
        }
        let (kind, message) = match cause {
            _ if error.is_timeout() => (Kind::Timeout, "the peer sent no headers in time"),
            _ if error.is_parse() => (Kind::Invalid, "the peer does not speak HTTP"),
            _ if error.is_user() => (Kind::Failed, ""),
            Some(io) if io.kind() == io::ErrorKind::ConnectionReset => (Kind::Unavailable, "connection reset"),
            Some(io) if io.kind() == io::ErrorKind::TimedOut => (Kind::Timeout, ""),
            _ => (Kind::Unavailable, "the connection ended before the answer was complete"),
        };
        Error::new(kind, message).because(error)
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        Error::new(Kind::Invalid, "this is not valid in HTTP").because(error)
    }
}

impl From<http::uri::InvalidUri> for Error {
    fn from(error: http::uri::InvalidUri) -> Self {
        Error::new(Kind::Invalid, "this is not an address").because(error)
    }
}

impl From<http::header::InvalidHeaderName> for Error {
    fn from(error: http::header::InvalidHeaderName) -> Self {
        Error::new(Kind::Invalid, "this is not a header name").because(error)
    }
}

impl From<http::header::InvalidHeaderValue> for Error {
    fn from(error: http::header::InvalidHeaderValue) -> Self {
        Error::new(Kind::Invalid, "this is not a header value").because(error)
    }
}

/// Turns a response that tells of a failure into an error; any other passes through.
///
/// 408 and 504 are time-outs; 429 and 503 overload, with the server's `Retry-After` in seconds; 502 is nobody there;
/// 401 and 403 rejected; 404 and 410 not found; 409 and 412 a conflict; other client errors invalid; other server
/// errors failed. The body is given up, and with it the connection of a pooled client: where many are refused, read it to
/// its end first.
///
/// ```
/// use seedpod::{base::Kind, http};
/// let answer = http::text(503, "later");
/// assert_eq!(http::successful(answer).unwrap_err().to_string(), "overloaded: 503 Service Unavailable");
/// ```
///
/// # Errors
/// As above.
pub fn successful<B>(response: Response<B>) -> Result<Response<B>> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let kind = match status.as_u16() {
        408 | 504 => Kind::Timeout,
        429 | 503 => Kind::Overloaded,
        502 => Kind::Unavailable,
        401 | 403 => Kind::Rejected,
        404 | 410 => Kind::NotFound,
        409 | 412 => Kind::Conflict,
        400..500 => Kind::Invalid,
        _ => Kind::Failed,
    };
    let error = Error::new(kind, status.to_string());
    let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    Err(match after {
        Some(seconds) => error.after(Duration::from_secs(seconds)),
        None => error,
    })
}

/// What a server answers when its service fails: 503 where it is overloaded or nobody is there, 504 where it took too
/// long, else 500. The message stays here: it may tell more than a client should know.
pub(super) fn answer(error: &Error) -> Response<Body> {
    let status = match error.kind() {
        Kind::Overloaded | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = super::text(status, "");
    if let Some(after) = error.retry_after() {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_survives_the_trip() {
        let ours = Error::new(Kind::Overloaded, "full").after(Duration::from_millis(1500));
        let theirs = successful(answer(&ours)).unwrap_err();
        assert_eq!((theirs.kind(), theirs.retry_after()), (Kind::Overloaded, Some(Duration::from_secs(2))));
        assert_eq!(answer(&Kind::Failed.into()).status(), 500);
        assert!(successful(super::super::text(302, "")).is_ok());
    }
}
