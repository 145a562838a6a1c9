//! Every call dropped after any number of polls leaves no place, turn or count behind.

use super::*;
use seedpod::layer::{
    AdaptiveLimitLayer, AdmissionLayer, BreakerLayer, BulkheadLayer, Circuit, ConcurrencyLimitLayer, FaultLayer,
    Gradient2, HedgeLayer, Injection, Rate, RateLimitLayer, ShadowLayer, ShedLayer, Split, Throttle, TimeoutLayer,
    TotalTimeoutLayer, Trip, Window,
};
use seedpod::testing::drops::{self, POLLS};
use std::fmt::Debug;

pub(super) type Slow = drops::Slow<Request<u32>, u32>;

pub(super) fn slowly() -> Slow {
    Slow::new(Request::into_message)
}

/// Nothing is left of calls that are dropped.
pub(super) async fn leaves_nothing<F: Future, L: PartialEq + Debug>(call: impl FnMut() -> F, left: impl FnMut() -> L) {
    drops::check(call, left).await.unwrap();
}

/// Makes the service ready, and calls it.
pub(super) fn oneshot<S>(service: &S) -> impl Future<Output = Result<u32>> + use<S>
where
    S: Service<Request<u32>, Response = u32, Error = Error> + Clone,
{
    service.clone().oneshot(Request::new(7).idempotent())
}

/// A call that holds what the next one needs, for the next one's first 30 polls.
fn held<F: Future>(first: F, then: F) -> impl Future<Output = F::Output> {
    let (mut first, mut then, mut polls) = (Some(Box::pin(first)), Box::pin(then), 0);
    std::future::poll_fn(move |cx| {
        polls += 1;
        if let Some(call) = first.as_mut() {
            assert!(call.as_mut().poll(cx).is_pending());
        }
        if polls == 30 {
            first = None;
        }
        then.as_mut().poll(cx)
    })
}

