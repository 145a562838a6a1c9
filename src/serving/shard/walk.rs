//! Who stands in for a key's owners: all shards, in the order in which they would own it.

use super::{Place, ShardId, ShardKey, ShardMap, Slot};

impl ShardMap {
    /// All shards that weigh something in the order in which this key would have them: its owners, then who would own it if
    /// they were gone. Each once. It is not for every request: it sorts them all.
    pub fn walk(&self, key: &(impl ShardKey + ?Sized)) -> Vec<ShardId> {
        self.walk_at(self.locate(key))
    }

    /// The [walk](Self::walk) of a key at this place of this map.
    pub fn walk_at(&self, place: Place) -> Vec<ShardId> {
        let slot = place.slot().unwrap_or(Slot::new(place.index() as u16));
        let (roster, walks) = self.walks();
        let (mut walk, mut seen) = (Vec::new(), vec![false; self.shards().len()]);
        let weighs = |shard: &ShardId| self.shards().get(shard.index()).is_some_and(|shard| shard.weight > 0);
        let owners = self.owners_at(place);
        let all = roster.owning().count() + owners.iter().filter(|owner| !weighs(owner)).count();
        for shard in owners.iter().copied().chain(walks.walk(roster, slot)) {
            match seen.get_mut(shard.index()) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            walk.push(shard);
            if walk.len() == all {
                break; // a ring goes on for as many points as it has
            }
        }
        walk
    }
}
