//! Looks after what is held here: leases that run out, items that come due, messages that nobody here asks for.

use super::{
    core::Core,
    note::Note,
    table::{Alarm, Held, Table},
};
use crate::base::{
    Result,
    time::{self, Instant},
};
use crate::queue::Subscription;
use async_nats::jetstream::{self, stream::LastRawMessageErrorKind};
use bytes::Bytes;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// How often old requests are swept out.
const SWEEP: Duration = Duration::from_secs(5);

/// Looks when something is due, until the broker is gone.
pub(super) async fn keep(core: Weak<Core>, woken: Arc<Notify>) {
    loop {
        let Some(held) = core.upgrade() else { return };
        let now = time::now();
        let until = held.decide(|table| {
            table.sweep(now);
            let until = table.next_alarm().map_or(now + SWEEP, |alarm| alarm.min(now + SWEEP));
            table.asleep_until = Some(until);
            until
        });
        drop(held);
        tokio::select! {
            biased;
            () = time::sleep_until(until) => {}
            () = woken.notified() => {}
        }
        let Some(core) = core.upgrade() else { return };
        core.look();
    }
}

/// A message that leaves this client.
struct Leaving {
    at: usize,
    held: Held,
    note: bool,
}

impl Core {
    fn look(self: &Arc<Self>) {
        loop {
            let now = time::now();
            let Some(leaving) = self.decide(|table| {
                let due = table.due(now)?;
                Some(look(table, now, due))
            }) else {
                return;
            };
            for Leaving { at, held, note } in leaving {
                let core = self.clone();
                tokio::spawn(async move { core.send_back(at, held, note).await });
            }
        }
    }

    /// Gives a message back to the server, due when the first of its items is. Where that fails, the server gives it to
    /// another when it has waited long enough.
    pub(super) async fn send_back(self: &Arc<Self>, at: usize, held: Held, note: bool) {
        let Some(subscription) = self.decide(|table| table.station(at).map(|station| station.subscription.clone()))
        else {
            return;
        };
        if let Err(error) = self.back(at, &subscription, &held, note).await {
            tracing::warn!(%subscription, "a message was not given back: {}", error.chain());
        }
    }

    pub(super) async fn back(
        self: &Arc<Self>,
        at: usize,
        subscription: &Subscription,
        held: &Held,
        note: bool,
    ) -> Result {
        if note {
            self.write_note(subscription, held.sequence, &Note::of(&held.parts, held.delivered, &self.clock)).await?;
        }
        let now = time::now();
        let due = if held.parts.has_ready() { None } else { held.parts.next_due() };
        let nak = match due.map(|due| due.saturating_duration_since(now)).filter(|wait| !wait.is_zero()) {
            Some(wait) => format!(r#"-NAK {{"delay": {}}}"#, super::plan::nanos(wait)),
            None => "-NAK".to_string(),
        };
        let items = held.parts.0.iter().map(|part| part.range.len()).sum();
        self.decide(|table| table.went_back(at, held.sequence, due.unwrap_or(now), items));
        self.link().await?.ask(held.reply.to_string(), None, nak.into()).await.map(drop)
    }

    /// The note on this message, if there is one.
    pub(super) async fn note(self: &Arc<Self>, subscription: &Subscription, sequence: u64) -> Result<Option<Bytes>> {
        let subject = self.names().note(subscription.topic.name(), &subscription.name, sequence);
        let last = self.last(self.names().notes(), &subject).await?;
        Ok(last.map(|message| message.payload))
    }

    /// The last message of a subject, as the stream's leader has it.
    pub(super) async fn last(
        self: &Arc<Self>,
        stream: String,
        subject: &str,
    ) -> Result<Option<jetstream::message::StreamMessage>> {
        use crate::base::{Error, Kind};
        let link = self.link().await?;
        let mut context = jetstream::new(link.client.clone());
        context.set_timeout(link.timeout);
        let unavailable = |error: crate::base::BoxError| {
            Error::new(Kind::Unavailable, "no answer").because(error).at(link.at(format!("stream {stream}")))
        };
        let found = context.get_stream_no_info(&stream).await.map_err(|error| unavailable(error.into()))?;
        match found.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(error.into())),
        }
    }

    pub(super) async fn write_note(
        self: &Arc<Self>,
        subscription: &Subscription,
        sequence: u64,
        note: &Note,
    ) -> Result {
        let subject = self.names().note(subscription.topic.name(), &subscription.name, sequence);
        let link = self.link().await?;
        let place = || link.at(format!("subscription {subscription}"));
        let answer = link.ask(subject, None, note.write().into()).await.map_err(|error| error.at(place()))?;
        let stored = super::link::refused(serde_json::from_slice(&answer.payload)?);
        stored.map(drop).map_err(|refusal| link.failed("a note", &refusal).at(place()))
    }

    /// The message is settled: the note on it is not needed any more. Nobody waits for that: what is left goes in time.
    pub(super) async fn forget_note(self: &Arc<Self>, subscription: &Subscription, sequence: u64) {
        let filter = self.names().note(subscription.topic.name(), &subscription.name, sequence);
        let call = format!("$JS.API.STREAM.PURGE.{}", self.names().notes());
        if let Ok(link) = self.link().await {
            let _ = link.client.publish(call, serde_json::json!({ "filter": filter }).to_string().into()).await;
        }
    }
}

/// What an alarm comes to: perhaps messages leave.
fn look(table: &mut Table, now: Instant, (at, slot, alarm): (usize, usize, Alarm)) -> Vec<Leaving> {
    match alarm {
        Alarm::Lapse(epoch) => lapse(table, now, (at, slot), epoch).into_iter().collect(),
        Alarm::Ripen => {
            offer(table, now, at, slot);
            Vec::new()
        }
        Alarm::Linger => table.linger(now, at).into_iter().map(|held| Leaving { at, held, note: true }).collect(),
    }
}

/// A lease has run out: its message leaves, unless other parts of it are leased.
fn lapse(table: &mut Table, now: Instant, (at, slot): (usize, usize), epoch: u64) -> Option<Leaving> {
    let held = table.held(at, slot)?;
    held.parts.leased(epoch).filter(|leased| leased.1 <= now)?;
    // alone and as it came, it needs no note: a delivery that none accounts for is a lapse
    let alone = held.parts.0.len() == 1 && !held.noted;
    let whole = held.parts.0.iter().all(|part| part.range.len() == held.batch.payload.len() as usize);
    held.parts.lapse(epoch);
    if held.parts.has_leased() {
        offer(table, now, at, slot);
        return None;
    }
    Some(Leaving { at, held: table.remove(at, slot)?, note: !(alone && whole) })
}

fn offer(table: &mut Table, now: Instant, at: usize, slot: usize) {
    if table.touch(now, at, slot)
        && let Some(station) = table.station(at)
    {
        station.spare.notify_one();
    }
}
