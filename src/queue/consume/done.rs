//! What a handler leaves behind when its message is done.

use crate::base::{Few, Name, Result};
use crate::queue::{Publish, StateWrite, Step, Trace};
use bytes::Bytes;
use serde::Serialize;

/// What a handler made: committed in the same [`Step`] that acknowledges its message, at once where the broker
/// [guarantees](crate::queue::Guarantees::atomic_step) it. A handler that makes nothing returns `()`.
///
/// ```
/// use seedpod::queue::{self, Broker, BrokerExt, Done, Id, Memory, Message, Publish, Topic, TopicOptions};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, orders, mails) = (Arc::new(Memory::new()), Topic::new("orders"), Topic::new("mails"));
/// broker.declare(&orders, TopicOptions::new().subscription("mailer")).await?;
/// broker.declare(&mails, TopicOptions::new().subscription("outbox")).await?;
/// broker.send(Publish::new(&orders, Id::of("order 17"), "a book")).await?;
///
/// let mailer = tower::service_fn(move |order: Message| {
///     let mail = Publish::new(&mails, order.derive(0, 0), "thank you");
///     async move { Ok::<_, seedpod::Error>(Done::new().publish(mail)) }
/// });
/// let pump = queue::consume(broker.clone(), orders.subscription("mailer"), mailer);
/// pump.run_until(tokio::time::sleep(Duration::from_secs(1))).await?;
/// assert_eq!(broker.inspect(&Topic::new("mails")).await?.ready, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Done {
    /// Published with the acknowledgement.
    pub publishes: Few<Publish>,
    /// Written, or forgotten, with it.
    pub state: Vec<StateWrite>,
    /// Its result, as JSON.
    pub(super) result: Option<Bytes>,
}

impl Done {
    /// Nothing beside the acknowledgement.
    pub fn new() -> Done {
        Done::default()
    }

    /// Publishes this. Derive its id from the message's, so that doing it again makes the same one:
    /// [`Message::derive`](crate::queue::Message::derive).
    #[must_use]
    pub fn publish(mut self, publish: Publish) -> Self {
        self.publishes.push(publish);
        self
    }

    /// Writes this state where the version under the key is `expect` (0: none).
    #[must_use]
    pub fn write(mut self, key: impl Into<Name>, expect: u64, value: impl Into<Bytes>) -> Self {
        self.state.push(StateWrite { key: key.into(), expect, value: Some(value.into()) });
        self
    }

    /// Forgets this state where its version is `expect`.
    #[must_use]
    pub fn forget(mut self, key: impl Into<Name>, expect: u64) -> Self {
        self.state.push(StateWrite { key: key.into(), expect, value: None });
        self
    }

    /// Results in this, as JSON: whoever submitted the job may wait for it with
    /// [`Queue::result`](crate::queue::Queue::result). Only workers of a queue keep results, on a broker with state; for
    /// others a handler that has one fails as [unsupported](crate::base::Kind::Unsupported).
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) where JSON cannot express it.
    pub fn result<R: Serialize>(mut self, result: &R) -> Result<Self> {
        self.result = Some(serde_json::to_vec(result)?.into());
        Ok(self)
    }

    /// Whether it is nothing beside the acknowledgement.
    pub fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.state.is_empty() && self.result.is_none()
    }

    /// What is published is part of this trace, unless it says otherwise.
    pub(super) fn traced(mut self, trace: Option<Trace>) -> Self {
        if let Some(trace) = trace {
            self.publishes.iter_mut().for_each(|publish| trace.begin(&mut publish.headers));
        }
        self
    }

    pub(in crate::queue) fn has_result(&self) -> bool {
        self.result.is_some()
    }

    pub(in crate::queue) fn onto(self, mut step: Step) -> Step {
        step.publishes.extend(self.publishes);
        step.state.extend(self.state);
        step
    }
}

impl From<()> for Done {
    fn from((): ()) -> Done {
        Done::new()
    }
}
