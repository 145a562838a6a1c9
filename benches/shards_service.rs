//! What a call costs through `Shards`, against the direct call and `Replicas`; and a million keys that move in memory.
//!
//! Every endpoint answers at once. `cargo bench --bench shards_service`; the bare look-up is in `cargo bench --bench shards`.
#![allow(missing_docs, reason = "criterion's macros write functions without them")]
#![allow(clippy::unwrap_used, reason = "a bench may fail loudly")]

use async_trait::async_trait;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use seedpod::{
    Result,
    base::sync::Lock,
    layer::Request,
    serving::{By, Endpoints, Fence, FenceLayer, Mover, Moving, Rebalance, Replicas, ShardMap, ShardMaps, Shards},
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Layer, Service};

#[derive(Clone)]
struct Echo(u64);

impl Service<Request<u64>> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        ready(Ok(request.message() ^ self.0))
    }
}

fn call<S: Service<Request<u64>, Response = u64>>(service: &mut S, request: Request<u64>) -> Option<u64> {
    let ready = service.poll_ready(&mut Context::from_waker(futures::task::noop_waker_ref())).is_ready();
    debug_assert!(ready, "endpoints are always ready here");
    service.call(request).now_or_never()?.ok()
}

fn key(request: &Request<u64>) -> &u64 {
    request.message()
}

type ByKey = By<fn(&Request<u64>) -> &u64>;
const ROUTE: ByKey = By::new(key);

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shards/call");
    let mut number = 0_u64;
    let mut request = move || {
        number += 1;
        Request::new(black_box(number))
    };
    let mut direct = Echo(7);
    group.bench_function("direct", |bencher| bencher.iter(|| call(&mut direct, request())));
    for count in [10_u64, 100, 1000] {
        let names: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
        let (endpoints, fenced) = (Endpoints::named("echo"), Endpoints::named("fenced"));
        let maps = ShardMaps::new(ShardMap::planned(names.clone()).build().unwrap());
        endpoints.update(|changes| {
            for (name, number) in names.iter().zip(0..) {
                changes.insert(name.as_str(), Echo(number));
            }
        });
        let mut replicas = Replicas::new(endpoints.clone());
        group.bench_function(format!("replicas/{count}"), |bencher| bencher.iter(|| call(&mut replicas, request())));
        let mut shards = Shards::routed(maps.clone(), ROUTE, endpoints.clone());
        group.bench_function(format!("shards/{count}"), |bencher| bencher.iter(|| call(&mut shards, request())));
        let mut bounded = shards.clone().bounded(1.25).unwrap();
        group.bench_function(format!("bounded/{count}"), |bencher| bencher.iter(|| call(&mut bounded, request())));
        let mut measured = shards.clone().measured(64);
        group.bench_function(format!("measured/{count}"), |bencher| bencher.iter(|| call(&mut measured, request())));
        if count <= 100 {
            fenced.update(|changes| {
                for (name, number) in names.iter().zip(0..) {
                    let fence = Fence::new(name.as_str(), maps.clone());
                    changes.insert(name.as_str(), FenceLayer::new(fence, ROUTE).layer(Echo(number)));
                }
            });
            let mut fenced = Shards::routed(maps.clone(), ROUTE, fenced);
            group.bench_function(format!("fenced/{count}"), |bencher| bencher.iter(|| call(&mut fenced, request())));
        }
        group.bench_function(format!("cloned per call/{count}"), |bencher| {
            bencher.iter(|| call(&mut shards.clone(), request()));
        });
    }
    group.finish();
}

/// The rows of each shard, by key.
struct Rows {
    shards: BTreeMap<Arc<str>, Lock<BTreeMap<u64, u64>>>,
}

const KEYS: u64 = 1_000_000;

impl Rows {
    fn of(map: &ShardMap, names: &[&str]) -> Self {
        let mut shards: BTreeMap<Arc<str>, BTreeMap<u64, u64>> =
            names.iter().map(|name| (Arc::from(*name), BTreeMap::new())).collect();
        for key in 0..KEYS {
            if let Some(rows) = shards.get_mut(map.name(map.owner(&key))) {
                rows.insert(key, key);
            }
        }
        Rows { shards: shards.into_iter().map(|(name, rows)| (name, Lock::new(rows))).collect() }
    }
}

#[async_trait]
impl Mover for Rows {
    async fn copy(&self, moving: &Moving) -> Result {
        if let (Some(from), Some(to)) = (self.shards.get(&moving.from), self.shards.get(&moving.to)) {
            let from = from.lock();
            to.lock().extend(from.iter().filter(|(key, _)| moving.contains(*key)).map(|(key, value)| (*key, *value)));
        }
        Ok(())
    }

    async fn seal(&self, _: &Moving) -> Result {
        Ok(())
    }

    async fn hand_over(&self, _: &Moving) -> Result {
        Ok(())
    }

    async fn clean(&self, moving: &Moving) -> Result {
        if let Some(from) = self.shards.get(&moving.from) {
            from.lock().retain(|key, _| !moving.contains(key));
        }
        Ok(())
    }
}

fn rebalances(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shards/rebalance");
    group.sample_size(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let three = ShardMap::planned(["s0", "s1", "s2"]).build().unwrap();
    let grown = three.next(|shards| {
        shards.add("s3").add("s4");
    });
    let five = grown.unwrap();
    let plan = three.plan(&five).unwrap();
    let settings = Rebalance::new().step(65_536);
    group.bench_function("a million keys, 3 to 5 shards", |bencher| {
        let set_up = || (ShardMaps::new(three.clone()), Rows::of(&three, &["s0", "s1", "s2", "s3", "s4"]));
        let run = |(maps, rows): (ShardMaps, Rows)| {
            runtime.block_on(maps.rebalance(&settings, &plan, &rows)).unwrap();
            (maps, rows)
        };
        bencher.iter_batched(set_up, run, BatchSize::PerIteration);
    });
    group.bench_function("no keys, 3 to 5 shards in steps of 4,096 slots", |bencher| {
        let set_up = || (ShardMaps::new(three.clone()), Rows { shards: BTreeMap::new() });
        let run = |(maps, rows): (ShardMaps, Rows)| {
            runtime.block_on(maps.rebalance(&Rebalance::new(), &plan, &rows)).unwrap();
            (maps, rows)
        };
        bencher.iter_batched(set_up, run, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, calls, rebalances);
criterion_main!(benches);
