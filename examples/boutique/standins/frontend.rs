//! The frontend of the Online Boutique: pages over HTTP, made from calls to every backend.

use super::peers::Peers;
use axum::{Router, http::StatusCode, response::Html, routing::get};
use seedpod::{
    Result,
    base::sync::atomic::{AtomicBool, Ordering},
    http,
    pod::Context,
};
use std::sync::Arc;

/// The image. Its probe path answers with 200 only once every backend has answered; a page needs them each time.
pub(super) async fn frontend(context: Context) -> Result {
    let peers = Arc::new(Peers::of(&context));
    let reached = Arc::new(AtomicBool::new(false));
    let health = {
        let peers = peers.clone();
        async move || {
            if !reached.load(Ordering::Relaxed) {
                peers.call_all().await.map_err(unavailable)?;
                reached.store(true, Ordering::Relaxed);
            }
            Ok::<_, (StatusCode, String)>("ok")
        }
    };
    let page = async move || {
        peers.call_all().await.map_err(unavailable)?;
        Ok::<_, (StatusCode, String)>(Html("<!doctype html><title>Online Boutique</title><h1>Online Boutique</h1>"))
    };
    let router = Router::new().route("/_healthz", get(health)).route("/", get(page));
    let port = context.env("PORT").and_then(|port| port.parse().ok()).unwrap_or(8080);
    http::serve(context.listen(port).await?, router).until(context.stopped()).await
}

fn unavailable(error: seedpod::Error) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.chain())
}
