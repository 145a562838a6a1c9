//! Rates and times from what was seen so far, including what is not over yet.

use crate::base::time::Instant;
use std::time::Duration;

/// After this time what was seen counts half: short enough to follow a rush, long enough not to follow chance.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(30);
/// Arrivals are counted in slots of this length to see how unevenly they come.
const SLOT: f64 = 5.0;

/// What is left of a weight after this many seconds.
fn decay(seconds: f64, half_life: f64) -> f64 {
    (-seconds / half_life).exp2()
}

/// The weight of the last seconds.
fn looked_at(seconds: f64) -> f64 {
    let half = HALF_LIFE.as_secs_f64();
    half / std::f64::consts::LN_2 * (1.0 - decay(seconds, half))
}

/// How often something arrives: arrivals over the time looked at, both fading. The silence since the last arrival is
/// time looked at (a gap that is not over: a censored sample), so the rate falls while nothing comes.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    last: Instant,
    arrived: f64,
    seconds: f64,
    slot: (f64, f64),
    /// Of the slots: how far their counts were from the expected, squared and per expected one; and how many there were.
    spread: (f64, f64),
}

impl Arrivals {
    pub(super) fn new(now: Instant) -> Arrivals {
        Arrivals { last: now, arrived: 0.0, seconds: 0.0, slot: (0.0, 0.0), spread: (0.0, 0.0) }
    }

    /// So many have arrived now.
    pub(super) fn record(&mut self, now: Instant, arrived: u64) {
        self.add(now, arrived, |_| 1.0);
    }

    /// So many have arrived since the last time, one as likely then as another now.
    pub(super) fn record_since(&mut self, now: Instant, arrived: u64) {
        self.add(now, arrived, |gap| if gap > 0.0 { looked_at(gap) / gap } else { 1.0 });
    }

    fn add(&mut self, now: Instant, arrived: u64, weight: impl Fn(f64) -> f64) {
        let gap = now.saturating_duration_since(self.last).as_secs_f64();
        (self.arrived, self.seconds) = self.faded(gap);
        self.arrived += arrived as f64 * weight(gap);
        self.last = self.last.max(now);
        self.slot = (self.slot.0 + arrived as f64, self.slot.1 + gap);
        if self.slot.1 >= SLOT {
            let (counted, seconds) = std::mem::take(&mut self.slot);
            let expected = self.per_second(self.arrived, self.seconds) * seconds;
            if expected > 0.0 {
                let kept = decay(seconds, 10.0 * HALF_LIFE.as_secs_f64());
                let spread = (counted - expected).powi(2) / expected;
                self.spread = (self.spread.0 * kept + spread, self.spread.1 * kept + 1.0);
            }
        }
    }

    fn faded(&self, gap: f64) -> (f64, f64) {
        let kept = decay(gap, HALF_LIFE.as_secs_f64());
        (self.arrived * kept, self.seconds * kept + looked_at(gap))
    }

    fn per_second(&self, arrived: f64, seconds: f64) -> f64 {
        arrived / seconds.max(1.0) // who has looked for less than a second knows nothing of the next one
    }

    /// How many arrive per second.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let (arrived, seconds) = self.faded(now.saturating_duration_since(self.last).as_secs_f64());
        self.per_second(arrived, seconds)
    }

    /// How unevenly they come: the variance of counts over their mean, which for independent gaps is the square of the
    /// gaps' coefficient of variation. 1 for arrivals at random, 0 for a beat, more for bursts.
    pub(super) fn variation(&self) -> Option<f64> {
        (self.spread.1 >= 2.0).then(|| self.spread.0 / self.spread.1)
    }
}

/// How long something takes: the mean of those that are over, fading, and of those still under way that have taken
/// longer than that already. Their ages are lower bounds (censored samples): long ones are seen before they end.
#[derive(Clone, Debug)]
pub(super) struct Durations {
    last: Instant,
    count: f64,
    sum: f64,
    squares: f64,
}

/// Below this weight nothing fades any more: what was seen last is still the best guess.
const LEAST: f64 = 1e-3;

impl Durations {
    pub(super) fn new(now: Instant) -> Durations {
        Durations { last: now, count: 0.0, sum: 0.0, squares: 0.0 }
    }

    /// One is over. What is older than the oldest one under way says as much about the present as that one does, so
    /// nothing fades faster than the oldest one ages.
    pub(super) fn record(&mut self, now: Instant, took: Duration, oldest: Option<Duration>) {
        let half_life = HALF_LIFE.max(oldest.unwrap_or_default()).max(took).as_secs_f64();
        let kept = decay(now.saturating_duration_since(self.last).as_secs_f64(), half_life);
        self.last = self.last.max(now);
        if self.count * kept >= LEAST {
            (self.count, self.sum, self.squares) = (self.count * kept, self.sum * kept, self.squares * kept);
        }
        let seconds = took.as_secs_f64();
        self.count += 1.0;
        self.sum += seconds;
        self.squares += seconds * seconds;
    }

    /// How long one takes, given how long those under way have taken so far; none where nothing was seen at all.
    pub(super) fn mean(&self, ages: impl Iterator<Item = Duration>) -> Option<Duration> {
        let over = if self.count > 0.0 { self.sum / self.count } else { 0.0 };
        let (mut count, mut sum) = (self.count, self.sum);
        for age in ages.map(|age| age.as_secs_f64()).filter(|age| *age > over) {
            count += 1.0;
            sum += age;
        }
        (count > 0.0).then(|| Duration::try_from_secs_f64(sum / count).unwrap_or_default())
    }

