//! Ejection by route: each picker in turn, two thousand steps against the detectors, and what stands beside it.

use super::*;
use crate::{
    base::{Outcome, Rng, Seed, time::Instant},
    layer::Retry,
    serving::{
        Affinity, Endpoints, Lease, Locality, PeakEwma, Picked, Random, Ring, RoundRobin, SlowStart, Status, Subset,
        affinity::Session,
        eject::{Explanation, Standing},
    },
};
use std::{collections::BTreeSet, time::Duration};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Request = (u64, &'static str);

fn path(request: &Request) -> &str {
    request.1
}

fn strict(failures: u32) -> Ejection {
    Ejection::none().failures(failures).wait(SECOND).jitter(0.0)
}

fn set(count: usize) -> Endpoints<()> {
    let endpoints = Endpoints::named("shop").seed(Seed::new(5));
    endpoints.update(|changes| {
        for number in 0..count {
            changes.insert(number.to_string(), ()).zone(if number < 2 { "near" } else { "far" });
        }
    });
    endpoints
}

type Routed<P> = Replicas<(), crate::layer::Standard, ByRoute<fn(&Request) -> &str, P>>;

fn routed<P: Picker<Request> + Clone>(endpoints: &Endpoints<()>, settings: Ejection, picker: P) -> Routed<P> {
    let by: fn(&Request) -> &str = path;
    Replicas::new(endpoints.clone()).pick_by(picker).eject_by_route(settings, 10, by).unwrap()
}

/// Ends so many calls of this route at this endpoint like that, wherever a pick would go.
fn end<P>(replicas: &Routed<P>, route: &str, key: &str, outcome: Outcome, times: u32) {
    let (current, number) = (replicas.endpoints().current_shared(), replicas.picker().routes.look(route).0);
    let cell = &current.find(key).unwrap().cell;
    (0..times).for_each(|_| Lease::new(cell, Watch::Answer.of_route(number)).complete(outcome));
}

fn on<S>(endpoints: &Endpoints<S>, route: &str) -> Explanation {
    endpoints.explain().routes.into_iter().find(|(name, _)| name == route).unwrap().1
}

fn out<S>(endpoints: &Endpoints<S>, route: &str) -> String {
    on(endpoints, route).out.iter().map(|out| out.key.to_string()).collect::<Vec<_>>().join(" ")
}

async fn obeys<P: Picker<Request> + Clone>(picker: P, name: &str) {
    let endpoints = set(4);
    let replicas = routed(&endpoints, strict(2).wait(300 * SECOND), picker);
    let picks = |count: u64, route: &'static str| -> Vec<Picked<()>> {
        (0..count).filter_map(|number| replicas.pick_for(&(number, route))).collect()
    };
    let of = |picked: &[Picked<()>], key: &str| picked.iter().filter(|picked| picked.key() == key).count();
    drop(picks(100, "/browse"));
    end(&replicas, "/pay", "0", Outcome::Failure, 2);
    assert_eq!((out(&endpoints, "/pay").as_str(), out(&endpoints, "/browse").as_str()), ("0", ""), "{name}");
    time::sleep(200 * SECOND).await;
    let (pay, browse) = (picks(400, "/pay"), picks(400, "/browse"));
    assert_eq!((pay.len(), of(&pay, "0"), browse.len()), (400, 0, 400), "{name}");
    assert!(of(&browse, "0") > 0, "{name}: it serves all other routes");
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.status == Status::Ready), "{name}");
    drop((pay, browse));
    time::sleep(100 * SECOND).await;
    for outcome in [Outcome::Cancelled, Outcome::Superseded, Outcome::Ignored] {
        let mut picked = picks(1_000, "/pay");
        assert_eq!((picked.len(), of(&picked, "0")), (1_000, 1), "{name}: one at a time");
        let place = picked.iter().position(|picked| picked.key() == "0").unwrap();
        assert!(picked[place].lease.is_probe(), "{name}");
        assert!(picks(400, "/browse").iter().all(|picked| !picked.lease.is_probe()), "{name}");
        let probe = picked.swap_remove(place);
        assert_eq!(on(&endpoints, "/pay").out[0].standing, Standing::Probing, "{name}");
        match outcome {
            Outcome::Cancelled => drop(probe),
            outcome => probe.lease.complete(outcome),
        }
        assert_eq!(on(&endpoints, "/pay").out[0].standing, Standing::Due, "{name}: {outcome:?} leaves its place");
    }
    let probe = picks(1_000, "/pay").into_iter().find(|picked| picked.key() == "0").unwrap();
    probe.lease.complete(Outcome::Failure);
    assert_eq!((of(&picks(1_000, "/pay"), "0"), on(&endpoints, "/pay").out[0].probes_failed), (0, 1), "{name}");
    time::sleep(600 * SECOND).await;
    let probe = picks(1_000, "/pay").into_iter().find(|picked| picked.key() == "0").unwrap();
    probe.lease.complete(Outcome::Success);
    assert_eq!(out(&endpoints, "/pay"), "", "{name}");
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.pending == 0), "{name}");
}

