//! Load: what each slot has, and a next map in which the busiest shard has less.

use super::{
    Place, ShardId, ShardMap, Span, Strategy,
    map::Inner,
    relieve::Relief,
    table::{DEPTH_MAX, Table},
};
use crate::base::{Error, Kind, Result};
use std::collections::BTreeMap;

/// How much there was to do, by place: requests, bytes, time, whatever is to be even.
///
/// It takes 512 KiB, and 2 KiB more for each slot that is split.
#[derive(Clone, Debug)]
pub struct Loads {
    places: Vec<u64>,
    /// Of slots that are split: by the next bits of the hash.
    fine: BTreeMap<u16, Box<[u64; PARTS]>>,
}

/// As many as a slot may have parts.
pub(crate) const PARTS: usize = 1 << DEPTH_MAX;

impl Loads {
    /// None yet, at the places of this map.
    pub fn of(map: &ShardMap) -> Self {
        let splits = map.table().map(Table::splits).unwrap_or_default();
        let fine = splits.iter().map(|split| (split.slot, Box::new([0; PARTS]))).collect();
        Loads { places: vec![0; map.places()], fine }
    }

    /// So much more at this place.
    pub fn add(&mut self, place: Place, load: u64) {
        if let Some(sum) = self.places.get_mut(place.index()) {
            *sum = sum.saturating_add(load);
        }
        let parts = place.slot().and_then(|slot| self.fine.get_mut(&slot.number()));
        if let Some(sum) = parts.zip(place.part()).and_then(|(parts, part)| parts.get_mut(part)) {
            *sum = sum.saturating_add(load);
        }
    }

    /// So much more at the place of this [index](Place::index): of a slot, evenly at all its parts.
    pub fn add_at(&mut self, index: usize, load: u64) {
        if let Some(sum) = self.places.get_mut(index) {
            *sum = sum.saturating_add(load);
        }
        let parts = u16::try_from(index).ok().and_then(|slot| self.fine.get_mut(&slot));
        for (part, sum) in parts.into_iter().flat_map(|parts| parts.iter_mut()).enumerate() {
            let even = load / PARTS as u64 + u64::from((part as u64) < load % PARTS as u64);
            *sum = sum.saturating_add(even);
        }
    }

    /// So much more in one of the [finest parts](Place::part) of the slot of this number.
    pub(crate) fn add_part(&mut self, slot: usize, part: usize, load: u64) {
        if let Some(sum) = self.places.get_mut(slot) {
            *sum = sum.saturating_add(load);
        }
        let parts = u16::try_from(slot).ok().and_then(|slot| self.fine.get_mut(&slot));
        if let Some(sum) = parts.and_then(|parts| parts.get_mut(part)) {
            *sum = sum.saturating_add(load);
        }
    }

    /// How much there was at the place of this index.
    pub fn at(&self, index: usize) -> u64 {
        self.places.get(index).copied().unwrap_or(0)
    }

    /// How much there was of a part of the map; where it is a range, of the one of this number.
    pub(super) fn of_span(&self, span: &Span, range: usize) -> f64 {
        match part(span) {
            Some((slot, part, depth)) => self.of_part(slot, part, depth),
            None => self.at(range) as f64,
        }
    }

    /// How much there was of this part of a slot; where it was not split, as if all its parts had the same.
    pub(super) fn of_part(&self, slot: u16, part: usize, depth: u8) -> f64 {
        match self.fine.get(&slot) {
            Some(parts) => {
                let size = PARTS >> depth;
                parts.iter().skip(part * size).take(size).map(|load| *load as f64).sum()
            }
            None => self.at(slot.into()) as f64 / f64::from(1_u32 << depth),
        }
    }
}

impl Place {
    /// Which of the finest parts of its slot it is in; none in a map of ranges.
    pub(crate) fn part(self) -> Option<usize> {
        self.hash().map(fine)
    }
}

