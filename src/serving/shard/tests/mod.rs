//! What every strategy promises, and what goes in wrong.

use super::*;
use crate::base::{Rng, Seed};

mod goldens;
mod hot;
mod plans;
mod ranges;
mod strategies;
mod told_wrong;
mod wire;

/// Those that fill slots.
pub(in crate::serving) const STRATEGIES: [Strategy; 6] = [
    Strategy::Planned,
    Strategy::Ring,
    Strategy::ConsistentHashRing,
    Strategy::Rendezvous,
    Strategy::Jump,
    Strategy::Maglev,
];

pub(in crate::serving) fn of(strategy: Strategy, shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
    match strategy {
        Strategy::Planned => ShardMap::planned(shards),
        Strategy::Ring => ShardMap::ring(shards),
        Strategy::ConsistentHashRing => ShardMap::consistent_hash_ring(shards),
        Strategy::Rendezvous => ShardMap::rendezvous(shards),
        Strategy::Jump => ShardMap::jump(shards),
        Strategy::Maglev => ShardMap::maglev(shards),
        Strategy::Ranges => unreachable!("it fills no slots"),
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("shard-{number}")).collect()
}

/// The names of the owners of every slot.
fn owners(map: &ShardMap) -> Vec<Vec<&str>> {
    let table = map.table().expect("a map of slots");
    table.slots().map(|owners| owners.iter().map(|owner| map.name(*owner)).collect()).collect()
}

/// How many slots each shard owns first, and at all.
fn counts(map: &ShardMap) -> (Vec<usize>, Vec<usize>) {
    let mut counts = (vec![0; map.shards().len()], vec![0; map.shards().len()]);
    for owners in map.table().expect("a map of slots").slots() {
        counts.0[owners[0].index()] += 1;
        owners.iter().for_each(|owner| counts.1[owner.index()] += 1);
    }
    counts
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// A key of up to 40 bytes of any value.
fn key(rng: &mut Rng) -> Vec<u8> {
    (0..rng.below(41)).map(|_| rng.next_u64() as u8).collect()
}
