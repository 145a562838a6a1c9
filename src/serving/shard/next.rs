//! The map that follows: what is to change is collected, then checked as a whole.

use super::{KeyRange, ShardKey, ShardMap, ShardMapBuilder, Strategy, member::Shard, ranges::Draft};
use crate::base::{Error, Kind, Result};
use bytes::Bytes;

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
        let owns = self.to.ranges.iter().find(|it| it.owners.iter().any(|owner| &*owner.name == name));
        if let Some(span) = owns.map(|it| it.range.span()) {
            self.fail(Kind::Conflict, format!("it still owns {span}: assign them first"), name);
        } else if self.knows(name) {
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

    /// Cuts the range in two at this key: it is the first of the second, and both have the owners of the one.
    pub fn split(&mut self, key: &(impl ShardKey + ?Sized)) -> &mut Self {
        let key = Bytes::copy_from_slice(key.shard_bytes().as_ref());
        let Some(at) = self.range_of(&key) else { return self };
        let Some(draft) = self.to.ranges.get_mut(at).filter(|draft| draft.range.from != key) else {
            self.fail_at(Kind::Conflict, "a range begins here already", &key);
            return self;
        };
        let range = KeyRange { from: key.clone(), until: draft.range.until.replace(key) };
        let owners = draft.owners.clone();
        self.to.ranges.insert(at + 1, Draft { range, owners });
        self
    }

    /// Makes one range of the one that begins with this key and the one before, whose owners it gets.
    pub fn merge(&mut self, key: &(impl ShardKey + ?Sized)) -> &mut Self {
        let key = Bytes::copy_from_slice(key.shard_bytes().as_ref());
        let Some(at) = self.range_of(&key) else { return self };
        if at == 0 || self.to.ranges.get(at).is_none_or(|draft| draft.range.from != key) {
            self.fail_at(Kind::NotFound, "no range begins here behind another", &key);
            return self;
        }
        let gone = self.to.ranges.remove(at);
        if let Some(before) = self.to.ranges.get_mut(at - 1) {
            before.range.until = gone.range.until;
        }
        self
    }

    /// The range that this key is in gets these owners, of which the first answers.
    pub fn assign(
        &mut self,
        key: &(impl ShardKey + ?Sized),
        owners: impl IntoIterator<Item: Into<Shard>>,
    ) -> &mut Self {
        let key = Bytes::copy_from_slice(key.shard_bytes().as_ref());
        let at = self.range_of(&key);
        if let Some(draft) = at.and_then(|at| self.to.ranges.get_mut(at)) {
            draft.owners = owners.into_iter().map(Into::into).collect();
        }
        self
    }

    /// The range that this key is in; they are in order.
    fn range_of(&mut self, key: &Bytes) -> Option<usize> {
        if self.to.rules.strategy != Strategy::Ranges {
            self.fail_at(Kind::Unsupported, "the map is one of slots, it has no ranges", key);
        }
        self.to.ranges.partition_point(|draft| draft.range.from <= *key).checked_sub(1)
    }

    fn fail_at(&mut self, kind: Kind, why: &'static str, key: &Bytes) {
        self.failed.get_or_insert_with(|| Error::new(kind, why).at(format!("key \"{}\"", key.escape_ascii())));
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
