//! The decision of the adaptive limit: Netflix's Gradient2.

use crate::base::{Error, Kind, Result, time::Instant};
use std::time::Duration;

/// How many of the first windows are averaged plainly, before the average decays (Netflix).
const WARM_UP: u32 = 10;

/// What is left of the limit after a window in which calls were throttled or timed out: Netflix's AIMD.
const BACK_OFF: f64 = 0.9;

/// How the limit follows latency: once per window, by the ratio of the latency as it has long been to what it is now.
/// While calls do not slow down, it grows by what may queue; as they do, it shrinks, at most by half of itself, smoothed.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`between`](Self::between) | 20 to 200, 20 at first | Netflix's concurrency-limits, Gradient2 |
/// | [`queue`](Self::queue) | 4 calls | the same |
/// | [`smoothing`](Self::smoothing) | 0.2 | the same |
/// | [`tolerance`](Self::tolerance) | 1.5 | the same |
/// | [`memory`](Self::memory) | 600 windows | the same |
/// | [`window`](Self::window) | 1 s, and 10 answers | the same, `WindowedLimit` |
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient2 {
    min: u32,
    max: u32,
    initial: Option<u32>,
    queue: u32,
    smoothing: f64,
    tolerance: f64,
    memory: u32,
    window: Duration,
    answers: u32,
}

impl Gradient2 {
    /// The defaults.
    pub fn new() -> Self {
        let (window, answers) = (Duration::from_secs(1), 10);
        let (smoothing, tolerance) = (0.2, 1.5);
        Gradient2 { min: 20, max: 200, initial: None, queue: 4, smoothing, tolerance, memory: 600, window, answers }
    }

    /// The least and the greatest limit.
    #[must_use]
    pub fn between(mut self, min: u32, max: u32) -> Self {
        (self.min, self.max) = (min, max);
        self
    }

    /// The limit before anything is known; within the bounds, and 20 where that is.
    #[must_use]
    pub fn initial(mut self, initial: u32) -> Self {
        self.initial = Some(initial);
        self
    }

    /// How many calls may queue in the service: by how much the limit grows.
    #[must_use]
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// How much of a new limit is taken over at once, above 0 and up to 1.
    #[must_use]
    pub fn smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }

    /// How many times slower than usual is still no sign of overload, at least 1.
    #[must_use]
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Over how many windows the usual latency is averaged, at least 1.
    #[must_use]
    pub fn memory(mut self, windows: u32) -> Self {
        self.memory = windows;
        self
    }

    /// How long, and how many answers, it takes to learn what the latency is now.
    #[must_use]
    pub fn window(mut self, window: Duration, answers: u32) -> Self {
        (self.window, self.answers) = (window, answers);
        self
    }

    /// The greatest limit.
    pub(crate) fn most(&self) -> u32 {
        self.max
    }

    fn check(&self) -> Result {
        let invalid = |what: &str| Err(Error::new(Kind::Invalid, format!("adaptive limit: {what}")));
        if self.min == 0 || self.min > self.max {
            return invalid("the least limit must be 1 or more, and not above the greatest");
        }
        if self.initial.is_some_and(|initial| !(self.min..=self.max).contains(&initial)) {
            return invalid("the limit at first must be within its bounds");
        }
        if !(self.smoothing > 0.0 && self.smoothing <= 1.0) {
            return invalid("the smoothing must be above 0 and at most 1");
        }
        if !(self.tolerance >= 1.0 && self.tolerance.is_finite()) {
            return invalid("the tolerance must be 1 or more");
        }
        if self.memory == 0 {
            return invalid("the memory must be 1 window or more");
        }
        Ok(())
    }
}

impl Default for Gradient2 {
    fn default() -> Self {
        Gradient2::new()
    }
}

/// What a call says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sample {
    Answered,
    /// Refused by the other side, or too late.
    Dropped,
}

/// The limit, and what it was found from.
#[derive(Debug)]
pub(crate) struct Estimate {
    settings: Gradient2,
    limit: f64,
    /// The usual latency, in seconds, and from how many windows, up to the warm-up.
    usual: f64,
    windows: u32,
    window: Option<Window>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    sum: f64,
    answers: u32,
    /// The most that were under way.
    most: u32,
    dropped: bool,
}

impl Estimate {
    pub(crate) fn new(settings: Gradient2) -> Result<Self> {
        settings.check()?;
        let limit = settings.initial.unwrap_or(20).clamp(settings.min, settings.max).into();
        Ok(Estimate { settings, limit, usual: 0.0, windows: 0, window: None })
    }

    pub(super) fn settings(&self) -> &Gradient2 {
        &self.settings
    }

