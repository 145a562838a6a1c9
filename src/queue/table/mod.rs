//! The lease table: every decision of a broker that keeps its messages in memory. It takes `now`, never waits, reads no
//! clock and holds no lock; what must be done outside of the lock it leaves in [`Effects`].

mod arrived;
mod dedup;
#[cfg(feature = "durable")]
mod journal;
mod lanes;
mod leases;
#[cfg(not(feature = "durable"))]
mod no_journal;
mod publish;
mod settle;
#[cfg(test)]
mod tests;

pub(in crate::queue) use arrived::{Effects, Waiter};
#[cfg(feature = "durable")]
pub(in crate::queue) use journal::{Journal, Load, Stored};

use super::{Attempts, Batch, DEAD_LETTERS, Delivery, Lease, Subscription, Topic, TopicOptions, TopicStats, Want};
use crate::base::{
    Error, Few, Kind, Name, Result,
    hash::Map,
    time::{Instant, after as later},
};
use bytes::Bytes;
use dedup::Dedup;
use lanes::Lanes;
#[cfg(not(feature = "durable"))]
use no_journal::Journal;
use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};
use tokio::sync::{Notify, futures::OwnedNotified};

/// Some items of a stored batch, with their history.
#[derive(Clone)]
pub(in crate::queue) struct Chunk {
    pub(in crate::queue) batch: Arc<Batch>,
    pub(in crate::queue) range: Range<u32>,
    pub(in crate::queue) attempts: Attempts,
}

impl Chunk {
    pub(in crate::queue) fn len(&self) -> u32 {
        self.range.end.saturating_sub(self.range.start)
    }
}

struct TopicState {
    name: Topic,
    options: TopicOptions,
    /// Declared only because another topic sends its dead letters here.
    implied: bool,
    subscriptions: Vec<u32>,
    /// Items times subscriptions, from publish to settlement.
    used: usize,
    /// What the publish that is being weighed would add.
    wanted: usize,
    rejected: u64,
    dedup: Option<Dedup>,
    /// The last batches, for subscriptions that come later, and how many items they have.
    history: VecDeque<Arc<Batch>>,
    kept: usize,
    room: Arc<Notify>,
    /// Those who wait for room are woken once this little is used.
    wake_at: Option<usize>,
}

/// Why a call had no effect.
pub(in crate::queue) enum Refused {
    Error(Error),
    /// A topic is full and its publishers wait: until this tells that there is room.
    Full(OwnedNotified),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

#[derive(Default)]
pub(in crate::queue) struct Table {
    topics: Vec<TopicState>,
    subscriptions: Vec<Lanes>,
    topic_places: Map<Topic, u32>,
    subscription_places: Map<Subscription, u32>,
    /// Where the last look-ups led: mostly where the next one leads too.
    last_topic: u32,
    last_subscription: u32,
    /// The topics that the call in hand wants to add to.
    weighing: Vec<u32>,
    epoch: u64,
    state: Map<Name, (u64, Bytes)>,
    /// Where messages and state are kept elsewhere: what must be written there.
    journal: Option<Box<Journal>>,
}

impl Table {
    /// Adds a topic, or the subscriptions that it does not have yet; whether that changes anything.
    pub(in crate::queue) fn declare(
        &mut self,
        now: Instant,
        topic: &Topic,
        mut options: TopicOptions,
        effects: &mut Effects,
    ) -> Result<bool> {
        let wanted = std::mem::take(&mut options.subscriptions);
        if options.dead_letters.as_ref() == Some(topic) {
            let message = "its dead letters cannot go to itself";
            return Err(Error::new(Kind::Invalid, message).at(format!("topic {topic}")));
        }
        if options.capacity == 0 {
            return Err(Error::new(Kind::Invalid, "its capacity is 0").at(format!("topic {topic}")));
        }
        let dead = options.dead_letters.clone();
        let subscriptions = self.subscriptions.len();
        let mut changed = self.ensure(topic, options, false)?;
        for name in wanted {
            self.subscribe(now, topic, name, effects);
        }
        if let Some(dead) = dead {
            if !self.topic_places.contains_key(&dead) {
                changed |= self.ensure(&dead, TopicOptions::new(), true)?;
            }
            self.subscribe(now, &dead, Name::from(DEAD_LETTERS), effects); // whoever else reads them: they are kept
        }
        Ok(changed || self.subscriptions.len() > subscriptions)
    }

    fn ensure(&mut self, topic: &Topic, options: TopicOptions, implied: bool) -> Result<bool> {
        let dedup = options.dedup.map(Dedup::new);
        let there = self.topic_places.get(topic).and_then(|at| self.topics.get_mut(*at as usize));
        match there {
            Some(there) if there.options == options => {
                let declared = there.implied && !implied;
                there.implied &= implied;
                return Ok(declared);
            }
            Some(there) if there.implied => {
                (there.options, there.dedup, there.implied) = (options, dedup, false);
            }
            Some(there) => {
                let message = format!("it is declared as {:?}, not as {options:?}", there.options);
                return Err(Error::new(Kind::Conflict, message).at(format!("topic {topic}")));
            }
            None => {
                self.topic_places.insert(topic.clone(), self.topics.len() as u32);
                self.topics.push(TopicState {
                    name: topic.clone(),
                    options,
                    implied,
                    subscriptions: Vec::new(),
                    used: 0,
                    wanted: 0,
                    rejected: 0,
                    dedup,
                    history: VecDeque::new(),
                    kept: 0,
                    room: Arc::default(),
                    wake_at: None,
                });
            }
        }
        Ok(true)
    }

