//! The settings of ejection: when an endpoint is put out, for how long, and how many may be.

use crate::base::Rng;
use std::time::Duration;

mod check;

/// Envoy's `max_ejection_time`.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// When an endpoint is put out, for how long, how it comes back, and how many may be out.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`failures`](Self::failures) | 5 in a row | Envoy, Finagle |
/// | [`local_origin`](Self::local_origin) | off | Envoy (gateway failures are not enforced) |
/// | [`rate`](Self::rate) | off: it reads the clock at every success | |
/// | [`fleet`](Self::fleet) | 1.9 deviations below the mean, 5 endpoints, 100 requests | Envoy |
/// | [`failing`](Self::failing) | off | Envoy |
/// | [`interval`](Self::interval) | 10 s | Envoy |
/// | [`wait`](Self::wait) | 5 s, doubled each time up to 300 s; up to twice that by chance | Finagle (5 s, to 300 s, equal jitter) |
/// | [`probation`](Self::probation) | one real request decides, 30 s later another | linkerd, Finagle; 30 s: Envoy's first time out |
/// | [`cap`](Self::cap) | 50 % | tower-resilience; Envoy's 10 % lets none out of fewer than ten |
/// | [`panic`](Self::panic) | below 50 % | Envoy, Finagle |
///
/// [`envoy`](Self::envoy), [`linkerd`](Self::linkerd) and [`finagle`](Self::finagle) are what these do;
/// [`none`](Self::none) has no rule at all, to add some to.
///
/// ```
/// use seedpod::serving::{Detector, Ejection};
/// use std::time::Duration;
///
/// let settings = Ejection::none().failures(3).wait(Duration::from_secs(1)).cap(20);
/// assert_eq!((settings.allowed(4), settings.allowed(5), settings.allowed(100)), (0, 1, 20));
/// let error = Detector::new(settings.cap(120)).unwrap_err();
/// assert_eq!(error.to_string(), "ejection: invalid: the cap is a percentage, not 120");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    pub(super) failures: u32,
    pub(super) local_origin: u32,
    pub(super) split: bool,
    pub(super) throttled: bool,
    pub(super) rate: Option<Rate>,
    pub(super) fleet: Option<Fleet>,
    pub(super) failing: Option<Failing>,
    pub(super) interval: Duration,
    wait: Duration,
    wait_max: Option<Duration>,
    pub(super) growth: Growth,
    jitter: f64,
    pub(super) probation: bool,
    pub(super) heal: bool,
    cap: u32,
    at_least_one: bool,
    panic: u32,
}

/// How the time out grows from one ejection to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// By the first wait each time; each interval in which the endpoint was in takes one back (Envoy).
    Steps,
    /// Doubled each time, and from the start again after a probe that went well (Finagle, linkerd).
    Doubling,
}

/// Below which success rate, over which window, from how many requests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) below: f64,
    pub(super) window: Duration,
    pub(super) least: u32,
}

/// How many deviations below the mean, among how many endpoints with how many requests each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fleet {
    pub(super) deviations: f64,
    pub(super) endpoints: u32,
    pub(super) requests: u32,
}

/// From which share of failures on, among how many endpoints with how many requests each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Failing {
    pub(super) share: f64,
    pub(super) endpoints: u32,
    pub(super) requests: u32,
}

impl Ejection {
    /// The defaults.
    pub fn new() -> Self {
        Ejection::none().failures(5).fleet(1.9, 5, 100)
    }

    /// No rule: nobody is put out. What happens to who is out, were there a rule, is by the defaults.
    pub fn none() -> Self {
        Ejection {
            failures: 0,
            local_origin: 0,
            split: false,
            throttled: true,
            rate: None,
            fleet: None,
            failing: None,
            interval: Duration::from_secs(10),
            wait: Duration::from_millis(2_500),
            wait_max: Some(Duration::from_secs(150)),
            growth: Growth::Doubling,
            jitter: 1.0,
            probation: true,
            heal: true,
            cap: 50,
            at_least_one: false,
            panic: 50,
        }
    }

    /// Envoy's outlier detection: 5 in a row or 1.9 deviations below the mean; out for 30 s times the number of
    /// ejections, back without probation; at most 10 % out; panic below 50 %. Throttling is not held against anyone.
    pub fn envoy() -> Self {
        let growing = Ejection::new().wait(Duration::from_secs(30)).growth(Growth::Steps).jitter(0.0);
        growing.probation(false).throttled(false).cap(10)
    }

    /// linkerd's failure accrual (the unified one): 7 in a row, or less than 80 % of 5 or more requests in 10 s; out for
    /// 1 s, doubled up to 60 s, half as much more by chance; one request on probation; neither cap nor panic.
    pub fn linkerd() -> Self {
        let rules = Ejection::none().failures(7).rate(0.8, Duration::from_secs(10), 5);
        rules.wait(Duration::from_secs(1)).wait_max(Duration::from_secs(60)).jitter(0.5).cap(100).panic(0)
    }

    /// Finagle's failure accrual: 5 in a row, or less than 80 % of 5 or more requests in 30 s; out for 5 s, doubled up
    /// to 300 s, less up to half by chance; one request on probation; no cap; panic below 50 %.
    pub fn finagle() -> Self {
        Ejection::none().failures(5).rate(0.8, Duration::from_secs(30), 5).cap(100)
    }

