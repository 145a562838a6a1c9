//! Uids and generated names, all from the seed.

use crate::base::{Rng, Seed, sync::Lock};

/// Letters that form no words and look like nothing else: those of Kubernetes' generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Where objects get what tells them apart.
pub(super) struct Identities(Lock<Rng>);

impl Identities {
    pub(super) fn new(seed: Seed) -> Self {
        Identities(Lock::new(seed.rng()))
    }

    /// A uid, in the form of a random (version 4) UUID.
    pub(super) fn uid(&self) -> String {
        let mut rng = self.0.lock();
        let (high, low) = (rng.next_u64(), rng.next_u64());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFF,
            0x8000 | (low >> 48) & 0x3FFF,
            low & 0xFFFF_FFFF_FFFF
        )
    }

    /// Five letters to tell generated names apart.
    pub(super) fn suffix(&self) -> String {
        let mut rng = self.0.lock();
        (0..5).filter_map(|_| rng.choose(ALPHABET)).map(|letter| char::from(*letter)).collect()
    }

    /// A generator of its own.
    pub(super) fn rng(&self) -> Rng {
        self.0.lock().fork()
    }
}

/// A name that begins with this and ends in these letters, within the 63 bytes of a label.
pub(super) fn generated(base: &str, suffix: &str) -> String {
    let end = (0..=base.len().min(63 - suffix.len())).rev().find(|end| base.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{suffix}", base.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_from_the_seed() {
        let draw = |seed| {
            let identities = Identities::new(Seed::new(seed));
            (identities.uid(), identities.suffix())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let (uid, suffix) = draw(3);
        assert_eq!((uid.len(), uid.as_bytes()[14], suffix.len()), (36, b'4', 5));
        assert_eq!(generated(&"x".repeat(70), "-abcd").len(), 63);
        assert_eq!(generated("web-", "abcde"), "web-abcde");
    }
}
