//! A table whose messages are kept elsewhere: what it has decided and a disk must keep, and what comes back from there.
//!
//! Such a table takes in nothing that is published or given back behind others: that goes to the [`Journal`], and comes
//! back by [`Table::load`] when it is about to be leased. All else, it decides as it does in memory.

use super::{Chunk, Effects, Subscription, Table, lanes::End};
use crate::{
    base::{Name, time::Instant},
    queue::{Attempts, Id},
};
use bytes::Bytes;
use std::ops::Range;

/// Some items that a subscription is to keep.
pub(in crate::queue) struct Stored {
    pub(in crate::queue) subscription: u32,
    pub(in crate::queue) chunk: Chunk,
    pub(in crate::queue) due: Option<Instant>,
}

/// Items that keep their place, with the history that they have now.
pub(in crate::queue) struct Returned {
    pub(in crate::queue) origin: u64,
    pub(in crate::queue) range: Range<u32>,
    pub(in crate::queue) attempts: Attempts,
    pub(in crate::queue) due: Option<Instant>,
}

/// What has been decided, in the order of the decisions.
#[derive(Default)]
pub(in crate::queue) struct Journal {
    pub(in crate::queue) stored: Vec<Stored>,
    /// What leases held that are over, by its origin; what of it was returned is still there.
    pub(in crate::queue) settled: Vec<(u64, Range<u32>)>,
    pub(in crate::queue) returned: Vec<Returned>,
    /// Origins of which a key has nothing in the table any more, by subscription.
    pub(in crate::queue) free: Vec<(u32, u64)>,
    /// Ids that a topic saw first, and how many of its oldest it forgot.
    pub(in crate::queue) seen: Vec<(u32, Option<Id>, usize)>,
    /// What was written and what was forgotten.
    pub(in crate::queue) state: Vec<(Name, Option<(u64, Bytes)>)>,
}

impl Journal {
    pub(super) fn store(&mut self, subscription: u32, chunk: Chunk, due: Option<Instant>) {
        self.stored.push(Stored { subscription, chunk, due });
    }

    pub(super) fn returned(&mut self, chunk: &Chunk, due: Option<Instant>) {
        let (origin, range) = (chunk.batch.origin, chunk.range.clone());
        self.returned.push(Returned { origin, range, attempts: chunk.attempts, due });
    }

    pub(super) fn saw(&mut self, topic: u32, id: Option<Id>, forgotten: usize) {
        if id.is_some() || forgotten > 0 {
            self.seen.push((topic, id, forgotten));
        }
    }

    pub(super) fn settled(&mut self, origin: u64, range: Range<u32>) {
        self.settled.push((origin, range));
    }

    pub(super) fn freed(&mut self, subscription: u32, origin: u64) {
        self.free.push((subscription, origin));
    }

    pub(super) fn wrote(&mut self, key: Name, state: Option<(u64, Bytes)>) {
        self.state.push((key, state));
    }

    /// Whether nothing needs to be written.
    pub(in crate::queue) fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.settled.is_empty() && self.seen.is_empty() && self.state.is_empty()
    }
}

/// At which end of what is ready a chunk goes in that comes from the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Load {
    /// Behind all that came before it.
    Behind,
    /// Before all: others came forward while it waited for its key.
    Before,
}

impl Table {
    /// A table that keeps a journal, whose leases are numbered from here on.
    pub(in crate::queue) fn journaled(epoch: u64) -> Table {
        Table { epoch, journal: Some(Box::default()), ..Table::default() }
    }

    /// What was decided since this was last asked.
    pub(in crate::queue) fn journal(&mut self) -> Journal {
        self.journal.as_deref_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether anything was decided since then.
    pub(in crate::queue) fn is_journal_empty(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.is_empty())
    }

    /// Takes in what was kept elsewhere.
    pub(in crate::queue) fn load_chunk(
        &mut self,
        subscription: u32,
        chunk: Chunk,
        due: Option<Instant>,
        end: Load,
        effects: &mut Effects,
    ) {
        let end = if end == Load::Before { End::Front } else { End::Back };
        if let Some(lanes) = self.subscriptions.get_mut(subscription as usize) {
            lanes.load(due, chunk, end, effects);
        }
    }

    /// Takes back what is due, and counts what is ready of this priority or a higher one.
    pub(in crate::queue) fn ready_from(&mut self, now: Instant, subscription: u32, priority: u8) -> usize {
        self.subscriptions.get_mut(subscription as usize).map_or(0, |lanes| {
            lanes.reap(now);
            lanes.ready_from(priority)
        })
    }

    /// Something is there for one who waits on this subscription.
    pub(in crate::queue) fn wake(&self, subscription: u32, effects: &mut Effects) {
        if let Some(lanes) = self.subscriptions.get(subscription as usize) {
            effects.wake(&lanes.arrived);
        }
    }

    /// Everybody who waits for anything looks again.
    pub(in crate::queue) fn wake_all(&self, effects: &mut Effects) {
        self.subscriptions.iter().for_each(|lanes| effects.wake_everyone(&lanes.arrived));
        self.topics.iter().for_each(|topic| effects.room(&topic.room));
    }

    /// The topic of a subscription, and what it counts: what is stored, and what was ever rejected.
    pub(in crate::queue) fn counts_of(&self, subscription: u32) -> Option<(u32, u64, u64)> {
        let topic = self.subscriptions.get(subscription as usize)?.topic;
        let counts = self.topics.get(topic as usize)?;
        Some((topic, counts.used as u64, counts.rejected))
    }

    /// What a topic counted when the broker was closed.
    pub(in crate::queue) fn recall_counts(&mut self, topic: u32, stored: u64, rejected: u64) -> bool {
        let topic = self.topics.get_mut(topic as usize);
        topic.map(|topic| (topic.used, topic.rejected) = (stored as usize, rejected)).is_some()
    }

    /// What a topic had seen before the broker was opened, the oldest first.
    pub(in crate::queue) fn recall_id(&mut self, topic: u32, seen: Instant, id: Id) {
        if let Some(dedup) = self.topics.get_mut(topic as usize).and_then(|topic| topic.dedup.as_mut()) {
            dedup.recall(seen, id);
        }
    }

    /// The state under this key, where it is at hand.
    pub(in crate::queue) fn state_at_hand(&self, key: &Name) -> Option<&(u64, Bytes)> {
        self.state.get(key)
    }

    /// Has the state under this key at hand, for a step that is about to be weighed.
    pub(in crate::queue) fn recall_state(&mut self, key: Name, state: (u64, Bytes)) {
        self.state.insert(key, state);
    }

    /// Keeps the state under this key no longer: it is read where it is kept.
    pub(in crate::queue) fn let_go_of_state(&mut self, key: &Name) {
        self.state.remove(key);
    }

    /// How many subscriptions there are.
    pub(in crate::queue) fn subscriptions(&self) -> impl Iterator<Item = (u32, &Subscription, u32)> {
        (0..).zip(&self.subscriptions).map(|(at, lanes)| (at, &lanes.name, lanes.topic))
    }

    /// How many topics there are.
    pub(in crate::queue) fn topics(&self) -> u32 {
        self.topics.len() as u32
    }
}
