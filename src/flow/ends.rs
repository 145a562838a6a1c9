//! What stands outside of a flow: who sends items in, and who takes them out.

use super::{Item, fused::read};
use crate::base::{Error, Few, Kind, Result};
use crate::queue::{Broker, BrokerExt, Id, Json, Payload, Publish, Receipt, Step, Subscription, Topic, Want};
use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

/// Sends items into a flow, by one of its sources.
pub struct Input<T> {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) topic: Topic,
    /// A join waits for what comes by it.
    pub(super) joined: bool,
    marker: PhantomData<fn(T)>,
}

impl<T: Item> Input<T> {
    pub(super) fn new(broker: Arc<dyn Broker>, topic: Topic, joined: bool) -> Input<T> {
        Input { broker, topic, joined, marker: PhantomData }
    }

    /// Sends one item, under an id that says what it is: the same again is a duplicate. Once this has returned, the item
    /// is stored. While the source is full, it waits.
    ///
    /// # Errors
    /// The broker's, which name the topic.
    pub async fn send(&self, id: Id, item: T) -> Result<Receipt> {
        self.broker.send(Publish::new(&self.topic, id, Payload::value(item, Json))).await
    }

    /// Sends items together, under one id: a [`join`](super::Stream::join) waits for all of them. A batch whose items come
    /// one after the other is [opened](Input::open), and closed.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where there are none; else the broker's, which name the topic.
    pub async fn batch(&self, id: Id, items: Vec<T>) -> Result<Receipt> {
        if items.is_empty() {
            return Err(Error::new(Kind::Invalid, "a batch of nothing").at(format!("topic {}", self.topic)));
        }
        self.broker.send(Publish::new(&self.topic, id, Payload::values(items, Json))).await
    }
}

/// Takes items out of a flow, from one of its sinks.
pub struct Output<T> {
    broker: Arc<dyn Broker>,
    subscription: Subscription,
    marker: PhantomData<fn() -> T>,
}

impl<T: Item> Output<T> {
    pub(super) fn new(broker: Arc<dyn Broker>, subscription: Subscription) -> Output<T> {
        Output { broker, subscription, marker: PhantomData }
    }

    /// Takes up to this many items, and waits this long for the first. They are acknowledged when this returns: who must
    /// not lose them when it dies uses [`consume`](crate::queue::consume) on the
    /// [subscription](super::Graph::subscription) instead.
    ///
    /// **Cancel-safety**: what a dropped call had taken comes back when its lease has run out.
    ///
    /// # Errors
    /// The broker's, which name the subscription; [`Kind::Invalid`] for what is no such item.
    pub async fn take(&self, items: u32, wait: Duration) -> Result<Vec<T>> {
        let deliveries = self.broker.lease(&self.subscription, Want::items(items).wait(wait)).await?;
        let mut taken = Vec::new();
        let mut leases = Few::new();
        for delivery in &deliveries {
            match delivery.slice::<T>() {
                Some(items) => taken.extend_from_slice(items),
                None => {
                    for at in 0..delivery.len() {
                        let bad = |words| Error::new(Kind::Invalid, words).at(format!("message {}", delivery.id(at)));
                        taken.push(read(delivery, at).map_err(bad)?);
                    }
                }
            }
            leases.push(delivery.lease);
        }
        let mut step = Step::new();
        step.acks = leases;
        self.broker.settle(step).await?;
        Ok(taken)
    }

    /// Takes all that is there.
    ///
    /// # Errors
    /// Those of [`take`](Output::take).
    pub async fn ready(&self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        loop {
            let taken = self.take(4096, Duration::ZERO).await?;
            if taken.is_empty() {
                return Ok(all);
            }
            all.extend(taken);
        }
    }
}

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        Input { broker: self.broker.clone(), topic: self.topic.clone(), joined: self.joined, marker: PhantomData }
    }
}

impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        Output { broker: self.broker.clone(), subscription: self.subscription.clone(), marker: PhantomData }
    }
}

impl<T> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Input").field(&self.topic).finish()
    }
}

impl<T> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.subscription).finish()
    }
}
