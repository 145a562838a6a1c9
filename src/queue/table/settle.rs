//! Settlement: a step is checked whole, then done whole.

use super::{Chunk, Refused, Table, lanes::End, later};
use crate::base::{Error, Kind, Result, time::Instant};
use crate::queue::{Batch, Charge, DeadLetter, Id, Lease, Reject, Retry, Step, table::Effects};
use smallvec::SmallVec;
use std::{ops::Range, sync::Arc, time::Duration};

/// Where the lease stands: its subscription and its slot there.
fn place(lease: &Lease) -> (usize, u32) {
    ((lease.place >> 32) as usize, lease.place as u32)
}

impl Table {
    /// Does all of the step or nothing.
    pub(in crate::queue) fn settle(
        &mut self,
        now: Instant,
        step: &mut Step,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        self.check_leases(now, step)?;
        if !(step.retries.is_empty() && step.rejects.is_empty()) {
            self.check_parts(step)?;
        }
        if !step.state.is_empty() {
            self.check_state(step)?;
        }
        if !(step.publishes.is_empty() && step.rejects.is_empty()) {
            let named = self.want_all(step);
            let weighed = self.weigh(|table, topic| table.given_up(step, topic));
            named?;
            weighed?;
        }
        effects.reserve(step.acks.len());
        self.take_back(now, &mut step.retries, effects);
        for reject in &step.rejects {
            self.bury(now, reject, effects);
        }
        for reject in step.rejects.drain(..) {
            self.release(&reject.lease, effects); // only now: several may be of one delivery
        }
        for retry in step.retries.drain(..) {
            self.release(&retry.lease, effects);
        }
        for lease in step.acks.drain(..) {
            self.release(&lease, effects);
        }
        for (lease, hold) in step.extensions.drain(..) {
            let (at, slot) = place(&lease);
            if let Some(lanes) = self.subscriptions.get_mut(at)
                && lanes.leases.extend(slot, lease.epoch, hold, later(now, hold))
            {
                effects.wake(&lanes.arrived); // who waits has the old deadline in mind
            }
        }
        for publish in step.publishes.drain(..) {
            self.store(now, publish, effects);
        }
        for write in step.state.drain(..) {
            let value = write.value.map(|value| (write.expect.saturating_add(1), value));
            if let Some(journal) = &mut self.journal {
                journal.wrote(write.key.clone(), value.clone());
                self.state.insert(write.key, value.unwrap_or_default()); // forgotten here, not yet on the disk
                continue;
            }
            match value {
                Some(value) => drop(self.state.insert(write.key, value)),
                None => drop(self.state.remove(&write.key)),
            }
        }
        Ok(())
    }

    fn held(&self, lease: &Lease) -> Option<&Chunk> {
        let (at, slot) = place(lease);
        self.subscriptions.get(at)?.leases.get(slot, lease.epoch)
    }

    /// The fence: every lease of the step is still its holder's, also where nobody has come for what it held.
    fn check_leases(&self, now: Instant, step: &Step) -> Result {
        let over = |lease: &&Lease| {
            let (at, slot) = place(lease);
            !self.subscriptions.get(at).is_some_and(|lanes| lanes.leases.is_valid(slot, lease.epoch, now))
        };
        if let Some(lost) = step.acks.iter().find(over) {
            return Err(self.lost(lost));
        }
        let retries = step.retries.iter().map(|retry| &retry.lease);
        let rejects = step.rejects.iter().map(|reject| &reject.lease);
        let extensions = step.extensions.iter().map(|(lease, _)| lease);
        match retries.chain(rejects).chain(extensions).find(over) {
            Some(lost) => Err(self.lost(lost)),
            None => Ok(()),
        }
    }

    #[cold]
    fn lost(&self, lease: &Lease) -> Error {
        let (at, slot) = place(lease);
        let lanes = self.subscriptions.get(at);
        let message = match lanes.and_then(|lanes| lanes.leases.epoch(slot)) {
            Some(next) if next > lease.epoch => format!("lease {} is over, and lease {next} in its place", lease.epoch),
            _ => format!("lease {} is over", lease.epoch),
        };
        let place = lanes.map_or("subscription unknown".to_string(), |lanes| format!("subscription {}", lanes.name));
        Error::new(Kind::LeaseLost, message).at(place)
    }

