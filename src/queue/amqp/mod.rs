//! The broker on RabbitMQ: topics are exchanges, subscriptions are quorum queues, and what the server answered for is
//! on its disk.
//!
//! Pure parts, tested by loops: what things are called (`names`), what must be there (`topology`), a delay as a walk
//! down a ladder of queues (`delay`), a message as AMQP carries it (`letter`), which leases are out (`held`), what is
//! known of topics (`known`). Around them the shell: one connection and the bound on every call (`session`), and a file
//! for each thing that is asked of a broker.

mod address;
mod delay;
mod fault;
mod fetch;
mod held;
mod known;
mod letter;
mod names;
mod publishing;
mod session;
mod settle;
mod shared;
mod topology;
mod unsettled;

use self::{
    address::Address,
    shared::{Shared, at},
};
use crate::base::{Answer, Error, Few, Kind, Name, Result};
use crate::queue::{
    Broker, Delivery, Guarantees, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
};
use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The broker on RabbitMQ, by AMQP 0-9-1: from version 3.10 on, whose quorum queues it is made of.
///
/// A topic is an exchange of its name; a subscription is a quorum queue `topic/subscription` that is bound to it, so
/// others may publish to the exchange and read from the queue. A batch travels as one message per item, in the form of
/// [`queue`](crate::queue)'s brokers on servers: headers of strangers are kept, and a stranger's message has the id that
/// its `message-id` makes, else one that its bytes make.
///
/// ```no_run
/// use seedpod::queue::{Amqp, Broker, BrokerExt, Id, Publish, Topic, TopicOptions, Want};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// let broker = Amqp::connect("amqp://127.0.0.1:5672").await?;
/// let orders = Topic::new("orders");
/// broker.declare(&orders, TopicOptions::new().subscription("mailer").dead_letters("orders.dead")).await?;
/// broker.send(Publish::new(&orders, Id::of("order 17"), "a book")).await?;
/// for order in broker.lease(&orders.subscription("mailer"), Want::one()).await? {
///     broker.ack(order.lease).await?;
/// }
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// - **Publishing**: always confirmed: a quorum of the server's nodes has it on disk. Messages that no queue took are
///   returned by the server, and counted as kept by nobody. At its capacity (`x-max-length`, which the server counts per
///   subscription and in ready messages) a topic waits or refuses, as declared.
/// - **Leasing**: the server hands out as many messages as were asked for, and none to who does not ask. A lease runs on
///   this process's clock. It is fenced by the channel that it came over: settling over another is impossible, and once
///   the channel is gone the server has the message back, and settling is refused. Extending asks the server first.
/// - **Settling**: what is published, retried or given up is confirmed before the message is acknowledged: a step that is
///   cut short comes again. An acknowledgement is answered once the server has read it.
/// - **Delays**: of publishes and retries, up to 19 days; late by less than 100 ms or a thirty-second, and by what each
///   of up to six queues on the way takes: tens of milliseconds on an idle server. A topic has 24 such queues at most, made when first needed.
/// - **Dead letters**: what is rejected goes there confirmed, with reason and history. What comes back to its queue more
///   than 20 times ([`delivery_limit`](Amqp::delivery_limit)) is moved there by the server, at least once; on arrival it
///   says so. Without dead letters the server has no such limit: it would drop messages.
/// - **Connection**: every call ends within 5 s ([`patience`](Amqp::patience)) or is waiting for messages or room; one
///   that takes longer ends the connection, and the next call makes another. What waits for messages asks anew every
///   10 s, so a consumer that died in silence stalls nobody; where the connection is lost, it ends with an error.
///
/// # Not guaranteed
/// - A step is not atomic, and one that fails half-way is partly done. A publish that fails may have reached some of its
///   subscriptions, and published again it reaches them twice: RabbitMQ knows no duplicates.
/// - A queue that was made in the last second before the server was killed may answer nobody any more, whichever client
///   asks (seen with 3.10.8): calls time out until it is deleted by hand.
/// - An acknowledgement that the server had read, and not written yet when it was killed, is lost: the message comes
///   again. So does what was retried just before, where the old one could not be acknowledged any more.
/// - A process that is stopped, or cut off from the server, has leases that run out on its own clock while the server
///   hands out the message again after two missed heartbeats (20 s; `?heartbeat=` in the URL): for a moment two may work
///   on it. Only one can settle it.
/// - A lease that is held for longer than the server's `consumer_timeout` (30 minutes) is taken away by it, with those
///   that came over the same channel. Extending cannot help; a larger value on the server does.
/// - A retry goes to the end of its queue, also one that is charged with nothing. Where its queue is full, it goes back
///   as it is, which counts as a lapse.
/// - Attempts: failures and crashes are what retries said, in the message's headers; lapses are what the server counts,
///   and it counts a crashed process, a lost connection and a lease that ran out alike.
/// - [`inspect`](Broker::inspect) sees what is ready anywhere; what is leased, delayed or rejected only where it was done
///   through this handle, and only subscriptions that it has declared or leased from. It does not know the oldest.
/// - When a message was published is known to the second, by the publisher's clock.
/// - Refused: priorities (quorum queues have none before 4.0, and a lane for each of 256 would be 256 queues per
///   subscription), order per key, dedup, state.
///
/// # Errors
/// They name the topic or subscription and the server, never its user or password. Where no server is, or another, they
/// say what to start.
pub struct Amqp {
    shared: Arc<Shared>,
}

