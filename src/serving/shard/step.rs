//! A map on its way to another: some parts have arrived, the others are where they were.

use super::{
    ShardMap, Strategy,
    build::{ShardMapBuilder, index},
    map::{Inner, Layout},
    member::Shard,
    plan::{changes, cut},
    ranges::{Draft, KeyRange},
    slot::{Slot, Span},
    table::{DEPTH_MAX, ShardId, Split, Table},
};
use crate::base::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Keys that have other owners in one map than in the other.
pub(crate) struct Change<'a> {
    pub(crate) span: Span,
    pub(crate) before: &'a [ShardId],
    pub(crate) after: &'a [ShardId],
}

/// Keys that have arrived at these owners, by their numbers in the map that was the target.
pub(crate) type Arrived<'a> = (Span, &'a [ShardId]);

impl ShardMap {
    /// The keys that have other owners in the target, in order, in the longest stretches of one fate; of ranges, none longer
    /// than it is in either map.
    pub(crate) fn changes_to<'a>(&'a self, target: &'a ShardMap) -> Result<impl Iterator<Item = Change<'a>>> {
        let kind = |map: &ShardMap| (map.strategy() == Strategy::Ranges, map.seed());
        if kind(self) != kind(target) {
            let message = "keys cannot move part by part to a map with another seed, or from slots to ranges";
            return Err(Error::new(Kind::Invalid, message));
        }
        if self.copies() != target.copies() {
            let message = format!("keys cannot move part by part from {} copies to {}", self.copies(), target.copies());
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(changes(self, target).map(|(span, before, after)| Change { span, before, after }))
    }

    /// The same with another version.
    pub(crate) fn with_version(&self, version: u64) -> ShardMap {
        let layout = match (self.table(), self.key_ranges()) {
            (_, Some(ranges)) => Layout::Ranges(ranges.clone()),
            (Some(table), _) => table.clone().into(),
            (None, None) => return self.clone(), // a map has one of them
        };
        let (rules, shards) = (self.rules().clone(), self.shards().to_vec());
        ShardMap::from(Inner::new(version, rules, shards, index(self.shards()), layout))
    }

    /// This map, but what has arrived with the owners that the other gives it. It has the shards of both.
    pub(crate) fn stepped(&self, target: &ShardMap, arrived: &[Arrived<'_>], version: u64) -> Result<ShardMap> {
        let mut shards: BTreeMap<&str, &Shard> = self.shards().iter().map(|shard| (&*shard.name, shard)).collect();
        shards.extend(target.shards().iter().map(|shard| (&*shard.name, shard)));
        let shards: Vec<Shard> = shards.into_values().cloned().collect();
        let index = index(&shards);
        let mut rules = target.rules().clone();
        rules.apart = false; // each part is so in one of both
        if target.strategy() == Strategy::Ranges {
            let ranges = cut(self, target).filter_map(|(span, before, after)| {
                let has_arrived = arrived.iter().any(|(it, _)| *it == span);
                let (map, owners) = if has_arrived { (target, after) } else { (self, before) };
                let owner = |owner: &ShardId| map.shards().get(owner.index()).cloned();
                let owners = owners.iter().filter_map(owner).collect();
                let Span::Keys { from, until } = span else { return None };
                Some(Draft { range: KeyRange { from, until }, owners })
            });
            let ranges = ranges.collect();
            return ShardMapBuilder { rules, version, shards, ranges }.build();
        }
        let (Some(now), Some(wanted)) = (self.table(), target.table()) else {
            return Err(Error::new(Kind::Invalid, "keys cannot move part by part from ranges to slots"));
        };
        // what each shard's number in either map is in this one
        let numbers = |map: &ShardMap| -> Vec<ShardId> {
            map.shards().iter().filter_map(|shard| index.get(&shard.name).copied()).collect()
        };
        rules.strategy = Strategy::Planned; // its owners follow from nothing else any more
        let layout = table(now, &numbers(self), wanted, &numbers(target), arrived).into();
        Ok(ShardMap::from(Inner::new(version, rules, shards, index, layout)))
    }

    /// Whether both say the same but for their versions.
    pub(crate) fn says_the_same(&self, other: &ShardMap) -> bool {
        self.rules() == other.rules()
            && self.shards() == other.shards()
            && self.table() == other.table()
            && self.key_ranges() == other.key_ranges()
    }
}

/// The table of now with what has arrived; shards have other numbers in it.
fn table(now: &Table, ours: &[ShardId], wanted: &Table, theirs: &[ShardId], arrived: &[Arrived<'_>]) -> Table {
    let copies = now.copies();
    let our = |owner: &ShardId| ours.get(owner.index()).copied().unwrap_or(*owner); // a split slot's are no shards
    let their = |owner: &ShardId| theirs.get(owner.index()).copied().unwrap_or(*owner);
    let mut whole: Vec<ShardId> = now.cells().iter().map(our).collect();
    // of slots of which only a part may differ: the owners of each of the finest parts
    let mut cut: BTreeMap<u16, Vec<ShardId>> = now
        .splits()
        .iter()
        .map(|split| (split.slot, finest(Slot::new(split.slot)).flat_map(|hash| now.owners(hash)).map(our).collect()))
        .collect();
    for (span, owners) in arrived {
        let owners: Vec<ShardId> = owners.iter().map(their).collect();
        for slot in span.slots() {
            let start = usize::from(slot.number()) * copies;
            let Some(row) = whole.get_mut(start..start + copies) else { continue };
            if span.contains_hash(slot.first()) && span.contains_hash(slot.last()) {
                row.iter_mut().zip(&owners).for_each(|(to, owner)| *to = *owner);
                cut.remove(&slot.number());
                continue;
            }
            let parts = cut.entry(slot.number()).or_insert_with(|| row.repeat(1 << DEPTH_MAX));
            for (part, _) in parts.chunks_mut(copies).zip(finest(slot)).filter(|(_, hash)| span.contains_hash(*hash)) {
                part.iter_mut().zip(&owners).for_each(|(to, owner)| *to = *owner);
            }
        }
    }
    let mut splits = Vec::new();
    for (slot, parts) in cut {
        let depth_min = wanted.split(Slot::new(slot)).map_or(0, |split| split.depth);
        let (depth, owners) = coarsest(parts, copies, depth_min);
        if depth > 0 {
            splits.push(Split { slot, depth, owners: owners.into() });
            continue;
        }
        let row = whole.iter_mut().skip(usize::from(slot) * copies);
        row.zip(owners).for_each(|(to, owner)| *to = owner);
    }
    Table::new(copies, whole, splits)
}

/// The first hash of each of the finest parts of a slot.
fn finest(slot: Slot) -> impl Iterator<Item = u64> {
    (0..1 << DEPTH_MAX).map(move |part: u64| slot.first() + (part << (48 - DEPTH_MAX)))
}

/// These parts of a slot joined by twos, as long as both of each two have the same owners: how often the slot is halved
/// then, and the owners of what is left.
fn coarsest(mut parts: Vec<ShardId>, copies: usize, depth_min: u8) -> (u8, Vec<ShardId>) {
    let mut depth = DEPTH_MAX;
    let alike = |two: &[ShardId]| {
        let mut each = two.chunks(copies);
        each.next() == each.next()
    };
    while depth > depth_min && parts.chunks(2 * copies).all(alike) {
        parts = parts.chunks(2 * copies).flat_map(|two| two.iter().take(copies)).copied().collect();
        depth -= 1;
    }
    (depth, parts)
}
