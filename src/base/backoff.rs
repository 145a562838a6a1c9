//! How long to wait before the next try: exponential, with full jitter.

use super::Rng;
use std::time::Duration;

/// Waits that double from try to try up to a ceiling, each drawn evenly from nothing to the full wait.
///
/// Full jitter spreads those who failed together best, at the lowest total work (Amazon's "Exponential Backoff And
/// Jitter"); [`exact`](Backoff::exact) turns it off, for what must be repeatable to the second, as Kubernetes' restarts.
///
/// ```
/// use seedpod::base::{Backoff, Seed};
/// use std::time::Duration;
///
/// let restart = Backoff::new(Duration::from_secs(10), Duration::from_secs(300)).exact();
/// let waits: Vec<_> = (0..6).map(|tries| restart.wait(tries, &mut Seed::new(0).rng()).as_secs()).collect();
/// assert_eq!(waits, [10, 20, 40, 80, 160, 300]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: bool,
}

impl Backoff {
    /// From this wait up to that one, doubling, with full jitter.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Backoff { first, max, factor: 2.0, jitter: true }
    }

    /// Grows by this factor instead of doubling; below 1 counts as 1.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = if factor > 1.0 { factor } else { 1.0 };
        self
    }

    /// Waits exactly the full wait each time.
    #[must_use]
    pub const fn exact(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// The full wait before the next try, after this many tries that failed before it (0 for the first retry).
    pub fn ceiling(&self, tries: u32) -> Duration {
        let grown = self.first.as_secs_f64() * self.factor.powi(tries.min(1024) as i32);
        if grown >= self.max.as_secs_f64() { self.max } else { Duration::from_secs_f64(grown).min(self.max) }
    }

    /// The wait before the next try, drawn.
    pub fn wait(&self, tries: u32, rng: &mut Rng) -> Duration {
        let ceiling = self.ceiling(tries);
        if self.jitter { ceiling.mul_f64(rng.unit()) } else { ceiling }
    }
}

impl Default for Backoff {
    /// 25 ms, doubling up to ten times that: Envoy's retry back-off.
    fn default() -> Self {
        Backoff::new(Duration::from_millis(25), Duration::from_millis(250))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seed;
    use super::*;

    #[test]
    fn bounded_for_any_number_of_tries() {
        let mut rng = Seed::new(1).rng();
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(60)).factor(3.0);
        for tries in (0..2000).chain([u32::MAX]) {
            assert!(backoff.wait(tries, &mut rng) <= backoff.ceiling(tries));
            assert!(backoff.ceiling(tries) <= Duration::from_secs(60));
        }
    }

    #[test]
    fn full_jitter_spreads_over_the_whole_wait() {
        let mut rng = Seed::new(2).rng();
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mean = (0..10_000).map(|_| backoff.wait(0, &mut rng).as_secs_f64()).sum::<f64>() / 10_000.0;
        assert!((0.049..0.051).contains(&mean), "{mean}");
    }
}