    /// Out after this many failures in a row; 0 turns the rule off. A success begins a new row.
    #[must_use]
    pub fn failures(mut self, in_a_row: u32) -> Self {
        self.failures = in_a_row;
        self
    }

    /// Out after this many calls in a row that did not get as far as the application; 0 turns the rule off. Any answer of
    /// the application begins a new row, a bad one as well.
    #[must_use]
    pub fn local_origin(mut self, in_a_row: u32) -> Self {
        self.local_origin = in_a_row;
        self
    }

    /// Whether what did not get as far as the application is judged by [`local_origin`](Self::local_origin) alone,
    /// instead of counting as a failure everywhere.
    #[must_use]
    pub fn split(mut self, split: bool) -> Self {
        self.split = split;
        self
    }

    /// Whether being throttled counts against an endpoint in the rates. In a row it never does, and a probe that is
    /// throttled has always failed (linkerd).
    #[must_use]
    pub fn throttled(mut self, counts: bool) -> Self {
        self.throttled = counts;
        self
    }

    /// Out where a smaller share than this succeeds within the window, which slides by tenths, once it has seen this many
    /// requests. Judged at each failure.
    #[must_use]
    pub fn rate(mut self, below: f64, window: Duration, least: u32) -> Self {
        self.rate = Some(Rate { below, window, least });
        self
    }

    /// Out where the success rate of an interval is this many standard deviations below the mean of all endpoints. Only
    /// who had so many requests counts, and there must be so many of them.
    #[must_use]
    pub fn fleet(mut self, deviations: f64, endpoints: u32, requests: u32) -> Self {
        self.fleet = Some(Fleet { deviations, endpoints, requests });
        self
    }

    /// Out where this share of an interval's requests or more has failed, whatever the others do. Only who had so many
    /// requests counts, and there must be so many of them. Envoy's, where it is on: 0.85, 5, 50.
    #[must_use]
    pub fn failing(mut self, share: f64, endpoints: u32, requests: u32) -> Self {
        self.failing = Some(Failing { share, endpoints, requests });
        self
    }

    /// After how long [`fleet`](Self::fleet) and [`failing`](Self::failing) are judged: at the first failure after it.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The first time out; the longest is then 300 s, or this where this is longer.
    #[must_use]
    pub fn wait(mut self, first: Duration) -> Self {
        (self.wait, self.wait_max) = (first, None);
        self
    }

    /// The longest time out.
    #[must_use]
    pub fn wait_max(mut self, max: Duration) -> Self {
        self.wait_max = Some(max);
        self
    }

    /// How the time out grows.
    #[must_use]
    pub fn growth(mut self, growth: Growth) -> Self {
        self.growth = growth;
        self
    }

    /// By which share of it the time out is made longer at most, by chance, so that not all come back together.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Whether, after the time out, one real request is let through whose outcome decides; where it has not ended after
    /// 30 s, the next one takes its place. Otherwise the endpoint is simply in again.
    #[must_use]
    pub fn probation(mut self, probation: bool) -> Self {
        self.probation = probation;
        self
    }

    /// Whether an active probe that went well brings an endpoint back at once (Envoy).
    #[must_use]
    pub fn heal(mut self, heal: bool) -> Self {
        self.heal = heal;
        self
    }

    /// How many may be out at most, in per cent of all, rounded down.
    #[must_use]
    pub fn cap(mut self, percent: u32) -> Self {
        self.cap = percent;
        self
    }

    /// Whether one of two or more may be out even where the cap allows none (Envoy's `always_eject_one_host`).
    #[must_use]
    pub fn at_least_one(mut self, one: bool) -> Self {
        self.at_least_one = one;
        self
    }

    /// Below which share of pickable endpoints, in per cent, all are used; 0 is never.
    #[must_use]
    pub fn panic(mut self, percent: u32) -> Self {
        self.panic = percent;
        self
    }

    /// How many of this many endpoints may be out.
    pub fn allowed(&self, endpoints: usize) -> usize {
        let share = endpoints * self.cap as usize / 100;
        if self.at_least_one && endpoints > 1 { share.max(1) } else { share }
    }

    /// Whether all endpoints are to be used, since so few of so many are pickable.
    ///
    /// ```
    /// let settings = seedpod::serving::Ejection::new();
    /// assert!(settings.panics(4, 10) && !settings.panics(5, 10) && !settings.panics(0, 0));
    /// assert!(!settings.panic(0).panics(0, 10));
    /// ```
    pub fn panics(&self, pickable: usize, all: usize) -> bool {
        pickable * 100 < all * self.panic as usize
    }

    /// How long an endpoint is out the so-manieth time, from 1.
    pub(super) fn out_for(&self, times: u32, rng: &mut Rng) -> Duration {
        let max = self.wait_max.unwrap_or(WAIT_MAX).max(self.wait);
        let grown = match self.growth {
            Growth::Steps => self.wait.saturating_mul(times.max(1)),
            Growth::Doubling => self.wait.saturating_mul(1 << times.saturating_sub(1).min(31)),
        };
        let wait = grown.min(max);
        wait.saturating_add(wait.mul_f64(self.jitter * rng.unit()))
    }

    /// The longest that a wait can be without chance.
    pub(super) fn longest(&self) -> Duration {
        self.wait_max.unwrap_or(WAIT_MAX).max(self.wait)
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection::new()
    }
}

#[cfg(test)]
mod tests;
