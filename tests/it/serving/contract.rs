//! Every layer, and every service of `serving`, is put through both probes of `testing`: none breaks the rule of
//! readiness, none clones more than once per attempt, and none leaves anything under way when its call is dropped after
//! any number of polls. No layer is forgotten.

use super::*;
use bytes::Bytes;
use http_body_util::Full;
use seedpod::{
    layer::{
        AdaptiveLimitLayer, AdmissionLayer, BreakerLayer, BulkheadLayer, CacheLayer, CoalesceLayer,
        ConcurrencyLimitLayer, FaultLayer, Gradient2, HedgeLayer, IdempotencyKey, IdempotencyLayer, IdleLayer, Rate,
        RateLimitLayer, ShadowLayer, ShedLayer, Split, Throttle, TimeoutLayer, TotalTimeoutLayer, Trip,
    },
    serving::{By, Coverage, Fence, FenceLayer, Scatter, ShardMap, ShardMaps, Shards},
    testing::{
        drops,
        readiness::{self, Report},
    },
};
use std::{any::type_name, collections::BTreeSet, fs, path::Path};
use tower::util::MapResponse;

fn request() -> Request<u32> {
    Request::new(7).idempotent()
}

fn key(request: &Request<u32>) -> Option<u32> {
    Some(*request.message())
}

fn idempotency_key(request: &Request<u32>) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new("order").of(request.message()))
}

async fn mirror(_: Request<u32>) -> Result<u32> {
    Ok(1)
}

fn replicas<S: Clone>(service: S) -> Replicas<S> {
    let endpoints = seeded("probed");
    endpoints.insert("probe", service);
    Replicas::new(endpoints)
}

fn nine<S: Clone>(service: S) -> Endpoints<S> {
    let endpoints = seeded("nine");
    endpoints.update(|changes| {
        for number in 0..9 {
            changes.insert(number.to_string(), service.clone());
        }
    });
    endpoints
}

fn number(request: &Request<u32>) -> &u32 {
    request.message()
}

fn maps() -> ShardMaps {
    ShardMap::planned(["probe"]).build().unwrap().into()
}

fn shards<S: Clone>(service: S) -> Shards<S, By<fn(&Request<u32>) -> &u32>> {
    let endpoints = seeded("probed");
    endpoints.insert("probe", service);
    Shards::new(maps(), number as fn(&Request<u32>) -> &u32, endpoints)
}

/// The name alone of the service's type.
fn name<S>(_: &S) -> &'static str {
    let name = type_name::<S>();
    name.split('<').next().and_then(|path| path.rsplit("::").next()).unwrap_or(name)
}

/// Writes a test for each service: its name, and how it is put around another.
macro_rules! contract {
    ($($test:ident: $name:ident, |$inner:ident| $service:expr;)*) => {
        const PROBED: &[&str] = &[$(stringify!($name)),*];

        $(
            #[tokio::test(start_paused = true)]
            async fn $test() {
                let around = |$inner| $service;
                readiness::check(request, Request::into_message, around).await.unwrap();
                let slow = drops::Slow::new(Request::<u32>::into_message);
                let $inner = slow.clone();
                let service = $service;
                assert_eq!(name(&service), stringify!($name));
                drops::check(|| service.clone().oneshot(request()), || slow.under_way()).await.unwrap();
            }
        )*
    };
}

