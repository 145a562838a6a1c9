//! What is kept, bounded in bytes and entries, and what goes first.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{Hash, Hasher},
};

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) entries: usize,
}

/// How often a kept entry is remembered to have been asked for.
const HITS: u8 = 3;

/// Keeps values by key within bounds, by S3-FIFO: what is new stands in a small line (a tenth), and only what is asked for
/// again while it stands there, or soon after, comes into the main one, where each hit buys another round. So one sweep
/// over many keys does not drive out what is used. A hit moves nothing.
///
/// Keys may come from outside: they are kept in order; hashed are only those that have gone, where a collision does no
/// more than let one into the main line.
pub(crate) struct Store<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    small: Line<K>,
    main: Line<K>,
    gone: Gone,
    bounds: Bounds,
    sequence: u64,
    evicted: u64,
}

struct Slot<V> {
    value: V,
    bytes: usize,
    hits: u8,
    main: bool,
    sequence: u64,
}

/// First in, first out.
struct Line<K> {
    keys: BTreeMap<u64, K>,
    bytes: usize,
}

impl<K> Line<K> {
    const fn new() -> Self {
        Line { keys: BTreeMap::new(), bytes: 0 }
    }

    fn push(&mut self, sequence: u64, key: K, bytes: usize) {
        self.keys.insert(sequence, key);
        self.bytes += bytes;
    }

    fn take(&mut self, sequence: u64, bytes: usize) {
        if self.keys.remove(&sequence).is_some() {
            self.bytes -= bytes;
        }
    }
}

/// The hashes of those that went from the small line, as many as there are entries.
#[derive(Default)]
struct Gone {
    order: VecDeque<u64>,
    known: BTreeSet<u64>,
}

impl Gone {
    fn push(&mut self, hash: u64, most: usize) {
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

fn hash<K: Hash>(key: &K) -> u64 {
    let mut hasher = crate::base::hash::Fixed::default();
    key.hash(&mut hasher);
    hasher.finish()
}

impl<K: Ord + Hash + Clone, V> Store<K, V> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (slots, gone) = (BTreeMap::new(), Gone::default());
        Store { slots, small: Line::new(), main: Line::new(), gone, bounds, sequence: 0, evicted: 0 }
    }

