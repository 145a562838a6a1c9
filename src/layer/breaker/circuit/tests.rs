//! The decision, in loops.

use super::*;
use crate::base::{Seed, time};

const SECOND: Duration = Duration::from_secs(1);

fn core(trip: Trip) -> (Core, Instant) {
    let now = time::now();
    (Core::new(trip, Seed::new(1).rng(), now), now)
}

/// Makes calls that end at once; how many were let through.
fn calls(core: &mut Core, now: Instant, said: &[Option<(bool, bool)>]) -> usize {
    let made = |said: &&Option<(bool, bool)>| core.admit(now).map(|permit| core.settle(permit, **said, now)).is_ok();
    said.iter().filter(made).count()
}

const GOOD: Option<(bool, bool)> = Some((false, false));
const BAD: Option<(bool, bool)> = Some((true, false));
const SLOW: Option<(bool, bool)> = Some((false, true));

fn few() -> Trip {
    Trip::new().window(Window::Calls(10)).probes(2).open(Backoff::new(10 * SECOND, 60 * SECOND).exact())
}

#[test]
fn it_trips_at_the_part_of_failures_and_not_before_there_are_enough() {
    let (mut core, now) = core(few());
    calls(&mut core, now, &[BAD; 9]);
    assert_eq!(core.explain(now).circuit, Circuit::Closed, "not full yet");
    calls(&mut core, now, &[BAD]);
    let said = core.explain(now);
    assert_eq!((said.circuit, said.until), (Circuit::Open, Some(now + 10 * SECOND)));
    assert_eq!(said.to_string(), "open: 10 of 10 calls failed");

    let (mut core, now) = self::core(few());
    calls(&mut core, now, &[GOOD; 6]);
    calls(&mut core, now, &[BAD; 4]);
    assert_eq!(core.explain(now).circuit, Circuit::Closed, "40 %");
    calls(&mut core, now, &[BAD]);
    assert_eq!(core.explain(now).why, Why::Failed { calls: 10, failed: 5 });
}

#[test]
fn a_burst_trips_whatever_the_rate_of_calls_before() {
    for per_second in [1, 1_000] {
        let trip = Trip::new().window(Window::Time(10 * SECOND)).least(5);
        let (mut core, mut now) = core(trip);
        for _ in 0..20 * per_second {
            now += SECOND / per_second;
            calls(&mut core, now, &[GOOD]);
        }
        let held = core.explain(now).calls as usize;
        assert_eq!(calls(&mut core, now, &vec![BAD; 2 * held]), held, "as many as went well: half of them");
    }
}

#[test]
fn slow_calls_trip_on_their_own() {
    let (mut core, now) = core(few().slow(SECOND, 0.3));
    calls(&mut core, now, &[GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, SLOW, SLOW]);
    assert_eq!(core.explain(now).circuit, Circuit::Closed);
    calls(&mut core, now, &[SLOW]);
    assert_eq!(core.explain(now).why, Why::Slow { calls: 10, slow: 3 });
}

#[test]
fn it_half_opens_on_time_lets_so_many_probe_and_closes_when_they_do_well() {
    let (mut core, now) = core(few());
    calls(&mut core, now, &[BAD; 10]);
    let almost = now + 10 * SECOND - Duration::from_millis(1);
    assert_eq!(core.admit(almost).unwrap_err(), Some(Duration::from_millis(1)));
    let later = now + 10 * SECOND;
    let (first, second) = (core.admit(later).unwrap(), core.admit(later).unwrap());
    assert_eq!(core.admit(later).unwrap_err(), None, "no more than two");
    core.settle(first, None, later); // given up: another one may probe
    let third = core.admit(later).unwrap();
    core.settle(second, GOOD, later);
    assert_eq!(core.explain(later).circuit, Circuit::HalfOpen);
    core.settle(third, GOOD, later);
    let said = core.explain(later);
    assert_eq!((said.circuit, said.why, said.calls), (Circuit::Closed, Why::Recovered, 0));
}

#[test]
fn a_probation_that_fails_opens_it_for_longer_and_a_recovery_begins_anew() {
    let (mut core, mut now) = core(few());
    calls(&mut core, now, &[BAD; 10]);
    for wait in [10, 20, 40, 60, 60] {
        assert_eq!(core.explain(now).until, Some(now + wait * SECOND));
        now += wait * SECOND;
        assert_eq!(calls(&mut core, now, &[BAD, BAD]), 1, "one of two is half: the other need not be tried");
    }
    now += 60 * SECOND;
    calls(&mut core, now, &[GOOD, GOOD]);
    calls(&mut core, now, &[BAD; 10]);
    assert_eq!(core.explain(now).until, Some(now + 10 * SECOND));
}

