//! Balance, moves, walks, copies, weights: of every strategy.

use super::*;
use std::collections::BTreeSet;

/// Of two maps: slots where somebody other than `new` gains a copy or becomes first, and slots where `new` gains one.
fn gains(before: &ShardMap, after: &ShardMap, new: &str) -> (usize, usize) {
    let (mut needless, mut due) = (0, 0);
    for (old, now) in owners(before).iter().zip(owners(after)) {
        let gained: Vec<_> = now.iter().filter(|name| !old.contains(name)).collect();
        due += usize::from(gained.iter().any(|name| **name == new));
        needless += usize::from(gained.iter().any(|name| **name != new));
    }
    (needless, due)
}

#[test]
fn shares_are_as_even_as_each_strategy_promises() {
    for strategy in STRATEGIES {
        for count in [1, 2, 7, 10] {
            let map = of(strategy, names(count)).build().unwrap();
            let (first, _) = counts(&map);
            match strategy {
                Strategy::Planned | Strategy::Maglev => assert!(spread(&first) <= 1, "{strategy} {first:?}"),
                Strategy::Rendezvous | Strategy::Jump => assert!(map.imbalance() < 1.04, "{strategy} {first:?}"),
                _ => assert!(map.imbalance() < 1.25, "{strategy} {first:?}"),
            }
            assert_eq!(first.iter().sum::<usize>(), SLOTS);
        }
    }
}

#[test]
fn keys_spread_over_slots_as_perfect_hashing_spreads_them() {
    let map = ShardMap::planned(names(10)).build().unwrap();
    let mut counts = [0_u32; 10];
    (0..200_000_u64).for_each(|key| counts[map.owner(&key).index()] += 1);
    // four standard deviations
    assert!(counts.iter().all(|count| (19_460..20_540).contains(count)), "{counts:?}");
}

#[test]
fn adding_a_shard_moves_slots_to_it_alone() {
    for strategy in STRATEGIES {
        for count in [1, 2, 9, 20] {
            let map = of(strategy, names(count)).build().unwrap();
            let new = format!("shard-{count}");
            let next = map.next(|change| {
                change.add(new.as_str());
            });
            let next = next.unwrap();
            let (needless, due) = gains(&map, &next, &new);
            let ideal = SLOTS as f64 / (count as f64 + 1.0);
            let ceiling = if strategy == Strategy::Maglev { (0.05 * SLOTS as f64) as usize } else { 0 };
            assert!(needless <= ceiling, "{strategy} {count}: {needless} needless");
            assert!((0.7 * ideal..1.3 * ideal + 1.0).contains(&(due as f64)), "{strategy} {count}: {due} of {ideal}");
            if strategy == Strategy::Planned {
                assert!(due <= SLOTS.div_ceil(count + 1), "{due}");
            }
        }
    }
}

#[test]
fn removing_a_shard_moves_its_slots_alone() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != Strategy::Jump) {
        for gone in ["shard-0", "shard-4", "shard-8"] {
            let map = of(strategy, names(9)).build().unwrap();
            let next = map.next(|change| {
                change.remove(gone);
            });
            let next = next.unwrap();
            let (old, new) = (owners(&map), owners(&next));
            let needless = old.iter().zip(&new).filter(|(old, new)| old != new && old[0] != gone).count();
            let ceiling = if strategy == Strategy::Maglev { SLOTS / 20 } else { 0 };
            assert!(needless <= ceiling, "{strategy}: {needless} needless");
            assert!(new.iter().all(|owners| owners[0] != gone));
        }
    }
}

#[test]
fn jump_gives_shards_up_at_its_end_only() {
    let map = ShardMap::jump(names(5)).build().unwrap();
    let refused = map.next(|change| {
        change.remove("shard-2");
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), crate::base::Kind::Unsupported);
    assert!(refused.to_string().contains("\"shard-4\" is the last"), "{refused}");
    let less = map.next(|change| {
        change.remove("shard-4").remove("shard-3");
    });
    let less = less.unwrap();
    for (old, new) in owners(&map).iter().zip(owners(&less)) {
        assert!(old[0] == new[0] || old[0] == "shard-4" || old[0] == "shard-3");
    }
    assert_eq!(less.shards().len(), 3);
}

#[test]
fn a_walk_visits_each_shard_once_and_its_owners_first() {
    for strategy in STRATEGIES {
        let map = of(strategy, names(7)).copies(2).build().unwrap();
        for number in 0..200_u64 {
            let walk = map.walk(&number);
            assert_eq!(walk[..2], *map.owners(&number));
            assert_eq!(walk.iter().collect::<BTreeSet<_>>().len(), 7);
            assert_eq!(walk.len(), 7);
        }
    }
}

