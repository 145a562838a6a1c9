//! What a handler gets.

use crate::base::{Name, Result};
use crate::queue::{Attempts, Delivery, Headers, Id, Subscription, Topic};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// One message, leased while its handler runs.
///
/// It may come again: to act once all the same, do what you do under its [`idempotency_key`](Message::idempotency_key).
#[derive(Clone, Debug)]
pub struct Message {
    delivery: Delivery,
    subscription: Arc<Subscription>,
}

impl Message {
    pub(super) fn new(delivery: Delivery, subscription: Arc<Subscription>) -> Message {
        Message { delivery, subscription }
    }

    /// Its id, the same at every delivery.
    pub fn id(&self) -> Id {
        self.delivery.id(0)
    }

    /// Its id as text: what to hand on to whoever must not do the same thing twice.
    pub fn idempotency_key(&self) -> String {
        self.id().to_string()
    }

    /// How often it was tried before.
    pub fn attempts(&self) -> Attempts {
        self.delivery.attempts
    }

    /// The topic that it was published to.
    pub fn topic(&self) -> &Topic {
        &self.subscription.topic
    }

    /// The subscription that it was leased from.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// What it is ordered by, if anything.
    pub fn key(&self) -> Option<&Name> {
        self.delivery.batch.key.as_ref()
    }

    /// Words about it.
    pub fn headers(&self) -> &Headers {
        &self.delivery.batch.headers
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
}
