//! Maps that follow load.

use super::*;
use crate::base::Kind;

/// Requests for these many keys, of which some are asked for more often than others (Zipf, exponent 1).
fn zipf(map: &ShardMap, seed: u64) -> Loads {
    let mut loads = Loads::of(map);
    let mut rng = Seed::new(seed).rng();
    for rank in 1..=5_000_u64 {
        loads.add(map.locate(&rng.next_u64()), 50_000 / rank + 1);
    }
    loads
}

#[test]
fn the_busiest_shard_has_less_after_each_step_and_no_more_moves_than_allowed() {
    for (copies, moves) in [(1, 10), (1, 200), (2, 50)] {
        let mut map = ShardMap::planned(names(12)).copies(copies).build().unwrap();
        let loads = zipf(&map, 1);
        let mut steps = 0;
        while let Some(next) = map.relieve(&Loads::clone(&loads), moves).unwrap() {
            assert!(next.imbalance_of(&loads) < map.imbalance_of(&loads));
            let plan = map.plan(&next).unwrap();
            let handed = plan.moves.iter().filter(|step| step.is_handed());
            assert!(handed.map(|step| step.span.width().ceil() as usize).sum::<usize>() <= moves);
            for (_, owners) in next.parts() {
                assert_eq!(owners.iter().collect::<std::collections::BTreeSet<_>>().len(), copies);
            }
            map = next;
            steps += 1;
            assert!(steps < 60);
        }
        assert!(steps > 0);
        assert!(moves < 50 || map.imbalance_of(&loads) < 1.3, "{}", map.imbalance_of(&loads));
    }
}

#[test]
fn a_slot_that_is_too_much_for_any_shard_is_split_and_its_parts_go_apart() {
    let mut map = ShardMap::planned(names(4)).build().unwrap();
    // hostile keys, all aimed at one slot
    let aimed: Vec<u64> = (0..3_000_000).filter(|key| map.locate(key).index() == 9).collect();
    assert!(aimed.len() > 30);
    let ask = |map: &ShardMap| {
        let mut loads = Loads::of(map);
        aimed.iter().for_each(|key| loads.add(map.locate(key), 100));
        (0..1000_u64).for_each(|key| loads.add(map.locate(&key), 1));
        loads
    };
    assert!(map.imbalance_of(&ask(&map)) > 3.0);
    for _ in 0..6 {
        let loads = ask(&map);
        let Some(next) = map.relieve(&loads, 64).unwrap() else { break };
        map = next;
    }
    let split = map.table().unwrap().split(Slot::new(9)).expect("it is split");
    assert!(split.parts() >= 4);
    assert!(map.imbalance_of(&ask(&map)) < 1.6, "{}", map.imbalance_of(&ask(&map)));
    // all other slots are where they were, and every key has the owner of its part
    for (span, owners) in map.parts() {
        assert_eq!(map.owner_at(Place(slot::At::Hash(span.first_hash().unwrap()))), owners[0]);
    }
    // what was split stays so, and finds new owners where one goes
    let less = map
        .next(|change| {
            change.remove("shard-1");
        })
        .unwrap();
    assert_eq!(less.table().unwrap().split(Slot::new(9)).map(|it| it.parts()), Some(split.parts()));
    assert!(less.parts().all(|(_, owners)| owners[0].index() < 3));
    for key in &aimed {
        let (old, new) = (map.name(map.owner(key)), less.name(less.owner(key)));
        assert!(old == new || old == "shard-1");
    }
}

#[test]
fn one_key_too_hot_for_a_shard_stays_so_and_even_load_stays_as_it_is() {
    let map = ShardMap::planned(names(4)).build().unwrap();
    let mut loads = Loads::of(&map);
    loads.add(map.locate("only"), 1000);
    let mut map = map;
    for _ in 0..10 {
        let mut loads = Loads::of(&map);
        loads.add(map.locate("only"), 1000);
        match map.relieve(&loads, 10).unwrap() {
            Some(next) => map = next,
            None => break,
        }
    }
    let mut loads = Loads::of(&map);
    loads.add(map.locate("only"), 1000);
    assert!(map.relieve(&loads, 10).unwrap().is_none());
    let even = ShardMap::planned(names(4)).build().unwrap();
    let mut loads = Loads::of(&even);
    (0..SLOTS).for_each(|slot| loads.add_at(slot, 3));
    assert!(even.relieve(&loads, 10).unwrap().is_none());
    assert!(even.relieve(&Loads::of(&even), 10).unwrap().is_none());
}

#[test]
fn ranges_are_relieved_too_and_stateless_maps_when_they_are_pinned() {
    let mut builder = ShardMap::ranges();
    for at in 0..16_u8 {
        let owner = if at < 10 { "busy" } else { "idle" };
        builder = match at {
            15 => builder.range([at].., [owner]),
            _ => builder.range(if at == 0 { vec![] } else { vec![at] }..vec![at + 1], [owner]),
        };
    }
    let map = builder.build().unwrap();
    let mut loads = Loads::of(&map);
    (0..16).for_each(|range| loads.add_at(range, 10));
    let next = map.relieve(&loads, 2).unwrap().expect("one is busy");
    assert_eq!((next.imbalance_of(&loads), next.version()), (1.0, 2));

    let ring = ShardMap::ring(names(4)).build().unwrap();
    let loads = zipf(&ring, 2);
    let error = ring.relieve(&loads, 10).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    for strategy in [Strategy::Ring, Strategy::Jump] {
        let map = of(strategy, names(12)).copies(2).build().unwrap();
        let pinned = map.pinned();
        assert_eq!((owners(&pinned), pinned.strategy(), pinned.version()), (owners(&map), Strategy::Planned, 2));
        assert!(pinned.relieve(&zipf(&map, 2), 100).unwrap().is_some());
    }
}
