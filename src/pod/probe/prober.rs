//! When a check is due, and what its result changes.

use super::Probe;
use crate::base::time::{Instant, after};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The container is as it should be.
    Success,
    /// It is not, or did not answer in time.
    Failure,
    /// The check could not be made.
    Unknown,
}

/// One probe of one instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prober {
    next: Instant,
    in_flight: bool,
    row: u32,
    last: Option<Outcome>,
    passing: Option<bool>,
}

impl Prober {
    /// For an instance that has started to be probed now.
    pub(crate) fn new(probe: &Probe, now: Instant) -> Self {
        Prober { next: after(now, probe.initial_delay), in_flight: false, row: 0, last: None, passing: None }
    }

    /// What the thresholds have decided so far: nothing, passed, failed.
    pub(crate) fn passing(&self) -> Option<bool> {
        self.passing
    }

    /// Whether a check is to be made now; then it counts as begun. One at a time: a period that ends during a check is
    /// skipped.
    pub(crate) fn begin(&mut self, probe: &Probe, now: Instant) -> bool {
        if self.in_flight || now < self.next {
            return false;
        }
        self.in_flight = true;
        self.next = after(now, probe.period);
        true
    }

    /// When to ask next; none during a check.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.in_flight).then_some(self.next)
    }

    /// Takes a result; whether it changed what the thresholds decide.
    pub(crate) fn record(&mut self, probe: &Probe, outcome: Outcome) -> bool {
        self.in_flight = false;
        self.row = if self.last == Some(outcome) { self.row.saturating_add(1) } else { 1 };
        self.last = Some(outcome);
        let decided = match outcome {
            Outcome::Success if self.row >= probe.successes => Some(true),
            Outcome::Failure if self.row >= probe.failures => Some(false),
            _ => return false,
        };
        let changed = self.passing != decided;
        self.passing = decided;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time::now};
    use Outcome::*;
    use std::time::Duration;

    #[test]
    fn thresholds_count_in_a_row() {
        let probe = Probe::tcp(1).successes(2).failures(3);
        let mut prober = Prober::new(&probe, now());
        let mut seen = Vec::new();
        for outcome in
            [Success, Success, Failure, Failure, Success, Failure, Failure, Unknown, Failure, Failure, Failure]
        {
            prober.record(&probe, outcome);
            seen.push(prober.passing());
        }
        let (none, yes, no) = (None, Some(true), Some(false));
        assert_eq!(seen, [none, yes, yes, yes, yes, yes, yes, yes, yes, yes, no]);
    }

    #[test]
    fn kubernetes_pace() {
        let start = now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let probe = Probe::tcp(1).initial_delay(Duration::from_secs(5));
        let mut prober = Prober::new(&probe, start);
        assert!(!prober.begin(&probe, at(4)));
        assert_eq!(prober.deadline(), Some(at(5)));
        assert!(prober.begin(&probe, at(5)));
        assert_eq!(prober.deadline(), None);
        assert!(!prober.begin(&probe, at(50)), "one at a time");
        assert!(prober.record(&probe, Success));
        assert!(!prober.record(&probe, Success), "no news");
        assert!(prober.begin(&probe, at(50)));
        prober.record(&probe, Success);
        assert_eq!(prober.deadline(), Some(at(60)));
    }

    #[test]
    fn a_million_random_results_never_decide_early() {
        let probe = Probe::tcp(1).successes(3).failures(5);
        let mut prober = Prober::new(&probe, now());
        let mut rng = Seed::new(4).rng();
        let (mut row, mut last, mut decisions) = (0, None, [0, 0]);
        for _ in 0..1_000_000 {
            let outcome = *rng.choose(&[Success, Failure, Success, Failure, Unknown]).unwrap();
            row = if last == Some(outcome) { row + 1 } else { 1 };
            last = Some(outcome);
            let before = prober.passing();
            let changed = prober.record(&probe, outcome);
            assert_eq!(changed, before != prober.passing());
            match (outcome, row) {
                (Success, 3..) => assert_eq!(prober.passing(), Some(true)),
                (Failure, 5..) => assert_eq!(prober.passing(), Some(false)),
                _ => assert_eq!(prober.passing(), before),
            }
            decisions[usize::from(prober.passing() == Some(true))] += u64::from(changed);
        }
        assert!(decisions.iter().all(|count| *count > 1000), "{decisions:?}");
    }
}
