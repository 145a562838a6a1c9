//! The server: failures, drain, bounds, the date, and a client served as a proxy.

use super::{application, end, host, text, world};
use seedpod::{
    base::{Error, Kind, Seed, time},
    http::{self, Body, Client},
    net::{Net, Scope},
};
use std::{convert::Infallible, future::IntoFuture, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Fails as the path says.
async fn failing(request: ::http::Request<Body>) -> Result<::http::Response<Body>, Error> {
    match request.uri().path() {
        "/failed" => Err(Error::new(Kind::Failed, "a secret")),
        "/overloaded" => Err(Error::new(Kind::Overloaded, "full").after(Duration::from_secs(3))),
        "/late" => Err(Kind::Timeout.into()),
        "/panic" => panic!("on purpose"),
        _ => Ok(http::text(200, "fine")),
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_is_answered_for() {
    let net = Net::memory().build();
    let (app, host) = (host(&net, "app"), host(&net, "client"));
    app.scope().spawn(http::serve(app.listen(80).await.unwrap(), tower::service_fn(failing)).into_future());
    let client = Client::new(&host).base("http://app").unwrap();
    let failed = client.get("/failed").await.unwrap();
    assert_eq!((failed.status().as_u16(), failed.into_body().text().await.unwrap()), (500, String::new()));
    let overloaded = http::successful(client.get("/overloaded").await.unwrap()).unwrap_err();
    assert_eq!((overloaded.kind(), overloaded.retry_after()), (Kind::Overloaded, Some(Duration::from_secs(3))));
    assert_eq!(client.get("/late").await.unwrap().status(), 504);
    assert_eq!(app.scope().panics(), 0);
    assert_eq!(client.get("/panic").await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(app.scope().panics(), 1);
    assert_eq!(text(&client, "/").await, "fine", "the server lives on");
}

/// Answers after a second.
fn slow() -> axum::Router {
    axum::Router::new().fallback(|| async {
        time::sleep(Duration::from_secs(1)).await;
        "done"
    })
}

/// A request that has come, but whose connection has not been accepted or had its first turn when the end comes.
#[tokio::test(start_paused = true)]
async fn a_graceful_end_serves_what_has_just_come() {
    for turns in 0..4 {
        let net = Net::memory().build();
        let (app, host) = (host(&net, "app"), host(&net, "client"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = http::serve(app.listen(80).await.unwrap(), application()).until(stopped);
        let server = app.scope().spawn(server.into_future());
        tokio::task::yield_now().await;
        let mut early = host.connect("app:80").await.unwrap();
        early.write_all(b"GET /hello HTTP/1.1\r\nhost: app\r\n\r\n").await.unwrap();
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        stop.send(()).unwrap();
        let mut answer = String::new();
        early.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{turns}: {answer}");
        server.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_lets_what_is_under_way_finish() {
    for http2 in [false, true] {
        let net = Net::memory().build();
        let (app, host) = (host(&net, "app"), host(&net, "client"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = http::serve(app.listen(80).await.unwrap(), slow()).until(stopped);
        let server = app.scope().spawn(server.into_future());
        let client = Client::new(&host).base("http://app").unwrap();
        let client = if http2 { client.http2() } else { client };
        assert_eq!(text(&client, "/").await, "done"); // leaves an idle connection
        let calls = client.clone();
        let under_way = tokio::spawn(async move { text(&calls, "/").await });
        let _silent = host.connect("app:80").await.unwrap();
        time::sleep(Duration::from_millis(500)).await;
        stop.send(()).unwrap();
        time::sleep(Duration::from_millis(1)).await;
        assert!(!server.is_finished());
        assert_eq!(host.connect("app:80").await.unwrap_err().message(), "connection refused");
        assert_eq!(under_way.await.unwrap(), "done");
        let start = time::now();
        server.await.unwrap().unwrap();
        assert!(start.elapsed() < Duration::from_millis(10), "idle and silent connections do not hold it up");
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!((app.scope().tasks(), app.scope().sockets()), (0, 0), "http2: {http2}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_waits_for_room_before_it_accepts() {
    let net = Net::memory().backlog(1).build();
    let (app, host) = (host(&net, "app"), host(&net, "client"));
    let server = http::serve(app.listen(80).await.unwrap(), application()).connections(1);
    app.scope().spawn(server.into_future());
    let client = Client::new(&host);
    assert_eq!(text(&client, "http://app/hello").await, "hello");
    let _waiting = host.connect("app:80").await.unwrap();
    assert_eq!(host.connect("app:80").await.unwrap_err().message(), "connection refused");
    assert_eq!(app.scope().sockets(), 2, "the listener and one connection");
}

#[tokio::test(start_paused = true)]
async fn the_date_follows_the_paused_clock() {
    for http2 in [false, true] {
        let _simulation = Seed::new(1).simulate();
        let (app, host) = world(Net::memory(), application()).await;
        let client = Client::new(&host).base("http://app:7070").unwrap();
        let client = if http2 { client.http2() } else { client };
        let date = async || client.get("/hello").await.unwrap().headers()["date"].clone();
        assert_eq!(date().await, "Tue, 01 Jan 2030 00:00:00 GMT");
        time::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(date().await, "Wed, 02 Jan 2030 00:00:00 GMT");
        end([&app, &host]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_served_as_it_is_and_that_is_a_proxy() {
    let (app, client) = world(Net::memory(), application()).await;
    let proxy = host(app.net(), "proxy");
    let forward = Client::new(&proxy).base("http://app:7070").unwrap();
    proxy.scope().spawn(http::serve(proxy.listen(80).await.unwrap(), forward).into_future());
    let client = Client::new(&client).base("http://proxy").unwrap();
    assert_eq!(text(&client, "/hello").await, "hello");
    let big = vec![5; 1 << 20];
    let back = client.post("/echo", big.clone()).await.unwrap().into_body().bytes().await.unwrap();
    assert!(back == big);
}

#[tokio::test(start_paused = true)]
async fn the_server_ends_with_its_scope() {
    let net = Net::memory().build();
    let app = host(&net, "app").scoped(Scope::default());
    let service = tower::service_fn(|_: ::http::Request<Body>| async { Ok::<_, Infallible>(http::text(200, "")) });
    let serving = tokio::spawn(http::serve(app.listen(80).await.unwrap(), service).into_future());
    time::sleep(Duration::from_millis(1)).await;
    app.scope().kill();
    assert_eq!(serving.await.unwrap().unwrap_err().to_string(), "10.0.0.1:80: closed: the container was killed");
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_closed_and_what_is_slow_is_not() {
    for http2 in [false, true] {
        let net = Net::memory().build();
        let (app, host) = (host(&net, "app"), host(&net, "client"));
        let minutes = axum::Router::new().fallback(|| async {
            time::sleep(Duration::from_secs(200)).await;
            "at last"
        });
        app.scope().spawn(http::serve(app.listen(80).await.unwrap(), minutes).into_future());
        let client = Client::new(&host).idle(1, Duration::from_secs(1000));
        let client = if http2 { client.http2() } else { client };
        assert_eq!(text(&client, "http://app/").await, "at last");
        time::sleep(Duration::from_secs(29)).await;
        assert_eq!(host.scope().sockets(), 1);
        time::sleep(Duration::from_secs(33)).await;
        assert_eq!(host.scope().sockets(), 0, "http2: {http2}");
        let mut silent = host.connect("app:80").await.unwrap();
        let mut slow = host.connect("app:80").await.unwrap();
        let dripping = async {
            slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            while slow.write_all(b"x-header: and on\r\n").await.is_ok() {
                time::sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(65), dripping).await.expect("headers must come to an end");
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
