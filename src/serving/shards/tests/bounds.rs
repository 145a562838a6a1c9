//! Bounded load: no shard above its part of the mean, and what becomes of the rest.

use super::*;
use crate::serving::Shard;

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
async fn a_probe_that_the_bound_refuses_is_not_lost() {
    let endpoints = named(&["s1", "s2"], 1_000);
    let endpoints = endpoints.eject(Ejection::none().failures(1).wait(Duration::from_secs(9)).jitter(0.0)).unwrap();
    let turn = Arc::new(Lock::new(0));
    // fails, and is well from then on
    endpoints.insert(
        "s0",
        BoxCloneSyncService::new(service_fn(move |_: Request<u64>| {
            *turn.lock() += 1;
            let turn = *turn.lock();
            async move {
                match turn {
                    1 => Err(Error::from(Kind::Unavailable)),
                    _ => Ok::<_, Error>("s0".to_owned()),
                }
            }
        })),
    );
    let map = map(&["s0", "s1", "s2"]);
    let shards = Shards::new(map.clone(), key, endpoints.clone()).bounded(1.5).unwrap();
    let key_of = |name: &str| (0..).find(|key| owner(&map, *key) == name).unwrap();
    let ask = |name: &str| Box::pin(shards.clone().call(Request::new(key_of(name))));
    let (beside, hanging) = (ask("s1"), ask("s0"));
    assert_eq!(ask("s0").await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(endpoints.explain().out.len(), 1, "it is ejected");
    drop(beside);
    time::sleep(Duration::from_secs(10)).await;
    let error = ask("s0").await.unwrap_err();
    assert_eq!(error.to_string(), "s0: overloaded: it has 1 in flight, and the bound is 1");
    drop(hanging);
    assert_eq!(ask("s0").await.unwrap(), "s0", "the next one is its probe");
    assert_eq!(endpoints.explain().out.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_weighs_more_may_have_more_in_flight() {
    let heavy = ShardMap::planned([Shard::new("s0").weight(3), Shard::new("s1")]).build().unwrap();
    let shards = Shards::new(heavy, key, named(&["s0", "s1"], 1_000)).bounded(1.2).unwrap();
    let map = shards.map();
    let mut of: [Vec<u64>; 2] = Default::default();
    (0..2_000_u64).for_each(|number| of[map.owner(&number).index()].push(number));
    // three of one, one of the other: what their weights say
    let keys = of[0].chunks(3).zip(&of[1]).take(50).flat_map(|(three, one)| three.iter().chain([one]));
    let calls: Vec<_> = keys.map(|key| shards.clone().call(Request::new(*key))).collect();
    assert_eq!(shards.endpoints().pending("s0"), Some(150));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn while_shards_are_added_under_load_none_is_refused_by_the_bound() {
    let three = map(&["s0", "s1", "s2"]);
    let five = three.next(|change| {
        change.add("s3").add("s4");
    });
    let (five, maps) = (five.unwrap(), ShardMaps::new(three.clone()));
    let shards = Shards::new(maps.clone(), key, named(&["s0", "s1", "s2", "s3", "s4"], 300)).bounded(1.25).unwrap();
    // 600 at a time, one after the other begun, each asked for again as soon as it is answered
    let of = |name| keys_of(&three, name).take(200).collect::<Vec<_>>();
    let keys = of("s0").into_iter().zip(of("s1")).zip(of("s2")).flat_map(|((a, b), c)| [a, b, c]);
    let asking = keys.enumerate().map(|(number, key)| {
        let mut shards = shards.clone();
        async move {
            time::sleep(Duration::from_micros(500 * number as u64)).await;
            for _ in 0..40 {
                shards.call(Request::new(key)).await?;
            }
            Ok::<_, Error>(())
        }
    });
    let growing = async {
        let slots = shard::SLOTS as f64 * three.plan(&five).unwrap().handed / 20.0;
        while let Some(step) = steps::next(&maps.current(), &five, slots.ceil()).unwrap() {
            time::sleep(Duration::from_millis(400)).await;
            maps.publish(step.map).unwrap();
        }
    };
    let (answers, ()) = futures::join!(join_all(asking), growing);
    let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} of 600: {}", failed.len(), failed[0]);
    assert!(shards.map().share("s4") > 0.199, "it is over before they are");
}

#[tokio::test(start_paused = true)]
async fn no_strategy_lifts_the_bound_of_equal_shards() {
    let names = ["s0", "s1", "s2", "s3", "s4"];
    let ring = ShardMap::ring(names).build().unwrap();
    let slots = ShardMap::planned(names).build().unwrap();
    for (map, factor) in [(&ring, 1.0), (&ring, 1.25), (&slots, 1.0), (&slots, 1.25)] {
        let shards = Shards::new(map.clone(), key as fn(&Request<u64>) -> &u64, named(&names, 1_000));
        let shards = shards.spilling(factor).unwrap();
        let (got, refused) = at_once(&shards, factor, 0..500).await;
        assert_eq!((got.values().sum::<u32>(), refused), (500, 0), "{got:?}");
    }
}
