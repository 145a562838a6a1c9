//! The latest changes of one watched prefix, and how far each of its watchers has read.

use super::Change;
use std::{collections::VecDeque, task::Waker};

/// How many changes a watcher is given at once, at least where there are so many; whole commits may make it more.
const BATCH: usize = 256;

pub(super) struct Ring<V> {
    changes: VecDeque<Change<V>>,
    /// The position of the first change; positions count all changes that ever came.
    base: u64,
    /// All changes after this revision are here.
    floor: u64,
    capacity: usize,
    seats: Vec<Option<Seat>>,
    free: Vec<usize>,
    /// Seats with a waker.
    parked: Vec<usize>,
    closed: bool,
}

struct Seat {
    position: u64,
    /// Set when changes went that this watcher had not read: all up to this revision it has.
    lagging: Option<u64>,
    waker: Option<Waker>,
}

/// What is to be done once nothing is locked: foreign code runs then (wakers, and the values' drops).
pub(super) struct Aftermath<V> {
    pub(super) wakers: Vec<Waker>,
    pub(super) spent: Vec<Change<V>>,
}

/// What a watcher finds.
pub(super) enum Found<V> {
    Batch(Vec<Change<V>>),
    /// It has all up to this revision, and what came next is gone.
    Lagging(u64),
    Nothing,
    Closed,
}

impl<V> Ring<V> {
    /// An empty ring, when the store is at this revision.
    pub(super) fn new(capacity: usize, revision: u64) -> Self {
        Ring {
            changes: VecDeque::new(),
            base: 0,
            floor: revision,
            capacity: capacity.max(1),
            seats: Vec::new(),
            free: Vec::new(),
            parked: Vec::new(),
            closed: false,
        }
    }

    fn end(&self) -> u64 {
        self.base + self.changes.len() as u64
    }

    /// A seat that has read all that is here.
    pub(super) fn sit(&mut self) -> usize {
        let seat = Some(Seat { position: self.end(), lagging: None, waker: None });
        if let Some(index) = self.free.pop()
            && let Some(free) = self.seats.get_mut(index)
        {
            *free = seat;
            return index;
        }
        self.seats.push(seat);
        self.seats.len() - 1
    }

    /// Moves a seat to just after this revision, if all that came since is here.
    pub(super) fn rewind(&mut self, index: usize, revision: u64) -> bool {
        if revision < self.floor {
            return false;
        }
        let position = self.base + self.changes.partition_point(|change| change.revision() <= revision) as u64;
        if let Some(Some(seat)) = self.seats.get_mut(index) {
            seat.position = position;
        }
        true
    }

    /// Moves a seat to the end: what it lacks, it was given otherwise.
    pub(super) fn skip(&mut self, index: usize) {
        let end = self.end();
        if let Some(Some(seat)) = self.seats.get_mut(index) {
            seat.position = end;
            seat.lagging = None;
        }
    }

    /// Frees a seat; its waker is the caller's to drop.
    pub(super) fn leave(&mut self, index: usize) -> Option<Waker> {
        let seat = self.seats.get_mut(index)?.take()?;
        self.free.push(index);
        self.parked.retain(|parked| *parked != index);
        seat.waker
    }

    pub(super) fn taken(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    fn wake(&mut self, after: &mut Aftermath<V>) {
        for index in self.parked.drain(..) {
            if let Some(Some(seat)) = self.seats.get_mut(index) {
                after.wakers.extend(seat.waker.take());
            }
        }
    }

    pub(super) fn close(&mut self, after: &mut Aftermath<V>) {
        self.closed = true;
        self.wake(after);
    }
}

impl<V: Clone> Ring<V> {
    /// The changes of one commit. Where there is no room, the oldest quarter goes, commit by commit; a commit that has no
    /// room at all leaves the ring empty. Who had not read what goes is lagging from then on.
    pub(super) fn push<'a>(
        &mut self,
        revision: u64,
        commit: impl ExactSizeIterator<Item = &'a Change<V>>,
        after: &mut Aftermath<V>,
    ) where
        V: 'a,
    {
        let count = commit.len();
        if self.changes.len() + count > self.capacity {
            let room = self.capacity.saturating_sub(count);
            self.evict(room.min(self.capacity - self.capacity.div_ceil(4)), after);
        }
        if count > self.capacity {
            for seat in self.seats.iter_mut().flatten().filter(|seat| seat.lagging.is_none()) {
                seat.lagging = Some(revision - 1);
            }
            self.base += count as u64;
            self.floor = revision;
        } else {
            self.changes.extend(commit.cloned());
        }
        self.wake(after);
    }

