//! The pump: deliveries of a subscription → Service.

mod aside;
mod control;
mod done;
mod message;
mod pulse;
mod quarantine;
mod verdict;
mod worker;

pub use control::{Control, Tally};
pub use done::Done;
pub use message::Message;
pub use quarantine::{Quarantine, QuarantineNote};

use super::{Broker, Subscription, Topic, TopicOptions};
use crate::{
    base::{Backoff, BoxError, Error, Kind, Result, Seed, time},
    pod::{Container, Context},
};
use futures::{
    StreamExt,
    future::{BoxFuture, Either},
    stream::FuturesUnordered,
};
use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};
use tower::Service;
use verdict::Policy;
use worker::Stopping;

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
/// | fails as [`Invalid`](Kind::Invalid) | goes to the dead letters: trying again cannot help |
/// | fails with a [`retry_after`](Error::retry_after) | comes back then, uncharged |
/// | fails otherwise | comes back after a back-off, until [`attempts`](Consume::attempts) are spent; then dead letters |
/// | panics, or fails as [`Panicked`](Kind::Panicked) | likewise, until [`crashes`](Consume::crashes) are spent |
/// | is killed, or loses its lease | comes back when the lease has run out, until [`lapses`](Consume::lapses) are spent |
/// | makes what the broker refuses for good | fails, as above |
///
/// What crashes or loses its lease twice can go to a [quarantine](Quarantine) first. [`control`](Consume::control) pauses
/// it while it runs, and counts.
///
/// Told to stop, it leases no more and lets what runs end within the container's grace, or within
/// [`drain`](Consume::drain), after which it hands back what is left, uncharged.
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
        },
        quarantine: None,
        silence: Duration::from_secs(3600),
        drain: None,
        rows: None,
        results: Duration::from_secs(3600),
        control: Control::new(1),
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
    /// Whose messages they are, also in quarantine: by it stand their rows in the broker's state.
    home: Arc<Subscription>,
    service: S,
    concurrency: usize,
    hold: Duration,
    policy: Policy,
    quarantine: Option<Quarantine>,
    silence: Duration,
    drain: Option<Duration>,
    /// By which rows of the broker's state go again, where messages have any.
    rows: Option<Topic>,
    results: Duration,
    control: Control,
    declare: Option<TopicOptions>,
    seed: Option<Seed>,
    /// The container that it runs as.
    context: Option<Context>,
}

