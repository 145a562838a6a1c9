//! Everything that one piece of work does, in one step.

use super::{Delivery, Lease, Publish};
use crate::base::{Few, Name};
use bytes::Bytes;
use std::{borrow::Cow, ops::Range, time::Duration};

/// Which budget a retry is charged to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Charge {
    /// None: it was handed back unstarted, or told to come back later. Without a delay it goes to the front.
    Nothing,
    /// A failure.
    #[default]
    Failure,
    /// A crash.
    Crash,
}

/// Gives items back to the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// The lease they are held under.
    pub lease: Lease,
    /// Which of the delivery's items, counted from 0 within it; all where it does not say. The others are
    /// acknowledged, unless another retry or reject of the step names them.
    pub items: Option<Range<u32>>,
    /// Not to be leased again before this has passed.
    pub after: Duration,
    /// What it costs.
    pub charge: Charge,
}

impl Retry {
    /// All items, at once, charged as a failure.
    pub const fn new(lease: Lease) -> Retry {
        Retry { lease, items: None, after: Duration::ZERO, charge: Charge::Failure }
    }

    /// These of the delivery's items only.
    #[must_use]
    pub fn items(mut self, items: Range<u32>) -> Self {
        self.items = Some(items);
        self
    }

    /// Not before this has passed.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.after = wait;
        self
    }

    /// Charged so.
    #[must_use]
    pub const fn charge(mut self, charge: Charge) -> Self {
        self.charge = charge;
        self
    }
}

/// Gives back what was not begun: uncharged, to the front.
pub(super) fn given_back(deliveries: impl IntoIterator<Item = Delivery>) -> Step {
    let mut step = Step::new();
    let back = deliveries.into_iter().map(|delivery| Retry::new(delivery.lease).charge(Charge::Nothing));
    step.retries.extend(back);
    step
}

/// Gives items up: to the topic's dead letters where it has them, with the reason and the history as headers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reject {
    /// The lease they are held under.
    pub lease: Lease,
    /// Which of the delivery's items, as for [`Retry::items`].
    pub items: Option<Range<u32>>,
    /// Why.
    pub reason: Cow<'static, str>,
}

impl Reject {
    /// All items, for this reason.
    pub fn new(lease: Lease, reason: impl Into<Cow<'static, str>>) -> Reject {
        Reject { lease, items: None, reason: reason.into() }
    }

    /// These of the delivery's items only.
    #[must_use]
    pub fn items(mut self, items: Range<u32>) -> Self {
        self.items = Some(items);
        self
    }
}

/// Writes state that the broker keeps, or forgets it, where its version is the one expected. The version becomes one
/// higher; what is forgotten has none, and begins again at 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// Under this key.
    pub key: Name,
    /// The version that must be there; 0 for none.
    pub expect: u64,
    /// The new value; none forgets it.
    pub value: Option<Bytes>,
}

/// Everything that one piece of work does: what it took is settled, what it made is published, what it knows is kept.
///
/// A broker that [guarantees](crate::queue::Guarantees::atomic_step) it does all of that or none.
///
/// ```
/// # use seedpod::queue::{Broker, BrokerExt, Id, Memory, Publish, Step, Topic, TopicOptions, Want};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// let (broker, orders, mails) = (Memory::new(), Topic::new("orders"), Topic::new("mails"));
/// broker.declare(&orders, TopicOptions::new().subscription("mailer")).await?;
/// broker.declare(&mails, TopicOptions::new().subscription("outbox")).await?;
/// broker.send(Publish::new(&orders, Id::of("order 17"), "a book")).await?;
///
/// let mailer = orders.subscription("mailer");
/// for order in broker.lease(&mailer, Want::one()).await? {
///     let mail = Publish::new(&mails, Id::derive(&mailer.name, order.id(0), 0, 0), "thank you");
///     broker.settle(Step::new().ack(order.lease).publish(mail)).await?;
/// }
/// assert_eq!(broker.inspect(&orders).await?.stored, 0);
/// assert_eq!(broker.inspect(&mails).await?.ready, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Step {
    /// Done: these deliveries are gone from their subscription.
    pub acks: Few<Lease>,
    /// To be tried again.
    pub retries: Vec<Retry>,
    /// Given up.
    pub rejects: Vec<Reject>,
    /// Held longer: until this long from now.
    pub extensions: Vec<(Lease, Duration)>,
    /// Made.
    pub publishes: Few<Publish>,
    /// Known.
    pub state: Vec<StateWrite>,
}

impl Step {
    /// Nothing yet.
    pub fn new() -> Step {
        Step::default()
    }

    /// Acknowledges this delivery.
    #[must_use]
    pub fn ack(mut self, lease: Lease) -> Self {
        self.acks.push(lease);
        self
    }

    /// Gives items back.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retries.push(retry);
        self
    }

    /// Gives items up.
    #[must_use]
    pub fn reject(mut self, reject: Reject) -> Self {
        self.rejects.push(reject);
        self
    }

    /// Holds this delivery until this long from now.
    #[must_use]
    pub fn extend(mut self, lease: Lease, hold: Duration) -> Self {
        self.extensions.push((lease, hold));
        self
    }

    /// Publishes this.
    #[must_use]
    pub fn publish(mut self, publish: Publish) -> Self {
        self.publishes.push(publish);
        self
    }

    /// Writes this where the version under the key is `expect` (0: none).
    #[must_use]
    pub fn write(mut self, key: impl Into<Name>, expect: u64, value: impl Into<Bytes>) -> Self {
        self.state.push(StateWrite { key: key.into(), expect, value: Some(value.into()) });
        self
    }

    /// Forgets what stands under this key, where its version is `expect`.
    #[must_use]
    pub fn forget(mut self, key: impl Into<Name>, expect: u64) -> Self {
        self.state.push(StateWrite { key: key.into(), expect, value: None });
        self
    }
}
