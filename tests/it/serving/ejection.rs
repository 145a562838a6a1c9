//! Endpoints that fail are left out for a while: end to end, with retry and hedge in front, and whenever a call is dropped.

use super::drops::{leaves_nothing, oneshot, slowly};
use super::*;
use seedpod::{
    layer::{HedgeLayer, TimeoutLayer, TotalTimeoutLayer},
    serving::{Ejection, LeastPending, PeakEwma, Random, eject::Standing},
};
use std::sync::atomic::AtomicBool;

/// An endpoint that can be told to fail, and counts its calls.
#[derive(Clone, Default)]
struct Moody {
    fails: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

impl Moody {
    fn failing() -> Self {
        let moody = Moody::default();
        moody.fails.store(true, SeqCst);
        moody
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }

    fn service(&self) -> Erased<Request<u32>, u32> {
        let Moody { fails, calls } = self.clone();
        Erased::new(service_fn(move |request: Request<u32>| {
            calls.fetch_add(1, SeqCst);
            let fails = fails.load(SeqCst);
            async move {
                time::sleep(MILLI).await;
                if fails { Err(Error::new(Kind::Unavailable, "no database")) } else { Ok(request.into_message()) }
            }
        }))
    }
}

fn read(n: u32) -> Request<u32> {
    Request::new(n).idempotent()
}

fn fleet(settings: Ejection, endpoints: &[(&str, &Moody)]) -> Endpoints<Erased<Request<u32>, u32>> {
    let set = seeded("fleet").eject(settings).unwrap();
    set.update(|changes| {
        for (key, moody) in endpoints {
            changes.insert(*key, moody.service());
        }
    });
    set
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_close_a_lone_endpoint_and_a_probe_opens_it_or_doubles_its_time() {
    let lone = Moody::failing();
    let settings = Ejection::linkerd().rate(0.0, 10 * SECOND, 5).jitter(0.0);
    let mut replicas = Replicas::new(fleet(settings, &[("lone", &lone)]));
    for n in 0..7 {
        assert_eq!(replicas.call(read(n)).await.unwrap_err().to_string(), "lone: unavailable: no database");
    }
    for wait in [SECOND, 2 * SECOND, 4 * SECOND] {
        let calls = lone.calls();
        let error = replicas.call(read(0)).await.unwrap_err();
        let says = "none of its 1 endpoints takes this call: 0 not ready, 1 ejected, 0 draining, 0 others";
        assert_eq!(error.to_string(), format!("fleet: unavailable: {says}"));
        assert_eq!((error.retry_after(), error.is_unsent(), lone.calls()), (Some(wait), true, calls));
        time::sleep(wait - MILLI).await;
        replicas.call(read(0)).await.unwrap_err();
        assert_eq!(lone.calls(), calls, "not before its time");
        time::sleep(MILLI).await;
        lone.fails.store(wait < 4 * SECOND, SeqCst);
        let (probe, other) = futures::join!(replicas.clone().oneshot(read(5)), replicas.clone().oneshot(read(6)));
        assert_eq!((lone.calls(), other.unwrap_err().is_unsent()), (calls + 1, true), "one request tries it");
        assert_eq!(probe.is_ok(), wait == 4 * SECOND);
    }
    assert_eq!(replicas.call(read(9)).await.unwrap(), 9);
    assert!(replicas.explain().out.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_balancer_does_not_select_who_was_ejected_and_hardly_a_call_fails() {
    let (bad, good) = (Moody::failing(), [Moody::default(), Moody::default(), Moody::default()]);
    let settings = Ejection::new().wait(1_000 * SECOND).jitter(0.0);
    let endpoints = fleet(settings, &[("bad", &bad), ("a", &good[0]), ("b", &good[1]), ("c", &good[2])]);
    let mut replicas = Replicas::new(endpoints.clone()).pick_by(Random);
    let mut failed = 0;
    for n in 0..2_000 {
        failed += u32::from(replicas.call(read(n)).await.is_err());
    }
    assert_eq!((failed, bad.calls()), (5, 5));
    assert!(good.iter().all(|good| good.calls() > 500), "the others share its part");
    assert_eq!(endpoints.describe()[0].to_string(), "bad: ejected");
}

#[tokio::test(start_paused = true)]
async fn with_a_retry_in_front_no_call_fails_and_each_probe_costs_one_attempt() {
    let (bad, good) = (Moody::failing(), Moody::default());
    let endpoints = fleet(Ejection::new().wait(10 * SECOND).jitter(0.0), &[("bad", &bad), ("good", &good)]);
    let budget = Budget::new(1_000, 100);
    let layer = RetryLayer::new().attempts(3).backoff(Backoff::new(MILLI, MILLI)).budget(budget);
    let mut service = layer.layer(Replicas::new(endpoints.clone()).pick_by(Random));
    for n in 0..100 {
        assert_eq!(service.call(read(n)).await.unwrap(), n);
    }
    assert_eq!(
        (bad.calls(), layer.handle().retries()),
        (5, 5),
        "no attempt goes to who is out, not even as another one"
    );
    // out for 10, 20, 40 s: three probes in 100 s
    let end = time::now() + 100 * SECOND;
    while time::now() < end {
        assert_eq!(service.call(read(1)).await.unwrap(), 1);
        time::sleep(MILLI * 100).await;
    }
    assert_eq!((bad.calls(), layer.handle().retries()), (8, 8));
    assert_eq!(endpoints.explain().out[0].probes_failed, 3);
    bad.fails.store(false, SeqCst);
    time::sleep(100 * SECOND).await;
    for n in 0..100 {
        service.call(read(n)).await.unwrap();
    }
    assert!(bad.calls() > 30 && endpoints.explain().out.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_loses_against_its_hedge_says_nothing_and_is_made_again() {
    let hangs = Arc::new(AtomicBool::new(false));
    let slow = {
        let hangs = hangs.clone();
        Erased::new(service_fn(move |request: Request<u32>| {
            let takes = if hangs.load(SeqCst) { 1_000 * SECOND } else { MILLI };
            async move {
                time::sleep(takes).await;
                Ok::<_, Error>(request.into_message())
            }
        }))
    };
    let good = Moody::default();
    let endpoints = fleet(Ejection::none().failures(1).wait(SECOND).jitter(0.0), &[("good", &good)]);
    endpoints.insert("slow", slow);
    let replicas = Replicas::new(endpoints.clone());
    let layer = HedgeLayer::new(0.2).unwrap();
    let mut service = layer.layer(replicas.clone());
    for n in 0..200 {
        service.call(read(n)).await.unwrap();
    }
    let picked = std::iter::from_fn(|| replicas.pick_for(&read(1))).find(|picked| picked.key() == "slow").unwrap();
    picked.lease.complete(Outcome::Failure);
    hangs.store(true, SeqCst);
    time::sleep(SECOND).await;
    let (start, won) = (time::now(), layer.handle().won());
    assert_eq!(service.call(read(7)).await.unwrap(), 7, "the hedge answers");
    assert!(start.elapsed() < SECOND && layer.handle().won() == won + 1);
    tokio::task::yield_now().await;
    assert_eq!(endpoints.explain().out[0].standing, Standing::Due);
    assert_eq!((endpoints.pending("slow"), endpoints.pending("good")), (Some(0), Some(0)));
    hangs.store(false, SeqCst);
    service.call(read(8)).await.unwrap();
    assert!(endpoints.explain().out.is_empty(), "and the next one decided");
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_after_any_number_of_polls_gives_its_place_back() {
    let slow = slowly();
    let endpoints =
        seeded("dropped").eject(Ejection::none().failures(1).wait(MILLI).wait_max(MILLI).jitter(0.0)).unwrap();
    for key in ["a", "b"] {
        endpoints.insert(key, slow.clone());
    }
    let (any, replicas) = (Replicas::new(endpoints.clone()), Replicas::new(endpoints.clone()).pick_by(PeakEwma::new()));
    let (any, mut made, mut back) = (any.pick_by(Random), 0, 0);
    let call = || {
        made += 1;
        if endpoints.explain().out.is_empty() {
            back += 1;
            let picked = std::iter::from_fn(|| any.pick()).find(|picked| picked.key() == "a").unwrap();
            picked.lease.complete(Outcome::Failure);
        }
        oneshot(&replicas)
    };
    let left = || {
        let probing = endpoints.explain().out.iter().filter(|out| out.standing == Standing::Probing).count();
        (probing, endpoints.pending("a"), endpoints.pending("b"), slow.under_way())
    };
    leaves_nothing(call, left).await;
    assert!(made == 201 && back > 50, "{back} of {made} probes ended and brought it back");
}

/// Never answers, and counts its calls.
fn hanging(calls: &Arc<AtomicU32>) -> Erased<Request<u32>, u32> {
    let calls = calls.clone();
    Erased::new(service_fn(move |_: Request<u32>| {
        calls.fetch_add(1, SeqCst);
        std::future::pending::<Result<u32>>()
    }))
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_ejected_by_the_attempts_that_take_too_long() {
    let (good, hung) = ([Moody::default(), Moody::default()], Arc::default());
    let settings = Ejection::none().failures(5).wait(100 * SECOND).jitter(0.0);
    let endpoints = fleet(settings, &[("a", &good[0]), ("b", &good[1])]);
    endpoints.insert("c", hanging(&hung));
    let layer = RetryLayer::new().attempt_timeout(100 * MILLI).budget(Budget::new(1_000, 100));
    let mut service = layer.layer(Replicas::new(endpoints.clone()).pick_by(Random));
    for n in 0..200 {
        assert_eq!(service.call(read(n)).await.unwrap(), n);
    }
    assert_eq!((hung.load(SeqCst), layer.handle().retries()), (5, 5), "five in a row, and no call more");
    let explained = endpoints.explain().to_string();
    assert!(explained.starts_with("1 of 3 out, 1 allowed\nc: ejected since "), "{explained}");
    assert!(explained.ends_with(": 5 failures in a row"), "{explained}");
}

/// Of a set whose only endpoint hangs.
async fn ends_as_a_failure<L>(layer: L, name: &str)
where
    L: Layer<Replicas<Erased<Request<u32>, u32>>>,
    L::Service: Service<Request<u32>, Response = u32, Error = Error> + Clone,
{
    let settings = Ejection::none().failures(1).wait(SECOND).jitter(0.0).cap(100).panic(0);
    let endpoints = fleet(settings, &[]);
    endpoints.insert("hangs", hanging(&Arc::default()));
    let service = layer.layer(Replicas::new(endpoints.clone()));
    let call = || Box::pin(service.clone().oneshot(read(1).within(SECOND)));
    let mut gone = call();
    assert!(futures::poll!(gone.as_mut()).is_pending(), "{name}");
    drop(gone);
    assert!(endpoints.explain().out.is_empty(), "{name}: a caller who goes away says nothing of the endpoint");
    assert!(call().await.unwrap_err().is_timeout(), "{name}");
    assert_eq!((endpoints.explain().out.len(), endpoints.pending("hangs")), (1, Some(0)), "{name}");
    time::sleep(SECOND).await;
    assert!(call().await.unwrap_err().is_timeout(), "{name}");
    assert_eq!(endpoints.explain().out[0].probes_failed, 1, "{name}: a probe that hangs has failed");
}

#[tokio::test(start_paused = true)]
async fn whichever_time_out_ends_a_call_it_is_a_failure_of_the_endpoint_and_a_caller_who_goes_is_none() {
    ends_as_a_failure(TimeoutLayer::new(SECOND), "time-out").await;
    ends_as_a_failure(TotalTimeoutLayer::new(SECOND), "total time-out").await;
    ends_as_a_failure(DeadlineLayer::new(10 * SECOND), "deadline").await;
    ends_as_a_failure(RetryLayer::new().attempts(1).attempt_timeout(SECOND / 2), "an attempt's time-out").await;
    ends_as_a_failure(RetryLayer::new(), "the deadline of attempts").await;
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_second_choice_though_nobody_is_ejected() {
    let (good, hung) = (Moody::default(), Arc::default());
    let endpoints = seeded("two");
    endpoints.insert("good", good.service());
    endpoints.insert("hangs", hanging(&hung));
    let replicas = Replicas::new(endpoints).pick_by(LeastPending);
    let mut service = TimeoutLayer::new(100 * MILLI).layer(replicas);
    while service.call(read(1)).await.is_ok() {}
    for n in 0..500 {
        assert_eq!(service.call(read(n)).await.unwrap(), n, "for a second");
    }
    assert_eq!(hung.load(SeqCst), 1);
}
