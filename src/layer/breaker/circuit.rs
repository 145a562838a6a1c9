//! The decision of a breaker: closed, open, half open, and why.

use super::window::{Counts, Recent, Window};
use crate::base::{Backoff, Error, Kind, Result, Rng, time::Instant};
use std::{fmt, time::Duration};

/// When a breaker trips, and how it recovers.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`window`](Self::window) | the last 100 calls | resilience4j |
/// | [`least`](Self::least) | 100 calls, or as many as the window can hold | resilience4j, Polly |
/// | [`failures`](Self::failures) | half of them | resilience4j |
/// | [`slow`](Self::slow) | all of them taking a minute | resilience4j |
/// | [`open`](Self::open) | a minute, doubling with each probation that fails, up to 5 minutes | resilience4j; failsafe and Finagle go up to 5 |
/// | [`probes`](Self::probes) | 10 | resilience4j |
#[derive(Clone, Debug, PartialEq)]
pub struct Trip {
    pub(super) window: Window,
    least: u32,
    failures: f64,
    pub(super) slow_after: Duration,
    slow: f64,
    open: Backoff,
    probes: u32,
}

impl Trip {
    /// The defaults.
    pub fn new() -> Self {
        let open = Backoff::new(Duration::from_secs(60), Duration::from_secs(300)).exact();
        let (window, slow_after) = (Window::Calls(100), Duration::from_secs(60));
        Trip { window, least: 100, failures: 0.5, slow_after, slow: 1.0, open, probes: 10 }
    }

    /// Over which calls to count.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// How many calls the window must hold before it can trip; a window of fewer calls must be full.
    #[must_use]
    pub fn least(mut self, calls: u32) -> Self {
        self.least = calls;
        self
    }

    /// Which part of the calls must have failed to trip, above 0 up to 1.
    #[must_use]
    pub fn failures(mut self, part: f64) -> Self {
        self.failures = part;
        self
    }

    /// From how long on a call is slow, and which part of the calls must have been slow to trip, above 0 up to 1.
    #[must_use]
    pub fn slow(mut self, after: Duration, part: f64) -> Self {
        (self.slow_after, self.slow) = (after, part);
        self
    }

    /// How long it stays open: the first time, and longer with each probation that fails in a row.
    #[must_use]
    pub fn open(mut self, open: Backoff) -> Self {
        self.open = open;
        self
    }

    /// How many calls probe, in all, before it closes or opens again; 0 counts as 1.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes.max(1);
        self
    }

    pub(super) fn check(&self) -> Result {
        let invalid = |what: &str| Err(Error::new(Kind::Invalid, format!("breaker: {what}")));
        let part = |part: f64| part > 0.0 && part <= 1.0;
        if !part(self.failures) {
            return invalid("the part of failures must be above 0 and at most 1");
        }
        if !part(self.slow) {
            return invalid("the part of slow calls must be above 0 and at most 1");
        }
        match self.window {
            Window::Calls(0) => invalid("the window must hold a call"),
            Window::Time(span) if span < Duration::from_millis(1) => {
                invalid("the window must be a millisecond or more")
            }
            _ => Ok(()),
        }
    }

    fn needed(&self) -> u64 {
        match self.window {
            Window::Calls(most) => self.least.min(most).max(1).into(),
            _ => self.least.max(1).into(),
        }
    }

    /// Why these counts, of so many calls in the end, trip; none where they do not.
    fn trips(&self, counts: Counts, calls: u64) -> Option<Why> {
        let reached = |count: u64, part: f64| count > 0 && count as f64 >= part * calls as f64;
        let Counts { failed, slow, .. } = counts;
        if reached(failed, self.failures) {
            Some(Why::Failed { calls: counts.calls, failed })
        } else if reached(slow, self.slow) {
            Some(Why::Slow { calls: counts.calls, slow })
        } else {
            None
        }
    }
}

impl Default for Trip {
    fn default() -> Self {
        Trip::new()
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Circuit {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls probe.
    HalfOpen,
    /// Held in this state by its handle.
    Forced(Forced),
}

/// A state in which its handle holds a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Forced {
    /// All calls are refused.
    Open,
    /// All calls pass and are counted.
    Closed,
    /// All calls pass, none is counted.
    Disabled,
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Circuit::Closed => "closed",
            Circuit::Open => "open",
            Circuit::HalfOpen => "half open",
            Circuit::Forced(Forced::Open) => "forced open",
            Circuit::Forced(Forced::Closed) => "forced closed",
            Circuit::Forced(Forced::Disabled) => "disabled",
        })
    }
}

/// Why a breaker stands where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It is new, or was reset.
    Fresh,
    /// So many of so many calls failed.
    Failed {
        /// How many were counted.
        calls: u64,
        /// How many of them failed.
        failed: u64,
    },
    /// So many of so many calls were slow.
    Slow {
        /// How many were counted.
        calls: u64,
        /// How many of them were slow.
        slow: u64,
    },
    /// It has been open long enough.
    Waited,
    /// Its probes went well.
    Recovered,
    /// Its handle says so.
    Forced,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Fresh => f.write_str("nothing has happened"),
            Why::Failed { calls, failed } => write!(f, "{failed} of {calls} calls failed"),
            Why::Slow { calls, slow } => write!(f, "{slow} of {calls} calls were slow"),
            Why::Waited => f.write_str("it has been open long enough"),
            Why::Recovered => f.write_str("its probes went well"),
            Why::Forced => f.write_str("its handle says so"),
        }
    }
}

/// Where a breaker stands, since when, until when, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// The state.
    pub circuit: Circuit,
    /// Since when.
    pub since: Instant,
    /// Until when calls are refused; none where time alone does not end it.
    pub until: Option<Instant>,
    /// Why.
    pub why: Why,
    /// How many calls count at the moment.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were slow.
    pub slow: u64,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.circuit, self.why)
    }
}

