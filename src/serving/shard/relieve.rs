//! Relief of the busiest shard, step by step (pure): a piece goes to an idle one, or a slot is halved.

use super::{
    Loads, ShardId, ShardMap,
    fill::Roster,
    hot::part,
    map::Inner,
    next::Change,
    table::{DEPTH_MAX, Split, Table},
};
use crate::base::Result;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// Who has no more than this of its due is left alone.
const ENOUGH: f64 = 1.05;

/// How many of the idlest are asked whether they may have something.
const ASKED: usize = 8;

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

/// A relief under way: who has what, and how much each has to do.
pub(super) struct Relief<'a> {
    map: &'a ShardMap,
    loads: &'a Loads,
    roster: Roster,
    pieces: Vec<Piece>,
    /// The pieces that each shard answers for.
    owned: Vec<Vec<usize>>,
    busy: Vec<f64>,
    weights: Vec<f64>,
    /// What a shard of weight 1 is due.
    due: f64,
}

impl<'a> Relief<'a> {
    pub(super) fn of(map: &'a ShardMap, loads: &'a Loads) -> Self {
        let weights: Vec<f64> = map.shards().iter().map(|shard| f64::from(shard.weight)).collect();
        let piece = |(range, (span, owners)): (usize, (super::Span, &[ShardId]))| {
            let (load, owners) = (loads.of_span(&span, range), owners.to_vec());
            match part(&span) {
                Some((slot, part, depth)) => Piece { place: slot.into(), part, depth, load, owners },
                None => Piece { place: range, part: 0, depth: 0, load, owners },
            }
        };
        let pieces: Vec<Piece> = map.parts().enumerate().map(piece).collect();
        let total: f64 = pieces.iter().map(|piece| piece.load).sum();
        let mut relief = Relief {
            map,
            loads,
            roster: map.roster(),
            owned: vec![Vec::new(); weights.len()],
            busy: vec![0.0; weights.len()],
            due: total / weights.iter().sum::<f64>().max(1.0),
            weights,
            pieces: Vec::new(),
        };
        for piece in pieces {
            relief.put(piece);
        }
        relief
    }

    /// Until so many pieces have changed hands, or nothing more is to be gained. Every turn hands a piece over or halves a
    /// slot, so that it comes to an end.
    pub(super) fn run(&mut self, moves_max: usize) {
        let mut moves = 0;
        while moves < moves_max && self.due > 0.0 {
            let mut order: Vec<usize> = (0..self.weights.len()).collect();
            order.sort_by(|one, other| self.level(*one).total_cmp(&self.level(*other)));
            let Some(hot) = order.pop().filter(|hot| self.level(*hot) > ENOUGH) else { return };
            let idle = order.into_iter().filter(|shard| self.weight(*shard) > 0.0).take(ASKED);
            let best = idle.into_iter().find_map(|idle| Some((idle, self.best(hot, idle)?)));
            let heaviest = self.heaviest(hot).filter(|at| self.splits(*at, best.is_none()));
            match (heaviest, best) {
                (Some(at), _) => self.halve(at),
                (None, Some((idle, at))) => {
                    self.hand(at, ShardId(idle as u16));
                    moves += 1;
                }
                (None, None) => return,
            }
        }
    }

    fn weight(&self, shard: usize) -> f64 {
        self.weights.get(shard).copied().unwrap_or(0.0)
    }

    /// What a shard has to do with so much more or less, against what it is due.
    fn level_with(&self, shard: usize, more: f64) -> f64 {
        let busy = self.busy.get(shard).copied().unwrap_or(0.0) + more;
        match self.weight(shard) {
            weight if weight > 0.0 => busy / weight / self.due,
            // what weighs nothing is too busy as long as it has anything
            _ if busy > 0.0 => f64::INFINITY,
            _ => 0.0,
        }
    }

    fn level(&self, shard: usize) -> f64 {
        self.level_with(shard, 0.0)
    }

