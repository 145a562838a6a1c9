//! The broker on disk: submit, lease and acknowledge, per item, each on the disk when it is answered.
#![allow(clippy::unwrap_used, reason = "benchmarks may fail loudly")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedpod::queue::{Broker, Durable, Id, Payload, Publish, Step, Subscription, Topic, TopicOptions, Want};
use std::{sync::Arc, time::Instant};
use tokio::runtime::{Builder, Runtime};

type Queue = (Arc<Durable>, Topic, Subscription);

async fn open(path: std::path::PathBuf) -> Queue {
    let (broker, jobs) = (Durable::open(path).await.unwrap(), Topic::new("jobs"));
    broker.declare(&jobs, TopicOptions::new().subscription("workers").capacity(1 << 40)).await.unwrap();
    (Arc::new(broker), jobs.clone(), jobs.subscription("workers"))
}

async fn cycle((broker, jobs, workers): &Queue, number: u64, items: u64) {
    let payload = Payload::many((0..items).map(|_| bytes::Bytes::from_static(&[7; 128])));
    broker.publish([Publish::new(jobs, Id::from_u128(number.into()), payload)].into()).await.unwrap();
    let (mut left, mut step) = (items, Step::new());
    while left > 0 {
        for delivery in broker.lease(workers, Want::items(left as u32)).await.unwrap() {
            left -= u64::from(delivery.len());
            step.acks.push(delivery.lease);
        }
    }
    broker.settle(step).await.unwrap();
}

/// So many clients, each of which submits, leases and settles so many at a time.
fn bench(criterion: &mut Criterion, runtime: &Runtime, queue: &Queue, name: &str, clients: u64, items: u64) {
    let mut group = criterion.benchmark_group("durable");
    group.throughput(Throughput::Elements(clients * items)).sample_size(10);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|turns| {
            #[expect(clippy::disallowed_methods, reason = "it is what is measured")]
            let start = Instant::now();
            runtime.block_on(async {
                let client = |of: u64| {
                    let queue = queue.clone();
                    tokio::spawn(async move {
                        for turn in 0..turns {
                            cycle(&queue, of << 32 | turn, items).await;
                        }
                    })
                };
                for client in (0..clients).map(client).collect::<Vec<_>>() {
                    client.await.unwrap();
                }
            });
            start.elapsed()
        });
    });
    group.finish();
}

fn durable(criterion: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("seedpod-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let queue = runtime.block_on(open(folder.join("a.db")));
    bench(criterion, &runtime, &queue, "one client, one at a time", 1, 1);
    bench(criterion, &runtime, &queue, "32 clients, one at a time", 32, 1);
    bench(criterion, &runtime, &queue, "one client, batches of 100", 1, 100);
    drop(queue);
    std::fs::remove_dir_all(&folder).unwrap();
}

criterion_group!(benches, durable);
criterion_main!(benches);