impl<S> Consume<S> {
    /// How many messages are worked on at once. Default 1; 0 counts as 1.
    pub fn concurrency(mut self, workers: usize) -> Self {
        self.concurrency = workers.max(1);
        self.control = Control::new(self.concurrency);
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

    /// Where those go whose handlers crash, or lose their leases, again and again. Default: nowhere, they stay in line
    /// with the others.
    pub fn quarantine(mut self, quarantine: Quarantine) -> Self {
        self.policy.quarantine = Some(quarantine.after);
        self.quarantine = Some(quarantine);
        self
    }

    /// For how long a handler may wait without a sign of life before its lease is no longer renewed; it ends with the
    /// lease, charged as a lapse. A sign of life is whatever wakes its future, and [`Message::alive`]. Default 1 hour, as
    /// long as Google's Pub/Sub clients extend a lease.
    pub fn silence(mut self, most: Duration) -> Self {
        self.silence = most;
        self
    }

    /// Told to stop, waits this long for what runs, then drops it and hands it back, uncharged. Default: until it has
    /// ended; in a pod the grace ends it, and what it held comes back as a lapse when its lease has run out. Less than the
    /// pod's grace burns no attempt.
    pub fn drain(mut self, within: Duration) -> Self {
        self.drain = Some(within);
        self
    }

    /// For how long the results of a queue's jobs are kept. Default 1 hour.
    pub fn results(mut self, keep: Duration) -> Self {
        self.results = keep;
        self
    }

    /// Runs another service, made of its own, with a handle of its own.
    pub(in crate::queue) fn around<R>(self, service: impl FnOnce(S) -> R) -> Consume<R> {
        Consume {
            service: service(self.service),
            control: Control::new(self.concurrency),
            broker: self.broker,
            subscription: self.subscription,
            home: self.home,
            concurrency: self.concurrency,
            hold: self.hold,
            policy: self.policy,
            quarantine: self.quarantine,
            silence: self.silence,
            drain: self.drain,
            rows: self.rows,
            results: self.results,
            declare: self.declare,
            seed: self.seed,
            context: self.context,
        }
    }

    /// Runs as part of this container: its log tells of failures, its leases say whose they are.
    pub(in crate::queue) fn inside(mut self, context: Option<Context>) -> Self {
        self.context = context;
        self
    }

    /// The seed that it was given.
    pub(in crate::queue) fn seeded(&self) -> Option<Seed> {
        self.seed
    }

    /// Where it gets its messages from.
    pub(in crate::queue) fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Heeds what stands in the broker's state of its messages, and sweeps it by this topic.
    pub(in crate::queue) fn rows(mut self, sweep: Option<Topic>) -> Self {
        self.rows = sweep;
        self
    }

    /// The live handle: pause, resume, how many at once, what was done. Set [`concurrency`](Consume::concurrency) first.
    pub fn control(&self) -> Control {
        self.control.clone()
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
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
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
        let stopping = Stopping::default();
        let _stop_when_dropped = (stopping.soon.clone().drop_guard(), stopping.now.clone().drop_guard());
        let seed = self.seed.unwrap_or_else(Seed::ambient).fork("consume").fork(&self.subscription.to_string());
        let quarantined = self.in_quarantine().await?.map(Arc::new);
        let (drain, work) = (self.drain, Arc::new(self));
        let start = |work: &Arc<Self>, number: usize, seed: Seed| {
            let rng = seed.fork_index(number as u64).rng();
            spawn(Box::pin(work.clone().work(number, stopping.clone(), rng)))
        };
        let mut workers: FuturesUnordered<_> = (0..work.concurrency).map(|number| start(&work, number, seed)).collect();
        if let Some(sweep) = &work.rows {
            let subscription = sweep.subscription(aside::WORKERS);
            let sweeper = consume(work.broker.clone(), subscription, aside::Sweeper(work.broker.clone()));
            let rng = seed.fork("sweep").rng();
            workers.push(spawn(Box::pin(Arc::new(sweeper).work(0, stopping.clone(), rng))));
        }
        workers.extend(quarantined.iter().map(|work| start(work, 0, seed.fork("quarantine"))));
        let mut stop = pin!(Either::Left(stop));
        let mut patience = pin!(Either::Right(std::future::pending()));
        let mut ended = Ok(());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    stopping.soon.cancel();
                    stop.set(Either::Right(std::future::pending()));
                    if let Some(drain) = drain {
                        patience.set(Either::Left(time::sleep(drain)));
                    }
                }
                () = &mut patience => {
                    stopping.now.cancel();
                    patience.set(Either::Right(std::future::pending()));
                }
                worker = workers.next() => match worker {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        stopping.soon.cancel();
                        ended = ended.and(Err(error));
                    }
                    None => return ended,
                },
            }
        }
    }

    /// The same pump for what is in quarantine, which it declares.
    async fn in_quarantine(&self) -> Result<Option<Self>> {
        let Some(quarantine) = &self.quarantine else { return Ok(None) };
        let name = &self.subscription.name;
        self.broker.declare(&quarantine.topic, quarantine.options(name)).await?;
        let policy = Policy {
            crashes: quarantine::CRASHES,
            lapses: quarantine::LAPSES,
            quarantine: None,
            ..self.policy.clone()
        };
        let subscription = Arc::new(quarantine.topic.subscription(name));
        Ok(Some(Consume { policy, subscription, quarantine: None, concurrency: 1, ..self.clone() }))
    }
}

/// Its workers are tasks of the container: a kill ends them at their next await, and what they held comes back when its
/// leases have run out. Failures go to the container's log.
impl<S> Container for Consume<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let seed = self.seed.unwrap_or_else(|| context.seed());
        let pump = Consume { seed: Some(seed), context: Some(context.clone()), ..self.clone() };
        let stopped = context.stopped();
        Box::pin(pump.pump(stopped, move |worker| spawned(&context, worker)))
    }
}

/// A worker as a task of the container.
pub(crate) fn spawned(context: &Context, worker: BoxFuture<'static, Result>) -> BoxFuture<'static, Result> {
    let worker = context.spawn(worker);
    Box::pin(async move {
        let ended = worker.await;
        ended.unwrap_or_else(|error| Err(Error::new(Kind::Panicked, "a worker is gone").because(error)))
    })
}

impl<S> fmt::Debug for Consume<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consume")
            .field("subscription", &self.subscription)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