#[test]
fn while_a_shard_is_sick_its_keys_alone_go_elsewhere_and_come_back() {
    for strategy in STRATEGIES {
        let map = of(strategy, names(6)).build().unwrap();
        let sick = map.id("shard-5").unwrap();
        let without = map.next(|change| {
            change.remove("shard-5");
        });
        let without = without.unwrap();
        let mut elsewhere = BTreeSet::new();
        for number in 0..400_u64 {
            let walk = map.walk(&number);
            let healthy = walk.iter().find(|shard| **shard != sick).unwrap();
            assert!(map.owner(&number) == sick || *healthy == map.owner(&number));
            elsewhere.extend((map.owner(&number) == sick).then_some(*healthy));
            // where the order is the strategy's own, who stands in is who would own it
            if matches!(strategy, Strategy::Ring | Strategy::Rendezvous) {
                assert_eq!(map.name(*healthy), without.name(without.owner(&number)), "{strategy}");
            }
        }
        assert!(elsewhere.len() >= 4, "{strategy}: they go to {elsewhere:?}");
    }
}

fn zoned(count: usize, zones: usize) -> Vec<Shard> {
    let shard = |(number, name): (usize, String)| Shard::from(name).zone(format!("zone-{}", number % zones));
    names(count).into_iter().enumerate().map(shard).collect()
}

#[test]
fn copies_are_in_different_shards_and_where_demanded_in_different_zones() {
    for strategy in STRATEGIES {
        for (count, zones, copies) in [(3, 3, 3), (7, 3, 2)] {
            let map = of(strategy, zoned(count, zones)).copies(copies).apart().build().unwrap();
            let plain = of(strategy, names(count)).copies(copies).build().unwrap();
            for owners in map.table().unwrap().slots() {
                let zones: BTreeSet<_> = owners.iter().map(|owner| &map.shards()[owner.index()].zone).collect();
                assert_eq!(zones.len(), copies, "{strategy}");
            }
            for owners in plain.table().unwrap().slots() {
                assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), copies, "{strategy}");
            }
            let (first, all) = counts(&map);
            assert_eq!(all.iter().sum::<usize>(), SLOTS * copies);
            if strategy == Strategy::Planned {
                assert!(spread(&first) <= 1, "{first:?}");
            }
        }
    }
}

#[test]
fn adding_a_shard_gives_copies_to_it_alone() {
    for strategy in STRATEGIES {
        let map = of(strategy, names(8)).copies(3).build().unwrap();
        let next = map.next(|change| {
            change.add("shard-8");
        });
        let (needless, due) = gains(&map, &next.unwrap(), "shard-8");
        let ceiling = if strategy == Strategy::Maglev { SLOTS / 10 } else { 0 };
        assert!(needless <= ceiling, "{strategy}: {needless} needless");
        assert!((0.75..1.25).contains(&(due as f64 / (SLOTS as f64 / 3.0))), "{strategy}: {due}");
    }
}

#[test]
fn removing_a_shard_copies_what_it_had_and_nothing_else() {
    for strategy in STRATEGIES {
        let map = of(strategy, names(9)).copies(3).build().unwrap();
        let next = map.next(|change| {
            change.remove("shard-8");
        });
        let next = next.unwrap();
        let mut needless = 0;
        for (old, new) in owners(&map).iter().zip(owners(&next)) {
            let gained = new.iter().filter(|name| !old.contains(name)).count();
            let lost = usize::from(old.contains(&"shard-8"));
            needless += usize::from(gained > lost);
        }
        let ceiling = if strategy == Strategy::Maglev { SLOTS / 10 } else { 0 };
        assert!(needless <= ceiling, "{strategy}: {needless} needless");
    }
}

#[test]
fn shares_follow_the_weights() {
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != Strategy::Jump) {
        let weights = [1, 2, 0, 5, 2];
        let shards = names(5).into_iter().zip(weights).map(|(name, weight)| Shard::from(name).weight(weight));
        let map = of(strategy, shards).build().unwrap();
        for (name, weight) in names(5).iter().zip(weights) {
            let (share, due) = (map.share(name), f64::from(weight) / 10.0);
            let within = match strategy {
                Strategy::Planned => 1.0 / SLOTS as f64,
                Strategy::Maglev | Strategy::Rendezvous => 0.01,
                _ => 0.05,
            };
            assert!((share - due).abs() <= within, "{strategy} {name}: {share} of {due}");
        }
        let heavier = map.next(|change| {
            change.weigh("shard-0", 3);
        });
        let (needless, due) = gains(&map, &heavier.unwrap(), "shard-0");
        let ceiling = if strategy == Strategy::Maglev { SLOTS / 5 } else { 0 };
        assert!(needless <= ceiling, "{strategy}: {needless} needless");
        assert!(due > SLOTS / 10, "{strategy}: {due}");
    }
}

