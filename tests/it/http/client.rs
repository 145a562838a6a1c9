//! The client's pool: what is reused, what is bounded, what is sent again.

use super::{application, end, host, text, world};
use seedpod::{
    base::{Kind, time},
    http::{self, Body, Client, Peer},
    net::{Connection, Host, Listener, Net},
};
use std::{collections::BTreeSet, future::IntoFuture, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with the client's port, so that connections can be told apart, after this long.
fn who(after: Duration) -> axum::Router {
    let port = move |request: axum::extract::Request| async move {
        time::sleep(after).await;
        request.extensions().get::<Peer>().unwrap().address.port().to_string()
    };
    axum::Router::new().fallback(port)
}

#[tokio::test(start_paused = true)]
async fn connections_are_reused_the_last_one_first() {
    let (app, host) = world(Net::memory(), who(Duration::from_millis(5))).await;
    let client = Client::new(&host);
    let first = text(&client, "http://app:7070/").await;
    assert_eq!(text(&client, "http://app:7070/").await, first);
    let later = async {
        time::sleep(Duration::from_millis(1)).await;
        text(&client, "http://app:7070/").await
    };
    let (one, two) = tokio::join!(text(&client, "http://app:7070/"), later);
    assert_eq!((&one, host.scope().sockets()), (&first, 2));
    assert_ne!(one, two);
    assert_eq!(text(&client, "http://app:7070/").await, two, "given back last");
    end([&app, &host]).await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_bounded_and_given_up() {
    let (app, host) = world(Net::memory(), who(Duration::from_millis(5))).await;
    let client = Client::new(&host).idle(2, Duration::from_secs(7));
    let all: BTreeSet<_> =
        futures::future::join_all((0..10).map(|_| text(&client, "http://app:7070/"))).await.into_iter().collect();
    assert_eq!(all.len(), 10);
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.scope().sockets(), 2);
    time::sleep(Duration::from_secs(7)).await;
    assert_eq!((host.scope().sockets(), host.scope().tasks()), (0, 0), "the sweeper has ended, too");
    assert!(!text(&client, "http://app:7070/").await.is_empty());
    time::sleep(Duration::from_secs(8)).await;
    assert_eq!((host.scope().sockets(), host.scope().tasks()), (0, 0), "and begins anew");
    end([&app, &host]).await;
}

#[tokio::test(start_paused = true)]
async fn http2_makes_one_connection_for_all() {
    let (app, host) = world(Net::memory(), who(Duration::from_millis(5))).await;
    let client = Client::new(&host).http2();
    let all = futures::future::join_all((0..50).map(|_| text(&client, "http://app:7070/"))).await;
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(host.scope().sockets(), 1);
    end([&app, &host]).await;
}

#[tokio::test(start_paused = true)]
async fn further_requests_wait_until_a_body_is_read() {
    let (app, host) = world(Net::memory(), application()).await;
    let client = Client::new(&host).requests(1);
    let big = client.post("http://app:7070/echo", vec![1; 1 << 20]).await.unwrap();
    let second = text(&client, "http://app:7070/hello");
    assert!(tokio::time::timeout(Duration::from_secs(60), second).await.is_err());
    big.into_body().bytes().await.unwrap();
    assert_eq!(text(&client, "http://app:7070/hello").await, "hello");
    let big = client.post("http://app:7070/echo", vec![1; 1 << 20]).await.unwrap();
    drop(big);
    assert_eq!(text(&client, "http://app:7070/hello").await, "hello", "dropped, it makes room as well");
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(host.scope().sockets(), 1, "what was not read to its end is closed");
    end([&app, &host]).await;
}

/// Plays the server by hand: reads one request, answers it.
async fn answer(listener: &mut Listener) -> Connection {
    let mut connection = listener.accept().await.unwrap();
    read_request(&mut connection).await;
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    connection
}

async fn read_request(connection: &mut Connection) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(seen).unwrap()
}

