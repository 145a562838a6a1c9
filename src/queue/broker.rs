//! The seam: what every broker does, and what each says of itself.

use super::{Delivery, Lease, Publish, Step, Subscription, Topic, TopicOptions};
use crate::base::{Answer, Error, Few, Kind, Name, Result, time::Instant};
use bytes::Bytes;
use std::time::Duration;

/// The subscription that every dead-letter topic has, so that no dead letter is lost.
pub const DEAD_LETTERS: &str = "dead-letters";

/// Keeps messages by topic, leases them out and takes their settlement: once [`publish`](Broker::publish) has answered,
/// each subscription redelivers the message until it is settled.
///
/// 1. [`declare`](Broker::declare) a topic with its subscriptions; [`publish`](Broker::publish) batches to it.
/// 2. [`lease`](Broker::lease) from a subscription: each delivery is yours alone until its lease's deadline.
/// 3. [`settle`](Broker::settle) what was leased, together with what came of it, in one [`Step`].
///
/// Object-safe, and shaped in batches: what is published together is stored together, and a lease cuts ranges off it.
/// Budgets, codecs and back-off sit above. [`testing::broker`](crate::testing::broker) holds a function per promise.
///
/// # Guarantees
/// At least once: nothing published is lost, and no two leases hold one item at the same time. A lease that has run out
/// is refused at settlement, however late. The rest differs: [`guarantees`](Broker::guarantees) says it.
///
/// # Not guaranteed
/// Order after a redelivery; effects exactly once (handlers run again: give them the message's id as their idempotency
/// key); a capacity met to the item by brokers in other processes.
///
/// # Cancel-safety
/// Every call acts when it is made or not at all; dropping its answer loses no message: what a dropped
/// [`lease`](Broker::lease) would have handed out stays ready, or comes back when its lease has run out. Whether a
/// dropped publish or settlement took effect is unknown, as after a time-out: do it again under the same ids.
///
/// # Errors
/// They name the topic, the subscription or the key. [`NotFound`](crate::base::Kind::NotFound): not declared.
/// [`Overloaded`](crate::base::Kind::Overloaded): a topic that refuses is at its bound.
/// [`LeaseLost`](crate::base::Kind::LeaseLost): a lease of the step is no longer held.
/// [`Conflict`](crate::base::Kind::Conflict): declared otherwise, or a state of another version.
/// [`Unsupported`](crate::base::Kind::Unsupported): what the guarantees exclude.
/// [`Invalid`](crate::base::Kind::Invalid): a step that contradicts itself, a value that its codec cannot express.
pub trait Broker: Send + Sync + 'static {
    /// What this broker promises beyond the above.
    fn guarantees(&self) -> Guarantees;

    /// Sees to it that the topic is there, with these options and at least these subscriptions. A subscription sees
    /// what is published from then on, and what the topic keeps as its [history](TopicOptions::history). Doing it again changes nothing, and adds subscriptions that are new.
    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()>;

    /// Stores all of these batches or none. At a topic's bound it waits or is refused, as the topic was declared.
    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt>;

    /// Takes up to this many items, and waits for the first if there is none: empty when nothing came in time.
    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>>;

    /// Does all of this; at once, where [`atomic_step`](Guarantees::atomic_step). At the bound of a topic that it
    /// publishes to, it waits or is refused like [`publish`](Broker::publish).
    fn settle(&self, step: Step) -> Answer<'_, ()>;

    /// The state under this key with its version: 0 and nothing where there is none.
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)>;

    /// What the topic holds at this moment.
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats>;
}

/// What is often said to a broker, in short.
pub trait BrokerExt: Broker {
    /// Publishes one batch.
    fn send(&self, publish: Publish) -> Answer<'_, Receipt> {
        self.publish(Few::from([publish]))
    }

    /// Acknowledges one delivery.
    fn ack(&self, lease: Lease) -> Answer<'_, ()> {
        self.settle(Step::new().ack(lease))
    }
}

impl<B: Broker + ?Sized> BrokerExt for B {}

/// What a broker promises; what stands here as false or none, it refuses as
/// [unsupported](crate::base::Kind::Unsupported) when asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// What the broker is called in errors: `memory`, `file`, `nats`.
    pub name: &'static str,
    /// What it answered for survives the end of its process and of its machine.
    pub durable: bool,
    /// A [`Step`] takes effect whole or not at all.
    pub atomic_step: bool,
    /// Keeps state: [`Broker::load`] and [`Step::state`].
    pub state: bool,
    /// The longest time for which a topic can remember published ids; none where it cannot.
    pub dedup: Option<Duration>,
    /// Heeds [`Publish::priority`].
    pub priorities: bool,
    /// Heeds [`Publish::delay`].
    pub delays: bool,
    /// Heeds [`Publish::key`]: of one key, one batch at a time and in order, redeliveries included.
    pub key_order: bool,
    /// Within a priority, first published is first leased, apart from delays and redeliveries.
    pub first_in_first_out: bool,
    /// Keeps to a topic's capacity exactly.
    pub exact_capacity: bool,
    /// Keeps what was published for subscriptions that come later: [`TopicOptions::history`].
    pub history: bool,
    /// Where something holds by other means than the broker's own: which row of the [table](Guarantees::table), and how.
    pub emulated: &'static [(&'static str, &'static str)],
}

