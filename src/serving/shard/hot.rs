//! Load: what each slot has, and a next map in which the busiest shard has less.

use super::{
    Place, ShardId, ShardMap, Strategy,
    build::ShardMapBuilder,
    map::{Inner, Layout},
    next::Change,
    slot::Slot,
    table::{DEPTH_MAX, Split, Table},
};
use crate::base::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// How much there was to do, by place: requests, bytes, time, whatever is to be even.
///
/// It takes 512 KiB, and 2 KiB more for each slot that is split.
#[derive(Clone, Debug)]
pub struct Loads {
    places: Vec<u64>,
    /// Of slots that are split: by the next bits of the hash.
    fine: BTreeMap<u16, Box<[u64; FINE]>>,
}

/// As many as a slot may have parts.
const FINE: usize = 1 << DEPTH_MAX;

/// Who has no more than this of its due is busy enough.
const ENOUGH: f64 = 1.05;

impl Loads {
    /// None yet, at the places of this map.
    pub fn of(map: &ShardMap) -> Self {
        let splits = map.table().map(Table::splits).unwrap_or_default();
        let fine = splits.iter().map(|split| (split.slot, Box::new([0; FINE]))).collect();
        Loads { places: vec![0; map.places()], fine }
    }

    /// So much more at this place.
    pub fn add(&mut self, place: Place, load: u64) {
        if let Some(sum) = self.places.get_mut(place.index()) {
            *sum = sum.saturating_add(load);
        }
        let Some(hash) = place.hash() else { return };
        let part = self.fine.get_mut(&Slot::of(hash).number()).and_then(|parts| parts.get_mut(fine(hash)));
        if let Some(sum) = part {
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
            let even = load / FINE as u64 + u64::from((part as u64) < load % FINE as u64);
            *sum = sum.saturating_add(even);
        }
    }

    /// How much there was at the place of this index.
    pub fn at(&self, index: usize) -> u64 {
        self.places.get(index).copied().unwrap_or(0)
    }

    /// How much there was of this part of a slot; where it was not split, as if all its parts had the same.
    fn of_part(&self, slot: u16, part: usize, depth: u8) -> f64 {
        match self.fine.get(&slot) {
            Some(parts) => {
                let size = FINE >> depth;
                parts.iter().skip(part * size).take(size).map(|load| *load as f64).sum()
            }
            None => self.at(slot.into()) as f64 / f64::from(1_u32 << depth),
        }
    }
}

/// Which of the finest parts of its slot a hash falls into.
fn fine(hash: u64) -> usize {
    ((hash << 16) >> (64 - u32::from(DEPTH_MAX))) as usize
}

impl ShardMap {
    /// What the busiest shard has of these loads, against what its weight says: 1.0 is even.
    pub fn imbalance_of(&self, loads: &Loads) -> f64 {
        let mut shares = vec![0.0; self.shards().len()];
        for piece in Pieces::of(self, loads).list {
            if let Some(share) = piece.owners.first().and_then(|owner| shares.get_mut(owner.index())) {
                *share += piece.load;
            }
        }
        self.fullest(&shares)
    }

    /// This map with the version that follows and the same owners, planned from now on.
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
        let layout = Layout::Slots(Table::new(rules.copies, owners, table.splits().to_vec()));
        ShardMap::from(Inner::new(self.version().saturating_add(1), rules, shards, index, layout))
    }

    /// A next map in which the busiest shard has less to do: at most so many slots, parts of slots or ranges change hands,
    /// each from a busy shard to an idle one. A slot that is too much for any shard is halved, up to eight times over, and
    /// its parts go apart. None where nothing is to be gained, or the busiest has no more than 1.05 of its due.
    ///
    /// What of a slot's load each part will have is only known once it is split: the next call knows. One key that is too
    /// much for a shard stays too much.
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
        let mut pieces = Pieces::of(self, loads);
        pieces.relieve(self, loads, moves_max);
        let next = pieces.map(self)?;
        Ok(Some(next).filter(|next| next.imbalance_of(loads) < self.imbalance_of(loads)))
    }
}

/// What may change hands: a slot, a part of one, or a range.
#[derive(Clone, Debug)]
struct Piece {
    /// The slot's number, or the range's.
    place: usize,
    /// Which part of the slot, of two to the power of `depth`.
    part: usize,
    depth: u8,
    load: f64,
    owners: Vec<ShardId>,
}

