//! How much extra load all the trying again may add.

use crate::base::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Instant, now},
};
use std::{fmt, sync::Arc, time::Duration};

/// One-second slots; together the window.
const SLOTS: u64 = 10;

/// A budget of extra attempts: a share of the requests of the last ten seconds, and a floor.
///
/// Without one, retries multiply the load on whoever is failing because of load. All that sends a request again draws
/// on one budget: clones share it, so hand a clone to every layer in front of the same service.
///
/// - 10 s window, 10 a second as the floor, 20 % of the requests: Finagle's defaults, and tower's
/// - extra attempts are reserved before they are counted, so concurrent ones never overspend; two that race for the last
///   may both be refused
///
/// A budget that is spent refuses the extra attempt and nothing else: the result so far is the result.
///
/// ```
/// use seedpod::{base::time, layer::Budget};
///
/// let (budget, now) = (Budget::new(1, 20), time::now());
/// (0..100).for_each(|_| budget.deposit(now));
/// let extra = (0..100).filter(|_| budget.withdraw(now)).count();
/// assert_eq!(extra, 30); // ten seconds' floor, and 20 % of a hundred
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    /// A second.
    floor: AtomicU64,
    /// In millionths of the requests.
    share: AtomicU64,
    start: Instant,
    requests: Window,
    extras: Window,
}

impl Budget {
    /// This many extra attempts a second whatever the traffic is, and this share of the requests, in per cent.
    pub fn new(floor: u32, percent: u32) -> Self {
        Budget::of(floor, u64::from(percent) * PERCENT)
    }

    /// No floor, and this part of the requests.
    pub(crate) fn share(part: f64) -> Self {
        Budget::of(0, millionths(part))
    }

    fn of(floor: u32, share: u64) -> Self {
        let (requests, extras) = (Window::default(), Window::default());
        let (floor, share) = (AtomicU64::new(floor.into()), AtomicU64::new(share));
        Budget(Arc::new(Shared { floor, share, start: now(), requests, extras }))
    }

    /// Changes floor and share, for all that hold it; what is spent stays spent.
    pub fn set(&self, floor: u32, percent: u32) {
        self.0.floor.store(floor.into(), SeqCst);
        self.0.share.store(u64::from(percent) * PERCENT, SeqCst);
    }

    pub(crate) fn set_share(&self, part: f64) {
        self.0.share.store(millionths(part), SeqCst);
    }

    /// Counts a request: called once for each, whatever becomes of it.
    pub fn deposit(&self, now: Instant) {
        self.deposit_many(1, now);
    }

    /// Counts so many requests.
    pub(crate) fn deposit_many(&self, count: u64, now: Instant) {
        self.0.requests.add(self.tick(now), count);
    }

    /// Takes one extra attempt; false where the budget is spent.
    #[must_use = "an attempt that the budget refuses must not be made"]
    pub fn withdraw(&self, now: Instant) -> bool {
        let tick = self.tick(now);
        // reserve, then check: whoever comes later sees this one, so that together they stay within the budget
        self.0.extras.add(tick, 1);
        let within = self.0.extras.sum(tick) <= self.0.allowed(tick);
        if !within {
            self.0.extras.take(tick);
        }
        within
    }

    /// Gives back an extra attempt that was taken at this moment and never left: shed on this side.
    pub fn refund(&self, taken: Instant) {
        self.0.extras.take(self.tick(taken));
    }

    /// As [`withdraw`](Self::withdraw), for an attempt that may yet be shed on this side: dropped before it has left, it
    /// is given back.
    pub(crate) fn extra(&self, now: Instant) -> Option<Extra> {
        self.withdraw(now).then(|| Extra { budget: self.clone(), taken: now, left: false })
    }

    /// How many extra attempts are left now.
    pub fn left(&self, now: Instant) -> u64 {
        let tick = self.tick(now);
        self.0.allowed(tick).saturating_sub(self.0.extras.sum(tick))
    }

    fn tick(&self, now: Instant) -> u64 {
        SLOTS + now.saturating_duration_since(self.0.start).as_secs()
    }
}

impl Default for Budget {
    /// 10 a second and 20 %: Finagle's.
    fn default() -> Self {
        Budget::new(10, 20)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (floor, percent) = (self.0.floor.load(SeqCst), self.0.share.load(SeqCst) as f64 / PERCENT as f64);
        let window = Duration::from_secs(SLOTS);
        write!(f, "Budget({floor} a second, {percent} % of {window:?}; {} left)", self.left(now()))
    }
}

/// An extra attempt that is paid for.
pub(crate) struct Extra {
    budget: Budget,
    taken: Instant,
    left: bool,
}

impl Extra {
    /// Whether it has left so far: dropped now, it is given back if not.
    pub(crate) fn has_left(&mut self, left: bool) {
        self.left = left;
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        if !self.left {
            self.budget.refund(self.taken);
        }
    }
}

