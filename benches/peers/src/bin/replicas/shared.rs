//! One set of replicas and two threads: every call goes through what both share.

use crate::{Echo, balance, draw, locked::Locked, set};
use seedpod::serving::Replicas;
use seedpod_peers::{Group, Scaling, Target, bare::p2c::Hand};
use std::{
    future::{Future, poll_fn},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;
use tower::{Service, buffer::Buffer};

const ENDPOINTS: u64 = 10;
/// Calls that may wait in tower's buffer.
const LINE: usize = 1024;

/// So many calls by each of so many tasks, each on a thread of its own as far as there are that many.
fn tasks<F: Future<Output = u64> + Send + 'static>(runtime: &Runtime, tasks: u64, task: impl Fn() -> F) {
    let tasks: Vec<_> = (0..tasks).map(|_| runtime.spawn(task())).collect();
    runtime.block_on(async {
        for task in tasks {
            black_box(task.await.unwrap_or_else(|_| unreachable!("calls that never panic")));
        }
    });
}

/// So many calls, half of them by each of two tasks.
fn halves<'a, F>(runtime: &'a Runtime, task: impl Fn(u64) -> F + 'a) -> impl FnMut(u64) + 'a
where
    F: Future<Output = u64> + Send + 'static,
{
    move |count| tasks(runtime, 2, || task(count.div_ceil(2)))
}

/// Each task keeps a handle.
fn kept<'a, S>(runtime: &'a Runtime, service: S) -> impl FnMut(u64) + 'a
where
    S: Service<u64, Response = u64, Future: Send> + Clone + Send + 'static,
{
    halves(runtime, move |count| {
        let mut service = service.clone();
        async move {
            let mut sum = 0;
            for number in 0..count {
                sum ^= call(&mut service, black_box(number)).await;
            }
            sum
        }
    })
}

/// Each call has a handle of its own, cloned from one that all share.
fn cloned<'a, S>(runtime: &'a Runtime, service: S) -> impl FnMut(u64) + 'a
where
    S: Service<u64, Response = u64, Future: Send> + Clone + Send + Sync + 'static,
{
    let service = Arc::new(service);
    halves(runtime, move |count| {
        let service = service.clone();
        async move {
            let mut sum = 0;
            for number in 0..count {
                sum ^= call(&mut S::clone(&service), black_box(number)).await;
            }
            sum
        }
    })
}

/// One call of a service that is ours alone.
async fn call<S: Service<u64, Response = u64>>(service: &mut S, number: u64) -> u64 {
    if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
        unreachable!("endpoints that never fail");
    }
    service.call(number).await.unwrap_or_default()
}

/// Spins for a microsecond.
fn work(number: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(1) {
        std::hint::spin_loop();
    }
    number
}

pub(crate) fn run() -> std::io::Result<()> {
    let runtime = &tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let hand = Arc::new(Hand::new((0..ENDPOINTS).map(Echo), draw));
    let by_hand = || {
        let hand = hand.clone();
        halves(runtime, move |count| {
            let hand = hand.clone();
            async move {
                let mut sum = 0;
                for number in 0..count {
                    sum ^= hand.call(black_box(number)).await.unwrap_or_default();
                }
                sum
            }
        })
    };
    let buffered = || {
        let _inside = runtime.enter();
        Buffer::new(balance((0..ENDPOINTS).map(Echo)), LINE)
    };
    let locked = Locked::new(balance((0..ENDPOINTS).map(Echo)));
    let ours = Replicas::new(set(ENDPOINTS, Echo));
    Group::new("replicas/two threads/handle kept", Target::nanos(60.0).ahead(9.0))
        .counted(0)
        .bare("hand p2c", by_hand())
        .ours("Replicas", kept(runtime, ours.clone()))
        .peer("tower p2c in tower's Buffer", kept(runtime, buffered()))
        .beside("tower p2c behind a Mutex", kept(runtime, locked.clone()))
        .run();
    Group::new("replicas/two threads/cloned per call", Target::nanos(120.0).ahead(4.5))
        .counted(0)
        .bare("hand p2c", by_hand())
        .ours("Replicas", cloned(runtime, ours.clone()))
        .peer("tower p2c in tower's Buffer", cloned(runtime, buffered()))
        .beside("tower p2c behind a Mutex", cloned(runtime, locked))
        .run();
    Scaling::new("replicas/two threads/1 µs of work", 1.7).run(|threads, count| {
        tasks(runtime, threads, || {
            let mut service = ours.clone();
            async move {
                let mut sum = 0;
                for number in 0..count {
                    sum ^= work(call(&mut service, black_box(number)).await);
                }
                sum
            }
        });
    });
    Ok(())
}