    /// The square of the coefficient of variation of those that are over: 0 where all take as long, 1 for exponential
    /// times.
    pub(super) fn variation(&self) -> Option<f64> {
        let mean = self.sum / self.count;
        (self.count >= 2.0 && mean > 0.0).then(|| ((self.squares / self.count) / (mean * mean) - 1.0).max(0.0))
    }
}

/// The part of their time that workers were busy, fading.
#[derive(Clone, Debug)]
pub(super) struct Utilisation {
    last: Instant,
    busy: f64,
    all: f64,
}

impl Utilisation {
    pub(super) fn new(now: Instant) -> Utilisation {
        Utilisation { last: now, busy: 0.0, all: 0.0 }
    }

    /// Since the last time, this many of so many workers were busy.
    pub(super) fn record(&mut self, now: Instant, busy: u32, workers: u32) {
        let gap = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = self.last.max(now);
        let kept = decay(gap, HALF_LIFE.as_secs_f64());
        self.busy = self.busy * kept + f64::from(busy.min(workers)) * gap;
        self.all = self.all * kept + f64::from(workers) * gap;
    }

    pub(super) fn get(&self) -> Option<f64> {
        (self.all > 0.0).then(|| (self.busy / self.all).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_right_at_once_and_falls_in_silence() {
        let start = time::now();
        let mut arrivals = Arrivals::new(start);
        for second in 1..=20 {
            arrivals.record_since(start + second * SECOND, 3);
            assert!((arrivals.rate(start + second * SECOND) - 3.0).abs() < 0.05, "after {second} s");
        }
        let silent = |seconds: u32| arrivals.rate(start + (20 + seconds) * SECOND);
        assert!((0..300).all(|second| silent(second + 1) < silent(second)), "each second of silence counts");
        assert!(silent(30) < 1.2 && silent(300) < 0.005, "{} {}", silent(30), silent(300));
    }

    #[test]
    fn a_burst_at_the_first_look_is_no_rate_for_ever() {
        let start = time::now();
        let mut arrivals = Arrivals::new(start);
        arrivals.record(start, 100);
        assert!(arrivals.rate(start) <= 100.0);
        assert!(arrivals.rate(start + 10 * SECOND) <= 10.0);
    }

    #[test]
    fn how_unevenly_they_come() {
        let measured = |gap: &mut dyn FnMut() -> f64| {
            let start = time::now();
            let (mut at, mut arrivals) = (0.0, Arrivals::new(start));
            for _ in 0..20_000 {
                at += gap();
                arrivals.record(start + Duration::from_secs_f64(at), 1);
            }
            arrivals.variation().unwrap()
        };
        let mut rng = Seed::new(4).rng();
        assert!(measured(&mut || 0.1) < 0.05, "a beat");
        let at_random = measured(&mut || -(1.0 - rng.unit()).ln() * 0.1);
        assert!((0.6..1.6).contains(&at_random), "{at_random}");
        let in_bursts = measured(&mut || if rng.chance(0.95) { 0.0 } else { -(1.0 - rng.unit()).ln() * 2.0 });
        assert!(in_bursts > 4.0, "{in_bursts}");
    }

    #[test]
    fn what_is_still_under_way_counts_once_it_takes_longer() {
        let start = time::now();
        let mut durations = Durations::new(start);
        assert_eq!(durations.mean(std::iter::empty()), None);
        assert_eq!(durations.mean([10 * SECOND, 20 * SECOND].into_iter()), Some(15 * SECOND), "nothing is over yet");
        durations.record(start, 2 * SECOND, None);
        durations.record(start, 4 * SECOND, None);
        assert_eq!(durations.mean([SECOND].into_iter()), Some(3 * SECOND), "the young one says nothing yet");
        assert_eq!(durations.mean([9 * SECOND].into_iter()), Some(5 * SECOND));
        assert!((durations.variation().unwrap() - 1.0 / 9.0).abs() < 1e-9);
    }

    #[test]
    fn the_mean_follows_the_present_and_survives_any_silence() {
        let start = time::now();
        let mut durations = Durations::new(start);
        for second in 0..300 {
            durations.record(start + second * SECOND, 10 * SECOND, None);
        }
        for second in 300..600 {
            durations.record(start + second * SECOND, SECOND, None);
        }
        assert!(durations.mean(std::iter::empty()).unwrap() < Duration::from_millis(1100));
        let late = start + Duration::from_secs(10_000_000);
        durations.record(late, 3 * SECOND, None);
        let mean = durations.mean(std::iter::empty()).unwrap();
        assert!(mean > SECOND && mean <= 3 * SECOND, "{mean:?}");
    }

    #[test]
    fn utilisation_is_busy_time_over_time() {
        let start = time::now();
        let mut used = Utilisation::new(start);
        assert_eq!(used.get(), None);
        for second in 1..=300_u32 {
            used.record(start + second * SECOND, second % 4, 4);
        }
        assert!((used.get().unwrap() - 0.375).abs() < 0.02);
    }
}
