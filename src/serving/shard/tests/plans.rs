//! Plans between maps.

use super::*;
use crate::base::Kind;

/// Every key is owned after the plan as the map after says, and as before where the plan says nothing.
fn leads_there(plan: &Plan) {
    let mut rng = Seed::new(2).rng();
    let owners = |map: &ShardMap, key: &[u8]| {
        map.owners(key).iter().map(|owner| map.name(*owner).to_owned()).collect::<Vec<_>>()
    };
    for _ in 0..300 {
        let key = key(&mut rng);
        let hash = plan.before.locate(&key).hash().expect("maps of slots");
        let mut steps = plan.moves.iter().filter(|step| step.span.contains_hash(hash));
        let (before, after) = (owners(&plan.before, &key), owners(&plan.after, &key));
        match steps.next() {
            Some(step) => {
                assert!(step.before.iter().map(|name| &**name).eq(before.iter().map(String::as_str)));
                assert!(step.after.iter().map(|name| &**name).eq(after.iter().map(String::as_str)));
            }
            None => assert_eq!(before, after),
        }
        assert!(steps.next().is_none(), "moves do not overlap");
    }
}

#[test]
fn a_plan_leads_from_one_map_to_the_other_in_any_strategy() {
    for strategy in STRATEGIES {
        let map = of(strategy, names(6)).copies(2).build().unwrap();
        let next = map
            .next(|change| {
                change.add("shard-6").add("shard-7");
            })
            .unwrap();
        let plan = map.plan(&next).unwrap();
        leads_there(&plan);
        assert!((0.15..0.40).contains(&plan.handed) && (0.15..0.40).contains(&plan.churn), "{strategy} {plan}");
        let slots: f64 = plan.moves.iter().map(|step| step.span.width()).sum();
        assert!(slots >= plan.handed * SLOTS as f64);
        if strategy != Strategy::Maglev {
            let new = |name: &std::sync::Arc<str>| ["shard-6", "shard-7"].contains(&&**name);
            assert!(plan.moves.iter().flat_map(Move::gaining).all(new));
        }
        leads_there(
            &next
                .plan(
                    &next
                        .next(|change| {
                            change.remove("shard-7");
                        })
                        .unwrap(),
                )
                .unwrap(),
        );
    }
    let (ring, other) =
        (ShardMap::ring(names(4)).build().unwrap(), ShardMap::maglev(names(5)).version(2).build().unwrap());
    leads_there(&ring.plan(&other).unwrap());
}

#[test]
fn a_plan_is_in_few_runs_and_says_what_it_costs() {
    let map = ShardMap::planned(["a", "b"]).build().unwrap();
    let next = map
        .next(|change| {
            change.add("c").weigh("a", 2);
        })
        .unwrap();
    let plan = map.plan(&next).unwrap();
    assert_eq!(
        plan.to_string(),
        "version 1 to 2: 25.0 % of the keys change hands, 25.0 % are copied; the fullest shard has 1.000 of its due, then \
         1.000\n  b to c: 16384 slots in 1 run\n"
    );
    assert_eq!(plan.moves[0].to_string(), "slots 49152-65535: b to c");
    let copies = map
        .next(|change| {
            change.copies(2);
        })
        .unwrap();
    let plan = map.plan(&copies).unwrap();
    assert!(
        plan.moves.iter().all(|step| !step.is_handed() && step.gaining().count() == 1 && step.losing().count() == 0)
    );
    assert_eq!((plan.handed, plan.churn), (0.0, 0.5));
    let none = map.plan(&map.next(|_| ()).unwrap()).unwrap();
    assert!(none.moves.is_empty() && none.handed == 0.0);
}

#[test]
fn of_ranges_no_more_than_all_keys_change_hands() {
    let halves = |border: &'static str, owners: [&'static str; 2]| {
        ShardMap::ranges().range(..border, [owners[0]]).range(border.., [owners[1]])
    };
    let before = halves("m", ["s0", "s1"]).build().unwrap();
    let plan = before.plan(&halves("f", ["s2", "s3"]).version(2).build().unwrap()).unwrap();
    assert_eq!((plan.handed, plan.churn, plan.moves.len()), (1.0, 1.0, 3));
    let plan = before.plan(&halves("f", ["s0", "s1"]).version(2).build().unwrap()).unwrap();
    assert_eq!(plan.handed, 1.0 / 3.0, "one of three pieces");
}

#[test]
fn removing_a_shard_hands_its_slots_to_those_that_hold_copies() {
    let map = ShardMap::planned(names(6)).copies(2).build().unwrap();
    let plan = map
        .plan(
            &map.next(|change| {
                change.remove("shard-2");
            })
            .unwrap(),
        )
        .unwrap();
    let handed = plan.moves.iter().filter(|step| step.from() == "shard-2" && step.is_handed());
    let (ready, all) = handed.fold((0.0, 0.0), |(ready, all), step| {
        let holds = step.before.iter().any(|name| **name == *step.to());
        (ready + if holds { step.span.width() } else { 0.0 }, all + step.span.width())
    });
    assert!(ready >= 0.8 * all, "{ready} of {all} are there already");
    leads_there(&plan);
}

#[test]
fn maps_that_do_not_follow_one_another_have_no_plan() {
    let map = ShardMap::planned(names(3)).version(5).build().unwrap();
    for (other, kind) in [
        (ShardMap::planned(names(3)).version(5).build(), Kind::Conflict),
        (ShardMap::planned(names(3)).version(4).build(), Kind::Conflict),
        (ShardMap::planned(names(3)).version(6).seed(1).build(), Kind::Unsupported),
        (ShardMap::ranges().range(.., ["a"]).version(6).build(), Kind::Unsupported),
    ] {
        let error = map.plan(&other.unwrap()).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with("plan from version 5 to "), "{error}");
    }
}

#[test]
fn a_plan_of_copies_says_who_copies_to_whom() {
    let map = ShardMap::ranges().range(.."m", ["a", "b"]).range("m".., ["b", "c"]).build().unwrap();
    let next = ShardMap::ranges().range(.."m", ["b", "d"]).range("m".., ["b", "a"]).version(2).build().unwrap();
    assert_eq!(
        map.plan(&next).unwrap().to_string(),
        "version 1 to 2: 50.0 % of the keys change hands, 50.0 % are copied; the fullest shard has 1.500 of its due, then \
         3.000\n  a to b: 1 range, of which it has a copy\n  a to d: 1 range\n  b to a: 1 range\n"
    );
}
