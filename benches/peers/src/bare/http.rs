//! HTTP/1.1 on one connection: hyper on both ends, no pool, no names, no tracking of tasks.

use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client, client::conn::http1::SendRequest, server};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncRead, AsyncWrite};

/// What both serve.
pub fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello, world\n" }))
}

/// A client whose server is at the other end of the pair; none where the streams failed.
pub async fn connect<S>([here, there]: [S; 2]) -> Option<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(hello());
    tokio::spawn(server::conn::http1::Builder::new().serve_connection(TokioIo::new(there), service));
    let (sender, connection) = client::conn::http1::handshake(TokioIo::new(here)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// So many requests, one after the other; says whether all went well.
pub async fn requests(sender: &mut SendRequest<Empty<Bytes>>, count: u64) -> bool {
    for _ in 0..count {
        let Ok(request) = Request::get("/").header("host", "server").body(Empty::new()) else { return false };
        let (Ok(()), Ok(response)) = (sender.ready().await, sender.send_request(request).await) else { return false };
        if response.into_body().collect().await.is_err() {
            return false;
        }
    }
    true
}
