//! Who owns each slot: one load for the first owner, whatever the strategy that filled the table.

use super::{
    numbers::Numbers,
    slot::{SLOTS, Slot},
};
use std::sync::Arc;

/// A shard's number within one map: its place in [`ShardMap::shards`](super::ShardMap::shards). Between maps shards are
/// known by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub(super) u16);

impl ShardId {
    /// Its place in the map's list of shards.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The most shards that a map may have.
    pub(crate) const MOST: usize = SPLIT.index() - 1;
}

/// Says in the table that the slot is split.
pub(super) const SPLIT: ShardId = ShardId(u16::MAX);

/// The most times that a slot is halved.
pub(super) const DEPTH_MAX: u8 = 8;

/// The owners of all slots, and of the parts of those that are split. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The first owner of each slot, or [`SPLIT`].
    first: Arc<[ShardId; SLOTS]>,
    /// All owners of each slot, `copies` each; empty where that is 1.
    all: Arc<[ShardId]>,
    copies: usize,
    /// In the order of their slots.
    splits: Arc<[Split]>,
}

/// A slot cut into equal parts, each with owners of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) slot: u16,
    /// How often it is halved: 1 to [`DEPTH_MAX`].
    pub(super) depth: u8,
    /// The owners of its parts, `copies` each.
    pub(super) owners: Box<[ShardId]>,
}

impl Split {
    fn part(&self, hash: u64) -> usize {
        ((hash << 16) >> (64 - u32::from(self.depth))) as usize
    }

    pub(super) fn parts(&self) -> usize {
        1 << self.depth
    }
}

impl Table {
    /// From the owners of all slots, `copies` each; short lists are filled with the first shard.
    pub(super) fn new(copies: usize, mut owners: Vec<ShardId>, splits: Vec<Split>) -> Self {
        for split in &splits {
            let row = owners.iter_mut().skip(usize::from(split.slot) * copies).take(copies);
            row.for_each(|owner| *owner = SPLIT);
        }
        let mut first = Arc::new([ShardId(0); SLOTS]);
        for (first, owners) in Arc::make_mut(&mut first).iter_mut().zip(owners.chunks_exact(copies.max(1))) {
            *first = owners.first().copied().unwrap_or(ShardId(0));
        }
        let all = if copies > 1 { owners.into() } else { Arc::default() };
        Table { first, all, copies, splits: splits.into() }
    }

    /// The first owner of what has this hash.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a slot's number is 16 bits, the table is that long")]
    pub(super) fn owner(&self, hash: u64) -> ShardId {
        let owner = self.first[usize::from(Slot::of(hash).number())];
        if owner == SPLIT { self.in_split(hash).first().copied().unwrap_or(ShardId(0)) } else { owner }
    }

    /// All owners of what has this hash, in order.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a slot's number is 16 bits, the table is that long")]
    pub(super) fn owners(&self, hash: u64) -> &[ShardId] {
        let slot = usize::from(Slot::of(hash).number());
        let first = &self.first[slot];
        if *first == SPLIT {
            return self.in_split(hash);
        }
        if self.copies == 1 { std::slice::from_ref(first) } else { self.whole(slot) }
    }

    fn whole(&self, slot: usize) -> &[ShardId] {
        self.all.get(slot * self.copies..).and_then(|rest| rest.get(..self.copies)).unwrap_or_default()
    }

    #[cold]
    fn in_split(&self, hash: u64) -> &[ShardId] {
        let Some(split) = self.split(Slot::of(hash)) else { return &[] };
        let start = split.part(hash) * self.copies;
        split.owners.get(start..start + self.copies).unwrap_or_default()
    }

    /// How this slot is split, if it is.
    pub(super) fn split(&self, slot: Slot) -> Option<&Split> {
        let at = self.splits.binary_search_by_key(&slot.number(), |split| split.slot).ok()?;
        self.splits.get(at)
    }

    pub(super) fn splits(&self) -> &[Split] {
        &self.splits
    }

    pub(super) fn copies(&self) -> usize {
        self.copies
    }

    /// The owners of all slots, `copies` each; [`SPLIT`] where the slot is.
    pub(super) fn cells(&self) -> &[ShardId] {
        if self.copies > 1 { &self.all } else { &self.first[..] }
    }

    /// The same slot by slot.
    pub(super) fn slots(&self) -> impl Iterator<Item = &[ShardId]> {
        self.cells().chunks(self.copies.max(1))
    }

