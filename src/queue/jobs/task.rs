//! A job in hand: its value, and the right to settle it.

use super::{
    Queue, Schema,
    rows::{cancel_key, is_replaced},
};
use crate::base::{Error, Kind, Result};
use crate::queue::{Attempts, Broker, Charge, Codec, Done, Headers, Id, Lease, Message, Reject, Retry, Step, Want};
use futures::future::BoxFuture;
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// A job in hand: its value, and the right to settle it until its lease runs out.
///
/// A [worker](Queue::tasks) settles it by how its service ends; one that was [taken](Work::take) by hand is settled by
/// hand, and comes back when its lease runs out if it is not.
pub struct Task<T> {
    /// What is to be worked on.
    pub value: T,
    message: Message,
}

impl<T> Task<T> {
    pub(super) fn read<C: Codec<T>>(message: Message, schema: &Schema<T>) -> Result<Task<T>>
    where
        T: Clone + 'static,
    {
        let delivery = message.delivery();
        let item = delivery.range.start;
        let value = schema.read::<C>(&delivery.batch.headers, &delivery.batch.payload, item);
        match value {
            Ok(value) => Ok(Task { value, message }),
            Err(error) => Err(error.at(format!("message {}", message.id()))),
        }
    }

    /// The message that it came as.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Its id, the same at every try.
    pub fn id(&self) -> Id {
        self.message.id()
    }

    /// How often it was tried before.
    pub fn attempts(&self) -> Attempts {
        self.message.attempts()
    }

    /// Words about it.
    pub fn headers(&self) -> &Headers {
        self.message.headers()
    }

    /// Says how far it is: [`Message::progress`].
    ///
    /// # Errors
    /// Those of [`Message::progress`].
    pub async fn progress(&self, fraction: f64, note: impl Into<String>) -> Result {
        self.message.progress(fraction, note).await
    }

    /// Holds it until this long from now.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`](crate::base::Kind::LeaseLost): another has it by now, or soon.
    pub async fn extend(&self, hold: Duration) -> Result {
        self.broker().settle(Step::new().extend(self.lease(), hold)).await
    }

    /// Done, with what was made of it.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`](crate::base::Kind::LeaseLost): it came too late, and counts for nothing. Otherwise it is still
    /// in hand: [`Kind::Conflict`] of a state, [`Kind::Unsupported`] for a [result](Done::result), or the broker's.
    pub async fn complete(&self, done: impl Into<Done>) -> Result {
        let done = done.into();
        if done.has_result() {
            let message = "only workers of a queue keep results, and this is done by hand";
            return Err(Error::new(Kind::Unsupported, message).at(format!("message {}", self.id())));
        }
        self.message.end(done.onto(Step::new().ack(self.lease()))).await
    }

    /// Back, to be tried again after this, charged as a failure.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`](crate::base::Kind::LeaseLost), or the broker's.
    pub async fn retry(&self, after: Duration) -> Result {
        self.message.give_back(Step::new().retry(Retry::new(self.lease()).after(after))).await
    }

    /// Back, to be tried after this, uncharged.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`](crate::base::Kind::LeaseLost), or the broker's.
    pub async fn postpone(&self, after: Duration) -> Result {
        let retry = Retry::new(self.lease()).after(after).charge(Charge::Nothing);
        self.message.give_back(Step::new().retry(retry)).await
    }

    /// Given up for this reason: to the dead letters.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`](crate::base::Kind::LeaseLost), or the broker's.
    pub async fn reject(&self, reason: impl Into<Cow<'static, str>>) -> Result {
        self.message.end(Step::new().reject(Reject::new(self.lease(), reason))).await
    }

    fn lease(&self) -> Lease {
        self.message.delivery().lease
    }

    fn broker(&self) -> &dyn Broker {
        self.message.broker()
    }
}

impl<T: fmt::Debug> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id()).field("value", &self.value).finish_non_exhaustive()
    }
}

/// Hands out jobs: what a worker needs of a queue, and all it needs. Progress and completion are the [`Task`]'s.
pub trait Work<T>: Send + Sync {
    /// Up to so many jobs as this wants, each under a lease of its own; it waits for the first. What cannot be read goes
    /// to the dead letters on the way, and is not among them.
    ///
    /// **Cancel-safety**: dropped, what it would have handed out stays, or comes back when its lease has run out.
    ///
    /// # Errors
    /// Those of the queue behind it.
    fn assign(&self, want: Want) -> BoxFuture<'_, Result<Vec<Task<T>>>>;

    /// A job, if one is there now.
    ///
    /// # Errors
    /// Those of [`assign`](Work::assign).
    fn take(&self) -> BoxFuture<'_, Result<Option<Task<T>>>> {
        Box::pin(async {
            let tasks = self.assign(Want::one().wait(Duration::ZERO)).await?;
            Ok(tasks.into_iter().next())
        })
    }
}

impl<T: Clone + Send + Sync + 'static, C: Codec<T>> Work<T> for Queue<T, C> {
    fn assign(&self, want: Want) -> BoxFuture<'_, Result<Vec<Task<T>>>> {
        Box::pin(async move {
            let inner = &self.inner;
            let workers = Arc::new(inner.workers.clone());
            let lines = &inner.lines;
            let source =
                |line: &Arc<_>| Message::source(inner.broker.clone(), Arc::clone(line), workers.clone(), want.hold);
            let sources: Vec<_> = lines.all().iter().map(source).collect();
            loop {
                if !self.until_resumed(&want).await? {
                    return Ok(Vec::new());
                }
                let (line, deliveries) = lines.lease(&*inner.broker, want.chunk(1)).await?;
                let Some(source) = sources.get(line) else { return Ok(Vec::new()) };
                let nothing = deliveries.is_empty();
                let mut tasks = Vec::with_capacity(deliveries.len());
                for delivery in deliveries {
                    let message = Message::new(delivery, source.clone());
                    if self.is_off(&message).await? {
                        continue;
                    }
                    match Task::read::<C>(message.clone(), &inner.schema) {
                        Ok(task) => tasks.push(task),
                        Err(error) => {
                            let reject = Reject::new(message.delivery().lease, error.chain());
                            message.end(Step::new().reject(reject)).await?;
                        }
                    }
                }
                if nothing || !tasks.is_empty() {
                    return Ok(tasks);
                }
            }
        })
    }
}

impl<T, C> Queue<T, C> {
    /// Whether the message was replaced or called off; then it is settled.
    async fn is_off(&self, message: &Message) -> Result<bool> {
        let (broker, lease) = (&*self.inner.broker, message.delivery().lease);
        if !broker.guarantees().keeps_rows() {
            return Ok(false);
        }
        if is_replaced(broker, message.headers(), message.id()).await? {
            return message.end(Step::new().ack(lease)).await.map(|()| true);
        }
        let key = cancel_key(message.home(), message.id());
        let (version, _) = broker.load(&key).await?;
        if version == 0 {
            return Ok(false);
        }
        let step = Step::new().reject(Reject::new(lease, "cancelled")).forget(key, version);
        message.end(step).await.map(|()| true)
    }
}