    /// What is kept of this key; it counts as asked for.
    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        let slot = self.slots.get_mut(key)?;
        slot.hits = (slot.hits + 1).min(HITS);
        Some(&slot.value)
    }

    /// Keeps this in place of what was there; what had to go for it, to be dropped where no lock is held. One that alone
    /// is larger than all that may be kept is among them.
    #[must_use = "they are foreign values: drop them without a lock"]
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) -> Vec<V> {
        let mut out: Vec<V> = self.remove(&key).into_iter().collect();
        if bytes > self.bounds.bytes || self.bounds.entries == 0 {
            out.push(value);
            return out;
        }
        self.make_room(bytes, 1, &mut out);
        self.sequence += 1;
        let (sequence, main) = (self.sequence, self.gone.known.remove(&hash(&key)));
        if main { &mut self.main } else { &mut self.small }.push(sequence, key.clone(), bytes);
        self.slots.insert(key, Slot { value, bytes, hits: 0, main, sequence });
        out
    }

    /// Keeps it no longer.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.slots.remove(key)?;
        if slot.main { &mut self.main } else { &mut self.small }.take(slot.sequence, slot.bytes);
        Some(slot.value)
    }

    /// Keeps nothing.
    #[must_use = "they are foreign values: drop them without a lock"]
    pub(crate) fn clear(&mut self) -> Vec<V> {
        (self.small, self.main, self.gone) = (Line::new(), Line::new(), Gone::default());
        std::mem::take(&mut self.slots).into_values().map(|slot| slot.value).collect()
    }

    #[must_use = "they are foreign values: drop them without a lock"]
    pub(crate) fn set_bounds(&mut self, change: impl FnOnce(&mut Bounds)) -> Vec<V> {
        change(&mut self.bounds);
        let mut out = Vec::new();
        self.make_room(0, 0, &mut out);
        out
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(crate) fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many had to go for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn make_room(&mut self, bytes: usize, entries: usize, out: &mut Vec<V>) {
        while !self.slots.is_empty()
            && (self.bytes().saturating_add(bytes) > self.bounds.bytes
                || self.slots.len() + entries > self.bounds.entries)
        {
            out.extend(self.step());
        }
    }

    /// Looks at whoever has stood longest in the line whose turn it is: it goes, or moves.
    fn step(&mut self) -> Option<V> {
        let share = self.small.keys.len() * 10 > self.slots.len() || self.small.bytes * 10 > self.bytes();
        let small = self.main.keys.is_empty() || (share && !self.small.keys.is_empty());
        let line = if small { &mut self.small } else { &mut self.main };
        let (sequence, key) = line.keys.pop_first()?;
        let slot = self.slots.get_mut(&key)?;
        debug_assert_eq!(slot.sequence, sequence);
        line.bytes -= slot.bytes;
        if slot.hits > 0 {
            slot.hits = if small { 0 } else { slot.hits - 1 };
            self.sequence += 1;
            (slot.main, slot.sequence) = (true, self.sequence);
            self.main.push(self.sequence, key, slot.bytes);
            return None;
        }
        if small {
            self.gone.push(hash(&key), self.slots.len());
        }
        self.evicted += 1;
        self.slots.remove(&key).map(|slot| slot.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn two_hundred_thousand_steps_keep_the_bounds_and_only_what_was_put_in() {
        let mut rng = Seed::new(5).rng();
        let mut store = Store::new(Bounds { bytes: 1_000, entries: 40 });
        let mut model: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let (mut hits, mut too_large) = (0, 0);
        for step in 0..200_000_u64 {
            let key = rng.below(100);
            match rng.below(10) {
                0..5 => match store.get(&key).copied() {
                    Some(value) => {
                        hits += 1;
                        assert_eq!(Some(value), model.get(&key).map(|known| known.0), "step {step}");
                    }
                    None => assert!(!model.contains_key(&key), "step {step}: it was lost"),
                },
                5..9 => {
                    let bytes = if rng.chance(0.01) { 1_001 } else { rng.below(120) as usize };
                    let out = store.insert(key, step, bytes);
                    model.insert(key, (step, bytes));
                    too_large += u64::from(out.contains(&step));
                    assert_eq!(out.contains(&step), bytes > 1_000);
                    model.retain(|_, known| !out.contains(&known.0));
                }
                _ if rng.chance(0.01) => {
                    let bytes = rng.range(300..1_001) as usize;
                    let out = store.set_bounds(|bounds| bounds.bytes = bytes);
                    model.retain(|_, known| !out.contains(&known.0));
                    assert!(store.bytes() <= bytes);
                    assert!(store.set_bounds(|bounds| bounds.bytes = 1_000).is_empty());
                }
                _ => assert_eq!(store.remove(&key), model.remove(&key).map(|known| known.0)),
            }
            assert_eq!(store.bytes(), model.values().map(|known| known.1).sum::<usize>(), "step {step}");
            assert_eq!((store.len(), store.small.keys.len() + store.main.keys.len()), (model.len(), model.len()));
            assert!(store.bytes() <= 1_000 && store.len() <= 40 && store.gone.order.len() <= 40, "step {step}");
        }
        assert!(hits > 10_000 && too_large > 500 && store.evicted() > 20_000, "{hits} {too_large}");
        assert_eq!(store.clear().len(), model.len());
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn a_sweep_over_many_keys_does_not_drive_out_what_is_used() {
        let mut store = Store::new(Bounds { bytes: usize::MAX, entries: 100 });
        for key in 0..50 {
            assert!(store.insert(key, key, 1).is_empty());
            store.get(&key);
        }
        for key in 1_000..11_000 {
            drop(store.insert(key, key, 1));
            store.get(&(key % 50));
        }
        assert_eq!((0..50).filter(|key| store.get(key).is_some()).count(), 50);
    }

    #[test]
    fn what_comes_back_soon_after_it_went_is_kept_longer() {
        let mut store = Store::new(Bounds { bytes: usize::MAX, entries: 10 });
        for key in 0..11 {
            drop(store.insert(key, key, 1));
        }
        assert!(store.get(&0).is_none(), "the first went for the last");
        drop(store.insert(0, 0, 1));
        for key in 100..105 {
            drop(store.insert(key, key, 1));
        }
        assert!(store.get(&0).is_some());
    }
}