    fn subscribe(&mut self, now: Instant, topic: &Topic, name: Name, effects: &mut Effects) {
        let subscription = topic.subscription(name);
        let Some(at) = self.topic_places.get(topic).copied() else { return };
        if self.subscription_places.contains_key(&subscription) {
            return;
        }
        let place = self.subscriptions.len() as u32;
        self.subscription_places.insert(subscription.clone(), place);
        let mut lanes = Lanes::new(subscription, at);
        if let Some(topic) = self.topics.get_mut(at as usize) {
            topic.subscriptions.push(place);
            topic.used += topic.kept;
            for batch in &topic.history {
                let (batch, range) = (batch.clone(), 0..batch.payload.len());
                lanes.admit(now, Chunk { batch, range, attempts: Attempts::default() }, Duration::ZERO, effects);
            }
        }
        self.subscriptions.push(lanes);
    }

    pub(in crate::queue) fn topic(&mut self, topic: &Topic) -> Result<u32> {
        if self.topics.get(self.last_topic as usize).is_none_or(|last| last.name != *topic) {
            let found = self.topic_places.get(topic).copied();
            self.last_topic = found.ok_or_else(|| undeclared(format!("topic {topic}")))?;
        }
        Ok(self.last_topic)
    }

    pub(in crate::queue) fn subscription(&mut self, subscription: &Subscription) -> Result<u32> {
        if self.subscriptions.get(self.last_subscription as usize).is_none_or(|last| last.name != *subscription) {
            let found = self.subscription_places.get(subscription).copied();
            self.last_subscription = found.ok_or_else(|| undeclared(format!("subscription {subscription}")))?;
        }
        Ok(self.last_subscription)
    }

    /// Leases what is ready, up to what is wanted.
    pub(in crate::queue) fn lease(
        &mut self,
        now: Instant,
        subscription: &Subscription,
        want: &Want,
        effects: &mut Effects,
    ) -> Result<Few<Delivery>> {
        let at = self.subscription(subscription)?;
        if want.items == 0 || want.chunk == 0 {
            return Err(Error::new(Kind::Invalid, "it asks for nothing").at(format!("subscription {subscription}")));
        }
        let mut deliveries = Few::new();
        let Some(lanes) = self.subscriptions.get_mut(at as usize) else { return Ok(deliveries) };
        lanes.reap(now);
        let (mut items, mut bytes) = (want.items, want.bytes);
        let deadline = later(now, want.hold);
        if items > want.chunk {
            deliveries.reserve((lanes.ready().min(items as usize)) / want.chunk as usize);
        }
        while items > 0
            && let Some(chunk) = lanes.pop(items.min(want.chunk), &mut bytes, deliveries.is_empty())
        {
            items -= chunk.len();
            self.epoch += 1;
            let (batch, range, attempts) = (chunk.batch.clone(), chunk.range.clone(), chunk.attempts);
            let slot = lanes.leases.hold(chunk, self.epoch, want.hold, deadline);
            let place = u64::from(at) << 32 | u64::from(slot);
            let lease = Lease { place, owner: want.owner, epoch: self.epoch, deadline };
            deliveries.push(Delivery { lease, attempts, batch, range });
        }
        if lanes.ready() > 0 && !deliveries.is_empty() {
            effects.wake(&lanes.arrived); // the next competitor
        }
        Ok(deliveries)
    }

    /// Joins those who wait for messages of this subscription.
    pub(in crate::queue) fn waiter(&mut self, subscription: &Subscription) -> Option<Waiter> {
        let at = self.subscription(subscription).ok()?;
        self.subscriptions.get(at as usize).map(|lanes| lanes.arrived.waiter())
    }

    /// When something will become ready by itself.
    pub(in crate::queue) fn next_due(&mut self, subscription: &Subscription) -> Option<Instant> {
        let at = self.subscription(subscription).ok()?;
        self.subscriptions.get(at as usize)?.next_due()
    }

    /// The state under this key.
    pub(in crate::queue) fn load(&self, key: &Name) -> (u64, Bytes) {
        self.state.get(key).cloned().unwrap_or_default()
    }

    /// What a topic holds.
    pub(in crate::queue) fn inspect(
        &mut self,
        now: Instant,
        topic: &Topic,
        effects: &mut Effects,
    ) -> Result<TopicStats> {
        let at = self.topic(topic)?;
        let mut stats = TopicStats::default();
        let Some(topic) = self.topics.get(at as usize) else { return Ok(stats) };
        (stats.stored, stats.rejected) = (topic.used, topic.rejected);
        let mut oldest = None;
        for at in &topic.subscriptions {
            let Some(lanes) = self.subscriptions.get_mut(*at as usize) else { continue };
            lanes.reap(now);
            if lanes.ready() > 0 {
                effects.wake(&lanes.arrived);
            }
            stats.ready += lanes.ready();
            stats.leased += lanes.leases.items();
            stats.delayed += lanes.delayed();
            stats.blocked += lanes.blocked();
            oldest = [oldest, lanes.oldest()].into_iter().flatten().min();
        }
        stats.oldest = oldest.map(|published| now.saturating_duration_since(published));
        Ok(stats)
    }
}

#[cold]
fn undeclared(place: String) -> Error {
    Error::new(Kind::NotFound, "it is not declared").at(place)
}