contract! {
    adaptive_limit: AdaptiveLimit, |inner| AdaptiveLimitLayer::wait(Gradient2::new(), 9).unwrap().layer(inner);
    admission: Admission, |inner| AdmissionLayer::new(Throttle::new()).unwrap().layer(inner);
    breaker: Breaker, |inner| BreakerLayer::new("probed", Trip::new()).unwrap().layer(inner);
    breaker_by_key: Breaker, |inner| BreakerLayer::new("probed", Trip::new()).unwrap().keyed(key).layer(inner);
    bulkhead: Bulkhead, |inner| BulkheadLayer::wait(1, 9, key).layer(inner);
    cache: Cache, |inner| CacheLayer::by(key).ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO).layer(inner);
    cache_passed: Cache, |inner| CacheLayer::by(|_: &Request<u32>| None::<u32>).layer(inner);
    coalesce: Coalesce, |inner| CoalesceLayer::by(key).layer(inner);
    concurrency_limit_that_sheds: ConcurrencyLimit, |inner| ConcurrencyLimitLayer::shed(1).layer(inner);
    concurrency_limit_that_waits: ConcurrencyLimit, |inner| ConcurrencyLimitLayer::wait(1, 9).layer(inner);
    deadline: DeadlineService, |inner| DeadlineLayer::new(5 * SECOND).layer(inner);
    erased: Erased, |inner| Erased::new(inner);
    fault: Fault, |inner| FaultLayer::new().layer(inner);
    hedge: Hedge, |inner| HedgeLayer::new(0.1).unwrap().layer(inner);
    idempotency: Idempotency, |inner| IdempotencyLayer::by(idempotency_key).window(Duration::ZERO).layer(inner);
    fenced: Fenced, |inner| {
        FenceLayer::new(Fence::new("probe", maps()), By::new(number as fn(&Request<u32>) -> &u32)).layer(inner)
    };
    idle: Idle, |inner| {
        let response = |number: u32| ::http::Response::new(Full::new(Bytes::copy_from_slice(&number.to_be_bytes())));
        IdleLayer::new().layer(MapResponse::new(inner, response))
    };
    rate_limit: RateLimit, |inner| RateLimitLayer::wait(Rate::new(1_000, SECOND).unwrap(), SECOND).layer(inner);
    rate_limit_by_key: RateLimit, |inner| RateLimitLayer::shed(Rate::new(1_000, SECOND).unwrap()).keyed(key).layer(inner);
    replicas_: Replicas, |inner| replicas(inner);
    replicas_of_replicas: Replicas, |inner| replicas(replicas(inner));
    replicas_of_erased: Replicas, |inner| replicas(Erased::new(inner));
    retry: Retry, |inner| RetryLayer::new().attempt_timeout(SECOND).layer(inner);
    scatter: Scatter, |inner| Scatter::new(nine(inner)).require(Coverage::count(0)).within(5 * SECOND);
    scatter_of_one: Scatter, |inner| Scatter::new(replicas(inner).endpoints().clone());
    scatter_of_scatters: Scatter, |inner| {
        let branch = Scatter::new(nine(inner)).require(Coverage::count(0));
        Scatter::new(nine(branch)).require(Coverage::count(0)).tree()
    };
    shadow: Shadow, |inner| ShadowLayer::new(service_fn(mirror), 1.0).unwrap().layer(inner);
    shards_: Shards, |inner| shards(inner);
    shards_of_replicas: Shards, |inner| shards(replicas(inner));
    shards_bounded: Shards, |inner| shards(inner).bounded(2.0).unwrap();
    shards_fenced: Shards, |inner| {
        let route = By::new(number as fn(&Request<u32>) -> &u32);
        shards(FenceLayer::new(Fence::new("probe", maps()), route).layer(inner))
    };
    shed: Shed, |inner| ShedLayer::new().patience(SECOND).layer(inner);
    split: Split, |inner| Split::new([("a", inner, 1)]).unwrap();
    timeout: Timeout, |inner| TimeoutLayer::new(5 * SECOND).layer(inner);
    total_timeout: TotalTimeout, |inner| TotalTimeoutLayer::new(5 * SECOND).layer(inner);
    client_of_six: DeadlineService, |inner| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(5 * SECOND))
            .layer(RetryLayer::new())
            .layer(HedgeLayer::new(0.1).unwrap())
            .layer(BreakerLayer::new("probed", Trip::new()).unwrap())
            .layer(TimeoutLayer::new(SECOND))
            .service(replicas(inner))
    };
}

#[tokio::test(start_paused = true)]
async fn a_stack_of_six_clones_the_endpoint_once_per_attempt() {
    let alone: Report = readiness::check(request, Request::into_message, |probe| probe).await.unwrap();
    let six = readiness::check(request, Request::into_message, |probe| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(5 * SECOND))
            .layer(RetryLayer::new())
            .layer(HedgeLayer::new(0.1).unwrap())
            .layer(BreakerLayer::new("probed", Trip::new()).unwrap())
            .layer(TimeoutLayer::new(SECOND))
            .service(replicas(probe))
    })
    .await
    .unwrap();
    // who was never ready, and who was dropped before that, was cloned and not called
    assert!(six.calls >= alone.calls && six.clones <= six.calls + 3, "{six:?} {alone:?}");
}

/// The types of these files that are services, tests left out.
fn services(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            services(&path, found);
            continue;
        }
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (head, of) in text.lines().filter_map(|line| line.strip_prefix("impl<")?.split_once(" for ")) {
            if head.rsplit("> ").next().is_some_and(|of| of.starts_with("Service<")) {
                found.insert(of.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
            }
        }
    }
}

/// Services of other requests, and where both probes are run over them.
const OTHERS: [(&str, &str); 5] = [
    ("Batched", include_str!("batched.rs")),
    ("HttpCache", include_str!("http_cache.rs")),
    ("HttpIdempotency", include_str!("idempotency.rs")),
    ("Sticky", include_str!("sticky.rs")),
    ("Whole", include_str!("idempotency.rs")),
];

#[test]
fn no_layer_and_no_service_is_forgotten() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    services(&src.join("layer"), &mut found);
    services(&src.join("serving"), &mut found);
    assert!(found.contains("Retry") && found.contains("Cache") && found.contains("Replicas"), "{found:?}");
    for (name, file) in OTHERS {
        assert!(file.contains("leaves_nothing(") && file.contains("check("), "{name}");
    }
    let probed = PROBED.iter().chain(OTHERS.iter().map(|(name, _)| name));
    let probed: BTreeSet<String> = probed.map(|name| name.to_string()).collect();
    assert_eq!(found, probed, "what implements Service under src/layer and src/serving, and what is probed here");

    // a layer may also be built of other services: each layer that is public is named here
    let (public, here) = (fs::read_to_string(src.join("layer/mod.rs")).unwrap(), include_str!("contract.rs"));
    let names = public.lines().filter(|line| line.starts_with("pub use ")).flat_map(|line| {
        line.split(|letter: char| !letter.is_alphanumeric()).filter(|name| name.ends_with("Layer")).collect::<Vec<_>>()
    });
    let texts = || OTHERS.iter().map(|(_, text)| *text).chain([here]);
    let missing: Vec<_> = names.filter(|name| !texts().any(|text| text.contains(&format!("{name}::")))).collect();
    assert!(missing.is_empty(), "not probed here: {missing:?}");
}