impl Guarantees {
    /// Nothing beyond what every broker promises, under this name: to be added to.
    pub const fn none(name: &'static str) -> Guarantees {
        Guarantees {
            name,
            durable: false,
            atomic_step: false,
            state: false,
            dedup: None,
            priorities: false,
            delays: false,
            key_order: false,
            first_in_first_out: false,
            exact_capacity: false,
            history: false,
            emulated: &[],
        }
    }

    /// That the broker can have a topic of these options: to be asked by brokers where a topic is declared.
    ///
    /// # Errors
    /// [`Unsupported`](crate::base::Kind::Unsupported), naming the topic and the broker.
    pub fn check(&self, topic: &Topic, options: &TopicOptions) -> Result {
        let lack = match (options.dedup, self.dedup) {
            _ if options.history > 0 && !self.history => "keeps no history".to_string(),
            (Some(_), None) => "remembers no ids".to_string(),
            (Some(window), Some(most)) if window > most => {
                format!("remembers ids for {} s at most, not for {} s", most.as_secs_f64(), window.as_secs_f64())
            }
            _ => return Ok(()),
        };
        let message = format!("the broker {} {lack}", self.name);
        Err(Error::new(Kind::Unsupported, message).at(format!("topic {topic}")))
    }

    /// Whether rows of state can be kept with messages: written and forgotten in the step that settles them.
    pub(super) fn keeps_rows(&self) -> bool {
        self.state && self.atomic_step
    }
}

/// How much a lease asks for, and on which terms.
///
/// ```
/// use seedpod::queue::Want;
/// use std::time::Duration;
/// let want = Want::items(64).chunk(8).wait(Duration::from_secs(5)).hold(Duration::from_secs(60));
/// assert_eq!((want.items, want.chunk), (64, 8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Want {
    /// Items in all, at most.
    pub items: u32,
    /// Items in one delivery, which are settled together, at most. Default: no limit of its own.
    pub chunk: u32,
    /// Bytes in all, at most, where the items are bytes; the first item comes whatever its size. Default: no limit.
    pub bytes: usize,
    /// How long to wait for the first item. Default: as long as it takes.
    pub wait: Duration,
    /// How long the leases hold, unless extended. Default 30 s, as with SQS, NATS JetStream and Asynq.
    pub hold: Duration,
    /// A number for the one who asks, which the lease carries. Default 0.
    pub owner: u64,
}

impl Want {
    /// Up to this many items.
    pub const fn items(items: u32) -> Want {
        Want { items, chunk: u32::MAX, bytes: usize::MAX, wait: Duration::MAX, hold: Duration::from_secs(30), owner: 0 }
    }

    /// One item.
    pub const fn one() -> Want {
        Want::items(1)
    }

    /// At most this many items in one delivery.
    #[must_use]
    pub const fn chunk(mut self, items: u32) -> Self {
        self.chunk = items;
        self
    }

    /// At most this many bytes in all.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Waits at most this long for the first item; [`Duration::ZERO`] takes only what is there.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Holds the leases this long.
    #[must_use]
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Says who asks.
    #[must_use]
    pub const fn owner(mut self, owner: u64) -> Self {
        self.owner = owner;
        self
    }

    /// When the waiting ends, from now; none if it does not.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.wait)
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Items that are stored now, once or more: 0 where no subscription is there to keep them.
    pub stored: u32,
    /// Items that the topic had seen under the same id, and did not take again.
    pub duplicates: u32,
}

/// What a topic holds, in items, summed over its subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// All that is not settled.
    pub stored: usize,
    /// Could be leased now.
    pub ready: usize,
    /// Leased now.
    pub leased: usize,
    /// Not due yet.
    pub delayed: usize,
    /// Behind another of the same key.
    pub blocked: usize,
    /// Rejected, since the topic is there.
    pub rejected: u64,
    /// How long ago the oldest of the ready ones was published.
    pub oldest: Option<Duration>,
}

impl TopicStats {
    /// What two topics hold together.
    #[must_use]
    pub fn and(self, other: TopicStats) -> TopicStats {
        TopicStats {
            stored: self.stored.saturating_add(other.stored),
            ready: self.ready.saturating_add(other.ready),
            leased: self.leased.saturating_add(other.leased),
            delayed: self.delayed.saturating_add(other.delayed),
            blocked: self.blocked.saturating_add(other.blocked),
            rejected: self.rejected.saturating_add(other.rejected),
            oldest: self.oldest.max(other.oldest),
        }
    }
}
