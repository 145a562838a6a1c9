//! Partial results by key: one arena for all keys, a list of entries, and open addressing over it. A key that is there
//! costs a hash and, as a rule, two cache lines; a new one costs no allocation of its own.

/// A key and what was merged under it so far.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) hash: u64,
    start: usize,
    len: usize,
    pub(super) partial: P,
}

/// The upper half of a hash, and the entry's number from 1 on; 0 is free.
type Slot = u64;

const FIRST_SLOTS: usize = 1 << 12;

#[derive(Debug)]
pub(super) struct Table<P> {
    slots: Vec<Slot>,
    entries: Vec<Entry<P>>,
    keys: Vec<u8>,
}

impl<P> Default for Table<P> {
    fn default() -> Self {
        Table { slots: vec![0; FIRST_SLOTS], entries: Vec::new(), keys: Vec::new() }
    }
}

impl<P> Table<P> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Merges this into what stands under the key: `new` makes the first of it, `more` adds to it; each gets `item`.
    #[inline]
    pub(super) fn merge<T>(
        &mut self,
        (key, hash): (&[u8], u64),
        item: T,
        new: impl FnOnce(T) -> P,
        more: impl FnOnce(&mut P, T),
    ) {
        let (mask, tag) = (self.slots.len() - 1, hash >> 32);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at).copied().filter(|slot| *slot != 0) {
            if slot >> 32 == tag
                && let Some(entry) = self.entries.get_mut((slot as u32 as usize).wrapping_sub(1))
                && self.keys.get(entry.start..entry.start + entry.len) == Some(key)
            {
                return more(&mut entry.partial, item);
            }
            at = (at + 1) & mask;
        }
        self.insert(at, (key, hash), new(item));
    }

    #[cold]
    fn insert(&mut self, at: usize, (key, hash): (&[u8], u64), partial: P) {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.entries.push(Entry { hash, start, len: key.len(), partial });
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = slot_of(hash, self.entries.len());
        }
        if self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 2];
        let mask = slots.len() - 1;
        for (number, entry) in (1..).zip(&self.entries) {
            let mut at = entry.hash as usize & mask;
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = slot_of(entry.hash, number);
            }
        }
        self.slots = slots;
    }

    /// The keys, and the entries by the part that their hash belongs to.
    pub(super) fn parted(self, parts: usize) -> (Vec<u8>, Vec<Vec<Entry<P>>>) {
        let Table { entries, keys, .. } = self;
        if parts == 1 {
            return (keys, vec![entries]);
        }
        let mut parted: Vec<_> = (0..parts).map(|_| Vec::with_capacity(entries.len() / parts)).collect();
        for entry in entries {
            if let Some(part) = parted.get_mut(part_of(entry.hash, parts)) {
                part.push(entry);
            }
        }
        (keys, parted)
    }
}

impl<P> Entry<P> {
    /// Its key, of these.
    pub(super) fn key<'a>(&self, keys: &'a [u8]) -> &'a [u8] {
        keys.get(self.start..self.start + self.len).unwrap_or_default()
    }
}

fn slot_of(hash: u64, number: usize) -> Slot {
    (hash >> 32) << 32 | number as Slot & u64::from(u32::MAX)
}

/// Which of so many parts a hash belongs to.
fn part_of(hash: u64, parts: usize) -> usize {
    ((u128::from(hash.rotate_left(16)) * parts as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, hash};
    use std::collections::BTreeMap;

    #[test]
    fn a_table_is_a_map() {
        let mut rng = Seed::new(1).rng();
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        for _ in 0..100_000 {
            let key = rng.below(20_000).to_string();
            *model.entry(key.clone()).or_insert(0_u64) += 1;
            table.merge((key.as_bytes(), hash::of(key.as_bytes())), 1, |one| one, |sum, one| *sum += one);
        }
        assert_eq!(table.len(), model.len());
        let (keys, parts) = table.parted(3);
        assert!(parts.iter().all(|part| part.len().abs_diff(model.len() / 3) < model.len() / 20));
        let text = |entry: &Entry<u64>| String::from_utf8(entry.key(&keys).to_vec()).unwrap();
        let got: BTreeMap<_, _> = parts.iter().flatten().map(|entry| (text(entry), entry.partial)).collect();
        assert_eq!(got, model);
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let mut table = Table::default();
        for key in ["a", "b", "", "a"] {
            table.merge((key.as_bytes(), 7), 1, |one| one, |sum, one| *sum += one);
        }
        let (keys, parts) = table.parted(1);
        let all: Vec<_> = parts.iter().flatten().map(|entry| (entry.key(&keys), entry.partial)).collect();
        assert_eq!(all, [(&b"a"[..], 2), (b"b", 1), (b"", 1)]);
    }
}
