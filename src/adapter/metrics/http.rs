//! What the adapter speaks over HTTP.

use super::CONTENT_TYPE;
use crate::{
    base::Result,
    http::{self, Body},
    pod::Context,
};
use ::http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_TYPE as TYPE},
};
use bytes::Bytes;
use std::future::Future;
use tower::service_fn;

/// Answers `GET /metrics` until the container is asked to stop.
pub(super) async fn answer<F, Fut>(context: &Context, port: u16, scrape: F) -> Result
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let listener = context.listen(port).await?;
    context.ready();
    let service = service_fn(move |request: Request<Body>| {
        let scrape = scrape.clone();
        async move {
            let mut response = match (request.uri().path(), request.method()) {
                ("/metrics", &Method::GET | &Method::HEAD) => http::text(200, scrape().await),
                ("/metrics", _) => {
                    let mut refused = http::text(StatusCode::METHOD_NOT_ALLOWED, "GET alone\n");
                    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                    return Ok::<Response<Body>, crate::Error>(refused);
                }
                _ => return Ok(http::text(404, "the metrics are at /metrics\n")),
            };
            response.headers_mut().insert(TYPE, HeaderValue::from_static(CONTENT_TYPE));
            Ok(response)
        }
    });
    http::serve(listener, service).until(context.stopped()).await
}

/// Gets a document from the application.
pub(super) async fn get(context: &Context, url: &str, bytes_max: usize) -> Result<Bytes> {
    let mut request = Request::get(url).body(Body::empty())?;
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/plain;q=0.5"));
    // a connection of its own: scrapes are far apart, and none is to fail for an old one
    let client = context.http().idle(0, std::time::Duration::ZERO);
    http::successful(client.request(request).await?)?.into_body().bytes_within(bytes_max).await
}
