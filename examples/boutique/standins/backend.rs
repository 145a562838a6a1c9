//! The nine gRPC services of the Online Boutique, which differ only in their address and in whom they call.

use super::{
    grpc::{self, Server},
    peers::Peers,
};
use seedpod::{Result, http, pod::Context};
use std::sync::Arc;

/// The image: answers health checks and every method. A method first calls the services that the container was given
/// addresses of, as the real ones do: checkout calls six of them, recommendations ask the catalogue, carts are in Redis.
pub(super) async fn backend(context: Context) -> Result {
    let port = context.env("PORT").and_then(|port| port.parse().ok()).unwrap_or(7070); // the cart's, which is given none
    let peers = Arc::new(Peers::of(&context));
    let listener = context.listen(port).await?;
    let method: grpc::Method = Arc::new(move |_path| {
        let peers = peers.clone();
        Box::pin(async move { peers.call_all().await })
    });
    http::serve(listener, Server { method }).until(context.stopped()).await
}