/// Which of the finest parts of its slot a hash falls into.
fn fine(hash: u64) -> usize {
    ((hash << 16) >> (64 - u32::from(DEPTH_MAX))) as usize
}

/// The slot, the part of it and how often it was halved, of what is a slot or a part of one.
pub(super) fn part(span: &Span) -> Option<(u16, usize, u8)> {
    let (slot, first) = (span.slots().next()?, span.first_hash()?);
    let depth = (1.0 / span.width()).log2().round() as u8;
    Some((slot.number(), fine(first) >> (DEPTH_MAX - depth), depth))
}

impl ShardMap {
    /// What the busiest shard has of these loads, against what its weight says: 1.0 is even.
    pub fn imbalance_of(&self, loads: &Loads) -> f64 {
        let mut shares = vec![0.0; self.shards().len()];
        for (range, (span, owners)) in self.parts().enumerate() {
            if let Some(share) = owners.first().and_then(|owner| shares.get_mut(owner.index())) {
                *share += loads.of_span(&span, range);
            }
        }
        self.fullest(&shares)
    }

    /// This map with the version that follows and the same owners, planned from now on. A map of ranges is as it was.
    pub fn pinned(&self) -> ShardMap {
        let Some(table) = self.table() else { return self.clone() };
        let mut rules = self.rules().clone();
        rules.strategy = Strategy::Planned;
        // a planned map has its shards in order, those of jump came in their own
        let mut shards = self.shards().to_vec();
        shards.sort();
        let index = super::build::index(&shards);
        let now: Vec<ShardId> = self.shards().iter().filter_map(|shard| index.get(&shard.name).copied()).collect();
        let owners = table.slots().flatten().map(|owner| now.get(owner.index()).copied().unwrap_or(*owner)).collect();
        let layout = Table::new(rules.copies, owners, table.splits().to_vec()).into();
        ShardMap::from(Inner::new(self.version().saturating_add(1), rules, shards, index, layout))
    }

    /// A next map in which the busiest shard has less to do: at most so many slots, parts of slots or ranges change hands,
    /// each from a busy shard to an idle one. A slot that is too much for any shard is halved, up to eight times over, and
    /// its parts go apart. None where nothing is to be gained, or the busiest has no more than 1.05 of its due.
    ///
    /// What of a slot's load each part will have is only known once it is split: the next call knows, if the loads of then
    /// tell the parts apart, as those of [`Shards::loads`](crate::serving::Shards::loads) do. One key that is too much for a
    /// shard stays too much.
    ///
    /// It lasts until the next change of shards: [`next`](Self::next) is even by the number of slots again, whatever they
    /// have to do, and moves back what relief had moved. Relieve the map that comes of it by the loads of then.
    ///
    /// ```
    /// use seedpod::serving::{ShardMap, shard::Loads};
    ///
    /// let map = ShardMap::planned(["s0", "s1", "s2"]).build()?;
    /// let mut loads = Loads::of(&map);
    /// for user in 0..10_000_u64 {
    ///     let requests = if map.name(map.owner(&user)) == "s0" { 3 } else { 1 };
    ///     loads.add(map.locate(&user), requests);
    /// }
    /// let next = map.relieve(&loads, 10_000)?.expect("s0 is busy");
    /// assert!(map.imbalance_of(&loads) > 1.7 && next.imbalance_of(&loads) < 1.06);
    /// # Ok::<(), seedpod::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where names alone decide: others would not follow. [`pinned`](Self::pinned) makes it planned.
    pub fn relieve(&self, loads: &Loads, moves_max: usize) -> Result<Option<ShardMap>> {
        if self.strategy().is_stateless() {
            let why = format!("names alone decide in a map by {}: pin it first", self.strategy());
            return Err(Error::new(Kind::Unsupported, why).at("shard map"));
        }
        let mut relief = Relief::of(self, loads);
        relief.run(moves_max);
        let next = relief.map()?;
        Ok(Some(next).filter(|next| next.imbalance_of(loads) < self.imbalance_of(loads)))
    }
}
