//! What is about to be leased comes from the disk into the table, in the order of delivery.

use super::{
    rows::{Head, Row, corrupt, read_segment},
    segment::Segment,
    shelf::Shelf,
    side::{Lane, Waits},
};
use crate::base::{Result, time::Instant};
use crate::disk::{Disk, Reader};
use crate::queue::table::{Chunk, Effects, Load, Table};

/// What a load needs beside the shelf.
pub(super) struct Around<'a> {
    pub(super) table: &'a mut Table,
    pub(super) disk: &'a Disk,
    pub(super) effects: &'a mut Effects,
}

impl Shelf {
    /// Loads what is due, the highest priority first, until the table has this many items that would be leased before
    /// all that is left on the disk.
    pub(super) fn refill(&mut self, now: Instant, subscription: u32, items: usize, around: &mut Around<'_>) -> Result {
        let micros = self.clock.micros(now);
        self.side(subscription).pass(micros);
        let mut from = 0;
        while let Some(lane) = self.side(subscription).due(micros, from) {
            let ready = around.table.ready_from(now, subscription, u8::MAX - lane);
            if ready >= items {
                return Ok(());
            }
            if !self.load_lane(micros, subscription, lane, items - ready, around)? {
                // what is left there is on the disk, and not yet said to be
                let Some(lower) = lane.checked_add(1) else { return Ok(()) };
                from = lower;
            }
        }
        Ok(())
    }

    fn load_lane(
        &mut self,
        now: u64,
        subscription: u32,
        lane: u8,
        items: usize,
        around: &mut Around<'_>,
    ) -> Result<bool> {
        let committed = self.committed;
        let complete = self.side(subscription).complete(lane, now);
        let marks = std::mem::take(&mut self.marks);
        let mut found = Vec::new();
        let read =
            self.side(subscription).lanes.get(&lane).copied().filter(|lane| lane.next.is_some_and(|next| next <= now));
        if let Some(Lane { read, .. }) = read {
            let row = |at, number| Row::Lane { subscription, lane, at, number }.key();
            let (mut count, mut next) = (0, None);
            let scanned =
                around.disk.scan(&row(read.0, read.1.saturating_add(1)), &row(u64::MAX, u64::MAX), |key, body| {
                    let row = Row::read(key)?;
                    let Row::Lane { at, number, .. } = row else { return Ok(false) };
                    if count >= items || (at, number) > complete || number > committed {
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
        let until = left.map_or(complete, |lane| lane.read.min(complete));
        let before = |head: &&Waits| (head.1, head.2) <= until;
        let heads = side.heads.range((lane, 0, 0, 0)..=(lane, now, u64::MAX, u64::MAX)).take_while(before);
        let heads: Vec<Waits> = heads.take(items).copied().collect();
        let any = !(heads.is_empty() && found.is_empty());
        let mut heads = heads.into_iter().peekable();
        let mut loaded = 0;
        for (at, number, row, body) in found {
            while let Some(head) = heads.next_if(|head| (head.1, head.2) < (at, number)) {
                loaded += self.load_head(subscription, head, Load::Behind, around)?;
            }
            loaded += self.load(row, &body, Load::Behind, around)?;
        }
        for head in heads {
            if loaded >= items {
                break;
            }
            let late = self.side(subscription).lanes.get(&lane).is_some_and(|lane| (head.1, head.2) < lane.read);
            let end = if late { Load::Before } else { Load::Behind };
            loaded += self.load_head(subscription, head, end, around)?;
        }
        Ok(any)
    }

    fn load_head(&mut self, subscription: u32, head: Waits, end: Load, around: &mut Around<'_>) -> Result<usize> {
        self.side(subscription).heads.remove(&head);
        let (.., number, key) = head;
        let row = Row::Chain { subscription, key, number };
        match around.disk.get(&row.key())? {
            Some(body) => self.load(row, &body, end, around).map(|items| items.min(1)), // see `ready_from`
            None => Err(around.disk.give_up(corrupt("a message that stood in line for its key is missing"))),
        }
    }

    /// Brings one segment into the table; how many of its items.
    fn load(&mut self, row: Row, body: &[u8], end: Load, around: &mut Around<'_>) -> Result<usize> {
        let entry = self.segments.vacant_entry();
        let (head, chunks) = read_segment(body, entry.key() as u32, &self.clock)?;
        let segment = match self.marks.remove(&row) {
            Some(segment) if segment.has(head.items) => segment,
            Some(_) => return Err(corrupt("a mark is of another segment")),
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
                around.table.load_chunk(row.subscription(), part, due, end, around.effects);
            }
        }
        entry.insert(segment);
        Ok(loaded)
    }
}
