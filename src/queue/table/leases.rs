//! The leases of one subscription: slots, linked by deadline.
//!
//! Expiry needs no heap and a settled lease leaves no litter: leases that hold equally long form a list in the order in
//! which they were given, which is the order of their deadlines, so that a new one belongs at its end.

use super::Chunk;
use crate::base::time::Instant;
use std::time::Duration;

const NONE: u32 = u32::MAX;

/// Distinct hold times with a list of their own. Beyond it a lease joins the list nearest to it, and walks to its place.
const LISTS: usize = 16;

struct Slot {
    epoch: u64,
    deadline: Instant,
    held: Option<Chunk>,
    before: u32,
    /// The next of the list, or the next free slot.
    after: u32,
    list: u8,
}

struct List {
    hold: Duration,
    first: u32,
    last: u32,
}

pub(super) struct Leases {
    slots: Vec<Slot>,
    lists: Vec<List>,
    free: u32,
    items: usize,
}

impl Leases {
    pub(super) const fn new() -> Leases {
        Leases { slots: Vec::new(), lists: Vec::new(), free: NONE, items: 0 }
    }

    /// How many items are leased.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// Leases this chunk; the slot that holds it.
    #[inline]
    pub(super) fn hold(&mut self, chunk: Chunk, epoch: u64, hold: Duration, deadline: Instant) -> u32 {
        self.items += chunk.len() as usize;
        let slot = Slot { epoch, deadline, held: Some(chunk), before: NONE, after: NONE, list: 0 };
        let at = self.free;
        let at = match self.slots.get_mut(at as usize) {
            Some(free) => {
                self.free = free.after;
                *free = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.link(at, hold);
        at
    }

    /// What is held in this slot under this epoch: nothing, once the lease is over.
    pub(super) fn get(&self, at: u32, epoch: u64) -> Option<&Chunk> {
        self.slots.get(at as usize).filter(|slot| slot.epoch == epoch)?.held.as_ref()
    }

    /// Whether the slot is held under this epoch and has not run out.
    #[inline]
    pub(super) fn is_valid(&self, at: u32, epoch: u64, now: Instant) -> bool {
        let slot = self.slots.get(at as usize);
        slot.is_some_and(|slot| slot.epoch == epoch && slot.held.is_some() && slot.deadline > now)
    }

    /// Under which epoch the slot is held now.
    pub(super) fn epoch(&self, at: u32) -> Option<u64> {
        let slot = self.slots.get(at as usize)?;
        slot.held.as_ref().map(|_| slot.epoch)
    }

    /// Ends the lease.
    #[inline]
    pub(super) fn release(&mut self, at: u32, epoch: u64) -> Option<Chunk> {
        let slot = self.slots.get_mut(at as usize).filter(|slot| slot.epoch == epoch)?;
        let chunk = slot.held.take()?;
        self.items -= chunk.len() as usize;
        self.unlink(at);
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.after = self.free;
            self.free = at;
        }
        Some(chunk)
    }

    /// Moves the deadline of a lease that is held; whether it is sooner than it was.
    pub(super) fn extend(&mut self, at: u32, epoch: u64, hold: Duration, deadline: Instant) -> bool {
        if self.get(at, epoch).is_none() {
            return false;
        }
        self.unlink(at);
        let before = self.slots.get_mut(at as usize).map(|slot| std::mem::replace(&mut slot.deadline, deadline));
        self.link(at, hold);
        before.is_some_and(|before| deadline < before)
    }

    /// The first deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heads().map(|(deadline, _)| deadline).min()
    }

    /// Takes back the first lease that has run out.
    pub(super) fn lapse(&mut self, now: Instant) -> Option<Chunk> {
        let (deadline, at) = self.heads().min()?;
        if deadline > now {
            return None;
        }
        let epoch = self.slots.get(at as usize)?.epoch;
        self.release(at, epoch)
    }

    fn heads(&self) -> impl Iterator<Item = (Instant, u32)> {
        let head = |list: &List| Some((self.slots.get(list.first as usize)?.deadline, list.first));
        self.lists.iter().filter_map(head)
    }

