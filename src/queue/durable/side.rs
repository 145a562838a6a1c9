//! What is on the disk for one subscription: where to read on in each lane, which keys have messages in line, what is not
//! due yet.

use super::rows::Head;
use crate::base::hash::Map;
use std::collections::{BTreeMap, BTreeSet};

/// Segments of one subscription and priority.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    /// All up to this time and number has been loaded.
    pub(super) read: (u64, u64),
    /// Nothing that is not loaded comes before this time; none where nothing is there.
    pub(super) next: Option<u64>,
}

impl Lane {
    /// Nothing is loaded of it, and the first is of this time.
    pub(super) fn from(first: u64) -> Lane {
        Lane { read: (0, 0), next: Some(first) }
    }
}

/// The messages of one key: one is in the table or about to be, the others wait on the disk.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// How many are stored.
    pub(super) rows: u32,
    /// The number of the one whose turn it is.
    pub(super) head: Option<u64>,
    /// The number of the last that was done.
    pub(super) done: u64,
}

/// A chained message whose turn it is: lane, time, number, key.
pub(super) type Waits = (u8, u64, u64, u64);

/// What is on the disk for one subscription.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) lanes: BTreeMap<u8, Lane>,
    pub(super) chains: Map<u64, Chain>,
    /// What the next commits bring: lane, time, number. Nothing behind it is loaded before, or it would be passed over.
    pub(super) coming: BTreeSet<(u8, u64, u64)>,
    /// Heads of chains that are not loaded.
    pub(super) heads: BTreeSet<Waits>,
    /// Items that were not due when last looked at, by time and number.
    delayed: BTreeMap<(u64, u64), u32>,
    pub(super) delayed_items: usize,
    /// Items behind another of their key.
    pub(super) blocked: usize,
}

impl Side {
    pub(super) fn delay(&mut self, now: u64, head: &Head, number: u64) {
        if head.at > now && self.delayed.insert((head.at, number), head.items).is_none() {
            self.delayed_items += head.items as usize;
        }
    }

    /// Up to here, by time and number, all of this lane that will ever be due by now is on the disk.
    pub(super) fn complete(&self, lane: u8, now: u64) -> (u64, u64) {
        let first = self.coming.range((lane, 0, 0)..=(lane, now, u64::MAX)).next();
        first.map_or((now, u64::MAX), |(_, at, number)| (*at, *number))
    }

    /// Whose time has come is not delayed any more.
    pub(super) fn pass(&mut self, now: u64) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            self.delayed_items -= first.remove() as usize;
        }
    }

    /// The lane whose turn it is, if anything in it is due and not loaded; the highest priority first.
    pub(super) fn due(&self, now: u64, from: u8) -> Option<u8> {
        let lane = self.lanes.range(from..).find(|(_, lane)| lane.next.is_some_and(|next| next <= now));
        let head = self.lanes_of_heads(from).find(|lane| self.first_head(*lane, 0).is_some_and(|at| at <= now));
        lane.map(|(lane, _)| *lane).into_iter().chain(head).min()
    }

    /// When something will be due.
    pub(super) fn next_due(&self, now: u64) -> Option<u64> {
        let lanes = self.lanes.values().filter_map(|lane| lane.next).filter(|at| *at > now);
        lanes.chain(self.lanes_of_heads(0).filter_map(|lane| self.first_head(lane, now.checked_add(1)?))).min()
    }

    /// Since when the oldest that is due and not loaded is there.
    pub(super) fn oldest(&self, now: u64) -> Option<u64> {
        let lanes = self.lanes.values().filter_map(|lane| lane.next);
        lanes.chain(self.lanes_of_heads(0).filter_map(|lane| self.first_head(lane, 0))).filter(|at| *at <= now).min()
    }

    fn lanes_of_heads(&self, from: u8) -> impl Iterator<Item = u8> {
        let mut from = Some(from);
        std::iter::from_fn(move || {
            let (lane, ..) = self.heads.range((from?, 0, 0, 0)..).next()?;
            from = lane.checked_add(1);
            Some(*lane)
        })
    }

    /// The time of the first head of this lane, from this time on.
    fn first_head(&self, lane: u8, from: u64) -> Option<u64> {
        let mut heads = self.heads.range((lane, from, 0, 0)..=(lane, u64::MAX, u64::MAX, u64::MAX));
        heads.next().map(|(_, at, ..)| *at)
    }
}
