//! Replicas over a set that changes while requests flow; retry and deadline in front of them; the rule of readiness.

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use seedpod::{
    base::{Backoff, Deadline, Error, Kind, Outcome, Result, Seed, sync::Lock, time},
    layer::{Budget, DeadlineLayer, HttpStatus, Metadata, Request, RetryLayer},
    serving::{Endpoints, Erased, Replicas},
};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

mod attempts;
mod batched;
mod cache;
mod contract;
mod drops;
mod ejection;
mod http;
mod http_cache;
mod idempotency;
mod limits;
mod probes;
mod readiness;
mod replay;
mod scatter;
mod spans;
mod sticky;
mod unready;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// An endpoint that takes this long and counts its calls.
fn slow<Req: Send + 'static>(
    calls: &Arc<AtomicU32>,
    took: Duration,
) -> impl Service<Req, Response = (), Error = Error, Future: Send> + Clone + Send + Sync + 'static {
    let calls = calls.clone();
    service_fn(move |_: Req| {
        calls.fetch_add(1, SeqCst);
        async move {
            time::sleep(took).await;
            Ok(())
        }
    })
}

fn seeded<S>(name: &str) -> Endpoints<S> {
    Endpoints::named(name).seed(Seed::new(7))
}

#[tokio::test(start_paused = true)]
async fn the_set_changes_while_requests_flow_and_none_is_lost() {
    let endpoints = seeded("shop");
    let replicas = Replicas::new(endpoints.clone());
    let served: Arc<[AtomicU32; 20]> = Arc::default();
    let endpoint = |number: usize| {
        let served = served.clone();
        service_fn(move |(): ()| {
            served[number].fetch_add(1, SeqCst);
            async {
                time::sleep(3 * MILLI).await;
                Ok::<_, Error>(())
            }
        })
    };
    endpoints.insert("0", endpoint(0));
    let traffic = tokio::spawn(async move {
        let calls = FuturesUnordered::new();
        for _ in 0..2_000 {
            calls.push(replicas.clone().call(()));
            time::sleep(MILLI / 10).await;
        }
        calls.collect::<Vec<_>>().await
    });
    for number in 1..20 {
        time::sleep(10 * MILLI).await;
        endpoints.update(|changes| {
            changes.insert(number.to_string(), endpoint(number));
            changes.remove((number - 1).to_string()); // with calls under way in it
        });
    }
    let answers = traffic.await.unwrap();
    assert_eq!((answers.len(), answers.iter().filter(|answer| answer.is_err()).count()), (2_000, 0));
    assert_eq!(served.iter().map(|served| served.load(SeqCst)).sum::<u32>(), 2_000);
    assert!(served.iter().all(|served| served.load(SeqCst) > 0), "each had its turn: {served:?}");
    assert_eq!((endpoints.version(), endpoints.keys()), (20, vec!["19".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_gets_less() {
    let endpoints = seeded("uneven");
    let counts: BTreeMap<&str, Arc<AtomicU32>> = ["a", "b", "c", "slow"].map(|key| (key, Arc::default())).into();
    for (key, calls) in &counts {
        endpoints.insert(*key, slow(calls, if *key == "slow" { 100 * MILLI } else { 10 * MILLI }));
    }
    let mut replicas = Replicas::new(endpoints.clone());
    let calls = FuturesUnordered::new();
    for _ in 0..4_000 {
        calls.push(tokio::spawn(replicas.call(())));
        time::sleep(MILLI).await;
    }
    calls.for_each(|_| std::future::ready(())).await;
    let got: Vec<u32> = counts.values().map(|calls| calls.load(SeqCst)).collect();
    assert_eq!(got.iter().sum::<u32>(), 4_000);
    assert!(got[..3].iter().all(|fast| *fast > 1_000 && *fast > 4 * got[3]), "{got:?}");
    assert!(got[3] > 50, "and is not forgotten: {got:?}");
    assert!(counts.keys().all(|key| endpoints.pending(key) == Some(0)));
}

#[tokio::test(start_paused = true)]
async fn who_refuses_fast_is_not_flooded() {
    let endpoints = seeded("black hole");
    let (well, gone) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    endpoints.insert("a", Erased::new(slow(&well, 20 * MILLI)));
    endpoints.insert("b", Erased::new(slow(&well, 20 * MILLI)));
    let refused = gone.clone();
    let refuse = service_fn(move |(): ()| {
        refused.fetch_add(1, SeqCst);
        async { Err::<(), _>(Error::new(Kind::Unavailable, "connection refused")) }
    });
    endpoints.insert("gone", Erased::new(refuse));
    let mut replicas = Replicas::new(endpoints);
    let calls = FuturesUnordered::new();
    for _ in 0..10_000 {
        calls.push(tokio::spawn(replicas.call(())));
        time::sleep(MILLI).await;
    }
    calls.for_each(|_| std::future::ready(())).await;
    let gone = gone.load(SeqCst);
    assert!((5..=15).contains(&gone), "about once a second, not two thirds of 10,000: {gone}");
    assert_eq!(well.load(SeqCst) + gone, 10_000);
}

#[tokio::test(start_paused = true)]
async fn cancelling_returns_the_load_of_every_level() {
    let inner = Replicas::new(seeded("zone"));
    inner.endpoints().insert("pod", slow(&Arc::default(), SECOND));
    let outer = Replicas::new(seeded("region"));
    outer.endpoints().insert("zone", inner.clone());
    let pending = || (outer.endpoints().pending("zone"), inner.endpoints().pending("pod"));

    let mut handle = outer.clone();
    let mut calls: Vec<_> = (0..5).map(|_| Box::pin(handle.call(()))).collect();
    assert_eq!(pending(), (Some(5), Some(0)), "picked in the call, the inner one once it is polled");
    calls.iter_mut().for_each(|call| assert!(call.as_mut().now_or_never().is_none()));
    assert_eq!(pending(), (Some(5), Some(5)));
    calls.truncate(2);
    assert_eq!(pending(), (Some(2), Some(2)));
    for call in calls {
        call.await.unwrap();
    }
    let lease = outer.pick().unwrap();
    assert_eq!(pending(), (Some(1), Some(0)));
    lease.lease.complete(Outcome::Success);
    assert_eq!(pending(), (Some(0), Some(0)));
}

/// Fails this often, then answers; keeps what it was asked and when.
fn shaky<Req: Clone + Send + 'static>(
    log: &Arc<Lock<Vec<(Duration, Req)>>>,
    failures: usize,
    error: Error,
) -> impl Service<Req, Response = (), Error = Error, Future: Send> + Clone + use<Req> {
    let (log, start) = (log.clone(), time::now());
    service_fn(move |request: Req| {
        log.lock().push((start.elapsed(), request));
        let result = if log.lock().len() <= failures { Err(error.clone()) } else { Ok(()) };
        async move { result }
    })
}

#[tokio::test(start_paused = true)]
async fn every_attempt_carries_the_same_idempotency_key() {
    let log = Arc::default();
    let service = RetryLayer::new().layer(shaky(&log, 2, Kind::Unavailable.into()));
    service.clone().oneshot(Request::new(5).keyed("order-17")).await.unwrap();
    let keys: Vec<_> = log.lock().iter().map(|(_, request)| request.idempotency_key().map(str::to_owned)).collect();
    assert_eq!(keys, vec![Some("order-17".to_owned()); 3]);

    log.lock().clear();
    let error = service.oneshot(Request::new(5)).await.unwrap_err();
    assert_eq!((error.kind(), log.lock().len()), (Kind::Unavailable, 1), "without a key it is sent once");
}

#[tokio::test(start_paused = true)]
async fn http_is_retried_by_status_and_keeps_its_key() {
    let log: Arc<Lock<Vec<String>>> = Arc::default();
    let seen = log.clone();
    let flaky = service_fn(move |request: ::http::Request<&'static str>| {
        let key = request.headers().get("idempotency-key").map_or("none", |key| key.to_str().unwrap());
        seen.lock().push(format!("{} {key} {}", request.method(), request.body()));
        let status = if seen.lock().len().is_multiple_of(3) { 200 } else { 503 };
        async move { Ok::<_, Error>(::http::Response::builder().status(status).body(()).unwrap()) }
    });
    let service = RetryLayer::new().classify(HttpStatus).layer(flaky);
    let pay = || ::http::Request::post("/pay");
    let answer = service.clone().oneshot(pay().header("idempotency-key", "k1").body("5 EUR").unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), log.lock().clone()), (200, vec!["POST k1 5 EUR".to_owned(); 3]));
    let answer = service.oneshot(pay().body("5 EUR").unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), log.lock().len()), (503, 4), "the answer of the one attempt stands");
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_what_retries_add() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let down = service_fn(move |_: Request<()>| {
        counted.fetch_add(1, SeqCst);
        async { Err::<(), _>(Error::from(Kind::Overloaded)) }
    });
    let layer = RetryLayer::new().attempts(5).backoff(Backoff::new(MILLI, MILLI)).seed(Seed::new(1));
    let mut service = layer.layer(down);
    let (seconds, per_second) = (60, 500);
    let flow = FuturesUnordered::new();
    for _ in 0..seconds * per_second {
        flow.push(tokio::spawn(service.call(Request::new(()).idempotent())));
        time::sleep(SECOND / per_second).await;
    }
    flow.for_each(|_| std::future::ready(())).await;
    let (requests, extra) = (seconds * per_second, calls.load(SeqCst) - seconds * per_second);
    let most = requests / 5 + 10 * (seconds + 10); // 20 %, and the floor of every window
    assert!(extra <= most && extra > requests / 10, "{extra} extra for {requests}, at most {most}");
}

