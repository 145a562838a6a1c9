//! Ejection as picks see it: ten thousand steps against a model, and each picker in turn.

use super::*;
use crate::{
    base::{Error, Outcome, Rng, time::Instant},
    serving::{
        LeastPending, PeakEwma, Picked, Random, Replicas, Ring, RoundRobin, SlowStart, Status, eject::Standing,
        load::Watch,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

const SECOND: Duration = Duration::from_secs(1);

fn strict(failures: u32) -> Ejection {
    Ejection::none().failures(failures).wait(SECOND).jitter(0.0)
}

fn set(count: usize, settings: Ejection) -> Endpoints<()> {
    let endpoints = Endpoints::named("watched").seed(Seed::new(5)).eject(settings).unwrap();
    endpoints.update(|changes| {
        for number in 0..count {
            changes.insert(number.to_string(), ());
        }
    });
    endpoints
}

/// Ends so many calls at this endpoint like that, wherever a pick would go.
fn end(endpoints: &Endpoints<()>, key: &str, outcome: Outcome, times: u32) {
    let current = endpoints.current_shared();
    let cell = &current.find(key).unwrap().cell;
    (0..times).for_each(|_| crate::serving::Lease::new(cell, Watch::Answer).complete(outcome));
}

fn out(endpoints: &Endpoints<()>) -> String {
    let keys: Vec<String> = endpoints.explain().out.iter().map(|out| out.key.to_string()).collect();
    keys.join(" ")
}

fn status(endpoints: &Endpoints<()>, key: &str) -> Status {
    endpoints.describe().into_iter().find(|endpoint| &*endpoint.key == key).unwrap().status
}

/// A picker of a user: the first that can be picked, by its place.
#[derive(Clone)]
struct First;

impl<Req: ?Sized> Picker<Req> for First {
    fn choose<S>(&self, among: &Among<'_, S>, _: &Req, _: &mut Draw) -> Option<Choice> {
        (0..among.len()).find(|place| among.is_pickable(*place)).map(Choice::of)
    }
}

/// What every picker owes, without knowing of it.
async fn obeys<P: Picker<u64>>(picker: P, name: &str) {
    let endpoints = set(4, strict(2).wait(30 * SECOND));
    let replicas = Replicas::new(endpoints.clone()).pick_by(picker);
    let picks = |count: u64| -> Vec<Picked<()>> { (0..count).filter_map(|n| replicas.pick_for(&n)).collect() };
    let of = |picked: &[Picked<()>], key: &str| picked.iter().filter(|picked| picked.key() == key).count();
    // busy elsewhere or slow here: no reason to leave out the probe
    end(&endpoints, "0", Outcome::Throttled(Some(300 * SECOND)), 1);
    end(&endpoints, "0", Outcome::Failure, 2);
    for _ in 0..10 {
        let picked = picks(200);
        assert_eq!((picked.len(), of(&picked, "0")), (200, 0), "{name}");
        time::sleep(2 * SECOND).await;
    }
    time::sleep(10 * SECOND).await;
    for outcome in [Outcome::Cancelled, Outcome::Superseded, Outcome::Ignored] {
        let mut picked = picks(1_000);
        assert_eq!((picked.len(), of(&picked, "0")), (1_000, 1), "{name}: one at a time");
        let place = picked.iter().position(|picked| picked.key() == "0").unwrap();
        let probe = picked.swap_remove(place);
        assert_eq!(endpoints.explain().out[0].standing, Standing::Probing, "{name}");
        match outcome {
            Outcome::Cancelled => drop(probe),
            outcome => probe.lease.complete(outcome),
        }
        assert_eq!(endpoints.explain().out[0].standing, Standing::Due, "{name}: {outcome:?} leaves its place");
    }
    let probe = picks(1_000).into_iter().find(|picked| picked.key() == "0").unwrap();
    probe.lease.complete(Outcome::Throttled(Some(100 * SECOND)));
    assert_eq!(endpoints.explain().next(), Some(100 * SECOND), "{name}: a throttled probe has failed");
    time::sleep(99 * SECOND).await;
    assert_eq!(of(&picks(1_000), "0"), 0, "{name}");
    time::sleep(SECOND).await;
    let probe = picks(1_000).into_iter().find(|picked| picked.key() == "0").unwrap();
    probe.lease.complete(Outcome::Success);
    assert_eq!((out(&endpoints).as_str(), endpoints.ejection().unwrap().out()), ("", 0), "{name}");
    assert_eq!(status(&endpoints, "0"), Status::Ready, "{name}");
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.pending == 0), "{name}");
}

