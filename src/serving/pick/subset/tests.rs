//! The promises of subsets: few for each, even for all, and hardly anything moves.

use super::*;
use crate::serving::part::flaps;
use crate::{
    base::{Outcome, Seed, time},
    serving::{
        Ejection, Endpoints, Lease, Locality, RoundRobin,
        cell::state,
        pick::tests::{Client, follows, set},
    },
};
use std::{collections::BTreeSet, time::Duration};

/// Whom the client of this name uses.
fn few(endpoints: &Endpoints<()>, size: usize, client: &str) -> BTreeSet<String> {
    let current = endpoints.current();
    let among = Among::new(&current);
    match Subset::new(size, client).part(&among) {
        Some(part) => part.sampling.places().map(|place| among.key(place).to_owned()).collect(),
        None => current.list.iter().map(|endpoint| endpoint.cell.key().to_string()).collect(),
    }
}

fn fleet(count: usize) -> Endpoints<()> {
    set(&vec![1; count])
}

#[test]
fn each_client_uses_so_many_and_each_endpoint_is_used_by_about_equally_many_clients() {
    let (servers, clients, size) = (100, 2_000, 10);
    let endpoints = fleet(servers);
    let mut used = vec![0_u32; servers];
    for client in 0..clients {
        let few = few(&endpoints, size, &format!("client-{client}"));
        assert_eq!(few.len(), size);
        few.iter().for_each(|key| used[key.parse::<usize>().unwrap()] += 1);
    }
    // as even as chance: 200 each, the standard deviation is 13.4
    let mean = (clients * size / servers) as f64;
    let chi: f64 = used.iter().map(|used| (f64::from(*used) - mean).powi(2) / (mean * 0.9)).sum();
    assert!(chi < 149.0, "chi-square {chi}, one in a thousand exceeds 149 at 99 degrees of freedom: {used:?}");
    assert!(used.iter().all(|used| (f64::from(*used) - mean).abs() < 60.0), "{used:?}");
}

#[test]
fn a_change_of_one_endpoint_changes_at_most_one_of_the_few() {
    let endpoints = fleet(50);
    let clients: Vec<String> = (0..200).map(|number| format!("client-{number}")).collect();
    let all = |endpoints: &Endpoints<()>| clients.iter().map(|client| few(endpoints, 8, client)).collect::<Vec<_>>();
    let before = all(&endpoints);
    let replaced = |before: &[BTreeSet<String>], after: &[BTreeSet<String>], gone: &str| {
        let mut changed = 0;
        for (before, after) in before.iter().zip(after) {
            let lost: Vec<_> = before.difference(after).collect();
            assert_eq!((lost.len(), after.len()), (after.difference(before).count(), 8));
            assert!(lost.is_empty() || lost == [gone], "{lost:?}");
            changed += lost.len();
        }
        changed
    };
    endpoints.drain("7");
    let without = all(&endpoints);
    let users = before.iter().filter(|few| few.contains("7")).count();
    assert_eq!(replaced(&before, &without, "7"), users);
    endpoints.remove("7");
    assert_eq!(all(&endpoints), without, "who is gone and who drains: the same");
    endpoints.insert("7", ());
    assert_eq!(all(&endpoints), before, "back in another order of arrival: the same few");
    endpoints.insert("new", ());
    let after = all(&endpoints);
    let came = after.iter().filter(|few| few.contains("new")).count();
    assert!((15..50).contains(&came), "8 of 51 of 200 clients: {came}");
    assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), came);
}

#[test]
fn while_clients_are_replaced_one_by_one_endpoints_stay_about_equally_used() {
    let (servers, clients, size) = (50, 500, 10);
    let endpoints = fleet(servers);
    let mut used = vec![0_i32; servers];
    let mut count = |name: &str, by: i32| {
        few(&endpoints, size, name).iter().for_each(|key| used[key.parse::<usize>().unwrap()] += by);
        (*used.iter().min().unwrap(), *used.iter().max().unwrap())
    };
    for number in 0..clients {
        count(&format!("old-{number}"), 1);
    }
    for number in 0..clients {
        count(&format!("new-{number}"), 1); // started before the old one ends
        let (least, most) = count(&format!("old-{number}"), -1);
        // 100 each, the standard deviation of chance is 9
        assert!(least > 60 && most < 140, "after {number} were replaced: {least} to {most}");
    }
}

#[test]
fn flaps_move_nothing_and_the_few_are_found_once_per_change_of_the_set() {
    let endpoints = fleet(30);
    let mut client = Client::new(Subset::new(5, "me").by(RoundRobin::seed(Seed::new(1))));
    let mine: Vec<String> = few(&endpoints, 5, "me").into_iter().collect();
    let part = |client: &Client<Subset<RoundRobin>>| {
        let current = endpoints.current();
        let among = Among::new(&current);
        let flaps = flaps();
        let make = |before: Option<&Few>| client.picker.few(&among, before);
        client.picker.few.with((among.id, flaps), make, |few| few.part.as_ref().unwrap().id)
    };
    let turns = |client: &mut Client<Subset<RoundRobin>>| -> Vec<String> {
        (0..50).map(|_| client.pick(&endpoints).unwrap().key().to_owned()).collect()
    };
    let (before, id) = (turns(&mut client), part(&client));
    assert!(before.iter().all(|key| mine.contains(key)) && before[..5] == before[5..10], "in the same order");
    endpoints.set_ready(&mine[2], false);
    assert!(turns(&mut client).iter().all(|key| mine.contains(key) && *key != mine[2]));
    endpoints.set_ready(&mine[2], true);
    let after = turns(&mut client);
    let order = |turns: &[String]| {
        let start = turns.iter().position(|key| *key == mine[0]).unwrap();
        turns[start..start + 5].to_vec()
    };
    assert_eq!((order(&after), part(&client)), (order(&before), id));
    endpoints.insert("new", ());
    assert_ne!(part(&client), id);
}

