//! The broker in memory: submit, lease, acknowledge. By hand there are channels, which acknowledge nothing; the peer is
//! apalis, whose memory knows neither leases nor acknowledgements.
//!
//! One thread; a producer's and a consumer's task, except where one task does all, one at a time.

use apalis_core::{
    backend::{TaskSink, memory::MemoryStorage},
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use seedpod::{
    Result,
    base::Few,
    queue::{Broker, BrokerExt, Id, Json, Memory, Payload, Publish, Step, Subscription, Topic, TopicOptions, Want},
};
use seedpod_peers::{
    Footprint, Group, Target,
    bare::channel::{self, CAPACITY},
};
use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::runtime::Runtime;

const BATCH: u32 = 64;

/// What a value takes by itself.
const PAYLOAD: f64 = size_of::<(u64, u64)>() as f64;

/// What a user holds: any broker, by its trait.
type Queue = (Arc<dyn Broker>, Topic, Subscription);

async fn declare(capacity: usize) -> Result<Queue> {
    let (broker, jobs) = (Arc::new(Memory::new()), Topic::new("jobs"));
    broker.declare(&jobs, TopicOptions::new().subscription("workers").capacity(capacity)).await?;
    Ok((broker, jobs.clone(), jobs.subscription("workers")))
}

fn id(number: u64) -> Id {
    Id::from_u128(number.into())
}

/// From this number on: so many items as messages of their own, or as one batch.
fn publishes(jobs: &Topic, first: u64, items: u64, separate: bool) -> Few<Publish> {
    let numbers = first..first + items;
    match separate {
        true => numbers.map(|number| Publish::json(jobs, id(number), (number, number))).collect(),
        false => {
            let values: Vec<_> = numbers.map(|number| (number, number)).collect();
            [Publish::new(jobs, id(first), Payload::values(values, Json))].into()
        }
    }
}

/// 64 at a time: as one batch or as messages of their own, leased in deliveries of up to `chunk`.
async fn batches(count: u64, separate: bool, chunk: u32) -> Result {
    let (broker, jobs, workers) = declare(CAPACITY).await?;
    let sender = broker.clone();
    let count = count.next_multiple_of(BATCH.into());
    let producer = tokio::spawn(async move {
        for first in (0..count).step_by(BATCH as usize) {
            sender.publish(publishes(&jobs, first, BATCH.into(), separate)).await?;
        }
        Ok::<_, seedpod::Error>(())
    });
    let (mut left, mut sum) = (count, 0);
    while left > 0 {
        let leased = broker.lease(&workers, Want::items(BATCH).chunk(chunk)).await?;
        let mut step = Step::new();
        step.acks.reserve_exact(leased.len());
        for delivery in &leased {
            for (number, _) in delivery.slice::<(u64, u64)>().unwrap_or_default() {
                sum ^= number;
            }
            left -= u64::from(delivery.len());
            step.acks.push(delivery.lease);
        }
        broker.settle(step).await?;
    }
    black_box(sum);
    let _ = producer.await;
    Ok(())
}

async fn one_at_a_time(count: u64) -> Result {
    let (broker, jobs, workers) = declare(4096).await?;
    let mut sum = 0;
    for number in 0..count {
        broker.send(Publish::json(&jobs, id(number), (number, number))).await?;
        for delivery in &broker.lease(&workers, Want::one()).await? {
            sum ^= delivery.get::<(u64, u64)>(0).map_or(0, |(number, _)| *number);
            broker.ack(delivery.lease).await?;
        }
    }
    black_box(sum);
    Ok(())
}

/// Pushes all, then works them off: apalis' storage has no bound and is one value, which a worker takes.
async fn apalis(count: u64) {
    let mut storage = MemoryStorage::new();
    for number in 0..count {
        assert!(storage.push((number, number)).await.is_ok());
    }
    let done = AtomicU64::new(0);
    let (done, sum) = (Arc::new(done), Arc::new(AtomicU64::new(0)));
    let work = move |(number, _): (u64, u64), worker: WorkerContext| {
        sum.fetch_xor(number, Relaxed);
        if done.fetch_add(1, Relaxed) + 1 == count {
            let _ = worker.stop();
        }
        std::future::ready(())
    };
    assert!(WorkerBuilder::new("worker").backend(storage).build(work).run().await.is_ok());
}

fn drive<F: Future>(runtime: &Runtime, work: impl Fn(u64) -> F) -> impl FnMut(u64) {
    move |count| drop(black_box(runtime.block_on(work(count))))
}

/// So many messages queued.
async fn queued(count: u64, items: u64) -> Result<Queue> {
    let (broker, jobs, workers) = declare(usize::MAX).await?;
    for first in (0..count).step_by(items as usize) {
        broker.publish(publishes(&jobs, first, items, items == 1)).await?;
    }
    Ok((broker, jobs, workers))
}

/// So many messages queued and leased one by one, the deliveries dropped.
async fn leased(count: u64, items: u64) -> Result<Queue> {
    let (broker, jobs, workers) = queued(count, items).await?;
    for _ in 0..count {
        broker.lease(&workers, Want::one()).await?;
    }
    Ok((broker, jobs, workers))
}

/// The values alone: each in a vector of its own, or 64 in one.
fn payloads(count: u64, items: u64) -> Vec<Vec<(u64, u64)>> {
    (0..count).step_by(items as usize).map(|first| (first..first + items).map(|n| (n, n)).collect()).collect()
}

fn main() -> std::io::Result<()> {
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let cases = [
        ("queue/batch", Target::of_bare(0.6), false, BATCH),
        ("queue/settled_singly", Target::of_bare(4.0), false, 1),
        ("queue/separate", Target::of_bare(12.0).ahead(5.0), true, BATCH),
    ];
    for (name, target, separate, chunk) in cases {
        Group::new(name, target)
            .bare("kanal, send and receive", drive(runtime, channel::kanal))
            .ours("submit, lease, acknowledge", drive(runtime, |count| batches(count, separate, chunk)))
            .peer("apalis memory", drive(runtime, apalis))
            .run();
    }
    Group::new("queue/one_at_a_time", Target::nanos(350.0).ahead(2.5))
        .bare("tokio mpsc, send and receive", drive(runtime, channel::mpsc))
        .ours("submit, lease, acknowledge", drive(runtime, one_at_a_time))
        .peer("apalis memory", drive(runtime, apalis))
        .run();

    for (name, items, target) in [("single", 1, 200.0), ("in_batches", 64, 24.0)] {
        Footprint::new(format!("queue/memory/{name}"), 1_000_000, Target::bytes(target))
            .above(PAYLOAD)
            .beside("vectors of values", |count| payloads(count, items))
            .ours("queued", |count| runtime.block_on(queued(count, items)))
            .run();
    }
    for (name, items, target) in [("single", 1, 260.0), ("in_batches", 64, 80.0)] {
        Footprint::new(format!("queue/memory/leased_{name}"), 1_000_000, Target::bytes(target))
            .above(PAYLOAD)
            .ours("queued and leased", |count| runtime.block_on(leased(count, items)))
            .run();
    }
    Footprint::new("queue/growth", 10_000_000, Target::bytes(0.01))
        .ours("through a queue of 1024", |count| runtime.block_on(batches(count, true, BATCH)))
        .run();
    Ok(())
}
