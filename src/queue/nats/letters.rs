//! What comes in on pull requests: messages, and how each request ended.

use super::{
    core::Core,
    note::Note,
    parts::{Parts, State},
    table::Held,
};
use crate::base::{
    Error, Kind, Result,
    sync::atomic::{AtomicU64, Ordering},
    time::{self, Instant, after as later},
};
use crate::queue::{Attempts, Batch, Id, Publish, Subscription, wire};
use async_nats::{Message, Subject, Subscriber};
use futures::StreamExt;
use std::{
    sync::{Arc, Weak},
    time::{Duration, UNIX_EPOCH},
};
use tokio::task::AbortHandle;

/// What is due within this is kept here until then, rather than sent back.
const SOON: Duration = Duration::from_millis(100);

/// A subscription for what comes of one pull request at a time: of a message that comes, the server does not say for
/// which request it is.
pub(super) struct Lane {
    inbox: String,
    serves: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Lane {
    /// A lane whose answers come to this inbox, which is its own.
    pub(super) async fn open(core: &Arc<Core>, inbox: String) -> Result<Lane> {
        let subscribed = core.link().await?.client.subscribe(format!("{inbox}.*")).await;
        let letters = subscribed
            .map_err(|error| Error::new(Kind::Unavailable, "no inbox").because(error).at(core.at("JetStream")))?;
        let serves = Arc::<AtomicU64>::default();
        let task = tokio::spawn(receive(Arc::downgrade(core), letters, serves.clone())).abort_handle();
        Ok(Lane { inbox, serves, task })
    }

    /// It is for this request from now on; where the server is to answer.
    pub(super) fn serve(&self, pull: u64) -> String {
        self.serves.store(pull, Ordering::Relaxed);
        format!("{}.{pull}", self.inbox)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes in all that comes, until the broker is gone.
async fn receive(core: Weak<Core>, mut letters: Subscriber, serves: Arc<AtomicU64>) {
    while let Some(letter) = letters.next().await {
        let Some(core) = core.upgrade() else { return };
        core.receive(serves.load(Ordering::Relaxed), letter);
    }
}

/// What the subject to acknowledge at says of a message.
#[derive(Debug, PartialEq, Eq)]
struct Delivery {
    number: u64,
    sequence: u64,
    /// When it was stored, on the server's clock, in nanoseconds since 1970.
    stored: u64,
    /// How many are behind it.
    pending: u64,
}

impl Delivery {
    /// `$JS.ACK.stream.consumer.delivered.sequence.consumer sequence.time.pending`, or, from servers with domains,
    /// `$JS.ACK.domain.account.stream.…` with a token more at the end.
    fn read(reply: &str) -> Option<Delivery> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            7 => tokens.get(2..7)?,
            9.. => tokens.get(4..9)?,
            _ => return None,
        };
        let mut numbers = numbers.iter().map(|token| token.parse().ok());
        let mut next = || numbers.next().flatten();
        let (number, sequence, _, stored, pending) = (next()?, next()?, next()?, next()?, next()?);
        Some(Delivery { number, sequence, stored, pending })
    }
}

impl Core {
    fn receive(self: &Arc<Self>, pull: u64, letter: Message) {
        let now = time::now();
        let delivery = letter.reply.as_ref().and_then(|reply| Delivery::read(reply));
        let (Some(delivery), Some(reply)) = (delivery, letter.reply.clone()) else {
            // the end of a request does say whose it is
            let Some(pull) = letter.subject.rsplit('.').next().and_then(|number| number.parse().ok()) else { return };
            self.decide(|table| {
                if let Some(pulling) = table.pulling(pull) {
                    (pulling.over, pulling.ended) = (true, true);
                    pulling.trouble = trouble(&letter);
                }
                table.tell(pull);
            });
            return;
        };
        let station = self.decide(|table| {
            let pulling = table.pulling(pull)?;
            pulling.left = pulling.left.saturating_sub(1);
            pulling.over |= pulling.left == 0;
            pulling.ended |= pulling.left == 0;
            pulling.arriving += 1;
            let (at, asked) = (pulling.station, pulling.asked);
            let station = table.stations.get_mut(at)?;
            station.pending = delivery.pending;
            Some((at, asked, station.subscription.clone()))
        });
        // for a request that was given up long ago, the server gives it to another in time
        let Some((at, asked, subscription)) = station else { return };
        let id = Id::of(format!("{} {}", subscription.topic, delivery.sequence));
        let headers = letter.headers.iter().flat_map(async_nats::HeaderMap::iter);
        let headers = headers.flat_map(|(name, values)| values.iter().map(|value| (name.as_ref(), value.as_str())));
        let publish = wire::read(&subscription.topic, headers, letter.payload.clone(), id);
        let arrival = Arrival { pull, at, asked, reply, delivery, subscription };
        match publish {
            Ok(publish) if publish.payload.is_empty() => self.lay_aside(arrival, None),
            Ok(publish) if arrival.delivery.number == 1 && publish.delay.is_zero() => {
                let parts = Parts::whole(publish.payload.len(), Attempts::default());
                self.admit(now, arrival, publish, parts, false);
            }
            Ok(publish) => {
                let core = self.clone();
                tokio::spawn(async move { core.admit_again(arrival, publish).await });
            }
            Err(error) => {
                let publish = wire::unreadable(&arrival.subscription.topic, letter.payload, id);
                self.lay_aside(arrival, Some((publish, error.to_string())));
            }
        }
    }

