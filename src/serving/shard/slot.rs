//! Slots: the 65,536 places that keys fall into, and what a part of them is called.

use super::{ShardKey, wire::WireSpan};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many slots there are.
pub const SLOTS: usize = 1 << 16;

/// The hash of a key under a map's seed: XXH3, 64 bits. With [`Slot::of`] a contract between processes.
#[inline]
pub(crate) fn hash(key: &(impl ShardKey + ?Sized), seed: u64) -> u64 {
    xxh3_64_with_seed(key.shard_bytes().as_ref(), seed)
}

/// One of the 65,536 places that keys fall into: the unit that is owned, moved, counted and, where it is hot, split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of this number.
    pub const fn new(number: u16) -> Self {
        Slot(number)
    }

    /// The slot that a hash falls into: its top 16 bits.
    #[inline]
    pub const fn of(hash: u64) -> Self {
        Slot((hash >> 48) as u16)
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The first hash that falls into it.
    pub const fn first(self) -> u64 {
        (self.0 as u64) << 48
    }

    /// The last hash that falls into it.
    pub const fn last(self) -> u64 {
        self.first() | (u64::MAX >> 16)
    }

    /// All of them, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + Clone {
        (0..=u16::MAX).map(Slot)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// Where a key is in the map that was asked: [`ShardMap::locate`](super::ShardMap::locate). It says nothing in another
/// map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub(super) At);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Hash(u64),
    Range(usize),
}

impl Place {
    /// Its slot's number, or its range's: below [`ShardMap::places`](super::ShardMap::places), to count by.
    #[inline]
    pub fn index(self) -> usize {
        match self.0 {
            At::Hash(hash) => usize::from(Slot::of(hash).number()),
            At::Range(index) => index,
        }
    }

    /// Its slot; none in a map of ranges.
    #[inline]
    pub fn slot(self) -> Option<Slot> {
        self.hash().map(Slot::of)
    }

    /// The key's hash; none in a map of ranges.
    #[inline]
    pub fn hash(self) -> Option<u64> {
        match self.0 {
            At::Hash(hash) => Some(hash),
            At::Range(_) => None,
        }
    }
}

/// A stretch of neighbouring keys of one fate: slots, parts of a slot that is split, or a range of keys. It can be sent
/// (`serde`); one that ends before it begins is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireSpan", into = "WireSpan")]
#[non_exhaustive]
pub enum Span {
    /// Keys whose hash under this seed is not below `first` and not above `last`.
    Hashes {
        /// The map's seed.
        seed: u64,
        /// The lowest hash.
        first: u64,
        /// The highest hash.
        last: u64,
    },
    /// Keys from this one on, up to and without that one; without end where there is none.
    Keys {
        /// The first key.
        from: Bytes,
        /// The key behind the last.
        until: Option<Bytes>,
    },
}

impl Span {
    /// Whether this key is in it.
    pub fn contains(&self, key: &(impl ShardKey + ?Sized)) -> bool {
        match self {
            Span::Hashes { seed, .. } => self.contains_hash(hash(key, *seed)),
            Span::Keys { from, until } => {
                let key = key.shard_bytes();
                key.as_ref() >= from.as_ref() && until.as_ref().is_none_or(|until| key.as_ref() < until.as_ref())
            }
        }
    }

    /// Whether this key is in one of these, which are [in order](Self::in_order): it is hashed once, and looked for by
    /// halving.
    pub(crate) fn any(spans: &[Span], key: &(impl ShardKey + ?Sized)) -> bool {
        let mut rest = spans;
        while let Some(Span::Hashes { seed, .. }) = rest.first() {
            let by_seed =
                rest.partition_point(|span| matches!(span, Span::Hashes { seed: other, .. } if other == seed));
            let (alike, others) = rest.split_at(by_seed);
            let hash = hash(key, *seed);
            let behind = alike.partition_point(|span| span.first_hash().is_some_and(|first| first <= hash));
            if nth(alike, behind).is_some_and(|span| span.contains_hash(hash)) {
                return true;
            }
            rest = others;
        }
        let bytes = key.shard_bytes();
        let begins = |span: &Span| matches!(span, Span::Keys { from, .. } if from.as_ref() <= bytes.as_ref());
        nth(rest, rest.partition_point(begins)).is_some_and(|span| span.contains(key))
    }

