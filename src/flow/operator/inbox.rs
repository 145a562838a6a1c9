//! Inbox: the end of a stream in a transaction of the sink's own, which remembers what it has applied.

use crate::base::{BoxError, Error, Kind, Name, Result};
use crate::flow::{Called, Chain, Item, Stream};
use crate::queue::{Broker, BrokerExt, Json, Payload, Publish, Topic, TopicOptions};
use std::{fmt, future::Future, panic::Location, sync::Arc};

/// What became of an item at an [`Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is applied now.
    Now,
    /// It was applied before, under the same id: nothing was done.
    Before,
}

/// A sink with a transaction of its own, in which it remembers what it has applied: so that what is delivered to it again
/// counts once, whatever broker the flow runs on.
///
/// 1. Begin a transaction.
/// 2. Remember [`Called::id`], where it must be unique. Is it there already: [`Applied::Before`], and nothing else.
/// 3. Do what the item asks for, and commit both: [`Applied::Now`].
///
/// The ids may be forgotten once what they stand for cannot come again: after the
/// [redelivery horizon](crate::flow::Tuning::horizon) of the stages on the way, and as long as the flow may be stopped with
/// items in hand.
///
/// ```
/// use seedpod::{base::BoxError, flow::{Applied, Called, Flow, Inbox}, queue::{Id, Memory}};
/// use std::{collections::BTreeSet, sync::{Arc, Mutex}};
///
/// /// A database with two tables.
/// #[derive(Clone, Default)]
/// struct Books(Arc<Mutex<(BTreeSet<Id>, u64)>>);
///
/// impl Inbox<u64> for Books {
///     async fn apply(&self, cents: Called<u64>) -> Result<Applied, BoxError> {
///         let mut tables = self.0.lock().map_err(|_| "the database is gone")?; // begin
///         if !tables.0.insert(cents.id) {
///             return Ok(Applied::Before);
///         }
///         tables.1 += cents.item;
///         Ok(Applied::Now) // commit
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (mut flow, books) = (Flow::new("till"), Books::default());
/// flow.source::<u64>("cents").filter(|cents| *cents > 0).inbox("books", books.clone());
/// let run = flow.build()?.on(Arc::new(Memory::new())); // or RabbitMQ, which knows no id again
/// run.input("cents").await?.batch(Id::of("monday"), vec![250_u64, 0, 900]).await?;
/// run.until_drained().await?;
/// assert_eq!(books.0.lock().unwrap().1, 1150);
/// # Ok(()) }
/// ```
pub trait Inbox<T>: Send + Sync + 'static {
    /// Applies the item, unless one of its id was applied before.
    ///
    /// # Errors
    /// Nothing was applied, or it is unknown whether it was: it is done again, as after a failed
    /// [`call`](Stream::call).
    fn apply(&self, item: Called<T>) -> impl Future<Output = Result<Applied, BoxError>> + Send;
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Ends the stream in this [`Inbox`], in a stage of this name. The functions before it run in the same stage.
    ///
    /// How many are applied at once says [`concurrency`](crate::flow::Tuning::concurrency); what becomes of an item that
    /// fails, the table of [`call`](Stream::call).
    ///
    /// # Guarantees
    /// Each item is applied once, or is a dead letter, as far as the inbox remembers. On a broker that has neither atomic
    /// steps nor remembers ids, such as RabbitMQ, [`Graph::check`](crate::flow::Graph::check) asks for one at every end.
    ///
    /// # Not guaranteed
    /// That a dead letter is there once, on such a broker: its id is the same, though. And of functions on the way that
    /// do not come to the same end every time, which end: one item may then be applied and be a dead letter.
    #[track_caller]
    pub fn inbox(self, name: impl Into<Name>, inbox: impl Inbox<C::Out>) {
        let (at, inbox) = (Location::caller(), Arc::new(inbox));
        let service = tower::service_fn(move |item: Called<C::Out>| {
            let inbox = inbox.clone();
            async move { inbox.apply(item).await.map(drop) }
        });
        let name: Name = name.into();
        drop(self.named_at(name, at).calls("inbox", at, service, &[]));
    }
}

/// An [`Inbox`] that is a topic of a broker which remembers ids: a flow on RabbitMQ ends in a file of this machine,
/// say, from where others work on.
///
/// # Guarantees
/// An item that was applied stands in the topic; under its id, for as long as the topic's
/// [dedup](TopicOptions::dedup) says, it is there once.
///
/// ```
/// use seedpod::{flow::{Flow, TopicInbox}, queue::{Broker, Id, Memory, TopicOptions}};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let here: Arc<dyn Broker> = Arc::new(Memory::new()); // Durable::open(..) keeps it
/// let options = TopicOptions::new().subscription("reports").dedup(Duration::from_secs(86_400));
/// let mut flow = Flow::new("till");
/// flow.source::<u64>("cents").inbox("books", TopicInbox::new(here.clone(), "books", options).await?);
/// let run = flow.build()?.on(Arc::new(Memory::new()));
/// run.input("cents").await?.send(Id::of("order 17"), 250_u64).await?;
/// run.until_drained().await?;
/// assert_eq!(here.inspect(&"books".into()).await?.ready, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TopicInbox {
    broker: Arc<dyn Broker>,
    topic: Topic,
}

impl TopicInbox {
    /// This topic of this broker, declared with these options.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where the options remember no ids, or nobody subscribes; else the broker's, which name the
    /// topic.
    pub async fn new(broker: Arc<dyn Broker>, topic: impl Into<Topic>, options: TopicOptions) -> Result<TopicInbox> {
        let topic = topic.into();
        let invalid = |what: &str| Err(Error::new(Kind::Invalid, what.to_string()).at(format!("topic {topic}")));
        if options.dedup.is_none() {
            return invalid("an inbox that remembers no ids: give it a dedup");
        }
        if options.subscriptions.is_empty() {
            return invalid("an inbox that nobody subscribes to keeps nothing");
        }
        broker.declare(&topic, options).await?;
        Ok(TopicInbox { broker, topic })
    }
}

impl<T: Item> Inbox<T> for TopicInbox {
    async fn apply(&self, item: Called<T>) -> Result<Applied, BoxError> {
        let publish = Publish::new(&self.topic, item.id, Payload::value(item.item, Json));
        let receipt = self.broker.send(publish).await?;
        Ok(if receipt.duplicates > 0 { Applied::Before } else { Applied::Now })
    }
}

impl fmt::Debug for TopicInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TopicInbox").field(&self.topic).finish()
    }
}
