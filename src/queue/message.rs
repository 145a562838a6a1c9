//! What is published, what is stored of it, and what a lease hands out.

use super::{Codec, Id, Json, Payload, Topic};
use crate::base::{Error, Kind, Name, Result, time::Instant};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc, time::Duration};

/// Words about a message that travel with it. Empty ones take no memory; clones share.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<BTreeMap<Name, String>>>);

impl Headers {
    /// What stands under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// Puts this under this name, in place of what stood there.
    pub fn insert(&mut self, name: impl Into<Name>, value: impl Into<String>) {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name.into(), value.into());
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|all| all.iter()).map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// What is published: one batch of items that share a topic, an id, a priority, a delay, a key and headers.
///
/// ```
/// use seedpod::queue::{Id, Json, Payload, Publish, Topic};
/// use std::time::Duration;
/// let orders = Topic::new("orders");
/// let plain = Publish::new(&orders, Id::of("order 17"), "as bytes");
/// let typed = Publish::json(&orders, Id::of("order 18"), vec!["two", "things"].join(", "));
/// let batch = Publish::new(&orders, Id::of("orders 19 to 21"), Payload::values(vec![19_u32, 20, 21], Json))
///     .priority(9)
///     .delay(Duration::from_secs(60));
/// assert_eq!((plain.payload.len(), typed.payload.len(), batch.payload.len()), (1, 1, 3));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publish {
    /// Where it goes.
    pub topic: Topic,
    /// The batch's id; an item's is (batch, index).
    pub id: Id,
    /// The items.
    pub payload: Payload,
    /// The higher, the sooner. Default 0, as with RabbitMQ.
    pub priority: u8,
    /// Not to be leased before this has passed. Default: none.
    pub delay: Duration,
    /// Messages of one key are handed out in order, one batch at a time. Default: none.
    pub key: Option<Name>,
    /// Words about it.
    pub headers: Headers,
}

impl Publish {
    /// This payload, for this topic, under this id.
    pub fn new(topic: impl Into<Topic>, id: Id, payload: impl Into<Payload>) -> Publish {
        Publish {
            topic: topic.into(),
            id,
            payload: payload.into(),
            priority: 0,
            delay: Duration::ZERO,
            key: None,
            headers: Headers::default(),
        }
    }

    /// One value, which travels by reference in this process and as JSON beyond it.
    pub fn json<T>(topic: impl Into<Topic>, id: Id, value: T) -> Publish
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Publish::new(topic, id, Payload::value(value, Json))
    }

    /// Sooner than those of a lower priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this has passed.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// In order with the others of this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Name>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this said about it.
    #[must_use]
    pub fn header(mut self, name: impl Into<Name>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// A stored batch, shared by every delivery cut from it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The batch's id.
    pub id: Id,
    /// The items.
    pub payload: Payload,
    /// The higher, the sooner.
    pub priority: u8,
    /// What it is ordered by.
    pub key: Option<Name>,
    /// Words about it.
    pub headers: Headers,
    /// When it was published, on the broker's clock.
    pub published: Instant,
    /// Where a broker with a disk has it from; only that broker reads this.
    pub(in crate::queue) origin: u64,
}

impl Batch {
    /// What is kept of a publish that was taken at this time.
    pub fn new(publish: Publish, published: Instant) -> Batch {
        let Publish { id, payload, priority, key, headers, .. } = publish;
        Batch { id, payload, priority, key, headers, published, origin: 0 }
    }

    /// The id of an item: the batch's own where it is the only one, else (batch, index), hashed.
    pub fn item_id(&self, index: u32) -> Id {
        if self.payload.len() == 1 { self.id } else { self.id.item(index) }
    }
}

/// How often a message was tried in vain, in three budgets kept apart: only failures are the message's own fault for
/// sure; a crash may be, a lapsed lease says most about the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// The handler answered with an error.
    pub failures: u16,
    /// The handler, or its process, crashed.
    pub crashes: u16,
    /// The lease ran out: the worker was killed, cut off or too slow.
    pub lapses: u16,
}

impl Attempts {
    /// These counts.
    pub const fn new(failures: u16, crashes: u16, lapses: u16) -> Attempts {
        Attempts { failures, crashes, lapses }
    }

    /// All of them together; 0 at the first delivery.
    pub fn total(&self) -> u32 {
        u32::from(self.failures) + u32::from(self.crashes) + u32::from(self.lapses)
    }
}

