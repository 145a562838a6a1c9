//! Building a map: what it is to be is collected, then checked as a whole.

use super::{
    ShardMap, Strategy,
    fill::{self, Roster},
    map::{Inner, Layout},
    member::Shard,
    ranges::{self, Ranges},
    table::{ShardId, Table},
};
use crate::base::{Error, Kind, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a map goes by, whatever its shards.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) strategy: Strategy,
    /// Points on the ring for each unit of weight.
    pub(super) points: u32,
    pub(super) copies: usize,
    /// Whether the copies of a slot are in different zones.
    pub(super) apart: bool,
    pub(super) seed: u64,
}

/// Points on the crate's ring for each unit of weight (Ketama's, nginx's, pingora's and Finagle's figure): it inserts them
/// one by one.
const POINTS_INSERTED: u32 = 160;

/// Points on our ring: twice as many, which makes up for slots being less fine than keys.
const POINTS: u32 = 320;

/// The most points of all shards on a ring together: 256 MiB while it is built.
const POINTS_MAX: u64 = 1 << 24;

/// The same of the crate's ring, which takes seconds for so many.
const POINTS_INSERTED_MAX: u64 = 1 << 18;

/// The most copies of a slot: 8 MiB of owners.
const COPIES_MAX: usize = 64;

/// A map that is being described: [`ShardMap::planned`] and its like begin it, [`build`](Self::build) checks and fills it.
#[derive(Clone, Debug)]
#[must_use = "a map is there when it is built"]
pub struct ShardMapBuilder {
    pub(super) rules: Rules,
    pub(super) version: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) ranges: Vec<ranges::Draft>,
}

impl ShardMapBuilder {
    pub(super) fn new(strategy: Strategy, shards: impl IntoIterator<Item: Into<Shard>>) -> Self {
        let points = if strategy == Strategy::ConsistentHashRing { POINTS_INSERTED } else { POINTS };
        let rules = Rules { strategy, points, copies: 1, apart: false, seed: 0 };
        let shards = shards.into_iter().map(Into::into).collect();
        ShardMapBuilder { rules, version: 1, shards, ranges: Vec::new() }
    }

    /// One more shard.
    pub fn shard(mut self, shard: impl Into<Shard>) -> Self {
        self.shards.push(shard.into());
        self
    }

    /// How many shards own each slot: 1 by default, 64 at most. The first is the one that answers, the others stand in for
    /// it.
    pub fn copies(mut self, copies: usize) -> Self {
        self.rules.copies = copies;
        self
    }

    /// The copies of a slot are in as many different zones. Without, they are only in different shards.
    pub fn apart(mut self) -> Self {
        self.rules.apart = true;
        self
    }

    /// The seed of the hash of keys: 0 by default. All who use the map must have the same; one that is kept secret makes
    /// it harder to aim keys at one slot.
    pub fn seed(mut self, seed: u64) -> Self {
        self.rules.seed = seed;
        self
    }

    /// Points on the ring for each unit of weight: 320 by default, and 160 (Ketama's figure) on that of
    /// [`consistent_hash_ring`](ShardMap::consistent_hash_ring). More are more even and slower to place.
    pub fn points(mut self, points: u32) -> Self {
        self.rules.points = points;
        self
    }

    /// The map's version: 1 by default; [`ShardMap::next`] counts on from it.
    pub fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Checks and fills it.
    ///
    /// # Errors
    /// [`Kind::Invalid`], which tells all mistakes at once: no shard, more than 65,534, one named twice or not at all; no
    /// weight, or one too large, or any but 1 in a map by [jump](ShardMap::jump); no copies, more than there are shards that
    /// weigh something, than 64, or than zones where they are to be [apart](Self::apart), a shard without one there; no
    /// points, or more than 2²⁴ of all shards together, 2¹⁸ on the crate's ring; a version that none can follow; and of
    /// [ranges](ShardMap::ranges) those that are empty, overlap, leave keys out or have other numbers of owners.
    pub fn build(self) -> Result<ShardMap> {
        self.after(None)
    }

    /// Checks and fills it, by the fewest moves from the one before where the strategy plans.
    pub(super) fn after(mut self, before: Option<&ShardMap>) -> Result<ShardMap> {
        let mut mistakes = Vec::new();
        if self.rules.strategy == Strategy::Ranges {
            self.take_in_owners(&mut mistakes);
        } else if self.rules.strategy != Strategy::Jump {
            // owners hang on names alone, not on the order in which they came
            self.shards.sort();
        }
        check(&self.rules, &self.shards, &mut mistakes);
        check_version(self.version, &mut mistakes);
        let index = index(&self.shards);
        let layout = match self.rules.strategy {
            Strategy::Ranges => {
                let ranges = Ranges::new(&self.ranges, self.rules.copies, &index, &mut mistakes);
                self.rules.apart.then(|| ranges.check_zones(&self.shards, &mut mistakes));
                Layout::Ranges(ranges)
            }
            _ if !mistakes.is_empty() => Table::new(1, Vec::new(), Vec::new()).into(),
            _ => fill::fill(&self.rules, &Roster::new(&self.rules, &self.shards), before, &index).into(),
        };
        if !mistakes.is_empty() {
            return Err(Error::new(Kind::Invalid, mistakes.join("; ")).at("shard map"));
        }
        Ok(ShardMap::from(Inner::new(self.version, self.rules, self.shards, index, layout)))
    }

