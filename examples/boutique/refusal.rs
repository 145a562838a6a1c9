//! Errors as HTTP says them, there and back.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use seedpod::{Error, Kind};

/// A handler's error, answered with the status that fits its kind.
pub(crate) struct Refusal(Error);

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (status(self.0.kind()), self.0.chain()).into_response()
    }
}

/// The status for a kind of error.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Rejected => StatusCode::FORBIDDEN,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable | Kind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The kind of error for a status.
pub(crate) fn kind(status: StatusCode) -> Kind {
    match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Kind::Rejected,
        StatusCode::CONFLICT => Kind::Conflict,
        StatusCode::TOO_MANY_REQUESTS => Kind::Overloaded,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Kind::Timeout,
        status if status.is_client_error() => Kind::Invalid,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_over_a_hop() {
        for told in [
            Kind::NotFound,
            Kind::Invalid,
            Kind::Rejected,
            Kind::Conflict,
            Kind::Overloaded,
            Kind::Unavailable,
            Kind::Timeout,
            Kind::Failed,
        ] {
            assert_eq!(kind(status(told)), told);
        }
    }
}
