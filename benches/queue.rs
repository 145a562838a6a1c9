//! The broker in memory against a bare channel: submit, lease and acknowledge, per item.
#![allow(clippy::unwrap_used, reason = "benchmarks may fail loudly")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use seedpod::queue::{
    Broker, BrokerExt, Id, Json, Memory, Payload, Publish, Step, Subscription, Topic, TopicOptions, Want,
};
use std::{hint::black_box, sync::Arc};
use tokio::runtime::{Builder, Runtime};

const BATCH: u64 = 64;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn broker(runtime: &Runtime) -> (Arc<dyn Broker>, Topic, Subscription) {
    let (broker, jobs) = (Arc::new(Memory::new()), Topic::new("jobs"));
    runtime.block_on(broker.declare(&jobs, TopicOptions::new().subscription("workers").capacity(4096))).unwrap();
    (broker, jobs.clone(), jobs.subscription("workers"))
}

fn one_at_a_time(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("queue/one at a time");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare: tokio mpsc, nothing acknowledged", |bencher| {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(4096);
        bencher.to_async(&runtime).iter(|| {
            let turn = receiver.try_recv().is_ok();
            black_box(turn);
            let sender = sender.clone();
            async move { sender.send(1_u64).await.unwrap() }
        });
    });
    group.bench_function("memory: submit, lease, acknowledge", |bencher| {
        let (broker, jobs, workers) = broker(&runtime);
        let mut number = 0_u64;
        bencher.iter(|| {
            number += 1;
            runtime.block_on(async {
                broker.send(Publish::json(&jobs, Id::from_u128(number.into()), number)).await.unwrap();
                for delivery in broker.lease(&workers, Want::one()).await.unwrap() {
                    black_box(delivery.get::<u64>(0));
                    broker.ack(delivery.lease).await.unwrap();
                }
            });
        });
    });
    group.finish();
}

fn in_batches(criterion: &mut Criterion) {
    let _ = BatchSize::SmallInput;
    let _ = criterion;
}

criterion_group!(benches, one_at_a_time, in_batches);
criterion_main!(benches);
