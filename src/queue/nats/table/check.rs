//! A step, checked whole before any of it is done.

use super::Table;
use crate::base::{Error, Kind, Result, time::Instant};
use crate::queue::{Lease, Step, nats::parts::Back};
use async_nats::Subject;
use std::ops::Range;
use tokio::sync::OwnedMutexGuard;

/// What a step does with one lease.
pub(in crate::queue::nats) struct Settling {
    pub(in crate::queue::nats) lease: Lease,
    pub(in crate::queue::nats) back: Vec<Back>,
    /// Items of the delivery that are given up, and why.
    pub(in crate::queue::nats) rejects: Vec<(Range<u32>, String)>,
}

/// A message that is done with one acknowledgement. Nobody else writes of it meanwhile.
pub(in crate::queue::nats) struct Whole {
    pub(in crate::queue::nats) reply: Subject,
    _gate: OwnedMutexGuard<()>,
}

impl Table {
    /// Whether this settles all that is left of a message, which leaves nothing to be written or forgotten.
    pub(in crate::queue::nats) fn whole(&self, now: Instant, settling: &Settling) -> Option<Whole> {
        let (_, held, _) = self.leased(now, &settling.lease).ok()?;
        let simple = settling.back.is_empty() && settling.rejects.is_empty() && !held.noted && held.parts.0.len() == 1;
        let gate = simple.then(|| held.gate.clone().try_lock_owned().ok()).flatten()?;
        Some(Whole { reply: held.reply.clone(), _gate: gate })
    }

    /// What this step does with each of its leases: all held, nothing said twice of an item.
    pub(in crate::queue::nats) fn check(&self, now: Instant, step: &Step) -> Result<Vec<Settling>> {
        let mut all: Vec<Settling> = Vec::with_capacity(step.acks.len());
        for lease in &step.acks {
            self.leased(now, lease)?;
            all.push(Settling { lease: *lease, back: Vec::new(), rejects: Vec::new() });
        }
        all.sort_unstable_by_key(|settling| settling.lease.epoch);
        all.dedup_by_key(|settling| settling.lease.epoch);
        for (lease, _) in &step.extensions {
            self.leased(now, lease)?;
        }
        for retry in &step.retries {
            let items = self.part(now, &retry.lease, &retry.items)?;
            if let Some(settling) = entry(&mut all, &retry.lease) {
                settling.back.push(Back { items, after: retry.after, charge: retry.charge });
            }
        }
        for reject in &step.rejects {
            let items = self.part(now, &reject.lease, &reject.items)?;
            if let Some(settling) = entry(&mut all, &reject.lease) {
                settling.rejects.push((items, reject.reason.to_string()));
            }
        }
        for settling in &all {
            let back = settling.back.iter().map(|back| &back.items);
            let mut parts: Vec<_> = back.chain(settling.rejects.iter().map(|reject| &reject.0)).collect();
            parts.sort_unstable_by_key(|items| items.start);
            if let Some((one, next)) = parts.iter().zip(parts.iter().skip(1)).find(|(one, next)| next.start < one.end) {
                let message = format!("items {one:?} and {next:?} overlap");
                return Err(Error::new(Kind::Invalid, message).at(format!("lease {}", settling.lease.epoch)));
            }
        }
        Ok(all)
    }

    /// Which items of the delivery these are.
    fn part(&self, now: Instant, lease: &Lease, items: &Option<Range<u32>>) -> Result<Range<u32>> {
        let range = &self.leased(now, lease)?.2.range;
        let most = range.end - range.start;
        let items = items.clone().unwrap_or(0..most);
        if items.is_empty() || items.end > most {
            let message = format!("items {items:?} of a delivery of {most}");
            return Err(Error::new(Kind::Invalid, message).at(format!("lease {}", lease.epoch)));
        }
        Ok(items)
    }
}

/// What is done with this lease; they stand in the order of their epochs.
fn entry<'a>(all: &'a mut Vec<Settling>, lease: &Lease) -> Option<&'a mut Settling> {
    let at = match all.binary_search_by_key(&lease.epoch, |settling| settling.lease.epoch) {
        Ok(at) => at,
        Err(at) => {
            all.insert(at, Settling { lease: *lease, back: Vec::new(), rejects: Vec::new() });
            at
        }
    };
    all.get_mut(at)
}
