//! What is on the disk, and what of it is in the table: segments in work, what the next commit writes.
//!
//! Nothing is kept in memory for a message that is only stored. What is about to be leased is loaded, segment by segment.

use super::{
    clock::Clock,
    pending::{NewRow, Pending},
    rows::{Head, Row, SEEN, STATE, key, place},
    segment::Segment,
    side::Side,
};
use crate::base::{Name, Result, hash::Map, time::Instant};
use crate::disk::{Disk, Reader, Write, Writer};
use crate::queue::{
    Delivery, Id,
    table::{Effects, Journal, Stored, Table},
};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After an unclean end, so many items are settled before starts ride the next commit again: more than can have been
/// handed out in the moment in which a start may go unrecorded.
const TRIAL: usize = 1024;

pub(super) struct Shelf {
    pub(super) sides: Vec<Side>,
    pub(super) segments: Slab<Segment>,
    /// Segments in work that are not loaded: marks that were found at opening.
    pub(super) marks: BTreeMap<Row, Segment>,
    pub(super) pending: Pending,
    /// Keys of the ids that each topic remembers, the oldest first.
    pub(super) seen: Vec<VecDeque<(u64, u64)>>,
    /// States that were written and are not on the disk yet, and how often.
    states: Map<Name, u32>,
    number: u64,
    at: u64,
    /// All rows up to this number are on the disk.
    pub(super) committed: u64,
    clean: bool,
    suspects: usize,
    trial: usize,
    pub(super) clock: Clock,
}

impl Shelf {
    /// Nothing yet, numbered from here on.
    pub(super) fn new(clock: Clock, first: u64, clean: bool) -> Shelf {
        Shelf {
            sides: Vec::new(),
            segments: Slab::new(),
            marks: BTreeMap::new(),
            pending: Pending::default(),
            seen: Vec::new(),
            states: Map::default(),
            number: first,
            at: 0,
            committed: first,
            clean,
            suspects: 0,
            trial: if clean { 0 } else { TRIAL },
            clock,
        }
    }

    /// Whether starts are on the disk before anything is handed out.
    pub(super) fn is_wary(&self) -> bool {
        self.suspects > 0 || self.trial > 0
    }

    /// A segment that was in work when the broker was last open: what was handed out of it is charged, which is to be
    /// written.
    pub(super) fn recall(&mut self, mut segment: Segment) -> Option<Write> {
        let charged = segment.charge(self.clean);
        if !self.clean {
            self.suspects += charged as usize;
        }
        let mark = (charged > 0).then(|| Write { key: segment.row.mark(), value: Some(segment.write_mark()) });
        self.marks.insert(segment.row, segment);
        mark
    }

    pub(super) fn side(&mut self, subscription: u32) -> &mut Side {
        let at = subscription as usize;
        if self.sides.len() <= at {
            self.sides.resize_with(at + 1, Side::default);
        }
        #[expect(clippy::indexing_slicing, reason = "it was just made long enough")]
        &mut self.sides[at]
    }

