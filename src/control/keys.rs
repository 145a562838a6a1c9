//! What a work queue decides: which key is next, and what becomes of one that is added while it is busy.

use crate::base::time::Instant;
use std::collections::{BTreeMap, VecDeque};

/// What is known of a key; forgotten when there is nothing to know.
#[derive(Default)]
struct Item {
    /// To be worked on: in `order`, or once it is no longer busy.
    dirty: bool,
    busy: bool,
    failures: u32,
    due: Option<(Instant, u64)>,
}

pub(super) struct Keys<K> {
    items: BTreeMap<K, Item>,
    order: VecDeque<K>,
    timers: BTreeMap<(Instant, u64), K>,
    timers_made: u64,
    busy: usize,
    closed: bool,
}

impl<K: Ord + Clone> Keys<K> {
    pub(super) fn new() -> Self {
        Keys {
            items: BTreeMap::new(),
            order: VecDeque::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            busy: 0,
            closed: false,
        }
    }

    /// Marks a key to be worked on. Whether there is one more to take now.
    pub(super) fn add(&mut self, key: K) -> bool {
        if self.closed {
            return false;
        }
        let item = self.items.entry(key.clone()).or_default();
        if std::mem::replace(&mut item.dirty, true) || item.busy {
            return false;
        }
        self.order.push_back(key);
        true
    }

    /// Adds a key at that time; of several times for one key the earliest stands. Whether it is now the earliest of all.
    pub(super) fn add_at(&mut self, key: K, at: Instant) -> bool {
        if self.closed {
            return false;
        }
        let item = self.items.entry(key.clone()).or_default();
        if let Some(due) = item.due {
            if due.0 <= at {
                return false;
            }
            self.timers.remove(&due);
        }
        let due = (at, self.timers_made);
        self.timers_made += 1;
        item.due = Some(due);
        self.timers.insert(due, key);
        self.timers.first_key_value().is_some_and(|(first, _)| *first == due)
    }

    /// Adds the keys whose time has come.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            if let Some(item) = self.items.get_mut(&key) {
                item.due = None;
            }
            self.add(key);
        }
    }

    /// When the next key's time comes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// The key that was added first; it is busy until it is done.
    pub(super) fn take(&mut self) -> Option<K> {
        let key = self.order.pop_front()?;
        let item = self.items.entry(key.clone()).or_default();
        item.dirty = false;
        item.busy = true;
        self.busy += 1;
        Some(key)
    }

    /// The key is no longer busy. Whether it was added meanwhile, and is there to take again.
    pub(super) fn done(&mut self, key: &K) -> bool {
        let Some(item) = self.items.get_mut(key).filter(|item| item.busy) else { return false };
        item.busy = false;
        self.busy -= 1;
        if item.dirty {
            self.order.push_back(key.clone());
            return true;
        }
        self.tidy(key);
        false
    }

    /// Counts a failure of this key. How many there were before.
    pub(super) fn failed(&mut self, key: &K) -> u32 {
        if self.closed {
            return self.failures(key); // it will not come back, so nothing is to be remembered
        }
        let item = self.items.entry(key.clone()).or_default();
        let before = item.failures;
        item.failures = before.saturating_add(1);
        before
    }

    pub(super) fn failures(&self, key: &K) -> u32 {
        self.items.get(key).map_or(0, |item| item.failures)
    }

    pub(super) fn forget(&mut self, key: &K) {
        if let Some(item) = self.items.get_mut(key) {
            item.failures = 0;
            self.tidy(key);
        }
    }

    fn tidy(&mut self, key: &K) {
        if self.items.get(key).is_some_and(|i| !i.dirty && !i.busy && i.failures == 0 && i.due.is_none()) {
            self.items.remove(key);
        }
    }

    /// Takes nothing more; what is queued or comes back from being busy is still there to take, what waits for its time
    /// is dropped.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for key in std::mem::take(&mut self.timers).into_values() {
            if let Some(item) = self.items.get_mut(&key) {
                item.due = None;
            }
            self.tidy(&key);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn queued(&self) -> usize {
        self.order.len()
    }

    pub(super) fn delayed(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn busy(&self) -> usize {
        self.busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time::now};
    use std::{collections::BTreeSet, time::Duration};

    /// What was added since it was last begun, said in sets.
    #[derive(Default)]
    struct Naive {
        wanted: BTreeSet<u8>,
        busy: BTreeSet<u8>,
        later: BTreeMap<u8, Instant>,
        failures: BTreeMap<u8, u32>,
    }

    #[test]
    fn a_million_steps_never_twice_at_once_and_never_lost() {
        let mut rng = Seed::new(3).rng();
        let (mut keys, mut naive, mut time) = (Keys::new(), Naive::default(), now());
        let mut taken = 0;
        for _ in 0..1_000_000 {
            let key = rng.below(20) as u8;
            match rng.below(12) {
                0..=2 => {
                    let free = !naive.busy.contains(&key);
                    assert_eq!(keys.add(key), naive.wanted.insert(key) && free);
                }
                3 => {
                    let at = time + Duration::from_millis(rng.below(50));
                    let before = naive.later.values().min().copied();
                    let due = naive.later.entry(key).or_insert(at);
                    *due = at.min(*due);
                    let first = keys.add_at(key, at);
                    assert!(!first || before.is_none_or(|before| at <= before));
                }
                4 => {
                    time += Duration::from_millis(rng.below(10));
                    keys.advance(time);
                    naive.later.retain(|key, at| {
                        let over = *at <= time;
                        if over {
                            naive.wanted.insert(*key);
                        }
                        !over
                    });
                }
                5..=7 => match keys.take() {
                    Some(key) => {
                        assert!(naive.busy.insert(key), "never twice at once");
                        assert!(naive.wanted.remove(&key), "never for nothing");
                        taken += 1;
                    }
                    None => assert!(naive.wanted.is_subset(&naive.busy), "never lost"),
                },
                8..=9 => {
                    let again = naive.busy.remove(&key) && naive.wanted.contains(&key);
                    assert_eq!(keys.done(&key), again);
                }
                10 => {
                    let failures = naive.failures.entry(key).or_default();
                    assert_eq!(keys.failed(&key), *failures);
                    *failures += 1;
                }
                _ => {
                    naive.failures.remove(&key);
                    keys.forget(&key);
                    assert_eq!(keys.failures(&key), 0);
                }
            }
            assert_eq!((keys.busy(), keys.delayed()), (naive.busy.len(), naive.later.len()));
            assert_eq!(keys.queued(), naive.wanted.difference(&naive.busy).count());
            assert_eq!(keys.next_due(), naive.later.values().min().copied());
        }
        assert!(taken > 100_000);
        keys.close();
        assert!(!keys.add(1) && !keys.add_at(1, time) && keys.delayed() == 0);
        for key in 0..20 {
            keys.done(&key);
            keys.forget(&key);
        }
        while let Some(key) = keys.take() {
            assert!(naive.wanted.remove(&key), "what was queued is still handed out");
            keys.done(&key);
        }
        assert!(naive.wanted.is_empty() && keys.items.is_empty(), "nothing is remembered of what is over");
    }

    #[test]
    fn first_come_first_served() {
        let mut keys = Keys::new();
        for key in [3, 1, 2, 1, 3] {
            keys.add(key);
        }
        let order: Vec<_> = std::iter::from_fn(|| keys.take()).collect();
        assert_eq!(order, [3, 1, 2]);
        keys.add(1);
        keys.add(4);
        assert!(keys.done(&1), "added while busy");
        assert_eq!(std::iter::from_fn(|| keys.take()).collect::<Vec<_>>(), [4, 1]);
    }
}
