//! Responses in one line.

use super::Body;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

/// A response of plain text. A number that is no status is 500.
///
/// ```
/// let answer = seedpod::http::text(200, "hello");
/// assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
/// ```
pub fn text(status: impl TryInto<StatusCode>, text: impl Into<Body>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", text.into())
}

/// A response of HTML. A number that is no status is 500.
pub fn html(status: impl TryInto<StatusCode>, page: impl Into<Body>) -> Response<Body> {
    respond(status, "text/html; charset=utf-8", page.into())
}

/// A response of JSON. What cannot be written as JSON is answered with 500, and traced.
///
/// ```
/// let answer = seedpod::http::json(200, &["a", "b"]);
/// assert_eq!(answer.headers()["content-type"], "application/json");
/// ```
pub fn json(status: impl TryInto<StatusCode>, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(status, "application/json", bytes.into()),
        Err(error) => {
            tracing::error!(%error, "a response cannot be written as JSON");
            text(StatusCode::INTERNAL_SERVER_ERROR, "")
        }
    }
}

fn respond(status: impl TryInto<StatusCode>, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
