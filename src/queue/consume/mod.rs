//! The pump: deliveries of a subscription → Service.

mod message;
mod verdict;
mod worker;

pub use message::Message;

use super::{Broker, Subscription, TopicOptions};
use crate::{
    base::{Backoff, BoxError, Error, Kind, Result, Seed},
    pod::{Container, Context},
};
use futures::{
    StreamExt,
    future::{BoxFuture, Either},
    stream::FuturesUnordered,
};
use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tower::Service;
use verdict::Policy;

/// Calls the service for each message of the subscription, one at a time unless told otherwise.
///
/// 1. Lease one message per idle worker; none is held that is not worked on.
/// 2. Run the service; renew the lease at half its time, for as long as the service runs.
/// 3. Settle by how it ended:
///
/// | the service | the message |
/// | --- | --- |
/// | returns `Ok` | is acknowledged |
/// | fails as [`Invalid`](Kind::Invalid) | goes to the dead letters: trying again cannot help |
/// | fails with a [`retry_after`](Error::retry_after) | comes back then, uncharged |
/// | fails otherwise | comes back after a back-off, until [`attempts`](Consume::attempts) are spent; then dead letters |
/// | panics | likewise, until [`crashes`](Consume::crashes) are spent |
/// | is killed, or loses its lease | comes back when the lease has run out, until [`lapses`](Consume::lapses) are spent |
///
/// Told to stop, it leases no more and lets what runs end within the container's grace; a message whose service was
/// never ready goes back, uncharged.
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
    S: Service<Message, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    Consume {
        broker,
        subscription: Arc::new(subscription),
        service,
        concurrency: 1,
        hold: Duration::from_secs(30),
        policy: Policy {
            attempts: 25,
            crashes: 3,
            lapses: 20,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(600)),
        },
        declare: None,
        seed: None,
        context: None,
    }
}

/// As good as for ever, and within what the clock can tell.
const HOLD_MAX: Duration = Duration::from_secs(86_400 * 365);

/// The pump that [`consume`] makes. Each setting stands for all of its workers.
#[derive(Clone)]
#[must_use = "it does nothing until it is run"]
pub struct Consume<S> {
    broker: Arc<dyn Broker>,
    subscription: Arc<Subscription>,
    service: S,
    concurrency: usize,
    hold: Duration,
    policy: Policy,
    declare: Option<TopicOptions>,
    seed: Option<Seed>,
    /// The container that it runs as.
    context: Option<Context>,
}

impl<S> Consume<S> {
    /// How many messages are worked on at once. Default 1; 0 counts as 1.
    pub fn concurrency(mut self, workers: usize) -> Self {
        self.concurrency = workers.max(1);
        self
    }

    /// How long a lease holds: a message whose worker was killed comes back after this. Default 30 s, as with SQS and
    /// NATS JetStream.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold.clamp(Duration::from_millis(1), HOLD_MAX);
        self
    }

    /// How often a message may fail before it goes to the dead letters. Default 25, as with Sidekiq, River and Asynq.
    pub fn attempts(mut self, most: u16) -> Self {
        self.policy.attempts = most;
        self
    }

    /// How often its handler may panic before it goes to the dead letters. Default 3, as with Sidekiq's poison pills.
    pub fn crashes(mut self, most: u16) -> Self {
        self.policy.crashes = most;
        self
    }

    /// How often its lease may run out before it goes to the dead letters untried. Default 20, as RabbitMQ's delivery
    /// limit.
    pub fn lapses(mut self, most: u16) -> Self {
        self.policy.lapses = most.max(1);
        self
    }

    /// How long to wait before the next try. Default 1 s, doubling up to 10 minutes, with full jitter: Celery's.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// Declares the topic so before it begins, with this subscription among the others.
    pub fn declare(mut self, options: TopicOptions) -> Self {
        self.declare = Some(options);
        self
    }

    /// What the jitter comes from. Default: the container's seed, else the simulation's, else the system's.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl<S> Consume<S>
where
    S: Service<Message, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// Runs in the caller's task until told to stop, then until what runs has ended.
    ///
    /// **Cancel-safety**: dropped, it takes its handlers along; their messages come back when their leases run out.
    ///
    /// # Errors
    /// Those of [`consume`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result {
        self.pump(stop, |worker| worker).await
    }

    /// Runs its workers where `spawn` puts them.
    async fn pump(
        self,
        stop: impl Future<Output = ()>,
        spawn: impl Fn(BoxFuture<'static, Result>) -> BoxFuture<'static, Result>,
    ) -> Result {
        if let Some(mut options) = self.declare.clone() {
            if !options.subscriptions.contains(&self.subscription.name) {
                options.subscriptions.push(self.subscription.name.clone());
            }
            self.broker.declare(&self.subscription.topic, options).await?;
        }
        if let Some(context) = &self.context {
            context.ready();
        }
        let stopping = CancellationToken::new();
        let _stop_when_dropped = stopping.clone().drop_guard();
        let seed = self.seed.unwrap_or_else(Seed::ambient).fork("consume").fork(&self.subscription.to_string());
        let work = Arc::new(self);
        let mut workers: FuturesUnordered<_> = (0..work.concurrency as u64)
            .map(|number| spawn(Box::pin(work.clone().work(stopping.clone(), seed.fork_index(number).rng()))))
            .collect();
        let mut stop = pin!(Either::Left(stop));
        let mut ended = Ok(());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    stopping.cancel();
                    stop.set(Either::Right(std::future::pending()));
                }
                worker = workers.next() => match worker {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        stopping.cancel();
                        ended = ended.and(Err(error));
                    }
                    None => return ended,
                },
            }
        }
    }
}

/// Its workers are tasks of the container: a kill ends them at their next await, and what they held comes back when its
/// leases have run out. Failures go to the container's log.
impl<S> Container for Consume<S>
where
    S: Service<Message, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let seed = self.seed.unwrap_or_else(|| context.seed());
        let pump = Consume { seed: Some(seed), context: Some(context.clone()), ..self.clone() };
        let stopped = context.stopped();
        Box::pin(pump.pump(stopped, move |worker| {
            let worker = context.spawn(worker);
            Box::pin(async move {
                let ended = worker.await;
                ended.unwrap_or_else(|error| Err(Error::new(Kind::Panicked, "a worker is gone").because(error)))
            })
        }))
    }
}

impl<S> fmt::Debug for Consume<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consume")
            .field("subscription", &self.subscription)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
