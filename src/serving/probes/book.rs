//! Which endpoint is to be checked when, and what the results say of it: pure.

use crate::{
    base::time::{Instant, after},
    pod::{Checked, Probe, Prober},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// One stay of an endpoint in the set.
struct Stay {
    /// Tells it from another stay under the same key.
    number: u64,
    prober: Prober,
}

pub(super) struct Book {
    pace: Probe,
    /// The most checks at a time.
    limit: usize,
    running: usize,
    numbers: u64,
    stays: BTreeMap<Arc<str>, Stay>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

impl Book {
    pub(super) fn new(pace: Probe, limit: usize) -> Self {
        Book { pace, limit, running: 0, numbers: 0, stays: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// The set has these endpoints now. Those that are new are given back, in their order; `wait` says how long each
    /// waits for its first check.
    pub(super) fn follow(
        &mut self,
        keys: &[Arc<str>],
        now: Instant,
        mut wait: impl FnMut() -> Duration,
    ) -> Vec<Arc<str>> {
        let there: BTreeSet<&str> = keys.iter().map(|key| &**key).collect();
        self.stays.retain(|key, _| there.contains(&**key));
        self.due.retain(|(_, key)| there.contains(&**key));
        let mut new = Vec::new();
        for key in keys {
            if self.stays.contains_key(key) {
                continue;
            }
            let prober = Prober::new(&self.pace, after(now, wait()));
            self.due.extend(prober.deadline().map(|due| (due, key.clone())));
            self.numbers += 1;
            self.stays.insert(key.clone(), Stay { number: self.numbers, prober });
            new.push(key.clone());
        }
        new
    }

    /// The next endpoint to be checked now; none where none is due, or as many checks run as may.
    pub(super) fn begin(&mut self, now: Instant) -> Option<(Arc<str>, u64)> {
        if self.running >= self.limit || self.due.first()?.0 > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        let stay = self.stays.get_mut(&key)?;
        stay.prober.begin(&self.pace, now).then(|| {
            self.running += 1;
            (key, stay.number)
        })
    }

    /// When to ask again; none while as many checks run as may, or nothing is due ever.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.running >= self.limit { None } else { self.due.first().map(|(due, _)| *due) }
    }

    /// Takes the result of a check that was begun. What is decided of the endpoint so far, if anything; none where this
    /// stay of it is over.
    pub(super) fn record(&mut self, key: &Arc<str>, number: u64, good: bool) -> Option<Option<bool>> {
        self.running -= 1;
        let stay = self.stays.get_mut(key).filter(|stay| stay.number == number)?;
        stay.prober.record(&self.pace, if good { Checked::Success } else { Checked::Failure });
        self.due.extend(stay.prober.deadline().map(|due| (due, key.clone())));
        Some(stay.prober.passing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time::now};

    #[test]
    fn a_hundred_thousand_random_steps_keep_the_bound_and_forget_nobody() {
        let (mut rng, start) = (Seed::new(5).rng(), now());
        let pace = Probe::tcp(1).period(Duration::from_millis(100)).successes(2).failures(3);
        let mut book = Book::new(pace, 7);
        let (mut at, mut running, mut checked) = (start, Vec::new(), BTreeMap::<Arc<str>, Instant>::new());
        let mut there: BTreeSet<Arc<str>> = BTreeSet::new();
        for step in 0..100_000_u64 {
            at += Duration::from_millis(rng.below(5));
            if rng.chance(0.05) {
                let key: Arc<str> = rng.below(30).to_string().into();
                if !there.remove(&key) {
                    there.insert(key.clone());
                }
                checked.remove(&key);
                let keys: Vec<_> = there.iter().cloned().collect();
                for key in book.follow(&keys, at, || Duration::from_millis(rng.below(100))) {
                    checked.insert(key, at);
                }
            }
            while let Some((key, number)) = book.begin(at) {
                assert!(there.contains(&key), "step {step}");
                checked.insert(key.clone(), at);
                running.push((key, number));
            }
            assert!(running.len() <= 7 && book.running == running.len());
            assert!(book.deadline().is_none_or(|due| due > at), "step {step}");
            if !running.is_empty() && rng.chance(0.7) {
                let (key, number) = running.swap_remove(rng.below(running.len() as u64) as usize);
                book.record(&key, number, rng.chance(0.5));
            }
            assert!(book.stays.len() == there.len() && book.due.len() <= there.len());
        }
        for (key, number) in running {
            book.record(&key, number, true);
        }
        assert_eq!(book.due.len(), there.len(), "each waits for its next check");
        let oldest = checked.values().min().unwrap();
        assert!(at - *oldest < Duration::from_secs(1), "{:?}", at - *oldest);
    }

    #[test]
    fn a_result_of_an_earlier_stay_says_nothing_of_this_one() {
        let (start, key) = (now(), Arc::<str>::from("a"));
        let mut book = Book::new(Probe::tcp(1).failures(1), 1);
        let keys = [key.clone()];
        book.follow(&keys, start, || Duration::ZERO);
        let (_, first) = book.begin(start).unwrap();
        book.follow(&[], start, || Duration::ZERO);
        book.follow(&keys, start, || Duration::ZERO);
        assert!(book.begin(start).is_none() && book.deadline().is_none(), "the earlier check still runs");
        assert_eq!(book.record(&key, first, false), None);
        let (_, second) = book.begin(start).unwrap();
        assert_eq!(book.record(&key, second, true), Some(Some(true)));
        assert_eq!(book.deadline(), Some(start + Duration::from_secs(10)));
    }
}
