//! What a handler gets.

use super::pulse::Pulse;
use crate::base::{Kind, Name, Result, time::Instant};
use crate::queue::{
    Attempts, Broker, Codec, Delivery, Headers, Id, Lease, Progress, Step, Subscription, Topic, Trace, jobs::held,
    redrive::FIRST_ID,
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc, time::Duration};

/// The header that says whose a message is.
pub(in crate::queue) const TENANT: &str = "tenant";

/// How often a settlement looks at the rows that go with it, before it leaves them alone.
pub(super) const ROW_TRIES: u32 = 3;

/// What all messages of a pump share.
pub(in crate::queue) struct Source {
    broker: Arc<dyn Broker>,
    subscription: Arc<Subscription>,
    home: Arc<Subscription>,
    hold: Duration,
}

/// One message, leased while its handler runs.
///
/// It may come again: to act once all the same, do what you do under its [`idempotency_key`](Message::idempotency_key).
#[derive(Clone)]
pub struct Message {
    delivery: Delivery,
    source: Arc<Source>,
    pulse: Arc<Pulse>,
}

impl Message {
    pub(in crate::queue) fn new(delivery: Delivery, source: Arc<Source>) -> Message {
        Message { delivery, source, pulse: Arc::default() }
    }

    pub(in crate::queue) fn source(
        broker: Arc<dyn Broker>,
        subscription: Arc<Subscription>,
        home: Arc<Subscription>,
        hold: Duration,
    ) -> Arc<Source> {
        Arc::new(Source { broker, subscription, home, hold })
    }

    /// The subscription that it was published for, also where it is in quarantine now.
    pub(in crate::queue) fn home(&self) -> &Subscription {
        &self.source.home
    }

    pub(in crate::queue) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    pub(in crate::queue) fn broker(&self) -> &dyn Broker {
        &*self.source.broker
    }

    /// Settles it for good, and forgets with it what is kept only while it is under way.
    pub(in crate::queue) async fn end(&self, step: Step) -> Result {
        self.settle(step, true).await
    }

    /// Gives it back, to be tried again.
    pub(in crate::queue) async fn give_back(&self, step: Step) -> Result {
        self.settle(step, false).await
    }

    async fn settle(&self, step: Step, ends: bool) -> Result {
        for _ in 0..ROW_TRIES {
            let Some(whole) = self.with_rows(&step, ends).await? else { break };
            match self.broker().settle(whole).await {
                Err(error) if error.kind() == Kind::Conflict => {} // of a row that was written since it was looked at
                settled => return settled,
            }
        }
        self.broker().settle(step).await
    }

