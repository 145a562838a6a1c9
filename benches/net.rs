//! Round trips and HTTP requests, in CPU time: ours in memory against the bare thing and loopback TCP, on one thread.
#![allow(missing_docs, reason = "a benchmark has no readers of its docs")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::{BodyExt, Empty};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use seedpod::{
    http::{self, Client},
    net::{Host, HostOptions, Intercept, Net, splice},
};
use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Runs it as a task, as in real use: the root future of a runtime pays for waking a thread that is not asleep.
fn run(measured: impl Future<Output = Duration> + Send + 'static) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(measured).await.unwrap() })
}

/// The CPU time that this thread has used: what a busy machine does not change. Elsewhere than on Linux, the clock.
fn cpu() -> Duration {
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = used.as_deref().and_then(|used| used.split(' ').next()?.parse().ok());
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn hosts(net: &Net) -> [Host; 2] {
    ["server", "client"].map(|name| net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap())
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut space = [0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut space).await {
        if stream.write_all(space.get(..read).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// A server that echoes; through a byte proxy where that is asked for.
async fn echoing(net: &Net, intercepted: bool) -> [Host; 2] {
    let [server, client] = hosts(net);
    let mut listener = server.listen(80).await.unwrap();
    let scope = server.scope().clone();
    server.scope().spawn(async move {
        while let Ok(stream) = listener.accept().await {
            scope.spawn(echo(stream));
        }
    });
    if intercepted {
        let mut listener = server.listen(15006).await.unwrap();
        server.intercept(Intercept { inbound: Some(15006), outbound: None });
        let proxy = server.exempt();
        server.scope().spawn(async move {
            while let Ok(down) = listener.accept().await {
                let up = proxy.connect(&down.original_destination().unwrap().to_string()).await.unwrap();
                proxy.scope().spawn(splice(down, up));
            }
        });
    }
    [server, client]
}

/// This many round trips of 64 bytes.
async fn round_trips(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), trips: u64) -> Duration {
    let mut bytes = [7; 64];
    let start = cpu();
    for _ in 0..trips {
        stream.write_all(&bytes).await.unwrap();
        stream.read_exact(&mut bytes).await.unwrap();
    }
    cpu() - start
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trip of 64 bytes");
    group.bench_function("tokio duplex", |bencher| {
        bencher.iter_custom(|trips| {
            run(async move {
                let (mut here, there) = tokio::io::duplex(64 << 10);
                tokio::spawn(echo(there));
                round_trips(&mut here, trips).await
            })
        });
    });
    for (name, tcp, intercepted) in
        [("memory", false, false), ("memory, one byte proxy", false, true), ("loopback TCP", true, false)]
    {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|trips| {
                run(async move {
                    let net = if tcp { Net::tcp() } else { Net::memory() }.build();
                    let [_server, client] = echoing(&net, intercepted).await;
                    let mut here = client.connect("server:80").await.unwrap();
                    round_trips(&mut here, trips).await
                })
            });
        });
    }
    group.finish();
}

fn connects(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connect, a byte there and back, close");
    for (name, tcp) in [("memory", false), ("loopback TCP", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                run(async move {
                    let net = if tcp { Net::tcp() } else { Net::memory() }.build();
                    let [_server, client] = echoing(&net, false).await;
                    let start = cpu();
                    for _ in 0..times {
                        let mut stream = client.connect("server:80").await.unwrap();
                        stream.write_u8(1).await.unwrap();
                        stream.read_u8().await.unwrap();
                    }
                    cpu() - start
                })
            });
        });
    }
    group.finish();
}

fn hello() -> axum::Router {
    axum::Router::new().route("/", axum::routing::get(|| async { "hello, world\n" }))
}

/// What an expert writes for this one case: one hyper connection over a pipe, or over loopback TCP.
async fn bare(here: impl Stream, there: impl Stream, requests: u64) -> Duration {
    let server = hyper::server::conn::http1::Builder::new();
    tokio::spawn(server.serve_connection(TokioIo::new(there), TowerToHyperService::new(hello())));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(here)).await.unwrap();
    tokio::spawn(connection);
    let start = cpu();
    for _ in 0..requests {
        let request = ::http::Request::get("/").header("host", "server").body(Empty::<Bytes>::new()).unwrap();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    }
    cpu() - start
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

async fn loopback() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let there = listener.accept().await.unwrap().0;
    here.set_nodelay(true).unwrap();
    there.set_nodelay(true).unwrap();
    (here, there)
}

/// Through a proxy of HTTP where that is asked for: a client that is served.
async fn ours(net: Net, http2: bool, proxied: bool, requests: u64) -> Duration {
    let [server, client] = hosts(&net);
    let mut url = "http://server/";
    if proxied {
        let proxy = net.host(HostOptions { name: "proxy".into(), ..Default::default() }).unwrap();
        let forward = Client::new(&proxy).base("http://server").unwrap();
        proxy.scope().spawn(http::serve(proxy.listen(80).await.unwrap(), forward).into_future());
        url = "http://proxy/";
    }
    server.scope().spawn(http::serve(server.listen(80).await.unwrap(), hello()).into_future());
    let client = Client::new(&client);
    let client = if http2 { client.http2() } else { client };
    let start = cpu();
    for _ in 0..requests {
        client.get(url).await.unwrap().into_body().bytes().await.unwrap();
    }
    cpu() - start
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("HTTP/1.1 request");
    group.bench_function("bare hyper over duplex", |bencher| {
        bencher.iter_custom(|requests| {
            let (here, there) = tokio::io::duplex(64 << 10);
            run(bare(here, there, requests))
        });
    });
    group.bench_function("bare hyper over loopback TCP", |bencher| {
        bencher.iter_custom(|requests| {
            run(async move {
                let (here, there) = loopback().await;
                bare(here, there, requests).await
            })
        });
    });
    for (name, http2, proxied, tcp) in [
        ("memory", false, false, false),
        ("memory, HTTP/2", true, false, false),
        ("memory, one HTTP proxy", false, true, false),
        ("loopback TCP", false, false, true),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|requests| {
                run(async move {
                    let net = if tcp { Net::tcp() } else { Net::memory() }.build();
                    ours(net, http2, proxied, requests).await
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, streams, connects, requests);
criterion_main!(benches);
