//! Tests of the decision over many steps: what holds for all inputs, and what queues make of it.

use super::{
    Count, Decision, Inputs, Pace, Policy, Reason, State,
    estimate::{Arrivals, Durations},
};
use crate::base::{
    Rng, Seed,
    time::{self, Instant},
};
use proptest::prelude::*;
use std::{
    collections::{BTreeSet, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const LOOK: u32 = 5;

fn inputs(rate: f64, seconds: f64, backlog: u64, workers: Count) -> Inputs {
    let service_time = Some(Duration::from_secs_f64(seconds));
    Inputs { arrival_rate: rate, service_time, backlog, workers, finished: 0 }
}

fn running(running: u32, busy: u32) -> Count {
    Count { running, busy, ..Count::default() }
}

/// Something to decide from, within reason and beyond.
fn anything() -> impl Strategy<Value = Inputs> {
    let rate = prop_oneof![0.0..50.0, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(f64::MAX)];
    let time = prop_oneof![
        Just(None),
        (0..100_000_u64).prop_map(|millis| Some(Duration::from_millis(millis))),
        Just(Some(Duration::MAX))
    ];
    let backlog = prop_oneof![0..1000_u64, Just(u64::MAX)];
    let workers = (0..100_u32, 0..20_u32, 0.0..=1.0, 0..5_u32).prop_map(|(running, starting, busy, leaving)| Count {
        running,
        starting,
        busy: (f64::from(running) * busy) as u32,
        leaving,
    });
    (rate, time, backlog, workers, 0..u64::MAX).prop_map(|(arrival_rate, service_time, backlog, workers, finished)| {
        Inputs { arrival_rate, service_time, backlog, workers, finished }
    })
}

/// Decides every 5 s, with the workers there at once.
struct Loop {
    policy: Policy,
    state: State,
    now: Instant,
    count: u32,
    wants: Vec<(Instant, u32)>,
}

impl Loop {
    fn new(policy: Policy, count: u32) -> Loop {
        Loop { policy, state: State::default(), now: time::now(), count, wants: Vec::new() }
    }

    fn step(&mut self, rate: f64, seconds: f64, backlog: u64, busy: u32) -> Decision {
        let workers = running(self.count, busy.min(self.count));
        let decision = self.policy.decide(&mut self.state, self.now, &inputs(rate, seconds, backlog, workers));
        self.wants.push((self.now, decision.want));
        (self.count, self.now) = (decision.want, self.now + LOOK * SECOND);
        decision
    }

    /// How often it went up after it had gone down, or the other way round.
    fn turns(&self) -> usize {
        let mut moves: Vec<_> = self
            .wants
            .windows(2)
            .filter_map(|pair| (pair[0].1 != pair[1].1).then_some(pair[1].1 > pair[0].1))
            .collect();
        moves.dedup();
        moves.len().saturating_sub(1)
    }
}

proptest! {
    #[test]
    fn it_stays_within_its_bounds_and_above_the_busy_ones(
        (min, more) in (0..20_u32, 0..80_u32),
        seen in prop::collection::vec((anything(), 0..60_u64), 1..60),
    ) {
        let (policy, mut state, mut now) = (Policy::between(min..=min + more), State::default(), time::now());
        for (inputs, pause) in seen {
            now += Duration::from_secs(pause);
            let decision = policy.decide(&mut state, now, &inputs);
            prop_assert!((min..=min + more).contains(&decision.want), "{decision}");
            prop_assert!(decision.want >= inputs.workers.busy.min(min + more), "{decision}");
            prop_assert!(!decision.to_string().contains('\n'));
        }
    }

    #[test]
    fn more_arrivals_or_a_longer_queue_never_mean_fewer_workers(
        before in prop::collection::vec(anything(), 0..20),
        at in anything(), more in 0.0..100.0, longer in 0..1000_u64,
    ) {
        let (policy, mut state, mut now) = (Policy::between(0..=200), State::default(), time::now());
        for inputs in before {
            policy.decide(&mut state, now, &inputs);
            now += LOOK * SECOND;
        }
        let rate = if at.arrival_rate.is_finite() { at.arrival_rate } else { 1.0 };
        let at = Inputs { arrival_rate: rate, ..at };
        let want = |inputs: Inputs| policy.decide(&mut state.clone(), now, &inputs).want;
        let busier = Inputs { arrival_rate: rate + more, ..at };
        prop_assert!(want(busier) >= want(at));
        if at.backlog > 0 { // with an empty one the guard against a bottleneck is lifted
            let longer = Inputs { backlog: at.backlog.saturating_add(longer), ..at };
            prop_assert!(want(longer) >= want(at));
        }
    }

    #[test]
    fn a_constant_load_is_met_once_and_then_left_alone(
        rate in 0.01..40.0, seconds in 0.01..10.0, before in 0..100_u32,
    ) {
        let mut it = Loop::new(Policy::between(0..=1000), before);
        for _ in 0..1000 {
            it.step(rate, seconds, 0, (rate * seconds) as u32);
        }
        prop_assert!(it.turns() <= 1, "{:?}", it.wants);
        let last = &it.wants[it.wants.len() - 200..];
        prop_assert!(last.iter().all(|(_, want)| *want == last[0].1), "{last:?}");
        let needed = rate * seconds;
        prop_assert!(f64::from(it.count) > needed && f64::from(it.count) <= (needed + needed.sqrt() + 1.0) * 1.12 + 1.0);
    }

    #[test]
    fn no_faster_than_its_paces(
        loads in prop::collection::vec((0.0..300.0, 0..500_u64), 1..400), before in 0..300_u32,
    ) {
        let mut it = Loop::new(Policy::between(0..=300), before);
        for (load, backlog) in loads {
            it.step(load, 1.0, backlog, 0);
        }
        let mut counts = vec![before];
        counts.extend(it.wants.iter().map(|(_, want)| *want));
        for (now, want) in counts.iter().enumerate() {
            let (then, long_ago) = (counts[now.saturating_sub(3)], counts[now.saturating_sub(6)]);
            prop_assert!(*want <= (then * 2).max(then + 4), "up: {counts:?}");
            prop_assert!(*want >= long_ago - (long_ago / 10).max(1).min(long_ago), "down: {counts:?}");
        }
    }
}

#[test]
fn silence_takes_it_down_to_the_minimum_step_by_step() {
    for min in [0, 2] {
        let mut it = Loop::new(Policy::between(min..=100), 1);
        let mut arrivals = Arrivals::new(it.now);
        for _ in 0..120 {
            arrivals.record(it.now, 100);
            let rate = arrivals.rate(it.now);
            it.step(rate, 1.0, 0, 20);
        }
        let most = it.count;
        assert!((24..=30).contains(&most), "{most}");
        let silence = it.now;
        let mut went_down = None;
        while it.count > min {
            let before = it.count;
            let rate = arrivals.rate(it.now);
            it.step(rate, 1.0, 0, 0);
            assert!(it.count <= before, "nothing comes: never up");
            if it.count < before {
                went_down.get_or_insert(it.now);
            }
            assert!(it.now < silence + 1800 * SECOND, "still {}", it.count);
        }
        assert!(went_down.unwrap() >= silence + 300 * SECOND, "not before the calm time is over");
    }
}

#[test]
fn the_first_decision_takes_nothing_away() {
    let mut it = Loop::new(Policy::between(0..=100), 50);
    for _ in 0..59 {
        assert_eq!(it.step(0.0, 1.0, 0, 0).want, 50, "what is found has its reasons, for the calm time");
    }
    it.step(0.0, 1.0, 0, 0);
    assert_eq!(it.step(0.0, 1.0, 0, 0).want, 45);
}

#[test]
fn rare_arrivals_keep_a_worker_and_none_at_all_do_not() {
    let mut it = Loop::new(Policy::between(0..=10), 0);
    let mut arrivals = Arrivals::new(it.now);
    let mut none = 0;
    for look in 0..1440 {
        let comes = look % 48 == 10; // every four minutes
        arrivals.record(it.now, u64::from(comes));
        let rate = arrivals.rate(it.now);
        it.step(rate, 1.0, 0, 0);
        none += u32::from(look > 20 && it.count == 0);
    }
    assert_eq!(none, 0);
    for _ in 0..240 {
        let rate = arrivals.rate(it.now);
        it.step(rate, 1.0, 0, 0);
    }
    assert_eq!(it.count, 0);
}

#[test]
fn long_jobs_are_seen_before_the_first_has_ended() {
    let start = time::now();
    let durations = Durations::new(start);
    let policy = Policy::between(1..=100);
    let (mut state, mut count) = (State::default(), 1);
    for look in 1..=24 {
        let age = look * LOOK * SECOND; // one arrives per second, and none ends
        let service_time = durations.mean((0..count).map(|_| age));
        let looked = Inputs { service_time, ..inputs(1.0, 0.0, u64::from(look * LOOK), running(count, count)) };
        count = policy.decide(&mut state, start + age, &looked).want;
    }
    assert!(count > 60, "after two minutes of jobs that all take longer: {count}");
}

#[test]
fn one_probe_finds_out_how_long_it_takes() {
    let policy = Policy::between(0..=50);
    let decide = |backlog, count| {
        let unknown = Inputs { service_time: None, ..inputs(5.0, 0.0, backlog, running(count, 0)) };
        policy.decide(&mut State::default(), time::now(), &unknown)
    };
    assert_eq!((decide(1000, 0).want, decide(1000, 0).reason), (1, Reason::Probe));
    assert_eq!(decide(1000, 7).want, 7, "those that are there find out together");
}

#[test]
fn workers_that_start_are_not_asked_for_again() {
    let policy = Policy::between(1..=100);
    let (mut state, now) = (State::default(), time::now());
    let starting = |starting| Count { running: 1, starting, busy: 1, ..Count::default() };
    let first = policy.decide(&mut state, now, &inputs(10.0, 1.0, 50, starting(0)));
    assert_eq!((first.want, first.reason), (5, Reason::MorePaced));
    for look in 1..3 {
        let again = policy.decide(&mut state, now + look * LOOK * SECOND, &inputs(10.0, 1.0, 50, starting(4)));
        assert_eq!(again.want, 5, "within 15 s");
    }
    let later = policy.decide(&mut state, now + 15 * SECOND, &inputs(10.0, 1.0, 50, starting(4)));
    assert_eq!(later.want, 10);
}

#[test]
fn the_dead_band_does_not_hold_workers_that_cannot_keep_up() {
    let policy = Policy::between(1..=1000).headroom(0.0);
    let decide =
        |rate, count| policy.decide(&mut State::default(), time::now(), &inputs(rate, 1.0, 0, running(count, 0)));
    assert_eq!((decide(95.0, 90).want, decide(95.0, 90).reason), (95, Reason::More));
    assert_eq!((decide(99.5, 100).want, decide(99.5, 100).reason), (100, Reason::Steady));
}

#[test]
fn new_bounds_hold_at_once() {
    let decide = |policy: Policy, count| {
        policy.decide(&mut State::default(), time::now(), &inputs(1.0, 1.0, 0, running(count, count)))
    };
    assert_eq!(
        (decide(Policy::between(5..=9), 2).want, decide(Policy::between(5..=9), 2).reason),
        (5, Reason::Minimum)
    );
    assert_eq!(
        (decide(Policy::between(5..=9), 20).want, decide(Policy::between(5..=9), 20).reason),
        (9, Reason::Maximum)
    );
    assert_eq!(decide(Policy::between(RangeInclusive::new(7, 3)), 1).want, 7, "upside down");
}

#[test]
fn settings_change_what_they_name() {
    let decide =
        |policy: Policy| policy.decide(&mut State::default(), time::now(), &inputs(16.0, 1.0, 60, running(10, 10)));
    let policy = || Policy::between(0..=100).up(Pace { fraction: 100.0, workers: 100, per: SECOND });
    assert_eq!(decide(policy()).want, 16 + 4 + 1);
    assert_eq!(decide(policy().headroom(2.0)).want, 16 + 8 + 1);
    assert_eq!(decide(policy().drain_within(6 * SECOND)).want, 16 + 4 + 10);
    assert_eq!(decide(policy().startup(300 * SECOND)).want, 21, "a tenth of a worker is rounded up");
    assert_eq!(decide(policy().startup(300 * SECOND)).catch_up, 0.1);
    let slow = Pace { fraction: 0.1, workers: 1, per: 60 * SECOND };
    assert_eq!((decide(policy().up(slow)).want, decide(policy().up(slow)).reason), (11, Reason::MorePaced));
    assert_eq!(decide(policy().dead_band(0.9)).want, 21, "ten workers cannot keep up with sixteen");
}

/// Waits of items in a queue whose workers a policy counts: Poisson arrivals, exponential times, first come first served.
struct Queue {
    rng: Rng,
    arrivals: Arrivals,
    durations: Durations,
    it: Loop,
    waiting: VecDeque<f64>,
    /// When those under way end, and began: as ordered bits, since no time here is negative.
    ends: BTreeSet<(u64, u64)>,
    waits: Vec<f64>,
    counts: Vec<u32>,
}

impl Queue {
    fn run(seed: u64, rate: f64, mean: f64, seconds: f64, capacity: impl Fn(usize) -> f64) -> Queue {
        let (it, start) = (Loop::new(Policy::between(1..=500), 1), time::now());
        let (arrivals, durations) = (Arrivals::new(start), Durations::new(start));
        let mut queue = Queue {
            rng: Seed::new(seed).rng(),
            arrivals,
            durations,
            it,
            waiting: VecDeque::new(),
            ends: BTreeSet::new(),
            waits: Vec::new(),
            counts: Vec::new(),
        };
        queue.it.now = start;
        let exponential = |rng: &mut Rng| -(1.0 - rng.unit()).ln();
        let (mut next, mut look, mut finished) = (0.0, 0.0, 0);
        loop {
            let end = queue.ends.first().map_or(f64::INFINITY, |(end, _)| f64::from_bits(*end));
            let now = f64::min(next, look).min(end);
            if now > seconds {
                return queue;
            }
            let moment = start + Duration::from_secs_f64(now);
            if now == end {
                let (_, began) = queue.ends.pop_first().unwrap();
                let took = Duration::from_secs_f64(now - f64::from_bits(began));
                let oldest = queue.ages(now).max();
                queue.durations.record(moment, took, oldest);
                finished += 1;
            } else if now == next {
                queue.arrivals.record(moment, 1);
                queue.waiting.push_back(now);
                next = now + exponential(&mut queue.rng) / rate;
            } else {
                queue.look(moment, now, finished);
                look += f64::from(LOOK);
            }
            while queue.ends.len() < queue.it.count as usize
                && let Some(came) = queue.waiting.pop_front()
            {
                queue.waits.push(now - came);
                let slowed = 1.0 / capacity(queue.ends.len() + 1);
                let took = exponential(&mut queue.rng) * mean * slowed;
                queue.ends.insert(((now + took).to_bits(), now.to_bits()));
            }
        }
    }

    fn ages(&self, now: f64) -> impl Iterator<Item = Duration> {
        self.ends.iter().map(move |(_, began)| Duration::from_secs_f64(now - f64::from_bits(*began)))
    }

    fn look(&mut self, moment: Instant, now: f64, finished: u64) {
        let workers = running(self.it.count, (self.ends.len() as u32).min(self.it.count));
        let seen = Inputs {
            arrival_rate: self.arrivals.rate(moment),
            service_time: self.durations.mean(self.ages(now)),
            backlog: self.waiting.len() as u64,
            workers,
            finished,
        };
        let decision = self.it.policy.decide(&mut self.it.state, moment, &seen);
        self.it.wants.push((moment, decision.want));
        self.it.count = decision.want;
        self.counts.push(decision.want);
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[test]
#[expect(clippy::disallowed_macros, reason = "the figures are worth reading")]
fn in_simulated_queues_few_wait_and_few_workers_are_idle() {
    for (rate, service) in [(0.5_f64, 4.0_f64), (2.0, 1.0), (8.0, 1.0), (4.0, 8.0), (1.0, 60.0), (100.0, 0.5)] {
        let seconds = (100_000.0 / rate).clamp(4_000.0, 60_000.0);
        let queue = Queue::run(11, rate, service, seconds, |_| 1.0);
        let (load, looks) = (rate * service, queue.counts.len());
        let settled = &queue.waits[queue.waits.len() / 4..];
        let wait = mean(settled.iter().copied()) / service;
        let workers = mean(queue.counts[looks / 4..].iter().map(|count| f64::from(*count)));
        let changes = queue.counts[looks / 4..].windows(2).filter(|pair| pair[0] != pair[1]).count();
        let per_hour = changes as f64 * 3600.0 / (0.75 * looks as f64 * f64::from(LOOK));
        println!("load {load:>5}: {workers:.1} workers, wait {wait:.3} service times, {per_hour:.1} changes an hour");
        assert!(wait < 0.15, "load {load}: {wait}");
        assert!(workers < 1.5 * (load + load.sqrt()) + 2.0, "load {load}: {workers}");
        assert!(per_hour < 60.0, "load {load}: {per_hour}");
    }
}

#[test]
#[expect(clippy::disallowed_macros, reason = "the figures are worth reading")]
fn workers_that_share_a_bottleneck_are_not_piled_up() {
    // what they depend on serves ten at a time: with more, each takes the longer
    let queue = Queue::run(3, 20.0, 1.0, 1200.0, |under_way| (10.0 / under_way as f64).min(1.0));
    let most = queue.counts.iter().copied().max().unwrap();
    let without = Queue::run(3, 20.0, 1.0, 1200.0, |_| 1.0).counts.iter().copied().max().unwrap();
    println!("at most {most} workers; {without} where there is no bottleneck");
    assert!(most <= 160, "{most}, where 500 are allowed");
}
