//! What a request to many leaves costs through `Scatter`, against the bare futures by `join_all` and `FuturesUnordered`.
//!
//! Every leaf is pending once. `cargo bench --bench scatter`; side by side with what else there is, and with answers that
//! come one at a time: `cargo run --release --manifest-path benches/peers/Cargo.toml --bin scatter`.
#![allow(missing_docs, reason = "criterion's macros write functions without them")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use seedpod::{
    layer::{HedgeLayer, Request},
    serving::{Endpoints, Require, Scatter},
};
use std::{convert::Infallible, hint::black_box, ops::ControlFlow::Continue, time::Duration};
use tower::{Service, service_fn};

fn leaf(
    number: u64,
) -> impl Service<Request<u64>, Response = u64, Error = Infallible, Future: Send> + Clone + Send + Sync {
    service_fn(move |request: Request<u64>| async move {
        tokio::task::yield_now().await;
        Ok(request.message() ^ number)
    })
}

fn set(leaves: u64) -> Endpoints<impl Service<Request<u64>, Response = u64, Error = Infallible> + Clone> {
    let endpoints = Endpoints::named("leaves");
    endpoints.update(|changes| {
        for number in 0..leaves {
            changes.insert(number.to_string(), leaf(number));
        }
    });
    endpoints
}

fn scatter(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let Ok(runtime) = runtime else { return };
    let mut group = criterion.benchmark_group("scatter");
    for leaves in [4, 16, 64, 256] {
        group.throughput(Throughput::Elements(leaves));
        let request = || Request::new(black_box(7)).idempotent();
        let mut fold = Scatter::new(set(leaves)).fold(
            || 0,
            |sum, _, answer| {
                *sum ^= answer;
                Continue(())
            },
        );
        group.bench_function(BenchmarkId::new("fold", leaves), |bench| {
            bench.iter(|| runtime.block_on(fold.call(request())).map_or(0, |sum| sum.value));
        });
        let mut collect = Scatter::new(set(leaves));
        group.bench_function(BenchmarkId::new("answers", leaves), |bench| {
            bench.iter(|| runtime.block_on(collect.call(request())).map_or(0, |answers| answers.into_values().sum()));
        });
        let mut quorum = Scatter::new(set(leaves)).require(Require::Quorum(leaves as usize / 2 + 1));
        group.bench_function(BenchmarkId::new("quorum", leaves), |bench| {
            bench.iter(|| runtime.block_on(quorum.call(request())).map_or(0, |answers| answers.into_values().sum()));
        });
        if let Ok(hedge) = HedgeLayer::new(0.01) {
            let mut whole = Scatter::new(set(leaves)).within(Duration::from_secs(5)).hedge(hedge);
            group.bench_function(BenchmarkId::new("answers, hedged, within 5 s", leaves), |bench| {
                bench.iter(|| runtime.block_on(whole.call(request())).map_or(0, |answers| answers.into_values().sum()));
            });
        }
        let mut services: Vec<_> = (0..leaves).map(leaf).collect();
        group.bench_function(BenchmarkId::new("join_all", leaves), |bench| {
            bench.iter(|| {
                let all = join_all(services.iter_mut().map(|service| service.call(request())));
                runtime.block_on(all).into_iter().flatten().fold(0, |sum, answer| sum ^ answer)
            });
        });
        group.bench_function(BenchmarkId::new("FuturesUnordered", leaves), |bench| {
            bench.iter(|| {
                let all: FuturesUnordered<_> = services.iter_mut().map(|service| service.call(request())).collect();
                runtime.block_on(all.fold(0, |sum, answer| async move { sum ^ answer.unwrap_or(0) }))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scatter);
criterion_main!(benches);
