//! Which shard a request goes to, and what it waits for.

use super::{
    super::{Attributes, shard::Span},
    *,
};
use crate::{
    base::{Kind, Seed, sync::Lock, time},
    layer::{Request, RetryLayer, attempt},
    serving::Ejection,
};
use futures::{FutureExt, future::join_all};
use std::{collections::BTreeMap, future::pending};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

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
    assert_eq!(shards.owners(&7_u64).iter().map(|(name, _)| &**name).collect::<Vec<_>>(), [first, second]);
    assert_eq!(shards.leaves().len(), 3);
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

/// Shards that answer after a second, so that what is called at once is in flight at once.
fn bounded(
    names: &[&str],
    factor: f64,
    copies: usize,
    spills: bool,
) -> (Shards<Endpoint, By<fn(&Request<u64>) -> &u64>>, ShardMap) {
    let map = ShardMap::planned(names.iter().copied()).copies(copies).build().unwrap();
    let shards = Shards::new(map.clone(), key as fn(&Request<u64>) -> &u64, named(names, 1_000));
    (if spills { shards.spilling(factor) } else { shards.bounded(factor) }.unwrap(), map)
}

/// Calls for these keys at once; what each shard got, how many were refused, and that none ever had too much.
async fn at_once(
    shards: &Shards<Endpoint, By<fn(&Request<u64>) -> &u64>>,
    factor: f64,
    keys: impl Iterator<Item = u64>,
) -> (BTreeMap<String, u32>, usize) {
    let mut calls = Vec::new();
    for key in keys {
        calls.push(Box::pin(shards.clone().call(Request::new(key))));
        let names = shards.endpoints().keys();
        let in_flight: Vec<u32> = names.iter().filter_map(|name| shards.endpoints().pending(name)).collect();
        let mean = f64::from(in_flight.iter().sum::<u32>()) / names.len() as f64;
        let most = in_flight.iter().copied().max().unwrap_or_default();
        assert!(f64::from(most) <= (factor * mean).ceil(), "{in_flight:?}");
    }
    let (mut got, mut refused) = (BTreeMap::new(), 0);
    for answer in join_all(calls).await {
        match answer {
            Ok(name) => *got.entry(name).or_default() += 1,
            Err(error) => {
                assert!(error.kind() == Kind::Overloaded && error.is_unsent(), "{error}");
                refused += 1;
            }
        }
    }
    (got, refused)
}

fn keys_of<'a>(map: &'a ShardMap, name: &'a str) -> impl Iterator<Item = u64> + 'a {
    (0..).filter(move |key| owner(map, *key) == name)
}