#[tokio::test(start_paused = true)]
async fn one_budget_is_shared_by_all_that_hold_it() {
    let (log, budget) = (Arc::default(), Budget::new(1, 0));
    let layer = || RetryLayer::new().attempts(9).budget(budget.clone());
    for _ in 0..10 {
        let service = layer().layer(shaky(&log, usize::MAX, Kind::Unavailable.into()));
        service.oneshot(Request::new(()).idempotent()).await.unwrap_err();
    }
    assert_eq!(log.lock().len(), 10 + 10, "ten requests, and ten extra attempts among all");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_that_cannot_end_before_the_deadline() {
    let (log, second) = (Arc::default(), Backoff::new(SECOND, SECOND).exact());
    let layer = RetryLayer::new().attempts(100).backoff(second).budget(Budget::new(1000, 0)).attempt_min(MILLI * 500);
    let service = layer.layer(shaky(&log, usize::MAX, Kind::Unavailable.into()));
    let start = time::now();
    let error = service.oneshot(Request::new(()).idempotent().within(SECOND * 7 / 2)).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (Kind::Unavailable, 2 * SECOND), "the last failure, at once");
    assert_eq!(log.lock().len(), 3, "after 0, 1 and 2 s; at 3 s half a second is not enough");
}

#[tokio::test(start_paused = true)]
async fn attempts_time_out_and_the_deadline_ends_all() {
    let (log, start) = (Arc::new(Lock::new(Vec::new())), time::now());
    let times = log.clone();
    let endless = service_fn(move |request: Request<()>| {
        times.lock().push((start.elapsed(), request.deadline().map(Deadline::remaining)));
        std::future::pending::<Result>()
    });
    let backoff = Backoff::new(SECOND, SECOND).exact();
    let service = RetryLayer::new().attempts(9).backoff(backoff).attempt_timeout(2 * SECOND).layer(endless);
    let service = DeadlineLayer::new(7 * SECOND).layer(service);
    let error = service.oneshot(Request::new(()).idempotent()).await.unwrap_err();
    assert_eq!(start.elapsed(), 7 * SECOND);
    assert!(error.is_timeout());
    let attempts = [(0, 2), (3, 2), (6, 1)].map(|(at, left)| (at * SECOND, Some(left * SECOND)));
    assert_eq!(*log.lock(), attempts, "the deadline shrinks per attempt");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_says_which_attempt_and_why_there_was_more_than_one() {
    let calls = AtomicU32::new(0);
    let service = service_fn(|_: Request<()>| {
        let first = calls.fetch_add(1, SeqCst) == 0;
        async move {
            if first {
                Err(Error::new(Kind::Unavailable, "reset").at("cart-a"))
            } else {
                std::future::pending::<Result>().await
            }
        }
    });
    let service = RetryLayer::new().attempts(2).attempt_timeout(SECOND).layer(service);
    let error = service.clone().oneshot(Request::new(()).idempotent()).await.unwrap_err();
    assert_eq!(error.chain(), "timed out: attempt 2 of 2 took 1s: cart-a: unavailable: reset");
    let late = Request::new(()).idempotent().within(SECOND);
    time::sleep(SECOND).await;
    assert!(service.clone().oneshot(late).await.unwrap_err().is_timeout());
    assert_eq!(calls.load(SeqCst), 2, "over before it began");
}

#[tokio::test(start_paused = true)]
async fn what_the_other_side_asks_for_is_waited() {
    let log = Arc::default();
    let busy = Error::new(Kind::Overloaded, "").after(4 * SECOND);
    let service = RetryLayer::new().layer(shaky(&log, 1, busy.clone()));
    service.oneshot(Request::new(()).idempotent()).await.unwrap();
    let times: Vec<_> = log.lock().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [Duration::ZERO, 4 * SECOND]);

    log.lock().clear();
    let service = RetryLayer::new().layer(shaky(&log, 1, busy));
    let error = service.oneshot(Request::new(()).idempotent().within(3 * SECOND)).await.unwrap_err();
    assert_eq!((error.retry_after(), log.lock().len()), (Some(4 * SECOND), 1), "longer than there is time");
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_front_of_replicas_goes_elsewhere() {
    let endpoints = seeded("cart");
    let well = Arc::new(AtomicU32::new(0));
    for key in ["a", "b"] {
        endpoints.insert(key, Erased::new(slow(&well, MILLI)));
    }
    let dead = service_fn(|_: Request<()>| async { Err::<(), _>(Error::from(Kind::Unavailable)) });
    endpoints.insert("dead", Erased::new(dead));
    let stack = ServiceBuilder::new().layer(DeadlineLayer::new(SECOND)).layer(RetryLayer::new().seed(Seed::new(2)));
    let service = stack.service(Replicas::new(endpoints));
    for _ in 0..500 {
        service.clone().oneshot(Request::new(()).idempotent()).await.unwrap();
        time::sleep(20 * MILLI).await;
    }
    assert_eq!(well.load(SeqCst), 500);
}

#[tokio::test(start_paused = true)]
async fn one_seed_one_run() {
    async fn run(seed: u64) -> Vec<(Duration, u32)> {
        let endpoints = Endpoints::named("cart").seed(Seed::new(seed));
        let log = Arc::new(Lock::new(Vec::new()));
        let start = time::now();
        for number in 0..5_u32 {
            let log = log.clone();
            endpoints.insert(
                number.to_string(),
                service_fn(move |_: Request<()>| {
                    log.lock().push((start.elapsed(), number));
                    async move {
                        time::sleep(MILLI).await;
                        if number == 3 { Err(Error::from(Kind::Unavailable)) } else { Ok(()) }
                    }
                }),
            );
        }
        let service = RetryLayer::new().seed(Seed::new(seed)).layer(Replicas::new(endpoints));
        let calls = FuturesUnordered::new();
        for _ in 0..300 {
            calls.push(service.clone().oneshot(Request::new(()).idempotent()));
            time::sleep(MILLI).await;
        }
        calls.for_each(|_| std::future::ready(())).await;
        std::mem::take(&mut *log.lock())
    }
    let first = run(1).await;
    assert!(first.len() > 300);
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
}

fn _handles_are_send_and_sync() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    fn sends<F: Future + Send>(_: F) {}
    check::<Replicas<Erased<u32, u32>>>();
    check::<Endpoints<Erased<u32, u32>>>();
    check::<seedpod::layer::Retry<Replicas<Erased<u32, u32>>>>();
    sends(Replicas::<Erased<u32, u32>>::named("a").call(1));
}
