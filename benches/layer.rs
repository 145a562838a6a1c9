//! What each layer adds to a call that is answered at once, against the bare service. `cargo bench --bench layer`.
#![allow(missing_docs, reason = "criterion's macros write functions without them")]
#![allow(clippy::expect_used, reason = "the settings here are valid")]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use http_body_util::Full;
use seedpod::{
    base::Error,
    layer::{
        BreakerLayer, CacheLayer, DeadlineLayer, FaultLayer, HedgeLayer, HttpCacheLayer, IdempotencyKey,
        IdempotencyLayer, Request, RetryLayer, ShadowLayer, Split, TimeoutLayer, Trip,
    },
};
use std::{
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder, service_fn};

#[derive(Clone)]
struct Echo;

impl Service<Request<u64>> for Echo {
    type Response = u64;
    type Error = Error;
    type Future = Ready<Result<u64, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        ready(Ok(request.into_message()))
    }
}

fn case<S>(criterion: &mut Criterion, name: &str, mut service: S)
where
    S: Service<Request<u64>, Response = u64, Error = Error>,
{
    criterion.bench_function(&format!("layer/{name}"), |bencher| {
        bencher.iter(|| {
            let ready = service.poll_ready(&mut Context::from_waker(futures::task::noop_waker_ref()));
            debug_assert!(ready.is_ready());
            service.call(Request::new(black_box(1)).idempotent()).now_or_never()
        });
    });
}

fn layers(criterion: &mut Criterion) {
    let second = Duration::from_secs(1);
    let breaker = || BreakerLayer::new("echo", Trip::new()).expect("the defaults are valid");
    let hedge = || HedgeLayer::new(0.01).expect("one in a hundred is valid");
    case(criterion, "bare", Echo);
    case(criterion, "deadline", DeadlineLayer::new(second).layer(Echo));
    case(criterion, "timeout", TimeoutLayer::new(second).layer(Echo));
    case(criterion, "retry", RetryLayer::new().layer(Echo));
    case(criterion, "breaker", breaker().layer(Echo));
    let keyed = breaker().keyed(|request: &Request<u64>| *request.message());
    case(criterion, "breaker by key", keyed.layer(Echo));
    case(criterion, "hedge", hedge().layer(Echo));
    case(criterion, "fault, no rule", FaultLayer::new().layer(Echo));
    case(criterion, "shadow of none", ShadowLayer::new(Echo, 0.0).expect("none is valid").layer(Echo));
    let split = || Split::new([("a", Echo, 9), ("b", Echo, 1)]).expect("two names");
    case(criterion, "split", split());
    let key = |request: &Request<u64>| request.message().to_be_bytes();
    case(criterion, "split by key", split().by_key(key));
    case(criterion, "cache hit", CacheLayer::by(|request: &Request<u64>| Some(*request.message())).layer(Echo));
    let key = |request: &Request<u64>| Some(IdempotencyKey::new("order-7").of(request.message()));
    case(criterion, "idempotency hit", IdempotencyLayer::by(key).layer(Echo));
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(second))
        .layer(RetryLayer::new())
        .layer(hedge())
        .layer(breaker())
        .layer(TimeoutLayer::new(second))
        .service(Echo);
    case(criterion, "deadline, retry, hedge, breaker, timeout", stack);
}

/// A page that is answered at once, bare and kept.
fn pages(criterion: &mut Criterion) {
    let page = service_fn(|_: http::Request<Full<Bytes>>| {
        let page = http::Response::builder().header("cache-control", "max-age=3600").body(Full::from("hello"));
        ready(page.map_err(Error::from))
    });
    let request = || http::Request::get("http://shop/a/page").body(Full::<Bytes>::default()).expect("a valid request");
    let mut bare = page;
    criterion.bench_function("layer/http, bare", |bencher| {
        bencher.iter(|| bare.call(black_box(request())).now_or_never());
    });
    let mut cached = HttpCacheLayer::new().layer(page);
    criterion.bench_function("layer/http cache hit", |bencher| {
        bencher.iter(|| cached.call(black_box(request())).now_or_never());
    });
}

criterion_group!(benches, layers, pages);
criterion_main!(benches);
