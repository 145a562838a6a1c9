//! A map on its way to another: some parts have arrived, the others are where they were.

use super::{
    ShardMap, Strategy,
    build::{Rules, ShardMapBuilder, index},
    map::{Inner, Layout},
    ranges::{Draft, KeyRange},
    shard::Shard,
    slot::{SLOTS, Slot, Span},
    table::{Split, Table},
    table::ShardId,
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
        let (mut old, mut new) = (self.parts().peekable(), target.parts().peekable());
        let mut parts = Vec::new();
        while let (Some((one, before)), Some((other, after))) = (old.peek(), new.peek()) {
            let (span, ends) = common(one, other);
            parts.push(Part { span, before, after });
            if ends.0 {
                old.next();
            }
            if ends.1 {
                new.next();
            }
        }
        Ok(parts)
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
        let owners = |place: usize, part: &Part<'_>| -> Vec<&str> {
            let (map, owners) = if has_arrived(place) { (target, part.after) } else { (self, part.before) };
            owners.iter().map(|owner| map.name(*owner)).collect()
        };
        let mut rules = target.rules().clone();
        rules.apart = false; // each part is so in one of both
        if target.strategy() == Strategy::Ranges {
            let range = |(place, part): (usize, &Part<'_>)| {
                let Span::Keys { from, until } = &part.span else { return None };
                let owners = owners(place, part).into_iter().map(Shard::from).collect();
                Some(Draft { range: KeyRange { from: from.clone(), until: until.clone() }, owners })
            };
            let ranges = parts.iter().enumerate().filter_map(range).collect();
            return ShardMapBuilder { rules, version, shards, ranges }.build();
        }
        rules.strategy = Strategy::Planned; // its owners follow from nothing else any more
        Ok(slots(rules, version, shards, parts, owners))
    }
}

/// What both have from their common beginning on, and which of them ends with it.
fn common(one: &Span, other: &Span) -> (Span, (bool, bool)) {
    match (one, other) {
        (Span::Hashes { seed, first, last }, Span::Hashes { first: start, last: end, .. }) => {
            let span = Span::Hashes { seed: *seed, first: *first.max(start), last: *last.min(end) };
            (span, (last <= end, end <= last))
        }
        (Span::Keys { from, until }, Span::Keys { from: start, until: end }) => {
            let ends = |a: &Option<bytes::Bytes>, b: &Option<bytes::Bytes>| match (a, b) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(a), Some(b)) => a <= b,
            };
            let (one_ends, other_ends) = (ends(until, end), ends(end, until));
            let until = if one_ends { until.clone() } else { end.clone() };
            (Span::Keys { from: from.max(start).clone(), until }, (one_ends, other_ends))
        }
        _ => (one.clone(), (true, true)),
    }
}

fn slots<'a>(
    rules: Rules,
    version: u64,
    shards: Vec<Shard>,
    parts: &[Part<'_>],
    owners: impl Fn(usize, &Part<'_>) -> Vec<&'a str>,
) -> ShardMap {
    let index = index(&shards);
    let mut whole: Vec<ShardId> = Vec::with_capacity(SLOTS * rules.copies);
    let mut splits = Vec::new();
    let mut parts = parts.iter().enumerate().peekable();
    for slot in Slot::all() {
        // (last hash of a part, its owners)
        let mut cut: Vec<(u64, Vec<ShardId>)> = Vec::new();
        while let Some((place, part)) = parts.next_if(|(_, part)| part.span.slots().next() == Some(slot)) {
            let Span::Hashes { last, .. } = part.span else { continue };
            let ids: Vec<ShardId> = owners(place, part).iter().filter_map(|name| index.get(*name).copied()).collect();
            cut.push((last, ids));
        }
        let Some((_, first)) = cut.first() else { continue };
        whole.extend(first);
        if cut.iter().all(|(_, owners)| owners == first) {
            continue;
        }
        let finest = cut.iter().scan(slot.first(), |from, (last, _)| {
            let size = last - *from + 1;
            *from = last.wrapping_add(1);
            Some(size)
        });
        let depth = 48 - finest.min().unwrap_or(1 << 48).trailing_zeros() as u8;
        let size = (1_u64 << 48) >> depth;
        let all = (0..1_u64 << depth).flat_map(|part| {
            let hash = slot.first() + part * size;
            cut.iter().find(|(last, _)| hash <= *last).map(|(_, owners)| owners.clone()).unwrap_or_default()
        });
        splits.push(Split { slot: slot.number(), depth, owners: all.collect() });
    }
    let table = Table::new(rules.copies, whole, splits);
    ShardMap::from(Inner::new(version, rules, shards, index, Layout::Slots(table)))
}
