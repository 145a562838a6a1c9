//! How much one shard may have in flight, compared with the others.

use super::super::shard::{ShardId, ShardMap, Strategy};
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

/// The most that a shard may have in flight: this many times what it is due, rounded up; of equal shards that is the mean.
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

    /// ⌈factor × what it is due⌉ with this many in flight in all, the one that asks included.
    pub(super) fn most(self, in_flight: u32, due: Due) -> u32 {
        (self.factor * (f64::from(in_flight) * due.part / due.of)).ceil() as u32
    }
}

/// What a shard is due of all that is in flight: so much of so much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    part: f64,
    of: f64,
}

/// What each shard of this map is due. Those that own nothing are due nothing. The others share by weight, whatever chance
/// gave them; but where somebody has planned who owns what, who owns more of it than its weight says is due that: keys on
/// their way to others, ranges, parts that follow load.
pub(super) fn dues(map: &ShardMap) -> Arc<[Due]> {
    let mut owned = vec![0.0; map.shards().len()];
    for (span, owners) in map.holdings() {
        let width = if span.width() > 0.0 { span.width() } else { 1.0 };
        for owner in owners {
            if let Some(owned) = owned.get_mut(owner.index()) {
                *owned += width;
            }
        }
    }
    let all = (map.places() * map.copies()) as f64;
    // a plan is even to one slot
    let spare = if map.strategy() == Strategy::Ranges { 0.0 } else { map.copies() as f64 };
    let weighed =
        || map.shards().iter().zip(&owned).map(|(it, owned)| if *owned > 0.0 { f64::from(it.weight) } else { 0.0 });
    let weights: f64 = weighed().sum();
    let due = |(weight, owned): (f64, &f64)| {
        let by_weight = all * weight / weights.max(1.0);
        if *owned > 0.0 && !map.strategy().is_stateless() && *owned > by_weight + spare {
            Due { part: *owned, of: all }
        } else {
            Due { part: weight, of: weights.max(1.0) }
        }
    };
    weighed().zip(&owned).map(due).collect()
}

/// What every shard of a map has in flight. Shards keep their counts from map to map.
#[derive(Clone)]
pub(super) struct Counts {
    bound: Bound,
    all: Arc<AtomicU32>,
    each: Box<[Arc<AtomicU32>]>,
    dues: Arc<[Due]>,
}

impl Counts {
    pub(super) fn new(bound: Bound, all: Arc<AtomicU32>, each: Box<[Arc<AtomicU32>]>, dues: Arc<[Due]>) -> Self {
        Counts { bound, all, each, dues }
    }

    pub(super) fn dues(&self) -> Arc<[Due]> {
        self.dues.clone()
    }

    /// Whether what a key's owners may not take goes to others.
    pub(super) fn spills(&self) -> bool {
        self.bound.spills
    }

    /// Whether this one may have what others may not take: it owns something.
    pub(super) fn stands_in(&self, shard: ShardId) -> bool {
        self.dues.get(shard.index()).is_some_and(|due| due.part > 0.0)
    }

    /// The order in which a key's owners are asked: the less loaded of two drawn at random, then the others.
    pub(super) fn order(&self, owners: &[ShardId], chance: impl FnOnce() -> Rng) -> SmallVec<[ShardId; 4]> {
        if owners.len() < 2 {
            return SmallVec::from_slice(owners);
        }
        let mut rng = chance();
        let one = rng.below(owners.len() as u64) as usize;
        let other = (one + 1 + rng.below(owners.len() as u64 - 1) as usize) % owners.len();
        let load = |place: usize| owners.get(place).map_or(0, |owner| self.load(*owner));
        let (best, next) = if load(other) < load(one) { (other, one) } else { (one, other) };
        let rest = (0..owners.len()).filter(|place| *place != best && *place != next);
        [best, next].into_iter().chain(rest).filter_map(|place| owners.get(place).copied()).collect()
    }

    pub(super) fn load(&self, owner: ShardId) -> u32 {
        self.each.get(owner.index()).map_or(0, |each| each.load(Relaxed))
    }

    /// Counts one more in flight in this shard, if that is not too much.
    pub(super) fn take(&self, owner: ShardId) -> Result<Place> {
        let (Some(each), Some(due)) = (self.each.get(owner.index()), self.dues.get(owner.index())) else {
            return Err(Error::new(Kind::Overloaded, "it has no count").unsent());
        };
        let all = self.all.fetch_add(1, AcqRel) + 1;
        let most = self.bound.most(all, *due);
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
