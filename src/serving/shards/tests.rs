//! Which shard a request goes to, and what it waits for.

use super::{
    super::{
        Attributes,
        shard::{self, Span},
    },
    *,
};
use crate::{
    base::{Kind, Seed, sync::Lock, time},
    layer::{Request, RetryLayer, attempt},
    serving::{Ejection, Leaves},
};
use futures::{FutureExt, future::join_all};
use std::{collections::BTreeMap, future::pending};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

mod batches;
mod bounds;
mod fences;
mod measures;
mod model;
mod rebalances;
mod refusals;
mod spills;

type Endpoint = BoxCloneSyncService<Request<u64>, String, Error>;

fn key(request: &Request<u64>) -> &u64 {
    request.message()
}

/// Answers with its name, after so many milliseconds.
fn after(name: &str, millis: u64) -> Endpoint {
    let name = name.to_owned();
    BoxCloneSyncService::new(service_fn(move |_: Request<u64>| {
        let name = name.clone();
        async move {
            if millis > 0 {
                time::sleep(Duration::from_millis(millis)).await;
            }
            Ok(name)
        }
    }))
}

fn named(names: &[&str], millis: u64) -> Endpoints<Endpoint> {
    let endpoints = Endpoints::named("store").seed(Seed::new(7));
    names.iter().for_each(|name| endpoints.insert(*name, after(name, millis)));
    endpoints
}

fn map(names: &[&str]) -> ShardMap {
    ShardMap::planned(names.iter().copied()).build().unwrap()
}

fn owner(map: &ShardMap, key: u64) -> String {
    map.name(map.owner(&key)).to_owned()
}