    fn admit(&self, now: Instant, arrival: Arrival, publish: Publish, parts: Parts, noted: bool) {
        let Arrival { pull, at, asked, reply, delivery, .. } = arrival;
        let age = self.clock.at(now).duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = age.saturating_sub(Duration::from_nanos(delivery.stored));
        let published = now.checked_sub(age).unwrap_or(now);
        let held = Held {
            reply,
            sequence: delivery.sequence,
            delivered: delivery.number,
            batch: Arc::new(Batch::new(publish, published)),
            parts,
            sure: asked,
            noted,
            touched: now,
            gate: Arc::default(),
        };
        self.decide(|table| {
            table.admit(now, at, held);
            if let Some(pulling) = table.pulling(pull) {
                pulling.arriving = pulling.arriving.saturating_sub(1);
            }
            table.tell(pull);
        });
    }

    /// A message that was here before, or is not due: what is noted of it decides.
    async fn admit_again(self: Arc<Self>, arrival: Arrival, publish: Publish) {
        let again = arrival.delivery.number > 1;
        let note = if again { self.note(&arrival.subscription, arrival.delivery.sequence).await } else { Ok(None) };
        let now = time::now();
        let note = match note {
            Ok(note) => note,
            Err(error) => {
                // what is not known of it must not be guessed: the server gives it again
                tracing::warn!(subscription = %arrival.subscription, "no note on a message: {}", error.chain());
                return self.arrived_not(arrival.pull);
            }
        };
        let noted = note.is_some();
        let delivered = arrival.delivery.number;
        let mut parts = Note::read(note.as_deref(), publish.payload.len(), delivered, now, &self.clock);
        if !noted && !publish.delay.is_zero() {
            let today = self.clock.at(now).duration_since(UNIX_EPOCH).unwrap_or_default();
            let due = Duration::from_nanos(arrival.delivery.stored).saturating_add(publish.delay).saturating_sub(today);
            if !due.is_zero() {
                parts.0.iter_mut().for_each(|part| part.state = State::Later(later(now, due)));
            }
        }
        let early = !parts.has_ready() && parts.next_due().is_some_and(|due| due > now + SOON);
        let (at, pull) = (arrival.at, arrival.pull);
        if !early {
            return self.admit(now, arrival, publish, parts, noted);
        }
        let held = Held {
            reply: arrival.reply,
            sequence: arrival.delivery.sequence,
            delivered,
            batch: Arc::new(Batch::new(publish, now)),
            parts,
            sure: arrival.asked,
            noted,
            touched: now,
            gate: Arc::default(),
        };
        self.send_back(at, held, true).await;
        self.arrived_not(pull);
    }

    /// Takes a message that nobody can work on out of the stream; to the dead letters, where there are any.
    fn lay_aside(self: &Arc<Self>, arrival: Arrival, unreadable: Option<(Publish, String)>) {
        let core = self.clone();
        tokio::spawn(async move {
            let pull = arrival.pull;
            if let Err(error) =
                core.bury_unreadable(&arrival.subscription, arrival.at, &arrival.reply, unreadable).await
            {
                // it comes again, and is tried again then
                tracing::warn!(subscription = %arrival.subscription, "an unreadable message: {}", error.chain());
            }
            core.arrived_not(pull);
        });
    }

    fn arrived_not(&self, pull: u64) {
        self.decide(|table| {
            if let Some(pulling) = table.pulling(pull) {
                pulling.arriving = pulling.arriving.saturating_sub(1);
            }
            table.tell(pull);
        });
    }

    async fn bury_unreadable(
        self: &Arc<Self>,
        subscription: &Subscription,
        at: usize,
        reply: &Subject,
        unreadable: Option<(Publish, String)>,
    ) -> Result {
        if let Some((publish, reason)) = unreadable {
            let known = self.known(&subscription.topic).await?;
            if let Some(dead) = known.declared.dead_letters() {
                let letter = super::settle::letter(&dead, subscription, &publish, 0..1, Attempts::default(), &reason)?;
                self.store(&letter).await?;
            }
            tracing::warn!(%subscription, message = %publish.id, "given up, since it cannot be read: {reason}");
            self.decide(|table| {
                if let Some(station) = table.stations.get_mut(at) {
                    station.rejected += 1;
                }
            });
        }
        self.link().await?.ask(reply.to_string(), None, "+TERM".into()).await.map(drop)
    }
}

/// A message on its way in.
struct Arrival {
    pull: u64,
    at: usize,
    asked: Instant,
    reply: Subject,
    delivery: Delivery,
    subscription: Subscription,
}

/// What a request ended with, where that is not simply that there is nothing or that its time is over.
fn trouble(letter: &Message) -> Option<String> {
    let status = letter.status?.as_u16();
    let usual =
        matches!(status, 404 | 408) || (status == 409 && letter.description.as_deref() == Some("Batch Completed"));
    let said = letter.description.as_deref().unwrap_or(if status == 503 { "nobody answers there" } else { "" });
    (!usual).then(|| format!("{said} ({status})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_subject_says() {
        let delivery = Delivery { number: 2, sequence: 5, stored: 1796065976086086353, pending: 3 };
        assert_eq!(Delivery::read("$JS.ACK.t.one.2.5.8.1796065976086086353.3"), Some(delivery));
        let delivery = Delivery { number: 1, sequence: 4, stored: 9, pending: 0 };
        assert_eq!(Delivery::read("$JS.ACK.hub.ACC.t.one.1.4.1.9.0.token"), Some(delivery));
        for bad in ["", "$JS.ACK.", "$JS.ACK.t.one.2.5.8.x.3", "$JS.ACK.t.one.2.5", "$JS.ACK.a.b.c.d.e.f.g.h"] {
            assert_eq!(Delivery::read(bad), None, "{bad}");
        }
    }
}
