//! The decision of the rate limit, and what is remembered of each key.

use super::nanos;
use crate::base::{Error, Kind, Result};
use std::{collections::BTreeMap, fmt, time::Duration};

/// How many keys are told apart, unless said otherwise.
const KEYS: usize = 10_000;

/// So many per time, and how many of them may come at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: u64,
    burst: u32,
}

impl Rate {
    /// This many in every `per`, all of them at once if need be; see [`burst`](Self::burst).
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is none at all, or more than one a nanosecond.
    pub fn new(count: u32, per: Duration) -> Result<Rate> {
        if count == 0 || per.as_nanos() < u128::from(count) {
            let message =
                format!("a rate of {count} in {per:?}: it must be at least one, and at most one a nanosecond");
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(Rate { interval: nanos(per).div_ceil(u64::from(count)), burst: count })
    }

    /// How many may come at once after a rest, 0 counts as 1; 1 keeps them evenly apart.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Rate {
        self.burst = burst.max(1);
        self
    }

    /// When the next one may start, and counts it; how long it would have to wait where that is more than the patience.
    /// `arrival` is when it would have come had they all kept the interval: the whole state (GCRA, ITU-T I.371).
    pub(crate) fn take(self, arrival: &mut u64, now: u64, patience: u64) -> Result<u64, u64> {
        let due = (*arrival).max(now);
        let start = due.saturating_sub(self.interval.saturating_mul(u64::from(self.burst) - 1)).max(now);
        if start - now > patience {
            return Err(start - now);
        }
        *arrival = due.saturating_add(self.interval);
        Ok(start)
    }
}

impl Rate {
    /// Gives back the last turn that was taken.
    pub(crate) fn put_back(self, arrival: &mut u64) {
        *arrival = arrival.saturating_sub(self.interval);
    }

    /// How far apart they are when they come evenly.
    pub(crate) fn interval(self) -> Duration {
        Duration::from_nanos(self.interval)
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate(one every {:?}, {} at once)", Duration::from_nanos(self.interval), self.burst)
    }
}

/// What is known of each key, in two generations: whoever calls moves to the younger one. All of the older have their
/// full burst back once its last arrival is past, and are forgotten together.
pub(super) struct Keys<K> {
    young: Generation<K>,
    old: Generation<K>,
    pub(super) most: usize,
    /// Shared by those for whom there is no room.
    spill: u64,
}

struct Generation<K> {
    arrivals: BTreeMap<K, u64>,
    last: u64,
}

impl<K> Default for Keys<K> {
    fn default() -> Self {
        Keys { young: Generation::default(), old: Generation::default(), most: KEYS, spill: 0 }
    }
}

impl<K> Default for Generation<K> {
    fn default() -> Self {
        Generation { arrivals: BTreeMap::new(), last: 0 }
    }
}

impl<K: Ord> Keys<K> {
    pub(super) fn len(&self) -> usize {
        self.young.arrivals.len() + self.old.arrivals.len()
    }

    /// Lets the key take its turn.
    pub(super) fn take(&mut self, key: K, rate: Rate, now: u64, patience: u64) -> Result<Turn, u64> {
        if now >= self.old.last {
            self.old = std::mem::take(&mut self.young);
        }
        let full = self.len() >= self.most;
        let (arrival, spilled) = if let Some(arrival) = self.young.arrivals.get_mut(&key) {
            (arrival, false)
        } else {
            match self.old.arrivals.remove(&key) {
                None if full => (&mut self.spill, true),
                known => (self.young.arrivals.entry(key).or_insert(known.unwrap_or(0)), false),
            }
        };
        let start = rate.take(arrival, now, patience);
        self.young.last = self.young.last.max(*arrival);
        Ok(Turn { start: start?, arrival: *arrival, interval: rate.interval, spilled })
    }