#[tokio::test(start_paused = true)]
async fn every_picker_passes_over_who_is_out_and_lets_one_probe_through_at_a_time() {
    obeys(LeastPending, "least pending").await;
    obeys(PeakEwma::new(), "peak ewma").await;
    obeys(RoundRobin::seed(Seed::new(1)), "round robin").await;
    obeys(Random, "random").await;
    obeys(Ring::by_number(|request: &u64| *request), "ring").await;
    obeys(First, "one of a user").await;
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_the_race_for_a_probe_goes_to_another() {
    let (endpoints, mut draw) = (set(3, strict(1)), Draw::new(Seed::new(1).rng()));
    end(&endpoints, "0", Outcome::Failure, 1);
    time::sleep(SECOND).await;
    let current = endpoints.current_shared();
    let among = Among::new(&current);
    let (first, late) = (First.choose(&among, &(), &mut draw).unwrap(), First.choose(&among, &(), &mut draw).unwrap());
    assert_eq!((first.place, late.place), (0, 0), "both see that it is due");
    let first = on_trial(&First, &among, &(), &mut draw, first).unwrap();
    let late = on_trial(&First, &among, &(), &mut draw, late).unwrap();
    assert_eq!((first.place, first.watch, late.place), (0, Watch::Probe(0), 1));
    let insists = on_trial(&First, &among, &(), &mut draw, Choice::of(0)).unwrap();
    assert_eq!(insists.place, 1);
}

/// An endpoint that cannot be cloned, where it is told so.
struct Brittle(Arc<AtomicBool>);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Relaxed), "while it is cloned");
        Brittle(self.0.clone())
    }
}

