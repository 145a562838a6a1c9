//! How each strategy fills the slots. All of it is pure: from what is known of the shards, and for `planned` from the table
//! before.

use super::{
    ShardMap, Strategy,
    build::Rules,
    member::Shard,
    slot::Slot,
    table::{ShardId, Table},
};
use crate::serving::rendezvous as scores;
use std::{collections::BTreeMap, sync::Arc};

mod jump;
mod maglev;
mod planned;
mod quota;
mod rendezvous;
mod ring;
mod wrapped;

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

    /// None of nobody, who is in no zone.
    pub(super) fn zone(&self, shard: ShardId) -> Option<u16> {
        self.shards.get(shard.index()).map(|shard| shard.zone)
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
        Strategy::ConsistentHashRing => wrapped::Wrapped::new(roster).fill(roster),
        Strategy::Rendezvous => rendezvous::fill(roster),
        Strategy::Jump => jump::fill(roster),
        Strategy::Maglev => maglev::fill(roster),
        Strategy::Planned | Strategy::Ranges => {
            let old = before.and_then(|before| planned::Old::of(before, roster, index));
            splits = old.as_ref().map(|old| planned::splits(roster, old)).unwrap_or_default();
            planned::fill(roster, old.as_ref())
        }
    };
    Table::new(roster.copies, owners, splits)
}

/// Who says in what order the shards would own a slot. Made when it is asked for: a ring is large.
pub(super) enum Walks {
    Ring(ring::Circle),
    Wrapped(wrapped::Wrapped),
    Scores,
}

impl Walks {
    pub(super) fn new(rules: &Rules, roster: &Roster) -> Self {
        match rules.strategy {
            Strategy::Ring => Walks::Ring(ring::Circle::new(roster)),
            Strategy::ConsistentHashRing => Walks::Wrapped(wrapped::Wrapped::new(roster)),
            _ => Walks::Scores,
        }
    }

    /// All shards that own something; of a ring, each as often as it has points.
    pub(super) fn walk<'a>(&'a self, roster: &Roster, slot: Slot) -> Box<dyn Iterator<Item = ShardId> + 'a> {
        match self {
            Walks::Ring(circle) => Box::new(circle.walk(slot)),
            Walks::Wrapped(ring) => Box::new(ring.walk(slot)),
            Walks::Scores => Box::new(rendezvous::Scorer::new(roster).walk(key(slot)).into_iter()),
        }
    }
}
