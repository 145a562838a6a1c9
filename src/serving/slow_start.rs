//! How fast a new endpoint gets its full share.

use std::time::Duration;

/// How fast a new endpoint gets its full share: by time, by calls answered, or by the slower of both.
///
/// Caches are cold and pools empty in what has just started. Its share begins at a tenth and grows in proportion; every
/// picker obeys, since it is the draw of candidates that slows down. By time alone an endpoint that got hardly a call
/// would jump to its full share at the end of the window; by calls, too, it has earned each step.
///
/// ```
/// use seedpod::serving::{Endpoints, SlowStart};
/// use std::time::Duration;
///
/// let endpoints = Endpoints::named("cart").slow_start(SlowStart::over(Duration::from_secs(30)).requests(200));
/// # endpoints.insert("a", 'a');
/// ```
///
/// **Defaults** (Envoy's `slow_start_config`): the share is `max(least, (max(t, 1 s) / window) ^ (1 / aggression))` with
/// 10 % as the least and an aggression of 1. It begins when an endpoint comes into the set and again when a probe finds
/// it ready after it was not. Where all are new, all are equal and nothing slows down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    window: Duration,
    requests: u32,
    aggression: f64,
    least: f64,
}

impl SlowStart {
    /// Over this much time.
    pub fn over(window: Duration) -> Self {
        SlowStart { window, requests: 0, aggression: 1.0, least: 0.1 }
    }

    /// Over this many answered calls, too; alone where the window is zero.
    #[must_use]
    pub fn requests(self, requests: u32) -> Self {
        SlowStart { requests, ..self }
    }

    /// Above 1 it grows faster at first, below 1 slower. What is not above 0 counts as 1.
    #[must_use]
    pub fn aggression(self, aggression: f64) -> Self {
        let aggression = if aggression > 0.0 && aggression.is_finite() { aggression } else { 1.0 };
        SlowStart { aggression, ..self }
    }

    /// The share at the start, held to between 0.01 and 1, so that none starves; what is no number counts as 0.1.
    #[must_use]
    pub fn least(self, least: f64) -> Self {
        SlowStart { least: if least.is_nan() { 0.1 } else { least.clamp(0.01, 1.0) }, ..self }
    }

    /// The share of an endpoint that came this long ago and has answered so many calls; 1 when it is over.
    pub fn share(&self, since: Duration, served: u32) -> f64 {
        let ramp = |part: f64| if part >= 1.0 { 1.0 } else { part.powf(1.0 / self.aggression).max(self.least) };
        let time = since.max(Duration::from_secs(1)).as_secs_f64() / self.window.as_secs_f64();
        let time = if since >= self.window { 1.0 } else { ramp(time) };
        let calls =
            if served >= self.requests { 1.0 } else { ramp(f64::from(served.max(1)) / f64::from(self.requests)) };
        time.min(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_share_grows_by_time_as_envoys_does() {
        let start = SlowStart::over(60 * SECOND);
        let shares: Vec<f64> = [0, 1, 6, 30, 59, 60, 600].map(|at| start.share(at * SECOND, 0)).into();
        assert_eq!(shares, [0.1, 0.1, 0.1, 0.5, 59.0 / 60.0, 1.0, 1.0]);
        assert!((start.aggression(2.0).share(15 * SECOND, 0) - 0.5).abs() < 1e-9);
        assert!((start.aggression(0.5).share(30 * SECOND, 0) - 0.25).abs() < 1e-9);
        assert_eq!(start.least(0.3).share(SECOND, 0), 0.3);
        assert_eq!(SlowStart::over(SECOND / 2).share(Duration::ZERO, 0), 1.0);
    }

    #[test]
    fn at_low_traffic_the_calls_hold_it_back() {
        let start = SlowStart::over(10 * SECOND).requests(100);
        assert_eq!(start.share(3600 * SECOND, 20), 0.2);
        assert_eq!(start.share(5 * SECOND, 1_000), 0.5);
        assert_eq!(start.share(10 * SECOND, 100), 1.0);
        let calls = SlowStart::over(Duration::ZERO).requests(10);
        assert_eq!((calls.share(Duration::ZERO, 0), calls.share(SECOND, 5), calls.share(SECOND, 10)), (0.1, 0.5, 1.0));
    }

    #[test]
    fn whatever_is_set_the_share_is_a_number_that_never_falls() {
        for aggression in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 0.1, 1.0, 7.0] {
            for least in [f64::NAN, -1.0, 0.0, 0.5, 2.0] {
                let start = SlowStart::over(10 * SECOND).requests(10).aggression(aggression).least(least);
                let mut last = 0.0;
                for at in 0..120_u32 {
                    let share = start.share(at * SECOND / 10, at / 5);
                    assert!((0.01..=1.0).contains(&share) && share >= last, "{start:?} at {at}: {share}");
                    last = share;
                }
                assert_eq!(last, 1.0, "{start:?}");
            }
        }
    }
}
