//! The detector as a whole: the numbers of Envoy, linkerd and Finagle, and millions of random steps.

use super::*;
use crate::base::{Kind, Outcome, Rng};
use std::{collections::BTreeMap, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

/// A detector with endpoints named by number, on a clock of its own.
struct World {
    detector: Detector,
    watched: Vec<Watched>,
    start: Instant,
    now: Instant,
}

fn world(settings: Ejection, endpoints: usize) -> World {
    let detector = Detector::new(settings).unwrap().seed(Seed::new(1));
    let watched = (0..endpoints).map(|number| detector.join(number.to_string())).collect();
    let start = detector.0.start;
    World { detector, watched, start, now: start }
}

impl World {
    fn at(&mut self, millis: u64) -> &mut Self {
        self.now = self.start + Duration::from_millis(millis);
        self
    }

    fn record(&self, endpoint: usize, outcome: Outcome, times: usize) {
        (0..times).for_each(|_| self.watched[endpoint].record(outcome, || self.now));
    }

    fn tick(&self) {
        self.detector.tick(self.now);
    }

    fn fail(&self, endpoint: usize, times: usize) {
        self.record(endpoint, Outcome::Failure, times);
    }

    fn succeed(&self, endpoint: usize, times: usize) {
        self.record(endpoint, Outcome::Success, times);
    }

    fn admit(&self, endpoint: usize) -> Admit {
        self.watched[endpoint].admit(self.now)
    }

    fn probe(&self, endpoint: usize) -> Probe {
        match self.admit(endpoint) {
            Admit::Probe(probe) => probe,
            other => panic!("{other:?}: {}", self.detector.explain(self.now)),
        }
    }

    fn out(&self) -> Vec<String> {
        self.detector.explain(self.now).out.iter().map(|out| out.key.to_string()).collect()
    }

    /// How long this one is out from now on.
    fn wait(&self, endpoint: usize) -> Duration {
        let out = self.detector.explain(self.now).out;
        out.iter().find(|out| *out.key == endpoint.to_string()).unwrap().until - self.now
    }
}

#[test]
fn five_failures_in_a_row_put_out_for_the_base_time_and_no_shorter() {
    let mut world = world(Ejection::envoy().cap(100), 1);
    world.fail(0, 4);
    assert!(world.watched[0].is_in());
    world.fail(0, 1);
    assert!(!world.watched[0].is_in() && matches!(world.admit(0), Admit::Out));
    for millis in [9_999, 29_999] {
        world.at(millis).tick();
        assert!(matches!(world.admit(0), Admit::Out), "{millis}");
    }
    assert!(matches!(world.at(30_001).admit(0), Admit::In) && world.watched[0].is_in());
    world.fail(0, 5);
    assert_eq!(world.wait(0), 60 * SECOND, "the second time");
    world.at(90_001 + 1).tick();
    assert_eq!((world.detector.out(), world.detector.version()), (0, 4));
}

#[test]
fn each_healthy_interval_takes_one_step_back_and_the_longest_time_is_kept() {
    let mut world = world(Ejection::envoy().cap(100), 1);
    let mut waits = Vec::new();
    for _ in 0..14 {
        world.fail(0, 5);
        waits.push(world.wait(0).as_secs());
        world.now += world.wait(0);
        world.tick();
        assert!(world.watched[0].is_in());
    }
    assert_eq!(waits, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300, 300]);
    world.now += 110 * SECOND; // eleven intervals
    world.fail(0, 5);
    assert_eq!(world.wait(0), 120 * SECOND, "14 - 11 + 1 times 30 s");
}

#[test]
fn a_success_begins_a_new_row_and_what_says_nothing_does_not() {
    let world = world(Ejection::new().cap(100), 1);
    world.fail(0, 4);
    world.succeed(0, 1);
    world.fail(0, 4);
    for outcome in [Outcome::Ignored, Outcome::Superseded, Outcome::Cancelled, Outcome::Throttled(None)] {
        world.record(0, outcome, 10);
    }
    assert!(world.watched[0].is_in());
    world.fail(0, 1);
    assert_eq!(world.detector.explain(world.now).out[0].why, Reason::InARow { failures: 5 });
}

