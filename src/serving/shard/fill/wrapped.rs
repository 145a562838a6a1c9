//! The ring of the crate `consistent_hash_ring`, asked for every slot once.

use super::{Known, Roster, key};
use crate::{
    base::Seed,
    serving::shard::{
        slot::{SLOTS, Slot},
        table::ShardId,
    },
};
use consistent_hash_ring::{Ring, RingBuilder};
use std::hash::{BuildHasher, Hash, Hasher};

/// The ring; those that weigh nothing are not on it: looking for copies, it would search for their points for ever.
pub(in crate::serving::shard) struct Wrapped(Ring<Node, Stable>);

impl Wrapped {
    pub(in crate::serving::shard) fn new(roster: &Roster) -> Self {
        let node = |(number, shard): (u16, &Known)| {
            let points = shard.weight as usize * roster.points as usize;
            (Node { shard: ShardId(number), hash: shard.hash }, points)
        };
        Wrapped(RingBuilder::new(Stable(0)).weighted_nodes_iter(roster.owning().map(node)).build())
    }

    pub(super) fn fill(&self, roster: &Roster) -> Vec<ShardId> {
        let mut owners = Vec::with_capacity(SLOTS * roster.copies);
        for slot in Slot::all() {
            // `get` panics where the ring is empty
            match self.0.try_get(key(slot)) {
                Some(node) if roster.copies == 1 => owners.push(node.shard),
                _ => roster.take(self.walk(slot), &mut owners),
            }
        }
        owners
    }

    pub(in crate::serving::shard) fn walk(&self, slot: Slot) -> impl Iterator<Item = ShardId> {
        self.0.replicas(key(slot)).map(|node| node.shard)
    }
}

/// A shard on the ring, known by the hash of its name.
#[derive(Clone)]
struct Node {
    shard: ShardId,
    hash: u64,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Node {}

impl Hash for Node {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

/// The same in every process; the crate's own depends on the machine's byte order, and is weak on numbers.
#[derive(Clone)]
struct Stable(u64);

impl BuildHasher for Stable {
    type Hasher = Stable;

    fn build_hasher(&self) -> Stable {
        Stable(self.0)
    }
}

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(crate::base::hash::of(bytes));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = Seed::new(self.0).fork_index(word).get();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
