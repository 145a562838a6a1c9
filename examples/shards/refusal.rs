//! Errors, as the pods tell each other of them: a status, and in words what it was.

use http::Response;
use seedpod::{
    Error,
    base::Kind,
    http::{Body, text},
};

pub(crate) fn refused(error: &Error) -> Response<Body> {
    let status = match error.kind() {
        Kind::NotFound => 404,
        Kind::Conflict => 409,
        Kind::Invalid => 400,
        Kind::Timeout => 504,
        Kind::Overloaded | Kind::Unavailable => 503,
        _ => 500,
    };
    text(status, error.chain())
}