#[test]
fn local_origin_counts_as_failure_unless_it_is_split() {
    let together = world(Ejection::envoy().cap(100), 1);
    together.record(0, Outcome::LocalOrigin, 2);
    together.fail(0, 3);
    assert_eq!(together.detector.explain(together.now).out[0].why, Reason::InARow { failures: 5 });

    let settings = Ejection::envoy().cap(100).local_origin(4).split(true);
    let split = world(settings.clone(), 2);
    for _ in 0..10 {
        split.fail(0, 1); // the application answers: not a row of local origin
        split.record(0, Outcome::LocalOrigin, 3);
        split.succeed(0, 1);
    }
    assert!(split.watched[0].is_in());
    split.record(0, Outcome::LocalOrigin, 4);
    assert_eq!(split.detector.explain(split.now).out[0].why, Reason::LocalOrigin { failures: 4 });
    split.fail(1, 4);
    split.record(1, Outcome::LocalOrigin, 3);
    assert!(split.watched[1].is_in());
    split.fail(1, 1);
    assert_eq!(split.out(), ["0", "1"]);

    let mut rates = world(settings.local_origin(0).failures(0), 5);
    for endpoint in 0..5 {
        rates.succeed(endpoint, 100);
    }
    rates.record(4, Outcome::LocalOrigin, 100);
    rates.at(10_000).tick();
    assert!(rates.out().is_empty(), "split, it is not held against the rate either");
}

#[test]
fn the_fleet_s_outlier_is_put_out_after_the_interval_as_in_envoy() {
    let mut world = world(Ejection::envoy().failures(0).cap(100), 5);
    (0..4).for_each(|endpoint| world.succeed(endpoint, 200));
    world.succeed(4, 100);
    world.fail(4, 99);
    world.at(9_999).tick();
    assert!(world.out().is_empty());
    world.fail(4, 1);
    world.at(10_000).tick();
    assert_eq!(
        world.detector.explain(world.now).to_string(),
        "1 of 5 out, 5 allowed\n\
         4: ejected since 0 s, 30 s to go: 50 % of 200 against the fleet's 90 %, less than 52 %"
    );
    // the next interval begins from nothing, and who is out is not part of the fleet
    (0..4).for_each(|endpoint| world.succeed(endpoint, 200));
    world.at(20_000).tick();
    assert_eq!(world.out(), ["4"]);
    world.at(40_000).tick();
    assert!(world.out().is_empty());
}

#[test]
fn the_first_failure_after_the_interval_ends_it_without_a_tick() {
    let mut world = world(Ejection::envoy().failures(0).cap(100), 5);
    (0..4).for_each(|endpoint| world.succeed(endpoint, 200));
    world.fail(4, 200);
    world.at(10_001).fail(0, 1);
    assert_eq!(world.out(), ["4"]);
}

#[test]
fn an_interval_without_requests_divides_nothing_by_zero() {
    let settings = Ejection::none().fleet(0.0, 0, 0).failing(0.01, 0, 0).rate(1.0, SECOND, 0);
    let mut world = world(settings, 5);
    for interval in 1..100 {
        world.at(interval * 10_000).tick();
    }
    assert!(world.out().is_empty());
    world.detector.leave("0", world.now);
    Detector::new(Ejection::none().fleet(0.0, 0, 0)).unwrap().tick(world.now + 10 * SECOND);
}

#[test]
fn a_share_of_failures_is_judged_on_its_own() {
    let mut world = world(Ejection::none().failing(0.85, 5, 50).cap(100), 5);
    for endpoint in 0..5 {
        let bad = if endpoint < 3 { 51 } else { 50 };
        world.fail(endpoint, bad);
        world.succeed(endpoint, 60 - bad);
    }
    world.at(10_000).tick();
    assert_eq!(world.out(), ["0", "1", "2"]);
}