struct Pieces {
    list: Vec<Piece>,
}

impl Pieces {
    fn of(map: &ShardMap, loads: &Loads) -> Self {
        let (mut list, mut ranges) = (Vec::with_capacity(map.places()), 0..);
        for (span, owners) in map.parts() {
            let width = span.width();
            let owners = owners.to_vec();
            list.push(match (span.slots().next(), span.first_hash()) {
                (Some(slot), Some(first)) => {
                    let depth = (1.0 / width).log2().round() as u8;
                    let part = fine(first) >> (DEPTH_MAX - depth);
                    let load = loads.of_part(slot.number(), part, depth);
                    Piece { place: slot.number().into(), part, depth, load, owners }
                }
                _ => {
                    let place = ranges.next().unwrap_or(0);
                    Piece { place, part: 0, depth: 0, load: loads.at(place) as f64, owners }
                }
            });
        }
        Pieces { list }
    }

    fn relieve(&mut self, map: &ShardMap, loads: &Loads, moves_max: usize) {
        let roster = map.roster();
        let weights: Vec<f64> = map.shards().iter().map(|shard| f64::from(shard.weight)).collect();
        let mut owned: Vec<Vec<usize>> = vec![Vec::new(); weights.len()];
        let mut busy = vec![0.0; weights.len()];
        for (at, piece) in self.list.iter().enumerate() {
            let Some(first) = piece.owners.first().map(|owner| owner.index()) else { continue };
            owned.get_mut(first).into_iter().for_each(|owned| owned.push(at));
            busy.get_mut(first).into_iter().for_each(|busy| *busy += piece.load);
        }
        let due = busy.iter().sum::<f64>() / weights.iter().sum::<f64>().max(1.0);
        let mut moves = 0;
        // every turn moves a piece or halves a slot: both come to an end
        while moves < moves_max && due > 0.0 {
            let level = |at: usize| match (busy.get(at), weights.get(at)) {
                (Some(busy), Some(weight)) if *weight > 0.0 => busy / weight / due,
                // what weighs nothing is to have nothing
                (Some(busy), _) if *busy > 0.0 => f64::INFINITY,
                _ => f64::NEG_INFINITY,
            };
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|one, other| level(*one).total_cmp(&level(*other)));
            let Some(hot) = order.pop() else { return };
            if level(hot) <= ENOUGH {
                return;
            }
            let open = order.into_iter().filter(|at| weights.get(*at).is_some_and(|weight| *weight > 0.0));
            let best = open.take(8).find_map(|cool| {
                let room = |load: f64| {
                    let (ours, theirs) = (busy.get(hot)? - load, busy.get(cool)? + load);
                    // what weighs nothing is busy as long as it has anything
                    let ours = if *weights.get(hot)? > 0.0 { ours / weights.get(hot)? } else { 0.0 };
                    let theirs = theirs / weights.get(cool)?;
                    Some(ours.max(theirs) / due).filter(|then| *then < level(hot))
                };
                let candidates = owned.get(hot).into_iter().flatten().filter_map(|at| {
                    let piece = self.list.get(*at).filter(|piece| piece.load > 0.0)?;
                    let then = room(piece.load)?;
                    let to = ShardId(cool as u16);
                    let joins =
                        piece.owners.contains(&to) || roster.may_join(piece.owners.get(1..).unwrap_or_default(), to);
                    joins.then_some((then, *at))
                });
                candidates
                    .min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
                    .map(|it| (cool, it.1))
            });
            // one slot that alone is more than a shard is due is halved before it is moved about
            let heaviest = owned.get(hot).into_iter().flatten().copied().max_by(|one, other| {
                let load = |at: &usize| self.list.get(*at).map_or(0.0, |piece| piece.load);
                load(one).total_cmp(&load(other)).then(other.cmp(one))
            });
            let too_much = heaviest.filter(|at| self.list.get(*at).is_some_and(|piece| piece.load > due));
            let worth = heaviest.filter(|at| self.list.get(*at).is_some_and(|piece| piece.load > due * (ENOUGH - 1.0)));
            let split = if best.is_none() { worth } else { too_much };
            if let Some(at) = split.filter(|at| map.table().is_some() && self.can_split(*at)) {
                let (old, new) = self.split(at, loads);
                for at in old {
                    self.account(at, &mut owned, &mut busy, false);
                }
                for piece in new {
                    let at = self.list.len();
                    self.list.push(piece);
                    self.account(at, &mut owned, &mut busy, true);
                }
                continue;
            }
            let Some((cool, at)) = best else { return };
            self.account(at, &mut owned, &mut busy, false);
            if let Some(piece) = self.list.get_mut(at) {
                piece.hand_to(ShardId(cool as u16));
            }
            self.account(at, &mut owned, &mut busy, true);
            moves += 1;
        }
    }

    /// Adds a piece to what its owner has, or takes it away.
    fn account(&self, at: usize, owned: &mut [Vec<usize>], busy: &mut [f64], add: bool) {
        let Some(piece) = self.list.get(at) else { return };
        let Some(first) = piece.owners.first().map(|owner| owner.index()) else { return };
        if let (Some(owned), Some(busy)) = (owned.get_mut(first), busy.get_mut(first)) {
            match add {
                true => owned.push(at),
                false => owned.retain(|other| *other != at),
            }
            *busy += if add { piece.load } else { -piece.load };
        }
    }

    fn can_split(&self, at: usize) -> bool {
        self.list.get(at).is_some_and(|piece| piece.load > 0.0 && piece.depth < DEPTH_MAX)
    }

    /// Halves every part of the slot of this piece: the pieces that are no more, and those in their stead.
    fn split(&self, at: usize, loads: &Loads) -> (Vec<usize>, Vec<Piece>) {
        let place = self.list.get(at).map(|piece| (piece.place, piece.depth));
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (other, piece) in self.list.iter().enumerate() {
            // deeper ones have taken the place of those that are no more
            if Some((piece.place, piece.depth)) != place {
                continue;
            }
            old.push(other);
            for half in 0..2 {
                let (part, depth) = (piece.part * 2 + half, piece.depth + 1);
                let load = loads.of_part(piece.place as u16, part, depth);
                new.push(Piece { part, depth, load, owners: piece.owners.clone(), ..*piece });
            }
        }
        (old, new)
    }

    /// The map of these owners.
    fn map(self, before: &ShardMap) -> Result<ShardMap> {
        if before.table().is_none() {
            return self.ranges(before);
        }
        let copies = before.copies();
        let mut by_slot: BTreeMap<usize, BTreeMap<(u8, usize), Vec<ShardId>>> = BTreeMap::new();
        for piece in self.list {
            by_slot.entry(piece.place).or_default().insert((piece.depth, piece.part), piece.owners);
        }
        let (mut owners, mut splits) = (Vec::with_capacity(by_slot.len() * copies), Vec::new());
        for (slot, parts) in by_slot {
            let depth = parts.keys().next_back().map_or(0, |(depth, _)| *depth);
            let parts: Vec<_> = parts.into_iter().filter(|((found, _), _)| *found == depth).map(|(_, it)| it).collect();
            let different: BTreeSet<_> = parts.iter().collect();
            owners.extend(parts.first().into_iter().flatten().copied());
            // a slot whose parts have the same owners is whole again
            if different.len() > 1 {
                splits.push(Split { slot: slot as u16, depth, owners: parts.concat().into() });
            }
        }
        let layout = Layout::Slots(Table::new(copies, owners, splits));
        let (rules, shards) = (before.rules().clone(), before.shards().to_vec());
        let index = super::build::index(&shards);
        Ok(ShardMap::from(Inner::new(before.version().saturating_add(1), rules, shards, index, layout)))
    }

    fn ranges(self, before: &ShardMap) -> Result<ShardMap> {
        let mut to: ShardMapBuilder = Change::of(before).to;
        for (draft, piece) in to.ranges.iter_mut().zip(&self.list) {
            draft.owners =
                piece.owners.iter().filter_map(|owner| before.shards().get(owner.index()).cloned()).collect();
        }
        to.build()
    }
}

impl Piece {
    /// Another answers: one of the other owners changes places with the first, who is new takes its place.
    fn hand_to(&mut self, shard: ShardId) {
        match self.owners.iter().position(|owner| *owner == shard) {
            Some(at) => self.owners.swap(0, at),
            None => self.owners.first_mut().into_iter().for_each(|first| *first = shard),
        }
    }
}
