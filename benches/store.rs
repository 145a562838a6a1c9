//! What a store costs, against a bare `BTreeMap` under the same lock: writes, watchers, catching up.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail loudly"
)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures the machine, not a simulation")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt;
use seedpod::base::sync::Lock;
use seedpod::control::WorkQueue;
use seedpod::store::{Key, Start, Store, Watch, Write};
use std::{collections::BTreeMap, hint::black_box, sync::Arc};

const ENTRIES: usize = 10_000;

type Value = Arc<str>;

fn keys() -> Vec<Key> {
    (0..ENTRIES).map(|n| Key::new(&format!("pods/namespace-{}/pod-{n:06}", n % 10))).collect()
}

/// Scatters the writes over the keys.
struct Turn(usize);

impl Turn {
    fn next(&mut self) -> usize {
        self.0 = (self.0 + 7919) % ENTRIES;
        self.0
    }
}

fn put(store: &Store<Value>, key: &Key, value: &Value) {
    let revision = store.commit(vec![Write::put(key, value.clone())]).now_or_never();
    black_box(revision.and_then(Result::ok));
}

fn full(keys: &[Key], value: &Value) -> Store<Value> {
    let store = Store::new();
    keys.iter().for_each(|key| put(&store, key, value));
    store
}

fn read(watch: &mut Watch<Value>) -> usize {
    let mut changes = 0;
    while let Some(Some(batch)) = watch.next().now_or_never() {
        changes += black_box(batch).len();
    }
    changes
}

fn write(criterion: &mut Criterion) {
    let (keys, value) = (keys(), Value::from("x".repeat(100)));
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare map under a lock", |bencher| {
        let map: Lock<BTreeMap<Key, Value>> = Lock::default();
        map.lock().extend(keys.iter().map(|key| (key.clone(), value.clone())));
        let mut turn = Turn(0);
        bencher.iter(|| map.lock().insert(keys[turn.next()].clone(), value.clone()));
    });
    group.bench_function("store", |bencher| {
        let (store, mut turn) = (full(&keys, &value), Turn(0));
        bencher.iter(|| put(&store, &keys[turn.next()], &value));
    });
    group.bench_function("store, 1,000 watchers of other prefixes", |bencher| {
        let (store, mut turn) = (full(&keys, &value), Turn(0));
        let mut watches: Vec<_> = (0..1000).map(|n| store.watch(&format!("nodes/{n}/"), Start)).collect();
        watches.iter_mut().for_each(|watch| assert_eq!(read(watch), 1));
        bencher.iter(|| put(&store, &keys[turn.next()], &value));
    });
    group.bench_function("store, 1 watcher that reads it", |bencher| {
        let (store, mut turn, mut written) = (full(&keys, &value), Turn(0), 0);
        let mut watch = store.watch("pods/", Start);
        read(&mut watch);
        bencher.iter(|| {
            put(&store, &keys[turn.next()], &value);
            written += 1;
            if written % 128 == 0 {
                assert_eq!(read(&mut watch), 128);
            }
        });
    });
    group.bench_function("store, 100 watchers that read it", |bencher| {
        let (store, mut turn, mut written) = (full(&keys, &value), Turn(0), 0);
        let mut watches: Vec<_> = (0..100).map(|_| store.watch("pods/", Start)).collect();
        watches.iter_mut().for_each(|watch| assert_eq!(read(watch), 1));
        bencher.iter(|| {
            put(&store, &keys[turn.next()], &value);
            written += 1;
            if written % 128 == 0 {
                watches.iter_mut().for_each(|watch| assert_eq!(read(watch), 128));
            }
        });
    });
    group.finish();
}

fn look(criterion: &mut Criterion) {
    let (keys, value) = (keys(), Value::from("x".repeat(100)));
    let (store, mut turn) = (full(&keys, &value), Turn(0));
    criterion.bench_function("get", |bencher| bencher.iter(|| store.get(&keys[turn.next()])));
    criterion.bench_function("list a page of 500", |bencher| bencher.iter(|| store.list("pods/", None, 500)));
    criterion.bench_function("watch 10,000 from the start", |bencher| {
        bencher.iter(|| {
            let mut watch = store.watch("pods/", Start);
            read(&mut watch)
        });
    });
    criterion.bench_function("snapshot and the write after it", |bencher| {
        bencher.iter(|| {
            let snapshot = store.snapshot();
            put(&store, &keys[turn.next()], &value);
            snapshot
        });
    });
}

fn catch_up(criterion: &mut Criterion) {
    let (keys, value) = (keys(), Value::from("x".repeat(100)));
    let mut group = criterion.benchmark_group("catch up");
    group.throughput(Throughput::Elements(2000));
    group.bench_function("2,000 of 10,000 keys behind", |bencher| {
        let (store, mut turn) = (full(&keys, &value), Turn(0));
        bencher.iter_batched_ref(
            || {
                let mut watch = store.watch("pods/", Start);
                read(&mut watch);
                (0..2000).for_each(|_| put(&store, &keys[turn.next()], &value));
                watch
            },
            |watch| assert_eq!(read(watch), 2000),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn work_queue(criterion: &mut Criterion) {
    let keys = keys();
    let (queue, mut turn) = (WorkQueue::new(), Turn(0));
    keys.iter().take(100).for_each(|key| queue.add(key.clone()));
    criterion.bench_function("work queue: add, get, done", |bencher| {
        bencher.iter(|| {
            queue.add(keys[turn.next()].clone());
            if let Some(Some(job)) = queue.get().now_or_never() {
                job.done();
            }
        });
    });
}

criterion_group!(benches, write, look, catch_up, work_queue);
criterion_main!(benches);