#[test]
fn a_probe_that_answers_well_but_slowly_opens_it_again() {
    let (mut core, now) = core(few().slow(SECOND, 0.5));
    calls(&mut core, now, &[BAD; 10]);
    let later = now + 10 * SECOND;
    calls(&mut core, later, &[SLOW]);
    assert_eq!(core.explain(later).why, Why::Slow { calls: 1, slow: 1 });
}

#[test]
fn results_of_calls_made_in_another_state_do_not_count() {
    let (mut core, now) = core(few());
    let early: Vec<_> = (0..30).map(|_| core.admit(now).unwrap()).collect();
    early[..10].iter().for_each(|permit| core.settle(*permit, BAD, now));
    let later = now + 10 * SECOND;
    let probes = [core.admit(later).unwrap(), core.admit(later).unwrap()];
    early[10..20].iter().for_each(|permit| core.settle(*permit, BAD, later));
    assert_eq!(core.explain(later).circuit, Circuit::HalfOpen, "they were made before it opened");
    probes.iter().for_each(|permit| core.settle(*permit, GOOD, later));
    early[20..].iter().for_each(|permit| core.settle(*permit, BAD, later));
    assert_eq!((core.explain(later).circuit, core.explain(later).calls), (Circuit::Closed, 0));
}

#[test]
fn it_stays_as_forced_until_let_go() {
    let (mut core, now) = core(few());
    core.force(Some(Forced::Open), now);
    assert_eq!(calls(&mut core, now + 3_600 * SECOND, &[GOOD; 5]), 0);
    core.force(Some(Forced::Closed), now);
    assert_eq!(calls(&mut core, now, &[BAD; 50]), 50);
    assert_eq!(core.explain(now).failed, 10, "counted all the same");
    core.force(Some(Forced::Disabled), now);
    calls(&mut core, now, &[GOOD; 50]);
    assert_eq!(core.explain(now).failed, 10, "not counted");
    core.force(None, now);
    let said = core.explain(now);
    assert_eq!((said.circuit, said.why, said.calls), (Circuit::Closed, Why::Fresh, 0));
}

/// Half a million steps against a model that only counts: never more probes than allowed, never a call while open, a
/// state change only for the reason it names, and every permit given back.
#[test]
fn half_a_million_steps_keep_every_promise() {
    let mut rng = Seed::new(41).rng();
    let trip = Trip::new().window(Window::Calls(20)).least(10).probes(3).slow(SECOND, 0.6);
    let (mut core, mut now) = core(trip.open(Backoff::new(SECOND, 8 * SECOND)));
    let mut held: Vec<(Permit, u64)> = Vec::new();
    let (mut epoch, mut opened, mut closed, mut refused) = (0, 0, 0, 0);
    let mut last = std::collections::VecDeque::new();
    for step in 0..500_000 {
        now += Duration::from_millis(rng.below(40));
        let sick = (step / 5_000) % 2 == 0;
        let before = core.explain(now);
        if rng.chance(0.5) || held.is_empty() {
            match core.admit(now) {
                Ok(permit) => held.push((permit, core.epoch)),
                Err(wait) => {
                    refused += 1;
                    assert_eq!(wait.is_some(), before.circuit == Circuit::Open, "step {step}");
                    assert_eq!(wait, before.until.map(|until| until - now));
                }
            }
        } else {
            let (permit, of) = held.swap_remove(rng.below(held.len() as u64) as usize);
            let said = (!rng.chance(0.1)).then(|| (rng.chance(if sick { 0.8 } else { 0.05 }), rng.chance(0.1)));
            core.settle(permit, said, now);
            if let (Some(said), true, Circuit::Closed) = (said, of == epoch, before.circuit) {
                last.push_back(said);
                if last.len() > 20 {
                    last.pop_front();
                }
                let (failed, slow) =
                    (last.iter().filter(|said| said.0).count(), last.iter().filter(|said| said.1).count());
                let trips = last.len() >= 10 && (2 * failed >= last.len() || 10 * slow >= 6 * last.len());
                assert_eq!(core.explain(now).circuit == Circuit::Open, trips, "step {step}: {failed} {slow}");
            }
        }
        let probing = held.iter().filter(|(permit, _)| permit.epoch == core.epoch).count();
        assert!(core.explain(now).circuit != Circuit::HalfOpen || probing <= 3, "step {step}: {probing} probes");
        if let Some(turn) = core.turn.take() {
            assert_eq!((core.epoch, turn.to), (epoch + 1, core.explain(now).circuit));
            match (turn.from, turn.to) {
                (Circuit::Closed | Circuit::HalfOpen, Circuit::Open) => opened += 1,
                (Circuit::Open, Circuit::HalfOpen) => assert!(before.until.is_some_and(|until| until <= now)),
                (Circuit::HalfOpen, Circuit::Closed) => closed += 1,
                other => panic!("step {step}: {other:?}"),
            }
            last.clear();
        }
        epoch = core.epoch;
    }
    assert!(opened > 50 && closed > 40 && refused > 10_000, "{opened} {closed} {refused}");
}
