//! Where messages go: topics, their subscriptions, and what a topic promises at its bound.

use crate::base::Name;
use std::{fmt, time::Duration};

/// The name of a topic. Cheap to clone; keep one at hand rather than making it anew per message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Name);

impl Topic {
    /// The topic of this name.
    pub fn new(name: impl Into<Name>) -> Topic {
        Topic(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// Its name, as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The subscription of this name to it.
    pub fn subscription(&self, name: impl Into<Name>) -> Subscription {
        Subscription { topic: self.clone(), name: name.into() }
    }
}

impl<N: Into<Name>> From<N> for Topic {
    fn from(name: N) -> Topic {
        Topic::new(name)
    }
}

impl From<&Topic> for Topic {
    fn from(topic: &Topic) -> Topic {
        topic.clone()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One reader of a topic, under a name: each subscription sees every message, and inside one the workers compete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscription {
    /// The topic.
    pub topic: Topic,
    /// The name among the subscriptions of that topic.
    pub name: Name,
}

impl Subscription {
    /// The subscription of this name to this topic.
    pub fn new(topic: impl Into<Topic>, name: impl Into<Name>) -> Subscription {
        Subscription { topic: topic.into(), name: name.into() }
    }
}

/// `topic/name`.
impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.name)
    }
}

/// What a topic does with a publish that would exceed its capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// The publisher waits until there is room: back-pressure.
    #[default]
    Wait,
    /// The publish is refused as [overloaded](crate::base::Kind::Overloaded): shedding.
    Refuse,
}

/// How a topic is declared.
///
/// ```
/// use seedpod::queue::{Bound, TopicOptions};
/// use std::time::Duration;
/// let options = TopicOptions::new()
///     .subscription("mailer")
///     .subscription("shipping")
///     .capacity(10_000)
///     .bound(Bound::Refuse)
///     .dead_letters("orders.dead")
///     .dedup(Duration::from_secs(120));
/// assert_eq!(options.subscriptions.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicOptions {
    /// The subscriptions that must be there. A message published while a topic has none is kept by nobody.
    pub subscriptions: Vec<Name>,
    /// How many items are stored at most, from publish to settlement, counted once per subscription.
    ///
    /// Default 65,536. A batch that is larger than the whole capacity enters alone, when the topic is empty.
    pub capacity: usize,
    /// What happens at the capacity. Default: [`Bound::Wait`].
    pub bound: Bound,
    /// Where rejected messages go; without one they are dropped, and only counted.
    pub dead_letters: Option<Topic>,
    /// For how long a published id is remembered, so that the same id again is a duplicate. Default: not at all.
    pub dedup: Option<Duration>,
    /// How many items are kept, settled or not, for subscriptions that come later: the last ones that were published. They
    /// see those first, as if just published. Default 0: what was published before is not for them.
    pub history: usize,
}

impl TopicOptions {
    /// How many ids a topic remembers for [`dedup`](TopicOptions::dedup); beyond it the oldest is forgotten early.
    pub const DEDUP_IDS: usize = 1 << 20;

    /// No subscription, room for 65,536 items, publishers wait at the bound, no dead letters, no dedup.
    pub fn new() -> TopicOptions {
        TopicOptions {
            subscriptions: Vec::new(),
            capacity: 65_536,
            bound: Bound::Wait,
            dead_letters: None,
            dedup: None,
            history: 0,
        }
    }

    /// Names a subscription that must be there.
    #[must_use]
    pub fn subscription(mut self, name: impl Into<Name>) -> Self {
        self.subscriptions.push(name.into());
        self
    }

    /// Stores this many items at most, counted once per subscription.
    #[must_use]
    pub fn capacity(mut self, items: usize) -> Self {
        self.capacity = items;
        self
    }

    /// Does this at the capacity.
    #[must_use]
    pub fn bound(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    /// Sends what is rejected to this topic, where the subscription [`DEAD_LETTERS`](crate::queue::DEAD_LETTERS) keeps
    /// it: both are declared along with this one, the topic with the default options unless it is declared otherwise.
    /// At the bound of that topic, rejecting waits or is refused as publishing is.
    #[must_use]
    pub fn dead_letters(mut self, topic: impl Into<Topic>) -> Self {
        self.dead_letters = Some(topic.into());
        self
    }

    /// Takes the same id again within this time as a duplicate. It must outlast the longest time in which a publisher
    /// may try again. NATS JetStream's default is 2 minutes.
    #[must_use]
    pub fn dedup(mut self, window: Duration) -> Self {
        self.dedup = Some(window);
        self
    }

    /// Keeps the last items, this many, for subscriptions that come later. A batch is kept whole, so it may be a few more;
    /// what a new subscription gets of it counts against the capacity, and may exceed it. Only where the broker
    /// [guarantees](crate::queue::Guarantees::history) it.
    #[must_use]
    pub fn history(mut self, items: usize) -> Self {
        self.history = items;
        self
    }
}

impl Default for TopicOptions {
    fn default() -> Self {
        TopicOptions::new()
    }
}