#[test]
fn where_none_of_the_few_is_well_all_others_are_there() {
    let endpoints = fleet(20);
    let mut client = Client::new(Subset::new(2, "me"));
    let mine = few(&endpoints, 2, "me");
    for (number, key) in mine.iter().enumerate() {
        assert!((0..100).all(|_| mine.contains(client.pick(&endpoints).unwrap().key())), "{number} are out");
        assert!(match number {
            0 => endpoints.current().find(key).unwrap().cell.mark(state::EJECTED, true),
            _ => endpoints.set_ready(key, false),
        });
    }
    assert!((0..100).all(|_| !mine.contains(client.pick(&endpoints).unwrap().key())));
    assert!(mine.iter().all(|key| endpoints.set_ready(key, true)), "the ejected one stays out");
    assert!((0..100).all(|_| mine.contains(client.pick(&endpoints).unwrap().key())), "and back");
}

#[tokio::test(start_paused = true)]
async fn the_few_whose_ejection_is_over_are_tried_before_all_others() {
    let rules = Ejection::none().failures(1).wait(Duration::from_secs(30)).jitter(0.0).cap(100).panic(0);
    let endpoints = fleet(20).eject(rules).unwrap();
    let mine = few(&endpoints, 2, "me");
    let replicas = Replicas::new(endpoints).subset(2, "me");
    let mine_get = |calls: usize| (0..calls).filter(|_| mine.contains(replicas.pick().unwrap().key())).count();
    for _ in 0..2 {
        let picked = replicas.pick().unwrap();
        assert!(mine.contains(picked.key()));
        picked.lease.complete(Outcome::Failure);
    }
    assert_eq!(mine_get(1_000), 0);
    time::sleep(Duration::from_secs(30)).await;
    let probes: Vec<Lease> = (0..2).map(|_| replicas.pick().unwrap().lease).collect();
    assert!(probes.iter().all(|probe| probe.is_probe() && mine.contains(probe.key())), "{probes:?}");
    assert_eq!(mine_get(1_000), 0, "one at a time each");
    probes.into_iter().for_each(|probe| probe.complete(Outcome::Success));
    assert_eq!(mine_get(1_000), 1_000);
}

#[test]
fn a_set_that_is_no_larger_is_used_whole() {
    for (size, count) in [(0, 1), (1, 1), (5, 3), (3, 3), (usize::MAX, 3)] {
        let endpoints = fleet(count);
        let got = Client::new(Subset::new(size, "me").by(RoundRobin::seed(Seed::new(1)))).idle(&endpoints, 300);
        follows(&got, &vec![1; count], &format!("{size} of {count}"));
    }
    assert_eq!(few(&fleet(3), 0, "me").len(), 1, "none counts as one");
    assert!(Client::new(Subset::new(3, "me")).pick(&fleet(0)).is_none());
}

#[test]
fn weights_count_among_the_few() {
    let endpoints = set(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let got = Client::new(Subset::new(4, "me")).idle(&endpoints, 100_000);
    let mine = few(&endpoints, 4, "me");
    let weights: Vec<u32> =
        (0..10).map(|place| if mine.contains(&place.to_string()) { place + 1 } else { 0 }).collect();
    follows(&got, &weights, "four of ten");
}

#[test]
fn near_ones_of_the_few_and_a_few_of_the_near_ones() {
    let endpoints = fleet(60);
    endpoints.update(|changes| {
        for number in 0..60 {
            changes.alter(number.to_string(), move |about| {
                about.zone(if number % 3 == 0 { "a" } else { "b" });
            });
        }
    });
    let used = |client: &mut dyn FnMut() -> String| (0..2_000).map(|_| client()).collect::<BTreeSet<_>>();
    let near = |keys: &BTreeSet<String>| keys.iter().all(|key| key.parse::<u32>().unwrap() % 3 == 0);
    let mut inside = Client::new(Subset::new(12, "me").by(Locality::zones(["a"])));
    let few_then_near = used(&mut || inside.pick(&endpoints).unwrap().key().to_owned());
    assert!(few_then_near.is_subset(&few(&endpoints, 12, "me")) && near(&few_then_near), "{few_then_near:?}");
    let mut outside = Client::new(Locality::zones(["a"]).by(Subset::new(4, "me")));
    let near_then_few = used(&mut || outside.pick(&endpoints).unwrap().key().to_owned());
    assert!(near_then_few.len() == 4 && near(&near_then_few), "{near_then_few:?}");
}
