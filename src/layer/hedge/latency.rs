//! How long calls took of late: a log-linear histogram over a rolling window.

use super::super::deadline::nanos;
use crate::base::time::Instant;
use std::time::Duration;

/// Each power of two is divided into so many buckets: a value is told to 3 % and better.
const LINES: u64 = 32;
/// From 0 to the greatest number of nanoseconds.
const BUCKETS: usize = (LINES * 60) as usize;
/// Parts of the window: Finagle's three of ten seconds.
const PARTS: usize = 3;
const PART: Duration = Duration::from_secs(10);

/// Durations of the last 20 to 30 seconds, to a precision of 3 % from nanoseconds to centuries.
pub(super) struct Latency {
    parts: [Part; PARTS],
    sum: Part,
    start: Instant,
    tick: u64,
}

struct Part {
    count: u64,
    buckets: Box<[u32]>,
}

impl Part {
    fn new() -> Self {
        Part { count: 0, buckets: vec![0; BUCKETS].into() }
    }
}

impl Latency {
    pub(super) fn new(start: Instant) -> Self {
        Latency { parts: std::array::from_fn(|_| Part::new()), sum: Part::new(), start, tick: 0 }
    }

    pub(super) fn record(&mut self, took: Duration, now: Instant) {
        self.advance(now);
        let at = bucket(nanos(took));
        let part = self.tick as usize % PARTS;
        for part in self.parts.get_mut(part).into_iter().chain([&mut self.sum]) {
            if let Some(count) = part.buckets.get_mut(at) {
                *count = count.saturating_add(1);
                part.count += 1;
            }
        }
    }

    /// How many are in the window.
    pub(super) fn count(&mut self, now: Instant) -> u64 {
        self.advance(now);
        self.sum.count
    }

    /// The least duration that at least this part of those recorded do not exceed.
    pub(super) fn quantile(&mut self, part: f64, now: Instant) -> Duration {
        let count = self.count(now);
        let rank = ((count as f64 * part).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let reached = self.sum.buckets.iter().position(|bucket| {
            seen += u64::from(*bucket);
            seen >= rank
        });
        Duration::from_nanos(reached.map_or(0, last))
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, now: Instant) {
        let tick = nanos(now.saturating_duration_since(self.start)) / nanos(PART);
        if tick <= self.tick {
            return;
        }
        for passed in 1..=(tick - self.tick).min(PARTS as u64) {
            let Some(part) = self.parts.get_mut((self.tick + passed) as usize % PARTS) else { continue };
            self.sum.count -= part.count;
            part.count = 0;
            for (sum, bucket) in self.sum.buckets.iter_mut().zip(&mut part.buckets) {
                *sum -= std::mem::take(bucket);
            }
        }
        self.tick = tick;
    }
}

fn bucket(nanos: u64) -> usize {
    let power = 63 - (nanos | LINES).leading_zeros() as u64; // 5 and more
    let line = nanos >> (power - 5); // below 2 · LINES; below LINES only where nanos is
    ((power - 5) * LINES + line) as usize
}

/// The greatest value in a bucket.
fn last(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * LINES {
        return bucket;
    }
    let (shift, line) = (bucket / LINES - 1, bucket % LINES + LINES);
    ((u128::from(line + 1) << shift) - 1).min(u64::MAX.into()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};

    #[test]
    fn every_value_falls_into_a_bucket_that_ends_within_three_per_cent() {
        let mut rng = Seed::new(51).rng();
        let edges = (0..64).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1]);
        let drawn = (0..200_000).map(|_| rng.next_u64() >> rng.below(64));
        for value in edges.chain(drawn).chain([u64::MAX]) {
            let end = last(bucket(value));
            assert!(bucket(value) < BUCKETS && end >= value, "{value} {end}");
            assert!((end - value) as f64 <= value as f64 / 32.0, "{value} {end}");
            assert!(bucket(end) == bucket(value) && (end == u64::MAX || bucket(end + 1) == bucket(value) + 1));
        }
    }

    #[test]
    fn two_hundred_thousand_records_give_the_quantiles_of_the_window() {
        let (mut rng, start) = (Seed::new(52).rng(), time::now());
        let (mut latency, mut kept, mut now) = (Latency::new(start), std::collections::VecDeque::new(), start);
        for step in 0..200_000 {
            now += Duration::from_millis(if rng.chance(0.0005) { rng.below(60_000) } else { rng.below(20) });
            let took = Duration::from_nanos(rng.next_u64() >> rng.range(20..60));
            latency.record(took, now);
            let tick = (now - start).as_secs() / 10;
            kept.push_back((tick, took));
            while kept.front().is_some_and(|(then, _)| then + 3 <= tick) {
                kept.pop_front();
            }
            if step % 1_000 == 0 {
                let mut sorted: Vec<_> = kept.iter().map(|(_, took)| *took).collect();
                sorted.sort();
                for part in [0.5, 0.9, 0.99] {
                    let exact = sorted[((sorted.len() as f64 * part).ceil() as usize).max(1) - 1];
                    let found = latency.quantile(part, now);
                    assert_eq!(latency.count(now), sorted.len() as u64);
                    assert!(found >= exact && found <= exact.mul_f64(1.0 + 1.0 / 32.0), "step {step}");
                }
            }
        }
    }
}