    /// The longest stretches of neighbouring hashes with the same owners, in order: the first hash, the last, the owners.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64, &[ShardId])> {
        let mut pieces = self.pieces().peekable();
        std::iter::from_fn(move || {
            let (first, mut last, owners) = pieces.next()?;
            while let Some((_, further, _)) = pieces.next_if(|(.., others)| *others == owners) {
                last = further;
            }
            Some((first, last, owners))
        })
    }

    /// What two tables give to different owners, in order: the longest stretches of one fate, each by its first hash and its
    /// last, with the owners in both.
    pub(super) fn changes<'a>(
        old: &'a Table,
        new: &'a Table,
        now: Numbers,
    ) -> Box<dyn Iterator<Item = ((u64, u64), &'a [ShardId], &'a [ShardId])> + 'a> {
        if old.copies != new.copies || !old.splits.is_empty() || !new.splits.is_empty() {
            return Box::new(old.runs_with(new).filter(move |(_, owners, others)| !now.are_same(owners, others)));
        }
        let mut at = 0;
        Box::new(std::iter::from_fn(move || {
            at += old.alike_with(new, at, &now) / old.copies.max(1);
            let slot = Slot::new(u16::try_from(at).ok()?);
            at = old.stretch_end(at).min(new.stretch_end(at));
            let last = Slot::new((at - 1) as u16).last();
            Some(((slot.first(), last), old.owners(slot.first()), new.owners(slot.first())))
        }))
    }

    /// How many cells from this slot on name the same shards in the other table.
    fn alike_with(&self, new: &Table, slot: usize, now: &Numbers) -> usize {
        let from = slot * self.copies;
        let (one, other) = (self.cells().get(from..).unwrap_or_default(), new.cells().get(from..).unwrap_or_default());
        if now.are_kept() {
            return alike(one, other);
        }
        one.iter().zip(other).take_while(|(old, new)| now.is_same(**old, **new)).count()
    }

    /// The longest stretches that have the same owners in each of two tables.
    fn runs_with<'a>(&'a self, other: &'a Table) -> impl Iterator<Item = ((u64, u64), &'a [ShardId], &'a [ShardId])> {
        let (mut old, mut new) = (self.runs().peekable(), other.runs().peekable());
        let mut from = 0;
        std::iter::from_fn(move || {
            let ((_, end, owners), (_, other, others)) = (*old.peek()?, *new.peek()?);
            let (first, last) = (from, end.min(other));
            old.next_if(|(_, end, _)| *end == last);
            new.next_if(|(_, end, _)| *end == last);
            from = last.wrapping_add(1);
            Some(((first, last), owners, others))
        })
    }

    /// Stretches of whole slots with the same owners, and each part of a slot that is split.
    fn pieces(&self) -> impl Iterator<Item = (u64, u64, &[ShardId])> {
        let mut from = 0;
        let stretches = std::iter::from_fn(move || {
            let slot = Slot::new(u16::try_from(from).ok()?);
            from = self.stretch_end(from);
            Some((slot, Slot::new((from - 1) as u16).last()))
        });
        stretches.flat_map(move |(slot, end)| {
            let split = match self.first.get(usize::from(slot.number())) {
                Some(&SPLIT) => self.split(slot),
                _ => None,
            };
            let (parts, size) = split.map_or((1, 0), |it| (it.parts() as u64, 1 << (48 - it.depth)));
            (0..parts).map(move |part| {
                let first = slot.first() + part * size;
                let last = if part + 1 == parts { end } else { first + (size - 1) };
                (first, last, self.owners(first))
            })
        })
    }

    /// The slot behind the last of those that have the same owners as this one; of one that is split, the next.
    fn stretch_end(&self, slot: usize) -> usize {
        let rest = self.cells().get(slot * self.copies..).unwrap_or_default();
        if rest.first().is_none_or(|owner| *owner == SPLIT) {
            return slot + 1;
        }
        let same = alike(rest, rest.get(self.copies..).unwrap_or_default());
        slot + 1 + same / self.copies.max(1)
    }

    /// Every slot, and every part of those that are split, in order: its first hash, its last, its owners.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, u64, &[ShardId])> {
        Slot::all().flat_map(move |slot| {
            let (count, size) = match self.first.get(usize::from(slot.number())) {
                Some(&SPLIT) => self.split(slot).map_or((1, 1 << 48), |it| (it.parts() as u64, 1 << (48 - it.depth))),
                _ => (1, 1 << 48),
            };
            (0..count).map(move |part| {
                let first = slot.first() + part * size;
                (first, first + (size - 1), self.owners(first))
            })
        })
    }
}

/// How many of these are equal before the first that differ.
fn alike(one: &[ShardId], other: &[ShardId]) -> usize {
    const WIDE: usize = 64; // so many at once, by the processor's wide instructions
    let equal = |(one, other): &(&[ShardId], &[ShardId])| {
        one.iter().zip(*other).fold(true, |all, (one, other)| all & (one == other))
    };
    let wide = one.chunks_exact(WIDE).zip(other.chunks_exact(WIDE)).take_while(equal).count() * WIDE;
    wide + one.iter().zip(other).skip(wide).take_while(|(one, other)| one == other).count()
}
