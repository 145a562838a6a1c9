//! Settlement: what was made is published and confirmed first, what is tried again or given up is put where it goes,
//! and what was taken is acknowledged last: whatever is cut short comes again.

use super::{Shared, delay::Delay, fetch::again, letter, names, publishing::too_long, unsettled::Unsettled};
use crate::base::{Error, Kind, Result, time};
use crate::queue::{Attempts, Charge, DeadLetter, Id, Lease, Publish, Retry, Step, Subscription};
use std::ops::Range;

impl Shared {
    /// Does all of this, in an order in which nothing is lost wherever it ends.
    pub(super) async fn settle(&self, step: Step) -> Result<()> {
        if let Some(write) = step.state.first() {
            let lack = "the broker amqp keeps no state: RabbitMQ has no place for it";
            return Err(Error::new(Kind::Unsupported, lack).at(format!("state {}", write.key)));
        }
        let leases = |step: &Step| -> Vec<Lease> {
            let retries = step.retries.iter().map(|retry| retry.lease);
            let rejects = step.rejects.iter().map(|reject| reject.lease);
            let mut all: Vec<Lease> = step.acks.iter().copied().chain(retries).chain(rejects).collect();
            all.sort_unstable_by_key(|lease| lease.epoch);
            all.dedup_by_key(|lease| lease.epoch);
            all
        };
        let ending = leases(&step);
        for lease in &ending {
            self.held_now(lease)?;
        }
        self.check_parts(&step)?;
        for (lease, hold) in &step.extensions {
            self.extend(lease, *hold).await?;
        }
        if !step.publishes.is_empty() {
            self.publish(&step.publishes).await?;
        }
        let mut back = Vec::new();
        for retry in &step.retries {
            if !self.retry(retry).await? {
                back.push(retry.lease.epoch);
            }
        }
        for reject in &step.rejects {
            let (subscription, out) = self.held_now(&reject.lease)?;
            let items = reject.items.clone().unwrap_or(0..out.batch.payload.len());
            self.bury(&subscription, &out, items, &reject.reason).await?;
        }
        self.end(&ending, &back).await
    }

    /// What this lease is on, if it is still out.
    fn held_now(&self, lease: &Lease) -> Result<(Subscription, Unsettled)> {
        let held = self.held.lock();
        let (subscription, out) = held.look(lease, time::now())?;
        if out.is_ours() {
            return Ok((subscription.clone(), out.clone()));
        }
        let message = format!("lease {} ended with the connection it came over", lease.epoch);
        Err(Error::new(Kind::LeaseLost, message).at(format!("subscription {subscription}")))
    }

    /// Parts of a delivery lie within it and do not overlap.
    fn check_parts(&self, step: &Step) -> Result {
        let retries = step.retries.iter().map(|retry| (&retry.lease, &retry.items));
        let rejects = step.rejects.iter().map(|reject| (&reject.lease, &reject.items));
        let mut parts = Vec::new();
        for (lease, items) in retries.chain(rejects) {
            let most = self.held_now(lease)?.1.batch.payload.len();
            let items = items.clone().unwrap_or(0..most);
            parts.push((lease.epoch, items, most));
        }
        apart(parts)
    }

    /// Holds it longer, once the server has shown that it is there and waits for us.
    async fn extend(&self, lease: &Lease, hold: std::time::Duration) -> Result {
        let (subscription, out) = self.held_now(lease)?;
        let asked = time::now();
        if let Err(error) = out.session.flush(&out.lane).await {
            if out.is_ours() {
                return Err(error.at(format!("subscription {subscription}")));
            }
            return self.held_now(lease).map(drop); // says that it is lost
        }
        self.held.lock().extend(lease, time::now(), time::after(asked, hold))?;
        self.changed.notify_one();
        Ok(())
    }

    /// Puts it where it comes again from. False where its queue is full: then it must go back as it is.
    async fn retry(&self, retry: &Retry) -> Result<bool> {
        let (subscription, out) = self.held_now(&retry.lease)?;
        let session = self.session().await?;
        let Attempts { failures, crashes, lapses } = out.attempts;
        let attempts = match retry.charge {
            Charge::Nothing => out.attempts,
            Charge::Failure => Attempts::new(failures.saturating_add(1), crashes, lapses),
            Charge::Crash => Attempts::new(failures, crashes.saturating_add(1), lapses),
        };
        let delay = match retry.after {
            wait if wait.is_zero() => None,
            wait => Some(Delay::of(wait).ok_or_else(|| too_long().at(format!("subscription {subscription}")))?),
        };
        let (exchange, key) = match delay {
            None => (String::new(), names::queue(&subscription)?),
            Some(delay) => {
                let word = names::word(&subscription);
                self.delayed(&session, &subscription.topic, delay, &word).await?
            }
        };
        let some = some(&again(&subscription, &out.batch), &retry.items)?;
        let parcel = |one: &Publish| self.parcel(one, attempts, exchange.clone(), key.clone());
        let parcels = some.iter().map(parcel).collect::<Result<Vec<_>>>()?;
        let taken = self.try_deliver(&session, &parcels).await;
        let taken = taken.map_err(|error| error.at(format!("subscription {subscription}")))?;
        if taken && let Some(delay) = delay {
            self.topics.lock().delayed(&subscription.topic, time::now() + delay.wait(), parcels.len());
        }
        Ok(taken)
    }

