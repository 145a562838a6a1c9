//! Replicas, by least load of two: ours, by hand, tower's; shared by two threads; and a client of six layers.
//!
//! Endpoints answer at once, so that only the choice and the layers are measured. One call in flight per thread.

#[path = "replicas/locked.rs"]
mod locked;
#[path = "replicas/shared.rs"]
mod shared;
#[path = "replicas/stack.rs"]
mod stack;

use seedpod::{
    layer::{DeadlineLayer, Request, RetryLayer},
    serving::{self, Endpoints, Erased, Replicas},
};
use seedpod_peers::{Group, Target, bare::p2c::Hand};
use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    hint::black_box,
    task::{Context, Poll},
    time::Duration,
};
use tokio::runtime::Runtime;
use tower::{
    BoxError, Service, ServiceBuilder,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PeakEwma, PendingRequests},
    util::BoxCloneSyncService,
};

/// Answers at once.
#[derive(Clone)]
struct Echo(u64);

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request ^ self.0))
    }
}

impl Service<Request<u64>> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<u64>) -> Self::Future {
        ready(Ok(request.into_message() ^ self.0))
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

/// So many calls, one after the other.
fn drive<'a, S, Req>(runtime: &'a Runtime, mut service: S, request: impl Fn(u64) -> Req + 'a) -> impl FnMut(u64) + 'a
where
    S: Service<Req, Response = u64> + 'a,
{
    move |count| {
        runtime.block_on(async {
            let mut sum = 0;
            for number in 0..count {
                if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
                    unreachable!("endpoints that never fail");
                }
                if let Ok(answer) = service.call(request(black_box(number))).await {
                    sum ^= answer;
                }
            }
            black_box(sum);
        });
    }
}

fn hand<'a, S>(runtime: &'a Runtime, hand: Hand<S, impl Fn(usize) -> usize + 'a>) -> impl FnMut(u64) + 'a
where
    S: Service<u64, Response = u64> + Clone + 'a,
{
    move |count| {
        runtime.block_on(async {
            let mut sum = 0;
            for number in 0..count {
                if let Ok(answer) = hand.call(black_box(number)).await {
                    sum ^= answer;
                }
            }
            black_box(sum);
        });
    }
}

fn balance<S>(
    services: impl Iterator<Item = S>,
) -> impl Service<u64, Response = S::Response, Error = BoxError, Future: Send + Unpin> + Send
where
    S: Service<u64, Future: Send + Unpin, Error: Into<BoxError>> + Send + 'static,
{
    let list: Vec<_> = services.map(|service| PendingRequests::new(service, CompleteOnResponse::default())).collect();
    Balance::new(ServiceList::new(list))
}

fn fastest<S: Service<u64>>(services: impl Iterator<Item = S>) -> impl Service<u64, Response = S::Response>
where
    S::Error: Into<BoxError>,
{
    let (unknown, decay_nanos) = (Duration::from_millis(30), 10e9);
    let load = |service| PeakEwma::new(service, unknown, decay_nanos, CompleteOnResponse::default());
    Balance::new(ServiceList::new(services.map(load).collect::<Vec<_>>()))
}

/// By latency: ours and tower's, both with a decay of 10 s and 30 ms for what is not known yet.
fn by_latency(runtime: &Runtime) {
    let plain = |number: u64| number;
    for count in [10, 100, 1000] {
        Group::new(format!("replicas/ewma/{count}"), Target::nanos(110.0).ahead(5.0))
            .beside("direct call", drive(runtime, Echo(7), plain))
            .bare("hand p2c, pending", hand(runtime, Hand::new((0..count).map(Echo), draw)))
            .ours(
                "Replicas, PeakEwma",
                drive(runtime, Replicas::new(set(count, Echo)).pick_by(serving::PeakEwma::new()), plain),
            )
            .peer("tower p2c, PeakEwma", drive(runtime, fastest((0..count).map(Echo)), plain))
            .run();
    }
}

fn draw(below: usize) -> usize {
    fastrand::usize(..below)
}

type Boxed = BoxCloneSyncService<u64, u64, Infallible>;

fn main() -> std::io::Result<()> {
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let plain = |number: u64| number;
    for count in [10, 100, 1000] {
        let stack = ServiceBuilder::new().layer(DeadlineLayer::new(Duration::from_secs(5))).layer(RetryLayer::new());
        let stack = stack.service(Replicas::new(set(count, Echo)));
        let (kept, nested) = (Replicas::new(set(count, Echo)), set(10, |_| Replicas::new(set(count / 10, Echo))));
        Group::new(format!("replicas/typed/{count}"), Target::nanos(30.0).ahead(7.0))
            .beside("direct call", drive(runtime, Echo(7), plain))
            .bare("hand p2c", hand(runtime, Hand::new((0..count).map(Echo), draw)))
            .ours("Replicas", drive(runtime, Replicas::new(set(count, Echo)), plain))
            .beside("Replicas, handle cloned per call", move |calls| {
                runtime.block_on(async {
                    for number in 0..calls {
                        black_box(kept.clone().call(black_box(number)).await.ok());
                    }
                });
            })
            .beside("Replicas of Replicas", drive(runtime, Replicas::new(nested), plain))
            .beside("Deadline, Retry, Replicas", drive(runtime, stack, |number| Request::new(number).idempotent()))
            .peer("tower p2c, pending requests", drive(runtime, balance((0..count).map(Echo)), plain))
            .run();
    }
    for count in [10, 100, 1000] {
        let boxed = || (0..count).map(|number| Boxed::new(Echo(number)));
        Group::new(format!("replicas/erased/{count}"), Target::nanos(50.0))
            .beside("direct call, tower's box", drive(runtime, Boxed::new(Echo(7)), plain))
            .bare("hand p2c of tower's boxes", hand(runtime, Hand::new(boxed(), draw)))
            .ours("Replicas of Erased", drive(runtime, Replicas::new(set(count, |of| Erased::new(Echo(of)))), plain))
            .beside("tower p2c of tower's boxes", drive(runtime, balance(boxed()), plain))
            .run();
    }
    by_latency(runtime);
    shared::run()?;
    stack::run(runtime)
}
