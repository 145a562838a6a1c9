//! What is counted of one endpoint: cheap to count into from many threads, read when something is to be decided.

use crate::base::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::fmt;

/// The parts of a window: linkerd's buckets.
pub(super) const PARTS: u64 = 10;

/// Successes and failures in one word, so that they are counted and taken together.
#[derive(Default)]
pub(super) struct Counts(AtomicU64);

/// So many successes and failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) good: u32,
    pub(super) bad: u32,
}

const GOOD: u64 = 1 << 32;
const BAD: u64 = 1;

impl Counts {
    #[inline]
    pub(super) fn add(&self, good: bool) {
        self.0.fetch_add(if good { GOOD } else { BAD }, Relaxed);
    }

    /// What was counted; from now on from nothing.
    pub(super) fn take(&self) -> Seen {
        Seen::of(self.0.swap(0, Relaxed))
    }
}

impl Seen {
    fn of(word: u64) -> Self {
        Seen { good: (word >> 32) as u32, bad: word as u32 }
    }

    pub(super) fn all(self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    /// The share that succeeded; 1 where there was nothing.
    pub(super) fn rate(self) -> f64 {
        if self.all() == 0 { 1.0 } else { f64::from(self.good) / f64::from(self.all()) }
    }
}

/// How many in a row: failures, and among the last ones those of local origin.
#[derive(Default)]
pub(super) struct Rows(AtomicU64);

impl Rows {
    /// A success: what is in memory is written only where there was a row.
    #[inline]
    pub(super) fn end(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    /// One more; the length of both rows, failures and local origin.
    pub(super) fn grow(&self, local: bool, split: bool) -> (u32, u32) {
        let grown = |word: u64| {
            let (failures, locals) = ((word >> 32) as u32, word as u32);
            let failures = failures.saturating_add(u32::from(!(local && split)));
            let locals = if local { locals.saturating_add(1) } else { 0 };
            (u64::from(failures) << 32) | u64::from(locals)
        };
        let word = match self.0.fetch_update(Relaxed, Relaxed, |word| Some(grown(word))) {
            Ok(before) | Err(before) => grown(before),
        };
        ((word >> 32) as u32, word as u32)
    }
}

/// Counts over the last ten ticks. Counting within a tick is one addition; [`turn`](Self::turn) moves it on, once per
/// tick and under the detector's lock.
#[derive(Default)]
pub(super) struct Window {
    tick: AtomicU64,
    parts: [Counts; PARTS as usize],
}

impl Window {
    /// False where the window must be turned first.
    #[inline]
    pub(super) fn add(&self, tick: u64, good: bool) -> bool {
        let current = self.tick.load(Acquire);
        if tick > current {
            return false;
        }
        self.part(current).add(good); // a clock read a little earlier than another's counts as that one
        true
    }

    /// Moves on to this tick: what it leaves behind is forgotten.
    pub(super) fn turn(&self, tick: u64) {
        let current = self.tick.load(Acquire);
        if tick > current {
            let first = (current + 1).max(tick.saturating_sub(PARTS - 1));
            for tick in first..=tick {
                self.part(tick).take();
            }
            self.tick.store(tick, Release);
        }
    }

    pub(super) fn clear(&self) {
        for part in &self.parts {
            part.take();
        }
    }

    pub(super) fn sum(&self) -> Seen {
        self.parts.iter().fold(Seen::default(), |sum, part| {
            let seen = Seen::of(part.0.load(Relaxed));
            Seen { good: sum.good.saturating_add(seen.good), bad: sum.bad.saturating_add(seen.bad) }
        })
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the array's length")]
    fn part(&self, tick: u64) -> &Counts {
        &self.parts[(tick % PARTS) as usize]
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({:?})", self.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;
    use std::collections::VecDeque;

    fn add(window: &Window, tick: u64, good: bool) -> Seen {
        if !window.add(tick, good) {
            window.turn(tick);
            assert!(window.add(tick, good));
        }
        window.sum()
    }

    #[test]
    fn a_million_steps_agree_with_a_list_of_all_samples_whatever_the_gaps() {
        let (mut rng, window) = (Seed::new(3).rng(), Window::default());
        let (mut tick, mut samples) = (0_u64, VecDeque::new());
        for step in 0..1_000_000 {
            if rng.chance(0.05) {
                let most = [3, 12, 100, 1 << 17, 1 << 33][rng.below(5) as usize];
                tick += rng.below(most);
            }
            let good = rng.chance(0.7);
            samples.push_back((tick, good));
            while samples.front().is_some_and(|(then, _)| then + PARTS <= tick) {
                samples.pop_front();
            }
            let seen = add(&window, tick, good);
            if step % 16 == 0 {
                let good = samples.iter().filter(|(_, good)| *good).count() as u32;
                assert_eq!(seen, Seen { good, bad: samples.len() as u32 - good }, "step {step} tick {tick}");
            }
        }
    }

    #[test]
    fn an_idle_gap_of_more_than_u32_ticks_clears_all_and_wedges_nothing() {
        let window = Window::default();
        for tick in 0..10 {
            add(&window, tick, false);
        }
        assert_eq!(window.sum(), Seen { good: 0, bad: 10 });
        let later = 10 + (1 << 33);
        assert_eq!(add(&window, later, true), Seen { good: 1, bad: 0 });
        assert_eq!(add(&window, later + 9, false), Seen { good: 1, bad: 1 });
        assert_eq!(add(&window, later + 10, false), Seen { good: 0, bad: 2 });
        assert_eq!(add(&window, u64::MAX - 1, true), Seen { good: 1, bad: 0 });
    }

    #[test]
    fn samples_age_out_after_the_window_and_an_earlier_clock_counts_as_the_latest() {
        let window = Window::default();
        add(&window, 5, false);
        assert_eq!(add(&window, 14, true), Seen { good: 1, bad: 1 });
        assert_eq!(add(&window, 15, true), Seen { good: 2, bad: 0 });
        assert_eq!(add(&window, 3, true), Seen { good: 3, bad: 0 });
    }

    #[test]
    fn rows_are_split_by_origin() {
        let rows = Rows::default();
        assert_eq!((rows.grow(true, false), rows.grow(true, false), rows.grow(false, false)), ((1, 1), (2, 2), (3, 0)));
        rows.end();
        assert_eq!((rows.grow(false, true), rows.grow(true, true), rows.grow(true, true)), ((1, 0), (1, 1), (1, 2)));
        assert_eq!((Seen::default().rate(), Seen { good: 1, bad: 3 }.rate()), (1.0, 0.25));
    }

    #[test]
    fn threads_that_race_lose_no_count() {
        let (counts, window) = (Counts::default(), Window::default());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (counts, window) = (&counts, &window);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        counts.add(thread % 2 == 0);
                        assert!(window.add(0, thread % 2 == 0));
                    }
                });
            }
        });
        assert_eq!((counts.take(), window.sum()), (Seen { good: 20_000, bad: 20_000 }, window.sum()));
        assert_eq!((counts.take(), window.sum()), (Seen::default(), Seen { good: 20_000, bad: 20_000 }));
    }
}