    /// Sends some items to the dead letters of the topic, if it has them.
    pub(super) async fn bury(
        &self,
        subscription: &Subscription,
        out: &Unsettled,
        items: Range<u32>,
        reason: &str,
    ) -> Result {
        let mut publish = again(subscription, &out.batch);
        let letter = DeadLetter::new(reason, subscription.clone(), publish.id, out.attempts);
        letter.write(&mut publish.headers);
        publish.id = Id::derive(&subscription.name, publish.id, DeadLetter::PORT, items.start);
        let count = items.len() as u64;
        let dead = names::Names::of(&subscription.topic)?.dead();
        let parcel = |one: &Publish| self.parcel(one, Attempts::default(), dead.clone(), String::new());
        let parcels = some(&publish, &Some(items))?.iter().map(parcel).collect::<Result<Vec<_>>>()?;
        self.deliver(parcels, |topic| self.topics.lock().bound_of_dead(topic)).await?;
        self.topics.lock().rejected(&subscription.topic, count);
        Ok(())
    }

    /// Acknowledges all of this, apart from what goes back as it is, and waits until the server has read it.
    async fn end(&self, leases: &[Lease], back: &[u64]) -> Result {
        let mut lanes: Vec<Unsettled> = Vec::new();
        let mut lost = None;
        for lease in leases {
            let ended = self.held.lock().end(lease, time::now());
            let out = match ended {
                Ok(out) => out,
                Err(error) => {
                    lost.get_or_insert(error);
                    continue;
                }
            };
            if back.contains(&lease.epoch) {
                out.requeue().await;
            } else if !out.ack().await? {
                lost.get_or_insert(self.held.lock().lost(lease));
            }
            if lanes.iter().all(|other| other.lane.id() != out.lane.id() || other.session.number != out.session.number)
            {
                lanes.push(out);
            }
        }
        for out in lanes {
            out.session.flush(&out.lane).await?;
        }
        lost.map_or(Ok(()), Err)
    }
}

/// These items of a message, each as a message.
fn some(publish: &Publish, items: &Option<Range<u32>>) -> Result<Vec<Publish>> {
    let mut all = letter::split(publish)?;
    if let Some(items) = items {
        all.truncate(items.end as usize);
        all.drain(..(items.start as usize).min(all.len()));
    }
    Ok(all)
}

/// Parts of deliveries, each with its lease, its items and how many there are: none empty, none beyond, none twice.
fn apart(mut parts: Vec<(u64, Range<u32>, u32)>) -> Result {
    let invalid = |lease: u64, message: String| Err(Error::new(Kind::Invalid, message).at(format!("lease {lease}")));
    for (lease, items, most) in &parts {
        if items.is_empty() || items.end > *most {
            return invalid(*lease, format!("items {items:?} of a delivery of {most}"));
        }
    }
    parts.sort_unstable_by_key(|(lease, items, _)| (*lease, items.start));
    let mut pairs = parts.iter().zip(parts.iter().skip(1));
    match pairs.find(|((one, items, _), (other, next, _))| one == other && next.start < items.end) {
        Some(((lease, items, _), (_, next, _))) => invalid(*lease, format!("items {items:?} and {next:?} overlap")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Json, Payload};

    #[test]
    fn parts_lie_within_and_apart() {
        apart(vec![(1, 0..2, 4), (1, 2..4, 4), (2, 0..1, 1)]).unwrap();
        for parts in [vec![(1, 0..5, 4)], vec![(1, 2..2, 4)], vec![(1, 2..4, 4), (1, 0..3, 4)], vec![(1, 0..1, 1); 2]] {
            assert_eq!(apart(parts.clone()).unwrap_err().kind(), Kind::Invalid, "{parts:?}");
        }
    }

    #[test]
    fn some_items_keep_their_ids() {
        let batch = Publish::new("a", Id::of("batch"), Payload::values((0..4_u32).collect(), Json));
        let ids = |items| some(&batch, &items).unwrap().iter().map(|one| one.id).collect::<Vec<_>>();
        let all: Vec<Id> = (0..4).map(|index| Id::of("batch").item(index)).collect();
        assert_eq!(ids(None), all);
        assert_eq!(ids(Some(1..3)), all[1..3]);
        let single = Publish::new("a", Id::of("x"), "y");
        assert_eq!(some(&single, &Some(0..1)).unwrap()[0].id, Id::of("x"));
    }
}
