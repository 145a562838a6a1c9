//! Where messages go that seem to kill who works on them: tried alone, then given up with all that is known.

use super::message::Message;
use crate::base::{Name, Result};
use crate::queue::{Attempts, Headers, Payload, Publish, Topic, TopicOptions};
use std::borrow::Cow;

/// A lane of its own for messages whose handlers crash, or lose their leases, again and again: there they are tried one
/// at a time, so that a message that kills its process takes no other along. Those that crash there too are dead letters.
///
/// A message keeps its id and its headers, and [`QuarantineNote`] says why it is there; it leaves the order of its key.
///
/// # Not guaranteed
/// That one at a time holds between processes, where the broker does not keep
/// [order per key](crate::queue::Guarantees::key_order).
///
/// ```
/// use seedpod::queue::{self, Broker, BrokerExt, Id, Memory, Message, Publish, Quarantine, Topic, TopicOptions};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, films) = (Arc::new(Memory::new()), Topic::new("films"));
/// broker.declare(&films, TopicOptions::new().subscription("cutter").dead_letters("films.dead")).await?;
/// broker.send(Publish::new(&films, Id::of("film 1"), "a film")).await?;
/// let fragile = tower::service_fn(|film: Message| async move {
///     assert!(film.bytes()? != "a film", "out of memory");
///     Ok::<_, seedpod::Error>(())
/// });
/// let pump = queue::consume(broker.clone(), films.subscription("cutter"), fragile)
///     .concurrency(8)
///     .quarantine(Quarantine::new("films.quarantine").dead_letters("films.dead"));
/// let control = pump.control();
/// pump.run_until(tokio::time::sleep(Duration::from_secs(60))).await?;
/// assert_eq!((control.tally().quarantined, control.tally().rejected), (1, 1));
/// assert_eq!(broker.inspect(&Topic::new("films.dead")).await?.ready, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Quarantine {
    pub(super) topic: Topic,
    pub(super) after: u16,
    pub(super) dead_letters: Option<Topic>,
}

/// How often a message may crash its handler in quarantine: once by bad luck.
pub(super) const CRASHES: u16 = 2;
/// How often its lease may run out there.
pub(super) const LAPSES: u16 = 3;
/// All that is in quarantine has this key, so that a broker that orders by key hands out one at a time.
pub(super) const KEY: &str = "quarantine";

impl Quarantine {
    /// In this topic, which the pump declares, with the pump's own subscription name.
    pub fn new(topic: impl Into<Topic>) -> Quarantine {
        Quarantine { topic: topic.into(), after: 2, dead_letters: None }
    }

    /// After this many crashes and lost leases together. Default 2: the first may have been its neighbour's fault.
    #[must_use]
    pub fn after(mut self, crashes: u16) -> Self {
        self.after = crashes.max(1);
        self
    }

    /// Where those go that crash here too; without one they are dropped, and only counted.
    #[must_use]
    pub fn dead_letters(mut self, topic: impl Into<Topic>) -> Self {
        self.dead_letters = Some(topic.into());
        self
    }

    pub(super) fn options(&self, subscription: &Name) -> TopicOptions {
        let options = TopicOptions::new().subscription(subscription);
        match &self.dead_letters {
            Some(dead) => options.dead_letters(dead),
            None => options,
        }
    }

    /// The same message, for the quarantine.
    pub(super) fn publish(&self, message: &Message, reason: Cow<'static, str>) -> Result<Publish> {
        let mut publish = Publish::new(&self.topic, message.id(), Payload::from(message.bytes()?)).key(KEY);
        publish.headers = message.headers().clone();
        let note = QuarantineNote { reason: reason.into_owned(), attempts: message.attempts() };
        note.write(&mut publish.headers);
        Ok(publish)
    }
}

/// Why a message was put into quarantine: what its headers say from then on, also as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantineNote {
    /// Why.
    pub reason: String,
    /// How often it had been tried before; in quarantine the count begins anew.
    pub attempts: Attempts,
}

impl QuarantineNote {
    const REASON: &str = "quarantine-reason";
    const ATTEMPTS: &str = "quarantine-attempts";

    fn write(&self, headers: &mut Headers) {
        let Attempts { failures, crashes, lapses } = self.attempts;
        headers.insert(Self::REASON, &self.reason);
        headers.insert(Self::ATTEMPTS, format!("{failures} {crashes} {lapses}"));
    }

    /// What these headers say; none where the message was never in quarantine.
    pub fn read(headers: &Headers) -> Option<QuarantineNote> {
        let mut counts = headers.get(Self::ATTEMPTS)?.split(' ').map(|count| count.parse().ok());
        let mut next = || counts.next().flatten();
        let attempts = Attempts::new(next()?, next()?, next()?);
        Some(QuarantineNote { reason: headers.get(Self::REASON)?.to_string(), attempts })
    }
}