    /// Notes all that the table has decided, for the next commit.
    pub(super) fn write_down(&mut self, journal: Journal, now: Instant, disk: &Disk) -> Result {
        let micros = self.clock.micros(now);
        let mut changed = BTreeSet::new();
        for (origin, range) in &journal.settled {
            let (slot, items) = place(*origin, range);
            let Some(segment) = self.segments.get_mut(slot) else { continue };
            self.trial = self.trial.saturating_sub(items.len());
            self.suspects = self.suspects.saturating_sub(segment.finish(items) as usize);
            self.pending.counted.insert(segment.row.subscription());
            changed.insert(slot);
        }
        for returned in journal.returned {
            let (slot, items) = place(returned.origin, &returned.range);
            let due = returned.due.map_or(0, |due| self.clock.not_before(due));
            if let Some(segment) = self.segments.get_mut(slot) {
                segment.give_back(items, returned.attempts, due);
            }
        }
        for stored in journal.stored {
            self.store(stored, micros);
        }
        for (subscription, origin) in journal.free {
            let slot = (origin >> 32) as usize;
            if let Some(Row::Chain { key, number, .. }) = self.segments.get(slot).map(|segment| segment.row) {
                self.next_of_key(subscription, key, number, micros, disk)?;
            }
        }
        for slot in changed {
            if self.segments.get(slot).is_some_and(|segment| segment.left() == 0) {
                let segment = self.segments.remove(slot);
                self.pending.gone.push((segment.row, segment.marked));
                self.pending.forget(slot);
            } else {
                self.pending.marks.insert(slot);
            }
        }
        for (topic, id, forgotten) in journal.seen {
            self.saw(topic, id, forgotten, micros);
        }
        for (name, value) in journal.state {
            let value = value.map(|(version, value)| {
                let mut to = Writer::with_capacity(8 + value.len());
                to.u64(version);
                to.raw(&value);
                to.0
            });
            *self.states.entry(name.clone()).or_default() += 1;
            self.pending.writes.push(Write { key: key(STATE, &[name.as_str().as_bytes()]), value });
            self.pending.state.push(name);
        }
        Ok(())
    }

    fn store(&mut self, stored: Stored, now: u64) {
        let Stored { subscription, chunk, due } = stored;
        self.at = self.at.max(now);
        let at = due.map_or(self.at, |due| self.clock.not_before(due).max(self.at));
        let priority = chunk.batch.priority;
        self.pending.counted.insert(subscription);
        self.number += 1;
        let number = self.number;
        match &chunk.batch.key {
            Some(name) => {
                let key = name.hash64();
                let side = self.side(subscription);
                let chain = side.chains.entry(key).or_default();
                chain.rows += 1;
                let behind = chain.rows > 1;
                if behind {
                    side.blocked += chunk.len() as usize;
                } else {
                    side.coming.insert((u8::MAX - priority, at, number));
                }
                let mut row = NewRow::new(Row::Chain { subscription, key, number }, priority, at, behind);
                row.push(chunk);
                self.pending.push(row);
            }
            None => {
                let lane = u8::MAX - priority;
                let new = || NewRow::new(Row::Lane { subscription, lane, at, number }, priority, at, false);
                if self.pending.append((subscription, lane, due.map_or(0, |_| at)), chunk, new) {
                    self.side(subscription).coming.insert((lane, at, number));
                }
            }
        }
    }

    fn saw(&mut self, topic: u32, id: Option<Id>, forgotten: usize, now: u64) {
        if self.seen.len() <= topic as usize {
            self.seen.resize_with(topic as usize + 1, VecDeque::new);
        }
        let Some(seen) = self.seen.get_mut(topic as usize) else { return };
        let under =
            |(at, number): (u64, u64)| key(SEEN, &[&topic.to_be_bytes(), &at.to_be_bytes(), &number.to_be_bytes()]);
        let count = forgotten.min(seen.len());
        self.pending.writes.extend(seen.drain(..count).map(|old| Write { key: under(old), value: None }));
        if let Some(id) = id {
            self.number += 1;
            seen.push_back((now, self.number));
            let value = Some(id.as_u128().to_be_bytes().to_vec());
            self.pending.writes.push(Write { key: under((now, self.number)), value });
        }
    }

    /// New rows are on the disk: who waits for them may look.
    pub(super) fn committed(&mut self, rows: &[NewRow], now: Instant, table: &Table, effects: &mut Effects) {
        let now = self.clock.micros(now);
        for new in rows {
            let (number, subscription) = (new.row.number(), new.row.subscription());
            self.committed = self.committed.max(number);
            let side = self.side(subscription);
            side.coming.remove(&(new.head.lane(), new.head.at, number));
            match new.row {
                Row::Lane { lane, at, .. } => {
                    let lane = side.lanes.entry(lane).or_default();
                    lane.next = Some(lane.next.map_or(at, |next| next.min(at)));
                }
                Row::Chain { key, .. } => {
                    let Some(chain) = side.chains.get_mut(&key) else { continue };
                    if chain.head.is_some() || number <= chain.done {
                        continue;
                    }
                    chain.head = Some(number);
                    side.heads.insert((new.head.lane(), new.head.at, number, key));
                    if new.behind {
                        side.blocked -= new.head.items as usize;
                    }
                }
            }
            side.delay(now, &new.head, number);
            (0..new.chunks.len()).for_each(|_| table.wake(subscription, effects));
        }
    }

