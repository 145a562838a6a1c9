//! The broker on NATS JetStream: topics are streams, subscriptions are durable pull consumers.

mod answers;
mod core;
mod declare;
mod keeper;
mod lease;
mod letters;
mod link;
mod names;
mod note;
mod parts;
mod plan;
mod publish;
mod settle;
mod state;
mod stats;
mod table;

use self::core::{Core, Settings};
use super::{
    Broker, Delivery, Guarantees, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
};
use crate::base::{Answer, Error, Few, Kind, Name, Result};
use bytes::Bytes;
use names::Names;
use std::{fmt, sync::Arc, time::Duration};

/// The broker on NATS JetStream, of any server from 2.9 on.
///
/// ```no_run
/// use seedpod::queue::{Broker, BrokerExt, Id, Nats, Publish, Topic, TopicOptions, Want};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// let broker = Nats::connect("nats://127.0.0.1:4222").await?; // started with `nats-server -js`
/// let orders = Topic::new("orders");
/// broker.declare(&orders, TopicOptions::new().subscription("mailer")).await?;
/// broker.send(Publish::json(&orders, Id::of("order 17"), "a book".to_string())).await?;
/// for order in broker.lease(&orders.subscription("mailer"), Want::one()).await? {
///     broker.ack(order.lease).await?;
/// }
/// # Ok(()) }
/// ```
///
/// What the server does, what this client adds, and what is refused:
///
/// | | | how |
/// | --- | --- | --- |
/// | durable | native | file storage; the server answers before it syncs to the disk |
/// | each subscription sees every message | native | streams kept by interest: gone once all have settled it |
/// | dedup | native | `Nats-Msg-Id`; a publish that is tried again after a lost confirmation is always known |
/// | retry after a delay, extension, dead letters | native | negative acknowledgement with delay, progress, termination |
/// | failures, crashes and lapses apart | emulated | JetStream counts deliveries: notes in a stream of their own say which were no lapses |
/// | leases as long as each asks for | emulated | the consumer waits for the longest asked for, and a little longer; this client gives back what lapses sooner |
/// | late acknowledgements refused | emulated | by this client's clock: see below |
/// | batches cut into ranges | emulated | a message is a batch: its parts stay with one client until all are settled or given back |
/// | delays | emulated | the first client that is given a message too early sends it back until it is due; clocks must agree |
/// | state | emulated | a key-value bucket whose values carry their version; one key at a time |
/// | capacity | native, in messages | a full stream refuses; batches of several items are counted before they are sent |
/// | steps as one | not | it publishes, writes state, then acknowledges: done twice rather than lost where it is cut off |
/// | priorities | refused | JetStream has one order; use a topic per priority |
/// | order per key | refused | nothing in JetStream holds a key back while it is out |
///
/// What the server is asked for is read back, since old servers leave out silently what they do not know.
///
/// # Guarantees
/// A publish is answered once the server has confirmed it. A lease is handed out only while the server's own timer
/// surely outlasts it, and settled only before it is over; the confirmation of the server is waited for. Every request
/// has an answer or an error within twice the [timeout](NatsBuilder::timeout); a lease that waits asks again every few
/// seconds, so that no silent connection holds it. After a lost connection it goes on by itself.
///
/// # Not guaranteed
/// JetStream has no fencing. Should this process be stopped between its look at the clock and the arrival of its
/// acknowledgement for longer than the server's patience (a quarter of the lease, 1 to 10 s), a message that another has
/// by then is taken from it. Its settlement is reported as [lost](Kind::LeaseLost) where the confirmation came too late
/// to tell. What the server confirmed and had not synced is lost with its machine. The number of times a lease has run
/// out, and what was acknowledged in the last moment, can be lost with the server's process: then it is done again.
/// A message's parts are settled by one client; where that ends, those not noted yet are done again.
///
/// # Errors
/// They name the server, and the topic or the subscription. [`Kind::Unavailable`]: nobody answers, and what to start.
/// [`Kind::Unsupported`]: JetStream is off, or the server keeps something otherwise than asked.
/// [`Kind::Invalid`]: also a message larger than the server takes, and a step that acknowledges work which may be done
/// again after a topic that it publishes to has forgotten its ids.
///
/// # Malformed messages
/// What cannot be read goes to the topic's dead letters with the reason, and out of the stream. A message that another
/// program has published to the topic's subjects is taken as one item of bytes.
pub struct Nats {
    core: Arc<Core>,
}

