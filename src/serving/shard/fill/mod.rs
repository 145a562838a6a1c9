//! How each strategy fills the slots. All of it is pure: from what is known of the shards, and for `planned` from the table
//! before.

use super::{
    ShardMap, Strategy,
    build::Rules,
    shard::Shard,
    slot::{SLOTS, Slot},
    table::{ShardId, Table},
};
use crate::serving::rendezvous as scores;
use std::{collections::BTreeMap, sync::Arc};

pub(super) mod planned;
pub(super) mod quota;
pub(super) mod ring;

/// What the strategies know of the shards.
pub(super) struct Roster {
    pub(super) shards: Vec<Known>,
    pub(super) copies: usize,
    pub(super) apart: bool,
    pub(super) points: u32,
}

/// What they know of one.
pub(super) struct Known {
    /// Of its name.
    pub(super) hash: u64,
    pub(super) weight: u32,
    /// Its zone's number; where zones are all one, 0.
    pub(super) zone: u16,
}

impl Roster {
    pub(super) fn new(rules: &Rules, shards: &[Shard]) -> Self {
        let mut zones: Vec<_> = shards.iter().filter_map(|shard| shard.zone.as_ref()).collect();
        zones.sort();
        zones.dedup();
        let zone = |shard: &Shard| shard.zone.as_ref().and_then(|zone| zones.binary_search(&zone).ok()).unwrap_or(0);
        let known = |shard: &Shard| Known {
            hash: scores::name(shard.name.as_bytes()),
            weight: shard.weight,
            zone: if rules.apart { zone(shard) as u16 } else { 0 },
        };
        let shards = shards.iter().map(known).collect();
        Roster { shards, copies: rules.copies, apart: rules.apart, points: rules.points }
    }

    /// Those that own something, with their numbers.
    pub(super) fn owning(&self) -> impl Iterator<Item = (u16, &Known)> {
        (0..).zip(&self.shards).filter(|(_, shard)| shard.weight > 0)
    }

    pub(super) fn zone(&self, shard: ShardId) -> u16 {
        self.shards.get(shard.index()).map_or(0, |shard| shard.zone)
    }

    /// Whether this one may own what those own already.
    pub(super) fn may_join(&self, owners: &[ShardId], shard: ShardId) -> bool {
        let clash = |owner: &ShardId| *owner == shard || (self.apart && self.zone(*owner) == self.zone(shard));
        !owners.iter().any(clash)
    }

    /// Appends the first of this walk that may own a slot together.
    pub(super) fn take(&self, walk: impl IntoIterator<Item = ShardId>, owners: &mut Vec<ShardId>) {
        let start = owners.len();
        for shard in walk {
            if owners.len() - start == self.copies {
                break;
            }
            if self.may_join(owners.get(start..).unwrap_or_default(), shard) {
                owners.push(shard);
            }
        }
    }
}

/// What a slot is to the strategies: not its number, which has a pattern.
pub(super) fn key(slot: Slot) -> u64 {
    scores::of(&slot.number().to_be_bytes())
}

/// The table of these rules.
pub(super) fn fill(
    rules: &Rules,
    roster: &Roster,
    before: Option<&ShardMap>,
    index: &BTreeMap<Arc<str>, ShardId>,
) -> Table {
    let mut splits = Vec::new();
    let owners = match rules.strategy {
        Strategy::Ring => ring::Circle::new(roster).fill(roster),
        _ => {
            let old = before.and_then(|before| planned::Old::of(before, index));
            splits = old.as_ref().map(|old| planned::splits(roster, old)).unwrap_or_default();
            planned::fill(roster, old.as_ref())
        }
    };
    Table::new(roster.copies, owners, splits)
}

/// All slots, each filled by its walk.
pub(super) fn by_walk<I: Iterator<Item = ShardId>>(roster: &Roster, walk: impl Fn(Slot) -> I) -> Vec<ShardId> {
    let mut owners = Vec::with_capacity(SLOTS * roster.copies);
    for slot in Slot::all() {
        roster.take(walk(slot), &mut owners);
        // a walk passes all shards, and enough of them may be together
        owners.resize((usize::from(slot.number()) + 1) * roster.copies, ShardId(0));
    }
    owners
}
