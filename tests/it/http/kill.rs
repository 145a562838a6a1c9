//! A request in flight at a kill sees a reset, and its handler stops at its next await.

use super::host;
use seedpod::{
    base::{Kind, time},
    http::{self, Client},
    net::{Host, Net},
};
use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Handlers that have begun, and those that went on after the kill.
#[derive(Default)]
struct Steps {
    begun: AtomicUsize,
    late: AtomicUsize,
}

/// Takes half a second, and has a task of its own meanwhile.
fn slow(host: Host, steps: Arc<Steps>) -> axum::Router {
    axum::Router::new().fallback(move || async move {
        let own = steps.clone();
        host.scope().spawn(async move {
            time::sleep(Duration::from_millis(400)).await;
            own.late.fetch_add(1, Relaxed);
        });
        steps.begun.fetch_add(1, Relaxed);
        time::sleep(Duration::from_millis(500)).await;
        steps.late.fetch_add(1, Relaxed);
        "late"
    })
}

async fn in_flight(net: Net, http2: bool, by_axum: bool) {
    let (app, host) = (host(&net, "app"), host(&net, "client"));
    let steps = Arc::<Steps>::default();
    let (listener, router) = (app.listen(7070).await.unwrap(), slow(app.clone(), steps.clone()));
    if by_axum {
        app.scope().spawn(axum::serve(listener, router).into_future());
    } else {
        app.scope().spawn(http::serve(listener, router).into_future());
    }
    let client = Client::new(&host);
    let client = if http2 { client.http2() } else { client };
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("http://app:7070/").await.map(drop) })
        })
        .collect();
    while steps.begun.load(Relaxed) < 8 {
        time::sleep(Duration::from_millis(1)).await;
    }
    app.scope().kill();
    app.scope().gone().await;
    assert_eq!((app.scope().tasks(), app.scope().sockets()), (0, 0));
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::Unavailable, Some("app:7070")), "{}", error.chain());
        assert!(http2 || error.message() == "connection reset", "{}", error.chain());
    }
    time::sleep(Duration::from_millis(600)).await;
    assert_eq!(steps.late.load(Relaxed), 0);
    assert_eq!(host.scope().sockets(), 0, "the client's connections have ended as well");
}

#[tokio::test(start_paused = true)]
async fn in_memory() {
    for http2 in [false, true] {
        in_flight(Net::memory().build(), http2, false).await;
        in_flight(Net::memory().build(), http2, true).await;
    }
}

#[tokio::test]
async fn over_tcp() {
    for http2 in [false, true] {
        in_flight(Net::tcp().build(), http2, false).await;
    }
}