    /// These states are on the disk.
    pub(super) fn states_committed(&mut self, names: &[Name], table: &mut Table) {
        for name in names {
            if let Some(count) = self.states.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.states.remove(name);
                    table.let_go_of_state(name);
                }
            }
        }
    }

    /// Whether this state was written and is not on the disk yet.
    pub(super) fn is_state_pending(&self, name: &Name) -> bool {
        self.states.contains_key(name)
    }

    /// The message of this key with this number is done: the next one's turn comes.
    fn next_of_key(&mut self, subscription: u32, key: u64, number: u64, now: u64, disk: &Disk) -> Result {
        let committed = self.committed;
        let side = self.side(subscription);
        let Some(chain) = side.chains.get_mut(&key) else { return Ok(()) };
        chain.rows = chain.rows.saturating_sub(1);
        (chain.head, chain.done) = (None, number);
        if chain.rows == 0 {
            side.chains.remove(&key);
            return Ok(());
        }
        let row = |number| Row::Chain { subscription, key, number }.key();
        let mut next = None;
        disk.scan(&row(number + 1), &row(u64::MAX), |key, body| {
            next = Some((Row::read(key)?.number(), Head::read(&mut Reader::new(body))?));
            Ok(false)
        })?;
        if let Some((number, head)) = next.filter(|(number, _)| *number <= committed) {
            chain.head = Some(number);
            side.heads.insert((head.lane(), head.at, number, key));
            side.blocked = side.blocked.saturating_sub(head.items as usize);
            side.delay(now, &head, number);
        }
        Ok(())
    }

    /// These are handed out: it rides the next commit.
    pub(super) fn started(&mut self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            let (slot, items) = place(delivery.batch.origin, &delivery.range);
            if let Some(segment) = self.segments.get_mut(slot) {
                segment.start(items, delivery.attempts);
                self.pending.starts.insert(slot);
            }
        }
    }

    /// Whether more is due on the disk.
    pub(super) fn has_more(&mut self, now: Instant, subscription: u32) -> bool {
        let now = self.clock.micros(now);
        self.side(subscription).due(now, 0).is_some()
    }

    /// When something on the disk will be due.
    pub(super) fn next_due(&mut self, now: Instant, subscription: u32) -> Option<Instant> {
        let micros = self.clock.micros(now);
        let due = self.side(subscription).next_due(micros)?;
        Some(self.clock.moment(due))
    }

    /// What is on the disk and not in the table: delayed items, items behind their key, since when the oldest is due.
    pub(super) fn stats(&mut self, now: Instant, subscription: u32) -> (usize, usize, Option<Instant>) {
        let micros = self.clock.micros(now);
        let clock = self.clock;
        let side = self.side(subscription);
        side.pass(micros);
        (side.delayed_items, side.blocked, side.oldest(micros).map(|at| clock.moment(at)))
    }

    /// What the marks of segments in work say, and the removal of those that are done.
    pub(super) fn marks(&mut self, pending: &mut Pending) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut slots = std::mem::take(&mut pending.marks);
        slots.append(&mut pending.starts);
        for slot in slots {
            if let Some(segment) = self.segments.get_mut(slot) {
                segment.marked = true;
                writes.push(Write { key: segment.row.mark(), value: Some(segment.write_mark()) });
            }
        }
        for (row, marked) in pending.gone.drain(..) {
            writes.push(Write { key: row.key(), value: None });
            if marked {
                writes.push(Write { key: row.mark(), value: None });
            }
        }
        writes
    }
}
