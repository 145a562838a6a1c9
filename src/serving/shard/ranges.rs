//! The other kind of map: ranges of keys, in order, of which one begins where the one before ends.

use super::{ShardKey, member::Shard, slot::Span, table::ShardId};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Range, RangeFrom, RangeFull, RangeTo},
    sync::Arc,
};

/// A range of keys: from one on, up to and without another.
///
/// Made of `"a".."m"`, `.."a"`, `"m"..` or `..`, of whatever keys; keys are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub(super) from: Bytes,
    pub(super) until: Option<Bytes>,
}

impl KeyRange {
    pub(super) fn span(&self) -> Span {
        Span::Keys { from: self.from.clone(), until: self.until.clone() }
    }
}

fn owned(key: &impl ShardKey) -> Bytes {
    Bytes::copy_from_slice(key.shard_bytes().as_ref())
}

impl<K: ShardKey> From<Range<K>> for KeyRange {
    fn from(range: Range<K>) -> Self {
        KeyRange { from: owned(&range.start), until: Some(owned(&range.end)) }
    }
}

impl<K: ShardKey> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> Self {
        KeyRange { from: owned(&range.start), until: None }
    }
}

impl<K: ShardKey> From<RangeTo<K>> for KeyRange {
    fn from(range: RangeTo<K>) -> Self {
        KeyRange { from: Bytes::new(), until: Some(owned(&range.end)) }
    }
}

impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> Self {
        KeyRange { from: Bytes::new(), until: None }
    }
}

/// A range as it was told.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) range: KeyRange,
    pub(super) owners: Vec<Shard>,
}

/// Sorted, disjoint, of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges {
    /// The first key of each range, in order; that of the first is empty.
    starts: Vec<Bytes>,
    /// The first eight bytes of each, as a number: most look-ups need no more.
    heads: Vec<u64>,
    owners: Vec<ShardId>,
    copies: usize,
}

impl Ranges {
    /// Of these, in whatever order they were told; what is wrong with them is told by the range.
    pub(super) fn new(
        drafts: &[Draft],
        copies: usize,
        index: &BTreeMap<Arc<str>, ShardId>,
        mistakes: &mut Vec<String>,
    ) -> Self {
        let mut sorted: Vec<&Draft> = drafts.iter().collect();
        sorted.sort_by(|a, b| a.range.from.cmp(&b.range.from));
        let mut ranges = Ranges { starts: Vec::new(), heads: Vec::new(), owners: Vec::new(), copies };
        let mut end = Some(Bytes::new()); // up to where keys have owners; none where all have
        for Draft { range, owners } in sorted {
            let span = range.span();
            if range.until.as_ref().is_some_and(|until| *until <= range.from) {
                mistakes.push(format!("{span} is empty"));
                continue;
            }
            match &end {
                Some(end) if *end == range.from => {}
                Some(end) if *end < range.from => {
                    let gap = Span::Keys { from: end.clone(), until: Some(range.from.clone()) };
                    mistakes.push(format!("{gap} have no owner"));
                }
                _ => mistakes.push(format!("{span} overlap with the range before")),
            }
            end = match (end, &range.until) {
                (Some(end), Some(until)) => Some(end.max(until.clone())),
                _ => None,
            };
            ranges.push(range, owners, index, mistakes);
        }
        if let Some(end) = end {
            mistakes.push(format!("{} have no owner", Span::Keys { from: end, until: None }));
        }
        ranges
    }

    fn push(
        &mut self,
        range: &KeyRange,
        owners: &[Shard],
        index: &BTreeMap<Arc<str>, ShardId>,
        mistakes: &mut Vec<String>,
    ) {
        let names: BTreeSet<_> = owners.iter().map(|owner| &owner.name).collect();
        if owners.is_empty() {
            mistakes.push(format!("{} have no owner", range.span()));
        } else if owners.len() != self.copies {
            let (count, copies) = (owners.len(), self.copies);
            mistakes.push(format!("{} have {count} owners, the first range has {copies}", range.span()));
        } else if names.len() != owners.len() {
            mistakes.push(format!("{} have one owner twice", range.span()));
        }
        self.starts.push(range.from.clone());
        self.heads.push(head(&range.from));
        self.owners.extend(owners.iter().filter_map(|owner| index.get(&owner.name)));
    }

    /// That the owners of each range are in different zones.
    pub(super) fn check_zones(&self, shards: &[Shard], mistakes: &mut Vec<String>) {
        for (index, owners) in self.owners.chunks(self.copies.max(1)).enumerate() {
            let zones: BTreeSet<_> =
                owners.iter().filter_map(|owner| shards.get(owner.index())).map(|shard| &shard.zone).collect();
            if zones.len() < owners.len() {
                mistakes.push(format!("{} have two owners in one zone", self.span(index)));
            }
        }
    }

    /// The range that this key is in.
    #[inline]
    pub(super) fn locate(&self, key: &[u8]) -> usize {
        let wanted = head(key);
        let low = self.heads.partition_point(|head| *head < wanted);
        let high = self.heads.partition_point(|head| *head <= wanted);
        // those with the same head are told apart by the rest
        let same = self.starts.get(low..high).unwrap_or_default();
        (low + same.partition_point(|start| start.as_ref() <= key)).saturating_sub(1)
    }

    pub(super) fn owners(&self, range: usize) -> &[ShardId] {
        self.owners.get(range * self.copies..).and_then(|rest| rest.get(..self.copies)).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn range(&self, range: usize) -> KeyRange {
        KeyRange {
            from: self.starts.get(range).cloned().unwrap_or_default(),
            until: self.starts.get(range + 1).cloned(),
        }
    }

    pub(super) fn span(&self, range: usize) -> Span {
        self.range(range).span()
    }
}

/// The first eight bytes as a number that sorts as they do.
#[inline]
fn head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(head)
        }
    }
}