    /// Lets whole commits go until at most `keep` changes are left.
    fn evict(&mut self, keep: usize, after: &mut Aftermath<V>) {
        let mut gone = self.changes.len().saturating_sub(keep);
        let Some(last) = gone.checked_sub(1).and_then(|last| self.changes.get(last)).map(Change::revision) else {
            return;
        };
        gone += self.changes.range(gone..).take_while(|change| change.revision() == last).count();
        let base = self.base + gone as u64;
        for seat in self.seats.iter_mut().flatten().filter(|seat| seat.lagging.is_none() && seat.position < base) {
            let unread = self.changes.get((seat.position - self.base) as usize);
            seat.lagging = unread.map(|change| change.revision() - 1);
        }
        after.spent.extend(self.changes.drain(..gone));
        self.base = base;
        self.floor = last;
    }

    /// What there is to read for a seat, which has read it then: whole commits. Where there is nothing, it will be woken
    /// once; the waker it had is the caller's to drop.
    pub(super) fn read(&mut self, index: usize, waker: &Waker) -> (Found<V>, Option<Waker>) {
        let Some(Some(seat)) = self.seats.get_mut(index) else { return (Found::Closed, None) };
        if let Some(seen) = seat.lagging {
            return (Found::Lagging(seen), None);
        }
        let skip = (seat.position - self.base) as usize;
        if skip >= self.changes.len() {
            if self.closed {
                return (Found::Closed, None);
            }
            if seat.waker.as_ref().is_some_and(|parked| parked.will_wake(waker)) {
                return (Found::Nothing, None);
            }
            let before = seat.waker.replace(waker.clone());
            if before.is_none() {
                self.parked.push(index);
            }
            return (Found::Nothing, before);
        }
        let mut until = self.changes.len().min(skip + BATCH);
        if let Some(last) = self.changes.get(until - 1).map(Change::revision) {
            until += self.changes.range(until..).take_while(|change| change.revision() == last).count();
        }
        seat.position = self.base + until as u64;
        (Found::Batch(self.changes.range(skip..until).cloned().collect()), None)
    }
}

impl<V> Default for Aftermath<V> {
    fn default() -> Self {
        Aftermath { wakers: Vec::new(), spent: Vec::new() }
    }
}

impl<V> Aftermath<V> {
    /// Wakes, and drops what is spent.
    pub(super) fn run(self) {
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, Key};

    fn commit(ring: &mut Ring<()>, revision: u64, size: usize) -> usize {
        let entry = |n| Entry { key: Key::new(&format!("{n}")), created: revision, revision, value: () };
        let changes: Vec<_> = (0..size).map(|n| Change::Put { entry: entry(n), old: None }).collect();
        let mut after = Aftermath::default();
        ring.push(revision, changes.iter(), &mut after);
        after.spent.len()
    }

    #[test]
    fn whole_commits_go_a_quarter_at_a_time() {
        let mut ring = Ring::new(9, 0);
        let spent: Vec<_> = (1..=6).map(|revision| commit(&mut ring, revision, 3)).collect();
        assert_eq!(spent, [0, 0, 0, 3, 3, 3]);
        assert_eq!((ring.changes.len(), ring.base, ring.floor), (9, 9, 3));
        assert_eq!(commit(&mut ring, 7, 1), 3, "though one place would do");
        assert_eq!((ring.changes.len(), ring.base, ring.floor), (7, 12, 4));
        assert_eq!(commit(&mut ring, 8, 10), 7, "a commit without room leaves nothing");
        assert_eq!((ring.changes.len(), ring.end(), ring.floor), (0, 29, 8));
    }

    #[test]
    fn who_can_go_back_and_who_lags() {
        let mut ring = Ring::new(9, 0);
        let (seat, other) = (ring.sit(), ring.sit());
        (1..=3).for_each(|revision| assert_eq!(commit(&mut ring, revision, 3), 0));
        assert!(ring.rewind(other, 1), "all after 1 is there");
        commit(&mut ring, 4, 3);
        let read = |ring: &mut Ring<()>, seat| match ring.read(seat, Waker::noop()).0 {
            Found::Batch(batch) => (batch.len(), batch[0].revision()),
            Found::Lagging(seen) => (0, seen),
            Found::Nothing | Found::Closed => (0, u64::MAX),
        };
        assert_eq!(read(&mut ring, seat), (0, 0), "it has not read the first, which is gone");
        assert_eq!(read(&mut ring, other), (9, 2), "it had");
        assert!(!ring.rewind(other, 0) && ring.rewind(other, 1) && ring.rewind(other, 3));
        assert_eq!(read(&mut ring, other), (3, 4));
        assert_eq!(read(&mut ring, other), (0, u64::MAX));
        ring.leave(seat);
        assert_eq!((ring.taken(), ring.sit()), (1, seat), "a free seat is taken again");
        assert_eq!(read(&mut ring, seat), (0, u64::MAX), "by one who has all that came before");
    }
}
