//! What is told wrong is refused by name, and keys may be anything.

use super::*;
use crate::base::Kind;

fn refused(builder: ShardMapBuilder) -> String {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    error.to_string()
}

#[test]
fn no_shard_is_refused_and_one_owns_everything() {
    for strategy in STRATEGIES {
        assert_eq!(refused(of(strategy, [] as [&str; 0])), "shard map: invalid: it has no shards");
        let one = of(strategy, ["only"]).build().unwrap();
        assert_eq!((one.share("only"), one.imbalance()), (1.0, 1.0));
        assert!((0..1000_u64).all(|key| one.name(one.owner(&key)) == "only"));
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let shards = [Shard::new("a").weight(20_000), Shard::new("b"), Shard::new("b"), Shard::new("").weight(0)];
    let told = refused(ShardMap::ring(shards).copies(5).apart().points(0));
    for mistake in [
        "shard \"a\" weighs 20000, more than 10000",
        "shard \"b\" is named twice",
        "a shard has no name",
        "5 copies need as many shards to own them, there are 3",
        "shard \"a\" has no zone, and copies are to be apart",
        "5 copies apart need as many zones, there are 0",
        "a ring needs points",
    ] {
        assert!(told.contains(mistake), "{mistake}: {told}");
    }
}

#[test]
fn weights_copies_zones_and_points_out_of_range_are_refused() {
    let weighty = |weight| Shard::new("a").weight(weight);
    assert!(refused(ShardMap::planned([weighty(0)])).contains("no shard weighs anything"));
    assert!(refused(ShardMap::jump([weighty(2)])).contains("weighs 2, and jump knows no weights"));
    assert!(refused(ShardMap::planned(["a"]).copies(0)).contains("1 is the least"));
    assert!(refused(ShardMap::ring([weighty(10_000)]).points(10_000)).contains("lower weights or points"));
    // a ring whose points are inserted one by one takes fewer
    let told = refused(ShardMap::consistent_hash_ring([weighty(10_000)]));
    assert!(told.contains("1600000 points on the ring are more than 262144"), "{told}");
    assert!(refused(ShardMap::planned(names(70)).copies(65)).contains("65 copies are more than 64"));
    assert!(refused(ShardMap::planned(["a"]).version(u64::MAX)).contains("no map could follow version 1844674407"));
    let two_zones = ["a", "a", "b"].iter().zip(names(3)).map(|(zone, name)| Shard::from(name).zone(*zone));
    let told = refused(ShardMap::rendezvous(two_zones).copies(3).apart());
    assert!(told.contains("3 copies apart need as many zones, there are 2"), "{told}");
    let many = (0..65_535).map(|number| number.to_string());
    assert!(refused(ShardMap::planned(many)).contains("65535 shards are more than 65534"));
}

#[test]
fn as_many_shards_as_there_may_be_own_a_slot_or_two_each() {
    let map = ShardMap::planned((0..65_534).map(|number| number.to_string())).build().unwrap();
    assert!(spread(&counts(&map).0) <= 1);
}

#[test]
fn what_a_map_does_not_have_it_says_so() {
    let map = ShardMap::planned(names(3)).build().unwrap();
    for name in ["other", "", "shard-3"] {
        let error = map
            .next(|change| {
                change.remove(name);
            })
            .unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::NotFound, Some(format!("shard \"{name}\"").as_str())));
        assert!(map.id(name).is_none() && map.share(name) == 0.0);
    }
    let error = map
        .next(|change| {
            change.weigh("other", 2).add("more");
        })
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let error = map
        .next(|change| {
            change.add("shard-1");
        })
        .unwrap_err();
    assert!(error.to_string().contains("shard \"shard-1\" is named twice"), "{error}");
    assert_eq!(map.name(ShardId(3)), "");
    let error = map
        .next(|change| {
            change.split("k");
        })
        .unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::Unsupported, Some("key \"k\"")));
}

#[test]
fn keys_of_any_bytes_have_owners() {
    let mut rng = Seed::new(3).rng();
    let of_slots = ShardMap::planned(names(7)).copies(3).seed(9).build().unwrap();
    let of_ranges = ShardMap::ranges().range(..[128_u8], ["a"]).range([128_u8].., ["b"]).build().unwrap();
    for _ in 0..20_000 {
        let key = key(&mut rng);
        for map in [&of_slots, &of_ranges] {
            let place = map.locate(&key);
            assert_eq!(map.owners(&key), map.owners_at(place));
            assert_eq!((map.owner(&key), map.owner_at(place)), (map.owners(&key)[0], map.owners(&key)[0]));
            assert!(place.index() < map.places() && map.owners(&key).len() == map.copies());
        }
        let high = key.first().is_some_and(|byte| *byte >= 128);
        assert_eq!(of_ranges.name(of_ranges.owner(&key)), if high { "b" } else { "a" });
    }
    let long = vec![0xA5; 1 << 20];
    assert!(of_slots.owner(&long).index() < 7);
    // a place of another kind of map is nowhere
    assert!(
        of_slots.owners_at(of_ranges.locate("k")).is_empty() && of_ranges.owners_at(of_slots.locate("k")).is_empty()
    );
}
