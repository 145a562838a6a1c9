//! The promises of affinity by key, over sets that change.

use super::*;
use crate::{
    base::{Outcome, Seed, time},
    layer::{Request, RetryLayer},
    serving::{
        Ejection, Endpoints, PeakEwma, SlowStart, Subset,
        cell::state,
        pick::tests::{Client, follows, set},
    },
};
use futures::FutureExt;
use std::time::Duration;
use tower::{Layer, Service, ServiceExt, service_fn};

const KEYS: u64 = 10_000;

fn by_number(number: &u64) -> Session {
    Session::of(number.to_le_bytes())
}

/// The endpoint of every key.
fn owners(endpoints: &Endpoints<()>) -> Vec<String> {
    let mut client = Client::new(Affinity::by(by_number));
    let owners: Vec<String> = (0..KEYS)
        .map(|key| client.pick_for(endpoints, key).map_or(String::new(), |lease| lease.key().into()))
        .collect();
    let again =
        (0..KEYS).all(|key| client.pick_for(endpoints, key).is_none_or(|lease| lease.key() == owners[key as usize]));
    assert!(again, "asked again, each is where it was");
    owners
}

fn moved(before: &[String], after: &[String]) -> Vec<(String, String)> {
    before.iter().zip(after).filter(|(a, b)| a != b).map(|(a, b)| (a.clone(), b.clone())).collect()
}

#[test]
fn sessions_are_spread_evenly_over_equal_endpoints_and_all_handles_agree() {
    let (one, other) = (set(&[1; 10]), Endpoints::named("elsewhere"));
    for number in (0..10).rev() {
        other.insert(number.to_string(), ());
    }
    let owners_here = owners(&one);
    assert_eq!(owners_here, owners(&other), "in whatever order they came");
    let mut got = [0_u32; 10];
    owners_here.iter().for_each(|owner| got[owner.parse::<usize>().unwrap()] += 1);
    let chi: f64 = got.iter().map(|got| (f64::from(*got) - 1_000.0).powi(2) / 1_000.0).sum();
    assert!(chi < 27.9, "chi-square {chi}, one in a thousand exceeds 27.9 at 9 degrees of freedom: {got:?}");
}

#[test]
fn churn_moves_the_sessions_of_who_is_out_and_the_share_of_who_comes_and_no_others() {
    let endpoints = set(&[1; 10]);
    let before = owners(&endpoints);
    let of = |key: &str| before.iter().filter(|owner| *owner == key).count();
    let only_from = |key: &str, after: &[String]| {
        let moves = moved(&before, after);
        assert!(moves.len() == of(key) && moves.iter().all(|(from, to)| from == key && to != key), "{key}: {moves:?}");
    };
    endpoints.drain("3");
    let drained = owners(&endpoints);
    only_from("3", &drained);
    endpoints.remove("3");
    assert_eq!(owners(&endpoints), drained, "drained or gone: once");
    endpoints.insert("3", ());
    assert_eq!(owners(&endpoints), before);
    assert!(endpoints.set_ready("5", false));
    only_from("5", &owners(&endpoints));
    assert!(endpoints.set_ready("5", true));
    let current = endpoints.current_shared();
    assert!(current.find("7").unwrap().cell.mark(state::EJECTED, true));
    only_from("7", &owners(&endpoints));
    assert!(current.find("7").unwrap().cell.mark(state::EJECTED, false));
    assert_eq!(owners(&endpoints), before);
    current.list.iter().for_each(|endpoint| assert!(endpoint.cell.mark(state::USED, true)));
    assert_eq!(owners(&endpoints), before, "too many are ejected, so all are used");
    current.list.iter().for_each(|endpoint| assert!(endpoint.cell.mark(state::USED, false)));
    endpoints.insert("new", ());
    let moves = moved(&before, &owners(&endpoints));
    assert!(moves.iter().all(|(_, to)| to == "new") && (800..1_020).contains(&moves.len()), "{}", moves.len());
}

#[test]
fn names_are_hashed_once_per_change_of_the_set() {
    let endpoints = set(&[1; 10]);
    let mut client = Client::new(Affinity::by(by_number));
    let names = || endpoints.current_shared().names().as_ptr();
    let before = names();
    (0..1_000).for_each(|key| drop(client.pick_for(&endpoints, key)));
    assert!(endpoints.set_ready("1", false));
    client.pick_for(&endpoints, 1);
    assert_eq!(names(), before);
}