async fn by_hand() -> (Listener, Host) {
    let net = Net::memory().build();
    let (app, client) = (host(&net, "app"), host(&net, "client"));
    (app.listen(80).await.unwrap(), client)
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_sent_again_and_nothing_else() {
    let (mut listener, host) = by_hand().await;
    let client = Client::new(&host);
    let (first, connection) = tokio::join!(text(&client, "http://app/"), answer(&mut listener));
    assert_eq!(first, "ok");
    drop(connection); // the client's connection task has not seen it when the next request is made
    let (second, mut connection) = tokio::join!(text(&client, "http://app/"), answer(&mut listener));
    assert_eq!(second, "ok", "on another connection");
    let half = async {
        read_request(&mut connection).await;
        drop(connection);
    };
    let (third, ()) = tokio::join!(client.get("http://app/"), half);
    let error = third.unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::Unavailable, Some("app:80")), "{}", error.chain());
    assert!(tokio::time::timeout(Duration::from_secs(9), listener.accept()).await.is_err(), "not sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_short_is_an_error_with_its_place() {
    let (mut listener, host) = by_hand().await;
    let client = Client::new(&host);
    let cut = async {
        let mut connection = listener.accept().await.unwrap();
        read_request(&mut connection).await;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    };
    let (response, ()) = tokio::join!(client.get("http://app/"), cut);
    let error = response.unwrap().into_body().bytes().await.unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::Unavailable, Some("app:80")), "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn the_base_and_the_port_are_filled_in() {
    let (mut listener, host) = by_hand().await;
    let client = Client::new(&host).base("http://app/v1/").unwrap();
    let seen = async {
        let mut connection = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.push(read_request(&mut connection).await);
            connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
        seen
    };
    let calls = async {
        client.get("/items?all=1").await.unwrap();
        client.get("http://app/other").await.unwrap();
    };
    let (seen, ()) = tokio::join!(seen, calls);
    assert_eq!(seen[0], "GET /v1/items?all=1 HTTP/1.1\r\nhost: app\r\n\r\n");
    assert_eq!(seen[1], "GET /other HTTP/1.1\r\nhost: app\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn wrong_addresses_are_named() {
    let net = Net::memory().build();
    let client = Client::new(&host(&net, ""));
    for (url, wanted) in [
        ("/path", "/path: invalid: the address names no host"),
        ("https://app/", "https://app/: unsupported: only http:// is spoken here"),
        ("http://me@app/", "http://me@app/: invalid: the address must name a host, and no user"),
        ("http://app/ x", "http://app/ x: invalid: this is not valid in HTTP"),
        ("http://app/", "app: not found: no such host"),
    ] {
        assert_eq!(text(&client, url).await, wanted);
    }
    assert_eq!(client.base("app").unwrap_err().to_string(), "app: invalid: not http://host");
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_hangs_times_out() {
    let net = Net::memory().latency(|_, _, _| Duration::from_secs(10)).build();
    let (_app, client) = (host(&net, "app"), host(&net, "client"));
    let start = time::now();
    assert_eq!(text(&Client::new(&client), "http://app/").await, "app:80: timed out: no connection in time");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn both_ends_upgrade_and_the_connection_is_not_pooled() {
    let net = Net::memory().build();
    let (app, host) = (host(&net, "app"), host(&net, "client"));
    let scope = app.scope().clone();
    let echo = tower::service_fn(move |mut request: ::http::Request<Body>| {
        let scope = scope.clone();
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            scope.spawn(async move {
                let upgraded = upgrade.await.unwrap();
                let (mut read, mut write) = tokio::io::split(hyper_util::rt::TokioIo::new(upgraded));
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
            let response =
                ::http::Response::builder().status(101).header("upgrade", "echo").header("connection", "upgrade");
            response.body(Body::empty())
        }
    });
    app.scope().spawn(http::serve(app.listen(80).await.unwrap(), echo).into_future());
    let client = Client::new(&host);
    let request = ::http::Request::get("http://app/").header("upgrade", "echo").header("connection", "upgrade");
    let response = client.request(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
    drop(stream);
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(host.scope().sockets(), 0);
    end([&app, &host]).await;
}

/// A server may answer before it has read the request; the next request goes elsewhere until it has.
#[tokio::test(start_paused = true)]
async fn an_answer_that_overtakes_its_request_holds_up_no_other() {
    let net = Net::memory().build();
    let (app, host) = (host(&net, "app"), host(&net, "client"));
    let mut listener = app.listen(80).await.unwrap();
    app.scope().spawn(async move {
        let mut open = Vec::new();
        while let Ok(mut connection) = listener.accept().await {
            let mut head = [0; 16];
            connection.read_exact(&mut head).await.unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            open.push(connection);
        }
    });
    let client = Client::new(&host).base("http://app").unwrap();
    let endless = futures::stream::pending::<Result<http_body::Frame<bytes::Bytes>, seedpod::Error>>();
    let upload = Body::new(http_body_util::StreamBody::new(endless));
    assert_eq!(client.post("/", upload).await.unwrap().into_body().text().await.unwrap(), "ok");
    let next = tokio::time::timeout(Duration::from_secs(60), text(&client, "/"));
    assert_eq!(next.await.expect("it waits for a request that never ends"), "ok");
    end([&app, &host]).await;
}
