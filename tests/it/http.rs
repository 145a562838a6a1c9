//! http: one application, written once, on every network, for every client.

mod client;
mod kill;
mod parity;
mod server;

use axum::{
    Router,
    body::Bytes,
    extract::ws::{Message, WebSocketUpgrade},
    routing::{any, get, post},
};
use seedpod::{
    http::{self, Client},
    net::{Builder, Host, HostOptions, Net},
};
use std::future::IntoFuture;

/// A greeting, an echo, and a WebSocket that echoes text.
fn application() -> Router {
    Router::new().route("/hello", get(|| async { "hello" })).route("/echo", post(|body: Bytes| async { body })).route(
        "/ws",
        any(|upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        }),
    )
}

/// A host named `app` that serves this router on port 7070, and a client's host.
async fn world(builder: Builder, router: Router) -> (Host, Host) {
    let net = builder.build();
    let (app, client) = (host(&net, "app"), host(&net, "client"));
    let listener = app.listen(7070).await.unwrap();
    app.scope().spawn(http::serve(listener, router).into_future());
    (app, client)
}

fn host(net: &Net, name: &str) -> Host {
    net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap()
}

/// Kills both, and waits until nothing is left of either.
async fn end(hosts: [&Host; 2]) {
    for host in hosts {
        host.scope().kill();
        host.scope().gone().await;
        assert_eq!((host.scope().tasks(), host.scope().sockets(), host.scope().panics()), (0, 0, 0));
    }
}

/// The text at this address; its error otherwise.
async fn text(client: &Client, url: &str) -> String {
    match client.get(url).await {
        Ok(response) => response.into_body().text().await.unwrap_or_else(|error| error.to_string()),
        Err(error) => error.to_string(),
    }
}