impl Service<u64> for Brittle {
    type Response = u64;
    type Error = Error;
    type Future = std::future::Ready<Result<u64>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        std::future::ready(Ok(request))
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_endpoint_panics_while_it_is_cloned_gives_its_place_back() {
    let endpoints = Endpoints::named("brittle").eject(strict(1).cap(100).panic(0)).unwrap();
    let breaks = Arc::new(AtomicBool::new(false));
    endpoints.insert("0", Brittle(breaks.clone()));
    let mut replicas = Replicas::new(endpoints.clone());
    replicas.pick().unwrap().lease.complete(Outcome::Failure);
    time::sleep(SECOND).await;
    breaks.store(true, Relaxed);
    let panics = |probe: &mut dyn FnMut()| {
        assert!(catch_unwind(AssertUnwindSafe(probe)).is_err());
        assert_eq!((endpoints.explain().out[0].standing, endpoints.pending("0")), (Standing::Due, Some(0)));
    };
    panics(&mut || drop(replicas.pick()));
    panics(&mut || drop(replicas.clone().call(7)));
    breaks.store(false, Relaxed);
    assert_eq!(replicas.call(7).await.unwrap(), 7);
    assert!(endpoints.explain().out.is_empty());
}

#[tokio::test(start_paused = true)]
async fn how_long_a_probe_took_counts_for_the_picker_that_measures() {
    let endpoints = set(2, strict(1).wait(100 * SECOND));
    let replicas = Replicas::new(endpoints.clone()).pick_by(PeakEwma::new());
    for _ in 0..10 {
        let picked = replicas.pick().unwrap();
        time::sleep(SECOND / 100).await;
        picked.lease.complete(Outcome::Success);
    }
    end(&endpoints, "0", Outcome::Failure, 1);
    time::sleep(100 * SECOND).await;
    let probe = std::iter::from_fn(|| replicas.pick()).find(|picked| picked.key() == "0").unwrap();
    let other = replicas.pick().unwrap();
    time::sleep(SECOND / 100).await;
    other.lease.complete(Outcome::Success);
    time::sleep(2 * SECOND).await;
    probe.lease.complete(Outcome::Success);
    assert_eq!(out(&endpoints), "");
    assert!((0..100).all(|_| replicas.pick().unwrap().key() == "1"), "it is back, and slow");
}

#[tokio::test(start_paused = true)]
async fn where_too_many_are_out_all_are_used_and_probes_still_bring_them_back() {
    let endpoints = set(10, strict(1).cap(100).panic(50));
    let replicas = Replicas::new(endpoints.clone()).pick_by(Random);
    let keys =
        || (0..500).filter_map(|_| replicas.pick()).map(|picked| picked.key().to_owned()).collect::<BTreeSet<_>>();
    for number in 0..5 {
        end(&endpoints, &number.to_string(), Outcome::Failure, 1);
    }
    assert_eq!((keys().len(), endpoints.explain().panics), (5, false), "half are left");
    end(&endpoints, "5", Outcome::Failure, 1);
    assert_eq!((keys().len(), endpoints.explain().panics, status(&endpoints, "0")), (10, true, Status::Panic));
    assert!(endpoints.explain().to_string().starts_with("6 of 10 out, 10 allowed, all are used: too few are in\n"));
    // what calls to them say does not count while they are out, only probes do
    end(&endpoints, "0", Outcome::Success, 100);
    assert_eq!(endpoints.explain().out.len(), 6);
    time::sleep(SECOND).await;
    let mut at = BTreeMap::new();
    let picked: Vec<_> = (0..500).filter_map(|_| replicas.pick()).collect();
    picked.iter().for_each(|picked| *at.entry(picked.key().to_owned()).or_insert(0) += 1);
    assert!(at.len() == 10 && at.values().all(|calls| *calls > 20), "also beside a probe: {at:?}");
    assert!(endpoints.explain().out.iter().all(|out| out.standing == Standing::Probing));
    picked.into_iter().for_each(|picked| picked.lease.complete(Outcome::Success));
    assert_eq!((out(&endpoints).as_str(), status(&endpoints, "0")), ("", Status::Ready));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_ready_counts_as_missing_and_who_drains_does_not_count() {
    let endpoints = set(10, strict(1).panic(50));
    for number in 0..4 {
        end(&endpoints, &number.to_string(), Outcome::Failure, 1);
    }
    assert_eq!((status(&endpoints, "0"), endpoints.explain().panics), (Status::Ejected, false));
    endpoints.set_ready("9", false);
    assert!(!endpoints.explain().panics);
    endpoints.set_ready("8", false);
    assert_eq!((status(&endpoints, "0"), endpoints.explain().panics), (Status::Panic, true), "4 of 10 are left");
    endpoints.set_ready("8", true);
    assert_eq!((status(&endpoints, "0"), endpoints.explain().panics), (Status::Ejected, false));
    endpoints.set_ready("0", false);
    assert_eq!(status(&endpoints, "0"), Status::Unready, "out and not ready is missing once");
    assert!(!endpoints.explain().panics);
    // out of six no more than three may be out: the longest out comes back
    (4..8).for_each(|number| endpoints.drain(&number.to_string()));
    let explanation = endpoints.explain();
    assert_eq!((explanation.endpoints, explanation.allowed, out(&endpoints).as_str()), (6, 3, "1 2 3"));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_or_drains_is_forgotten_and_who_is_replaced_stays_out() {
    let endpoints = set(4, strict(1));
    let eject = |key: &str| {
        end(&endpoints, key, Outcome::Failure, 1);
        assert_eq!((out(&endpoints).as_str(), status(&endpoints, key)), (key, Status::Ejected));
    };
    eject("0");
    endpoints.insert("0", ());
    assert_eq!(out(&endpoints), "0");
    endpoints.update(|changes| {
        changes.clear();
        (0..4).for_each(|number| {
            changes.insert(number.to_string(), ());
        });
    });
    assert_eq!((out(&endpoints).as_str(), status(&endpoints, "0")), ("0", Status::Ejected), "told anew as a whole");
    endpoints.remove("0");
    endpoints.insert("0", ());
    assert_eq!((out(&endpoints).as_str(), status(&endpoints, "0")), ("", Status::Ready));
    eject("0");
    endpoints.drain("0");
    assert_eq!((out(&endpoints).as_str(), status(&endpoints, "0")), ("", Status::Draining));
    end(&endpoints, "0", Outcome::Failure, 9);
    endpoints.insert("0", ());
    assert_eq!((out(&endpoints).as_str(), status(&endpoints, "0")), ("", Status::Ready), "with a clean slate");
    eject("0");
    endpoints.update(|changes| changes.clear());
    assert_eq!((endpoints.explain().endpoints, out(&endpoints).as_str()), (0, ""));
}

#[tokio::test(start_paused = true)]
async fn settings_change_while_requests_flow_and_nonsense_changes_nothing() {
    let endpoints = set(4, Ejection::none());
    end(&endpoints, "0", Outcome::Failure, 50);
    assert_eq!(out(&endpoints), "");
    let endpoints = endpoints.eject(strict(2)).unwrap();
    end(&endpoints, "0", Outcome::Failure, 2);
    end(&endpoints, "1", Outcome::Failure, 2);
    assert_eq!(out(&endpoints), "0 1");
    let error = endpoints.clone().eject(strict(2).cap(101)).unwrap_err();
    assert_eq!(error.to_string(), "ejection: invalid: the cap is a percentage, not 101");
    endpoints.ejection().unwrap().set(strict(2).cap(25), time::now()).unwrap();
    assert_eq!((out(&endpoints).as_str(), status(&endpoints, "0")), ("1", Status::Ready), "the longest out is back");
    assert_eq!(endpoints.explain().allowed, 1);
    let plain = Endpoints::named("plain");
    plain.insert("a", ());
    assert_eq!((plain.explain().to_string().as_str(), plain.ejection().is_none()), ("0 of 1 out, 0 allowed", true));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_starts_slowly_where_new_ones_do() {
    for slow in [false, true] {
        let endpoints = set(10, strict(1));
        let endpoints = if slow { endpoints.slow_start(SlowStart::over(100 * SECOND)) } else { endpoints };
        let replicas = Replicas::new(endpoints.clone()).pick_by(Random);
        end(&endpoints, "3", Outcome::Failure, 1);
        time::sleep(SECOND).await;
        let probe = std::iter::from_fn(|| replicas.pick()).find(|picked| picked.key() == "3").unwrap();
        probe.lease.complete(Outcome::Success);
        let share = (0..10_000).filter(|_| replicas.pick().unwrap().key() == "3").count();
        assert!(if slow { (60..160).contains(&share) } else { (900..1_100).contains(&share) }, "{slow}: {share}");
        assert_eq!(matches!(status(&endpoints, "3"), Status::Warming(_)), slow);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_s_word_brings_back_where_the_settings_say_so() {
    for heal in [true, false] {
        let endpoints = set(3, strict(1).heal(heal));
        end(&endpoints, "0", Outcome::Failure, 1);
        endpoints.set_ready("0", true);
        assert_eq!(out(&endpoints), if heal { "" } else { "0" });
    }
}

#[test]
fn a_set_that_is_dropped_leaves_nothing_behind() {
    let endpoints = set(3, strict(1));
    end(&endpoints, "0", Outcome::Failure, 1);
    let cell = endpoints.current().find("0").unwrap().cell.clone();
    let detector = endpoints.ejection().unwrap().clone();
    let lease = Replicas::new(endpoints.clone()).pick();
    drop(endpoints);
    assert_eq!((detector.out(), crate::base::sync::Counted::strong_count(&cell)), (0, 1), "only who looks has it");
    drop(lease);
}

struct Model {
    weight: u32,
    ready: bool,
    draining: bool,
}

impl Model {
    fn counts(&self) -> bool {
        self.weight > 0 && !self.draining
    }
}

struct Held {
    picked: Picked<()>,
    probe: bool,
}

fn settings(rng: &mut Rng) -> Ejection {
    let caps = [0, 25, 33, 50, 80, 100];
    let settings = strict(1 + rng.below(3) as u32).cap(caps[rng.below(6) as usize]).panic(rng.below(3) as u32 * 40);
    let settings = settings.at_least_one(rng.chance(0.2)).probation(rng.chance(0.9)).heal(rng.chance(0.2));
    settings.wait(SECOND / 4).wait_max(SECOND).rate(0.5, 5 * SECOND, 6).fleet(1.9, 3, 5)
}

fn pick(replicas: &Endpoints<()>, which: u64, request: u64, turns: &RoundRobin) -> Option<Picked<()>> {
    let replicas = Replicas::new(replicas.clone());
    match which {
        0 => replicas.pick_by(LeastPending).pick_for(&request),
        1 => replicas.pick_by(PeakEwma::new()).pick_for(&request),
        2 => replicas.pick_by(Random).pick_for(&request),
        3 => replicas.pick_by(turns.clone()).pick_for(&request),
        4 => replicas.pick_by(First).pick_for(&request),
        _ => replicas.pick_by(Ring::by_number(|request: &u64| *request)).pick_for(&request),
    }
}

/// What must hold after every step.
fn holds(step: u32, endpoints: &Endpoints<()>, model: &BTreeMap<String, Model>, held: &[Held], now: Instant) {
    let (explanation, detector) = (endpoints.explain(), endpoints.ejection().unwrap());
    let counted = model.values().filter(|known| known.counts()).count();
    assert_eq!(explanation.endpoints, counted, "step {step}");
    assert!(explanation.out.len() <= detector.settings().allowed(counted), "step {step}: {explanation}");
    let is_out = |key: &str| explanation.out.iter().find(|out| &*out.key == key);
    let left = model.iter().filter(|(key, known)| known.counts() && known.ready && is_out(key).is_none()).count();
    let panics = !explanation.out.is_empty() && detector.settings().panics(left, counted);
    assert_eq!(explanation.panics, panics, "step {step}: {explanation}");
    for endpoint in endpoints.describe() {
        let (key, known) = (&*endpoint.key, &model[&*endpoint.key]);
        let status = match is_out(key) {
            _ if !known.counts() => Status::Draining,
            _ if !known.ready => Status::Unready,
            Some(_) if panics => Status::Panic,
            Some(_) => Status::Ejected,
            None => Status::Ready,
        };
        assert_eq!(endpoint.status, status, "step {step}: {key}");
        let tried = held.iter().filter(|held| held.probe && held.picked.key() == key).count();
        let probing = is_out(key).is_some_and(|out| out.standing == Standing::Probing);
        assert!(!probing || tried >= 1, "step {step}: {key} waits for a probe that nobody has");
        assert!(is_out(key).is_none_or(|out| out.since <= now), "step {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_steps_keep_the_cap_and_one_probe_at_a_time_and_agree_with_a_model() {
    let (mut rng, turns) = (Seed::new(23).rng(), RoundRobin::seed(Seed::new(1)));
    let endpoints = Endpoints::named("churn").seed(Seed::new(9)).eject(settings(&mut rng)).unwrap();
    let mut model: BTreeMap<String, Model> = BTreeMap::new();
    let mut held: Vec<Held> = Vec::new();
    let (mut picks, mut refusals, mut probes, mut panics) = (0, 0, 0, 0);
    for step in 0..10_000_u32 {
        let key = rng.below(9).to_string();
        match rng.below(32) {
            0 | 1 => {
                let weight = rng.below(4) as u32;
                endpoints.update(|changes| {
                    changes.insert(key.as_str(), ()).weight(weight);
                });
                let known = model.entry(key).or_insert(Model { weight, ready: true, draining: false });
                (known.weight, known.draining) = (weight, false);
            }
            2 if rng.chance(0.3) => {
                endpoints.remove(&key);
                model.remove(&key);
            }
            3 if rng.chance(0.3) => {
                endpoints.drain(&key);
                model.entry(key).and_modify(|known| known.draining = true);
            }
            4 | 5 => {
                let ready = rng.chance(0.8);
                endpoints.set_ready(&key, ready);
                model.entry(key).and_modify(|known| known.ready = ready);
            }
            6 if rng.chance(0.1) => drop(endpoints.clone().eject(settings(&mut rng)).unwrap()),
            7..18 => {
                let before = endpoints.explain();
                let right = |key: &str| {
                    let due = |out: &crate::serving::eject::Explained| before.panics || out.standing == Standing::Due;
                    let known = &model[key];
                    let out = before.out.iter().find(|out| &*out.key == key);
                    known.counts() && known.ready && out.is_none_or(due)
                };
                let picked = pick(&endpoints, rng.below(6), rng.next_u64(), &turns);
                assert_eq!(picked.is_some(), model.keys().any(|key| right(key)), "step {step}: {before}");
                let Some(picked) = picked else {
                    refusals += 1;
                    continue;
                };
                assert!(right(picked.key()), "step {step}: {} of {before}", picked.key());
                let probe = picked.lease.is_probe();
                let due = |out: &&crate::serving::eject::Explained| {
                    &*out.key == picked.key() && out.standing == Standing::Due
                };
                let probation = endpoints.ejection().unwrap().settings();
                assert_eq!(probe, before.out.iter().any(|out| due(&out)) && probes_are_made(&probation), "step {step}");
                picks += 1;
                probes += u32::from(probe);
                panics += u32::from(before.panics);
                held.push(Held { picked, probe });
            }
            18..28 if !held.is_empty() => {
                let Held { picked, .. } = held.swap_remove(rng.below(held.len() as u64) as usize);
                let bad = picked.key().parse::<u32>().unwrap().is_multiple_of(2);
                match rng.below(8) {
                    0 => drop(picked),
                    1 => picked.lease.complete(Outcome::Throttled(None)),
                    2 => picked.lease.complete(Outcome::LocalOrigin),
                    _ if bad => picked.lease.complete(Outcome::Failure),
                    _ => picked.lease.complete(Outcome::Success),
                }
            }
            _ => time::sleep(Duration::from_millis(rng.below(700))).await,
        }
        holds(step, &endpoints, &model, &held, time::now());
    }
    assert!(picks > 2_000 && refusals > 20 && probes > 60 && panics > 100, "{picks} {refusals} {probes} {panics}");
    held.clear();
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.pending == 0));
    assert!(endpoints.explain().out.iter().all(|out| out.standing != Standing::Probing));
}

fn probes_are_made(settings: &Ejection) -> bool {
    *settings == settings.clone().probation(true)
}
