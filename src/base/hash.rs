//! Maps that are only looked up in: a fixed, fast hasher, and no reason to iterate.
//!
//! Iteration order depends on history, so it never decides anything: where order matters, the map is a `BTreeMap`.

use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A hash map with a fixed hasher, for look-ups.
#[expect(clippy::disallowed_types, reason = "a fixed hasher: the same program builds the same map")]
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Fixed>>;

/// A hash set with a fixed hasher, for look-ups.
#[expect(clippy::disallowed_types, reason = "a fixed hasher: the same program builds the same set")]
pub type Set<K> = std::collections::HashSet<K, BuildHasherDefault<Fixed>>;

/// XXH3 of the bytes: the hash behind names, ids and slots.
pub fn of(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// A hasher that is the same in every process. Not for keys that an attacker chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed(u64);

impl Hasher for Fixed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29) // the multiply leaves the low bits weak, and the table uses them
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_everywhere() {
        assert_eq!(of(b"seedpod"), xxh3_64(b"seedpod"));
        let mut map = Map::default();
        for number in 0..1000_u64 {
            map.insert(number, number);
        }
        assert!((0..1000).all(|number| map.get(&number) == Some(&number)));
    }
}