#[test]
fn who_leaves_while_out_is_forgotten_and_comes_back_clean() {
    let mut world = world(Ejection::new().cap(100), 2);
    world.fail(0, 5);
    let old = world.watched[0].clone();
    world.detector.leave("0", world.now);
    assert_eq!((world.detector.out(), world.detector.explain(world.now).endpoints), (0, 1));
    world.watched[0] = world.detector.join("0");
    assert!(world.watched[0].is_in() && old.is_in());
    (0..50).for_each(|_| old.record(Outcome::Failure, || world.now));
    assert!(world.out().is_empty(), "what ends late is held against nobody else");
    world.fail(0, 5);
    let probe = world.at(60_000).probe(0);
    world.detector.leave("0", world.now);
    world.watched[0] = world.detector.join("0");
    probe.settle(Outcome::Failure, world.now);
    assert!(world.watched[0].is_in());
    world.detector.leave("none", world.now);
}

#[test]
fn one_probe_at_a_time_decides_and_others_that_end_meanwhile_do_not() {
    let mut world = world(Ejection::linkerd().jitter(0.0), 1);
    world.fail(0, 7);
    assert!(matches!(world.at(999).admit(0), Admit::Out));
    let probe = world.at(1_000).probe(0);
    assert!(matches!(world.admit(0), Admit::Out) && !world.watched[0].is_in());
    world.succeed(0, 100);
    world.fail(0, 100);
    assert_eq!(world.detector.explain(world.now).out[0].standing, Standing::Probing);
    probe.settle(Outcome::Failure, world.now);
    assert_eq!((world.wait(0), world.detector.explain(world.now).out[0].probes_failed), (2 * SECOND, 1));
    world.at(3_000).probe(0).settle(Outcome::Success, world.now);
    assert!(world.watched[0].is_in());
    world.fail(0, 7);
    assert_eq!(world.wait(0), SECOND, "from the first time out again");
}

#[test]
fn a_probe_that_is_throttled_has_failed_and_one_that_says_nothing_is_made_again() {
    let mut world = world(Ejection::linkerd().jitter(0.0), 1);
    world.fail(0, 7);
    world.at(1_000).probe(0).settle(Outcome::Throttled(None), world.now);
    assert_eq!(world.wait(0), 2 * SECOND);
    world.at(3_000).probe(0).settle(Outcome::Throttled(Some(20 * SECOND)), world.now);
    assert_eq!(world.wait(0), 20 * SECOND, "as long as it asks");
    world.at(23_000).probe(0).settle(Outcome::Throttled(Some(9_000 * SECOND)), world.now);
    assert_eq!(world.wait(0), 60 * SECOND, "but no longer than the longest");
    world.at(83_000);
    for outcome in [Outcome::Ignored, Outcome::Superseded, Outcome::Cancelled] {
        world.probe(0).settle(outcome, world.now);
        assert_eq!(world.detector.explain(world.now).out[0].standing, Standing::Due);
    }
    drop(world.probe(0));
    drop(world.probe(0));
    world.probe(0).settle(Outcome::Success, world.now);
    assert!(world.watched[0].is_in());
}

#[test]
fn a_slow_probe_that_is_overtaken_settles_nothing() {
    let mut world = world(Ejection::linkerd().jitter(0.0), 2);
    world.fail(0, 7);
    let slow = world.at(1_000).probe(0);
    world.watched[0].heal(world.now);
    assert!(world.watched[0].is_in());
    world.fail(0, 7);
    let next = world.at(3_000).probe(0);
    slow.settle(Outcome::Success, world.now);
    assert_eq!(world.detector.explain(world.now).out[0].standing, Standing::Probing);
    next.settle(Outcome::Success, world.now);
    assert!(world.watched[0].is_in());
}

