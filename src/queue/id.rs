//! Ids are lineage: derived from what a message came from, never drawn.

use crate::base::{
    Error, Kind, Name, Result, Seed,
    sync::atomic::{AtomicU64, Ordering},
};
use std::{fmt, str::FromStr};
use xxhash_rust::xxh3::xxh3_128;

/// The id of a message: 128 bits that say where it came from.
///
/// A root's id is made [of](Id::of) what the caller calls it (an order number, an idempotency key); every other id is
/// [derived](Id::derive) from the id of its input. Who does the same work again arrives at the same id, so whoever
/// comes later can tell a repetition from news. The hash (XXH3, 128 bits) is a wire contract: it does not change.
///
/// ```
/// use seedpod::queue::Id;
/// let order = Id::of("order 17");
/// let mail = Id::derive(&"mailer".into(), order, 0, 0);
/// assert_eq!(mail, Id::derive(&"mailer".into(), Id::of("order 17"), 0, 0));
/// assert_ne!(mail, Id::derive(&"mailer".into(), order, 0, 1));
/// assert_eq!(mail.to_string().parse::<Id>()?, mail);
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    // two halves rather than a u128, which would align every stored batch to 16 bytes
    high: u64,
    low: u64,
}

impl Id {
    /// The id of a root: made of the name that the caller has for it.
    pub fn of(name: impl AsRef<[u8]>) -> Id {
        Id::from_u128(xxh3_128(name.as_ref()))
    }

    /// The id of what this stage puts out at this port for this input: the `index`th thing there, counted from 0.
    pub fn derive(stage: &Name, input: Id, port: u32, index: u32) -> Id {
        let last = u64::from(index) << 32 | u64::from(port);
        let words = [stage.hash64(), input.high, input.low, last].map(u64::to_le_bytes);
        Id::from_u128(xxh3_128(words.as_flattened()))
    }

    /// The id of one item of a batch with this id: (batch, index), hashed.
    #[must_use]
    pub fn item(self, index: u32) -> Id {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let ([a, b], [c, d]) = (halves(self.high), halves(self.low));
        let words = [a, b, c, d, index].map(u32::to_le_bytes);
        Id::from_u128(xxh3_128(words.as_flattened()))
    }

    /// The id of these 128 bits.
    pub const fn from_u128(bits: u128) -> Id {
        Id { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        ((self.high as u128) << 64) | self.low as u128
    }
}

/// Ids for what nobody has a name for: derived from where they are given out, and from how many were before.
pub(super) struct Ids {
    stage: Name,
    origin: Id,
    next: AtomicU64,
}

impl Ids {
    /// Unlike those given out under another name or seed.
    pub(super) fn new(stage: &Name, seed: Seed) -> Ids {
        let drawn = seed.fork(stage.as_str()).rng().next_u64();
        Ids { stage: stage.clone(), origin: Id::of(format!("{stage} {drawn:016x}")), next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> Id {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Id::derive(&self.stage, self.origin, (number >> 32) as u32, number as u32)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Id> {
        if text.len() == 32
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && let Ok(bits) = u128::from_str_radix(text, 16)
        {
            return Ok(Id::from_u128(bits));
        }
        Err(Error::new(Kind::Invalid, format!("{text:?} is not a message id: it has 32 hexadecimal digits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_a_wire_contract() {
        let root = Id::of("order 17");
        assert_eq!(root.to_string(), "87c4c04b43ea728b7b255245cac3bb0f");
        assert_eq!(Id::derive(&"mailer".into(), root, 1, 2).to_string(), "2398ae24f2a6a416e82b43357dac9075");
        assert_eq!(root.item(3).to_string(), "111e3cb503a9bba3e27c088ea3652d0f");
    }

    #[test]
    fn every_part_counts() {
        let (stage, root) = (Name::from("a"), Id::of("x"));
        let all = [
            Id::derive(&stage, root, 0, 0),
            Id::derive(&"b".into(), root, 0, 0),
            Id::derive(&stage, Id::of("y"), 0, 0),
            Id::derive(&stage, root, 1, 0),
            Id::derive(&stage, root, 0, 1),
            root.item(0),
            root.item(1),
            root,
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn printed_and_parsed() {
        let id = Id::from_u128(0xABC);
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        assert_eq!(id.to_string().parse::<Id>().unwrap().as_u128(), 0xABC);
        for bad in ["", "abc", "+0000000000000000000000000000abc", "0000000000000000000000000000000g"] {
            assert_eq!(bad.parse::<Id>().unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
