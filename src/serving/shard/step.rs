//! A map on its way to another: some parts have arrived, the others are where they were.

use super::{
    ShardMap, Strategy,
    build::{ShardMapBuilder, index},
    map::{Inner, Layout},
    member::Shard,
    plan::both,
    ranges::{Draft, KeyRange},
    slot::{SLOTS, Slot, Span},
    table::{ShardId, Split, Table},
};
use crate::base::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Keys that have the same owners in the one map, and the same in the other.
pub(crate) struct Part<'a> {
    pub(crate) span: Span,
    pub(crate) before: &'a [ShardId],
    pub(crate) after: &'a [ShardId],
}

impl ShardMap {
    /// All keys, in order, in the largest parts that neither map cuts.
    pub(crate) fn parts_with<'a>(&'a self, target: &'a ShardMap) -> Result<Vec<Part<'a>>> {
        let kind = |map: &ShardMap| (map.strategy() == Strategy::Ranges, map.seed());
        if kind(self) != kind(target) {
            let message = "keys cannot move part by part to a map with another seed, or from slots to ranges";
            return Err(Error::new(Kind::Invalid, message));
        }
        if self.copies() != target.copies() {
            let message = format!("keys cannot move part by part from {} copies to {}", self.copies(), target.copies());
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(both(self, target).map(|(span, before, after)| Part { span, before, after }).collect())
    }

    /// The same with another version.
    pub(crate) fn with_version(&self, version: u64) -> ShardMap {
        let layout = match (self.table(), self.key_ranges()) {
            (_, Some(ranges)) => Layout::Ranges(ranges.clone()),
            (Some(table), _) => Layout::Slots(table.clone()),
            (None, None) => return self.clone(), // a map has one of them
        };
        let (rules, shards) = (self.rules().clone(), self.shards().to_vec());
        ShardMap::from(Inner::new(version, rules, shards, index(self.shards()), layout))
    }

    /// This map with those parts as the other has them that `has_arrived`, by their place among
    /// [`parts_with`](Self::parts_with) it. It has the shards of both.
    pub(crate) fn stepped(
        &self,
        target: &ShardMap,
        parts: &[Part<'_>],
        version: u64,
        has_arrived: impl Fn(usize) -> bool,
    ) -> Result<ShardMap> {
        let mut shards: BTreeMap<&str, &Shard> = self.shards().iter().map(|shard| (&*shard.name, shard)).collect();
        shards.extend(target.shards().iter().map(|shard| (&*shard.name, shard)));
        let shards: Vec<Shard> = shards.into_values().cloned().collect();
        let index = index(&shards);
        // what each shard's number in either map is in this one
        let numbers = |map: &ShardMap| -> Vec<ShardId> {
            map.shards().iter().filter_map(|shard| index.get(&shard.name).copied()).collect()
        };
        let (ours, theirs) = (numbers(self), numbers(target));
        let owners = |place: usize, part: &Part<'_>, found: &mut Vec<ShardId>| {
            let (numbers, owners) = if has_arrived(place) { (&theirs, part.after) } else { (&ours, part.before) };
            found.extend(owners.iter().filter_map(|owner| numbers.get(owner.index()).copied()));
        };
        let mut rules = target.rules().clone();
        rules.apart = false; // each part is so in one of both
        if target.strategy() == Strategy::Ranges {
            let range = |(place, part): (usize, &Part<'_>)| {
                let Span::Keys { from, until } = &part.span else { return None };
                let mut found = Vec::new();
                owners(place, part, &mut found);
                let owners = found.iter().filter_map(|owner| shards.get(owner.index()).cloned()).collect();
                Some(Draft { range: KeyRange { from: from.clone(), until: until.clone() }, owners })
            };
            let ranges = parts.iter().enumerate().filter_map(range).collect();
            return ShardMapBuilder { rules, version, shards, ranges }.build();
        }
        rules.strategy = Strategy::Planned; // its owners follow from nothing else any more
        let table = table(rules.copies, parts, owners);
        Ok(ShardMap::from(Inner::new(version, rules, shards, index, Layout::Slots(table))))
    }

    /// Whether both say the same but for their versions.
    pub(crate) fn says_the_same(&self, other: &ShardMap) -> bool {
        self.rules() == other.rules()
            && self.shards() == other.shards()
            && self.table() == other.table()
            && self.key_ranges() == other.key_ranges()
    }
}

/// The table of these parts, in the order of their slots.
fn table(copies: usize, parts: &[Part<'_>], owners: impl Fn(usize, &Part<'_>, &mut Vec<ShardId>)) -> Table {
    let (mut whole, mut splits) = (Vec::with_capacity(SLOTS * copies), Vec::new());
    let (mut last_hashes, mut cut): (Vec<u64>, Vec<ShardId>) = (Vec::new(), Vec::new());
    for (place, part) in parts.iter().enumerate() {
        let Span::Hashes { last, .. } = part.span else { continue };
        let slot = Slot::of(last);
        if last_hashes.is_empty() && last == slot.last() {
            owners(place, part, &mut whole);
            continue;
        }
        last_hashes.push(last);
        owners(place, part, &mut cut);
        if last != slot.last() {
            continue;
        }
        let (ends, all) = (std::mem::take(&mut last_hashes), std::mem::take(&mut cut));
        whole.extend(all.get(..copies).unwrap_or_default());
        splits.extend(split(slot, copies, &ends, &all));
    }
    Table::new(copies, whole, splits)
}

/// How this slot is split, if it is: into parts that end with these hashes and have these owners.
fn split(slot: Slot, copies: usize, ends: &[u64], owners: &[ShardId]) -> Option<Split> {
    let owners_of = |part: usize| owners.get(part * copies..(part + 1) * copies).unwrap_or_default();
    if (1..ends.len()).all(|part| owners_of(part) == owners_of(0)) {
        return None;
    }
    let starts = std::iter::once(slot.first()).chain(ends.iter().map(|end| end.wrapping_add(1)));
    let finest = starts.zip(ends).map(|(start, end)| end - start + 1).min().unwrap_or(1 << 48);
    let depth = (48 - finest.trailing_zeros()) as u8;
    let part_of = |hash: u64| ends.partition_point(|end| *end < hash);
    let firsts = (0..1_u64 << depth).map(|part| slot.first() + part * finest);
    let owners = firsts.flat_map(|hash| owners_of(part_of(hash)).iter().copied()).collect();
    Some(Split { slot: slot.number(), depth, owners })
}
