//! Who owns what, part by part.

use super::{ShardId, ShardMap, Span, table::Table};

impl ShardMap {
    /// Each slot, each part of those that are split, or each range, in order, with its owners.
    pub fn parts(&self) -> impl Iterator<Item = (Span, &[ShardId])> {
        let seed = self.seed();
        let slots = self.table().into_iter().flat_map(Table::parts);
        let span = move |(first, last, owners)| (Span::Hashes { seed, first, last }, owners);
        slots.map(span).chain(self.ranges_in_order())
    }

    /// The longest stretches of neighbouring keys with the same owners, in order.
    pub fn runs(&self) -> impl Iterator<Item = (Span, &[ShardId])> {
        let mut parts = self.holdings().peekable();
        std::iter::from_fn(move || {
            let (mut span, owners) = parts.next()?;
            while let Some((next, _)) = parts.next_if(|(_, others)| *others == owners) {
                span = span.joined(next);
            }
            Some((span, owners))
        })
    }

    /// What is held by one set of owners: the longest stretches of neighbouring slots and parts of slots, or each range.
    pub(crate) fn holdings(&self) -> impl Iterator<Item = (Span, &[ShardId])> {
        let seed = self.seed();
        let slots = self.table().into_iter().flat_map(Table::runs);
        let span = move |(first, last, owners)| (Span::Hashes { seed, first, last }, owners);
        slots.map(span).chain(self.ranges_in_order())
    }

    fn ranges_in_order(&self) -> impl Iterator<Item = (Span, &[ShardId])> {
        let ranges = self.key_ranges().into_iter();
        ranges.flat_map(|it| (0..it.len()).map(|range| (it.span(range), it.owners(range))))
    }

    /// The share of the keys that this shard answers for, from 0.0 to 1.0; of the ranges, where that is what it goes by.
    pub fn share(&self, name: &str) -> f64 {
        let id = self.id(name);
        let parts = self.holdings().filter(|(_, owners)| owners.first().copied() == id && id.is_some());
        let width = |span: Span| if span.width() > 0.0 { span.width() } else { 1.0 };
        parts.map(|(span, _)| width(span)).sum::<f64>() / self.places() as f64
    }
}