#[tokio::test(start_paused = true)]
async fn one_shard_overloaded_spills_and_the_others_take_it() {
    let (shards, map) = bounded(&["s0", "s1", "s2", "s3", "s4"], 1.2, 1, true);
    let (got, refused) = at_once(&shards, 1.2, keys_of(&map, "s0").take(100)).await;
    assert_eq!((got.values().sum::<u32>(), refused, got.len()), (100, 0, 5), "{got:?}");
    assert!(got["s0"] >= got["s4"] && got["s0"] <= 24, "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn several_shards_overloaded_spill_over_one_another() {
    let (shards, map) = bounded(&["s0", "s1", "s2", "s3", "s4"], 1.2, 1, true);
    let hot = keys_of(&map, "s0").take(60).zip(keys_of(&map, "s1").take(60)).flat_map(|(a, b)| [a, b]);
    let (got, refused) = at_once(&shards, 1.2, hot).await;
    assert_eq!((got.values().sum::<u32>(), refused, got.len()), (120, 0, 5), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn one_key_asked_for_again_and_again_spreads_over_several_shards() {
    let (shards, _) = bounded(&["s0", "s1", "s2", "s3", "s4"], 1.0, 1, true);
    let (got, refused) = at_once(&shards, 1.0, std::iter::repeat_n(7, 50)).await;
    assert_eq!((got.values().copied().collect::<Vec<_>>(), refused), (vec![10; 5], 0));
}

#[tokio::test(start_paused = true)]
async fn all_shards_loaded_alike_each_gets_its_own() {
    let (shards, map) = bounded(&["s0", "s1", "s2"], 1.0, 1, true);
    let keys: Vec<u64> = ["s0", "s1", "s2"].iter().flat_map(|name| keys_of(&map, name).take(20)).collect();
    let rounds = (0..20).flat_map(|round| keys.iter().copied().skip(round).step_by(20).take(3)).collect::<Vec<_>>();
    let (got, refused) = at_once(&shards, 1.0, rounds.into_iter()).await;
    assert_eq!((got.values().copied().collect::<Vec<_>>(), refused), (vec![20; 3], 0));
    assert_eq!(owner(&map, keys[0]), "s0");
}

#[tokio::test(start_paused = true)]
async fn hostile_keys_of_one_slot_are_refused_at_the_bound_and_leave_the_others_alone() {
    let (shards, map) = bounded(&["s0", "s1", "s2"], 2.0, 1, false);
    let slot = map.locate(&7_u64).slot();
    let hostile: Vec<u64> = (0..).filter(|key| map.locate(key).slot() == slot).take(20).collect();
    let (got, refused) = at_once(&shards, 2.0, hostile.iter().copied().cycle().take(200)).await;
    assert_eq!(got.values().sum::<u32>() as usize + refused, 200);
    assert!(refused > 190 && got.len() == 1, "{got:?}: with nothing beside it, one shard gets next to nothing");
    let others = keys_of(&map, "s1").take(50).zip(keys_of(&map, "s2").take(50)).flat_map(|(a, b)| [a, b]);
    let others: Vec<_> = others.filter(|key| owner(&map, *key) != owner(&map, 7)).collect();
    let mixed = others.iter().zip(hostile.iter().cycle()).flat_map(|(good, bad)| [*good, *bad]);
    let (got, _) = at_once(&shards, 2.0, mixed).await;
    assert_eq!(
        got.iter().filter(|(name, _)| **name != owner(&map, 7)).map(|(_, got)| *got as usize).sum::<usize>(),
        others.len()
    );
}

#[tokio::test(start_paused = true)]
async fn copies_share_the_load_by_two_drawn_at_random() {
    let (shards, _) = bounded(&["s0", "s1", "s2"], 3.0, 3, false);
    let (got, refused) = at_once(&shards, 3.0, std::iter::repeat_n(7, 300)).await;
    assert_eq!(refused, 0);
    assert!(got.values().all(|got| (95..=105).contains(got)), "{got:?}");
    let (shards, _) = bounded(&["s0"], 1.0, 1, false);
    assert!(shards.clone().bounded(0.9).unwrap_err().to_string().contains("0.9 times the mean"));
    assert!(shards.bounded(f64::NAN).is_err());
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_counted_where_it_is_measured() {
    let map = map(&["s0", "s1"]);
    let mut shards = Shards::new(map.clone(), key, named(&["s0", "s1"], 0)).measured(1);
    for _ in 0..3 {
        shards.call(Request::new(7)).await.unwrap();
    }
    let loads = shards.loads();
    assert_eq!((loads.len(), loads[map.locate(&7_u64).index()], loads.iter().sum::<u64>()), (map.places(), 3, 3));
    assert_eq!(shards.loads().iter().sum::<u64>(), 0, "since the last time");
    let mut sampled = shards.measured(10);
    for number in 0..1_000 {
        sampled.call(Request::new(number)).await.unwrap();
    }
    assert_eq!(sampled.loads().iter().sum::<u64>(), 1_000);
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
    endpoints.insert("s0", moved(1)); // it knows no newer map, and still refuses
    let error = shards.call(Request::new(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "s0: unavailable: the shard has not learnt map 1 in time");
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

type Many = BoxCloneSyncService<Request<Vec<u64>>, Vec<String>, Error>;

fn many(name: &'static str, seen: Arc<Lock<Vec<(String, usize)>>>) -> Many {
    BoxCloneSyncService::new(service_fn(move |request: Request<Vec<u64>>| {
        seen.lock().push((name.to_owned(), request.message().len()));
        async move { Ok(request.message().iter().map(|item| format!("{name} {item}")).collect()) }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_request_per_shard_and_is_merged_in_order() {
    let (map, endpoints, seen) = (map(&["s0", "s1", "s2"]), Endpoints::named("store"), Arc::new(Lock::default()));
    ["s0", "s1", "s2"].iter().for_each(|name| endpoints.insert(*name, many(name, seen.clone())));
    let shards = Shards::new(map.clone(), |item: &u64| item, endpoints.clone());
    let items: Vec<u64> = (0..100).collect();
    let merged = shards.batched().call(Request::new(items.clone())).await.unwrap();
    let expected: Vec<_> = items.iter().map(|item| format!("{} {item}", owner(&map, *item))).collect();
    assert_eq!(merged.all().unwrap(), expected);
    let seen = std::mem::take(&mut *seen.lock());
    assert_eq!((seen.len(), seen.iter().map(|(_, items)| items).sum::<usize>()), (3, 100));
    assert!(shards.batched().call(Request::new(Vec::new())).await.unwrap().answers.is_empty());

    // one fails, one gives too few answers, one is away: the others' items are well
    let failing = service_fn(|_: Request<Vec<u64>>| async { Err::<Vec<String>, _>(Error::new(Kind::Failed, "disk")) });
    endpoints.insert("s0", BoxCloneSyncService::new(failing));
    let short = service_fn(|_: Request<Vec<u64>>| async { Ok::<Vec<String>, Error>(vec!["one".into()]) });
    endpoints.insert("s1", BoxCloneSyncService::new(short));
    let merged = shards.batched().call(Request::new(items.clone())).await.unwrap();
    for (item, answer) in items.iter().zip(&merged.answers) {
        assert_eq!(answer.is_ok(), owner(&map, *item) == "s2");
    }
    let failed = merged.failed();
    assert_eq!(failed["s0"].to_string(), "s0: failed: disk");
    assert!(failed["s1"].to_string().starts_with("s1: failed: it gave 1 answers to "));
    endpoints.remove("s2");
    let merged = shards.batched().call(Request::new(items)).await.unwrap();
    assert_eq!((merged.failed().len(), merged.failed()["s2"].is_unsent()), (3, true));
    assert!(merged.all().is_err());
}

#[tokio::test(start_paused = true)]
async fn items_of_a_batch_whose_keys_move_are_split_anew_and_no_other_is_sent_twice() {
    let (map, endpoints, seen) = (map(&["s0", "s1"]), Endpoints::named("store"), Arc::new(Lock::default()));
    let maps = ShardMaps::new(map.clone());
    let route = By((|item: &u64| item) as fn(&u64) -> &u64);
    let mut fences = BTreeMap::new();
    for name in ["s0", "s1", "s2"] {
        let fence = Fence::new(name, maps.clone());
        let fenced = FenceLayer::new(fence.clone(), Each(route)).layer(many(name, seen.clone()));
        endpoints.insert(name, BoxCloneSyncService::new(fenced));
        fences.insert(name, fence);
    }
    let shards = Shards::routed(maps.clone(), route, endpoints);
    let next = map.next(|change| {
        change.add("s2");
    });
    let next = next.unwrap();
    let spans: Vec<_> = next.parts().filter(|(_, owners)| next.name(owners[0]) == "s2").map(|(span, _)| span).collect();
    for from in ["s0", "s1"] {
        let moving =
            Moving { from: from.into(), to: "s2".into(), spans: spans.clone().into(), version: 2, stays: false };
        fences[from].seal(&moving).now_or_never().unwrap().unwrap();
    }
    let items: Vec<u64> = (0..60).collect();
    let mut batched = shards.batched();
    let mut call = Box::pin(batched.call(Request::new(items.clone()).keyed("order")));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(shards.held(), 1);
    maps.publish(next.clone()).unwrap();
    let answers = call.await.unwrap().all().unwrap();
    let expected: Vec<_> = items.iter().map(|item| format!("{} {item}", owner(&next, *item))).collect();
    assert_eq!(answers, expected);
    assert_eq!(seen.lock().iter().map(|(_, items)| items).sum::<usize>(), 60, "each was served once");
}

#[tokio::test(start_paused = true)]
async fn a_seal_waits_for_who_is_inside_and_a_map_decides() {
    let map = map(&["s0"]);
    let maps = ShardMaps::new(map.clone());
    let fence = Fence::new("s0", maps.clone());
    let slot = map.locate(&7_u64).slot().unwrap();
    let half = |first, last| Moving {
        from: "s0".into(),
        to: "s1".into(),
        spans: [Span::Hashes { seed: 0, first, last }].into(),
        version: 2,
        stays: false,
    };
    let hash = map.locate(&7_u64).hash().unwrap();
    let mine = half(hash, slot.last());
    let inside = fence.enter(&7_u64, None).unwrap();
    let mut seal = Box::pin(fence.seal(&mine));
    assert!(seal.as_mut().now_or_never().is_none());
    assert_eq!(fence.enter(&7_u64, None).unwrap_err(), Moved::at(2), "sealed before it is empty");
    let beside =
        (0_u64..).find(|key| map.locate(key).slot() == Some(slot) && map.locate(key).hash() < Some(hash)).unwrap();
    let neighbour: Pass = fence.enter(&beside, None).unwrap();
    drop(inside);
    seal.await.unwrap();
    drop(neighbour);
    fence.seal(&mine).now_or_never().unwrap().unwrap();
    // given up: the next map leaves the key where it is
    maps.publish(map.with_version(2)).unwrap();
    assert_eq!(
        fence.seal(&mine).await.unwrap_err().to_string(),
        "s0: conflict: map 2 counts already: too late to seal for map 2"
    );
    drop(fence.enter(&7_u64, None).unwrap());
    // another one takes it
    let mine = Moving { version: 3, ..mine };
    fence.seal(&mine).await.unwrap();
    maps.publish(ShardMap::planned(["s1"]).version(3).build().unwrap()).unwrap();
    assert_eq!(fence.enter(&7_u64, None).unwrap_err(), Moved::at(3));
    assert_eq!((fence.owns(&7_u64), fence.refused()), (false, 2));
    // and a request that knows more than the fence is refused in any case
    maps.publish(map.with_version(4)).unwrap();
    assert_eq!(fence.enter(&7_u64, Some(5)).unwrap_err(), Moved::at(5));
    assert!(fence.enter(&7_u64, Some(1)).is_ok(), "who is behind, and right, is served");
}

#[tokio::test(start_paused = true)]
async fn a_batch_inside_is_counted_for_each_of_its_keys() {
    let maps = ShardMaps::new(map(&["s0"]));
    let fence = Fence::new("s0", maps);
    let route = By((|item: &u64| item) as fn(&u64) -> &u64);
    let hangs = service_fn(|_: Request<Vec<u64>>| pending::<Result<Vec<u64>>>());
    let call = Box::pin(FenceLayer::new(fence.clone(), Each(route)).layer(hangs).call(Request::new(vec![1, 2, 3])));
    let all = Span::Hashes { seed: 0, first: 0, last: u64::MAX };
    let moving = Moving { from: "s0".into(), to: "s1".into(), spans: [all].into(), version: 2, stays: false };
    let mut seal = Box::pin(fence.seal(&moving));
    assert!(seal.as_mut().now_or_never().is_none());
    drop(call);
    assert!(seal.now_or_never().is_some());
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