    /// Gives back a turn that was not used, unless one has been taken after it.
    pub(super) fn put_back(&mut self, key: &K, turn: Turn) {
        let arrival = match turn.spilled {
            true => Some(&mut self.spill),
            false => self.young.arrivals.get_mut(key).or_else(|| self.old.arrivals.get_mut(key)),
        };
        if let Some(arrival) = arrival.filter(|arrival| **arrival == turn.arrival) {
            *arrival -= turn.interval;
        }
    }
}

/// A turn that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) start: u64,
    arrival: u64,
    interval: u64,
    spilled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    fn rate(interval: u64, burst: u32) -> Rate {
        Rate { interval, burst }
    }

    #[test]
    fn a_hundred_thousand_steps_agree_with_a_bucket_of_tokens() {
        let mut rng = Seed::new(4).rng();
        let (mut now, mut passed, mut refused) = (0, 0, 0);
        for _ in 0..100 {
            let rate = rate(rng.range(1..1_000), rng.range(1..20) as u32);
            let (mut arrival, full) = (0, rate.interval * u64::from(rate.burst));
            let (mut tokens, mut before) = (full, now);
            for step in 0..1_000 {
                now += rng.below(rate.interval + 1);
                if rng.chance(0.02) {
                    now += 2 * full;
                }
                tokens = full.min(tokens + now - before);
                before = now;
                match rate.take(&mut arrival, now, 0) {
                    Ok(start) => {
                        passed += 1;
                        assert!(start == now && tokens >= rate.interval, "step {step}");
                        tokens -= rate.interval;
                    }
                    Err(wait) => {
                        refused += 1;
                        assert_eq!(tokens + wait, rate.interval, "step {step}: exactly then it could pass");
                    }
                }
            }
        }
        assert!(passed > 20_000 && refused > 10_000, "{passed} {refused}");
    }

    #[test]
    fn forgetting_a_key_changes_nothing_and_keys_stay_bounded() {
        let mut rng = Seed::new(9).rng();
        let (mut keys, mut model) = (Keys { most: 20, ..Keys::default() }, BTreeMap::new());
        let (rate, mut now, mut spilled) = (rate(10, 3), 0, 0);
        for step in 0..200_000 {
            let pause = if rng.chance(0.001) { 500 } else { 4 };
            now += rng.below(pause);
            let key = rng.below(if step % 20_000 < 15_000 { 30 } else { 100 });
            let patience = rng.below(2) * 15;
            let known: &mut u64 = model.entry(key).or_default();
            let expected = rate.take(&mut known.clone(), now, patience);
            match keys.take(key, rate, now, patience) {
                Ok(turn) if turn.spilled => spilled += 1,
                Ok(turn) => {
                    assert_eq!(expected, Ok(turn.start), "step {step}");
                    rate.take(known, now, patience).unwrap();
                    if turn.start > now && rng.chance(0.3) {
                        keys.put_back(&key, turn);
                        *known -= rate.interval;
                    }
                }
                Err(wait) if keys.contains(key) => assert_eq!(expected, Err(wait), "step {step}"),
                Err(_) => spilled += 1,
            }
            assert!(keys.len() <= 20);
        }
        assert!((1_000..100_000).contains(&spilled), "{spilled}");
    }

    impl Keys<u64> {
        fn contains(&self, key: u64) -> bool {
            self.young.arrivals.contains_key(&key) || self.old.arrivals.contains_key(&key)
        }
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for (count, per) in [(0, Duration::from_secs(1)), (1, Duration::ZERO), (11, Duration::from_nanos(10))] {
            assert_eq!(Rate::new(count, per).unwrap_err().kind(), Kind::Invalid);
        }
        let slowest = Rate::new(1, Duration::MAX).unwrap().burst(u32::MAX);
        let mut arrival = 0;
        assert_eq!(slowest.take(&mut arrival, 5, 0), Ok(5));
        assert_eq!(Rate::new(3, Duration::from_secs(1)).unwrap(), rate(333_333_334, 3));
    }
}
