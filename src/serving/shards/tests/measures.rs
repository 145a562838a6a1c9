//! What is counted where: slots, the parts of those that are split, ranges of the map that counts.

use super::*;

fn sums(loads: &shard::Loads, map: &ShardMap) -> Vec<u64> {
    (0..map.places()).map(|index| loads.at(index)).collect()
}

#[tokio::test(start_paused = true)]
async fn relief_follows_what_was_measured_into_the_parts_of_a_split_slot() {
    let names = ["s0", "s1", "s2", "s3"];
    // all that is asked for lies in the second half of one slot
    let hot = |map: &ShardMap, key: &u64| {
        let place = map.locate(key);
        place.index() == 9 && place.hash().is_some_and(|hash| hash >> 47 & 1 == 1)
    };
    let before = map(&names);
    let keys: Vec<u64> = (0..8_000_000).filter(|key| hot(&before, key)).collect();
    assert!(keys.len() > 40, "{}", keys.len());
    let mut shards = Shards::new(before, key, named(&names, 0)).measured(1);
    let mut imbalance = Vec::new();
    for _ in 0..8 {
        for key in keys.iter().cycle().take(keys.len() * 4) {
            shards.call(Request::new(*key)).await.unwrap();
        }
        let (map, loads) = (shards.map(), shards.loads());
        imbalance.push(map.imbalance_of(&loads));
        match map.relieve(&loads, 64).unwrap() {
            Some(next) => shards.maps().publish(next).unwrap(),
            None => break,
        }
    }
    assert_eq!(imbalance[0], 4.0, "all of it at one shard");
    assert!(imbalance.last().is_some_and(|last| *last < 1.5), "{imbalance:?}");
    let mut got: BTreeMap<String, u32> = BTreeMap::new();
    for key in &keys {
        *got.entry(shards.call(Request::new(*key)).await.unwrap()).or_default() += 1;
    }
    let most = got.values().copied().max().unwrap_or_default() as usize;
    assert!(most * 4 < keys.len() * 3 / 2, "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_range_got_is_told_of_where_its_keys_are_now() {
    let of = |map: &ShardMap, key: u64| map.locate(&key).index();
    let first = ShardMap::ranges().range(..100_u64, ["s0"]).range(100_u64.., ["s1"]).build().unwrap();
    let mut shards = Shards::new(first.clone(), key, named(&["s0", "s1"], 0)).measured(1);
    for number in [10, 200, 60, 200, 10, 60] {
        shards.call(Request::new(number)).await.unwrap();
    }
    let split = first.next(|change| {
        change.split(&50_u64);
    });
    let split = split.unwrap();
    shards.maps().publish(split.clone()).unwrap();
    // of the old map nobody says where in its range a key was; of the new one
    let loads = shards.loads();
    assert_eq!(sums(&loads, &split), [2, 2, 2]);
    assert_eq!(loads.at(of(&split, 200)), 2, "not at the number that it had");
    for number in [10, 60, 60, 60, 200] {
        shards.call(Request::new(number)).await.unwrap();
    }
    let merged = split.next(|change| {
        change.merge(&100_u64);
    });
    let merged = merged.unwrap();
    shards.maps().publish(merged.clone()).unwrap();
    shards.call(Request::new(60)).await.unwrap();
    assert_eq!(sums(&shards.loads(), &merged), [1, 5]);
    assert_eq!(sums(&shards.loads(), &merged), [0, 0], "since the last time");
}

#[tokio::test(start_paused = true)]
async fn counts_of_slots_outlast_the_map_and_those_of_another_kind_of_map_do_not() {
    let slots = map(&["s0", "s1"]);
    let mut shards = Shards::new(slots.clone(), key, named(&["s0", "s1"], 0)).measured(1);
    shards.call(Request::new(7)).await.unwrap();
    shards.maps().publish(slots.with_version(2)).unwrap();
    shards.call(Request::new(7)).await.unwrap();
    assert_eq!(shards.loads().at(slots.locate(&7_u64).index()), 2);
    shards.call(Request::new(7)).await.unwrap();
    let ranges = ShardMap::ranges().range(.., ["s0"]).version(3).build().unwrap();
    shards.maps().publish(ranges.clone()).unwrap();
    assert_eq!(sums(&shards.loads(), &ranges), [0]);
    shards.call(Request::new(7)).await.unwrap();
    assert_eq!(sums(&shards.loads(), &ranges), [1]);
}