    /// The piece that brings the two closest together when the idle one gets it; none where that one would then be as busy.
    fn best(&self, hot: usize, idle: usize) -> Option<usize> {
        let (to, now) = (ShardId(idle as u16), self.level(hot));
        let candidates = self.owned.get(hot)?.iter().filter_map(|at| {
            let piece = self.pieces.get(*at).filter(|piece| piece.load > 0.0)?;
            let ours = if now.is_finite() { self.level_with(hot, -piece.load) } else { 0.0 };
            let then = ours.max(self.level_with(idle, piece.load));
            let others = piece.owners.get(1..).unwrap_or_default();
            let may = piece.owners.contains(&to) || self.roster.may_join(others, to);
            (may && then < now).then_some((then, *at))
        });
        candidates.min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))).map(|(_, at)| at)
    }

    fn heaviest(&self, hot: usize) -> Option<usize> {
        let load = |at: usize| self.pieces.get(at).map_or(0.0, |piece| piece.load);
        let order = |one: &usize, other: &usize| match load(*one).total_cmp(&load(*other)) {
            Ordering::Equal => other.cmp(one),
            order => order,
        };
        self.owned.get(hot)?.iter().copied().max_by(order)
    }

    /// Whether this piece is better halved: it is more than any shard is due, or stuck and worth it.
    fn splits(&self, at: usize, stuck: bool) -> bool {
        let largest = self.weights.iter().copied().fold(0.0, f64::max);
        let worth = if stuck { self.due * (ENOUGH - 1.0) } else { self.due * largest };
        let piece = self.pieces.get(at).filter(|piece| piece.load > worth && piece.depth < DEPTH_MAX);
        self.map.table().is_some() && piece.is_some()
    }

    /// Halves every part of the slot of this piece: all parts of a slot are of one size.
    fn halve(&mut self, at: usize) {
        let Some(Piece { place, depth, .. }) = self.pieces.get(at).cloned() else { return };
        let parts: Vec<usize> = (0..self.pieces.len())
            .filter(|at| self.pieces.get(*at).is_some_and(|piece| (piece.place, piece.depth) == (place, depth)))
            .collect();
        for at in parts {
            self.take(at);
            let Some(piece) = self.pieces.get(at).cloned() else { continue };
            for part in [piece.part * 2, piece.part * 2 + 1] {
                let load = self.loads.of_part(place as u16, part, depth + 1);
                self.put(Piece { part, depth: depth + 1, load, ..piece.clone() });
            }
        }
    }

    /// Another answers for this piece: it changes places with the first owner if it holds a copy, and takes its place if not.
    fn hand(&mut self, at: usize, to: ShardId) {
        self.take(at);
        if let Some(owners) = self.pieces.get_mut(at).map(|piece| &mut piece.owners) {
            match owners.iter().position(|owner| *owner == to) {
                Some(holds) => owners.swap(0, holds),
                None => owners.first_mut().into_iter().for_each(|first| *first = to),
            }
        }
        self.give(at);
    }

    fn put(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.give(self.pieces.len() - 1);
    }

    fn give(&mut self, at: usize) {
        if let Some((owned, busy, load)) = self.account(at) {
            owned.push(at);
            *busy += load;
        }
    }

    fn take(&mut self, at: usize) {
        if let Some((owned, busy, load)) = self.account(at) {
            owned.retain(|other| *other != at);
            *busy -= load;
        }
    }

    /// What the first owner of this piece has, how busy it is, and what the piece adds.
    fn account(&mut self, at: usize) -> Option<(&mut Vec<usize>, &mut f64, f64)> {
        let piece = self.pieces.get(at)?;
        let first = piece.owners.first()?.index();
        Some((self.owned.get_mut(first)?, self.busy.get_mut(first)?, piece.load))
    }

    /// The map of these owners, with the version that follows.
    pub(super) fn map(self) -> Result<ShardMap> {
        let (map, copies) = (self.map, self.map.copies());
        if map.table().is_none() {
            return self.ranges();
        }
        // what was halved is still in the list; the deepest parts of a slot are those that hold
        let mut slots: BTreeMap<usize, BTreeMap<(u8, usize), Vec<ShardId>>> = BTreeMap::new();
        for piece in self.pieces {
            slots.entry(piece.place).or_default().insert((piece.depth, piece.part), piece.owners);
        }
        let (mut owners, mut splits) = (Vec::with_capacity(slots.len() * copies), Vec::new());
        for (slot, parts) in slots {
            let depth = parts.keys().next_back().map_or(0, |(depth, _)| *depth);
            let parts: Vec<_> =
                parts.into_iter().filter(|((it, _), _)| *it == depth).map(|(_, owners)| owners).collect();
            owners.extend(parts.first().into_iter().flatten().copied());
            // a slot whose parts have the same owners is whole again
            if parts.iter().collect::<BTreeSet<_>>().len() > 1 {
                splits.push(Split { slot: slot as u16, depth, owners: parts.concat().into() });
            }
        }
        let layout = Table::new(copies, owners, splits).into();
        let shards = map.shards().to_vec();
        let index = super::build::index(&shards);
        Ok(ShardMap::from(Inner::new(map.version().saturating_add(1), map.rules().clone(), shards, index, layout)))
    }

    fn ranges(self) -> Result<ShardMap> {
        let mut to = Change::of(self.map).to;
        for (draft, piece) in to.ranges.iter_mut().zip(&self.pieces) {
            let shard = |owner: &ShardId| self.map.shards().get(owner.index()).cloned();
            draft.owners = piece.owners.iter().filter_map(shard).collect();
        }
        to.build()
    }
}
