//! Who owns each slot: one load for the first owner, whatever the strategy that filled the table.

use super::slot::{SLOTS, Slot};

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

/// The owners of all slots, and of the parts of those that are split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The first owner of each slot, or [`SPLIT`].
    first: Box<[ShardId; SLOTS]>,
    /// All owners of each slot, `copies` each; empty where that is 1.
    all: Box<[ShardId]>,
    copies: usize,
    /// In the order of their slots.
    splits: Vec<Split>,
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
        let mut first = Box::new([ShardId(0); SLOTS]);
        for (first, owners) in first.iter_mut().zip(owners.chunks_exact(copies.max(1))) {
            *first = owners.first().copied().unwrap_or(ShardId(0));
        }
        let all = if copies > 1 { owners.into() } else { Box::default() };
        Table { first, all, copies, splits }
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

    /// The owners of all slots, `copies` each; they mean nothing where the slot is split.
    pub(super) fn slots(&self) -> impl Iterator<Item = &[ShardId]> {
        (0..SLOTS).map(|slot| match self.copies {
            1 => self.first.get(slot..=slot).unwrap_or_default(),
            _ => self.whole(slot),
        })
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