#[tokio::test(start_paused = true)]
async fn who_is_warming_takes_its_sessions_over_one_by_one() {
    let endpoints = set(&[1; 4]).slow_start(SlowStart::over(Duration::from_secs(100)));
    let before = owners(&endpoints);
    endpoints.insert("new", ());
    let mut last = before.clone();
    for (second, share) in [(0, 0.1), (50, 0.5), (100, 1.0)] {
        tokio::time::advance(Duration::from_secs(second.min(50))).await;
        let now = owners(&endpoints);
        let moves = moved(&last, &now);
        assert!(moves.iter().all(|(_, to)| to == "new"), "none goes back: {moves:?}");
        let taken = now.iter().filter(|owner| *owner == "new").count() as f64 / 2_000.0;
        assert!((taken - share).abs() < 0.06, "at {second} s {taken} instead of {share}");
        last = now;
    }
}

#[test]
fn who_has_no_session_goes_where_the_picker_says() {
    let endpoints = set(&[1, 2, 3, 4]);
    let affinity = Affinity::by(|_: &u64| Session::of(""));
    let got = Client::new(affinity.clone()).idle(&endpoints, 100_000);
    follows(&got, &[1, 2, 3, 4], "no session");
    assert_eq!(affinity.stats().to_string(), "0 hit, 100000 miss, 0 moved, 0 detour, 0 refused, 0 forged, 0 expired");
    assert!(Client::new(affinity.clone()).pick(&set(&[])).is_none());
    assert_eq!(affinity.stats().miss, 100_000, "nobody there is none of them");
}

#[test]
fn strict_sessions_fail_by_the_name_of_their_endpoint_and_were_not_sent() {
    let endpoints = Endpoints::named("cart").seed(Seed::new(1));
    let affinity = Affinity::by(by_number).strict(true);
    let mut replicas = Replicas::new(endpoints.clone()).pick_by(affinity.clone());
    let call = |replicas: &mut Replicas<_, _, _>, key: u64| replicas.call(key).now_or_never().unwrap();
    for key in ["a", "b", "c"] {
        endpoints.insert(key, service_fn(move |_: u64| async move { Ok::<_, Error>(key) }));
    }
    let home = call(&mut replicas, 7).unwrap();
    endpoints.drain(home);
    for mut handle in [replicas.clone(), replicas.clone()] {
        let error = call(&mut handle, 7).unwrap_err();
        assert_eq!(error.to_string(), format!("{home}: unavailable: it cannot be picked, and sessions are strict"));
        assert!(error.is_unsent());
    }
    let well = (0..100).find(|key| call(&mut replicas, *key).is_ok_and(|owner| owner != home)).unwrap();
    assert!(call(&mut replicas, 7).is_err() && call(&mut replicas, well).is_ok(), "the handle goes on");
    assert!(affinity.stats().refused >= 3 && affinity.stats().moved == 0, "{affinity:?}");
    endpoints.update(|changes| changes.clear());
    let error = call(&mut replicas, 7).unwrap_err();
    assert_eq!(error.to_string(), "affinity: unavailable: the session's endpoint is gone, and sessions are strict");
}