impl Shared {
    fn allowed(&self, tick: u64) -> u64 {
        self.floor.load(SeqCst) * SLOTS + self.requests.sum(tick) * self.share.load(SeqCst) / ALL
    }
}

/// Counts over the last ten ticks. A slot is one word: the low 32 bits of its tick above the count in it, so that
/// turning it over and counting into it are one exchange.
#[derive(Default)]
struct Window([AtomicU64; SLOTS as usize]);

impl Window {
    fn add(&self, tick: u64, count: u64) {
        let _ = self.slot(tick).fetch_update(SeqCst, SeqCst, |word| {
            let before = if of(word) == tick as u32 { word & COUNT } else { 0 };
            Some((tick << 32) | (before + count).min(COUNT))
        });
    }

    fn take(&self, tick: u64) {
        let _ = self
            .slot(tick)
            .fetch_update(SeqCst, SeqCst, |word| (of(word) == tick as u32 && word & COUNT > 0).then(|| word - 1));
    }

    fn sum(&self, tick: u64) -> u64 {
        let recent = |word: &u64| (tick as u32).wrapping_sub(of(*word)) < SLOTS as u32;
        self.0.iter().map(|slot| slot.load(SeqCst)).filter(recent).map(|word| word & COUNT).sum()
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder of the array's length")]
    fn slot(&self, tick: u64) -> &AtomicU64 {
        &self.0[(tick % SLOTS) as usize]
    }
}

const COUNT: u64 = u32::MAX as u64;

/// Millionths.
const ALL: u64 = 1_000_000;
const PERCENT: u64 = ALL / 100;

fn millionths(part: f64) -> u64 {
    (part * ALL as f64) as u64 // towards zero: never more than was said
}

fn of(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(all(test, seedpod_loom))]
mod loom_model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn a_million_steps_spend_all_and_no_more_of_any_window() {
        let mut rng = Seed::new(11).rng();
        let budget = Budget::new(3, 20);
        let (mut moment, mut history) = (budget.0.start, std::collections::VecDeque::<(u64, u64, u64)>::new());
        let mut spent = 0_u64;
        for step in 0..1_000_000_u64 {
            // quiet seconds, then bursts: a tick passes now and then, sometimes many at once
            if rng.chance(0.002) {
                moment += Duration::from_millis(rng.range(1..4_000));
            }
            let tick = budget.tick(moment);
            while history.front().is_some_and(|(then, ..)| then + SLOTS <= tick) {
                history.pop_front();
            }
            if history.back().is_none_or(|(then, ..)| *then != tick) {
                history.push_back((tick, 0_u64, 0_u64));
            }
            let (_, requests, extras) = history.back_mut().unwrap();
            match rng.below(3) {
                0 => {
                    budget.deposit(moment);
                    *requests += 1;
                }
                1 if *extras > 0 && rng.chance(0.1) => {
                    budget.refund(moment);
                    *extras -= 1;
                }
                _ => {
                    let (requests, extras) = history.iter().fold((0, 0), |sum, of| (sum.0 + of.1, sum.1 + of.2));
                    let expected = extras < 30 + requests / 5;
                    assert_eq!(budget.withdraw(moment), expected, "step {step}: {extras} for {requests}");
                    if expected {
                        history.back_mut().unwrap().2 += 1;
                        spent += 1;
                    }
                }
            }
        }
        assert!(spent > 5_000, "{spent}");
    }

    #[test]
    fn what_was_spent_comes_back_after_the_window() {
        let budget = Budget::new(1, 0);
        let start = budget.0.start;
        assert_eq!((0..100).filter(|_| budget.withdraw(start)).count(), 10);
        assert!(!budget.withdraw(start + Duration::from_secs(9)));
        assert_eq!(budget.left(start + Duration::from_secs(10)), 10);
    }

    #[test]
    fn an_extra_that_never_leaves_is_given_back_and_settings_change_live() {
        let budget = Budget::new(1, 0);
        let start = budget.0.start;
        let mut extra = budget.extra(start);
        assert_eq!(budget.left(start), 9);
        extra.as_mut().unwrap().has_left(true);
        drop(extra);
        assert_eq!(budget.left(start), 9, "it left: spent");
        drop(budget.extra(start));
        assert_eq!(budget.left(start), 9);
        budget.set(2, 50);
        (0..10).for_each(|_| budget.deposit(start));
        assert_eq!(budget.left(start), 20 + 5 - 1);
        budget.set_share(0.1);
        assert_eq!(budget.left(start), 20 + 1 - 1);
    }

    #[test]
    fn threads_that_race_never_overspend() {
        let budget = Budget::new(50, 0);
        let start = budget.0.start;
        let taken: usize = std::thread::scope(|scope| {
            let race = || (0..2_000).filter(|_| budget.withdraw(start)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((400..=500).contains(&taken), "{taken}");
    }
}