/// The right to settle what was delivered, until the deadline.
///
/// The epoch is unlike that of any other lease of the broker: once the lease has run out or was settled, whoever still
/// holds it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Where the broker keeps it; only the broker reads this.
    pub place: u64,
    /// Whom it was given to, as [`Want::owner`](crate::queue::Want::owner) said.
    pub owner: u64,
    /// Which lease of that place.
    pub epoch: u64,
    /// When it runs out, on the broker's clock, unless it is extended.
    pub deadline: Instant,
}

impl Lease {
    /// A lease, as brokers make them.
    pub const fn new(place: u64, owner: u64, epoch: u64, deadline: Instant) -> Lease {
        Lease { place, owner, epoch, deadline }
    }
}

/// Some items of a stored batch, handed out under one lease. They are settled together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The right to settle it.
    pub lease: Lease,
    /// How often it was tried before.
    pub attempts: Attempts,
    /// The batch that the items are of.
    pub batch: Arc<Batch>,
    /// Which items of it.
    pub range: Range<u32>,
}

impl Delivery {
    /// A delivery, as brokers make them.
    pub const fn new(lease: Lease, attempts: Attempts, batch: Arc<Batch>, range: Range<u32>) -> Delivery {
        Delivery { lease, attempts, batch, range }
    }

    /// How many items it holds.
    pub fn len(&self) -> u32 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Whether it holds none, which no broker hands out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of an item, counted from 0 within this delivery.
    pub fn id(&self, item: u32) -> Id {
        self.batch.item_id(self.range.start.saturating_add(item))
    }

    /// An item as bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the message, where there is no such item or its codec cannot express it.
    pub fn bytes(&self, item: u32) -> Result<Bytes> {
        self.within(item)?;
        self.batch.payload.bytes(self.range.start + item).map_err(|error| error.at(self.place(item)))
    }

    /// An item by reference, where it is a value of this type that never left the process.
    pub fn get<T: 'static>(&self, item: u32) -> Option<&T> {
        self.within(item).ok()?;
        self.batch.payload.get(self.range.start + item)
    }

    /// All items by reference, where they are values of this type that never left the process.
    pub fn slice<T: 'static>(&self) -> Option<&[T]> {
        self.batch.payload.slice()?.get(self.range.start as usize..self.range.end as usize)
    }

    /// An item as a value: cloned where it never left the process, decoded from JSON otherwise.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the message, where it is not the JSON of such a value.
    pub fn json<T: Serialize + DeserializeOwned + Clone + 'static>(&self, item: u32) -> Result<T> {
        match self.get::<T>(item) {
            Some(value) => Ok(value.clone()),
            None => <Json as Codec<T>>::decode(&self.bytes(item)?).map_err(|error| error.at(self.place(item))),
        }
    }

    fn within(&self, item: u32) -> Result {
        if item < self.len() {
            return Ok(());
        }
        let message = format!("no item {item} in a delivery of {}", self.len());
        Err(Error::new(Kind::Invalid, message).at(format!("message {}", self.batch.id)))
    }

    fn place(&self, item: u32) -> String {
        format!("message {}", self.id(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    fn delivery(payload: impl Into<Payload>, range: Range<u32>) -> Delivery {
        let batch = Batch::new(Publish::new("orders", Id::of("x"), payload), time::now());
        Delivery::new(Lease::new(0, 0, 1, time::now()), Attempts::default(), Arc::new(batch), range)
    }

    #[test]
    fn a_delivery_sees_its_own_range_only() {
        let part = delivery(Payload::values(vec![10_u32, 11, 12, 13], Json), 1..3);
        assert_eq!((part.len(), part.slice::<u32>().unwrap()), (2, [11, 12].as_slice()));
        assert_eq!((part.get::<u32>(1), part.get::<u32>(2)), (Some(&12), None));
        assert_eq!(part.json::<u32>(0).unwrap(), 11);
        assert_eq!(part.id(0), Id::of("x").item(1));
        assert!(part.bytes(2).unwrap_err().to_string().ends_with("no item 2 in a delivery of 2"));
        assert_eq!(delivery("y", 0..1).id(0), Id::of("x"), "the only item has the batch's own id");
    }

    #[test]
    fn what_does_not_decode_names_the_message() {
        let error = delivery("3 4", 0..1).json::<u32>(0).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.place(), Some(format!("message {}", Id::of("x")).as_str()));
        assert!(error.chain().contains("trailing"), "{}", error.chain());
    }

    #[test]
    fn headers_are_shared_until_changed() {
        let mut first = Headers::default();
        assert_eq!((first.get("a"), first.iter().count(), size_of_val(&first)), (None, 0, 8));
        first.insert("a", "1");
        let mut second = first.clone();
        second.insert("a", "2");
        assert_eq!((first.get("a"), second.get("a")), (Some("1"), Some("2")));
    }
}
