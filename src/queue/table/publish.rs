//! Publishing: weighed against the capacity of every topic that it names, then stored, all or nothing.

use super::{Chunk, Effects, Refused, Table, TopicState, later};
use crate::{
    base::{Error, Few, Kind, Result, time::Instant},
    queue::{Attempts, Batch, Bound, Publish, Receipt, Topic},
};
use std::{ops::Range, sync::Arc, time::Duration};

impl Table {
    /// Stores all of these or none.
    pub(in crate::queue) fn publish(
        &mut self,
        now: Instant,
        batches: &mut Few<Publish>,
        effects: &mut Effects,
    ) -> Result<Receipt, Refused> {
        let named = batches.iter().try_for_each(|publish| self.want(&publish.topic, publish.payload.len()));
        let weighed = self.weigh(|_, _| 0);
        named?;
        weighed?;
        let mut receipt = Receipt::default();
        for publish in batches.drain(..) {
            let items = publish.payload.len();
            match self.store(now, publish, effects) {
                Stored::New => receipt.stored += items,
                Stored::Duplicate => receipt.duplicates += items,
                Stored::Nowhere => {}
            }
        }
        Ok(receipt)
    }

    /// Notes that so many items are to be added to a topic. [`weigh`](Self::weigh) must follow, whatever this says.
    pub(super) fn want(&mut self, topic: &Topic, items: u32) -> Result {
        let at = self.topic(topic)?;
        if let Some(topic) = self.topics.get_mut(at as usize) {
            let added = items as usize * topic.subscriptions.len();
            if topic.wanted == 0 && added > 0 {
                self.weighing.push(at);
            }
            topic.wanted += added;
        }
        Ok(())
    }

    /// Whether there is room for all that is wanted, less what the same step gives up in a topic.
    pub(super) fn weigh(&mut self, given_up: impl Fn(&Table, u32) -> usize) -> Result<(), Refused> {
        let mut weighed = Ok(());
        while let Some(at) = self.weighing.pop() {
            let Some(topic) = self.topics.get_mut(at as usize) else { continue };
            let (used, wanted) = (topic.used, std::mem::take(&mut topic.wanted));
            if weighed.is_err() || used == 0 || used + wanted <= topic.options.capacity {
                continue;
            }
            let left = used.saturating_sub(given_up(self, at));
            if let Some(topic) = self.topics.get_mut(at as usize)
                && left > 0
                && left + wanted > topic.options.capacity
            {
                weighed = Err(topic.full(wanted));
            }
        }
        weighed
    }

    pub(super) fn store(&mut self, now: Instant, publish: Publish, effects: &mut Effects) -> Stored {
        let Ok(at) = self.topic(&publish.topic) else { return Stored::Nowhere };
        let (delay, range) = (publish.delay, 0..publish.payload.len());
        let mut fresh = true;
        if let Some(dedup) = self.topics.get_mut(at as usize).and_then(|topic| topic.dedup.as_mut()) {
            let mut forgotten = 0;
            fresh = dedup.is_new(now, publish.id, &mut forgotten);
            if let Some(journal) = &mut self.journal {
                journal.saw(at, fresh.then_some(publish.id), forgotten);
            }
        }
        let batch = Arc::new(Batch::new(publish, now));
        if fresh {
            if let Some(topic) = self.topics.get_mut(at as usize).filter(|topic| topic.options.history > 0) {
                topic.remember(&batch, effects);
            }
            self.hand_out(now, at, batch, range, delay, effects)
        } else {
            effects.free(batch);
            Stored::Duplicate
        }
    }

    /// Gives these items to every subscription of the topic.
    pub(super) fn hand_out(
        &mut self,
        now: Instant,
        topic: u32,
        batch: Arc<Batch>,
        range: Range<u32>,
        delay: Duration,
        effects: &mut Effects,
    ) -> Stored {
        let Some(topic) = self.topics.get_mut(topic as usize) else { return Stored::Nowhere };
        let Some((last, others)) = topic.subscriptions.split_last().filter(|_| !range.is_empty()) else {
            effects.free(batch);
            return Stored::Nowhere;
        };
        topic.used += range.len() * topic.subscriptions.len();
        let chunk = Chunk { batch, range, attempts: Attempts::default() };
        if let Some(journal) = &mut self.journal {
            let due = (!delay.is_zero()).then(|| later(now, delay));
            topic.subscriptions.iter().for_each(|at| journal.store(*at, chunk.clone(), due));
            return Stored::New;
        }
        for at in others {
            if let Some(lanes) = self.subscriptions.get_mut(*at as usize) {
                lanes.admit(now, chunk.clone(), delay, effects);
            }
        }
        if let Some(lanes) = self.subscriptions.get_mut(*last as usize) {
            lanes.admit(now, chunk, delay, effects);
        }
        Stored::New
    }
}

impl TopicState {
    #[cold]
    fn full(&mut self, wanted: usize) -> Refused {
        let capacity = self.options.capacity;
        if self.options.bound == Bound::Refuse {
            let message = format!("{} of {capacity} items are there, and {wanted} more do not fit", self.used);
            return Error::new(Kind::Overloaded, message).at(format!("topic {}", self.name)).into();
        }
        // woken when half empty, not once per item, unless what is wanted needs more room than that
        let level = capacity.saturating_sub(wanted).min(capacity / 2);
        self.wake_at = Some(self.wake_at.map_or(level, |others| others.max(level)));
        Refused::Full(self.room.clone().notified_owned())
    }

    /// Keeps the batch for subscriptions that come later, and no more of the oldest than its history has room for.
    fn remember(&mut self, batch: &Arc<Batch>, effects: &mut Effects) {
        self.history.push_back(batch.clone());
        self.kept += batch.payload.len() as usize;
        while let Some(oldest) = self.history.front().map(|oldest| oldest.payload.len() as usize)
            && self.kept - oldest >= self.options.history
            && let Some(oldest_batch) = self.history.pop_front()
        {
            self.kept -= oldest;
            effects.free(oldest_batch);
        }
    }

    pub(super) fn give_up(&mut self, items: u32, effects: &mut Effects) {
        self.used = self.used.saturating_sub(items as usize);
        if self.wake_at.is_some_and(|level| self.used <= level) {
            self.wake_at = None;
            effects.room(&self.room);
        }
    }
}

pub(super) enum Stored {
    New,
    Duplicate,
    /// No subscription is there to keep it.
    Nowhere,
}