#[tokio::test(start_paused = true)]
async fn a_further_attempt_goes_elsewhere_and_moves_nothing_and_a_strict_one_stays() {
    for strict in [false, true] {
        let endpoints = Endpoints::named("cart").seed(Seed::new(1));
        let affinity = Affinity::by(|request: &Request<u64>| by_number(request.message())).strict(strict);
        let log = Arc::new(crate::base::sync::Lock::new(Vec::new()));
        for key in ["a", "b", "c"] {
            let log = log.clone();
            // the first call of all fails
            let service = service_fn(move |_: Request<u64>| {
                log.lock().push(key);
                let first = log.lock().len() == 1;
                async move { if first { Err(Error::from(Kind::Unavailable)) } else { Ok(key) } }
            });
            endpoints.insert(key, service);
        }
        let replicas = Replicas::new(endpoints).pick_by(affinity.clone());
        let service = RetryLayer::new().seed(Seed::new(2)).layer(replicas);
        let call = || service.clone().oneshot(Request::new(7).idempotent());
        let (answered, next) = (call().await.unwrap(), call().await.unwrap());
        let log = log.lock().clone();
        assert_eq!((log.len(), log[0] == log[1], log[1]), (3, strict, answered));
        assert_eq!(next, log[0], "the session is where it was");
        let AffinityStats { hit, detour, moved, refused, .. } = affinity.stats();
        assert_eq!((hit + detour, detour, moved, refused), (3, u64::from(!strict), 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_first_attempt_ejects_the_endpoint_of_a_session_each_further_one_counts_once() {
    for strict in [false, true] {
        let rules = Ejection::none().failures(1).cap(100).panic(0);
        let endpoints = Endpoints::named("cart").seed(Seed::new(1)).eject(rules).unwrap();
        let affinity = Affinity::by(|request: &Request<u64>| by_number(request.message())).strict(strict);
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for key in ["a", "b", "c"] {
            let calls = calls.clone();
            let service = service_fn(move |_: Request<u64>| {
                let first = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
                async move { if first { Err(Error::from(Kind::Unavailable)) } else { Ok(key) } }
            });
            endpoints.insert(key, service);
        }
        let replicas = Replicas::new(endpoints).pick_by(affinity.clone());
        let service = RetryLayer::new().attempts(2).seed(Seed::new(2)).layer(replicas);
        let answer = service.oneshot(Request::new(7).idempotent()).await;
        let AffinityStats { hit, detour, moved, refused, .. } = affinity.stats();
        let expected = if strict { (false, 1, 0, 0, 1) } else { (true, 1, 1, 0, 0) };
        assert_eq!((answer.is_ok(), hit, detour, moved, refused), expected, "strict: {strict}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_sessions_count_for_the_latency_of_the_picker_inside() {
    let endpoints = set(&[1, 1]);
    let mut client = Client::new(Affinity::by(by_number).or(PeakEwma::new()));
    for key in 0..20 {
        let lease = client.pick_for(&endpoints, key).unwrap();
        time::sleep(Duration::from_millis(if lease.key() == "0" { 50 } else { 5 })).await;
        lease.complete(Outcome::Success);
    }
    let mut none = Client::new(Affinity::by(|_: &u64| Session::NONE).or(PeakEwma::new()));
    assert_eq!(none.idle(&endpoints, 100), [0, 100], "what sessions measured steers the others");
}

#[test]
fn keys_that_a_stranger_makes_up_go_somewhere_each() {
    let (endpoints, mut rng) = (set(&[1; 7]), Seed::new(4).rng());
    let current = endpoints.current_shared();
    let (affinity, mut draw) = (Affinity::by(|key: &[u8]| Session::of(key)), Draw::new(Seed::new(1).rng()));
    for _ in 0..20_000 {
        let key: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
        let among = Among::new(&current);
        let (one, two) = (affinity.choose(&among, &key, &mut draw), affinity.choose(&among, &key, &mut draw));
        assert!(key.is_empty() || one.unwrap().place == two.unwrap().place);
    }
    assert!(affinity.choose(&Among::new(&current), &vec![b'x'; 1 << 20], &mut draw).is_some());
}

#[test]
fn in_front_of_a_subset_sessions_find_their_endpoint_outside_of_it() {
    let endpoints = set(&[1; 20]);
    let mut client = Client::new(Affinity::by(by_number).or(Subset::new(3, "me")));
    let all = owners(&endpoints);
    assert!((0..100).all(|key| client.pick_for(&endpoints, key).unwrap().key() == all[key as usize]));
    // and inside of one they stay among the few, each at one
    let mut inside = Client::new(Subset::new(3, "me").by(Affinity::by(by_number)));
    let used = |client: &mut Client<_>| -> Vec<String> {
        (0..100).map(|key| client.pick_for(&endpoints, key).unwrap().key().to_owned()).collect()
    };
    let before = used(&mut inside);
    let mut names = before.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), used(&mut inside)), (3, before.clone()));
    endpoints.drain(&names[0]);
    let after = used(&mut inside);
    let joins = |to: &String| !names.contains(to);
    assert!(
        moved(&before, &after).iter().all(|(from, to)| *from == names[0] || joins(to)),
        "or to who takes its place"
    );
}
