//! The broker in memory: submit, lease and acknowledge, per item; beside it a bare channel, which acknowledges nothing.
#![allow(clippy::unwrap_used, reason = "benchmarks may fail loudly")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedpod::{
    base::Few,
    queue::{Broker, BrokerExt, Id, Json, Memory, Payload, Publish, Step, Subscription, Topic, TopicOptions, Want},
};
use std::{hint::black_box, sync::Arc, time::Instant};
use tokio::runtime::{Builder, Runtime};

const BATCH: u32 = 64;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

async fn broker(capacity: usize) -> (Arc<dyn Broker>, Topic, Subscription) {
    let (broker, jobs) = (Arc::new(Memory::new()), Topic::new("jobs"));
    broker.declare(&jobs, TopicOptions::new().subscription("workers").capacity(capacity)).await.unwrap();
    (broker, jobs.clone(), jobs.subscription("workers"))
}

/// Runs this many items through `once`, which gets the number of items, and says how long it took.
fn bench<F: Future<Output = ()>>(
    criterion: &mut Criterion,
    group: &str,
    name: &str,
    items: u64,
    once: impl Fn(u64) -> F,
) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(items));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|turns| {
            #[expect(clippy::disallowed_methods, reason = "it is what is measured")]
            let start = Instant::now();
            runtime.block_on(once(turns * items));
            start.elapsed()
        });
    });
    group.finish();
}

async fn channel(count: u64) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
    let producer = tokio::spawn(async move {
        for number in 0..count {
            sender.send((number, number)).await.unwrap();
        }
    });
    let consumer = tokio::spawn(async move {
        for _ in 0..count {
            black_box(receiver.recv().await.unwrap());
        }
    });
    let (produced, consumed) = tokio::join!(producer, consumer);
    produced.unwrap();
    consumed.unwrap();
}

async fn one_at_a_time(count: u64) {
    let (broker, jobs, workers) = broker(4096).await;
    for number in 0..count {
        broker.send(Publish::json(&jobs, Id::from_u128(number.into()), number)).await.unwrap();
        let leased = broker.lease(&workers, Want::one()).await.unwrap();
        for delivery in &leased {
            black_box(delivery.get::<u64>(0));
            broker.ack(delivery.lease).await.unwrap();
        }
    }
}

async fn producer_and_consumer(count: u64) {
    let (broker, jobs, workers) = broker(1024).await;
    let sender = broker.clone();
    let producer = tokio::spawn(async move {
        for number in 0..count {
            sender.send(Publish::json(&jobs, Id::from_u128(number.into()), number)).await.unwrap();
        }
    });
    let consumer = tokio::spawn(async move {
        for _ in 0..count {
            let leased = broker.lease(&workers, Want::one()).await.unwrap();
            for delivery in &leased {
                black_box(delivery.get::<u64>(0));
                broker.ack(delivery.lease).await.unwrap();
            }
        }
    });
    let (produced, consumed) = tokio::join!(producer, consumer);
    produced.unwrap();
    consumed.unwrap();
}

/// 64 at a time: as one batch or as messages of their own, leased in deliveries of up to `chunk`.
async fn in_batches(count: u64, separate: bool, chunk: u32) {
    let (broker, jobs, workers) = broker(1024).await;
    let sender = broker.clone();
    let producer = tokio::spawn(async move {
        for first in (0..count).step_by(BATCH as usize) {
            let numbers = first..first + u64::from(BATCH);
            let id = |number: u64| Id::from_u128(number.into());
            let batches: Few<Publish> = if separate {
                numbers.map(|number| Publish::json(&jobs, id(number), number)).collect()
            } else {
                [Publish::new(&jobs, id(first), Payload::values(numbers.collect(), Json))].into()
            };
            sender.publish(batches).await.unwrap();
        }
    });
    let consumer = tokio::spawn(async move {
        let mut left = count;
        while left > 0 {
            let leased = broker.lease(&workers, Want::items(BATCH).chunk(chunk)).await.unwrap();
            let mut step = Step::new();
            step.acks.reserve_exact(leased.len());
            for delivery in &leased {
                black_box(delivery.slice::<u64>());
                left -= u64::from(delivery.len());
                step.acks.push(delivery.lease);
            }
            broker.settle(step).await.unwrap();
        }
    });
    let (produced, consumed) = tokio::join!(producer, consumer);
    produced.unwrap();
    consumed.unwrap();
}

fn queue(criterion: &mut Criterion) {
    let batch = BATCH.into();
    bench(criterion, "queue/one at a time", "bare: tokio mpsc, no acknowledgement", 1, channel);
    bench(criterion, "queue/one at a time", "submit, lease, acknowledge in one task", 1, one_at_a_time);
    bench(criterion, "queue/one at a time", "producer and consumer", 1, producer_and_consumer);
    bench(criterion, "queue/64 at a time", "one batch, one delivery", batch, |n| in_batches(n, false, BATCH));
    bench(criterion, "queue/64 at a time", "one batch, 64 deliveries", batch, |n| in_batches(n, false, 1));
    bench(criterion, "queue/64 at a time", "64 messages, 64 deliveries", batch, |n| in_batches(n, true, BATCH));
}

criterion_group!(benches, queue);
criterion_main!(benches);
