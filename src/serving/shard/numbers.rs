//! What the shards of one map are called in another.

use super::{ShardId, ShardMap};
use std::sync::Arc;

/// The number that each shard of one map has in another.
#[derive(Clone)]
pub(super) struct Numbers {
    /// None where it is not in the other.
    now: Arc<[Option<ShardId>]>,
    /// All have the same number in both.
    same: bool,
}

impl Numbers {
    pub(super) fn new(before: &ShardMap, after: &ShardMap) -> Self {
        let now: Arc<[_]> = before.shards().iter().map(|shard| after.id(&shard.name)).collect();
        let same = (0..).zip(&*now).all(|(at, now)| *now == Some(ShardId(at)));
        Numbers { now, same }
    }

    /// Whether each shard has one number in both.
    pub(super) fn are_kept(&self) -> bool {
        self.same
    }

    /// Whether both are one shard: the first by its number before, the second by that after.
    #[inline]
    pub(super) fn is_same(&self, old: ShardId, new: ShardId) -> bool {
        matches!(self.now.get(old.index()), Some(Some(now)) if *now == new)
    }

    /// Whether both are the same shards in one order.
    pub(super) fn are_same(&self, old: &[ShardId], new: &[ShardId]) -> bool {
        old.len() == new.len() && old.iter().zip(new).all(|(old, new)| self.is_same(*old, *new))
    }
}
