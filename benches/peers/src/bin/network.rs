//! The network in memory: round trips, through a byte proxy too, HTTP requests, what an idle connection holds. By hand
//! there is tokio's pipe, and hyper over it; the peer is TCP over the loopback interface.
//!
//! One thread, client and server on it; what is measured runs as a task, as in real use.

use seedpod::{
    Result,
    http::{self, Client},
    net::{Connection, Host, HostOptions, Intercept, Net, splice},
};
use seedpod_peers::{
    Footprint, Group, Target,
    bare::{
        connections::{answer, bursts, hold},
        http::{connect, hello, requests},
        round_trip::{self, echo, trips},
    },
};
use std::{future::IntoFuture, io};
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Runs it as a task: the root future of a runtime pays for waking a thread that is not asleep.
fn task<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    match runtime.block_on(async { tokio::spawn(work).await }) {
        Ok(done) => done,
        Err(error) => panic!("{error}"),
    }
}

fn drive<'a, F>(runtime: &'a Runtime, work: impl Fn(u64) -> F + 'a) -> impl FnMut(u64) + 'a
where
    F: Future<Output = bool> + Send + 'static,
{
    move |count| assert!(task(runtime, work(count)))
}

fn hosts() -> Result<[Host; 2]> {
    let net = Net::memory().build();
    let host = |name: &str| net.host(HostOptions { name: name.into(), ..HostOptions::default() });
    Ok([host("server")?, host("client")?])
}

/// A connection whose other end runs this; through a byte proxy on the server's host where that is asked for.
async fn connection<F>(intercepted: bool, serve: impl Fn(Connection) -> F + Send + 'static) -> Result<Connection>
where
    F: Future<Output = ()> + Send + 'static,
{
    let [server, client] = hosts()?;
    let mut listener = server.listen(80).await?;
    let scope = server.scope().clone();
    server.scope().spawn(async move {
        while let Ok(stream) = listener.accept().await {
            scope.spawn(serve(stream));
        }
    });
    if intercepted {
        let mut listener = server.listen(15_006).await?;
        server.intercept(Intercept { inbound: Some(15_006), outbound: None });
        let proxy = server.exempt();
        server.scope().spawn(async move {
            while let Ok(down) = listener.accept().await {
                let Some(wanted) = down.original_destination() else { continue };
                let Ok(up) = proxy.connect(&wanted.to_string()).await else { continue };
                proxy.scope().spawn(splice(down, up));
            }
        });
    }
    client.connect("server:80").await
}

async fn round_trips(intercepted: bool, count: u64) -> bool {
    match connection(intercepted, echo).await {
        Ok(mut stream) => trips(&mut stream, count).await,
        Err(_) => false,
    }
}

async fn loopback() -> io::Result<[TcpStream; 2]> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = TcpStream::connect(listener.local_addr()?).await?;
    let there = listener.accept().await?.0;
    for stream in [&here, &there] {
        stream.set_nodelay(true)?;
    }
    Ok([here, there])
}

async fn round_trips_over_tcp(count: u64) -> bool {
    let Ok([mut here, there]) = loopback().await else { return false };
    tokio::spawn(echo(there));
    trips(&mut here, count).await
}

/// A client and its server, with everything that a user gets: names, pool, tracked tasks. Where a proxy is asked for, it
/// is a client that is served.
async fn http_client(proxied: bool) -> Result<Client> {
    let [server, client] = hosts()?;
    server.scope().spawn(http::serve(server.listen(80).await?, hello()).into_future());
    let client = Client::new(&client);
    if !proxied {
        return client.base("http://server");
    }
    let proxy = Client::new(&server).base("http://server")?;
    server.scope().spawn(http::serve(server.listen(8080).await?, proxy).into_future());
    client.base("http://server:8080")
}

async fn http_requests(proxied: bool, count: u64) -> Result {
    let client = http_client(proxied).await?;
    for _ in 0..count {
        client.get("/").await?.into_body().bytes().await?;
    }
    Ok(())
}

async fn bare_requests(over_tcp: bool, count: u64) -> bool {
    let sender = match over_tcp {
        false => connect(duplex(64 << 10).into()).await,
        true => match loopback().await {
            Ok(streams) => connect(streams).await,
            Err(_) => None,
        },
    };
    match sender {
        Some(mut sender) => requests(&mut sender, count).await,
        None => false,
    }
}

/// So many idle connections that have carried bursts.
async fn idle(count: u64) -> Result<Vec<Connection>> {
    let [server, client] = hosts()?;
    let mut listener = server.listen(80).await?;
    let scope = server.scope().clone();
    server.scope().spawn(async move {
        while let Ok(stream) = listener.accept().await {
            scope.spawn(answer(stream));
        }
    });
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = client.connect("server:80").await?;
        assert!(bursts(&mut stream).await);
        held.push(stream);
    }
    Ok(held)
}

/// So many idle HTTP/1.1 connections, with both of their ends: a client for each, since one would use one connection.
async fn idle_http(count: u64) -> Result<(Host, Vec<Client>)> {
    let [server, host] = hosts()?;
    server.scope().spawn(http::serve(server.listen(80).await?, hello()).into_future());
    let mut held = Vec::new();
    for _ in 0..count {
        let client = Client::new(&host).base("http://server")?;
        client.get("/").await?.into_body().bytes().await?;
        held.push(client);
    }
    Ok((server, held))
}

async fn idle_hyper(count: u64) -> Vec<hyper::client::conn::http1::SendRequest<http_body_util::Empty<bytes::Bytes>>> {
    let mut held = Vec::new();
    for _ in 0..count {
        if let Some(mut sender) = connect(duplex(64 << 10).into()).await {
            assert!(requests(&mut sender, 1).await);
            held.push(sender);
        }
    }
    held
}

fn main() -> io::Result<()> {
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Group::new("network/round_trip", Target::of_bare(1.25).ahead(20.0))
        .bare("tokio's pipe", drive(runtime, |count| async move { trips(&mut round_trip::connect(), count).await }))
        .ours("Net::memory", drive(runtime, |count| round_trips(false, count)))
        .peer("loopback TCP", drive(runtime, round_trips_over_tcp))
        .run();
    Group::new("network/byte_proxy", Target::of_bare(2.0))
        .bare("ours, direct", drive(runtime, |count| round_trips(false, count)))
        .ours("through an intercepting proxy", drive(runtime, |count| round_trips(true, count)))
        .run();
    Group::new("network/http", Target::of_bare(1.4).ahead(3.5))
        .bare("hyper over tokio's pipe", drive(runtime, |count| bare_requests(false, count)))
        .ours("Client, serve", drive(runtime, |count| async move { http_requests(false, count).await.is_ok() }))
        .peer("hyper over loopback TCP", drive(runtime, |count| bare_requests(true, count)))
        .run();
    Group::new("network/http_proxy", Target::of_bare(3.5))
        .bare("ours, direct", drive(runtime, |count| async move { http_requests(false, count).await.is_ok() }))
        .ours("through a proxy", drive(runtime, |count| async move { http_requests(true, count).await.is_ok() }))
        .run();
    Footprint::new("network/idle", 10_000, Target::bytes(2048.0))
        .bare("tokio's pipe", |count| task(runtime, hold(count)))
        .ours("Net::memory", |count| task(runtime, idle(count)))
        .run();
    Footprint::new("network/idle_http", 2000, Target::bytes(40.0 * 1024.0))
        .bare("hyper over tokio's pipe", |count| task(runtime, idle_hyper(count)))
        .ours("Client, serve", |count| task(runtime, idle_http(count)))
        .run();
    Ok(())
}
