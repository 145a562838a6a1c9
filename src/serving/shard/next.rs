//! The map that follows: what is to change is collected, then checked as a whole.

use super::{ShardMap, ShardMapBuilder, Strategy, ranges::Draft, shard::Shard};
use crate::base::{Error, Kind, Result};

/// What is to change from one map to the next: [`ShardMap::next`].
#[derive(Debug)]
pub struct Change {
    pub(super) to: ShardMapBuilder,
    pub(super) failed: Option<Error>,
}

impl Change {
    pub(super) fn of(map: &ShardMap) -> Self {
        let ranges = map.key_ranges().map(|ranges| {
            let owner = |owner: &super::ShardId| map.shards().get(owner.index()).cloned();
            let draft = |range| Draft {
                range: ranges.range(range),
                owners: ranges.owners(range).iter().filter_map(owner).collect(),
            };
            (0..ranges.len()).map(draft).collect()
        });
        let to = ShardMapBuilder {
            rules: map.rules().clone(),
            version: map.version().saturating_add(1),
            shards: map.shards().to_vec(),
            ranges: ranges.unwrap_or_default(),
        };
        Change { to, failed: None }
    }

    /// One more shard.
    pub fn add(&mut self, shard: impl Into<Shard>) -> &mut Self {
        self.to.shards.push(shard.into());
        self
    }

    /// Without this shard. One that still owns a range cannot go.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        let last = self.to.shards.last().map(|shard| shard.name.clone());
        if self.to.rules.strategy == Strategy::Jump && last.as_deref().is_some_and(|last| last != name) {
            let why = format!("jump gives shards up at its end only, and \"{}\" is the last", last.unwrap_or_default());
            if self.knows(name) {
                self.fail(Kind::Unsupported, why, name);
            }
            return self;
        }
        if self.knows(name) {
            self.to.shards.retain(|shard| &*shard.name != name);
        }
        self
    }

    /// This shard takes another share.
    pub fn weigh(&mut self, name: &str, weight: u32) -> &mut Self {
        if self.knows(name) {
            let found = self.to.shards.iter_mut().filter(|shard| &*shard.name == name);
            found.for_each(|shard| shard.weight = weight);
        }
        self
    }

    /// So many owners for each key. Of ranges it is told by the owners they have.
    pub fn copies(&mut self, copies: usize) -> &mut Self {
        self.to.rules.copies = copies;
        self
    }

    fn knows(&mut self, name: &str) -> bool {
        let known = self.to.shards.iter().any(|shard| &*shard.name == name);
        if !known {
            self.fail(Kind::NotFound, "the map has no such shard".to_owned(), name);
        }
        known
    }

    pub(super) fn fail(&mut self, kind: Kind, why: String, shard: &str) {
        self.failed.get_or_insert_with(|| Error::new(kind, why).at(format!("shard \"{shard}\"")));
    }

    pub(super) fn build(self, before: &ShardMap) -> Result<ShardMap> {
        match self.failed {
            Some(error) => Err(error),
            None => self.to.after(Some(before)),
        }
    }
}
