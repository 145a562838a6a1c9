//! One subscription: what is ready, what is not due yet, what waits for its key, what is leased.

#[cfg(feature = "durable")]
mod loading;

use super::{Chunk, Effects, arrived::Arrived, later, leases::Leases};
use crate::base::{Name, hash::Map, time::Instant};
use crate::queue::Subscription;
use smallvec::SmallVec;
use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// At which end of its lane a chunk that is ready goes in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

pub(super) struct Delayed {
    due: Instant,
    order: u64,
    chunk: Chunk,
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

pub(super) struct Lanes {
    pub(super) name: Subscription,
    pub(super) topic: u32,
    /// One per priority that was ever used, the highest first.
    lanes: Vec<(u8, VecDeque<Chunk>)>,
    ready: usize,
    delayed: BinaryHeap<Reverse<Delayed>>,
    delayed_items: usize,
    /// Counts what was delayed, so that equal times keep their order.
    order: u64,
    /// Every key of which a chunk is ready, delayed or leased, with those that come after it and when they are due.
    keys: Map<Name, VecDeque<(Option<Instant>, Chunk)>>,
    blocked: usize,
    pub(super) leases: Leases,
    pub(super) arrived: Arc<Arrived>,
}

impl Lanes {
    pub(super) fn new(name: Subscription, topic: u32) -> Lanes {
        Lanes {
            name,
            topic,
            lanes: Vec::new(),
            ready: 0,
            delayed: BinaryHeap::new(),
            delayed_items: 0,
            order: 0,
            keys: Map::default(),
            blocked: 0,
            leases: Leases::new(),
            arrived: Arc::default(),
        }
    }

    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    pub(super) fn delayed(&self) -> usize {
        self.delayed_items
    }

    pub(super) fn blocked(&self) -> usize {
        self.blocked
    }

    /// When the oldest of those at the head of a lane was published.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|(_, lane)| lane.front()).map(|chunk| chunk.batch.published).min()
    }

    /// When something will become ready by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let delayed = self.delayed.peek().map(|Reverse(delayed)| delayed.due);
        [delayed, self.leases.next()].into_iter().flatten().min()
    }

    /// Takes in what was just published.
    pub(super) fn admit(&mut self, now: Instant, chunk: Chunk, after: Duration, effects: &mut Effects) {
        if let Some(key) = &chunk.batch.key {
            if let Some(behind) = self.keys.get_mut(key) {
                self.blocked += chunk.len() as usize;
                behind.push_back(((!after.is_zero()).then(|| later(now, after)), chunk));
                return;
            }
            self.keys.insert(key.clone(), VecDeque::new());
        }
        let due = (!after.is_zero()).then(|| later(now, after));
        self.place(due, chunk, End::Back, effects);
    }

    /// Takes back what was leased. Of a key it becomes the next in line, and [`advance`](Self::advance) follows.
    pub(super) fn give_back(&mut self, due: Option<Instant>, chunk: Chunk, end: End, effects: &mut Effects) {
        match chunk.batch.key.as_ref().and_then(|key| self.keys.get_mut(key)) {
            Some(behind) => {
                self.blocked += chunk.len() as usize;
                behind.push_front((due, chunk));
            }
            None => self.place(due, chunk, end, effects),
        }
    }

    /// A lease of this key is over: the next in line, if any, comes forward.
    /// Whether none is in line any more.
    pub(super) fn advance(&mut self, key: &Name, effects: &mut Effects) -> bool {
        match self.keys.get_mut(key).map(VecDeque::pop_front) {
            Some(Some((due, chunk))) => {
                self.blocked -= chunk.len() as usize;
                self.place(due, chunk, End::Front, effects);
                false
            }
            Some(None) => self.keys.remove(key).is_some(),
            None => false,
        }
    }

    fn place(&mut self, due: Option<Instant>, chunk: Chunk, end: End, effects: &mut Effects) {
        match due {
            None => self.push(chunk, end),
            Some(due) => {
                self.order += 1;
                self.delayed_items += chunk.len() as usize;
                self.delayed.push(Reverse(Delayed { due, order: self.order, chunk }));
            }
        }
        effects.wake(&self.arrived); // also for what is not due yet: who waits drives the timers
    }

    fn push(&mut self, chunk: Chunk, end: End) {
        self.ready += chunk.len() as usize;
        let priority = chunk.batch.priority;
        let at = self.lanes.iter().position(|(of, _)| *of <= priority).unwrap_or(self.lanes.len());
        if self.lanes.get(at).is_none_or(|(of, _)| *of != priority) {
            self.lanes.insert(at, (priority, VecDeque::new()));
        }
        if let Some((_, lane)) = self.lanes.get_mut(at) {
            match end {
                End::Front => lane.push_front(chunk),
                End::Back => lane.push_back(chunk),
            }
        }
    }

    /// What is due becomes ready: delays that are over at the back, leases that have run out at the front.
    pub(super) fn reap(&mut self, now: Instant) {
        while self.delayed.peek().is_some_and(|Reverse(delayed)| delayed.due <= now)
            && let Some(Reverse(Delayed { chunk, .. })) = self.delayed.pop()
        {
            self.delayed_items -= chunk.len() as usize;
            self.push(chunk, End::Back);
        }
        let Some(first) = self.leases.lapse(now) else { return };
        let mut lapsed = SmallVec::<[Chunk; 4]>::from_iter([first]);
        lapsed.extend(std::iter::from_fn(|| self.leases.lapse(now)));
        for mut chunk in lapsed.into_iter().rev() {
            chunk.attempts.lapses = chunk.attempts.lapses.saturating_add(1);
            self.push(chunk, End::Front);
        }
    }

    /// The next chunk that is ready: at most this many items, and at most this many bytes unless it is the first.
    #[inline]
    pub(super) fn pop(&mut self, items: u32, bytes: &mut usize, first: bool) -> Option<Chunk> {
        let (_, lane) = self.lanes.iter_mut().find(|(_, lane)| !lane.is_empty())?;
        let head = lane.front_mut()?;
        let mut most = items.min(head.len());
        if *bytes != usize::MAX {
            most = fitting(head, most, bytes, first);
        }
        if most == 0 {
            return None;
        }
        let chunk = if most == head.len() {
            lane.pop_front()?
        } else {
            let cut = head.range.start + most;
            let taken = Chunk { range: head.range.start..cut, ..head.clone() };
            head.range.start = cut;
            if let Some(key) = &taken.batch.key
                && let Some(behind) = self.keys.get_mut(key)
                && let Some(rest) = lane.pop_front()
            {
                self.ready -= rest.len() as usize;
                self.blocked += rest.len() as usize;
                behind.push_front((None, rest));
            }
            taken
        };
        self.ready -= chunk.len() as usize;
        Some(chunk)
    }
}

/// How many of the first items are within these bytes, which are taken off; the very first item always is.
fn fitting(chunk: &Chunk, most: u32, bytes: &mut usize, first: bool) -> u32 {
    let mut count = 0;
    for item in chunk.range.start..chunk.range.start + most {
        let size = chunk.batch.payload.size(item);
        if size > *bytes && !(first && count == 0) {
            break;
        }
        *bytes = bytes.saturating_sub(size);
        count += 1;
    }
    if count < most {
        *bytes = 0;
    }
    count
}
