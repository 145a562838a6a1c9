//! The promises of locality: who spills over, when, and how much.

use super::*;
use crate::{
    base::{Outcome, Seed, time},
    serving::{
        Ejection, Endpoints, Lease, PeakEwma, Ring, RoundRobin,
        cell::state,
        pick::tests::{Client, follows},
    },
};
use std::time::Duration;

/// A set of these zones with so many endpoints each, named a0, a1 … after the zone's letter.
fn set(zones: &[(&str, u32)]) -> Endpoints<()> {
    let endpoints = Endpoints::named("zones").seed(Seed::new(1));
    endpoints.update(|changes| {
        for (zone, count) in zones {
            for number in 0..*count {
                changes.insert(format!("{zone}{number}"), ()).zone(*zone);
            }
        }
    });
    endpoints
}

/// How many of so many idle picks went to each of these zones, by the first letter of the key.
fn spread<P: Picker<u64>>(client: &mut Client<P>, endpoints: &Endpoints<()>, zones: &str, picks: u64) -> Vec<u32> {
    let mut got = vec![0; zones.len()];
    for request in 0..picks {
        let lease = client.pick_for(endpoints, request).unwrap();
        got[zones.find(&lease.key()[..1]).unwrap()] += 1;
        lease.complete(Outcome::Success);
    }
    got
}

#[test]
fn shares_are_those_of_envoys_priority_levels() {
    let percent = |healthy: &[u64]| -> Vec<u32> {
        let capacity: Vec<_> = healthy.iter().map(|healthy| (*healthy, 100)).collect();
        shares(&capacity, 1.4).iter().map(|share| (share * 100.0).round() as u32).collect()
    };
    for (healthy, expected) in [
        (&[100, 100][..], &[100, 0][..]),
        (&[72, 100], &[100, 0]),
        (&[71, 100], &[99, 1]),
        (&[50, 100], &[70, 30]),
        (&[25, 100], &[35, 65]),
        (&[0, 100], &[0, 100]),
        (&[25, 25], &[50, 50]),
        (&[5, 0], &[100, 0]),
        (&[0, 0], &[0, 0]),
        (&[25, 25, 100], &[35, 35, 30]),
        (&[25, 0, 20], &[56, 0, 44]),
    ] {
        assert_eq!(percent(healthy), expected, "{healthy:?}");
    }
    assert_eq!(shares(&[(0, 0), (3, 4)], 1.4), [0.0, 1.0], "an empty zone carries nothing");
}