impl Amqp {
    /// What it guarantees.
    pub const GUARANTEES: Guarantees = Guarantees {
        durable: true,
        delays: true,
        emulated: &[
            ("at least once, leases, fencing", "a lease ends with its channel"),
            ("delays", "a ladder of queues that let go after a time"),
            ("ids remembered", "RabbitMQ remembers none"),
            ("exact capacity", "publishers under way at the bound get in"),
        ],
        ..Guarantees::none("amqp")
    };

    /// The broker at a URL such as `amqp://user:password@host:5672/virtual-host`, connected: what is left out is `guest`
    /// with password `guest`, port 5672 and the virtual host `/`, as RabbitMQ has them.
    ///
    /// # Errors
    /// Those of [`new`](Amqp::new); [`Kind::Unavailable`] where no server answers, [`Kind::Unsupported`] where one does
    /// that is no RabbitMQ, both saying what to start; [`Kind::Rejected`] for a user or virtual host that it refuses.
    pub async fn connect(url: &str) -> Result<Amqp> {
        let broker = Amqp::new(url)?;
        at(broker.shared.session().await, || format!("broker {}", broker.shared.address))?;
        Ok(broker)
    }

    /// The broker at this URL, which connects at its first call.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what is no such URL; [`Kind::Unsupported`] for `amqps:`, since this build speaks no TLS.
    pub fn new(url: &str) -> Result<Amqp> {
        Ok(Amqp { shared: Shared::new(Address::parse(url)?, PATIENCE, DELIVERIES) })
    }

    /// How long a call waits for the server. Default 5 s, as with async-nats. Set it before the first call.
    #[must_use]
    pub fn patience(self, wait: Duration) -> Self {
        Amqp { shared: Shared::new(self.shared.address.clone(), wait, self.shared.deliveries) }
    }

    /// How often a message of a topic with dead letters may come back to its queue before the server gives it up.
    /// Default 20, as RabbitMQ has it from 4.0 on. Keep it above a worker's own budget of lapses, which says more about
    /// why. The server refuses another value for a subscription that is there. Set it before the first call.
    #[must_use]
    pub fn delivery_limit(self, returns: u32) -> Self {
        Amqp { shared: Shared::new(self.shared.address.clone(), self.shared.patience, returns) }
    }
}

/// The broker at this URL, for those who find theirs by configuration.
pub(in crate::queue) fn open(url: &str) -> Result<Arc<dyn Broker>> {
    Ok(Arc::new(Amqp::new(url)?))
}

const PATIENCE: Duration = Duration::from_secs(5);
const DELIVERIES: u32 = 20;

impl Broker for Amqp {
    fn guarantees(&self) -> Guarantees {
        Amqp::GUARANTEES
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        Answer::later(async move {
            let declared = self.shared.declare(topic, &options).await;
            at(declared, || self.shared.place(format_args!("topic {topic}")))
        })
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        Answer::later(async move {
            let published = self.shared.publish(&batches).await;
            at(published, || self.shared.place(topics(&batches)))
        })
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        Answer::later(async move {
            let leased = self.shared.lease(subscription, want).await;
            at(leased, || self.shared.place(format_args!("subscription {subscription}")))
        })
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        Answer::later(async move {
            let made = step.publishes.clone();
            at(self.shared.settle(step).await, || {
                if made.is_empty() {
                    format!("broker {}", self.shared.address)
                } else {
                    self.shared.place(topics(&made))
                }
            })
        })
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        let lack = "the broker amqp keeps no state: RabbitMQ has no place for it";
        Answer::now(Err(Error::new(Kind::Unsupported, lack).at(format!("state {key}"))))
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        Answer::later(async move {
            at(self.shared.inspect(topic).await, || self.shared.place(format_args!("topic {topic}")))
        })
    }
}

impl Shared {
    async fn lease(self: &Arc<Self>, subscription: &Subscription, want: Want) -> Result<Few<Delivery>> {
        if want.items == 0 || want.chunk == 0 {
            return Err(Error::new(Kind::Invalid, "it asks for nothing"));
        }
        let session = self.session().await?;
        let queue = self.ensure_queue(&session, subscription).await?;
        self.watch_leases();
        let (answer, leased) = oneshot::channel();
        // in a task of its own: what the server has sent must go back, though nobody waits for it any more
        tokio::spawn(fetch::lease(self.clone(), session, subscription.clone(), queue, want, answer));
        let leased = leased.await.unwrap_or_else(|_| Err(Error::new(Kind::Closed, "the runtime is ending")));
        leased.inspect_err(|error| {
            if error.kind() == Kind::NotFound {
                self.topics.lock().forget(&subscription.topic);
            }
        })
    }
}

fn topics(batches: &[Publish]) -> String {
    let mut names: Vec<&str> = batches.iter().map(|publish| publish.topic.as_str()).collect();
    names.dedup();
    format!("topic {}", names.join(", "))
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp").field("server", &self.shared.address).finish_non_exhaustive()
    }
}
