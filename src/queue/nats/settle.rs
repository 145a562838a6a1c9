//! Settling: publish and confirm first, then write state, then acknowledge. What is refused before that is refused whole.

use super::{
    answers::{Question, Unanswered},
    core::Core,
    link::Link,
    note::Note,
    parts::Back,
    plan,
    table::{Settling, places},
};
use crate::base::{
    Error, Kind, Result,
    time::{self, Instant, after as later},
};
use crate::queue::{Attempts, Batch, DeadLetter, Id, Lease, Payload, Publish, Step, Subscription, Topic};
use async_nats::Subject;
use futures::future;
use std::{ops::Range, sync::Arc, time::Duration};

/// How many acknowledgements of one step are under way at once.
const WINDOW: usize = 256;

/// The dead letter of these items of a batch.
pub(super) fn letter(
    dead: &Topic,
    subscription: &Subscription,
    batch: &Publish,
    range: Range<u32>,
    attempts: Attempts,
    reason: &str,
) -> Result<Publish> {
    let items = range.clone().map(|item| batch.payload.bytes(item)).collect::<Result<Vec<_>>>()?;
    let id = Id::derive(&subscription.name, batch.id, DeadLetter::PORT, range.start);
    let mut letter = Publish::new(dead, id, Payload::many(items)).priority(batch.priority);
    letter.key.clone_from(&batch.key);
    letter.headers = batch.headers.clone();
    DeadLetter::new(reason, subscription.clone(), batch.id, attempts).write(&mut letter.headers);
    Ok(letter)
}

impl Core {
    pub(super) async fn settle(self: &Arc<Self>, step: Step) -> Result {
        let settlings = self.decide(|table| table.check(time::now(), &step))?;
        let link = self.link().await?;
        let parcels = self.pack(&step.publishes).await?;
        self.check_horizon(&step).await?;
        let writes = self.check_state(&step.state).await?;
        let letters = self.letters(&settlings).await?;
        self.send(&parcels).await?;
        self.write_state(writes).await?;
        self.send(&letters).await?;
        for window in settlings.chunks(WINDOW) {
            self.settle_window(link, window).await?;
        }
        for (lease, hold) in &step.extensions {
            self.extend(link, lease, *hold).await?;
        }
        Ok(())
    }

    /// A topic that dedups must remember what a step publishes until the work is done again, should its lease run out
    /// before the acknowledgement: else what is published twice is stored twice.
    async fn check_horizon(self: &Arc<Self>, step: &Step) -> Result {
        let now = time::now();
        let leases = step.acks.iter().chain(step.retries.iter().map(|retry| &retry.lease));
        let leases = leases.chain(step.rejects.iter().map(|reject| &reject.lease));
        let Some(horizon) = leases.map(|lease| lease.deadline.saturating_duration_since(now)).max() else {
            return Ok(());
        };
        let horizon = horizon.saturating_add(plan::grace(horizon));
        for publish in &step.publishes {
            let window = self.known(&publish.topic).await?.declared.dedup();
            if let Some(window) = window.filter(|window| *window < horizon) {
                let message = format!(
                    "it remembers ids for {window:?}, and this work may be done again after {horizon:?}: declare a longer dedup"
                );
                return Err(Error::new(Kind::Invalid, message).at(self.at(format!("topic {}", publish.topic))));
            }
        }
        Ok(())
    }

    /// The dead letters of what the step gives up, where the topics have any.
    async fn letters(self: &Arc<Self>, settlings: &[Settling]) -> Result<Vec<super::publish::Parcel>> {
        let mut letters = Vec::new();
        for settling in settlings.iter().filter(|settling| !settling.rejects.is_empty()) {
            let (subscription, batch, part) = self.decide(|table| {
                let (station, held, part) = table.leased(time::now(), &settling.lease)?;
                Ok::<_, Error>((station.subscription.clone(), held.batch.clone(), part.clone()))
            })?;
            let known = self.known(&subscription.topic).await?;
            let Some(dead) = known.declared.dead_letters() else { continue };
            let batch = published(&subscription.topic, &batch);
            for (items, reason) in &settling.rejects {
                let items = part.range.start + items.start..part.range.start + items.end;
                let letter = letter(&dead, &subscription, &batch, items, part.attempts, reason)?;
                letters.push(self.parcel(&letter).await?);
            }
        }
        Ok(letters)
    }

