//! Attempts beyond the first: what they cost, where they go, and that all of it changes while requests flow.

use super::*;
use seedpod::layer::{BreakerLayer, ConcurrencyLimitLayer, FaultLayer, HedgeLayer, ShadowLayer, Split, Trip, attempt};

/// Fails always, and counts its calls.
fn down(
    calls: &Arc<AtomicU32>,
) -> impl Service<Request<u32>, Response = u32, Error = Error, Future: Send> + Clone + use<> {
    let calls = calls.clone();
    service_fn(move |_: Request<u32>| {
        calls.fetch_add(1, SeqCst);
        async { Err(Error::from(Kind::Unavailable)) }
    })
}

fn read(n: u32) -> Request<u32> {
    Request::new(n).idempotent()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_shed_on_this_side_is_given_back_to_the_budget() {
    let budget = Budget::new(1, 0);
    let (limit, calls) = (ConcurrencyLimitLayer::shed(1), Arc::new(AtomicU32::new(0)));
    let retry = RetryLayer::new().attempts(5).budget(budget.clone());
    let service = retry.layer(limit.layer(slow(&calls, SECOND)));
    let mut holder = Box::pin(service.clone().oneshot(Request::new(()).idempotent()));
    assert!(futures::poll!(holder.as_mut()).is_pending());
    let error = service.clone().oneshot(Request::new(()).idempotent()).await.unwrap_err();
    assert!(error.is_unsent() && error.kind() == Kind::Overloaded);
    assert_eq!(retry.handle().retries(), 4, "it tried");
    assert_eq!((calls.load(SeqCst), budget.left(time::now())), (1, 10), "and nothing left this side");

    let retry = RetryLayer::new().attempts(5).budget(budget.clone());
    retry.layer(down(&calls)).oneshot(read(1)).await.unwrap_err();
    assert_eq!(budget.left(time::now()), 6, "what leaves is paid for");
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_refuses_was_sent_and_what_nobody_takes_was_not() {
    let (calls, budget) = (Arc::new(AtomicU32::new(0)), Budget::new(1, 0));
    let replicas = Replicas::new(seeded("full"));
    let service = RetryLayer::new().attempts(5).budget(budget.clone()).layer(replicas.clone());
    let error = service.clone().oneshot(Request::new(()).idempotent()).await.unwrap_err();
    assert_eq!((error.is_unsent(), budget.left(time::now())), (true, 10), "{error}");

    let limited = ConcurrencyLimitLayer::shed(1).layer(slow(&calls, SECOND));
    replicas.endpoints().insert("a", limited.clone());
    let mut holder = Box::pin(limited.oneshot(Request::new(()).idempotent()));
    assert!(futures::poll!(holder.as_mut()).is_pending());
    let error = service.oneshot(Request::new(()).idempotent()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_unsent(), budget.left(time::now())), (Kind::Overloaded, false, 6), "{error}");
}

/// Two endpoints that are picked by chance, whatever became of the last call: one answers with its number, one is `down`.
fn two_by_chance<S>(up: S, down: S) -> Replicas<S, seedpod::layer::Standard, seedpod::serving::Random>
where
    S: Clone,
{
    let replicas = Replicas::new(seeded("two")).pick_by(seedpod::serving::Random);
    replicas.endpoints().insert("up", up);
    replicas.endpoints().insert("down", down);
    replicas
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_another_endpoint_and_where_there_is_none_to_the_same() {
    let (up, failing) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let answers = up.clone();
    let up_service = Erased::new(service_fn(move |request: Request<u32>| {
        answers.fetch_add(1, SeqCst);
        async move { Ok::<_, Error>(request.into_message()) }
    }));
    let replicas = two_by_chance(up_service, Erased::new(down(&failing)));
    let retry = RetryLayer::new().attempts(2).budget(Budget::new(1_000, 100));
    let mut service = retry.layer(replicas.clone());
    for n in 0..200 {
        assert_eq!(service.call(read(n)).await.unwrap(), n, "the second attempt never goes where the first one failed");
    }
    let failed = failing.load(SeqCst);
    assert!((70..130).contains(&failed), "chance takes the bad one at every other call: {failed}");
    replicas.endpoints().remove("up");
    service.call(read(1)).await.unwrap_err();
    assert_eq!((failing.load(SeqCst), up.load(SeqCst)), (failed + 2, 200));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_to_another_endpoint() {
    let takes = |wait: Duration| {
        Erased::new(service_fn(move |request: Request<u32>| async move {
            time::sleep(wait).await;
            Ok::<_, Error>(request.into_message())
        }))
    };
    let replicas = two_by_chance(takes(10 * MILLI), takes(10 * MILLI));
    let layer = HedgeLayer::new(0.2).unwrap();
    let mut service = layer.layer(replicas.clone());
    for n in 0..100 {
        service.call(read(n)).await.unwrap();
    }
    replicas.endpoints().insert("down", takes(100 * SECOND));
    let start = time::now();
    for n in 0..10 {
        service.call(read(n)).await.unwrap(); // by chance to the one that hangs, never twice
    }
    assert!(start.elapsed() < SECOND && layer.handle().won() > 0, "{:?} {layer:?}", start.elapsed());
    assert_eq!((replicas.endpoints().pending("up"), replicas.endpoints().pending("down")), (Some(0), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_before_it_leaves_is_given_back() {
    let (budget, calls) = (Budget::new(1, 0), Arc::new(AtomicU32::new(0)));
    let second = Backoff::new(SECOND, SECOND).exact();
    let service = RetryLayer::new().backoff(second).budget(budget.clone()).layer(down(&calls));
    let mut call = Box::pin(service.oneshot(read(1)));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(budget.left(time::now()), 9, "taken, and not yet sent");
    drop(call);
    assert_eq!((budget.left(time::now()), calls.load(SeqCst)), (10, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_changed_while_requests_flow_and_says_what_it_did() {
    let calls = Arc::new(AtomicU32::new(0));
    let layer = RetryLayer::new().budget(Budget::new(1, 0)).backoff(Backoff::new(MILLI, MILLI));
    let (service, handle) = (layer.layer(down(&calls)), layer.handle());
    let call = |request| service.clone().oneshot(request);
    call(read(1)).await.unwrap_err();
    assert_eq!((handle.made(), handle.retries(), handle.given_up()), (3, 2, 1));
    handle.set_attempts(1);
    call(read(1)).await.unwrap_err();
    assert_eq!((handle.made(), handle.retries()), (4, 2));
    handle.set_attempts(50);
    call(read(1)).await.unwrap_err();
    assert_eq!((handle.made(), handle.given_up(), handle.over_budget()), (4 + 1 + 8, 3, 1));
    call(Request::new(1)).await.unwrap_err();
    assert_eq!((handle.once_only(), handle.given_up()), (1, 4), "configured, and of no use for this one");
    handle.set_backoff(Backoff::new(SECOND, SECOND).exact());
    time::sleep(10 * SECOND).await;
    let start = time::now();
    handle.set_attempts(4);
    let mut under_way = Box::pin(call(read(1)));
    assert!(futures::poll!(under_way.as_mut()).is_pending());
    handle.set_attempts(2); // also for a call that is under way
    under_way.await.unwrap_err();
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(handle.made(), u64::from(calls.load(SeqCst)));
}

/// Goes to the first endpoint that has not been tried, as a balancer would; says where it went, and fails there.
#[derive(Clone)]
struct Choosing {
    keys: Arc<[Arc<str>]>,
    went: Arc<Lock<Vec<Arc<str>>>>,
}

impl Service<Request<u32>> for Choosing {
    type Response = u32;
    type Error = Error;
    type Future = std::future::Ready<Result<u32>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<u32>) -> Self::Future {
        let key = self.keys.iter().find(|key| !attempt::tried(key)).unwrap_or(&self.keys[0]);
        attempt::note_tried(key);
        self.went.lock().push(key.clone());
        std::future::ready(Err(Kind::Unavailable.into()))
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_learns_where_those_before_it_went() {
    let keys: Arc<[Arc<str>]> = ["a", "b", "c"].map(Into::into).into();
    let choosing = Choosing { keys, went: Arc::default() };
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new())
        .layer(DeadlineLayer::new(SECOND))
        .layer(ConcurrencyLimitLayer::wait(1, 1))
        .service(choosing.clone());
    for _ in 0..2 {
        service.clone().oneshot(read(1)).await.unwrap_err();
        assert_eq!(choosing.went.lock().drain(..).map(|key| key.to_string()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
    service.oneshot(Request::new(1)).await.unwrap_err();
    assert_eq!(choosing.went.lock().len(), 1, "every request begins anew");
}

type Plain = seedpod::testing::readiness::Probe<Request<u32>, u32>;

async fn probe<S>(layer: impl Fn(Plain) -> S) -> Result<seedpod::testing::readiness::Report>
where
    S: Service<Request<u32>, Error = Error>,
{
    seedpod::testing::readiness::check(|| read(7), Request::into_message, layer).await
}

fn breaker() -> BreakerLayer {
    BreakerLayer::new("probed", Trip::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_keeps_the_rule_of_readiness_and_all_of_them_stacked_do() {
    let alone = probe(|probe| probe).await.unwrap();
    let broken = probe(|probe| breaker().layer(probe)).await.unwrap();
    let faulty = probe(|probe| FaultLayer::new().layer(probe)).await.unwrap();
    let mirror = || service_fn(|_: Request<u32>| async { Ok::<_, Error>(1) });
    let shadowed = probe(|probe| ShadowLayer::new(mirror(), 1.0).unwrap().layer(probe)).await.unwrap();
    assert_eq!((broken, faulty, shadowed), (alone, alone, alone), "they only pass on");

    let once = probe(|probe| HedgeLayer::new(0.1).unwrap().layer(probe)).await.unwrap();
    let split = probe(|probe| Split::new([("a", probe, 1)]).unwrap()).await.unwrap();
    for report in [once, split] {
        assert!(report.calls + 1 == alone.calls && report.clones > report.calls, "{report:?} {alone:?}");
    }

    probe(|probe| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(30 * SECOND))
            .layer(RetryLayer::new())
            .layer(HedgeLayer::new(0.1).unwrap())
            .layer(breaker())
            .layer(ShadowLayer::new(mirror(), 0.5).unwrap())
            .layer(FaultLayer::new())
            .service(Split::new([("a", probe, 1)]).unwrap())
    })
    .await
    .unwrap();
}