    /// The list for this hold time.
    fn list(&mut self, hold: Duration) -> usize {
        if let Some(at) = self.lists.iter().position(|list| list.hold == hold) {
            return at;
        }
        let list = List { hold, first: NONE, last: NONE };
        if let Some(empty) = self.lists.iter().position(|list| list.first == NONE)
            && let Some(reused) = self.lists.get_mut(empty)
        {
            *reused = list;
            return empty;
        }
        if self.lists.len() < LISTS {
            self.lists.push(list);
            return self.lists.len() - 1;
        }
        let nearest = self.lists.iter().enumerate().min_by_key(|(_, list)| list.hold.abs_diff(hold));
        nearest.map_or(0, |(at, _)| at)
    }
}

#[expect(clippy::indexing_slicing, reason = "links point at slots, slots at their list; neither vector ever shrinks")]
impl Leases {
    /// Behind the last that is due no later: one step where all of the list hold equally long.
    #[inline]
    fn link(&mut self, at: u32, hold: Duration) {
        let list = self.list(hold);
        let deadline = self.slots[at as usize].deadline;
        let mut before = self.lists[list].last;
        while before != NONE && self.slots[before as usize].deadline > deadline {
            before = self.slots[before as usize].before;
        }
        let next = match before {
            NONE => &mut self.lists[list].first,
            before => &mut self.slots[before as usize].after,
        };
        let after = std::mem::replace(next, at);
        match after {
            NONE => self.lists[list].last = at,
            after => self.slots[after as usize].before = at,
        }
        let slot = &mut self.slots[at as usize];
        (slot.before, slot.after, slot.list) = (before, after, list as u8);
    }

    #[inline]
    fn unlink(&mut self, at: u32) {
        let Slot { before, after, list, .. } = self.slots[at as usize];
        let list = usize::from(list);
        match before {
            NONE => self.lists[list].first = after,
            before => self.slots[before as usize].after = after,
        }
        match after {
            NONE => self.lists[list].last = before,
            after => self.slots[after as usize].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};
    use crate::queue::{Attempts, Batch, Id, Publish};
    use std::{collections::BTreeMap, sync::Arc};

    #[test]
    fn any_mix_of_holds_lapses_in_the_order_of_deadlines() {
        for (seed, holds) in [(1, 1), (2, 5), (3, 100)] {
            let mut rng = Seed::new(seed).rng();
            let start = time::now();
            let batch = Arc::new(Batch::new(Publish::new("t", Id::of("x"), "y"), start));
            let (mut leases, mut model) = (Leases::new(), BTreeMap::new());
            let mut now = start;
            for epoch in 1..20_000_u64 {
                let hold = Duration::from_millis(10 * (1 + rng.below(holds)));
                match rng.below(10) {
                    0..5 => {
                        let chunk = Chunk { batch: batch.clone(), range: 0..1, attempts: Attempts::default() };
                        let at = leases.hold(chunk, epoch, hold, now + hold);
                        assert!(model.insert(epoch, (at, now + hold)).is_none());
                    }
                    5..7 if !model.is_empty() => {
                        let (epoch, (at, _)) = model.iter().nth(rng.below(model.len() as u64) as usize).unwrap();
                        let (epoch, at) = (*epoch, *at);
                        assert!(leases.release(at, epoch).is_some());
                        assert!(leases.release(at, epoch).is_none(), "only once");
                        model.remove(&epoch);
                    }
                    7 if !model.is_empty() => {
                        let at = rng.below(model.len() as u64) as usize;
                        let (epoch, (at, deadline)) = model.iter_mut().nth(at).unwrap();
                        assert_eq!(leases.extend(*at, *epoch, hold, now + hold), now + hold < *deadline);
                        *deadline = now + hold;
                    }
                    _ => {
                        now += Duration::from_millis(rng.below(40));
                        let mut lapsed = 0;
                        while leases.lapse(now).is_some() {
                            lapsed += 1;
                        }
                        let before = model.len();
                        model.retain(|_, (_, deadline)| *deadline > now);
                        assert_eq!(lapsed, before - model.len());
                    }
                }
                assert_eq!(leases.items(), model.len());
                assert_eq!(leases.next(), model.values().map(|(_, deadline)| *deadline).min());
                assert!(model.iter().all(|(epoch, (at, _))| leases.get(*at, *epoch).is_some()));
            }
            assert!(leases.slots.len() < 2000, "slots are used again: {}", leases.slots.len());
        }
    }
}