#[test]
fn whatever_is_there_the_shares_are_all_or_nothing_and_no_level_gets_more_than_its_part() {
    let mut rng = Seed::new(3).rng();
    for _ in 0..100_000 {
        let capacity: Vec<(u64, u64)> = (0..rng.below(6))
            .map(|_| {
                let all = rng.below(5) * rng.below(1_000_000);
                (rng.below(all + 1), all)
            })
            .collect();
        let factor = 1.0 + rng.below(20) as f64 / 10.0;
        let got = shares(&capacity, factor);
        let (sum, any) = (got.iter().sum::<f64>(), capacity.iter().any(|(fit, _)| *fit > 0));
        assert!((sum - f64::from(u8::from(any))).abs() < 1e-9, "{capacity:?}: {got:?}");
        assert!(capacity.iter().zip(&got).all(|((fit, _), share)| *share >= 0.0 && (*fit > 0 || *share == 0.0)));
        let upto = upto(&got);
        assert_eq!(upto.last().copied().unwrap_or_default(), if any { 1 << 32 } else { 0 }, "{got:?}");
        assert!(upto.is_sorted());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_near_ones_cannot_carry_spills_over_by_the_published_rule() {
    let endpoints = set(&[("a", 10), ("b", 10), ("c", 10)]);
    let mut client = Client::new(Locality::zones(["a", "b"]));
    // so many of a and b are not ready, or ejected
    for (sick, expected) in [
        ([0, 0], [100, 0, 0]),
        ([2, 0], [100, 0, 0]),
        ([3, 5], [98, 2, 0]),
        ([5, 0], [70, 30, 0]),
        ([8, 5], [28, 70, 2]),
        ([10, 8], [0, 28, 72]),
        ([10, 10], [0, 0, 100]),
    ] {
        for (zone, sick) in ["a", "b"].into_iter().zip(sick) {
            for number in 0..10 {
                let (key, out) = (format!("{zone}{number}"), number < sick);
                if number % 2 == 0 {
                    endpoints.set_ready(&key, !out);
                } else {
                    endpoints.current().find(&key).unwrap().cell.mark(state::EJECTED, out);
                }
            }
        }
        let got = spread(&mut client, &endpoints, "abc", 100_000);
        follows(&got, &expected, &format!("{sick:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn weights_are_kept_inside_a_zone_and_count_between_them() {
    let endpoints = set(&[("a", 4), ("b", 2)]);
    let picker = Locality::zones(["a"]).by(RoundRobin::seed(Seed::new(1)));
    let mut client = Client::new(picker);
    endpoints.alter("a0", |about| {
        about.weight(5);
    });
    let keys = |client: &mut Client<Locality<RoundRobin>>| {
        let mut got = [0; 6];
        for _ in 0..80_000 {
            let lease = client.pick(&endpoints).unwrap();
            got[["a0", "a1", "a2", "a3", "b0", "b1"].iter().position(|key| *key == lease.key()).unwrap()] += 1;
        }
        got
    };
    follows(&keys(&mut client), &[5, 1, 1, 1, 0, 0], "all of a is well");
    // five of eight parts are gone: the other three carry 1.4 times as much
    endpoints.set_ready("a0", false);
    let got = keys(&mut client);
    let (near, far) = (got[..4].iter().sum::<u32>(), got[4..].iter().sum::<u32>());
    follows(&[near, far], &[525, 475], "a0 is not ready");
    assert_eq!(got[0], 0);
}

#[tokio::test(start_paused = true)]
async fn who_drains_is_never_picked_and_counts_as_gone() {
    let endpoints = set(&[("a", 4), ("b", 4)]);
    let mut clients = (
        Client::new(Locality::zones(["a"])),
        Client::new(Locality::zones(["a"]).by(PeakEwma::new())),
        Client::new(Locality::zones(["a"]).by(Ring::by_number(|request: &u64| *request))),
    );
    let mut spread = |zones: &str| {
        [
            spread(&mut clients.0, &endpoints, zones, 10_000),
            spread(&mut clients.1, &endpoints, zones, 10_000),
            spread(&mut clients.2, &endpoints, zones, 10_000),
        ]
    };
    for number in 0..3 {
        endpoints.drain(&format!("a{number}"));
        assert!(spread("ab").iter().all(|got| *got == [10_000, 0]), "three of four may leave: the rest is all of it");
    }
    endpoints.drain("a3");
    assert!(spread("ab").iter().all(|got| *got == [0, 10_000]));
    endpoints.insert("a9", ());
    endpoints.alter("a9", |about| {
        about.zone("a");
    });
    assert!(spread("ab").iter().all(|got| *got == [10_000, 0]), "and back, from the next pick on");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_is_well_in_any_zone_the_choice_is_that_of_the_whole_set() {
    let endpoints = set(&[("a", 2), ("b", 2)]);
    for key in endpoints.keys() {
        endpoints.current().find(&key).unwrap().cell.mark(state::EJECTED, true);
    }
    assert!(Client::new(Locality::zones(["a"])).pick(&endpoints).is_none(), "all are ejected");
    for key in endpoints.keys() {
        endpoints.current().find(&key).unwrap().cell.mark(state::USED, true);
        endpoints.current().find(&key).unwrap().cell.mark(state::EJECTED, false);
    }
    let got = spread(&mut Client::new(Locality::zones(["a"])), &endpoints, "ab", 1_000);
    assert_eq!(got, [1_000, 0], "too many are, and so all are used");
    for key in endpoints.keys() {
        endpoints.drain(&key);
    }
    assert!(Client::new(Locality::zones(["a"])).pick(&endpoints).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_zone_whose_endpoints_are_all_ejected_is_tried_again_when_their_time_is_over() {
    let rules = Ejection::none().failures(1).wait(Duration::from_secs(30)).jitter(0.0).cap(100).panic(0);
    let endpoints = set(&[("a", 2), ("b", 6)]).eject(rules).unwrap();
    let replicas = Replicas::new(endpoints).locality(["a"]);
    let all_go_to = |zone: &str| (0..1_000).all(|_| replicas.pick().unwrap().key().starts_with(zone));
    for _ in 0..2 {
        let picked = replicas.pick().unwrap();
        assert!(picked.key().starts_with('a'));
        picked.lease.complete(Outcome::Failure);
    }
    assert!(all_go_to("b"));
    time::sleep(Duration::from_secs(30)).await;
    let probes: Vec<Lease> = (0..2).map(|_| replicas.pick().unwrap().lease).collect();
    assert!(probes.iter().all(|probe| probe.is_probe() && probe.key().starts_with('a')), "{probes:?}");
    assert!(all_go_to("b"), "one at a time each");
    probes.into_iter().for_each(|probe| probe.complete(Outcome::Success));
    assert!(all_go_to("a"));
}

#[tokio::test(start_paused = true)]
async fn where_the_near_ones_cannot_carry_all_a_far_zone_that_is_out_is_tried_again() {
    let rules = Ejection::none().failures(1).wait(Duration::from_secs(30)).jitter(0.0).cap(100).panic(0);
    let endpoints = set(&[("a", 4), ("b", 2)]).eject(rules).unwrap();
    let replicas = Replicas::new(endpoints.clone()).locality(["a", "b"]);
    let ready = |numbers: std::ops::Range<u32>, ready| {
        numbers.for_each(|number| assert!(endpoints.set_ready(&format!("a{number}"), ready)));
    };
    let far = |calls: u32| (0..calls).filter(|_| replicas.pick().unwrap().key().starts_with('b')).count() as u32;
    ready(0..4, false);
    for _ in 0..2 {
        let picked = replicas.pick().unwrap();
        assert!(picked.key().starts_with('b'));
        picked.lease.complete(Outcome::Failure);
    }
    ready(0..4, true);
    time::sleep(Duration::from_secs(30)).await;
    assert_eq!(far(1_000), 0, "nobody needs it");
    ready(1..4, false);
    let probes: Vec<Lease> = (0..2).map(|_| replicas.pick().unwrap().lease).collect();
    assert!(probes.iter().all(|probe| probe.is_probe() && probe.key().starts_with('b')), "{probes:?}");
    assert_eq!(far(1_000), 0, "one at a time each");
    probes.into_iter().for_each(|probe| probe.complete(Outcome::Success));
    let far = far(100_000);
    follows(&[100_000 - far, far], &[35, 65], "one of four is well");
}

#[tokio::test(start_paused = true)]
async fn random_churn_never_sends_a_call_further_than_the_rule_does() {
    let mut rng = Seed::new(9).rng();
    let endpoints = set(&[("a", 5), ("b", 5), ("c", 5)]);
    let mut client = Client::new(Locality::zones(["a", "b"]));
    for step in 0..20_000_u64 {
        let key = format!("{}{}", ["a", "b", "c"][rng.below(3) as usize], rng.below(5));
        match rng.below(4) {
            0 => assert!(endpoints.set_ready(&key, rng.chance(0.6))),
            1 => {
                let out = rng.chance(0.3);
                endpoints.current().find(&key).map(|endpoint| endpoint.cell.mark(state::EJECTED, out));
            }
            2 if rng.chance(0.3) => endpoints.drain(&key),
            2 => endpoints.update(|changes| {
                changes.insert(&*key, ()).zone(&key[..1]).ready(step % 5 > 0);
            }),
            _ => {}
        }
        let current = endpoints.current();
        let among = Among::new(&current);
        let Some(choice) = client.picker.choose(&among, &step, &mut Draw::new(rng.clone())) else {
            assert!(!among.has_pickable(), "step {step}");
            continue;
        };
        assert!(among.is_pickable(choice.place), "step {step}");
        // a zone that lacks nobody is not passed by
        let zone = |place: usize| &among.key(place)[..1];
        let stays = |place: usize| !current.about[place].draining;
        let well = |name: &str| {
            let all: Vec<_> = (0..among.len()).filter(|place| zone(*place) == name && stays(*place)).collect();
            !all.is_empty() && all.iter().all(|place| among.is_pickable(*place))
        };
        let passed = ["a", "b", "c"].into_iter().take_while(|name| *name != zone(choice.place)).find(|name| well(name));
        assert_eq!(passed, None, "step {step}: {}", among.key(choice.place));
    }
    client.pick(&endpoints);
}

#[test]
fn a_factor_that_makes_no_sense_is_held_to_one_that_does() {
    for (set, held) in [(f64::NAN, 1.4), (f64::INFINITY, 1.4), (-1.0, 1.0), (0.0, 1.0), (2.0, 2.0)] {
        assert_eq!(Locality::zones(["a"]).overprovisioning(set).factor, held);
    }
}
