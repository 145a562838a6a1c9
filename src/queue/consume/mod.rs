//! The pump: deliveries of a subscription → Service.

mod adapt;
mod aside;
mod control;
mod done;
mod lease;
mod message;
mod pulse;
mod quarantine;
mod renew;
mod run;
mod settings;
mod verdict;
mod worker;

pub use control::{Control, Left, Tally};
pub use done::Done;
pub use message::Message;
pub use quarantine::{Quarantine, QuarantineNote};
pub(super) use {aside::LOOK, message::TENANT};

pub(crate) use run::spawned;

use super::{Broker, Subscription, Topic, TopicOptions, limit::Limits, lines::Lines};
use crate::{
    base::{Backoff, BoxError, Name, Seed},
    pod::Context,
};
use adapt::Adaptive;
use std::{fmt, sync::Arc, time::Duration};
use tower::Service;
use verdict::Policy;

/// Calls the service for each message of the subscription, one at a time unless told otherwise.
///
/// 1. Wait until the service is ready, then lease one message per idle worker; none is held that is not worked on.
/// 2. Run the service; renew the lease at half its time, for as long as the service runs and shows that it
///    [lives](Consume::silence).
/// 3. Settle by how it ended:
///
/// | the service | the message |
/// | --- | --- |
/// | returns `Ok` | is acknowledged, together with what it [made](Done) |
/// | fails as [`Invalid`](crate::base::Kind::Invalid) | goes to the dead letters: trying again cannot help |
/// | fails with a [`retry_after`](crate::base::Error::retry_after) | comes back then, uncharged |
/// | fails otherwise | comes back after a back-off, until [`attempts`](Consume::attempts) are spent; then dead letters |
/// | panics, or fails as [`Panicked`](crate::base::Kind::Panicked) | likewise, until [`crashes`](Consume::crashes) are spent |
/// | is killed, or loses its lease | comes back when the lease has run out, until [`lapses`](Consume::lapses) are spent |
/// | makes what the broker refuses for good | fails, as above |
///
/// What crashes or loses its lease twice can go to a [quarantine](Quarantine) first. [`limit`](Consume::limit) holds back
/// what is too much at a time. [`control`](Consume::control) pauses it while it runs, and counts.
///
/// Told to stop, it leases no more and lets what runs end within the container's grace, or within
/// [`drain`](Consume::drain), after which it hands back what is left, uncharged; [`Control::left`] tells what that was.
///
/// Layers go around the service as anywhere: a time-out there bounds how long a message may take.
///
/// # Guarantees
/// A message is acknowledged only after the service has returned `Ok` for it. When its lease is lost, the service's
/// future is dropped: at its next await it is gone, so that two workers do not go on with one message.
///
/// # Not guaranteed
/// Effects exactly once: use the message's id as the idempotency key of what you do.
///
/// # Errors
/// It ends when the broker refuses for good (not declared, closed); while the broker is overloaded or out of reach, it
/// waits and tries again.
///
/// ```
/// use seedpod::queue::{self, Broker, BrokerExt, Id, Memory, Message, Publish, Topic, TopicOptions};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, orders) = (Arc::new(Memory::new()), Topic::new("orders"));
/// broker.declare(&orders, TopicOptions::new().subscription("mailer")).await?;
/// broker.send(Publish::json(&orders, Id::of("order 17"), "a book".to_string())).await?;
///
/// let mailer = tower::service_fn(|order: Message| async move {
///     assert_eq!(order.json::<String>()?, "a book");
///     Ok::<_, seedpod::Error>(())
/// });
/// let pump = queue::consume(broker.clone(), orders.subscription("mailer"), mailer).concurrency(4);
/// pump.run_until(tokio::time::sleep(Duration::from_secs(1))).await?;
/// assert_eq!(broker.inspect(&orders).await?.stored, 0);
/// # Ok(()) }
/// ```
pub fn consume<S>(broker: Arc<dyn Broker>, subscription: Subscription, service: S) -> Consume<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    let subscription = Arc::new(subscription);
    Consume {
        broker,
        home: subscription.clone(),
        lines: Lines::one(subscription.clone()),
        subscription,
        service,
        concurrency: 1,
        hold: Duration::from_secs(30),
        policy: Policy {
            attempts: 25,
            crashes: 3,
            lapses: 20,
            quarantine: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(600)),
            holds_key: false,
        },
        quarantine: None,
        silence: Duration::from_secs(3600),
        drain: None,
        limits: Limits::none(),
        adaptive: None,
        paused: None,
        rows: None,
        results: Duration::from_secs(3600),
        control: Control::new(1),
        declare: None,
        seed: None,
        context: None,
    }
}

/// The pump that [`consume`] makes. Each setting stands for all of its workers.
#[derive(Clone)]
#[must_use = "it does nothing until it is run"]
pub struct Consume<S> {
    broker: Arc<dyn Broker>,
    subscription: Arc<Subscription>,
    /// Where it leases: that subscription, or all lines of the queue.
    lines: Lines,
    /// Whose messages they are, also in quarantine: by it stand their rows in the broker's state.
    home: Arc<Subscription>,
    service: S,
    concurrency: usize,
    hold: Duration,
    policy: Policy,
    quarantine: Option<Quarantine>,
    silence: Duration,
    drain: Option<Duration>,
    limits: Limits,
    adaptive: Option<Arc<Adaptive>>,
    /// The row of the broker's state by which its queue is paused.
    paused: Option<Name>,
    /// By which rows of the broker's state go again, where messages have any.
    rows: Option<Topic>,
    results: Duration,
    control: Control,
    declare: Option<TopicOptions>,
    seed: Option<Seed>,
    /// The container that it runs as.
    context: Option<Context>,
}

impl<S> fmt::Debug for Consume<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consume")
            .field("subscription", &self.subscription)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