    /// The step, together with what is kept only while the message is under way: how far it is, which is said anew at the
    /// next try, and its unique key, which is kept until it ends. None where nothing is.
    pub(super) async fn with_rows(&self, step: &Step, ends: bool) -> Result<Option<Step>> {
        let (broker, id) = (self.broker(), self.id());
        if !broker.guarantees().keeps_rows() {
            return Ok(None);
        }
        let mut rows = Vec::new();
        // what an earlier handler said before it was killed was not forgotten
        let (reported, in_doubt) = {
            let reports = self.pulse.reports().lock();
            (reports.has_any(), reports.in_doubt())
        };
        if reported || self.attempts().lapses > 0 || self.attempts().crashes > 0 {
            rows.extend(Progress::forget(broker, self.home(), id, in_doubt).await?);
        }
        if ends {
            rows.extend(held(broker, self.headers(), id).await?);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let mut whole = step.clone();
        whole.state.extend(rows);
        Ok(Some(whole))
    }

    pub(super) fn lease(&self) -> Lease {
        self.delivery.lease
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Its id, the same at every delivery.
    pub fn id(&self) -> Id {
        self.delivery.id(0)
    }

    /// The id of what its handler makes of it: the `index`th thing at this port. The same at every delivery.
    pub fn derive(&self, port: u32, index: u32) -> Id {
        Id::derive(&self.source.subscription.name, self.id(), port, index)
    }

    /// What to hand on to whoever must not do the same thing twice: its id as text, or the one that it had before it was
    /// [redriven](crate::queue::Redrive).
    pub fn idempotency_key(&self) -> String {
        self.headers().get(FIRST_ID).map_or_else(|| self.id().to_string(), str::to_string)
    }

    /// How often it was tried before.
    pub fn attempts(&self) -> Attempts {
        self.delivery.attempts
    }

    /// The topic that it was published to.
    pub fn topic(&self) -> &Topic {
        &self.source.subscription.topic
    }

    /// The subscription that it was leased from.
    pub fn subscription(&self) -> &Subscription {
        &self.source.subscription
    }

    /// What it is ordered by, if anything.
    pub fn key(&self) -> Option<&Name> {
        self.delivery.batch.key.as_ref()
    }

    /// When it was published, on the broker's clock.
    pub fn published(&self) -> Instant {
        self.delivery.batch.published
    }

    /// Words about it.
    pub fn headers(&self) -> &Headers {
        &self.delivery.batch.headers
    }

    /// Whose it is, where [whoever submitted it](crate::queue::Job::tenant) said so.
    pub fn tenant(&self) -> Option<&str> {
        self.headers().get(TENANT)
    }

    /// The trace that it was published in, if in any: the parent of what its handler does. While the handler runs,
    /// [`Trace::current`] is the handler's own part of it, which goes along with all that it submits or [makes].
    ///
    /// [makes]: crate::queue::Done::publish
    pub fn trace(&self) -> Option<Trace> {
        Trace::read(self.headers())
    }

    /// The part of its handler's present try in its trace.
    pub(in crate::queue) fn own_trace(&self) -> Option<Trace> {
        let trace = self.trace()?;
        Some(trace.child(Id::derive(&Name::from("try"), self.id(), 0, self.attempts().total())))
    }

    /// It as bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid), naming the message, where its codec cannot express it.
    pub fn bytes(&self) -> Result<Bytes> {
        self.delivery.bytes(0)
    }

    /// It by reference, where it is a value of this type that never left the process.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.delivery.get(0)
    }

    /// It as a value: cloned where it never left the process, decoded from JSON otherwise.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid), naming the message, where it is not the JSON of such a value: a
    /// handler that passes this on sends the message to the dead letters.
    pub fn json<T: Serialize + DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        self.delivery.json(0)
    }

    /// It as a value, by this codec: cloned where it never left the process, decoded otherwise.
    ///
    /// # Errors
    /// Those of [`json`](Message::json).
    pub fn decode<T: Clone + 'static, C: Codec<T>>(&self) -> Result<T> {
        match self.get::<T>() {
            Some(value) => Ok(value.clone()),
            None => C::decode(&self.bytes()?).map_err(|error| error.at(format!("message {}", self.id()))),
        }
    }

    /// Says that its handler is alive, though it waits long for one thing: a handler that is not heard of for longer than
    /// [`silence`](crate::queue::Consume::silence) loses its lease.
    pub fn alive(&self) {
        self.pulse.beat();
    }

    /// Says how far its handler is, for [`Progress::of`]. Once in a second at most: what comes sooner is not kept. It
    /// extends the lease with it; where the broker keeps no state, or steps are not
    /// atomic, it is [`alive`](Message::alive) and nothing else.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`](crate::base::Kind::LeaseLost): another has the message by now; what the handler goes on to do
    /// counts for nothing. Others are the broker's.
    pub async fn progress(&self, fraction: f64, note: impl Into<String>) -> Result {
        self.pulse.beat();
        if !self.broker().guarantees().keeps_rows() {
            return Ok(());
        }
        let report = Progress { fraction: fraction.clamp(0.0, 1.0), note: note.into() };
        let hold = self.source.hold;
        report.keep(self.broker(), self.home(), self.id(), (self.lease(), hold), self.pulse.reports()).await
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subscription", &self.source.subscription)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}