    /// Settles all of them; those that are simply done in one go.
    async fn settle_window(self: &Arc<Self>, link: &Link, window: &[Settling]) -> Result {
        let now = time::now();
        let whole = self.decide(|table| window.iter().map(|settling| table.whole(now, settling)).collect::<Vec<_>>());
        let done: Vec<_> = window.iter().zip(whole).collect();
        let (done, rest): (Vec<_>, Vec<_>) = done.into_iter().partition(|(_, whole)| whole.is_some());
        let mut rest: Vec<_> = rest.into_iter().map(|(settling, _)| settling).collect();
        let done: Vec<_> = done.into_iter().filter_map(|(settling, whole)| Some((settling, whole?))).collect();
        let ack = |subject: &Subject| Question { subject: subject.clone(), headers: None, body: "+ACK".into() };
        let answers = link.ask_all(done.iter().map(|(_, whole)| ack(&whole.reply))).await;
        let mut settled = Ok(());
        for ((settling, whole), answer) in done.into_iter().zip(answers) {
            drop(whole); // its gate is open again
            let one = match answer {
                Ok(_) => self.confirmed(&settling.lease, &settling.back),
                Err(Unanswered::Silent) => Err(link.silent().at(self.place(&settling.lease))),
                Err(Unanswered::Nobody) => {
                    rest.push(settling); // and asked again for a while
                    continue;
                }
            };
            settled = settled.and(one);
        }
        let rest = rest.into_iter().map(|settling| Box::pin(self.settle_one(link, settling)));
        let rest: Result<()> = future::join_all(rest).await.into_iter().collect();
        settled.and(rest)
    }

    /// What errors call the place of this lease.
    fn place(&self, lease: &Lease) -> String {
        let subscription = self.decide(|table| table.station(places(lease).0).map(|it| it.subscription.to_string()));
        self.at(format!("subscription {}", subscription.unwrap_or_default()))
    }

    async fn settle_one(self: &Arc<Self>, link: &Link, settling: &Settling) -> Result {
        let Settling { lease, back, rejects } = settling;
        let gate = self.decide(|table| table.leased(time::now(), lease).map(|leased| leased.1.gate.clone()))?;
        let _in_order = gate.lock().await;
        let (at, slot) = places(lease);
        let now = time::now();
        let (subscription, reply, sequence, delivered, noted, left) = self.decide(|table| {
            let (station, held, _) = table.leased(now, lease)?;
            let mut left = held.parts.clone();
            left.settle(now, lease.epoch, back);
            let subscription = station.subscription.clone();
            Ok::<_, Error>((subscription, held.reply.clone(), held.sequence, held.delivered, held.noted, left))
        })?;
        let place = || self.at(format!("subscription {subscription}"));
        if left.is_empty() {
            let word = if rejects.is_empty() { "+ACK" } else { "+TERM" };
            link.ask(reply.to_string(), None, word.into()).await.map_err(|error| error.at(place()))?;
            self.confirmed(lease, back)?;
            if noted {
                self.forget_note(&subscription, sequence).await;
            }
        } else if !back.is_empty() && !left.has_leased() {
            self.write_note(&subscription, sequence, &Note::of(&left, delivered, &self.clock)).await?;
            let held = self.decide(|table| {
                table.leased(time::now(), lease)?;
                let mut held = table.remove(at, slot).ok_or_else(|| table.lost(lease))?;
                held.parts.settle(now, lease.epoch, back);
                Ok::<_, Error>(held)
            })?;
            self.back(at, &subscription, &held, false).await.map_err(|error| error.at(place()))?;
        } else {
            // should this client be gone before the rest is done, this delivery is a lapse of the rest alone
            let note = Note::of(&left, delivered - 1, &self.clock);
            self.write_note(&subscription, sequence, &note).await?;
            self.decide(|table| {
                if let Some(held) = table.held(at, slot) {
                    held.noted = true;
                }
            });
            self.confirmed(lease, back)?;
        }
        let rejected: u64 = rejects.iter().map(|(items, _)| u64::from(items.end - items.start)).sum();
        if rejected > 0 {
            self.decide(|table| {
                if let Some(station) = table.stations.get_mut(at) {
                    station.rejected += rejected;
                }
            });
        }
        Ok(())
    }

    /// It is done on the server: so it is here. Where that came so late that the server may have given the message to
    /// another before, nobody can tell whose settlement it was.
    fn confirmed(&self, lease: &Lease, back: &[Back]) -> Result {
        let now = time::now();
        self.decide(|table| {
            let surely = table.surely_until(lease).is_some_and(|until| now < until);
            table.settle(now, lease, back);
            if surely { Ok(()) } else { Err(table.lost(lease)) }
        })
    }

    async fn extend(self: &Arc<Self>, link: &Link, lease: &Lease, hold: Duration) -> Result {
        let hold = hold.min(plan::HOLD_MAX);
        let (subscription, reply, surely) = self.decide(|table| {
            let (station, held, _) = table.leased(time::now(), lease)?;
            Ok::<_, Error>((station.subscription.clone(), held.reply.clone(), later(held.sure, station.wait)))
        })?;
        self.open(&subscription, hold).await?;
        let asked = time::now();
        let until = later(asked, hold);
        let told: Option<Instant> = if until > surely {
            let place = || self.at(format!("subscription {subscription}"));
            link.ask(reply.to_string(), None, "+WPI".into()).await.map_err(|error| error.at(place()))?;
            Some(asked)
        } else {
            None
        };
        self.decide(|table| {
            table.leased(time::now(), lease)?;
            table.extend(lease, told, until);
            Ok(())
        })
    }
}

/// The batch as it was published.
fn published(topic: &Topic, batch: &Batch) -> Publish {
    let mut publish = Publish::new(topic, batch.id, batch.payload.clone()).priority(batch.priority);
    publish.key.clone_from(&batch.key);
    publish.headers = batch.headers.clone();
    publish
}
