//! Every decision of the broker under one lock, and what of it the commit loop writes.
//!
//! A call is decided at once, by the same table as in memory, and answered when what it decided is on the disk. The
//! disk is always a prefix of what was decided, so nothing is ever taken back: if a commit fails, the broker is given up.

use super::{
    clock::Clock,
    loading::Around,
    pending::{NewRow, Reply},
    rows::{ABOUT, CLOCK, COUNTS, DECLARED, STATE, key, write_segment},
    shelf::Shelf,
};
use crate::base::{
    Error, Few, Kind, Name, Result,
    sync::Lock,
    time::{self, Instant},
};
use crate::disk::{Answered, Disk, Group, Reader, Waiting, Write, Writer};
use crate::queue::{
    Bound, Delivery, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    table::{Effects, Refused, Table, Waiter},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The format of the file.
pub(super) const FORMAT: u32 = 1;

/// What is being committed.
#[derive(Default)]
struct Flight {
    rows: Vec<NewRow>,
    state: Vec<Name>,
    replies: Vec<oneshot::Sender<Result>>,
}

pub(super) struct Parts {
    pub(super) table: Table,
    pub(super) shelf: Shelf,
    pub(super) declared: u32,
    flight: Flight,
}

pub(super) struct Books {
    pub(super) disk: Arc<Disk>,
    parts: Lock<Parts>,
    pub(super) incarnation: u32,
    clock: Clock,
}

/// What a lease found: deliveries, when to look again, and a commit to wait for before they are handed out.
pub(super) struct Found {
    pub(super) deliveries: Few<Delivery>,
    pub(super) due: Option<Instant>,
    pub(super) recorded: Option<Reply>,
}

impl Books {
    pub(super) fn new(disk: Arc<Disk>, table: Table, shelf: Shelf, declared: u32, incarnation: u32) -> Books {
        let clock = shelf.clock;
        Books {
            disk,
            parts: Lock::new(Parts { table, shelf, declared, flight: Flight::default() }),
            incarnation,
            clock,
        }
    }

    /// Decides under the lock, and does what follows from it outside.
    fn decide<T, E: From<Error>>(
        &self,
        decision: impl FnOnce(&mut Parts, Instant, &mut Effects) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut effects = Effects::default();
        let decided = {
            let mut parts = self.parts.lock();
            let sound = self.disk.check(); // under the lock: once the failure has been told, nobody joins any more
            sound.map_err(E::from).and_then(|()| decision(&mut parts, time::now(), &mut effects))
        };
        effects.perform();
        decided
    }

    pub(super) fn declare(&self, topic: &Topic, options: TopicOptions) -> Result<Option<Reply>> {
        self.decide(|parts, now, effects| {
            let record = declaration(topic, &options);
            if !parts.table.declare(now, topic, options, effects)? {
                return Ok(None);
            }
            let key = key(DECLARED, &[&parts.declared.to_be_bytes()]);
            parts.declared += 1;
            parts.shelf.pending.writes.push(Write { key, value: Some(record) });
            Ok(Some(parts.shelf.pending.wait()))
        })
    }

    pub(super) fn publish(&self, batches: &mut Few<Publish>) -> Result<(Receipt, Reply), Refused> {
        self.decide(|parts, now, effects| {
            let receipt = parts.table.publish(now, batches, effects)?;
            parts.write_down(now, &self.disk)?;
            Ok((receipt, parts.shelf.pending.wait())) // a duplicate waits for the first of it, too
        })
    }

    /// None where it needs no commit.
    pub(super) fn settle(&self, step: &mut Step) -> Result<Option<Reply>, Refused> {
        self.decide(|parts, now, effects| {
            let names: Vec<Name> = step.state.iter().map(|write| write.key.clone()).collect();
            for name in &names {
                if parts.table.state_at_hand(name).is_none() {
                    let state = read_state(&self.disk, name)?;
                    parts.table.recall_state(name.clone(), state);
                }
            }
            let settled = parts.table.settle(now, step, effects);
            let anything = !parts.table.is_journal_empty();
            parts.write_down(now, &self.disk)?;
            for name in &names {
                if !parts.shelf.is_state_pending(name) {
                    parts.table.let_go_of_state(name);
                }
            }
            settled?;
            Ok(anything.then(|| parts.shelf.pending.wait()))
        })
    }

    pub(super) fn lease(&self, subscription: &Subscription, want: &Want, waiter: &mut Option<Waiter>) -> Result<Found> {
        self.decide(|Parts { table, shelf, .. }, now, effects| {
            let at = table.subscription(subscription)?;
            let around = &mut Around { table, disk: &self.disk, effects };
            shelf.refill(now, at, want.items as usize, around).map_err(|error| self.unsound(error))?;
            let deliveries = table.lease(now, subscription, want, effects)?;
            shelf.started(&deliveries);
            if !deliveries.is_empty() {
                if shelf.has_more(now, at) {
                    table.wake(at, effects); // the next competitor
                }
                let recorded = shelf.is_wary().then(|| shelf.pending.wait());
                return Ok(Found { deliveries, due: None, recorded });
            }
            if !want.wait.is_zero() && waiter.is_none() {
                *waiter = table.waiter(subscription);
            }
            let due = [table.next_due(subscription), shelf.next_due(now, at)].into_iter().flatten().min();
            Ok(Found { deliveries, due, recorded: None })
        })
    }

    /// What the disk says cannot be true.
    fn unsound(&self, error: Error) -> Error {
        if error.kind() == Kind::Corrupt { self.disk.give_up(error) } else { error }
    }

    /// The state, or a commit to wait for and then the state.
    pub(super) fn load(&self, name: &Name) -> Result<((u64, Bytes), Option<Reply>)> {
        let pending = self.decide(|parts, _, _| {
            let at_hand = parts.table.state_at_hand(name).cloned();
            Ok::<_, Error>(at_hand.map(|state| (state, parts.shelf.pending.wait())))
        })?;
        match pending {
            Some((state, reply)) => Ok((state, Some(reply))),
            None => Ok((read_state(&self.disk, name)?, None)),
        }
    }

    pub(super) fn inspect(&self, topic: &Topic) -> Result<TopicStats> {
        self.decide(|Parts { table, shelf, .. }, now, effects| {
            let mut stats = table.inspect(now, topic, effects)?;
            let place = table.topic(topic)?;
            let subscriptions: Vec<u32> =
                table.subscriptions().filter(|(.., of)| *of == place).map(|(at, ..)| at).collect();
            let mut oldest = stats.oldest.and_then(|age| now.checked_sub(age));
            for at in subscriptions {
                let (delayed, blocked, since) = shelf.stats(now, at);
                stats.delayed += delayed;
                stats.blocked += blocked;
                oldest = [oldest, since].into_iter().flatten().min();
            }
            stats.ready = stats.stored.saturating_sub(stats.leased + stats.delayed + stats.blocked);
            stats.oldest = oldest.filter(|_| stats.ready > 0).map(|since| now.saturating_duration_since(since));
            Ok(stats)
        })
    }

    /// How many calls wait for a commit.
    pub(super) fn calls(&self) -> Waiting {
        self.waiting()
    }
}

impl Parts {
    fn write_down(&mut self, now: Instant, disk: &Disk) -> Result {
        let journal = self.table.journal();
        self.shelf.write_down(journal, now, disk)
    }
}

impl Group for Books {
    fn waiting(&self) -> Waiting {
        let parts = self.parts.lock();
        let pending = &parts.shelf.pending;
        Waiting { calls: pending.replies.len(), unsaid: !pending.starts.is_empty() }
    }

    fn collect(&self, last: bool) -> Vec<Write> {
        let mut parts = self.parts.lock();
        let Parts { table, shelf, flight, .. } = &mut *parts;
        let mut pending = std::mem::take(&mut shelf.pending);
        let mut writes = std::mem::take(&mut pending.writes);
        writes.append(&mut shelf.marks(&mut pending));
        for subscription in &pending.counted {
            if let Some((topic, stored, rejected)) = table.counts_of(*subscription) {
                let value = [stored.to_be_bytes(), rejected.to_be_bytes()].concat();
                writes.push(Write { key: key(COUNTS, &[&topic.to_be_bytes()]), value: Some(value) });
            }
        }
        let now = self.clock.micros(time::now());
        writes.push(Write { key: key(CLOCK, &[]), value: Some(now.to_be_bytes().to_vec()) });
        if last {
            writes.push(about(self.incarnation, true));
        }
        flight.state.append(&mut pending.state);
        flight.replies.append(&mut pending.replies);
        let rows = pending.take_rows();
        drop(parts);
        for row in &rows {
            match write_segment(row.head, &row.chunks, &self.clock) {
                Ok(value) => writes.push(Write { key: row.row.key(), value: Some(value) }),
                Err(error) => drop(self.disk.give_up(error)), // it was made of bytes: they must be there
            }
        }
        self.parts.lock().flight.rows = rows;
        writes
    }

    fn committed(&self, outcome: Result) -> Answered {
        let mut effects = Effects::default();
        let (replies, answered) = {
            let mut parts = self.parts.lock();
            let Parts { table, shelf, flight, .. } = &mut *parts;
            let Flight { rows, state, mut replies } = std::mem::take(flight);
            match outcome {
                Ok(()) => {
                    shelf.committed(&rows, time::now(), table, &mut effects);
                    shelf.states_committed(&state, table);
                }
                Err(_) => {
                    replies.append(&mut shelf.pending.replies);
                    table.wake_all(&mut effects);
                }
            }
            let answered = Answered { calls: replies.len(), meanwhile: shelf.pending.replies.len() };
            (replies, answered)
        };
        effects.perform();
        for reply in replies {
            let _ = reply.send(outcome.clone()); // whoever was dropped does not ask
        }
        answered
    }
}

/// What the file says of itself.
pub(super) fn about(incarnation: u32, clean: bool) -> Write {
    let mut to = Writer::default();
    to.u32(FORMAT);
    to.u32(incarnation);
    to.u8(clean.into());
    Write { key: key(ABOUT, &[]), value: Some(to.0) }
}

fn read_state(disk: &Disk, name: &Name) -> Result<(u64, Bytes)> {
    let Some(value) = disk.get(&key(STATE, &[name.as_str().as_bytes()]))? else { return Ok((0, Bytes::new())) };
    let version = Reader::new(&value).u64()?;
    Ok((version, Bytes::from(value).slice(8..)))
}

fn declaration(topic: &Topic, options: &TopicOptions) -> Vec<u8> {
    let mut to = Writer::default();
    to.text(topic.as_str());
    to.u64(options.capacity as u64);
    to.u8((options.bound == Bound::Refuse).into());
    to.u8(options.dead_letters.is_some().into());
    to.text(options.dead_letters.as_ref().map_or("", |dead| dead.as_str()));
    to.u8(options.dedup.is_some().into());
    let window = options.dedup.unwrap_or_default();
    to.u64(window.as_secs());
    to.u32(window.subsec_nanos());
    options.subscriptions.iter().for_each(|name| to.text(name.as_str()));
    to.0
}

pub(super) fn read_declaration(value: &[u8]) -> Result<(Topic, TopicOptions)> {
    let mut from = Reader::new(value);
    let topic = Topic::new(from.text()?);
    let mut options = TopicOptions::new().capacity(from.u64()? as usize);
    options.bound = if from.u8()? == 1 { Bound::Refuse } else { Bound::Wait };
    let (has_dead, dead) = (from.u8()? == 1, from.text()?);
    options.dead_letters = has_dead.then(|| Topic::new(dead));
    let has_window = from.u8()? == 1;
    let window = std::time::Duration::new(from.u64()?, from.u32()?.min(999_999_999));
    options.dedup = has_window.then_some(window);
    while from.left() > 0 {
        options.subscriptions.push(Name::from(from.text()?));
    }
    Ok((topic, options))
}
