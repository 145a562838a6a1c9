//! Where sessions were found to belong: so that a key is compared with all names once, not at every request.

use crate::base::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;

/// How many keys are remembered, the last of those that share a place. One more than the endpoints that they may have.
const PLACES: usize = 1 << 14;

/// Fewer names are compared faster than a memory of others is fetched.
const WORTH_IT: usize = 32;

/// The first choice of the keys that were asked for last: 128 KiB, once a set has so many endpoints that it is worth it.
#[derive(Default)]
pub(in crate::serving) struct Homes(OnceLock<Box<[AtomicU64]>>);

impl Homes {
    /// The first choice of this key among so many, found anew where it is not remembered.
    #[inline]
    pub(super) fn of(&self, key: u64, endpoints: usize, find: impl FnOnce() -> Option<usize>) -> Option<usize> {
        if !(WORTH_IT..PLACES).contains(&endpoints) {
            return find();
        }
        let places = self.0.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let low = (PLACES - 1) as u64;
        let Some(place) = places.get((key & low) as usize) else { return find() };
        // the upper bits of the key, and the endpoint's number counted from 1
        let known = place.load(Relaxed);
        if known & !low == key & !low && known & low > 0 {
            return Some((known & low) as usize - 1);
        }
        let found = find()?;
        place.store(key & !low | (found as u64 + 1), Relaxed);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn what_is_remembered_is_what_would_be_found_and_is_found_once() {
        let (homes, mut rng) = (Homes::default(), Seed::new(4).rng());
        let keys: Vec<u64> = (0..3_000).map(|_| rng.next_u64()).chain([0, 1, u64::MAX]).collect();
        let mut found = 0;
        for key in keys.iter().chain(&keys).chain(&keys) {
            let home = (key % 999) as usize;
            let find = || {
                found += 1;
                Some(home)
            };
            assert_eq!(homes.of(*key, 1_000, find), Some(home));
        }
        assert!(found < keys.len() * 3 / 2, "{found}: few share a place");
        assert_eq!(Homes::default().of(7, 1_000, || None), None);
        for few_or_too_many in [0, WORTH_IT - 1, PLACES] {
            let homes = Homes::default();
            assert_eq!(homes.of(7, few_or_too_many, || Some(1)), Some(1));
            assert_eq!(homes.of(7, few_or_too_many, || Some(2)), Some(2), "nothing is kept");
        }
    }
}