/// How a [`Nats`] is made.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is built"]
pub struct NatsBuilder {
    url: String,
    prefix: String,
    timeout: Duration,
    replicas: usize,
    history: Option<Duration>,
}

impl Nats {
    /// What it guarantees.
    pub const GUARANTEES: Guarantees = Guarantees {
        durable: true,
        state: true,
        dedup: Some(plan::LONGEST),
        delays: true,
        first_in_first_out: true,
        emulated: &[
            ("at least once, leases, fencing", "late acknowledgements are refused by the client's clock"),
            ("delays", "sent back until due"),
            ("state", "a key-value bucket, one key at a time"),
            ("priorities", "JetStream has one order"),
            ("order per key", "JetStream holds no key back"),
            ("exact capacity", "counted in messages"),
        ],
        ..Guarantees::none("nats")
    };

    /// Connected to the server, or servers with commas between them, at this URL.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where no NATS server answers; [`Kind::Unsupported`] where its JetStream is off. Both say
    /// what to start.
    pub async fn connect(url: impl Into<String>) -> Result<Nats> {
        Nats::builder(url).connect().await
    }

    /// Settings first.
    pub fn builder(url: impl Into<String>) -> NatsBuilder {
        NatsBuilder {
            url: url.into(),
            prefix: "seedpod".to_string(),
            timeout: Duration::from_secs(5),
            replicas: 1,
            history: None,
        }
    }
}

impl NatsBuilder {
    /// What its streams and subjects begin with: brokers of another prefix know nothing of its topics. Letters, digits,
    /// `-` and `_`, at most 40. Default `seedpod`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long to wait for an answer of the server. Default 5 s, as async-nats has it for JetStream; at most 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// On how many servers of a cluster each topic is kept. Default 1, JetStream's.
    pub fn replicas(mut self, servers: usize) -> Self {
        self.replicas = servers;
        self
    }

    /// Topics that it declares keep every message for this long, settled or not, and a new subscription begins with the
    /// oldest. What is not settled by then is gone, and the capacity counts all that is kept. Default: none.
    pub fn history(mut self, keep: Duration) -> Self {
        self.history = Some(keep);
        self
    }

    /// A broker that connects at its first call.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a prefix or a timeout that cannot be.
    pub fn build(self) -> Result<Nats> {
        let invalid = |message: String| Error::new(Kind::Invalid, message).at(format!("NATS server {}", self.shown()));
        let Some(names) = Names::new(&self.prefix) else {
            return Err(invalid(format!("{:?} is no prefix: 1 to 40 letters, digits, - and _", self.prefix)));
        };
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            // twice of it must be far within the time in which the server knows a publish again
            return Err(invalid(format!("a timeout of {:?}: it is above 0, and at most 30 s", self.timeout)));
        }
        if self.history.is_some_and(|history| history.is_zero()) {
            return Err(invalid("a history of no time at all".to_string()));
        }
        let NatsBuilder { url, timeout, replicas, history, .. } = self;
        Ok(Nats { core: Core::new(Settings { url, names, timeout, replicas: replicas.max(1), history }) })
    }

    /// A broker that is connected.
    ///
    /// # Errors
    /// Those of [`build`](NatsBuilder::build) and [`Nats::connect`].
    pub async fn connect(self) -> Result<Nats> {
        let broker = self.build()?;
        broker.core.link().await?;
        Ok(broker)
    }

    fn shown(&self) -> String {
        link::without_secret(&self.url)
    }
}

const TIMEOUT_MAX: Duration = Duration::from_secs(30);

impl Broker for Nats {
    fn guarantees(&self) -> Guarantees {
        Nats::GUARANTEES
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        match Nats::GUARANTEES.check(topic, &options) {
            Ok(()) => Answer::later(self.core.declare(topic, options)),
            Err(error) => Answer::now(Err(error)),
        }
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        Answer::later(self.core.publish(batches))
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        Answer::later(self.core.lease(subscription, want))
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        Answer::later(self.core.settle(step))
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        Answer::later(self.core.load(key))
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        Answer::later(self.core.inspect(topic))
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("url", &link::without_secret(&self.core.settings.url)).finish_non_exhaustive()
    }
}

/// The broker of a URL, not connected yet.
pub(super) fn open(url: &str) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(Nats::builder(url).build()?))
}
