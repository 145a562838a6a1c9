//! Bounded load: no shard above its part of the mean, and what becomes of the rest.

use super::*;

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
