//! How often each slot is asked for: what load-aware rebalancing goes by.

use super::super::shard::{Place, ShardMap};
use crate::base::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Counts one in so many requests to its place in the map: eight bytes for each slot or range.
pub(super) struct Measure {
    one_in: u32,
    turn: AtomicU32,
    counts: ArcSwap<Counts>,
}

/// The places of maps of one kind: ranges change with the map, slots do not.
struct Counts {
    /// 0 where it serves any map of as many places.
    version: u64,
    each: Box<[AtomicU64]>,
}

impl Measure {
    pub(super) fn one_in(one_in: u32) -> Self {
        let none = Counts { version: 0, each: Box::default() };
        Measure { one_in: one_in.max(1), turn: AtomicU32::new(0), counts: ArcSwap::from_pointee(none) }
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
        let version = if place.slot().is_some() { 0 } else { map.version() };
        if counts.each.len() != map.places() || counts.version != version {
            let each = (0..map.places()).map(|_| AtomicU64::new(0)).collect();
            self.counts.store(Arc::new(Counts { version, each }));
        }
        if let Some(count) = self.counts.load().each.get(place.index()) {
            count.fetch_add(u64::from(self.one_in), Relaxed);
        }
    }

    /// What was counted since the last time, by [`Place::index`]; empty where nothing was.
    pub(super) fn take(&self) -> Vec<u64> {
        self.counts.load().each.iter().map(|count| count.swap(0, Relaxed)).collect()
    }
}