#[test]
fn a_probe_that_does_not_end_gives_its_place_to_the_next_request() {
    let mut world = world(Ejection::linkerd().jitter(0.0), 1);
    let standing = |world: &World| world.detector.explain(world.now).out[0].standing;
    world.fail(0, 7);
    let endless = world.at(1_000).probe(0);
    world.at(30_999);
    assert!(matches!(world.admit(0), Admit::Out) && standing(&world) == Standing::Probing);
    world.at(31_000);
    assert!(world.watched[0].is_due(world.now) && standing(&world) == Standing::Due);
    let next = world.probe(0);
    assert!(matches!(world.admit(0), Admit::Out) && standing(&world) == Standing::Probing, "one at a time");
    endless.settle(Outcome::Failure, world.now);
    let out = &world.detector.explain(world.now).out[0];
    assert_eq!((out.standing, out.probes_failed), (Standing::Probing, 0), "what lost its place decides nothing");
    next.settle(Outcome::Failure, world.now);
    assert_eq!(world.wait(0), 2 * SECOND);
    let alone = world.at(33_000).probe(0);
    alone.settle(Outcome::Success, world.at(90_000).now);
    assert!(world.watched[0].is_in(), "late, and nobody has taken its place");
}

#[test]
fn an_active_probe_brings_back_at_once_where_the_settings_say_so() {
    for heal in [true, false] {
        let world = world(Ejection::envoy().cap(100).heal(heal), 1);
        world.fail(0, 5);
        world.watched[0].heal(world.now);
        assert_eq!(world.watched[0].is_in(), heal);
    }
}

#[test]
fn the_window_s_rate_needs_a_minimum_and_trips_before_the_row() {
    let settings = Ejection::linkerd().jitter(0.0);
    let mut world = world(settings, 3);
    world.fail(0, 4);
    assert!(world.watched[0].is_in(), "the cold start protects it");
    world.fail(0, 1);
    let why = world.detector.explain(world.now).out[0].why;
    assert_eq!(why, Reason::Rate { rate: 0.0, requests: 5, below: 0.8 }, "five of five, before seven in a row");
    // throttling counts in the rate alone
    world.record(1, Outcome::Throttled(None), 5);
    assert_eq!(world.out(), ["0", "1"]);
    assert!(world.at(500).watched[2].is_in());
}

#[test]
fn samples_age_out_of_the_window() {
    let mut world = world(Ejection::none().rate(0.8, 10 * SECOND, 5).cap(100), 1);
    for step in 0..100 {
        world.at(step * 2_500).fail(0, 1); // never five in ten seconds
        assert!(world.watched[0].is_in(), "{step}");
    }
    world.at(99 * 2_500 + 1_000).fail(0, 1);
    assert!(!world.watched[0].is_in());
}

#[test]
fn a_burst_of_failures_trips_whatever_the_rate_of_requests_was() {
    for gap in [1, 10, 100, 900] {
        let mut world = world(Ejection::none().rate(0.8, 10 * SECOND, 5), 2);
        let mut millis = 0;
        while millis < 60_000 {
            world.at(millis).succeed(0, 1);
            millis += gap;
        }
        let (good, mut failed) = (10_000 / gap, 0);
        while world.at(59_999).watched[0].is_in() {
            world.fail(0, 1);
            failed += 1;
        }
        let bound = good.div_ceil(4) + 5;
        assert!(failed <= bound, "{failed} failures after {good} successes in the window, {gap} ms apart");
    }
}

#[test]
fn after_an_idle_gap_the_cold_start_protects_again() {
    let mut world = world(Ejection::none().rate(0.8, 10 * SECOND, 5).cap(100), 1);
    world.fail(0, 4);
    world.at(4_300_000_000_000).fail(0, 4); // more than u32 parts of the window later
    assert!(world.watched[0].is_in());
    world.fail(0, 1);
    assert!(!world.watched[0].is_in());
}

#[test]
fn where_both_rules_are_crossed_at_once_the_row_is_the_reason() {
    let world = world(Ejection::none().failures(5).rate(0.8, 10 * SECOND, 5).cap(100), 1);
    world.fail(0, 5);
    assert_eq!(world.detector.explain(world.now).out[0].why, Reason::InARow { failures: 5 });
}

