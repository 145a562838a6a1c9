//! Whether and when a container that has ended runs again.

use crate::base::{Backoff, time::Instant};
use std::{fmt, time::Duration};

/// Whether a container that has ended is started again.
///
/// Init containers follow it as well, except that one that ended well is done; sidecars are always restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// However it ended. Kubernetes' default.
    #[default]
    Always,
    /// When its exit code was not 0.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    /// Whether a container that ended with this code runs again.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }

    /// The policy as it is written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            RestartPolicy::Always => "Always",
            RestartPolicy::OnFailure => "OnFailure",
            RestartPolicy::Never => "Never",
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kubernetes' crash loop back-off: 10 s, doubling up to 5 min.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300)).exact();
/// Kubernetes forgets a container's failures once it has run this long.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// How often something has failed in a row, and so how long the next try has to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Restarts {
    tries: u32,
}

impl Restarts {
    /// How long to wait before running again what ran from `started` to `finished`: not at all the first time, then by
    /// the back-off.
    pub(crate) fn next(&mut self, started: Instant, finished: Instant) -> Duration {
        if finished.saturating_duration_since(started) >= FORGIVEN_AFTER {
            self.tries = 0;
        }
        let wait = match self.tries {
            0 => Duration::ZERO,
            tries => BACKOFF.ceiling(tries - 1),
        };
        self.tries = self.tries.saturating_add(1);
        wait
    }

    /// How long to wait before the next try of what could not even start: by the back-off from the first.
    pub(crate) fn next_pull(&mut self) -> Duration {
        let wait = BACKOFF.ceiling(self.tries);
        self.tries = self.tries.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::now;

    #[test]
    fn policies() {
        let restarts = |policy: RestartPolicy| [policy.restarts(0), policy.restarts(1)];
        assert_eq!(restarts(RestartPolicy::Always), [true, true]);
        assert_eq!(restarts(RestartPolicy::OnFailure), [false, true]);
        assert_eq!(restarts(RestartPolicy::Never), [false, false]);
    }

    #[test]
    fn at_once_then_doubling_then_capped() {
        let start = now();
        let mut restarts = Restarts::default();
        let waits: Vec<_> = (0..9).map(|_| restarts.next(start, start).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(restarts.next(start, start + Duration::from_secs(599)), Duration::from_secs(300));
        assert_eq!(restarts.next(start, start + Duration::from_secs(600)), Duration::ZERO);
        assert_eq!(restarts.next(start, start), Duration::from_secs(10));
    }

    #[test]
    fn a_million_restarts_stay_within_the_cap() {
        let start = now();
        let mut rng = crate::base::Seed::new(1).rng();
        let mut restarts = Restarts::default();
        for _ in 0..1_000_000 {
            let ran = Duration::from_secs(rng.below(700));
            assert!(restarts.next(start, start + ran) <= Duration::from_secs(300));
        }
    }
}