    /// The same keys by the fewest spans, each behind the one before: those of one seed together, ranges at the end.
    pub(crate) fn in_order(mut spans: Vec<Span>) -> Vec<Span> {
        spans.sort_by(|one, other| match (one, other) {
            (Span::Hashes { seed, first, .. }, Span::Hashes { seed: other, first: others, .. }) => {
                (seed, first).cmp(&(other, others))
            }
            (Span::Keys { from, .. }, Span::Keys { from: other, .. }) => from.cmp(other),
            (one, other) => matches!(one, Span::Keys { .. }).cmp(&matches!(other, Span::Keys { .. })),
        });
        spans.dedup_by(|span, before| before.takes_in(span));
        spans
    }

    /// Becomes one with this one, which does not begin before it, if nothing lies between them.
    fn takes_in(&mut self, next: &Span) -> bool {
        match (self, next) {
            (Span::Hashes { seed, last, .. }, Span::Hashes { seed: other, first, last: end })
                if seed == other && last.checked_add(1).is_none_or(|behind| *first <= behind) =>
            {
                *last = *end.max(last);
                true
            }
            (Span::Keys { until, .. }, Span::Keys { from, until: end })
                if until.as_ref().is_none_or(|until| from <= until) =>
            {
                *until = until.take().zip(end.clone()).map(|(one, other)| one.max(other));
                true
            }
            _ => false,
        }
    }

    /// Whether a key of this hash is in it. Never where it is a range of keys.
    pub fn contains_hash(&self, hash: u64) -> bool {
        matches!(self, Span::Hashes { first, last, .. } if (*first..=*last).contains(&hash))
    }

    /// The slots that it touches, each whole or in part; none where it is a range of keys.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = Slot> + Clone + use<> {
        let touched = match self {
            Span::Hashes { first, last, .. } => Some(Slot::of(*first).0..=Slot::of(*last).0),
            Span::Keys { .. } => None,
        };
        touched.into_iter().flatten().map(Slot)
    }

    /// The lowest hash in it; none where it is a range of keys.
    pub(super) fn first_hash(&self) -> Option<u64> {
        match self {
            Span::Hashes { first, .. } => Some(*first),
            Span::Keys { .. } => None,
        }
    }

    /// Whether that one begins where this one ends.
    pub(crate) fn meets(&self, next: &Span) -> bool {
        match (self, next) {
            (Span::Hashes { last, .. }, Span::Hashes { first, .. }) => last.checked_add(1) == Some(*first),
            (Span::Keys { until, .. }, Span::Keys { from, .. }) => until.as_ref() == Some(from),
            _ => false,
        }
    }

    /// Up to the end of the one that follows it.
    pub(crate) fn joined(self, next: Span) -> Span {
        match (self, next) {
            (Span::Hashes { seed, first, .. }, Span::Hashes { last, .. }) => Span::Hashes { seed, first, last },
            (Span::Keys { from, .. }, Span::Keys { until, .. }) => Span::Keys { from, until },
            (span, _) => span,
        }
    }

    /// How many slots it is, in parts where slots are split; 0 where it is a range of keys.
    pub fn width(&self) -> f64 {
        match self {
            Span::Hashes { first, last, .. } => ((last - first) as f64 + 1.0) / (1_u64 << 48) as f64,
            Span::Keys { .. } => 0.0,
        }
    }
}

/// The last of the first so many.
fn nth(spans: &[Span], count: usize) -> Option<&Span> {
    spans.get(count.checked_sub(1)?)
}

