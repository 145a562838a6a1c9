//! Every call dropped after any number of polls leaves no place, turn or count behind.

use super::*;
use seedpod::layer::{
    AdaptiveLimitLayer, AdmissionLayer, BreakerLayer, BulkheadLayer, Circuit, ConcurrencyLimitLayer, FaultLayer,
    Gradient2, HedgeLayer, Injection, Rate, RateLimitLayer, ShadowLayer, ShedLayer, Split, Throttle, TimeoutLayer,
    TotalTimeoutLayer, Trip, Window,
};
use std::task::{Context, Poll};

/// Up to how many polls.
const POLLS: usize = 200;

/// For each number of polls up to 200: makes a call, polls it so often, drops it, and checks what is left.
///
/// Before each poll a millisecond passes, so that timers fire on the way. A call that ends earlier is dropped then. Over
/// all, some must have been dropped unfinished and some have ended, or it would prove nothing; `check` is told how many
/// polls there were.
pub(super) async fn drop_after_k<F: Future>(mut call: impl FnMut() -> F, mut check: impl FnMut(usize)) {
    let (mut dropped, mut ended) = (0, 0);
    for polls in 0..=POLLS {
        let mut call = Box::pin(call());
        let mut over = false;
        for _ in 0..polls {
            time::sleep(MILLI).await;
            over = futures::poll!(call.as_mut()).is_ready();
            if over {
                break;
            }
        }
        drop(call);
        tokio::task::yield_now().await;
        *(if over { &mut ended } else { &mut dropped }) += 1;
        check(polls);
    }
    assert!(dropped > POLLS / 10 && ended > POLLS / 10, "{dropped} dropped, {ended} ended");
}

/// A service that is ready at the 20th poll and answers at the 80th after that; it counts itself while it works.
#[derive(Clone)]
pub(super) struct Slow {
    ready: u32,
    pub(super) working: Arc<AtomicU32>,
}

impl Slow {
    pub(super) fn new() -> Self {
        Slow { ready: 0, working: Arc::default() }
    }
}