    /// Parts of a delivery lie within it and do not overlap.
    fn check_parts(&self, step: &Step) -> Result {
        let retries = step.retries.iter().map(|retry| (&retry.lease, &retry.items));
        let rejects = step.rejects.iter().map(|reject| (&reject.lease, &reject.items));
        let mut parts = SmallVec::<[(u64, u32, u32); 4]>::new();
        for (lease, items) in retries.chain(rejects) {
            let most = self.held(lease).map_or(0, Chunk::len);
            let items = items.clone().unwrap_or(0..most);
            if items.is_empty() || items.end > most {
                let message = format!("items {items:?} of a delivery of {most}");
                return Err(Error::new(Kind::Invalid, message).at(format!("lease {}", lease.epoch)));
            }
            parts.push((lease.epoch, items.start, items.end));
        }
        parts.sort_unstable();
        let overlap = parts.iter().zip(parts.iter().skip(1)).find(|(one, next)| one.0 == next.0 && next.1 < one.2);
        match overlap {
            Some((one, next)) => {
                let message = format!("items {:?} and {:?} overlap", one.1..one.2, next.1..next.2);
                Err(Error::new(Kind::Invalid, message).at(format!("lease {}", one.0)))
            }
            None => Ok(()),
        }
    }

    fn check_state(&self, step: &Step) -> Result {
        for (index, write) in step.state.iter().enumerate() {
            if step.state.iter().take(index).any(|other| other.key == write.key) {
                return Err(Error::new(Kind::Invalid, "written twice in one step").at(format!("state {}", write.key)));
            }
            let version = self.state.get(&write.key).map_or(0, |(version, _)| *version);
            if version != write.expect {
                let message = format!("version {version} is there, not {}", write.expect);
                return Err(Error::new(Kind::Conflict, message).at(format!("state {}", write.key)));
            }
        }
        Ok(())
    }

    /// Notes the room that publishes and dead letters need.
    fn want_all(&mut self, step: &Step) -> Result {
        for publish in &step.publishes {
            self.want(&publish.topic, publish.payload.len())?;
        }
        for reject in &step.rejects {
            let items = self.held(&reject.lease).map_or(0, |chunk| part(chunk, &reject.items).len() as u32);
            if let Some(dead) = self.dead_letters(&reject.lease) {
                self.want(&dead, items)?;
            }
        }
        Ok(())
    }

    fn dead_letters(&self, lease: &Lease) -> Option<crate::queue::Topic> {
        let lanes = self.subscriptions.get(place(lease).0)?;
        self.topics.get(lanes.topic as usize)?.options.dead_letters.clone()
    }

    /// What acknowledging and rejecting gives up in this topic.
    fn given_up(&self, step: &Step, topic: u32) -> usize {
        let whole = step.rejects.iter().filter(|reject| reject.items.is_none()).map(|reject| &reject.lease);
        let mut leases: Vec<_> = step.acks.iter().chain(whole).collect();
        leases.retain(|lease| self.subscriptions.get(place(lease).0).is_some_and(|lanes| lanes.topic == topic));
        leases.sort_unstable_by_key(|lease| lease.epoch);
        leases.dedup_by_key(|lease| lease.epoch);
        let retried = |lease: &Lease| step.retries.iter().any(|retry| retry.lease.epoch == lease.epoch);
        leases.retain(|lease| !retried(lease));
        leases.into_iter().filter_map(|lease| self.held(lease)).map(|chunk| chunk.len() as usize).sum()
    }

