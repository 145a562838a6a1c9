//! A ring of hashes: each shard has points on it, a slot belongs to whose point follows its own.

use super::{Known, Roster};
use crate::serving::{
    rendezvous::score,
    shard::{
        slot::{SLOTS, Slot},
        table::ShardId,
    },
};

/// The points of all shards, in order: placed by one sort, not one by one.
pub(in crate::serving::shard) struct Circle(Box<[(u64, u16)]>);

impl Circle {
    pub(in crate::serving::shard) fn new(roster: &Roster) -> Self {
        let points = |(number, shard): (u16, &Known)| {
            let (hash, count) = (shard.hash, u64::from(shard.weight) * u64::from(roster.points));
            // the odd factor keeps a point's number from cancelling out with another name's
            (0..count).map(move |point| (score(point.wrapping_mul(0xD6E8_FEB8_6659_FD93), hash), number))
        };
        let mut circle: Vec<_> = roster.owning().flat_map(points).collect();
        circle.sort_unstable();
        Circle(circle.into())
    }

    pub(super) fn fill(&self, roster: &Roster) -> Vec<ShardId> {
        let mut at = 0; // slots are in the order of the ring: the next one's point is the same or further on
        let mut owners = Vec::with_capacity(SLOTS * roster.copies);
        for slot in Slot::all() {
            while self.0.get(at).is_some_and(|(point, _)| *point < slot.first()) {
                at += 1;
            }
            roster.take(self.from(at), &mut owners);
        }
        owners
    }

    /// The shards of the points from this one on, once around: each as often as it has points.
    fn from(&self, at: usize) -> impl Iterator<Item = ShardId> {
        let (before, after) = self.0.split_at_checked(at).unwrap_or_default();
        after.iter().chain(before).map(|(_, shard)| ShardId(*shard))
    }

    /// The shards in the order in which they follow this slot.
    pub(in crate::serving::shard) fn walk(&self, slot: Slot) -> impl Iterator<Item = ShardId> {
        self.from(self.0.partition_point(|(point, _)| *point < slot.first()))
    }
}