#[test]
fn a_planned_map_stays_even_to_one_slot_by_the_fewest_moves_over_any_steps() {
    let mut rng = Seed::new(11).rng();
    let mut map = ShardMap::planned(["first"]).build().unwrap();
    for step in 0..40 {
        let count = map.shards().len();
        let grow = count < 2 || rng.below(3) > 0;
        let gone = map.name(ShardId(rng.below(count as u64) as u16)).to_owned();
        let next = map.next(|change| match grow {
            true => {
                change.add(format!("step-{step}"));
            }
            false => {
                change.remove(&gone);
            }
        });
        let next = next.unwrap();
        assert!(spread(&counts(&next).0) <= 1);
        let moved = owners(&map).iter().zip(owners(&next)).filter(|(old, new)| **old != *new).count();
        let ideal = if grow { SLOTS.div_ceil(count + 1) } else { SLOTS.div_ceil(count) };
        assert!(moved <= ideal, "step {step}: {moved} of {ideal}");
        map = next;
    }
    assert_eq!(map.version(), 41);
}

#[test]
fn a_planned_map_with_copies_apart_stays_whole_over_any_steps() {
    let mut rng = Seed::new(5).rng();
    let mut map = ShardMap::planned(zoned(6, 3)).copies(2).apart().build().unwrap();
    for step in 0..24 {
        let count = map.shards().len();
        let shard = map.shards()[rng.below(count as u64) as usize].name.clone();
        let next = map.next(|change| match rng.below(4) {
            0 if count > 5 => {
                change.remove(&shard);
            }
            1 => {
                change.weigh(&shard, 1 + rng.below(3) as u32);
            }
            _ if count < 14 => {
                {
                    change.add(Shard::from(format!("step-{step}")).zone(format!("zone-{}", rng.below(4))));
                };
            }
            _ => {}
        });
        let Ok(next) = next else { continue }; // fewer zones than copies, or the last of a zone
        for owners in next.table().unwrap().slots() {
            let zones: BTreeSet<_> = owners.iter().map(|owner| &next.shards()[owner.index()].zone).collect();
            assert_eq!(zones.len(), 2, "step {step}");
        }
        let weights: Vec<f64> = next.shards().iter().map(|shard| shard.weight.into()).collect();
        let due = |weight: &f64| weight / weights.iter().sum::<f64>() * SLOTS as f64;
        let (first, _) = counts(&next);
        assert!(first.iter().zip(&weights).all(|(count, weight)| (*count as f64 - due(weight)).abs() < 1.0));
        map = next;
    }
    assert!(map.version() > 12, "{}", map.version());
}

#[test]
fn the_copies_of_a_planned_map_are_even_too() {
    for (count, copies) in [(5, 2), (9, 3), (20, 3)] {
        let map = ShardMap::planned(names(count)).copies(copies).build().unwrap();
        assert!(spread(&counts(&map).1) <= 2, "{:?}", counts(&map));
        let next = map.next(|change| {
            change.remove("shard-1").add("other").add("another");
        });
        let (first, all) = counts(&next.unwrap());
        assert!(spread(&first) <= 1 && spread(&all) <= SLOTS / 100, "{first:?} {all:?}");
    }
}

#[test]
fn a_shard_that_comes_into_any_zone_gets_its_share_of_the_copies_there() {
    let map = ShardMap::planned(zoned(6, 3)).copies(2).apart().build().unwrap();
    for zone in 0..3 {
        let next = map.next(|change| {
            change.add(Shard::from("new").zone(format!("zone-{zone}")));
        });
        let next = next.unwrap();
        let all = counts(&next).1;
        let home = format!("zone-{zone}");
        let there = next.shards().iter().zip(&all).filter(|(shard, _)| shard.zone.as_deref() == Some(&*home));
        let there: Vec<usize> = there.map(|(_, count)| *count).collect();
        assert!(there.len() == 3 && spread(&there) <= SLOTS / 100, "{zone}: {there:?} of {all:?}");
    }
}
