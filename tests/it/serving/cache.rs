//! Coalescing and the cache in front of replicas: one call for a stampede, stale answers when all are out, the rule of
//! readiness, and nothing left behind by who is dropped.

use super::{
    drops::{leaves_nothing, oneshot, slowly},
    *,
};
use futures::future::join_all;
use seedpod::{
    layer::{CacheLayer, CoalesceLayer, TotalTimeoutLayer},
    testing::readiness::{Probe, Report, check},
};

type Plain = Probe<Request<u32>, u32>;

fn key(request: &Request<u32>) -> Option<u32> {
    Some(*request.message())
}

async fn probe<S>(layer: impl Fn(Plain) -> S) -> Result<Report>
where
    S: Service<Request<u32>, Error = Error>,
{
    check(|| Request::new(7).idempotent(), Request::into_message, layer).await
}

#[tokio::test(start_paused = true)]
async fn coalescing_and_the_cache_keep_the_rule_of_readiness_alone_and_stacked() {
    let alone = probe(|probe| probe).await.unwrap();
    // nothing is fresh, so that every call reaches the probe
    let never = || CacheLayer::by(key).ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    for report in [
        probe(|probe| CoalesceLayer::by(key).layer(probe)).await.unwrap(),
        probe(|probe| CoalesceLayer::by(|_: &Request<u32>| None::<u32>).layer(probe)).await.unwrap(),
        probe(|probe| never().layer(probe)).await.unwrap(),
        probe(|probe| CacheLayer::by(|_: &Request<u32>| None::<u32>).layer(probe)).await.unwrap(),
    ] {
        // one was never ready and two were dropped before they were: they have cloned, and not called
        assert!(report.calls + 1 >= alone.calls && report.clones <= report.calls + 3, "{report:?} {alone:?}");
    }
    probe(|probe| {
        ServiceBuilder::new()
            .layer(TotalTimeoutLayer::new(30 * SECOND))
            .layer(never())
            .layer(RetryLayer::new())
            .layer(CoalesceLayer::by(key))
            .service(probe)
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stampede_of_a_thousand_reaches_one_replica_once_whoever_gives_up() {
    let (calls, endpoints) = (Arc::new(AtomicU32::new(0)), seeded("shop"));
    for name in ["a", "b", "c"] {
        endpoints.insert(name, slow::<Request<u32>>(&calls, 10 * MILLI));
    }
    let layer = CacheLayer::by(key);
    let service = layer.layer(Replicas::new(endpoints));
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(service.clone().call(Request::new(1)))).collect();
    time::sleep(5 * MILLI).await;
    callers.iter().step_by(2).for_each(|caller| caller.abort()); // the first of all among them
    let answered = join_all(callers).await.into_iter().filter(|caller| matches!(caller, Ok(Ok(())))).count();
    let stats = layer.handle().stats();
    assert_eq!((answered, calls.load(SeqCst), stats.misses, stats.coalesced), (500, 1, 1, 999));
    assert_eq!((stats.in_flight, stats.waiting, stats.entries), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn when_all_replicas_are_out_the_stale_answer_is_given_and_when_they_are_back_a_new_one() {
    let (calls, endpoints) = (Arc::new(AtomicU32::new(0)), seeded("shop"));
    endpoints.insert("a", slow::<Request<u32>>(&calls, MILLI));
    let layer = CacheLayer::by(key).ttl(10 * SECOND).stale_if_error(300 * SECOND);
    let mut service = layer.layer(Replicas::new(endpoints.clone()));
    service.call(Request::new(1)).await.unwrap();
    endpoints.remove("a");
    for _ in 0..10 {
        time::sleep(25 * SECOND).await;
        service.call(Request::new(1)).await.unwrap();
        assert_eq!(service.call(Request::new(2)).await.unwrap_err().kind(), Kind::Unavailable, "nothing is kept of it");
    }
    assert_eq!((layer.handle().stats().stale_if_error, calls.load(SeqCst)), (10, 1));
    endpoints.insert("b", slow::<Request<u32>>(&calls, MILLI));
    service.call(Request::new(1)).await.unwrap();
    assert_eq!(calls.load(SeqCst), 2);
    endpoints.remove("b");
    time::sleep(310 * SECOND).await;
    assert_eq!(service.call(Request::new(1)).await.unwrap_err().kind(), Kind::Unavailable, "too old");
}

#[tokio::test(start_paused = true)]
async fn one_cache_serves_all_handles_and_all_services_that_its_layer_made() {
    let calls = Arc::new(AtomicU32::new(0));
    let layer = CacheLayer::by(key);
    let one = layer.layer(slow::<Request<u32>>(&calls, MILLI));
    let other = layer.clone().layer(slow::<Request<u32>>(&calls, MILLI));
    one.clone().oneshot(Request::new(1)).await.unwrap();
    one.oneshot(Request::new(1)).await.unwrap();
    other.oneshot(Request::new(1)).await.unwrap();
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_dropped_after_any_number_of_polls_leave_no_flight_no_waiter_and_no_byte() {
    let slow = slowly();
    let coalesce = CoalesceLayer::by(key);
    let service = coalesce.layer(slow.clone());
    let handle = coalesce.handle();
    let left = || (handle.in_flight(), handle.waiting(), slow.under_way());
    leaves_nothing(|| oneshot(&service), left).await;
    leaves_nothing(|| async { tokio::join!(oneshot(&service), oneshot(&service)) }, left).await;

    let cache = CacheLayer::by(key).ttl(Duration::ZERO).stale_while_revalidate(Duration::ZERO);
    let (service, handle) = (cache.layer(slow.clone()), cache.handle());
    let left = || {
        let stats = handle.stats();
        handle.purge_all();
        (stats.in_flight, stats.waiting, slow.under_way(), handle.stats().entries, handle.stats().bytes)
    };
    leaves_nothing(|| oneshot(&service), left).await;
    leaves_nothing(|| async { tokio::join!(oneshot(&service), oneshot(&service)) }, left).await;
}
