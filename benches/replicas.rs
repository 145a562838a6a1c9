//! What a call costs through `Replicas`, against the direct call and two choices written by hand.
//!
//! Every endpoint answers at once. `cargo bench --bench replicas`; side by side with what else there is:
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --bin replicas`.
#![allow(missing_docs, reason = "criterion's macros write functions without them")]

#[allow(unreachable_pub, reason = "the file belongs to another crate, too")]
#[allow(clippy::indexing_slicing, reason = "as an expert writes it")]
#[path = "peers/src/bare/p2c.rs"]
mod p2c;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use seedpod::{
    base::Seed,
    layer::{DeadlineLayer, Request, RetryLayer},
    serving::{Endpoints, Erased, PeakEwma, Replicas, Ring, RoundRobin, affinity::Session},
};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Service, ServiceBuilder};

#[derive(Clone)]
struct Echo(u64);

impl<Req: Into<u64>> Service<Req> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ready(Ok(request.into() ^ self.0))
    }
}

/// A request that carries its metadata, and turns into its message.
#[derive(Clone)]
struct Call(Request<u64>);

impl From<Call> for u64 {
    fn from(call: Call) -> u64 {
        call.0.into_message()
    }
}

impl seedpod::layer::Metadata for Call {
    fn deadline(&self) -> Option<seedpod::base::Deadline> {
        self.0.deadline()
    }

    fn set_deadline(&mut self, deadline: seedpod::base::Deadline) {
        self.0.set_deadline(deadline);
    }

    fn idempotency_key(&self) -> Option<&str> {
        self.0.idempotency_key()
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn repeat(&self) -> Option<Self> {
        Some(self.clone())
    }
}

fn set<S: Clone>(count: u64, service: impl Fn(u64) -> S) -> Endpoints<S> {
    let endpoints = Endpoints::named("echo");
    endpoints.update(|changes| {
        for number in 0..count {
            changes.insert(number.to_string(), service(number));
        }
    });
    endpoints
}

fn call<S: Service<Req, Response = u64>, Req>(service: &mut S, request: Req) -> Option<u64> {
    let ready = service.poll_ready(&mut Context::from_waker(futures::task::noop_waker_ref())).is_ready();
    debug_assert!(ready, "endpoints are always ready here");
    service.call(request).now_or_never()?.ok()
}

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replicas");
    let mut direct = Echo(7);
    group.bench_function("direct", |bencher| bencher.iter(|| call(&mut direct, black_box(1_u64))));
    for count in [10, 100, 1000] {
        let rng = RefCell::new(Seed::new(1).rng());
        let draw = |below: usize| rng.borrow_mut().below(below as u64) as usize;
        let hand = p2c::Hand::new((0..count).map(Echo), draw);
        group.bench_function(format!("hand/{count}"), |bencher| {
            bencher.iter(|| hand.call(black_box(1_u64)).now_or_never());
        });
        let mut typed = Replicas::new(set(count, Echo));
        group.bench_function(format!("typed/{count}"), |bencher| {
            bencher.iter(|| call(&mut typed, black_box(1_u64)));
        });
        let mut ewma = Replicas::new(set(count, Echo)).pick_by(PeakEwma::new());
        group.bench_function(format!("peak ewma/{count}"), |bencher| {
            bencher.iter(|| call(&mut ewma, black_box(1_u64)));
        });
        let weighted = set(count, Echo);
        weighted.alter("1", |about| {
            about.weight(3);
        });
        let mut by_weight = Replicas::new(weighted.clone());
        group.bench_function(format!("weighted/{count}"), |bencher| {
            bencher.iter(|| call(&mut by_weight, black_box(1_u64)));
        });
        let mut turns = Replicas::new(set(count, Echo)).pick_by(RoundRobin::new());
        group.bench_function(format!("round robin/{count}"), |bencher| {
            bencher.iter(|| call(&mut turns, black_box(1_u64)));
        });
        let mut weighted_turns = Replicas::new(weighted).pick_by(RoundRobin::new());
        group.bench_function(format!("weighted round robin/{count}"), |bencher| {
            bencher.iter(|| call(&mut weighted_turns, black_box(1_u64)));
        });
        let mut ring = Replicas::new(set(count, Echo)).pick_by(Ring::by_number(|request: &u64| *request));
        group.bench_function(format!("ring/{count}"), |bencher| {
            bencher.iter(|| call(&mut ring, black_box(1_u64)));
        });
        let mut affinity = Replicas::new(set(count, Echo)).affinity(|request: &u64| Session::of(request.to_le_bytes()));
        group.bench_function(format!("affinity by key/{count}"), |bencher| {
            bencher.iter(|| call(&mut affinity, black_box(1_u64)));
        });
        let zoned = set(count, Echo);
        zoned.update(|changes| {
            for number in 0..count {
                changes.alter(number.to_string(), move |about| {
                    about.zone(if number % 2 == 0 { "near" } else { "far" });
                });
            }
        });
        let mut near = Replicas::new(zoned.clone()).locality(["near"]);
        group.bench_function(format!("locality/{count}"), |bencher| {
            bencher.iter(|| call(&mut near, black_box(1_u64)));
        });
        for number in (0..count).step_by(4) {
            zoned.set_ready(&number.to_string(), false);
        }
        group.bench_function(format!("locality, spilling over/{count}"), |bencher| {
            bencher.iter(|| call(&mut near, black_box(1_u64)));
        });
        let mut few = Replicas::new(set(count, Echo)).subset(5, "me");
        group.bench_function(format!("subset/{count}"), |bencher| {
            bencher.iter(|| call(&mut few, black_box(1_u64)));
        });
        let mut erased = Replicas::new(set(count, |number| Erased::new(Echo(number))));
        group.bench_function(format!("erased/{count}"), |bencher| {
            bencher.iter(|| call(&mut erased, black_box(1_u64)));
        });
    }
    let kept = Replicas::new(set(100, Echo));
    group.bench_function("cloned per call/100", |bencher| {
        bencher.iter(|| call(&mut kept.clone(), black_box(1_u64)));
    });
    let layers = ServiceBuilder::new().layer(DeadlineLayer::new(Duration::from_secs(5))).layer(RetryLayer::new());
    let mut stack = layers.service(Replicas::new(set(100, Echo)));
    group.bench_function("deadline, retry, typed/100", |bencher| {
        bencher.iter(|| call(&mut stack, Call(Request::new(black_box(1)))));
    });
    group.finish();
}

fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoints");
    for count in [10, 100, 1000] {
        let endpoints = set(count, Echo);
        group.bench_function(format!("insert and remove/{count}"), |bencher| {
            bencher.iter(|| {
                endpoints.insert("new", Echo(1));
                endpoints.remove("new");
            });
        });
        let few = Replicas::new(endpoints.clone()).subset(5, "me");
        group.bench_function(format!("insert, remove, and a subset's next pick/{count}"), |bencher| {
            bencher.iter(|| {
                endpoints.insert("new", Echo(1));
                endpoints.remove("new");
                few.pick().map(|picked| picked.service.0)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, calls, changes);
criterion_main!(benches);