struct Working(Arc<AtomicU32>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Service<Request<u32>> for Slow {
    type Response = u32;
    type Error = Error;
    type Future = futures::future::BoxFuture<'static, Result<u32>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.ready += 1;
        if self.ready >= 20 {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, request: Request<u32>) -> Self::Future {
        self.ready = 0;
        self.working.fetch_add(1, SeqCst);
        let working = Working(self.working.clone());
        Box::pin(async move {
            for _ in 0..80 {
                tokio::task::yield_now().await;
            }
            drop(working);
            Ok(request.into_message())
        })
    }
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
        let slow = Slow::new();
        let service = TimeoutLayer::new(within).layer(slow.clone());
        drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
        let service = TotalTimeoutLayer::new(within).layer(slow.clone());
        drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
        let service = DeadlineLayer::new(within).layer(slow.clone());
        drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn limits_get_every_place_back_from_the_line_and_from_inside() {
    for patience in [MILLI * 25, SECOND] {
        let slow = Slow::new();
        let layer = ConcurrencyLimitLayer::wait(1, 5).patience(patience);
        let (service, handle) = (layer.layer(slow.clone()), layer.handle());
        let check = |polls| {
            let left = (handle.in_flight(), handle.waiting(), slow.working.load(SeqCst));
            assert_eq!(left, (0, 0, 0), "after {polls} polls");
        };
        drop_after_k(|| held(oneshot(&service), oneshot(&service)), check).await;

        let layer = AdaptiveLimitLayer::wait(Gradient2::new().between(1, 1), 5).unwrap().patience(patience);
        let (service, handle) = (layer.layer(slow.clone()), layer.handle());
        let check = |polls| {
            let left = (handle.in_flight(), handle.waiting(), slow.working.load(SeqCst));
            assert_eq!(left, (0, 0, 0), "after {polls} polls");
        };
        drop_after_k(|| held(oneshot(&service), oneshot(&service)), check).await;
    }
    let slow = Slow::new();
    let layer = BulkheadLayer::wait(1, 5, |request: &Request<u32>| *request.message());
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let check = |polls| {
        let left = (handle.in_flight(&7), handle.waiting(&7), handle.compartments(), slow.working.load(SeqCst));
        assert_eq!(left, (0, 0, 0, 0), "after {polls} polls");
    };
    drop_after_k(|| held(oneshot(&service), oneshot(&service)), check).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_waited_for_and_not_used_is_free_again() {
    let slow = Slow::new();
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
        taken |= slow.working.load(SeqCst) == 1;
        drop(call);
        assert_eq!(slow.working.load(SeqCst), 0, "after {polls} polls");
    }
    assert!(taken, "some had begun to work");
}

#[tokio::test(start_paused = true)]
async fn shedding_and_admission_leave_no_trace_of_what_was_given_up() {
    for patience in [MILLI * 30, SECOND] {
        let slow = Slow::new();
        let layer = ShedLayer::new().patience(patience);
        let service = layer.layer(slow.clone());
        drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
    }
    let slow = Slow::new();
    let layer = AdmissionLayer::new(Throttle::new()).unwrap();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let check = |polls| {
        let left = (slow.working.load(SeqCst), handle.refused(), handle.probability());
        assert_eq!(left, (0, 0, 0.0), "after {polls} polls: what was given up is no refusal");
    };
    drop_after_k(|| oneshot(&service), check).await;
}

#[tokio::test(start_paused = true)]
async fn retry_and_replicas_leave_nothing_under_way() {
    let slow = Slow::new();
    let service = RetryLayer::new().layer(slow.clone());
    drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
    let endpoints = seeded("dropped");
    endpoints.insert("slow", slow.clone());
    let service = Replicas::new(endpoints);
    drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
}

#[tokio::test(start_paused = true)]
async fn a_hedge_leaves_neither_attempt_under_way_and_pays_only_for_what_left() {
    let slow = Slow::new();
    let (layer, budget) = (HedgeLayer::new(0.3).unwrap(), Budget::new(10_000, 0));
    let (layer, handle) = (layer.clone().budget(budget.clone()), layer.handle());
    let quick = layer.layer(service_fn(|_: Request<u32>| async { Ok::<_, Error>(7) }));
    for _ in 0..2_000 {
        oneshot(&quick).await.unwrap();
    }
    let service = layer.layer(slow.clone());
    drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
    assert!(handle.hedged() > 20, "{handle:?}");
    let spent = 100_000 - budget.left(time::now());
    assert!(spent < handle.hedged(), "{spent} of {handle:?}: some were dropped while not ready yet");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_counts_nothing_of_what_was_given_up_and_keeps_its_probe() {
    let slow = Slow::new();
    let layer = BreakerLayer::new("dropped", Trip::new().window(Window::Calls(1)).probes(1)).unwrap();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let fail = layer.layer(service_fn(|_: Request<u32>| async { Err::<u32, _>(Error::from(Kind::Failed)) }));
    oneshot(&fail).await.unwrap_err();
    time::sleep(60 * SECOND).await;
    for polls in 0..100 {
        let mut call = Box::pin(oneshot(&service));
        for _ in 0..polls {
            assert!(futures::poll!(call.as_mut()).is_pending());
        }
        drop(call);
        assert!(slow.working.load(SeqCst) == 0 && handle.refused() == 0, "after {polls} polls: the one probe is free");
    }
    assert_eq!(handle.explain().circuit, Circuit::HalfOpen);
    drop_after_k(|| oneshot(&service), |_| assert_eq!(slow.working.load(SeqCst), 0)).await;
    assert_eq!((handle.explain().circuit, handle.refused()), (Circuit::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn faults_splits_and_shadows_leave_nothing_under_way() {
    let slow = Slow::new();
    let layer = FaultLayer::new();
    layer.handle().inject(Injection::delay(30 * MILLI)).unwrap().forever();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let check = |polls| assert_eq!((slow.working.load(SeqCst), handle.active()), (0, 0), "after {polls} polls");
    drop_after_k(|| oneshot(&service), check).await;
    let service = Split::new([("a", slow.clone(), 1), ("b", slow.clone(), 1)]).unwrap();
    drop_after_k(|| oneshot(&service), |polls| assert_eq!(slow.working.load(SeqCst), 0, "{polls}")).await;
    let layer = ShadowLayer::new(service_fn(|_: Request<u32>| async { Ok::<_, Error>(1) }), 1.0).unwrap();
    let (service, handle) = (layer.layer(slow.clone()), layer.handle());
    let check = |polls| assert_eq!((slow.working.load(SeqCst), handle.under_way()), (0, 0), "after {polls} polls");
    drop_after_k(|| oneshot(&service), check).await;
    assert_eq!(handle.failed(), 0);
}