#[tokio::test(start_paused = true)]
async fn every_picker_passes_over_who_is_out_for_the_route_and_lets_one_probe_through_at_a_time() {
    obeys(LeastPending, "least pending").await;
    obeys(PeakEwma::new(), "peak ewma").await;
    obeys(RoundRobin::seed(Seed::new(1)), "round robin").await;
    obeys(Random, "random").await;
    obeys(Ring::by_number(|request: &Request| request.0), "ring").await;
    obeys(Locality::zones(["near", "far"]), "locality").await;
    obeys(Subset::new(4, "client"), "subset").await;
    obeys(Affinity::by(|request: &Request| Session::of(request.0.to_le_bytes())), "affinity").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_tells_its_route_and_a_retry_goes_to_another() {
    let endpoints = Endpoints::named("shop").seed(Seed::new(7));
    for key in ["a", "b", "c"] {
        endpoints.insert(
            key,
            service_fn(move |request: crate::layer::Request<&'static str>| async move {
                match (key, request.into_message()) {
                    ("a", "/pay") => Err(Error::new(Kind::Unavailable, "no bank")),
                    (key, _) => Ok(key),
                }
            }),
        );
    }
    let by: for<'a> fn(&'a crate::layer::Request<&'static str>) -> &'a str = |request| request.message();
    let replicas = Replicas::new(endpoints.clone()).eject_by_route(strict(3).wait(60 * SECOND), 10, by).unwrap();
    let mut service: Retry<_> = crate::layer::RetryLayer::new().seed(Seed::new(1)).layer(replicas);
    let mut served = BTreeSet::new();
    for _ in 0..200 {
        for route in ["/pay", "/browse"] {
            let request = crate::layer::Request::new(route).idempotent();
            let by = service.ready().await.unwrap().call(request).await.unwrap();
            served.insert((route, by));
        }
        time::sleep(SECOND / 10).await;
    }
    let all = [("/browse", "a"), ("/browse", "b"), ("/browse", "c"), ("/pay", "b"), ("/pay", "c")];
    assert_eq!(served.into_iter().collect::<Vec<_>>(), all);
    assert_eq!((out(&endpoints, "/pay").as_str(), out(&endpoints, "/browse").as_str()), ("a", ""));
}

