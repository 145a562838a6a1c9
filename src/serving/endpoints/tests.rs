//! Changes against a model, draining, and what is known of endpoints.

use super::*;
use crate::serving::{Status, load::Watch};
use std::collections::BTreeMap;

#[test]
fn a_change_of_many_is_one_step_and_no_change_is_none() {
    let endpoints = Endpoints::new();
    endpoints.update(|changes| {
        (0..100).for_each(|number| {
            changes.insert(number.to_string(), number);
        });
    });
    assert_eq!((endpoints.version(), endpoints.len()), (1, 100));
    endpoints.remove("none");
    endpoints.update(|_| ());
    assert_eq!((endpoints.version(), endpoints.is_current(1)), (1, true));
    endpoints.insert("7", 70);
    assert_eq!((endpoints.version(), endpoints.len(), endpoints.is_current(1)), (2, 100, false));
    endpoints.update(|changes| {
        changes.clear();
        changes.insert("b", 1);
        changes.insert("a", 2);
        changes.remove("b");
    });
    assert_eq!((endpoints.keys(), endpoints.version()), (vec!["a".into()], 3));
}

#[test]
fn random_changes_agree_with_a_map() {
    let (mut rng, endpoints) = (Seed::new(4).rng(), Endpoints::new());
    let mut model = BTreeMap::new();
    for step in 0..20_000_u32 {
        endpoints.update(|changes| {
            for _ in 0..rng.below(4) {
                let key = rng.below(20).to_string();
                match rng.below(20) {
                    0 => {
                        changes.clear();
                        model.clear();
                    }
                    1..10 => {
                        changes.remove(key.as_str());
                        model.remove(&key);
                    }
                    _ => {
                        changes.insert(key.as_str(), step);
                        model.insert(key, step);
                    }
                }
            }
        });
        let current = endpoints.current();
        let seen: BTreeMap<_, _> =
            current.list.iter().map(|endpoint| (endpoint.cell.key().to_string(), endpoint.service)).collect();
        assert_eq!((seen, current.list.len()), (model.clone(), model.len()), "step {step}");
        assert!(current.list.iter().all(|endpoint| Cell::pending(&endpoint.cell) == 0), "step {step}");
    }
}

#[test]
fn what_is_in_flight_stays_counted_while_its_key_changes_hands() {
    let endpoints = Endpoints::new();
    endpoints.insert("a", 1);
    let lease = crate::serving::Lease::new(&endpoints.current().list[0].cell, Watch::Nothing);
    let kept = endpoints.current_shared();
    endpoints.insert("a", 2);
    endpoints.update(|changes| {
        changes.clear();
        changes.insert("a", 3);
    });
    assert_eq!(endpoints.pending("a"), Some(1));
    drop((lease, kept));
    assert_eq!(endpoints.pending("a"), Some(0));
    endpoints.remove("a");
    assert_eq!(endpoints.pending("a"), None);
}

#[test]
fn writers_that_race_lose_nothing() {
    let endpoints = Endpoints::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let endpoints = &endpoints;
            scope.spawn(move || (0..100).for_each(|number| endpoints.insert(format!("{thread}/{number}"), number)));
        }
    });
    assert_eq!((endpoints.len(), endpoints.version(), endpoints.is_current(400)), (400, 400, true));
}

#[tokio::test(start_paused = true)]
async fn draining_ends_when_the_last_call_does_also_where_it_was_taken_out_meanwhile() {
    let endpoints = Endpoints::named("drains");
    endpoints.drained("nobody").await.unwrap();
    for key in ["a", "b"] {
        endpoints.insert(key, 1);
    }
    let error = endpoints.drained("a").await.unwrap_err();
    assert_eq!(error.to_string(), "a: conflict: it is not draining");
    for (key, gone) in [("a", false), ("b", true)] {
        let lease = crate::serving::Lease::new(&endpoints.current().find(key).unwrap().cell, Watch::Nothing);
        endpoints.drain(key);
        assert_eq!(endpoints.describe()[0].to_string(), format!("{key}: draining, 1 in flight"));
        let (version, start) = (endpoints.version(), time::now());
        endpoints.drain(key);
        assert_eq!(endpoints.version(), version, "again, it changes nothing");
        let drained = tokio::spawn({
            let endpoints = endpoints.clone();
            async move { endpoints.drained(key).await }
        });
        sleep(Duration::from_secs(2)).await;
        assert!(!drained.is_finished());
        if gone {
            endpoints.remove(key);
        }
        drop(lease);
        drained.await.unwrap().unwrap();
        assert!(start.elapsed() <= Duration::from_secs(2) + DRAINED_PERIOD);
        endpoints.remove(key);
    }
    assert!(endpoints.is_empty());
}

#[test]
fn what_is_known_changes_without_the_service_and_goes_with_it() {
    let endpoints = Endpoints::named("about");
    endpoints.update(|changes| {
        changes.insert("a", 1).weight(3).zone("eu-1a").version("v1").label("tier", "web");
    });
    assert_eq!(endpoints.describe()[0].to_string(), "a: ready, weight 3, zone eu-1a, version v1, tier=web");
    endpoints.alter("a", |about| {
        about.weight(0);
    });
    endpoints.alter("a", |about| {
        about.weight(0); // no news
    });
    assert_eq!((endpoints.version(), endpoints.describe()[0].status), (2, Status::Draining));
    endpoints.insert("a", 2);
    assert_eq!(endpoints.describe()[0].to_string(), "a: ready");
    assert!(endpoints.set_ready("a", false) && !endpoints.set_ready("b", false));
    endpoints.insert("a", 3);
    assert_eq!((endpoints.version(), endpoints.describe()[0].status), (4, Status::Unready), "the probe's word stands");
    endpoints.remove("a");
    endpoints.insert("a", 4);
    assert_eq!(endpoints.describe()[0].status, Status::Ready);
}
