//! What became of the items of one segment: done, started, tried before. A mark on the disk says it while it is in work.

use super::rows::{Row, corrupt, read_attempts, write_attempts};
use crate::base::Result;
use crate::disk::{Reader, Writer};
use crate::queue::Attempts;
use smallvec::{SmallVec, smallvec};
use std::ops::Range;

/// One bit per item.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits(SmallVec<[u64; 4]>);

impl Bits {
    fn new(items: u32) -> Bits {
        Bits(smallvec![0; items.div_ceil(64) as usize])
    }

    fn get(&self, item: u32) -> bool {
        self.0.get(item as usize / 64).is_some_and(|word| word >> (item % 64) & 1 == 1)
    }

    /// Sets them so; how many were otherwise.
    fn set(&mut self, items: Range<u32>, to: bool) -> u32 {
        let mut changed = 0;
        for item in items {
            if let Some(word) = self.0.get_mut(item as usize / 64) {
                let (bit, before) = (1 << (item % 64), *word);
                *word = if to { before | bit } else { before & !bit };
                changed += u32::from(*word != before);
            }
        }
        changed
    }
}

/// The history of some items, and when they are due again; 0: at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) items: Range<u32>,
    pub(super) attempts: Attempts,
    pub(super) due: u64,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) row: Row,
    items: u32,
    left: u32,
    done: Bits,
    /// Handed out, and neither settled nor given back.
    started: Bits,
    /// Started before the broker was opened: one of them may have ended it.
    suspects: Bits,
    past: Vec<Past>,
    /// There is a mark on the disk.
    pub(super) marked: bool,
}

impl Segment {
    pub(super) fn new(row: Row, items: u32) -> Segment {
        let bits = Bits::new(items);
        let (done, started, suspects) = (bits.clone(), bits.clone(), bits);
        Segment { row, items, left: items, done, started, suspects, past: Vec::new(), marked: false }
    }

    /// How many items are not done.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Notes the history of items, as their record has it.
    pub(super) fn recall(&mut self, items: Range<u32>, attempts: Attempts) {
        if attempts != Attempts::default() {
            self.past.push(Past { items, attempts, due: 0 });
        }
    }

    /// They are handed out with this history.
    pub(super) fn start(&mut self, items: Range<u32>, attempts: Attempts) {
        if self.past(items.start) != (attempts, 0) {
            self.remember(items.clone(), attempts, 0);
        }
        self.started.set(items, true);
    }

    /// They are done; how many of them were suspects.
    pub(super) fn finish(&mut self, items: Range<u32>) -> u32 {
        self.left -= self.done.set(items.clone(), true);
        self.started.set(items.clone(), false);
        self.suspects.set(items, false)
    }

    /// They are given back after all, with this history.
    pub(super) fn give_back(&mut self, items: Range<u32>, attempts: Attempts, due: u64) {
        self.left += self.done.set(items.clone(), false);
        self.remember(items, attempts, due);
    }

    /// What was started and never settled is charged, since whoever held it is gone; how many items.
    pub(super) fn charge(&mut self, clean: bool) -> u32 {
        let mut charged = 0;
        for item in 0..self.items {
            if self.started.get(item) && !self.done.get(item) {
                let (mut attempts, _) = self.past(item);
                let count = if clean { &mut attempts.lapses } else { &mut attempts.crashes };
                *count = count.saturating_add(1);
                self.remember(item..item + 1, attempts, 0);
                self.suspects.set(item..item + 1, true);
                charged += 1;
            }
        }
        self.started = Bits::new(self.items);
        charged
    }

    /// Those of the items that are not done, in runs of one history.
    pub(super) fn runs(&self, items: Range<u32>) -> Vec<Past> {
        if self.past.is_empty() && self.left == self.items {
            return vec![Past { items, attempts: Attempts::default(), due: 0 }];
        }
        let mut runs: Vec<Past> = Vec::new();
        for item in items.filter(|item| !self.done.get(*item)) {
            let (attempts, due) = self.past(item);
            match runs.last_mut() {
                Some(run) if run.items.end == item && (run.attempts, run.due) == (attempts, due) => run.items.end += 1,
                _ => runs.push(Past { items: item..item + 1, attempts, due }),
            }
        }
        runs
    }

    fn past(&self, item: u32) -> (Attempts, u64) {
        let found = self.past.iter().find(|past| past.items.contains(&item));
        found.map_or_else(Default::default, |past| (past.attempts, past.due))
    }