    /// Gives the retried items back to their subscription, in the order in which they were leased.
    fn take_back(&mut self, now: Instant, retries: &mut [Retry], effects: &mut Effects) {
        retries.sort_unstable_by_key(|retry| (retry.lease.epoch, retry.items.as_ref().map_or(0, |items| items.start)));
        let first = |table: &Table, retry: &Retry| {
            let keyed = table.held(&retry.lease).is_some_and(|chunk| chunk.batch.key.is_some());
            keyed || (retry.charge == Charge::Nothing && retry.after.is_zero())
        };
        for retry in retries.iter() {
            if !first(self, retry) {
                self.give_back(now, retry, End::Back, effects);
            }
        }
        for retry in retries.iter().rev() {
            if first(self, retry) {
                self.give_back(now, retry, End::Front, effects); // backwards: each goes before the one before it
            }
        }
    }

    fn give_back(&mut self, now: Instant, retry: &Retry, end: End, effects: &mut Effects) {
        let Some(mut chunk) = self.held(&retry.lease).cloned() else { return };
        chunk.range = part(&chunk, &retry.items);
        let attempts = &mut chunk.attempts;
        match retry.charge {
            Charge::Nothing => {}
            Charge::Failure => attempts.failures = attempts.failures.saturating_add(1),
            Charge::Crash => attempts.crashes = attempts.crashes.saturating_add(1),
        }
        let Some(lanes) = self.subscriptions.get_mut(place(&retry.lease).0) else { return };
        if let Some(topic) = self.topics.get_mut(lanes.topic as usize) {
            topic.used += chunk.len() as usize;
        }
        let due = (retry.after > Duration::ZERO).then(|| later(now, retry.after));
        if let Some(journal) = &mut self.journal {
            match end {
                End::Back => return journal.store(place(&retry.lease).0 as u32, chunk, due),
                End::Front => journal.returned(&chunk, due),
            }
        }
        lanes.give_back(due, chunk, end, effects);
    }

    /// Sends the rejected items to the dead letters, if there are any.
    fn bury(&mut self, now: Instant, reject: &Reject, effects: &mut Effects) {
        let Some(chunk) = self.held(&reject.lease).cloned() else { return };
        let range = part(&chunk, &reject.items);
        let Some(lanes) = self.subscriptions.get(place(&reject.lease).0) else { return };
        let subscription = lanes.name.clone();
        let Some(topic) = self.topics.get_mut(lanes.topic as usize) else { return };
        topic.rejected += range.len() as u64;
        let Some(dead) = topic.options.dead_letters.clone() else { return };
        let Ok(at) = self.topic(&dead) else { return };
        let (id, mut headers) = (chunk.batch.id, chunk.batch.headers.clone());
        let id_there = Id::derive(&subscription.name, id, DeadLetter::PORT, range.start);
        DeadLetter::new(&*reject.reason, subscription, id, chunk.attempts).write(&mut headers);
        let batch = Batch { id: id_there, headers, published: now, ..Batch::clone(&chunk.batch) };
        self.hand_out(now, at, Arc::new(batch), range, Duration::ZERO, effects);
        effects.free(chunk.batch);
    }

    /// The lease is over; what was not given back is gone.
    fn release(&mut self, lease: &Lease, effects: &mut Effects) {
        let (at, slot) = place(lease);
        let Some(lanes) = self.subscriptions.get_mut(at) else { return };
        let Some(chunk) = lanes.leases.release(slot, lease.epoch) else { return };
        if let Some(journal) = &mut self.journal {
            journal.settled(chunk.batch.origin, chunk.range.clone());
        }
        if let Some(key) = &chunk.batch.key
            && lanes.advance(key, effects)
            && let Some(journal) = &mut self.journal
        {
            journal.freed(at as u32, chunk.batch.origin);
        }
        if let Some(topic) = self.topics.get_mut(lanes.topic as usize) {
            topic.give_up(chunk.len(), effects);
        }
        effects.free(chunk.batch);
    }
}

/// Which items of the batch a part of the delivery is.
fn part(chunk: &Chunk, items: &Option<Range<u32>>) -> Range<u32> {
    match items {
        Some(items) => chunk.range.start + items.start..chunk.range.start + items.end,
        None => chunk.range.clone(),
    }
}
