//! How many workers there should be: a pure decision.

use super::{Decision, Inputs, Reason, guard::Guard};
use crate::base::time::{Instant, after};
use std::{collections::VecDeque, ops::RangeInclusive, time::Duration};

/// How fast the number of workers changes: by this part of them or by this many, whichever is more, per time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// 1.0 doubles them.
    pub fraction: f64,
    /// At least this many.
    pub workers: u32,
    /// In this time.
    pub per: Duration,
}

impl Pace {
    /// How many at once, where this many were there when the time began.
    fn step(&self, from: u32) -> u32 {
        ((f64::from(from) * self.fraction.max(0.0)) as u32).max(self.workers).max(1)
    }
}

/// How many workers there should be, from how often items arrive, how long they take, and how many wait.
///
/// With λ the arrival rate and S the service time, λS = a workers are busy on average: with fewer the queue grows without
/// end, with just as many items wait long. So it wants ⌈a + β√a + Q·S/T⌉: a headroom by the square root (Halfin and
/// Whitt's staffing rule), and as many more as bring the backlog Q down within T. What it wants is then damped:
///
/// - **up** at once, at most by [`up`](Policy::up) at a time; workers that are starting count as there;
/// - **down** only to the most that was wanted in the last [`calm`](Policy::calm) time, at most by [`down`](Policy::down)
///   at a time, never below the workers that are busy;
/// - not at all within the [`dead_band`](Policy::dead_band), unless those that are there cannot keep up;
/// - not further up where the last ones brought next to nothing: what they depend on is at its limit, and more of them
///   would make it worse. Every five minutes it tries a tenth more; once they bring more, it forgets what it knew.
///
/// Without any sample one worker is a probe. Fewer arrivals than one per [`calm`](Policy::calm) time, no backlog and
/// nobody busy count as nothing to do.
///
/// | setting | default | from |
/// | --- | --- | --- |
/// | [`headroom`](Policy::headroom) β | 1.0 | square-root staffing: about one item in four waits |
/// | [`drain_within`](Policy::drain_within) T | 60 s, at least twice the start-up time | |
/// | [`up`](Policy::up) | 100 % or 4 per 15 s | Kubernetes' horizontal pod autoscaler |
/// | [`down`](Policy::down) | 10 % or 1 per 30 s | slower than Kubernetes' 100 % per 15 s |
/// | [`calm`](Policy::calm) | 300 s | Kubernetes' stabilization window, KEDA's cool-down |
/// | [`dead_band`](Policy::dead_band) | 10 % | Kubernetes' tolerance |
///
/// ```
/// use seedpod::{base::time, queue::scale::{Inputs, Policy, State}};
/// use std::time::Duration;
///
/// let (policy, mut state) = (Policy::between(1..=32), State::default());
/// let mut inputs = Inputs::default();
/// (inputs.arrival_rate, inputs.service_time) = (2.0, Some(Duration::from_secs(1)));
/// inputs.workers.running = 1;
/// let decision = policy.decide(&mut state, time::now(), &inputs);
/// assert_eq!(decision.want, 4);
/// assert_eq!(
///     decision.to_string(),
///     "want 4 (+3): more are needed; load 2.00 + headroom 1.41 + catch-up 0.00; \
///      2.00/s of 1.000 s, 0 waiting, 0 of 1 busy"
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    min: u32,
    max: u32,
    headroom: f64,
    drain_within: Duration,
    startup: Duration,
    up: Pace,
    down: Pace,
    calm: Duration,
    dead_band: f64,
}

/// What decisions remember of those before: one per thing that is scaled.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What was wanted in the calm time, of which only falling values can still be the maximum.
    wants: VecDeque<(Instant, u32)>,
    ups: VecDeque<(Instant, u32)>,
    downs: VecDeque<(Instant, u32)>,
    guard: Guard,
}

/// With the defaults.
impl From<RangeInclusive<u32>> for Policy {
    fn from(workers: RangeInclusive<u32>) -> Policy {
        Policy::between(workers)
    }
}

impl Policy {
    /// Between this many workers and that many; a maximum below the minimum counts as the minimum.
    pub fn between(workers: RangeInclusive<u32>) -> Policy {
        Policy {
            min: *workers.start(),
            max: (*workers.end()).max(*workers.start()),
            headroom: 1.0,
            drain_within: Duration::from_secs(60),
            startup: Duration::ZERO,
            up: Pace { fraction: 1.0, workers: 4, per: Duration::from_secs(15) },
            down: Pace { fraction: 0.1, workers: 1, per: Duration::from_secs(30) },
            calm: Duration::from_secs(300),
            dead_band: 0.1,
        }
    }

    /// β: how many square roots of the load are added to it.
    #[must_use]
    pub fn headroom(mut self, beta: f64) -> Self {
        self.headroom = if beta.is_finite() { beta.max(0.0) } else { self.headroom };
        self
    }

    /// In what time a backlog is to be gone; at least a second.
    #[must_use]
    pub fn drain_within(mut self, time: Duration) -> Self {
        self.drain_within = time.max(Duration::from_secs(1));
        self
    }

    /// How long a worker takes to start: a backlog that is gone by then needs none. Default: no time at all.
    #[must_use]
    pub fn startup(mut self, time: Duration) -> Self {
        self.startup = time;
        self
    }

    /// How fast there may be more.
    #[must_use]
    pub fn up(mut self, pace: Pace) -> Self {
        self.up = pace;
        self
    }

