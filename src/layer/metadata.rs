//! What layers must know of a request: when it must be answered, and whether it may be sent more than once.

use crate::base::Deadline;
use std::{sync::Arc, time::Duration};

/// A request that carries its deadline and knows whether, and how, it can be sent again.
///
/// Implemented by [`Request`] for any message and, with feature `http`, by `http::Request`.
pub trait Metadata: Sized {
    /// When it must be answered; none means whenever.
    fn deadline(&self) -> Option<Deadline>;

    /// Sets when it must be answered. Layers only ever set a sooner one.
    fn set_deadline(&mut self, deadline: Deadline);

    /// The key by which the receiver knows that two requests are one. All attempts carry the same.
    fn idempotency_key(&self) -> Option<&str>;

    /// Whether being carried out twice does no more than once: by its nature, or by its key.
    fn is_idempotent(&self) -> bool;

    /// The same request again, for another attempt; none where that cannot be made.
    fn repeat(&self) -> Option<Self>;
}

/// A message with its metadata, for services that do not speak HTTP.
///
/// ```
/// use seedpod::layer::{Metadata, Request};
/// use std::time::Duration;
///
/// let request = Request::new("charge 5 EUR").keyed("order-17").within(Duration::from_secs(2));
/// assert_eq!(request.idempotency_key(), Some("order-17"));
/// assert!(request.is_idempotent());
/// assert_eq!(request.repeat().map(Request::into_message), Some("charge 5 EUR"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<T> {
    message: T,
    deadline: Option<Deadline>,
    key: Option<Arc<str>>,
    idempotent: bool,
}

impl<T> Request<T> {
    /// This message: no deadline, no key, not to be sent twice.
    pub fn new(message: T) -> Self {
        Request { message, deadline: None, key: None, idempotent: false }
    }

    /// Carries this idempotency key, by which the receiver recognises a second attempt: it may be sent again.
    #[must_use]
    pub fn keyed(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Is idempotent by its nature, as a read is: it may be sent again.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Must be answered within this long from now, or sooner where that was said before.
    #[must_use]
    pub fn within(mut self, wait: Duration) -> Self {
        let deadline = self.deadline.map_or_else(|| Deadline::within(wait), |deadline| deadline.sooner(wait));
        self.deadline = Some(deadline);
        self
    }

    /// The message.
    pub fn message(&self) -> &T {
        &self.message
    }

    /// The message, to change it.
    pub fn message_mut(&mut self) -> &mut T {
        &mut self.message
    }

    /// The message alone.
    pub fn into_message(self) -> T {
        self.message
    }
}

impl<T: Clone> Metadata for Request<T> {
    fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = Some(deadline);
    }

    fn idempotency_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn is_idempotent(&self) -> bool {
        self.idempotent || self.key.is_some()
    }

    fn repeat(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_only_shrinks_and_every_attempt_is_the_same_request() {
        let request = Request::new(7).within(Duration::from_secs(1)).within(Duration::from_secs(9)).keyed("k");
        assert_eq!(request.deadline().map(Deadline::remaining), Some(Duration::from_secs(1)));
        assert_eq!(request.repeat(), Some(request.clone()));
        assert!(!Request::new(7).is_idempotent() && Request::new(7).idempotent().is_idempotent());
    }
}
