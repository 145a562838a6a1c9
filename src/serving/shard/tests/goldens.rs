//! Owners are a contract between processes: another release finds the same.

use super::*;
use crate::base::hash;

/// A hash over the names of all owners.
fn print(map: &ShardMap) -> u64 {
    hash::of(owners(map).into_iter().flatten().collect::<Vec<_>>().join(",").as_bytes())
}

#[test]
fn owners_are_a_contract_between_processes() {
    let prints: Vec<(Strategy, u64, u64)> = STRATEGIES
        .into_iter()
        .map(|strategy| {
            let weighted = |(name, weight): (String, u32)| Shard::from(name).weight(weight);
            let plain = of(strategy, names(5)).copies(2).build().unwrap();
            let weights = if strategy == Strategy::Jump { [1; 5] } else { [1, 3, 2, 0, 7] };
            let weighted = of(strategy, names(5).into_iter().zip(weights).map(weighted)).build().unwrap();
            (strategy, print(&plain), print(&weighted))
        })
        .collect();
    let wanted = [
        (Strategy::Planned, 13_278_915_692_528_484_413, 1_448_433_127_463_240_739),
        (Strategy::Ring, 5_981_099_936_227_463_983, 1_858_933_679_128_931_920),
        (Strategy::ConsistentHashRing, 10_201_390_205_670_466_113, 13_944_981_715_217_482_992),
        (Strategy::Rendezvous, 10_938_030_093_815_731_332, 16_852_673_145_376_620_561),
        (Strategy::Jump, 6_459_210_905_541_641_957, 12_899_092_100_437_080_706),
        (Strategy::Maglev, 1_068_412_822_314_409_586, 26_274_528_922_360_746),
    ];
    assert_eq!(prints, wanted);
}

#[test]
fn owners_hang_on_names_and_not_on_the_order_in_which_they_come() {
    let (ordered, mut turned) = (names(12), names(12));
    turned.reverse();
    turned.swap(3, 7);
    for strategy in STRATEGIES.into_iter().filter(|strategy| *strategy != Strategy::Jump) {
        let one = of(strategy, ordered.clone()).build().unwrap();
        assert_eq!(one, of(strategy, turned.clone()).build().unwrap());
        assert_ne!(one, of(strategy, ordered.clone()).seed(1).build().unwrap());
    }
}

#[test]
fn keys_are_found_by_the_seed_of_the_map() {
    let map = ShardMap::planned(names(10)).build().unwrap();
    let other = ShardMap::planned(names(10)).seed(7).build().unwrap();
    assert_eq!(map.locate("ann").slot(), Some(Slot::new(18_476)));
    assert_eq!(other.locate("ann").slot(), Some(Slot::new(44_499)));
    // keys that were made to fall into one slot fall apart under another seed
    let aimed: Vec<u64> = (0..1_000_000).filter(|key| map.locate(key).index() == 7).collect();
    assert!(aimed.len() > 5);
    let apart: std::collections::BTreeSet<_> = aimed.iter().map(|key| other.locate(key).index()).collect();
    assert!(apart.len() + 1 >= aimed.len(), "{apart:?}");
}
