//! How often each slot is asked for: what load-aware rebalancing goes by.

use super::super::shard::{Loads, PARTS, Place, ShardMap, Slot, Span, Strategy};
use crate::base::sync::{
    Lock,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};
use arc_swap::ArcSwapOption;
use std::{collections::BTreeMap, sync::Arc};

/// Counts one in so many requests to its place in the map: eight bytes for each slot or range, and 2 KiB for each slot that
/// is split.
pub(super) struct Measure {
    one_in: u32,
    turn: AtomicU32,
    counts: ArcSwapOption<Counts>,
    /// Held by who replaces them.
    renewing: Lock<()>,
}

/// The places of one map. Those of slots outlast it; ranges may be others in the next.
struct Counts {
    map: ShardMap,
    each: Arc<[AtomicU64]>,
    /// Of slots that are split, by the next bits of the hash.
    parts: BTreeMap<Slot, Arc<[AtomicU64]>>,
}

impl Counts {
    /// For the places of this map, with what there is from the one before.
    fn of(map: &ShardMap, before: Option<&Counts>) -> Self {
        let of_slots = |map: &ShardMap| map.strategy() != Strategy::Ranges;
        let slots = of_slots(map);
        let before = before.filter(|before| of_slots(&before.map) == slots);
        let each = match before {
            Some(before) if slots => before.each.clone(),
            Some(before) => spread(&before.map, map, before.take()).into_iter().map(AtomicU64::new).collect(),
            None => zeros(map.places()),
        };
        let known = |slot: &Slot| before.and_then(|before| before.parts.get(slot)).cloned();
        let parts = map.split_slots().map(|slot| (slot, known(&slot).unwrap_or_else(|| zeros(PARTS)))).collect();
        Counts { map: map.clone(), each, parts }
    }

    fn take(&self) -> impl Iterator<Item = u64> {
        self.each.iter().map(|count| count.swap(0, Relaxed))
    }
}

fn zeros(count: usize) -> Arc<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// What was counted for the ranges of one map, for those of another: evenly where one was cut in several.
fn spread(from: &ShardMap, to: &ShardMap, counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let start = |(span, _): (Span, _)| match span {
        Span::Keys { from, .. } => Some(from),
        Span::Hashes { .. } => None,
    };
    let starts: Vec<_> = to.parts().filter_map(start).collect();
    let mut sums = vec![0_u64; starts.len()];
    for ((span, _), count) in from.parts().zip(counts).filter(|(_, count)| *count > 0) {
        let Span::Keys { from, until } = span else { continue };
        let first = starts.partition_point(|start| *start <= from).saturating_sub(1);
        let end = until.map_or(starts.len(), |until| starts.partition_point(|start| *start < until));
        let parts = (end.max(first + 1) - first) as u64;
        for (sum, part) in sums.iter_mut().skip(first).zip(0..parts) {
            *sum += count / parts + u64::from(part < count % parts);
        }
    }
    sums
}

impl Measure {
    pub(super) fn one_in(one_in: u32) -> Self {
        let (turn, counts) = (AtomicU32::new(0), ArcSwapOption::empty());
        Measure { one_in: one_in.max(1), turn, counts, renewing: Lock::new(()) }
    }

    #[inline(always)]
    pub(super) fn count(&self, map: &ShardMap, place: Place) {
        if self.one_in > 1 && !self.turn.fetch_add(1, Relaxed).is_multiple_of(self.one_in) {
            return;
        }
        self.record(map, place);
    }

    fn record(&self, map: &ShardMap, place: Place) {
        let counts = self.counts.load();
        match &*counts {
            Some(counts) if counts.map.version() == map.version() => self.add(counts, place),
            counts => {
                let older = counts.as_ref().is_none_or(|counts| counts.map.version() < map.version());
                if older {
                    self.add(&self.renewed(map), place);
                } // else it was sent under a map that has been replaced: where its range is now nobody knows
            }
        }
    }

    fn add(&self, counts: &Counts, place: Place) {
        let one = u64::from(self.one_in);
        if let Some(count) = counts.each.get(place.index()) {
            count.fetch_add(one, Relaxed);
        }
        if counts.parts.is_empty() {
            return;
        }
        let parts = place.slot().and_then(|slot| counts.parts.get(&slot));
        if let Some(count) = parts.zip(place.part()).and_then(|(parts, part)| parts.get(part)) {
            count.fetch_add(one, Relaxed);
        }
    }

    /// Counts for this map, or a newer one.
    #[cold]
    fn renewed(&self, map: &ShardMap) -> Arc<Counts> {
        let _renewing = self.renewing.lock();
        let before = self.counts.load_full();
        match before {
            Some(counts) if counts.map.version() >= map.version() => counts,
            before => {
                let counts = Arc::new(Counts::of(map, before.as_deref()));
                self.counts.store(Some(counts.clone()));
                counts
            }
        }
    }

    /// What was counted since the last time, at the places of this map.
    pub(super) fn take(&self, map: &ShardMap) -> Loads {
        let (mut loads, counts) = (Loads::of(map), self.renewed(map));
        for (index, count) in counts.take().enumerate().filter(|(_, count)| *count > 0) {
            let parts = u16::try_from(index).ok().and_then(|slot| counts.parts.get(&Slot::new(slot)));
            let mut rest = count;
            for (part, count) in parts.into_iter().flat_map(|parts| parts.iter()).enumerate() {
                let count = count.swap(0, Relaxed).min(rest);
                loads.add_part(index, part, count);
                rest -= count;
            }
            loads.add_at(index, rest); // from before it was split
        }
        loads
    }
}
