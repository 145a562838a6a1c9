//! The promises of the ring: who owns which key, and which keys move.

use super::{
    tests::{Client, set},
    *,
};
use crate::serving::{Endpoints, cell::state};

const KEYS: u64 = 20_000;

/// The owner of every key.
fn owners(endpoints: &Endpoints<()>) -> Vec<String> {
    let mut client = Client::new(Ring::by_number(|request: &u64| *request));
    (0..KEYS).map(|key| client.pick_for(endpoints, key).map_or_else(String::new, |lease| lease.key().into())).collect()
}

/// From whom to whom the keys moved that did.
fn moved(before: &[String], after: &[String]) -> Vec<(String, String)> {
    before.iter().zip(after).filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone())).collect()
}

#[test]
fn removing_one_moves_its_keys_alone_and_putting_it_back_returns_them() {
    let endpoints = set(&[1; 10]);
    let before = owners(&endpoints);
    endpoints.remove("3");
    let moves = moved(&before, &owners(&endpoints));
    assert!(moves.iter().all(|(from, _)| from == "3"), "{moves:?}");
    assert_eq!(moves.len(), before.iter().filter(|owner| *owner == "3").count());
    let mut to: Vec<_> = moves.into_iter().map(|(_, to)| to).collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!(to.len(), 9, "spread over all others");
    endpoints.insert("3", ());
    assert_eq!(owners(&endpoints), before, "in whatever order they came");
}

#[test]
fn adding_one_moves_no_more_than_its_share_and_only_to_it() {
    for count in [1, 2, 10, 100] {
        let endpoints = set(&vec![1; count]);
        let before = owners(&endpoints);
        endpoints.insert("new", ());
        let moves = moved(&before, &owners(&endpoints));
        assert!(moves.iter().all(|(_, to)| to == "new"));
        let most = KEYS as f64 / (count + 1) as f64 * 1.3;
        assert!((moves.len() as f64) < most, "{} of {most} at {count}", moves.len());
    }
}

#[test]
fn a_flap_of_readiness_moves_only_the_keys_of_the_sick_one_and_places_nothing_anew() {
    let endpoints = set(&[1; 10]);
    let before = owners(&endpoints);
    let version = endpoints.version();
    for sick in ["2", "5"] {
        endpoints.set_ready(sick, false);
        let moves = moved(&before, &owners(&endpoints));
        assert!(!moves.is_empty() && moves.iter().all(|(from, _)| from == sick));
        endpoints.set_ready(sick, true);
    }
    assert_eq!((owners(&endpoints), endpoints.version()), (before, version));
}

#[test]
fn weights_give_keys_in_proportion() {
    let got = owners(&set(&[1, 2, 0, 5]));
    let share = |key: &str| got.iter().filter(|owner| *owner == key).count() as f64 / KEYS as f64;
    assert!((share("0") - 0.125).abs() < 0.03 && (share("1") - 0.25).abs() < 0.04, "{} {}", share("0"), share("1"));
    assert_eq!(share("2"), 0.0);
}

#[test]
fn a_walk_visits_each_once_whatever_is_left() {
    let endpoints = set(&[1; 9]);
    let current = endpoints.current();
    let circle = Circle::new(&current);
    for point in (0..200_u64).map(|step| step * (u64::MAX / 200)).chain([u64::MAX]) {
        let mut places: Vec<_> = circle.walk(point, 9).collect();
        places.sort_unstable();
        assert_eq!(places, (0..9).collect::<Vec<_>>());
    }
    // down to a single one, each key finds whoever is left
    for gone in 0..8 {
        endpoints.set_ready(&gone.to_string(), false);
        assert!(owners(&endpoints).iter().all(|owner| owner.parse::<u32>().unwrap() > gone));
    }
    current.list[8].cell.mark(state::EJECTED, true);
    assert!(owners(&endpoints).iter().all(String::is_empty), "ejected");
}

#[test]
fn an_empty_ring_and_one_without_weight_find_nobody() {
    for weights in [&[][..], &[0], &[0, 0]] {
        assert!(owners(&set(weights)).iter().all(String::is_empty), "{weights:?}");
    }
}

#[test]
fn a_handle_elsewhere_agrees() {
    let (one, other) = (set(&[1; 20]), Endpoints::named("elsewhere"));
    for number in (0..20).rev() {
        other.insert(number.to_string(), ());
    }
    assert_eq!(owners(&one), owners(&other));
    assert_eq!(owners(&one)[..4], ["10", "10", "11", "14"], "pinned: processes of other versions must agree, too");
}
