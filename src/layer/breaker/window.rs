//! What became of the calls of late: the last so many, or those of the last so long, counted exactly.

use super::super::deadline::nanos;
use crate::base::time::Instant;
use std::time::Duration;

/// Into how many slots a window of time is divided: linkerd's ten.
const SLOTS: u64 = 10;

/// Over which calls a breaker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// The last so many.
    Calls(u32),
    /// Those of the last so long.
    Time(Duration),
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

impl Counts {
    pub(super) fn of(failed: bool, slow: bool) -> Self {
        Counts { calls: 1, failed: failed.into(), slow: slow.into() }
    }

    pub(super) fn add(&mut self, other: Counts) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
    }

    fn take(&mut self, other: Counts) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

/// The counts of a window.
pub(super) struct Recent {
    sum: Counts,
    kept: Kept,
}

enum Kept {
    /// One entry for each call, the oldest at `next` once it is full.
    Calls { most: usize, next: usize, calls: Vec<(bool, bool)> },
    /// One slot for each tick, by its remainder; `tick` is the newest.
    Time { start: Instant, width: u64, tick: u64, slots: Box<[Counts; SLOTS as usize]> },
}

impl Recent {
    pub(super) fn new(window: Window, now: Instant) -> Self {
        let kept = match window {
            Window::Calls(most) => Kept::Calls { most: most.max(1) as usize, next: 0, calls: Vec::new() },
            Window::Time(span) => {
                let width = (nanos(span) / SLOTS).max(1);
                Kept::Time { start: now, width, tick: 0, slots: Box::default() }
            }
        };
        Recent { sum: Counts::default(), kept }
    }

    pub(super) fn count(&mut self, failed: bool, slow: bool, now: Instant) {
        self.advance(now);
        match &mut self.kept {
            Kept::Calls { most, next, calls } if calls.len() < *most => {
                calls.push((failed, slow));
                *next = calls.len() % *most;
            }
            Kept::Calls { most, next, calls } => {
                if let Some(oldest) = calls.get_mut(*next) {
                    self.sum.take(Counts::of(oldest.0, oldest.1));
                    *oldest = (failed, slow);
                    *next = (*next + 1) % *most;
                }
            }
            Kept::Time { tick, slots, .. } => slot(slots, *tick).add(Counts::of(failed, slow)),
        }
        self.sum.add(Counts::of(failed, slow));
    }

    /// What the window holds now.
    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.advance(now);
        self.sum
    }

    /// Forgets what is older than a window of time.
    fn advance(&mut self, now: Instant) {
        let Kept::Time { start, width, tick, slots } = &mut self.kept else { return };
        let current = nanos(now.saturating_duration_since(*start)) / *width;
        if current <= *tick {
            return;
        }
        for passed in 1..=(current - *tick).min(SLOTS) {
            self.sum.take(std::mem::take(slot(slots, *tick + passed)));
        }
        *tick = current;
    }
}

#[expect(clippy::indexing_slicing, reason = "a remainder of the array's length")]
fn slot(slots: &mut [Counts; SLOTS as usize], tick: u64) -> &mut Counts {
    &mut slots[(tick % SLOTS) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};
    use std::collections::VecDeque;

    #[test]
    fn half_a_million_calls_are_counted_exactly_over_the_last_so_many_and_so_long() {
        let (mut rng, start) = (Seed::new(31).rng(), time::now());
        let (mut calls, mut timed) =
            (Recent::new(Window::Calls(37), start), Recent::new(Window::Time(Duration::from_secs(1)), start));
        let (mut last, mut within) = (VecDeque::new(), VecDeque::new());
        let mut now = start;
        for step in 0..500_000 {
            // bursts, quiet stretches, and now and then a gap far beyond the window
            now += match rng.below(1000) {
                0 => Duration::from_millis(rng.below(100_000)),
                1 if rng.chance(0.02) => Duration::from_secs(rng.below(1 << 30)),
                2..100 => Duration::from_millis(rng.below(2_000)),
                _ => Duration::ZERO,
            };
            let (failed, slow) = (rng.chance(0.3), rng.chance(0.1));
            let tick = (now - start).as_millis() as u64 / 100;
            calls.count(failed, slow, now);
            timed.count(failed, slow, now);
            last.push_back((failed, slow));
            within.push_back((tick, failed, slow));
            if last.len() > 37 {
                last.pop_front();
            }
            while within.front().is_some_and(|(then, ..)| then + SLOTS <= tick) {
                within.pop_front();
            }
            if step % 17 == 0 {
                let mut expected = [Counts::default(); 2];
                last.iter().for_each(|(failed, slow)| expected[0].add(Counts::of(*failed, *slow)));
                within.iter().for_each(|(_, failed, slow)| expected[1].add(Counts::of(*failed, *slow)));
                assert_eq!([calls.counts(now), timed.counts(now)], expected, "step {step}");
            }
        }
    }
}