#[tokio::test(start_paused = true)]
async fn time_outs_leave_nothing_under_way() {
    for within in [MILLI * 50, SECOND] {
        let slow = slowly();
        let service = TimeoutLayer::new(within).layer(slow.clone());
        leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
        let service = TotalTimeoutLayer::new(within).layer(slow.clone());
        leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
        let service = DeadlineLayer::new(within).layer(slow.clone());
        leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn limits_get_every_place_back_from_the_line_and_from_inside() {
    for patience in [MILLI * 25, SECOND] {
        let slow = slowly();
        let layer = ConcurrencyLimitLayer::wait(1, 5).patience(patience);
        let (service, handle) = (layer.layer(slow.clone()), layer.handle());
        let left = || (handle.in_flight(), handle.waiting(), slow.under_way());
        leaves_nothing(|| held(oneshot(&service), oneshot(&service)), left).await;

        let layer = AdaptiveLimitLayer::wait(Gradient2::new().between(1, 1), 5).unwrap().patience(patience);
        let (service, handle) = (layer.layer(slow.clone()), layer.handle());
        let left = || (handle.in_flight(), handle.waiting(), slow.under_way());
        leaves_nothing(|| held(oneshot(&service), oneshot(&service)), left).await;
    }
    let slow = slowly();
    let layer = BulkheadLayer::wait(1, 5, |request: &Request<u32>| *request.message());
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let left = || (handle.in_flight(&7), handle.waiting(&7), handle.compartments(), slow.under_way());
    leaves_nothing(|| held(oneshot(&service), oneshot(&service)), left).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_waited_for_and_not_used_is_free_again() {
    let slow = slowly();
    let rate = Rate::new(1, 40 * MILLI).unwrap();
    let layer = RateLimitLayer::wait(rate, SECOND).keyed(|request: &Request<u32>| *request.message());
    let service = layer.layer(slow.clone());
    let other = RateLimitLayer::clone(&layer).layer(service_fn(|_: Request<u32>| async { Ok::<_, Error>(7) }));
    let mut taken = false;
    for polls in 0..=POLLS {
        // rest until a turn is free, and take it: the call under test has to wait for the next
        time::sleep(41 * MILLI).await;
        assert_eq!(oneshot(&other).now_or_never().map(Result::ok), Some(Some(7)), "after {polls} polls");
        let mut call = Box::pin(oneshot(&service));
        for _ in 0..polls.min(100) {
            time::sleep(MILLI).await;
            assert!(futures::poll!(call.as_mut()).is_pending());
        }
        taken |= slow.under_way() == 1;
        drop(call);
        assert_eq!(slow.under_way(), 0, "after {polls} polls");
    }
    assert!(taken, "some had begun to work");
}

#[tokio::test(start_paused = true)]
async fn shedding_and_admission_leave_no_trace_of_what_was_given_up() {
    for patience in [MILLI * 30, SECOND] {
        let slow = slowly();
        let layer = ShedLayer::new().patience(patience);
        let service = layer.layer(slow.clone());
        leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
    }
    let slow = slowly();
    let layer = AdmissionLayer::new(Throttle::new()).unwrap();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let left = || (slow.under_way(), handle.refused(), handle.probability());
    leaves_nothing(|| oneshot(&service), left).await;
}

#[tokio::test(start_paused = true)]
async fn retry_and_replicas_leave_nothing_under_way() {
    let slow = slowly();
    let service = RetryLayer::new().layer(slow.clone());
    leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
    let endpoints = seeded("dropped");
    endpoints.insert("slow", slow.clone());
    let service = Replicas::new(endpoints);
    leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
}

#[tokio::test(start_paused = true)]
async fn a_hedge_leaves_neither_attempt_under_way_and_pays_only_for_what_left() {
    let slow = slowly();
    let (layer, budget) = (HedgeLayer::new(0.3).unwrap(), Budget::new(10_000, 0));
    let (layer, handle) = (layer.clone().budget(budget.clone()), layer.handle());
    let quick = layer.layer(service_fn(|_: Request<u32>| async { Ok::<_, Error>(7) }));
    for _ in 0..2_000 {
        oneshot(&quick).await.unwrap();
    }
    let service = layer.layer(slow.clone());
    leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
    assert!(handle.hedged() > 20, "{handle:?}");
    let spent = 100_000 - budget.left(time::now());
    assert!(spent < handle.hedged(), "{spent} of {handle:?}: some were dropped while not ready yet");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_counts_nothing_of_what_was_given_up_and_keeps_its_probe() {
    let slow = slowly();
    let layer = BreakerLayer::new("dropped", Trip::new().window(Window::Calls(1)).probes(1)).unwrap();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let fail = layer.layer(service_fn(|_: Request<u32>| async { Err::<u32, _>(Error::from(Kind::Failed)) }));
    oneshot(&fail).await.unwrap_err();
    time::sleep(60 * SECOND).await;
    for polls in 0..99 {
        let mut call = Box::pin(oneshot(&service));
        for _ in 0..polls {
            assert!(futures::poll!(call.as_mut()).is_pending());
        }
        drop(call);
        assert!(slow.under_way() == 0 && handle.refused() == 0, "after {polls} polls: the one probe is free");
    }
    assert_eq!(handle.explain().circuit, Circuit::HalfOpen);
    leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
    assert_eq!((handle.explain().circuit, handle.refused()), (Circuit::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn faults_splits_and_shadows_leave_nothing_under_way() {
    let slow = slowly();
    let layer = FaultLayer::new();
    layer.handle().inject(Injection::delay(30 * MILLI)).unwrap().forever();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let left = || (slow.under_way(), handle.active());
    leaves_nothing(|| oneshot(&service), left).await;
    let service = Split::new([("a", slow.clone(), 1), ("b", slow.clone(), 1)]).unwrap();
    leaves_nothing(|| oneshot(&service), || slow.under_way()).await;
    let layer = ShadowLayer::new(service_fn(|_: Request<u32>| async { Ok::<_, Error>(1) }), 1.0).unwrap();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let left = || (slow.under_way(), handle.under_way());
    leaves_nothing(|| oneshot(&service), left).await;
    assert_eq!(handle.failed(), 0);
}