impl fmt::Display for Span {
    /// `slot 7`, `slots 0-16383`, `slot 9 part 3 of 8`, `keys from "a" until "m"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Hashes { first, last, .. } => {
                let (one, other) = (Slot::of(*first), Slot::of(*last));
                let whole = *first == one.first() && *last == other.last();
                if whole && one == other {
                    return write!(f, "{one}");
                }
                if whole {
                    return write!(f, "slots {}-{}", one.0, other.0);
                }
                let size = (last - first).saturating_add(1);
                let (from, of) = (first - one.first(), 1_u64 << 48);
                if one == other && size.is_power_of_two() && from % size == 0 {
                    return write!(f, "{one} part {} of {}", from / size + 1, of / size);
                }
                write!(f, "hashes {first:016x}-{last:016x}")
            }
            Span::Keys { from, until } => match (from.is_empty(), until) {
                (true, None) => f.write_str("all keys"),
                (true, Some(until)) => write!(f, "keys until \"{}\"", until.escape_ascii()),
                (false, None) => write!(f, "keys from \"{}\"", from.escape_ascii()),
                (false, Some(until)) => {
                    write!(f, "keys from \"{}\" until \"{}\"", from.escape_ascii(), until.escape_ascii())
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn hash_and_slot_are_a_contract_between_processes() {
        let golden: Vec<_> = [("", 0), ("ann", 0), ("ann", 7), ("0123456789abcdef", 0), ("0123456789abcdef", 1)]
            .map(|(key, seed)| (hash(key, seed), Slot::of(hash(key, seed)).number()))
            .into();
        let wanted = [
            (3_244_421_341_483_603_138, 11_526),
            (5_200_682_613_324_210_888, 18_476),
            (12_525_513_631_281_143_004, 44_499),
            (7_224_786_756_799_439_149, 25_667),
            (9_859_648_216_293_665_359, 35_028),
        ];
        assert_eq!(golden, wanted);
        let long = Slot::of(hash(&vec![0xFF; 1000], 3)).number();
        assert_eq!((long, Slot::of(hash(&7_u64, 0)).number()), (55_029, 63_680));
    }

    #[test]
    fn a_slot_is_the_hashes_from_its_first_to_its_last() {
        for slot in Slot::all() {
            assert_eq!((Slot::of(slot.first()), Slot::of(slot.last())), (slot, slot));
        }
        assert_eq!(Slot::all().count(), SLOTS);
        assert_eq!((Slot::new(0).first(), Slot::new(u16::MAX).last()), (0, u64::MAX));
    }

    #[test]
    fn a_span_says_what_it_is_and_what_is_in_it() {
        let span = |first, last| Span::Hashes { seed: 0, first, last };
        let (three, five) = (Slot::new(3), Slot::new(5));
        assert_eq!(span(three.first(), three.last()).to_string(), "slot 3");
        assert_eq!(span(three.first(), five.last()).to_string(), "slots 3-5");
        assert_eq!(span(three.first(), five.last()).width(), 3.0);
        assert_eq!(span(three.first(), five.last()).slots().count(), 3);
        let eighth = span(three.first() + (1 << 46), three.first() + (1 << 46) + (1 << 45) - 1);
        assert_eq!((eighth.to_string().as_str(), eighth.width()), ("slot 3 part 3 of 8", 0.125));
        let of = hash("ann", 0);
        assert!(span(of, of).contains("ann") && !span(of, of).contains("bob"));
        let other = hash("ann", 9);
        let both = vec![span(0, 0), Span::Hashes { seed: 9, first: other, last: other }, span(1, 1)];
        let both = Span::in_order(both);
        assert_eq!(both.len(), 2, "those that meet are one: {both:?}");
        assert!(Span::any(&both, "ann") && !Span::any(&both, "bob") && !Span::any(&[], "ann"));
        let keys = Span::Keys { from: Bytes::from_static(b"a"), until: Some(Bytes::from_static(b"m\xFF")) };
        assert_eq!(keys.to_string(), r#"keys from "a" until "m\xff""#);
        assert!(keys.contains("a") && keys.contains("m") && !keys.contains(&b"m\xFF"[..]) && !keys.contains(""));
        assert!(!keys.contains_hash(of) && keys.slots().next().is_none() && keys.width() == 0.0);
    }

    #[test]
    fn spans_in_order_are_of_the_same_keys_whatever_they_were_told_as() {
        let mut rng = Seed::new(3).rng();
        for _ in 0..500 {
            let mut told = Vec::new();
            for _ in 0..rng.below(12) {
                told.push(match rng.below(4) {
                    0 => {
                        let from = rng.below(6) as u8;
                        let until = (rng.below(4) > 0).then(|| Bytes::from(vec![from + 1 + rng.below(3) as u8]));
                        let from = if from == 0 { Bytes::new() } else { Bytes::from(vec![from]) };
                        Span::Keys { from, until }
                    }
                    _ => {
                        let first = rng.below(8) << 61;
                        let last = first | (u64::MAX >> (3 + rng.below(2)));
                        Span::Hashes { seed: rng.below(2), first, last }
                    }
                });
            }
            let spans = Span::in_order(told.clone());
            for key in 0..10_u8 {
                let key = [key];
                let wanted = told.iter().any(|span| span.contains(&key[..]));
                assert_eq!(Span::any(&spans, &key[..]), wanted, "{key:?} in {told:?}, as {spans:?}");
            }
            assert_eq!(Span::in_order(spans.clone()), spans);
        }
    }
}