    /// The shards of a map of ranges are those that own one; what more is known of them was told by `shard`.
    fn take_in_owners(&mut self, mistakes: &mut Vec<String>) {
        let mut known: BTreeMap<Arc<str>, Shard> = BTreeMap::new();
        for shard in &self.shards {
            if known.insert(shard.name.clone(), shard.clone()).is_some() {
                mistakes.push(twice(shard));
            }
        }
        for shard in self.ranges.iter().flat_map(|range| &range.owners) {
            known.entry(shard.name.clone()).or_insert_with(|| shard.clone());
        }
        self.shards = known.into_values().collect();
        if let Some(first) = self.ranges.first() {
            self.rules.copies = first.owners.len().max(1);
        }
    }
}

fn twice(shard: &Shard) -> String {
    format!("shard \"{}\" is named twice", shard.name)
}

/// Where each name stands in the list.
pub(super) fn index(shards: &[Shard]) -> BTreeMap<Arc<str>, ShardId> {
    shards.iter().zip(0..).map(|(shard, at)| (shard.name.clone(), ShardId(at))).collect()
}

/// Versions grow, so that none is the last.
pub(super) fn check_version(version: u64, mistakes: &mut Vec<String>) {
    if version == u64::MAX {
        mistakes.push(format!("no map could follow version {version}"));
    }
}

/// What is wrong with these shards under these rules.
pub(super) fn check(rules: &Rules, shards: &[Shard], mistakes: &mut Vec<String>) {
    if shards.is_empty() {
        return mistakes.push("it has no shards".to_owned());
    }
    if shards.len() > ShardId::MOST {
        return mistakes.push(format!("{} shards are more than {}", shards.len(), ShardId::MOST));
    }
    let mut names = BTreeSet::new();
    for shard in shards {
        if shard.name.is_empty() {
            mistakes.push("a shard has no name".to_owned());
        } else if !names.insert(&shard.name) {
            mistakes.push(twice(shard));
        }
        if shard.weight > Shard::WEIGHT_MAX {
            let (name, weight, most) = (&shard.name, shard.weight, Shard::WEIGHT_MAX);
            mistakes.push(format!("shard \"{name}\" weighs {weight}, more than {most}"));
        }
        if rules.strategy == Strategy::Jump && shard.weight != 1 {
            mistakes.push(format!("shard \"{}\" weighs {}, and jump knows no weights", shard.name, shard.weight));
        }
    }
    check_copies(rules, shards, mistakes);
    if matches!(rules.strategy, Strategy::Ring | Strategy::ConsistentHashRing) {
        let points = shards.iter().map(|shard| u64::from(shard.weight) * u64::from(rules.points)).sum::<u64>();
        if rules.points == 0 {
            mistakes.push("a ring needs points".to_owned());
        }
        let most = if rules.strategy == Strategy::Ring { POINTS_MAX } else { POINTS_INSERTED_MAX };
        if points > most {
            mistakes.push(format!("{points} points on the ring are more than {most}: lower weights or points"));
        }
    }
}

fn check_copies(rules: &Rules, shards: &[Shard], mistakes: &mut Vec<String>) {
    let owning: Vec<&Shard> =
        shards.iter().filter(|shard| shard.weight > 0 || rules.strategy == Strategy::Ranges).collect();
    if owning.is_empty() {
        return mistakes.push("no shard weighs anything".to_owned());
    }
    let copies = rules.copies;
    if copies > COPIES_MAX {
        mistakes.push(format!("{copies} copies are more than {COPIES_MAX}"));
    }
    if copies == 0 {
        mistakes.push("no copies: 1 is the least".to_owned());
    }
    if copies > owning.len() {
        mistakes.push(format!("{copies} copies need as many shards to own them, there are {}", owning.len()));
    }
    if rules.apart {
        for shard in owning.iter().filter(|shard| shard.zone.is_none()) {
            mistakes.push(format!("shard \"{}\" has no zone, and copies are to be apart", shard.name));
        }
        let zones: BTreeSet<_> = owning.iter().filter_map(|shard| shard.zone.as_ref()).collect();
        if copies > zones.len() {
            mistakes.push(format!("{copies} copies apart need as many zones, there are {}", zones.len()));
        }
    }
}
