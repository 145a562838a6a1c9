//! How much one shard may have in flight, compared with the others.

use super::super::shard::ShardId;
use crate::base::{
    Error, Kind, Result, Rng,
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};
use smallvec::SmallVec;
use std::fmt;

/// The most that a shard may have in flight: this many times the mean of all shards, rounded up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound {
    factor: f64,
    /// Whether what its owners may not take goes to others.
    spills: bool,
}

impl Bound {
    pub(super) fn new(factor: f64, spills: bool) -> Result<Self> {
        if factor.is_finite() && factor >= 1.0 {
            return Ok(Bound { factor, spills });
        }
        Err(Error::new(Kind::Invalid, format!("a bound of {factor} times the mean: it must be 1 or more")))
    }

    /// ⌈factor × mean⌉ with this many in flight over this many shards, the one that asks included.
    pub(super) fn most(self, in_flight: u32, shards: usize) -> u32 {
        let mean = f64::from(in_flight) / shards.max(1) as f64;
        (self.factor * mean).ceil() as u32
    }
}

/// What every shard of a map has in flight. Shards keep their counts from map to map.
#[derive(Clone)]
pub(super) struct Counts {
    bound: Bound,
    all: Arc<AtomicU32>,
    each: Box<[Arc<AtomicU32>]>,
}

impl Counts {
    pub(super) fn new(bound: Bound, all: Arc<AtomicU32>, each: Box<[Arc<AtomicU32>]>) -> Self {
        Counts { bound, all, each }
    }

    /// The order in which a key's owners are asked: the less loaded of two drawn at random, then the others; then, where
    /// what is too much spills, all other shards in the order of their numbers, from the first owner on.
    pub(super) fn order(
        &self,
        owners: &[ShardId],
        shards: usize,
        chance: impl FnOnce() -> Rng,
    ) -> SmallVec<[ShardId; 4]> {
        let mut order: SmallVec<[ShardId; 4]> = SmallVec::from_slice(owners);
        if owners.len() > 1 {
            let mut rng = chance();
            let one = rng.below(owners.len() as u64) as usize;
            let other = (one + 1 + rng.below(owners.len() as u64 - 1) as usize) % owners.len();
            let load = |place: usize| owners.get(place).map_or(0, |owner| self.load(*owner));
            let (best, next) = if load(other) < load(one) { (other, one) } else { (one, other) };
            let rest = (0..owners.len()).filter(|place| *place != best && *place != next);
            order = [best, next].into_iter().chain(rest).filter_map(|place| owners.get(place).copied()).collect();
        }
        if self.bound.spills {
            let start = owners.first().map_or(0, |owner| owner.index());
            let others = (1..shards).map(|step| ShardId::new((start + step) % shards));
            order.extend(others.filter(|other| !owners.contains(other)));
        }
        order
    }

    pub(super) fn load(&self, owner: ShardId) -> u32 {
        self.each.get(owner.index()).map_or(0, |each| each.load(Relaxed))
    }

    /// Counts one more in flight in this shard, if that is not too much.
    pub(super) fn take(&self, owner: ShardId) -> Result<Place> {
        let Some(each) = self.each.get(owner.index()) else {
            return Err(Error::new(Kind::Overloaded, "it has no count").unsent());
        };
        let all = self.all.fetch_add(1, AcqRel) + 1;
        let most = self.bound.most(all, self.each.len());
        let more = |load: u32| (load < most).then_some(load + 1);
        if let Err(load) = each.fetch_update(AcqRel, Acquire, more) {
            self.all.fetch_sub(1, AcqRel);
            let message = format!("it has {load} in flight, and the bound is {most}");
            return Err(Error::new(Kind::Overloaded, message).unsent());
        }
        Ok(Place { all: self.all.clone(), each: each.clone() })
    }
}

/// One in flight, until dropped.
pub(super) struct Place {
    all: Arc<AtomicU32>,
    each: Arc<AtomicU32>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.each.fetch_sub(1, AcqRel);
        self.all.fetch_sub(1, AcqRel);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({} in flight)", self.each.load(Relaxed))
    }
}
