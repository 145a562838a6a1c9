//! A client of six layers: deadline, retry, hedge, breaker, time-out of the attempt, and the balancer under them.

use crate::{Echo, balance, drive, locked::Locked, set};
use seedpod::{
    layer::{BreakerLayer, DeadlineLayer, HedgeLayer, Request, RetryLayer, TimeoutLayer, Trip},
    serving::Replicas,
};
use seedpod_peers::{Group, Target};
use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{runtime::Runtime, task::unconstrained};
use tower::{BoxError, Service, ServiceBuilder, buffer::Buffer};
use tower_resilience as peer;

const ENDPOINTS: u64 = 10;
const ATTEMPT: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(5);

/// Answers when it is polled a second time.
#[derive(Clone)]
struct Later(u64);

struct Once(Option<u64>, bool);

impl Future for Once {
    type Output = Result<u64, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !std::mem::replace(&mut self.1, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.0.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
    }
}

impl Service<u64> for Later {
    type Response = u64;
    type Error = Infallible;
    type Future = Once;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        Once(Some(request ^ self.0), false)
    }
}

impl Service<Request<u64>> for Later {
    type Response = u64;
    type Error = Infallible;
    type Future = Once;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        Once(Some(request.into_message() ^ self.0), false)
    }
}

fn ours<S>(endpoint: impl Fn(u64) -> S) -> Result<impl Service<Request<u64>, Response = u64>, seedpod::Error>
where
    S: Service<Request<u64>, Response = u64, Error = Infallible> + Clone,
{
    Ok(ServiceBuilder::new()
        .layer(DeadlineLayer::new(TOTAL))
        .layer(RetryLayer::new())
        .layer(HedgeLayer::new(0.01)?)
        .layer(BreakerLayer::new("echo", Trip::new())?)
        .layer(TimeoutLayer::new(ATTEMPT))
        .service(Replicas::new(set(ENDPOINTS, endpoint))))
}

/// tower-resilience hedges only where errors can be cloned.
#[derive(Clone, Debug)]
struct Down;

/// The same of tower-resilience, in front of tower's balancer.
fn peers<S>(balancer: S) -> Result<impl Service<u64, Response = u64>, BoxError>
where
    S: Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let limit = |within| peer::timelimiter::TimeLimiterLayer::builder().timeout_duration(within).build();
    let budget = peer::retry::RetryBudgetBuilder::new().token_bucket().build()?;
    Ok(ServiceBuilder::new()
        .layer(limit(TOTAL))
        .layer(peer::retry::RetryLayer::builder().max_attempts(3).budget(budget).build())
        .layer(peer::hedge::HedgeLayer::builder().delay(Duration::from_millis(1)).max_hedged_attempts(2).build())
        .map_err(|_| Down)
        .layer(peer::circuitbreaker::CircuitBreakerLayer::builder().build()?)
        .layer(limit(ATTEMPT))
        .service(balancer))
}

/// So many calls one after the other, each polled until it is over without asking the runtime in between: what it costs to
/// be woken is the runtime's, not the layers'.
fn poll<'a, S, Req>(runtime: &'a Runtime, mut service: S, request: impl Fn(u64) -> Req + 'a) -> impl FnMut(u64) + 'a
where
    S: Service<Req, Response = u64> + 'a,
{
    move |count| {
        // tokio would refuse to arm more than a hundred timers in one go
        runtime.block_on(unconstrained(async {
            let cx = &mut Context::from_waker(Waker::noop());
            let mut sum = 0;
            for number in 0..count {
                if !matches!(service.poll_ready(cx), Poll::Ready(Ok(()))) {
                    unreachable!("endpoints that are always ready");
                }
                let mut call = pin!(service.call(request(black_box(number))));
                let answer = loop {
                    if let Poll::Ready(answer) = call.as_mut().poll(cx) {
                        break answer;
                    }
                };
                sum ^= answer.unwrap_or_default();
            }
            black_box(sum);
        }));
    }
}

pub(crate) fn run(runtime: &Runtime) -> io::Result<()> {
    let (plain, request) = (|number: u64| number, |number: u64| Request::new(number).idempotent());
    let (echo, later) = (|| (0..ENDPOINTS).map(Echo), || (0..ENDPOINTS).map(Later));
    let _inside = runtime.enter();
    Group::new("replicas/six layers/ready", Target::nanos(500.0).ahead(2.0))
        .beside("Replicas alone", drive(runtime, Replicas::new(set(ENDPOINTS, Echo)), plain))
        .ours("seedpod", drive(runtime, ours(Echo).map_err(io::Error::other)?, request))
        .peer("tower-resilience, Mutex", drive(runtime, peer(Locked::new(balance(echo())))?, plain))
        .peer("tower-resilience, tower's Buffer", drive(runtime, peer(Buffer::new(balance(echo()), 64))?, plain))
        .run();
    Group::new("replicas/six layers/pending once", Target::nanos(1_500.0).ahead(2.0))
        .beside("Replicas alone", poll(runtime, Replicas::new(set(ENDPOINTS, Later)), plain))
        .ours("seedpod", poll(runtime, ours(Later).map_err(io::Error::other)?, request))
        .peer("tower-resilience, Mutex", poll(runtime, peer(Locked::new(balance(later())))?, plain))
        .run();
    Ok(())
}

fn peer<S>(balancer: S) -> io::Result<impl Service<u64, Response = u64>>
where
    S: Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    peers(balancer).map_err(io::Error::other)
}