    fn remember(&mut self, items: Range<u32>, attempts: Attempts, due: u64) {
        let mut after = Vec::new();
        self.past.retain_mut(|past| {
            let old = past.items.clone();
            if old.start < items.end && items.start < old.end {
                if old.end > items.end {
                    after.push(Past { items: items.end..old.end, ..past.clone() });
                }
                past.items.end = old.end.min(items.start);
            }
            !past.items.is_empty()
        });
        self.past.append(&mut after);
        self.past.push(Past { items, attempts, due });
    }

    pub(super) fn write_mark(&self) -> Vec<u8> {
        let mut to = Writer::with_capacity(32 + 16 * self.done.0.len() + 22 * self.past.len());
        to.u32(self.items);
        self.done.0.iter().chain(&self.started.0).for_each(|word| to.u64(*word));
        for past in &self.past {
            to.u32(past.items.start);
            to.u32(past.items.end);
            write_attempts(&mut to, past.attempts);
            to.u64(past.due);
        }
        to.0
    }

    pub(super) fn read_mark(row: Row, body: &[u8]) -> Result<Segment> {
        let mut from = Reader::new(body);
        let items = from.u32()?;
        if from.left() < 2 * 8 * items.div_ceil(64) as usize {
            return Err(corrupt("a mark is cut short"));
        }
        let mut segment = Segment::new(row, items);
        for word in segment.done.0.iter_mut().chain(&mut segment.started.0) {
            *word = from.u64()?;
        }
        while from.left() > 0 {
            let items = from.u32()?..from.u32()?;
            segment.past.push(Past { items, attempts: read_attempts(&mut from)?, due: from.u64()? });
        }
        let done = segment.done.0.iter().map(|word| word.count_ones()).sum::<u32>();
        segment.left = items.checked_sub(done).ok_or_else(|| corrupt("a mark has more done than there is"))?;
        segment.marked = true;
        Ok(segment)
    }

    /// Whether this is the mark of a segment of so many items.
    pub(super) fn has(&self, items: u32) -> bool {
        self.items == items
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    const ROW: Row = Row::Chain { subscription: 0, key: 1, number: 2 };

    #[test]
    fn random_histories_as_a_list_has_them_and_through_the_mark() {
        for seed in 0..200 {
            let mut rng = Seed::new(seed).rng();
            let items = 1 + rng.below(200) as u32;
            let mut segment = Segment::new(ROW, items);
            let mut model = vec![(false, Attempts::default(), 0_u64, false); items as usize];
            for _ in 0..50 {
                let from = rng.below(items.into()) as u32;
                let range = from..from + 1 + rng.below(u64::from(items - from)) as u32;
                let attempts = Attempts::new(rng.below(3) as u16, 0, rng.below(2) as u16);
                let due = rng.below(2) * 7;
                let part = &mut model[range.start as usize..range.end as usize];
                match rng.below(3) {
                    0 => {
                        // a lease holds items of one history
                        segment.give_back(range.clone(), attempts, 0);
                        segment.start(range, attempts);
                        part.iter_mut().for_each(|item| *item = (false, attempts, 0, true));
                    }
                    1 => {
                        segment.finish(range.clone());
                        part.iter_mut().for_each(|item| (item.0, item.3) = (true, false));
                    }
                    _ => {
                        segment.finish(range.clone());
                        segment.give_back(range, attempts, due);
                        part.iter_mut().for_each(|item| *item = (false, attempts, due, false));
                    }
                }
            }
            let mut again = Segment::read_mark(ROW, &segment.write_mark()).unwrap();
            for segment in [&segment, &again] {
                assert_eq!(segment.left() as usize, model.iter().filter(|item| !item.0).count());
                let flat = segment
                    .runs(0..items)
                    .into_iter()
                    .flat_map(|run| run.items.clone().map(move |item| (item as usize, run.attempts, run.due)));
                let expected = (0..).zip(&model).filter(|(_, item)| !item.0).map(|(at, item)| (at, item.1, item.2));
                assert!(flat.eq(expected), "seed {seed}");
            }
            let unsettled = model.iter().filter(|item| item.3).count() as u32;
            assert_eq!(again.charge(false), unsettled);
            for run in again.runs(0..items) {
                for item in run.items {
                    let (_, before, _, started) = model[item as usize];
                    assert_eq!(run.attempts.crashes, before.crashes + u16::from(started), "seed {seed}, item {item}");
                }
            }
        }
    }
}