/// Leave to make a call. Counts only while the circuit is in the state that gave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permit {
    epoch: u64,
    pub(super) start: Instant,
}

/// From one state to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) from: Circuit,
    pub(super) to: Circuit,
    pub(super) why: Why,
}

enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { admitted: u32, counts: Counts },
    Forced(Forced),
}

/// The state of one breaker.
pub(super) struct Core {
    pub(super) trip: Trip,
    recent: Recent,
    phase: Phase,
    /// Which state this is since the beginning, so that results of calls made in another one do not count.
    epoch: u64,
    /// How many probations have failed in a row.
    tries: u32,
    since: Instant,
    why: Why,
    used: Instant,
    rng: Rng,
    /// What has changed and nobody has been told yet.
    pub(super) turn: Option<Turn>,
}

impl Core {
    pub(super) fn new(trip: Trip, rng: Rng, now: Instant) -> Self {
        let recent = Recent::new(trip.window, now);
        let (phase, why) = (Phase::Closed, Why::Fresh);
        Core { trip, recent, phase, epoch: 0, tries: 0, since: now, why, used: now, rng, turn: None }
    }

    /// Whether to make a call now; if not, for how long not, where that is known.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Permit, Option<Duration>> {
        self.used = now;
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(Some(until - now));
            }
            self.go(Phase::HalfOpen { admitted: 0, counts: Counts::default() }, Why::Waited, now);
        }
        match &mut self.phase {
            Phase::HalfOpen { admitted, .. } if *admitted >= self.trip.probes => return Err(None),
            Phase::HalfOpen { admitted, .. } => *admitted += 1,
            Phase::Forced(Forced::Open) => return Err(None),
            _ => {}
        }
        Ok(Permit { epoch: self.epoch, start: now })
    }

    /// A call is over: whether it failed and was slow, or none where it says nothing.
    pub(super) fn settle(&mut self, permit: Permit, said: Option<(bool, bool)>, now: Instant) {
        if permit.epoch != self.epoch {
            return;
        }
        let trip = &self.trip;
        match (&mut self.phase, said) {
            (Phase::HalfOpen { admitted, .. }, None) => *admitted -= 1, // another one may probe
            (Phase::HalfOpen { counts, .. }, Some((failed, slow))) => {
                counts.add(Counts::of(failed, slow));
                if let Some(why) = trip.trips(*counts, trip.probes.into()) {
                    self.tries += 1;
                    self.open(why, now);
                } else if counts.calls >= trip.probes.into() {
                    self.close(Why::Recovered, now);
                }
            }
            (Phase::Closed, Some((failed, slow))) => {
                self.recent.count(failed, slow, now);
                let counts = self.recent.counts(now);
                if counts.calls >= trip.needed()
                    && let Some(why) = trip.trips(counts, counts.calls)
                {
                    self.open(why, now);
                }
            }
            (Phase::Forced(Forced::Closed), Some((failed, slow))) => self.recent.count(failed, slow, now),
            _ => {}
        }
    }

    /// Holds it in a state, or lets it go, closed and with nothing counted.
    pub(super) fn force(&mut self, forced: Option<Forced>, now: Instant) {
        match (forced, &self.phase) {
            (Some(forced), _) => self.go(Phase::Forced(forced), Why::Forced, now),
            (None, Phase::Forced(_)) => self.close(Why::Fresh, now),
            (None, _) => {}
        }
    }

    /// Closed, and as new.
    pub(super) fn reset(&mut self, now: Instant) {
        self.close(Why::Fresh, now);
    }

    /// Decides by other settings from now on; the counts are kept, unless the window is another.
    pub(super) fn set(&mut self, trip: Trip, now: Instant) {
        if trip.window != self.trip.window {
            self.recent = Recent::new(trip.window, now);
        }
        self.trip = trip;
    }

    pub(super) fn explain(&mut self, now: Instant) -> Explained {
        let Counts { calls, failed, slow } = match &self.phase {
            Phase::HalfOpen { counts, .. } => *counts,
            _ => self.recent.counts(now),
        };
        let until = match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        };
        Explained { circuit: self.circuit(), since: self.since, until, why: self.why, calls, failed, slow }
    }

    /// Whether forgetting it changes nothing but what went well: closed, without a failure, or long unused.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        let Counts { failed, slow, .. } = self.recent.counts(now);
        let unused = now.saturating_duration_since(self.used) >= Duration::from_secs(600);
        matches!(self.phase, Phase::Closed) && (unused || (failed, slow) == (0, 0))
    }

    fn open(&mut self, why: Why, now: Instant) {
        let wait = self.trip.open.wait(self.tries, &mut self.rng);
        self.go(Phase::Open { until: crate::base::time::after(now, wait) }, why, now);
    }

    fn close(&mut self, why: Why, now: Instant) {
        self.tries = 0;
        self.recent = Recent::new(self.trip.window, now);
        self.go(Phase::Closed, why, now);
    }

    fn go(&mut self, phase: Phase, why: Why, now: Instant) {
        let from = self.circuit();
        self.phase = phase;
        self.epoch += 1;
        (self.since, self.why) = (now, why);
        self.turn = Some(Turn { from, to: self.circuit(), why });
    }

    fn circuit(&self) -> Circuit {
        match self.phase {
            Phase::Closed => Circuit::Closed,
            Phase::Open { .. } => Circuit::Open,
            Phase::HalfOpen { .. } => Circuit::HalfOpen,
            Phase::Forced(forced) => Circuit::Forced(forced),
        }
    }
}

#[cfg(test)]
mod tests;