    /// How fast there may be fewer.
    #[must_use]
    pub fn down(mut self, pace: Pace) -> Self {
        self.down = pace;
        self
    }

    /// For how long fewer must have sufficed before there are fewer.
    #[must_use]
    pub fn calm(mut self, time: Duration) -> Self {
        self.calm = time;
        self
    }

    /// Which part of the workers makes no difference.
    #[must_use]
    pub fn dead_band(mut self, fraction: f64) -> Self {
        self.dead_band = if fraction.is_finite() { fraction.clamp(0.0, 0.9) } else { self.dead_band };
        self
    }

    /// Decides, and remembers that it did.
    pub fn decide(&self, state: &mut State, now: Instant, inputs: &Inputs) -> Decision {
        let mut decision = self.demand(inputs);
        let count = inputs.workers.total();
        let ceiling = state.guard.ceiling(now, inputs);
        let useful = ceiling.map_or(decision.demand, |ceiling| decision.demand.min(ceiling.max(count)));
        if state.wants.is_empty() {
            state.want(now, self.calm, count.clamp(self.min, self.max)); // what was there before had its reasons
        }
        let floor = state.want(now, self.calm, useful);
        let band = f64::from(count) * self.dead_band;
        let keeps_up = f64::from(count) > decision.load;
        let (want, reason) = if count < self.min {
            (self.min, Reason::Minimum)
        } else if count > self.max {
            (self.max, Reason::Maximum)
        } else if useful > count && (f64::from(useful - count) > band || !keeps_up) {
            self.more(state, now, count, useful)
        } else if useful < decision.demand {
            (count, Reason::Bottleneck)
        } else if f64::from(floor) < f64::from(count) - band {
            self.fewer(state, now, inputs, floor)
        } else if f64::from(useful) < f64::from(count) - band {
            (count, Reason::Waiting)
        } else {
            (count, Reason::Steady)
        };
        decision.want = want;
        decision.reason = match (decision.reason, reason) {
            (Reason::Idle, Reason::Fewer | Reason::Steady) => Reason::Idle,
            (Reason::Probe, Reason::More | Reason::Steady) => Reason::Probe,
            _ => reason,
        };
        decision
    }

    /// What is asked for, before damping.
    fn demand(&self, inputs: &Inputs) -> Decision {
        let count = inputs.workers.total();
        let rate = if inputs.arrival_rate.is_finite() { inputs.arrival_rate.max(0.0) } else { 0.0 };
        let idle = inputs.backlog == 0 && inputs.workers.busy == 0 && rate * self.calm.as_secs_f64() < 1.0;
        let seconds = inputs.service_time.unwrap_or_default().as_secs_f64();
        let load = rate * seconds;
        let headroom = self.headroom * load.sqrt();
        let catch_up = inputs.backlog as f64 * seconds / self.drain_within.max(self.startup * 2).as_secs_f64();
        let (demand, reason) = match inputs.service_time {
            _ if idle => (0, Reason::Idle),
            None => (count.max(1), Reason::Probe),
            // at least one where there is anything to do, however short it is; a cast of too much is the largest number
            Some(_) => (((load + headroom + catch_up).ceil() as u32).max(1), Reason::More),
        };
        let demand = demand.clamp(self.min, self.max);
        Decision { want: demand, reason, load, headroom, catch_up, demand, inputs: *inputs }
    }

    fn more(&self, state: &mut State, now: Instant, count: u32, useful: u32) -> (u32, Reason) {
        let added = sum_since(&mut state.ups, now, self.up.per);
        let from = count.saturating_sub(added);
        let most = from.saturating_add(self.up.step(from)).max(count);
        let want = useful.min(most);
        if want > count {
            state.ups.push_back((now, want - count));
        }
        (want, if want < useful { Reason::MorePaced } else { Reason::More })
    }

    fn fewer(&self, state: &mut State, now: Instant, inputs: &Inputs, floor: u32) -> (u32, Reason) {
        let count = inputs.workers.total();
        let taken = sum_since(&mut state.downs, now, self.down.per);
        let from = count.saturating_add(taken);
        let fewest = from.saturating_sub(self.down.step(from)).min(count);
        let want = floor.max(fewest).max(inputs.workers.busy.min(count)).min(count);
        if want < count {
            state.downs.push_back((now, count - want));
            return (want, Reason::Fewer);
        }
        (want, if fewest < count { Reason::Busy } else { Reason::FewerPaced })
    }
}

impl State {
    /// Remembers what is wanted, and tells the most that was in the calm time.
    fn want(&mut self, now: Instant, calm: Duration, want: u32) -> u32 {
        while self.wants.back().is_some_and(|(_, last)| *last <= want) {
            self.wants.pop_back();
        }
        self.wants.push_back((now, want));
        while self.wants.front().is_some_and(|(then, _)| after(*then, calm) <= now) {
            self.wants.pop_front();
        }
        self.wants.front().map_or(want, |(_, most)| *most).max(want)
    }
}

/// What was changed in the last time.
fn sum_since(changes: &mut VecDeque<(Instant, u32)>, now: Instant, per: Duration) -> u32 {
    while changes.front().is_some_and(|(then, _)| after(*then, per) <= now) {
        changes.pop_front();
    }
    changes.iter().fold(0, |sum, (_, change)| sum.saturating_add(*change))
}
