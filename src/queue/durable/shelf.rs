//! What is on the disk, and what of it is in the table: cursors, segments in work, keys that are in line.
//!
//! Nothing is kept in memory for a message that is only stored. What is about to be leased is loaded, segment by segment.

use super::{
    clock::Clock,
    pending::{NewRow, Pending},
    rows::{Head, Row, SEEN, STATE, key, place, read_segment},
    segment::Segment,
};
use crate::base::{Name, Result, hash::Map, time::Instant};
use crate::disk::{Disk, Reader, Write, Writer};
use crate::queue::{
    Delivery, Id,
    table::{Chunk, Effects, Journal, Load, Stored, Table},
};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// After an unclean end, so many items are settled before starts ride the next commit again: more than can have been
/// handed out in the moment in which a start may go unrecorded.
const TRIAL: usize = 1024;

/// Segments of one subscription and priority.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    /// All up to this time and number has been loaded.
    read: (u64, u64),
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
    done: u64,
}

/// A chained message whose turn it is: lane, time, number, key.
type Waits = (u8, u64, u64, u64);

/// What is on the disk for one subscription.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) lanes: BTreeMap<u8, Lane>,
    pub(super) chains: Map<u64, Chain>,
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

    /// Whose time has come is not delayed any more.
    pub(super) fn pass(&mut self, now: u64) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            self.delayed_items -= first.remove() as usize;
        }
    }

    /// The lane whose turn it is, if anything in it is due and not loaded; the highest priority first.
    fn due(&self, now: u64, from: u8) -> Option<u8> {
        let lane = self.lanes.range(from..).find(|(_, lane)| lane.next.is_some_and(|next| next <= now));
        let head = self.lanes_of_heads(from).find(|lane| self.first_head(*lane, 0).is_some_and(|at| at <= now));
        lane.map(|(lane, _)| *lane).into_iter().chain(head).min()
    }

    /// When something will be due.
    fn next_due(&self, now: u64) -> Option<u64> {
        let lanes = self.lanes.values().filter_map(|lane| lane.next).filter(|at| *at > now);
        lanes.chain(self.lanes_of_heads(0).filter_map(|lane| self.first_head(lane, now.checked_add(1)?))).min()
    }

    /// Since when the oldest that is due and not loaded is there.
    fn oldest(&self, now: u64) -> Option<u64> {
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

pub(super) struct Shelf {
    pub(super) sides: Vec<Side>,
    segments: Slab<Segment>,
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
    committed: u64,
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

    /// A segment that was in work when the broker was opened.
    pub(super) fn recall(&mut self, segment: Segment) {
        self.suspects += segment.unsettled() as usize;
        self.marks.insert(segment.row, segment);
    }

    fn side(&mut self, subscription: u32) -> &mut Side {
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
                }
                let mut row = NewRow::new(Row::Chain { subscription, key, number }, priority, at, behind);
                row.push(chunk);
                self.pending.push(row);
            }
            None => {
                let lane = u8::MAX - priority;
                let new = || NewRow::new(Row::Lane { subscription, lane, at, number }, priority, at, false);
                self.pending.append((subscription, lane, due.map_or(0, |_| at)), chunk, new);
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

    /// Loads what is due, the highest priority first, until the table has this many items that would be leased before
    /// all that is left on the disk.
    pub(super) fn refill(
        &mut self,
        now: Instant,
        subscription: u32,
        items: usize,
        table: &mut Table,
        disk: &Disk,
        effects: &mut Effects,
    ) -> Result {
        let micros = self.clock.micros(now);
        self.side(subscription).pass(micros);
        let mut from = 0;
        while let Some(lane) = self.side(subscription).due(micros, from) {
            let ready = table.ready_from(now, subscription, u8::MAX - lane);
            if ready >= items {
                return Ok(());
            }
            if !self.load_lane(micros, subscription, lane, items - ready, table, disk, effects)? {
                // what is left there is on the disk, and not yet said to be
                let Some(lower) = lane.checked_add(1) else { return Ok(()) };
                from = lower;
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one broker, borrowed one by one")]
    fn load_lane(
        &mut self,
        now: u64,
        subscription: u32,
        lane: u8,
        items: usize,
        table: &mut Table,
        disk: &Disk,
        effects: &mut Effects,
    ) -> Result<bool> {
        let committed = self.committed;
        let marks = std::mem::take(&mut self.marks);
        let mut found = Vec::new();
        let read =
            self.side(subscription).lanes.get(&lane).copied().filter(|lane| lane.next.is_some_and(|next| next <= now));
        if let Some(Lane { read, .. }) = read {
            let row = |at, number| Row::Lane { subscription, lane, at, number }.key();
            let (mut count, mut next) = (0, None);
            let scanned = disk.scan(&row(read.0, read.1.saturating_add(1)), &row(u64::MAX, u64::MAX), |key, body| {
                let row = Row::read(key)?;
                let Row::Lane { at, number, .. } = row else { return Ok(false) };
                if count >= items || at > now || number > committed {
                    next = Some(at);
                    return Ok(false);
                }
                count += match marks.get(&row) {
                    Some(segment) => segment.left() as usize,
                    None => Head::read(&mut Reader::new(body))?.items as usize,
                };
                found.push((at, number, row, body.to_vec()));
                Ok(true)
            });
            self.marks = marks;
            scanned?;
            if let Some(lane) = self.side(subscription).lanes.get_mut(&lane) {
                lane.next = next;
                lane.read = found.last().map_or(lane.read, |(at, number, ..)| (*at, *number));
            }
        } else {
            self.marks = marks;
        }
        // keys come in where they belong by time; where segments are left, only those that belong before them
        let side = self.side(subscription);
        let left = side.lanes.get(&lane).copied().filter(|lane| lane.next.is_some_and(|next| next <= now));
        let until = left.map_or((now, u64::MAX), |lane| lane.read);
        let before = |head: &&Waits| (head.1, head.2) <= until;
        let heads = side.heads.range((lane, 0, 0, 0)..=(lane, now, u64::MAX, u64::MAX)).take_while(before);
        let heads: Vec<Waits> = heads.take(items).copied().collect();
        let any = !(heads.is_empty() && found.is_empty());
        let mut heads = heads.into_iter().peekable();
        let mut loaded = 0;
        for (at, number, row, body) in found {
            while let Some(head) = heads.next_if(|head| (head.1, head.2) < (at, number)) {
                loaded += self.load_head(subscription, head, Load::Behind, table, disk, effects)?;
            }
            loaded += self.load(row, &body, Load::Behind, table, effects)?;
        }
        for head in heads {
            if loaded >= items {
                break;
            }
            let late = self.side(subscription).lanes.get(&lane).is_some_and(|lane| (head.1, head.2) < lane.read);
            let end = if late { Load::Before } else { Load::Behind };
            loaded += self.load_head(subscription, head, end, table, disk, effects)?;
        }
        Ok(any)
    }

    fn load_head(
        &mut self,
        subscription: u32,
        head: Waits,
        end: Load,
        table: &mut Table,
        disk: &Disk,
        effects: &mut Effects,
    ) -> Result<usize> {
        self.side(subscription).heads.remove(&head);
        let (.., number, key) = head;
        let row = Row::Chain { subscription, key, number };
        match disk.get(&row.key())? {
            Some(body) => self.load(row, &body, end, table, effects).map(|items| items.min(1)), // see `ready_from`
            None => Err(disk.give_up(super::rows::corrupt("a message that stood in line for its key is missing"))),
        }
    }

    /// Brings one segment into the table; how many of its items.
    fn load(&mut self, row: Row, body: &[u8], end: Load, table: &mut Table, effects: &mut Effects) -> Result<usize> {
        let entry = self.segments.vacant_entry();
        let (head, chunks) = read_segment(body, entry.key() as u32, &self.clock)?;
        let segment = match self.marks.remove(&row) {
            Some(mut segment) if segment.has(head.items) => {
                segment.charge(self.clean);
                segment
            }
            Some(_) => return Err(super::rows::corrupt("a mark is of another segment")),
            None => {
                let mut segment = Segment::new(row, head.items);
                for (base, chunk) in &chunks {
                    segment.recall(*base..base.saturating_add(chunk.len()), chunk.attempts);
                }
                segment
            }
        };
        let mut loaded = 0;
        for (base, chunk) in chunks {
            for run in segment.runs(base..base.saturating_add(chunk.len())) {
                let first = chunk.range.start + (run.items.start - base);
                let range = first..first + run.items.len() as u32;
                loaded += range.len();
                let due = (run.due > 0).then(|| self.clock.moment(run.due));
                let part = Chunk { batch: chunk.batch.clone(), range, attempts: run.attempts };
                table.load_chunk(row.subscription(), part, due, end, effects);
            }
        }
        entry.insert(segment);
        Ok(loaded)
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