#[tokio::test(start_paused = true)]
async fn the_cap_and_panic_hold_for_each_route() {
    let endpoints = set(4);
    let replicas = routed(&endpoints, strict(1).cap(50).panic(0), Random);
    for key in ["0", "1", "2"] {
        end(&replicas, "/pay", key, Outcome::Failure, 1);
    }
    end(&replicas, "/list", "3", Outcome::Failure, 1);
    assert_eq!((out(&endpoints, "/pay").as_str(), out(&endpoints, "/list").as_str()), ("0 1", "3"));
    assert_eq!(on(&endpoints, "/pay").spared, 1);
    // more may be out, and then all are used
    endpoints.routes().unwrap().set(strict(1).cap(100).panic(50), time::now()).unwrap();
    let keys = |route: &'static str| {
        let picked = (0..500).filter_map(|number| replicas.pick_for(&(number, route)));
        picked.map(|picked| picked.key().to_owned()).collect::<BTreeSet<_>>().len()
    };
    assert_eq!((keys("/pay"), keys("/list"), keys("/new")), (2, 3, 4));
    end(&replicas, "/pay", "2", Outcome::Failure, 1);
    assert!(on(&endpoints, "/pay").panics && !on(&endpoints, "/list").panics);
    assert_eq!((keys("/pay"), keys("/list"), keys("/new")), (4, 3, 4));
    // who is not ready is missing on every route
    endpoints.set_ready("2", false);
    assert_eq!((on(&endpoints, "/list").panics, keys("/list")), (false, 2));
    endpoints.set_ready("1", false);
    assert_eq!((on(&endpoints, "/list").panics, keys("/list")), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_nobody_is_left_for_says_so_and_all_others_go_on() {
    let endpoints = Endpoints::named("shop").seed(Seed::new(5));
    endpoints.insert("0", service_fn(|_: Request| async { Ok::<_, Error>(()) }));
    let settings = strict(1).cap(100).panic(0).wait(9 * SECOND);
    let by: fn(&Request) -> &str = path;
    let mut replicas = Replicas::new(endpoints.clone()).eject_by_route(settings, 10, by).unwrap();
    replicas.pick_for(&(0, "/pay")).unwrap().lease.complete(Outcome::Failure);
    let error = replicas.call((0, "/pay")).await.unwrap_err();
    assert_eq!(error.to_string(), "route /pay: unavailable: none of its 1 endpoints takes this call: 1 ejected");
    assert_eq!((error.is_unsent(), error.retry_after()), (true, Some(9 * SECOND)));
    replicas.call((0, "/browse")).await.unwrap();
    endpoints.remove("0");
    let error = replicas.call((0, "/pay")).await.unwrap_err();
    assert_eq!(error.to_string(), "shop: unavailable: it has no endpoints");
}

#[tokio::test(start_paused = true)]
async fn those_who_are_left_for_a_route_and_not_ready_do_not_leave_it_without_anybody() {
    let endpoints = set(4);
    let replicas = routed(&endpoints, strict(1), Random);
    for key in ["0", "1"] {
        end(&replicas, "/pay", key, Outcome::Failure, 1);
    }
    let endpoints = endpoints.eject(strict(1).panic(0)).unwrap();
    for key in ["2", "3"] {
        end(&replicas, "/other", key, Outcome::Failure, 1);
    }
    let status: Vec<_> = endpoints.describe().into_iter().map(|endpoint| endpoint.status).collect();
    assert_eq!(status, [Status::Ready, Status::Ready, Status::Ejected, Status::Ejected]);
    let pays: BTreeSet<_> =
        (0..100).map(|number| replicas.pick_for(&(number, "/pay")).unwrap().key().to_owned()).collect();
    assert_eq!(pays.into_iter().collect::<Vec<_>>(), ["0", "1"], "of two bad choices the one that was asked for less");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_for_a_route_starts_slowly_there_alone() {
    for slow in [false, true] {
        let endpoints = set(10);
        let endpoints = if slow { endpoints.slow_start(SlowStart::over(100 * SECOND)) } else { endpoints };
        let replicas = routed(&endpoints, strict(1), Random);
        end(&replicas, "/pay", "3", Outcome::Failure, 1);
        time::sleep(SECOND).await;
        let probe = |number| replicas.pick_for(&(number, "/pay")).filter(|picked| picked.key() == "3");
        (0..).find_map(probe).unwrap().lease.complete(Outcome::Success);
        let share = |route: &'static str| {
            (0..10_000).filter(|number| replicas.pick_for(&(*number, route)).unwrap().key() == "3").count()
        };
        let (pay, browse) = (share("/pay"), share("/browse"));
        assert!(if slow { (60..160).contains(&pay) } else { (900..1_100).contains(&pay) }, "{slow}: {pay}");
        assert!((900..1_100).contains(&browse), "{slow}: {browse}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_the_race_for_a_route_s_probe_goes_to_another() {
    let (endpoints, mut draw) = (set(2), Draw::new(Seed::new(1).rng()));
    let replicas = routed(&endpoints, strict(1), LeastPending);
    end(&replicas, "/pay", "0", Outcome::Failure, 1);
    time::sleep(SECOND).await;
    let (current, request) = (endpoints.current_shared(), (1, "/pay"));
    let (among, number) = (Among::new(&current), replicas.picker().routes.look("/pay").0);
    let there = among.on(OnRoute { number, some_out: true });
    let late = std::iter::from_fn(|| Random.choose(&there, &request, &mut draw)).find(|choice| choice.place == 0);
    let cell = &current.list[0].cell;
    let _faster = cell.on_route(number).unwrap().admit();
    let choose = |others: &Among<'_, ()>| Random.choose(others, &request, &mut draw);
    let chosen = try_out(&there, late.unwrap(), choose, |cell| out_on(number, cell), Watch::of_route_probe).unwrap();
    assert_eq!(chosen.place, 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_out_as_a_whole_is_tried_as_a_whole_first() {
    let endpoints = set(2).eject(strict(2).wait(5 * SECOND)).unwrap();
    let replicas = routed(&endpoints, strict(1), Random);
    end(&replicas, "/pay", "0", Outcome::Failure, 1);
    end(&replicas, "/list", "0", Outcome::Failure, 1);
    let as_a_whole = || endpoints.explain().out.iter().map(|out| out.key.to_string()).collect::<String>();
    assert_eq!((as_a_whole().as_str(), out(&endpoints, "/pay").as_str()), ("0", "0"));
    time::sleep(5 * SECOND).await;
    let probe = |standing| {
        let found = |number| replicas.pick_for(&(number, "/pay")).filter(|picked| picked.key() == "0");
        let probe = (0..1_000).find_map(found).unwrap();
        assert!(probe.lease.is_probe());
        assert_eq!(on(&endpoints, "/pay").out[0].standing, standing);
        probe.lease.complete(Outcome::Success);
    };
    probe(Standing::Due);
    assert_eq!((as_a_whole().as_str(), out(&endpoints, "/pay").as_str()), ("", "0"));
    probe(Standing::Probing);
    assert_eq!((out(&endpoints, "/pay").as_str(), out(&endpoints, "/list").as_str()), ("", "0"));
}

#[tokio::test(start_paused = true)]
async fn routes_beyond_the_bound_are_one_and_nonsense_is_refused() {
    let endpoints = set(4);
    let by: fn(&String) -> &str = String::as_str;
    let replicas = Replicas::new(endpoints.clone()).pick_by(Random).eject_by_route(strict(1), 2, by).unwrap();
    for route in 0..1_000 {
        let picked = replicas.pick_for(&route.to_string()).unwrap();
        picked.lease.complete(if route == 500 { Outcome::Failure } else { Outcome::Success });
    }
    let told: Vec<_> = endpoints.explain().routes.into_iter().map(|(name, on)| (name, on.out.len())).collect();
    assert_eq!(told, [("0".into(), 0), ("1".into(), 0), ("the rest".into(), 1)]);
    let error = Replicas::new(endpoints.clone()).eject_by_route(strict(1).cap(101), 2, by).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "ejection: invalid: the cap is a percentage, not 101");
    let other = Replicas::new(endpoints.clone()).eject_by_route(strict(1).cap(0), 2, by).unwrap();
    assert!(endpoints.explain().routes.iter().all(|(_, on)| on.out.is_empty()), "other settings from now on");
    assert!(other.pick_for(&"0".to_owned()).is_some());
    let error = Replicas::new(set(1)).eject_by_route(strict(1), 5_000, by).map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[test]
fn a_set_that_is_dropped_leaves_nothing_of_its_routes_behind() {
    let endpoints = set(3);
    let replicas = routed(&endpoints, strict(1), LeastPending);
    end(&replicas, "/pay", "0", Outcome::Failure, 1);
    let cell = std::sync::Arc::downgrade(&endpoints.current().find("0").unwrap().cell);
    let (routes, lease) = (endpoints.routes().unwrap().clone(), replicas.pick_for(&(1, "/pay")));
    drop((endpoints, replicas));
    drop(lease);
    assert_eq!((cell.strong_count(), routes.explain(time::now())[0].1.endpoints), (0, 0));
}

const ROUTES: [&str; 4] = ["/pay", "/list", "/cart", "/help"]; // of which two are told apart

/// What must hold after every step.
fn holds(step: u32, endpoints: &Endpoints<()>, held: &[(Picked<()>, &str)]) {
    let detectors = endpoints.routes().unwrap();
    for (route, on) in endpoints.explain().routes {
        let counted = endpoints.describe().iter().filter(|endpoint| endpoint.status != Status::Draining).count();
        assert_eq!(on.endpoints, counted, "step {step}: {route}");
        let allowed = detectors.of(&route).settings().allowed(counted);
        assert!(on.out.len() <= allowed, "step {step}: {route}: {on}");
        for out in on.out.iter().filter(|out| out.standing == Standing::Probing) {
            let mine = |(picked, of): &&(Picked<()>, &str)| {
                picked.lease.is_probe() && picked.key() == &*out.key && (*of == route || route == "the rest")
            };
            assert!(held.iter().any(|held| mine(&held)), "step {step}: {route} waits for a probe that nobody has");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_thousand_steps_keep_the_cap_of_every_route_and_one_probe_at_a_time() {
    let (mut rng, endpoints) = (Seed::new(23).rng(), set(5));
    let by: fn(&Request) -> &str = path;
    let settings = |rng: &mut Rng| strict(1 + rng.below(2) as u32).cap([25, 50, 100][rng.below(3) as usize]).panic(30);
    let replicas = Replicas::new(endpoints.clone()).eject_by_route(settings(&mut rng), 2, by).unwrap();
    let (mut held, mut outs, mut probes): (Vec<(Picked<()>, &str)>, _, _) = (Vec::new(), 0, 0);
    for step in 0..2_000_u32 {
        let (key, route) = (rng.below(7).to_string(), ROUTES[rng.below(4) as usize]);
        match rng.below(20) {
            0 => endpoints.insert(key, ()),
            1 if rng.chance(0.5) => endpoints.remove(&key),
            2 if rng.chance(0.3) => endpoints.drain(&key),
            3 => drop(endpoints.set_ready(&key, rng.chance(0.8))),
            4 if rng.chance(0.2) => endpoints.routes().unwrap().set(settings(&mut rng), time::now()).unwrap(),
            5..12 => {
                let told = || {
                    let all = endpoints.explain().routes;
                    let of = all.iter().find(|(name, _)| name == route).or_else(|| all.last()).cloned();
                    of.map(|(_, on)| on).filter(|_| all.len() == 3)
                };
                let before = told();
                let Some(picked) = replicas.pick_for(&(u64::from(step), route)) else { continue };
                if let Some(before) = before.filter(|before| !before.panics) {
                    let was = before.out.iter().find(|out| &*out.key == picked.key());
                    assert!(was.is_none_or(|was| was.standing == Standing::Due), "step {step}: {route}: {before}");
                    assert_eq!(picked.lease.is_probe(), was.is_some(), "step {step}: {route}: {before}");
                    outs += before.out.len();
                }
                probes += u32::from(picked.lease.is_probe());
                held.push((picked, route));
            }
            12..18 if !held.is_empty() => {
                let (picked, of) = held.swap_remove(rng.below(held.len() as u64) as usize);
                let bad = picked.key().parse::<usize>().unwrap() % 4 == ROUTES.iter().position(|to| *to == of).unwrap();
                match rng.below(8) {
                    0 => drop(picked),
                    _ if bad && rng.chance(0.8) => picked.lease.complete(Outcome::Failure),
                    _ => picked.lease.complete(Outcome::Success),
                }
            }
            _ => time::sleep(Duration::from_millis(rng.below(700))).await,
        }
        holds(step, &endpoints, &held);
    }
    assert!(outs > 300 && probes > 20, "{outs} {probes}");
    held.clear();
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.pending == 0));
    let now: Instant = time::now();
    let explained = endpoints.routes().unwrap().explain(now);
    assert!(explained.iter().all(|(_, on)| on.out.iter().all(|out| out.standing != Standing::Probing)));
}
