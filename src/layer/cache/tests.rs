//! Fresh, stale, negative, purged, bounded: on paused time.

use super::*;
use crate::base::{
    Error, Kind, Outcome,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time,
};
use futures::{FutureExt, future::join_all, poll};
use tower::{Service, service_fn, util::BoxCloneSyncService};

const SECOND: Duration = Duration::from_secs(1);

/// Answers after a second with how many calls there were; fails while told to.
#[derive(Clone, Default)]
struct Origin {
    calls: Arc<AtomicU32>,
    fails: Arc<Lock<Option<Kind>>>,
}

impl Origin {
    fn service(&self) -> BoxCloneSyncService<u32, u32, Error> {
        let origin = self.clone();
        BoxCloneSyncService::new(service_fn(move |_: u32| {
            let (call, fails) = (origin.calls.fetch_add(1, SeqCst) + 1, origin.fails.clone());
            async move {
                time::sleep(SECOND).await;
                let fails = *fails.lock();
                fails.map_or(Ok(call), |kind| Err(kind.into()))
            }
        }))
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }

    fn fail(&self, kind: impl Into<Option<Kind>>) {
        *self.fails.lock() = kind.into();
    }
}

fn key(request: &u32) -> Option<u32> {
    (*request < 1_000).then_some(*request)
}

async fn pass(seconds: u32) {
    time::sleep(seconds * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_fresh_then_stale_and_refreshed_once_then_gone() {
    let (origin, layer) = (Origin::default(), CacheLayer::by(key).ttl(10 * SECOND));
    let mut service = layer.layer(origin.service());
    let answers = join_all((0..1_000).map(|_| service.call(1))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
    pass(9).await;
    assert_eq!(service.call(1).now_or_never().unwrap().unwrap(), 1, "fresh to the last moment");
    pass(1).await;
    for _ in 0..100 {
        assert_eq!(service.call(1).now_or_never().unwrap().unwrap(), 1, "stale, at once");
    }
    pass(2).await;
    assert_eq!((service.call(1).now_or_never().unwrap().unwrap(), origin.calls()), (2, 2), "refreshed by one");
    pass(30).await;
    assert_eq!((service.call(1).await.unwrap(), origin.calls()), (3, 3), "too old to be given");
    let stats = layer.handle().stats();
    assert_eq!((stats.misses, stats.coalesced, stats.hits, stats.stale, stats.refreshes), (2, 999, 2, 100, 1));
    assert_eq!((stats.entries, stats.in_flight, stats.waiting), (1, 0, 0));
    join_all((0..3).map(|_| service.call(5_000))).await;
    assert_eq!((origin.calls(), layer.handle().stats().entries), (6, 1), "without a key it passes");
}

#[tokio::test(start_paused = true)]
async fn a_failure_gives_way_to_a_stale_answer_and_an_answer_about_the_request_does_not() {
    let origin = Origin::default();
    let layer = CacheLayer::by(key).ttl(10 * SECOND).stale_while_revalidate(Duration::ZERO).stale_if_error(60 * SECOND);
    let mut service = layer.layer(origin.service());
    assert_eq!(service.call(1).await.unwrap(), 1);
    pass(20).await;
    origin.fail(Kind::Unavailable);
    assert_eq!(service.call(1).await.unwrap(), 1);
    origin.fail(Kind::NotFound);
    assert_eq!(service.call(1).await.unwrap_err().kind(), Kind::NotFound);
    origin.fail(Kind::Unavailable);
    assert_eq!((layer.handle().stats().stale_if_error, service.call(1).await.unwrap()), (1, 1));
    pass(60).await;
    assert_eq!(service.call(1).await.unwrap_err().kind(), Kind::Unavailable, "too old even for that");
    origin.fail(None);
    assert_eq!((service.call(1).await.unwrap(), origin.calls()), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept_unless_asked_for_and_failures_never() {
    for (negative, calls) in [(Duration::ZERO, 4), (5 * SECOND, 3)] {
        let (origin, layer) = (Origin::default(), CacheLayer::by(key).negative(negative));
        let mut service = layer.layer(origin.service());
        origin.fail(Kind::Unavailable);
        assert!(service.call(1).await.is_err());
        origin.fail(Kind::NotFound);
        for _ in 0..2 {
            assert_eq!(service.call(1).await.unwrap_err().kind(), Kind::NotFound);
        }
        pass(5).await;
        origin.fail(None);
        assert_eq!((service.call(1).await.unwrap(), origin.calls()), (calls, calls), "{negative:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_answers_that_are_a_success_are_kept() {
    let even = |result: Result<&u32, &Error>| match result {
        Ok(answer) if answer % 2 == 1 => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(error) => Outcome::of(error),
    };
    let origin = Origin::default();
    let layer = CacheLayer::by(key).ttl(SECOND).stale_while_revalidate(Duration::ZERO).classify(even);
    let mut service = layer.layer(origin.service());
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(service.call(1).await.unwrap());
    }
    pass(1).await;
    answers.push(service.call(1).await.unwrap());
    assert_eq!((answers, origin.calls()), (vec![1, 2, 2, 2], 3), "the third call failed: stale in its place");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_a_purge_is_not_kept_after_it_nor_given_to_who_comes_after() {
    for all in [false, true] {
        let (origin, layer) = (Origin::default(), CacheLayer::by(key));
        let mut service = layer.layer(origin.service());
        let mut before = Box::pin(service.call(1));
        assert!(poll!(before.as_mut()).is_pending());
        if all {
            layer.handle().purge_all()
        } else {
            layer.handle().purge(&1)
        }
        let mut after = Box::pin(service.call(1));
        assert!(poll!(after.as_mut()).is_pending());
        assert_eq!((before.await.unwrap(), layer.handle().stats().entries), (1, 0));
        assert_eq!((after.await.unwrap(), service.call(1).await.unwrap(), origin.calls()), (2, 2, 2));
        layer.handle().purge(&1);
        assert_eq!((layer.handle().stats().entries, layer.handle().stats().bytes), (0, 0));
        assert_eq!(service.call(1).await.unwrap(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_and_entries_are_bounded_and_settings_hold_at_once() {
    let origin = Origin::default();
    let layer = CacheLayer::by(key).bytes(10_000).weigh(|_, _| 1_000 - OVERHEAD);
    let (mut service, handle) = (layer.layer(origin.service()), layer.handle());
    for request in 0..100 {
        service.call(request).await.unwrap();
        assert!(handle.stats().bytes <= 10_000 && handle.stats().entries <= 10);
    }
    assert_eq!((handle.stats().entries, handle.stats().evicted), (10, 90));
    handle.set_entries(4);
    assert_eq!((handle.stats().entries, handle.stats().bytes), (4, 4_000));
    handle.set_bytes(999);
    service.call(7).await.unwrap();
    assert_eq!((handle.stats().entries, handle.stats().bytes), (0, 0), "one alone is too large");
    handle.set_bytes(usize::MAX);
    service.call(7).await.unwrap();
    handle.set_ttl(Duration::ZERO);
    handle.set_stale_while_revalidate(Duration::ZERO);
    let calls = origin.calls();
    service.call(7).await.unwrap();
    assert_eq!(origin.calls(), calls + 1, "what was kept is no longer fresh");
}