#[test]
fn finagle_s_time_out_grows_while_probes_fail_and_starts_again_after_a_success() {
    let mut world = world(Ejection::finagle().jitter(0.0).wait(5 * SECOND), 1);
    world.fail(0, 5);
    let mut waits = vec![world.wait(0).as_secs()];
    for _ in 0..8 {
        world.now += world.wait(0);
        let probe = world.probe(0);
        assert!(matches!(world.admit(0), Admit::Out));
        probe.settle(Outcome::Failure, world.now);
        assert!(matches!(world.admit(0), Admit::Out), "busy again");
        waits.push(world.wait(0).as_secs());
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    world.now += world.wait(0);
    world.probe(0).settle(Outcome::Success, world.now);
    world.fail(0, 5);
    assert_eq!(world.wait(0), 5 * SECOND);
}

#[test]
fn the_cap_holds_for_few_endpoints_and_who_is_over_it_comes_back_the_longest_out_first() {
    for (endpoints, out) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let world = world(Ejection::new(), endpoints);
        (0..endpoints).for_each(|endpoint| world.fail(endpoint, 5));
        assert_eq!(world.detector.out(), out, "{endpoints}");
        assert_eq!(world.detector.explain(world.now).spared as usize, endpoints - out);
    }
    let mut world = world(Ejection::new().cap(50), 10);
    for endpoint in [3, 1, 4, 0, 2] {
        world.at(world.now.duration_since(world.start).as_millis() as u64 + 1).fail(endpoint, 5);
    }
    assert_eq!(world.out(), ["3", "1", "4", "0", "2"]);
    world.detector.leave("9", world.now);
    assert_eq!(world.out(), ["1", "4", "0", "2"]);
    world.detector.leave("0", world.now); // it was out itself: three of eight
    assert_eq!(world.out(), ["1", "4", "2"]);
    world.detector.set(Ejection::new().cap(25), world.now).unwrap();
    assert_eq!(world.out(), ["4", "2"]);
    assert_eq!(world.detector.set(Ejection::new().cap(200), world.now).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(world.detector.settings(), Ejection::new().cap(25));
}

#[test]
fn who_panics_is_told_by_the_share_that_is_in() {
    let world = world(Ejection::new().cap(100), 10);
    (0..5).for_each(|endpoint| world.fail(endpoint, 5));
    assert!(!world.detector.panics());
    world.fail(5, 5);
    assert!(world.detector.panics() && world.detector.explain(world.now).to_string().contains("all are used"));
    world.detector.set(Ejection::new().cap(100).panic(0), world.now).unwrap();
    assert!(!world.detector.panics());
}

#[test]
fn a_success_reads_no_clock_unless_there_is_a_window() {
    for (settings, reads) in [(Ejection::new(), 0), (Ejection::envoy(), 0), (Ejection::linkerd(), 100)] {
        let world = world(settings, 1);
        let mut read = 0;
        for _ in 0..100 {
            world.watched[0].record(Outcome::Success, || {
                read += 1;
                world.now
            });
        }
        assert_eq!(read, reads);
    }
}

fn any_settings(rng: &mut Rng) -> Ejection {
    let mut settings = match rng.below(4) {
        0 => Ejection::envoy(),
        1 => Ejection::linkerd(),
        2 => Ejection::finagle(),
        _ => Ejection::new(),
    };
    if rng.chance(0.5) {
        settings = settings.failures(rng.range(1..4) as u32).rate(rng.unit(), SECOND, rng.below(10) as u32);
    }
    if rng.chance(0.5) {
        settings = settings.fleet(rng.unit(), 2, 3).failing(0.5, 1, 2).interval(Duration::from_millis(500));
    }
    let (probation, one, split) = (rng.chance(0.7), rng.chance(0.3), rng.chance(0.3));
    let wait = Duration::from_millis(rng.range(1..3_000));
    settings.wait(wait).cap(rng.below(101) as u32).probation(probation).at_least_one(one).split(split)
}

/// Random everything: after every step the cap holds, what is published agrees with what is told, nobody is tried twice
/// at a time, and nobody is out before or after its time.
#[test]
fn a_million_steps_never_put_out_more_than_the_cap_for_any_number_of_endpoints() {
    let mut rng = Seed::new(15).rng();
    let (mut most, mut ejections, mut probes, mut panics) = (0, 0, 0, 0);
    for round in 0..100 {
        let (size, mut settings) = ([1, 2, 3, 7, 40][round % 5], any_settings(&mut rng));
        let detector = Detector::new(settings.clone()).unwrap().seed(Seed::new(rng.next_u64()));
        let (mut members, mut open) = (BTreeMap::<u64, Watched>::new(), BTreeMap::<u64, Probe>::new());
        let mut now = detector.0.start;
        for step in 0..10_000 {
            let key = rng.below(size);
            match rng.below(1_000) {
                0..8 => drop(members.insert(key, detector.join(key.to_string()))),
                8..12 => {
                    members.remove(&key);
                    detector.leave(&key.to_string(), now);
                }
                12 => {
                    settings = any_settings(&mut rng);
                    detector.set(settings.clone(), now).unwrap();
                }
                13..40 => now += Duration::from_millis(1 << rng.below(13)),
                40..50 => detector.tick(now),
                50..55 if members.contains_key(&key) => members[&key].heal(now),
                55..200 => {
                    if let Some(probe) = open.remove(&key) {
                        probe.settle(any_outcome(&mut rng), now);
                    }
                }
                200..400 if members.contains_key(&key) => match members[&key].admit(now) {
                    Admit::In => assert!(members[&key].is_in()),
                    Admit::Out => assert!(!members[&key].is_in()),
                    Admit::Probe(probe) => {
                        assert!(settings.probation);
                        probes += 1;
                        open.insert(key, probe);
                    }
                },
                _ => {
                    if let Some(watched) = members.get(&key) {
                        watched.record(any_outcome(&mut rng), || now);
                    }
                }
            }
            let out = members.values().filter(|watched| !watched.is_in()).count();
            assert!(out <= settings.allowed(members.len()), "round {round} step {step}: {out} of {}", members.len());
            assert_eq!(out, detector.out(), "round {round} step {step}");
            assert_eq!(detector.panics(), settings.panics(members.len() - out, members.len()));
            most = most.max(out);
            panics += u32::from(detector.panics());
            if step % 50 == 0 {
                let told = detector.explain(now);
                assert_eq!((told.out.len(), told.endpoints), (out, members.len()));
                assert!(told.out.is_sorted_by_key(|out| out.since));
                for out in &told.out {
                    let watched = &members[&out.key.parse().unwrap()];
                    assert!(out.since <= now && !watched.is_in());
                    if out.standing == Standing::Ejected {
                        assert!(matches!(watched.admit(now), Admit::Out) && out.until > now);
                    }
                }
                ejections += told.out.iter().map(|out| u64::from(out.times)).sum::<u64>();
            }
        }
    }
    assert!(
        most > 10 && ejections > 10_000 && probes > 1_000 && panics > 1_000,
        "{most} {ejections} {probes} {panics}"
    );
}

fn any_outcome(rng: &mut Rng) -> Outcome {
    match rng.below(10) {
        0..4 => Outcome::Success,
        4..7 => Outcome::Failure,
        7 => Outcome::LocalOrigin,
        8 => Outcome::Throttled(rng.chance(0.5).then_some(SECOND)),
        _ => Outcome::Cancelled,
    }
}

#[test]
fn threads_that_race_keep_the_cap_and_one_probe_each() {
    let settings = Ejection::none().failures(3).wait(Duration::from_nanos(1)).jitter(0.0).cap(40);
    let world = world(settings, 10);
    let open = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (world, open) = (&world, &open);
            scope.spawn(move || {
                let mut rng = Seed::new(thread).rng();
                for step in 0..20_000_u32 {
                    let (watched, now) = (&world.watched[rng.below(10) as usize], world.start + step * SECOND);
                    match watched.admit(now) {
                        Admit::In => watched.record(any_outcome(&mut rng), || now),
                        Admit::Out => {}
                        Admit::Probe(probe) => {
                            assert!(open.fetch_add(1, Relaxed) < 4);
                            open.fetch_sub(1, Relaxed);
                            probe.settle(any_outcome(&mut rng), now);
                        }
                    }
                    assert!(world.detector.out() <= 4);
                }
            });
        }
    });
    let told = world.detector.explain(world.start + 30_000 * SECOND);
    assert_eq!(told.out.len(), world.watched.iter().filter(|watched| !watched.is_in()).count());
}