    pub(super) fn set(&mut self, settings: Gradient2) -> Result {
        settings.check()?;
        self.limit = self.limit.clamp(settings.min.into(), settings.max.into());
        self.settings = settings;
        Ok(())
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Takes in what a call says that took this long beside so many; true where the limit has changed.
    pub(crate) fn observe(&mut self, now: Instant, took: Duration, beside: u32, sample: Sample) -> bool {
        let window = self.window.get_or_insert(Window { start: now, sum: 0.0, answers: 0, most: 0, dropped: false });
        window.most = window.most.max(beside);
        match sample {
            Sample::Dropped => window.dropped = true,
            Sample::Answered => {
                window.sum += took.as_secs_f64();
                window.answers += 1;
            }
        }
        let enough = window.dropped || window.answers >= self.settings.answers;
        if !enough || now.saturating_duration_since(window.start) < self.settings.window {
            return false;
        }
        let before = self.limit();
        if let Some(window) = self.window.take() {
            self.close(&window);
        }
        self.limit() != before
    }

    fn close(&mut self, window: &Window) {
        let settings = &self.settings;
        let (min, max) = (f64::from(settings.min), f64::from(settings.max));
        if window.dropped {
            self.limit = (self.limit * BACK_OFF).clamp(min, max);
            return;
        }
        let latency = (window.sum / f64::from(window.answers.max(1))).max(1e-9);
        if self.windows < WARM_UP {
            self.windows += 1;
            self.usual += (latency - self.usual) / f64::from(self.windows);
        } else {
            self.usual += (latency - self.usual) * 2.0 / (f64::from(settings.memory) + 1.0);
        }
        if self.usual > 2.0 * latency {
            self.usual *= 0.95; // it has become faster: do not take long to believe it
        }
        if f64::from(window.most) < self.limit / 2.0 {
            return; // so few calls say nothing of what more would do
        }
        let gradient = (settings.tolerance * self.usual / latency).clamp(0.5, 1.0);
        let aim = self.limit * gradient + f64::from(settings.queue);
        self.limit = (self.limit + (aim - self.limit) * settings.smoothing).clamp(min, max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};

    const SECOND: Duration = Duration::from_secs(1);

    /// So many windows in which all places are taken and calls take this long; the limits after each.
    fn run(estimate: &mut Estimate, now: &mut Instant, windows: u32, took: Duration) -> Vec<u32> {
        let mut limits = Vec::new();
        for _ in 0..windows {
            for _ in 0..=10 {
                *now += SECOND / 10;
                let beside = estimate.limit();
                estimate.observe(*now, took, beside, Sample::Answered);
            }
            limits.push(estimate.limit());
        }
        limits
    }

    #[test]
    fn it_never_dips_while_latency_is_steady_and_follows_a_step_down_and_up() {
        let (mut estimate, mut now) = (Estimate::new(Gradient2::new()).unwrap(), time::now());
        let fast = SECOND / 100;
        let limits = run(&mut estimate, &mut now, 400, fast);
        assert!(limits.is_sorted() && limits.last() == Some(&200), "no traffic is shed to measure: {limits:?}");
        let limits = run(&mut estimate, &mut now, 60, 10 * fast);
        assert!(limits.iter().any(|limit| *limit <= 40), "{limits:?}");
        let limits = run(&mut estimate, &mut now, 400, fast);
        assert_eq!(limits.last(), Some(&200), "{limits:?}");
    }

    #[test]
    fn it_does_not_grow_beyond_what_is_asked_of_it() {
        let (mut estimate, now) = (Estimate::new(Gradient2::new()).unwrap(), time::now());
        for step in 0..10_000 {
            estimate.observe(now + step * SECOND / 10, SECOND / 100, 5, Sample::Answered);
        }
        assert_eq!(estimate.limit(), 20);
    }

    #[test]
    fn two_hundred_thousand_steps_of_anything_stay_within_the_bounds() {
        let mut rng = Seed::new(12).rng();
        let mut now = time::now();
        let (mut lower, mut higher) = (0, 0);
        for _ in 0..20 {
            let min = rng.range(1..50) as u32;
            let settings = Gradient2::new()
                .between(min, min + rng.below(300) as u32)
                .smoothing(0.01 + 0.99 * rng.unit())
                .memory(rng.range(1..700) as u32)
                .window(Duration::from_millis(rng.below(1_000)), rng.below(20) as u32);
            let (min, max) = (settings.min, settings.max);
            let mut estimate = Estimate::new(settings).unwrap();
            for _ in 0..10_000 {
                let (pause, most) = (1 << rng.below(32), 1 << rng.below(40));
                now += Duration::from_nanos(rng.below(pause));
                let sample = if rng.chance(0.01) { Sample::Dropped } else { Sample::Answered };
                let (before, took) = (estimate.limit(), Duration::from_nanos(rng.below(most)));
                let changed = estimate.observe(now, took, rng.below(400) as u32, sample);
                let after = estimate.limit();
                assert!((min..=max).contains(&after) && changed == (before != after));
                lower += u32::from(after < before);
                higher += u32::from(after > before);
            }
        }
        assert!(lower > 500 && higher > 500, "{lower} {higher}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let new = Gradient2::new;
        for wrong in [
            new().between(0, 5),
            new().between(6, 5),
            new().initial(500),
            new().smoothing(0.0),
            new().smoothing(f64::NAN),
            new().tolerance(0.9),
            new().tolerance(f64::INFINITY),
            new().memory(0),
        ] {
            assert_eq!(Estimate::new(wrong).unwrap_err().kind(), Kind::Invalid);
        }
    }
}