#[tokio::test(start_paused = true)]
async fn only_the_shard_that_is_needed_must_be_ready() {
    let (map, endpoints) = (map(&["s0", "s1", "s2"]), named(&["s0", "s1"], 0));
    /// Never becomes ready.
    #[derive(Clone)]
    struct Never;
    impl Service<Request<u64>> for Never {
        type Response = String;
        type Error = Error;
        type Future = std::future::Ready<Result<String>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<u64>) -> Self::Future {
            panic!("called without readiness")
        }
    }
    endpoints.insert("s2", BoxCloneSyncService::new(Never));
    let mut shards = Shards::new(map.clone(), key, endpoints);
    for number in 0..1_000 {
        let answer = shards.call(Request::new(number)).now_or_never();
        match owner(&map, number).as_str() {
            "s2" => assert!(answer.is_none(), "it waits for its shard"),
            owner => assert_eq!(answer.unwrap().unwrap(), owner),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_endpoint_is_named_and_comes_back_with_it() {
    let (map, endpoints) = (map(&["s0", "s1"]), named(&["s0"], 0));
    let mut shards = Shards::new(map.clone(), key, endpoints.clone());
    let number = (0..).find(|number| owner(&map, *number) == "s1").unwrap();
    let error = shards.call(Request::new(number)).await.unwrap_err();
    assert_eq!(error.to_string(), "s1: unavailable: the map names this shard, and there is no endpoint of that name");
    assert!(error.is_unsent() && error.is_retryable());
    endpoints.insert("s1", after("s1", 0));
    assert_eq!(shards.call(Request::new(number)).await.unwrap(), "s1", "host comes back into ring");
    endpoints.set_ready("s1", false);
    let error = shards.call(Request::new(number)).await.unwrap_err();
    assert_eq!(error.to_string(), "s1: unavailable: the shard takes no calls");
    endpoints.set_ready("s1", true);
    endpoints.drain("s1");
    assert_eq!(shards.call(Request::new(number)).await.unwrap(), "s1", "nobody else has the key");
}

#[tokio::test(start_paused = true)]
async fn of_copies_the_first_that_takes_calls_is_asked_and_a_second_attempt_goes_to_the_next() {
    let map = ShardMap::planned(["s0", "s1", "s2"]).copies(2).build().unwrap();
    let endpoints = named(&["s0", "s1", "s2"], 0);
    let endpoints = endpoints.eject(Ejection::none().failures(1).wait(Duration::from_secs(9)).jitter(0.0)).unwrap();
    let mut shards = Shards::new(map.clone(), key, endpoints.clone());
    let [first, second] = map.owners(&7_u64) else { panic!("two copies") };
    let (first, second) = (map.name(*first), map.name(*second));
    let mut ask = || shards.call(Request::new(7)).now_or_never().unwrap().unwrap();
    assert_eq!(ask(), first);
    endpoints.set_ready(first, false);
    assert_eq!(ask(), second);
    endpoints.set_ready(first, true);
    assert_eq!(ask(), first);
    endpoints.drain(first);
    assert_eq!(ask(), second);
    endpoints.insert(first, after(first, 0));
    assert_eq!(ask(), first);
    let mut tried = attempt::Tried::default();
    tried.follow(|| assert_eq!(ask(), first));
    tried.follow(|| assert_eq!(ask(), second));
    tried.follow(|| assert_eq!(ask(), first, "where all were tried, the first"));

    let failing = service_fn(|_: Request<u64>| async { Err::<String, _>(Error::from(Kind::Unavailable)) });
    endpoints.insert(first, BoxCloneSyncService::new(failing));
    let retried = RetryLayer::new().layer(shards.clone());
    assert_eq!(retried.oneshot(Request::new(7).idempotent()).await.unwrap(), second);
    assert_eq!(endpoints.explain().out.len(), 1, "it is ejected");
    assert_eq!(shards.call(Request::new(7)).await.unwrap(), second);
    let leaves = shards.copies().leaves(Request::new(7)).unwrap();
    assert_eq!(leaves.iter().map(|leaf| leaf.name()).collect::<Vec<_>>(), [first, second]);
}

#[tokio::test(start_paused = true)]
async fn a_request_sees_one_map_and_one_set() {
    let endpoints = named(&["s0", "s1"], 5);
    let mut shards = Shards::new(map(&["s0"]), key, endpoints.clone());
    let begun = shards.call(Request::new(1));
    let next = ShardMap::planned(["s1"]).version(2).build().unwrap();
    shards.maps().publish(next.clone()).unwrap();
    assert_eq!(shards.call(Request::new(1)).await.unwrap(), "s1");
    assert_eq!(begun.await.unwrap(), "s0", "reshard based on the state that it began with");
    for version in [0, 1, 2] {
        let old = ShardMap::planned(["s0"]).version(version).build().unwrap();
        let error = shards.maps().publish(old).unwrap_err();
        assert_eq!(error.to_string(), format!("conflict: map 2 counts already, not map {version}"));
    }
    assert_eq!(shards.map(), next);
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_counted_where_it_is_measured() {
    let map = map(&["s0", "s1"]);
    let mut shards = Shards::new(map.clone(), key, named(&["s0", "s1"], 0)).measured(1);
    for _ in 0..3 {
        shards.call(Request::new(7)).await.unwrap();
    }
    let sum = |loads: shard::Loads| (0..map.places()).map(|index| loads.at(index)).sum::<u64>();
    let loads = shards.loads();
    assert_eq!((loads.at(map.locate(&7_u64).index()), sum(loads)), (3, 3));
    assert_eq!(sum(shards.loads()), 0, "since the last time");
    let mut sampled = shards.measured(10);
    for number in 0..1_000 {
        sampled.call(Request::new(number)).await.unwrap();
    }
    assert_eq!(sum(sampled.loads()), 1_000);
}

/// A shard that is refused everything by a fence that knows this map.
fn moved(version: u64) -> Endpoint {
    BoxCloneSyncService::new(service_fn(
        move |_: Request<u64>| async move { Err::<String, _>(Moved::at(version).into()) },
    ))
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_waits_for_the_map_that_was_named_and_goes_on() {
    let endpoints = named(&["s1"], 0);
    endpoints.insert("s0", moved(3));
    let mut shards = Shards::new(map(&["s0"]), key, endpoints.clone());
    let mut waiting = Box::pin(shards.call(Request::new(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!((shards.held(), endpoints.pending("s0")), (1, Some(0)), "it loads nobody while it waits");
    shards.maps().publish(ShardMap::planned(["s0"]).version(2).build().unwrap()).unwrap();
    assert!(waiting.as_mut().now_or_never().is_none(), "not that one");
    shards.maps().publish(ShardMap::planned(["s1"]).version(4).build().unwrap()).unwrap();
    assert_eq!(waiting.await.unwrap(), "s1");
    assert_eq!(shards.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_in_vain_says_so_in_time_and_only_so_many_wait() {
    let endpoints = named(&[], 0);
    endpoints.insert("s0", moved(3));
    let mut shards = Shards::new(map(&["s0"]), key, endpoints.clone()).hold(Duration::from_secs(2)).held_max(1);
    let start = time::now();
    let error = shards.call(Request::new(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "s0: unavailable: map 3 has not come in time, this one is 1");
    assert_eq!((start.elapsed(), error.is_unsent()), (Duration::from_secs(2), false));
    let error = shards.call(Request::new(1).within(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!((start.elapsed(), error.kind()), (Duration::from_millis(2_100), Kind::Unavailable));
    let mut waiting = Box::pin(shards.call(Request::new(1)));
    assert!(waiting.as_mut().now_or_never().is_none());
    let error = shards.call(Request::new(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "s0: overloaded: 1 requests wait for a newer map, and no more may");
    drop(waiting);
    assert_eq!(shards.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_repeated_gets_the_refusal() {
    struct Once(u64);
    impl Metadata for Once {
        fn deadline(&self) -> Option<crate::base::Deadline> {
            None
        }
        fn set_deadline(&mut self, _: crate::base::Deadline) {}
        fn idempotency_key(&self) -> Option<&str> {
            None
        }
        fn is_idempotent(&self) -> bool {
            false
        }
        fn repeat(&self) -> Option<Self> {
            None
        }
    }
    let endpoints = Endpoints::named("store");
    endpoints.insert("s0", service_fn(|_: Once| async { Err::<(), Error>(Moved::at(9).into()) }));
    let mut shards = Shards::new(map(&["s0"]), |once: &Once| &once.0, endpoints);
    let error = shards.call(Once(1)).await.unwrap_err();
    assert_eq!(Moved::of(&error), Some(Moved::at(9)));
}

#[test]
fn attributes_do_not_matter_to_who_owns_a_key() {
    let (map, endpoints) = (map(&["s0", "s1"]), named(&["s0", "s1"], 0));
    endpoints.alter("s0", |about: &mut Attributes| {
        about.weight(10).zone("a");
    });
    let mut shards = Shards::new(map.clone(), key, endpoints);
    for number in 0..100 {
        let answer = shards.call(Request::new(number)).now_or_never().unwrap().unwrap();
        assert_eq!(answer, owner(&map, number));
    }
}
