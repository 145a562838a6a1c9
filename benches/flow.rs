//! Flows, per item: functions fused, beside one loop; stages over topics in memory; a join and a reduction.
#![allow(clippy::unwrap_used, reason = "benchmarks may fail loudly")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedpod::{
    flow::{Batch, Flow, Graph, OnFailed, Sum, pipe},
    queue::{Id, Memory},
};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

const ITEMS: u64 = 100_000;
const BATCH: u64 = 256;

fn one_loop() -> u64 {
    let mut sum = 0_u64;
    for number in 0..ITEMS {
        let number = black_box(number) + 1;
        if number % 3 != 0 && number * 3 % 5 != 0 {
            sum = sum.wrapping_add((number * 3) ^ 0x55);
        }
    }
    sum
}

fn fused(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow/fused");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("one loop", |bencher| bencher.iter(one_loop));
    let pipe =
        pipe::<u64>().map(|n| n + 1).filter(|n| n % 3 != 0).map(|n| n * 3).filter(|n| n % 5 != 0).map(|n| n ^ 0x55);
    group.bench_function("pipe", |bencher| {
        bencher.iter(|| {
            let mut sum = 0_u64;
            pipe.run((0..ITEMS).map(black_box), |number| sum = sum.wrapping_add(number));
            sum
        });
    });
    group.finish();
}

/// Sends the items in batches through this graph, whose sinks take few.
fn bench(criterion: &mut Criterion, name: &str, graph: impl Fn() -> Graph) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut group = criterion.benchmark_group("flow/staged");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|turns| {
            #[expect(clippy::disallowed_methods, reason = "it is what is measured")]
            let start = Instant::now();
            for _ in 0..turns {
                runtime.block_on(async {
                    let run = graph().on(Arc::new(Memory::new()));
                    let input = run.input::<u64>("numbers").await.unwrap();
                    for first in (0..ITEMS).step_by(BATCH as usize) {
                        let items = (first..(first + BATCH).min(ITEMS)).collect();
                        input.batch(Id::from_u128(first.into()), items).await.unwrap();
                    }
                    run.until_drained().await.unwrap();
                });
            }
            start.elapsed()
        });
    });
    group.finish();
}

fn flow() -> Flow {
    let mut flow = Flow::new("bench");
    flow.tune(|stage| stage.capacity(2 * ITEMS as usize));
    flow
}

fn staged(criterion: &mut Criterion) {
    bench(criterion, "five stages", || {
        let mut flow = flow();
        let numbers = flow.source::<u64>("numbers").map(|n| n + 1).edge().filter(|n| n % 3 != 0).edge();
        numbers.map(|n| n * 3).edge().filter(|n| n % 5 != 0).edge().map(|n| n ^ 0x55).discard();
        flow.build().unwrap()
    });
    bench(criterion, "two copies, merged and joined", || {
        let mut flow = flow();
        let [one, two] = flow.source::<u64>("numbers").copy();
        let both = one.merge(two).join(Batch::of(Sum::of(|n: &u64| *n)), Duration::from_secs(60), OnFailed::Report);
        both.discard();
        flow.build().unwrap()
    });
    bench(criterion, "reduced", || {
        let mut flow = flow();
        flow.source::<u64>("numbers").reduce(Sum::of(|n: &u64| *n)).discard();
        flow.build().unwrap()
    });
}

criterion_group!(benches, fused, staged);
criterion_main!(benches);
