//! HTTP/1.1, HTTP/2, WebSocket, gRPC and a megabyte give the same in memory, through proxies, with tiny buffers, over TCP.

use super::{application, end, host};
use bytes::{Buf, BufMut, Bytes};
use futures::{FutureExt, SinkExt, StreamExt, TryStreamExt, future::BoxFuture};
use seedpod::{
    base::{BoxError, Seed, sync::Lock, time},
    http::{self, Client},
    net::{Host, Intercept, Net, splice},
};
use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tonic::{
    Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// A gRPC codec without code generation: raw bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Bidirectional: each word comes back in capitals.
#[derive(Clone)]
struct Shout;

impl tonic::server::StreamingService<Bytes> for Shout {
    type Response = Bytes;
    type ResponseStream = futures::stream::BoxStream<'static, Result<Bytes, Status>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let words = request.into_inner().map_ok(|word| Bytes::from(word.to_ascii_uppercase()));
        std::future::ready(Ok(tonic::Response::new(words.boxed())))
    }
}

/// What a generated gRPC server looks like to axum.
#[derive(Clone)]
struct Grpc;

impl<B> tower::Service<::http::Request<B>> for Grpc
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    type Response = ::http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        Ok(()).into()
    }

    fn call(&mut self, request: ::http::Request<B>) -> Self::Future {
        async { Ok(tonic::server::Grpc::new(Raw).streaming(Shout, request).await) }.boxed()
    }
}

/// A sidecar that passes bytes on to where they were meant to go.
async fn relay(host: Host, port: u16, seen: Arc<AtomicUsize>) {
    let mut listener = host.listen(port).await.unwrap();
    host.scope().clone().spawn(async move {
        let proxy = host.exempt();
        while let Ok(down) = listener.accept().await {
            seen.fetch_add(1, Relaxed);
            let proxy = proxy.clone();
            proxy.scope().clone().spawn(async move {
                let to = down.original_destination().unwrap().to_string();
                match proxy.connect(&to).await {
                    Ok(up) => drop(splice(down, up).await),
                    Err(_) => down.reset(),
                }
            });
        }
    });
}

/// What every client sees of the application; without the socket where bytes must repeat, since its client draws masks.
async fn visit(client: Host, socket: bool) -> Vec<String> {
    let mut seen = Vec::new();
    for http2 in [false, true] {
        let mut web = Client::new(&client).base("http://app:7070").unwrap();
        if http2 {
            web = web.http2();
        }
        for _ in 0..3 {
            let response = web.get("/hello").await.unwrap();
            seen.push(format!("{:?} {}", response.version(), response.into_body().text().await.unwrap()));
        }
        let big = Bytes::from(vec![7; 1 << 20]);
        let back = web.post("/echo", big.clone()).await.unwrap().into_body().bytes().await.unwrap();
        seen.push(format!("a megabyte comes back: {}", back == big));
        let refused = web.get("http://app:1/").await.unwrap_err();
        seen.push(refused.kind().to_string()); // alone: through a proxy it is a reset
    }
    let path = ::http::uri::PathAndQuery::from_static("/shout.Shout/Words");
    let words = || tonic::Request::new(futures::stream::iter(["a", "b", "c"]).map(Bytes::from));
    let mut grpc = tonic::client::Grpc::new(http::tonic::channel(&client, "http://app:7070").unwrap());
    grpc.ready().await.unwrap();
    let answers = grpc.streaming(words(), path.clone(), Raw).await.unwrap().into_inner();
    seen.push(format!("tonic {:?}", answers.try_collect::<Vec<_>>().await.unwrap()));
    let origin = ::http::Uri::from_static("http://app:7070");
    let mut grpc = tonic::client::Grpc::with_origin(Client::new(&client).http2(), origin);
    let answers = grpc.streaming(words(), path, Raw).await.unwrap().into_inner();
    seen.push(format!("own {:?}", answers.try_collect::<Vec<_>>().await.unwrap()));
    if !socket {
        return seen;
    }
    let connection = client.connect("app:7070").await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://app/ws", connection).await.unwrap();
    socket.send("over a socket".into()).await.unwrap();
    seen.push(format!("socket {}", socket.next().await.unwrap().unwrap()));
    socket.close(None).await.unwrap();
    seen
}

async fn everything(net: Net, intercepted: bool, socket: bool) -> Vec<String> {
    let (app, client) = (host(&net, "app"), host(&net, "client"));
    let seen = Arc::new(AtomicUsize::new(0));
    if intercepted {
        relay(app.clone(), 15006, seen.clone()).await;
        relay(client.clone(), 15001, seen.clone()).await;
        app.intercept(Intercept { inbound: Some(15006), outbound: None });
        client.intercept(Intercept { inbound: None, outbound: Some(15001) });
    }
    let listener = app.listen(7070).await.unwrap();
    let server = http::serve(listener, application().fallback_service(Grpc)).into_future();
    app.scope().spawn(server);
    let told = visit(client.clone(), socket).await;
    assert_eq!(seen.load(Relaxed) > 0, intercepted);
    end([&app, &client]).await;
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_everywhere() {
    let plain = everything(Net::memory().build(), false, true).await;
    assert_eq!(plain[0], "HTTP/1.1 hello");
    assert_eq!(plain[3], "a megabyte comes back: true");
    assert_eq!(plain[5], "HTTP/2.0 hello");
    assert_eq!(plain[10], r#"tonic [b"A", b"B", b"C"]"#);
    assert_eq!(plain[12], "socket over a socket");
    assert_eq!(plain, everything(Net::memory().build(), true, true).await);
    assert_eq!(plain, everything(Net::memory().buffer(100).build(), true, true).await);
    assert_eq!(plain, everything(Net::tcp().build(), false, true).await);
    assert_eq!(plain, everything(Net::tcp().build(), true, true).await);
}

/// All of it, through proxies, under latency and perturbation: the log of every byte with its virtual time.
fn log(seed: u64) -> Vec<String> {
    let seed = Seed::new(seed);
    let _simulation = seed.simulate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (log, start) = (Arc::new(Lock::new(Vec::new())), time::now());
        let wire = log.clone();
        let net = Net::memory()
            .perturb()
            .buffer(5000)
            .latency(|_, _, rng| Duration::from_micros(rng.below(20_000)))
            .observe(move |event| wire.lock().push(format!("{:?} {event}", start.elapsed())))
            .build();
        everything(net, true, false).await;
        std::mem::take(&mut *log.lock())
    })
}

#[test]
fn replays_byte_for_byte() {
    let logs: Vec<_> = (0..3).map(log).collect();
    for (seed, first) in logs.iter().enumerate() {
        assert!(first.len() > 1000, "{}", first.len());
        let second = log(seed as u64);
        let differs = first.iter().zip(&second).position(|(one, two)| one != two);
        assert!(*first == second, "seed {seed} differs at {differs:?}");
        assert_eq!(logs.iter().filter(|other| *other == first).count(), 1, "seed {seed}");
    }
}
