//! A pool of consumers in this process whose number can be set.

use super::{Count, Measured, Meter, Scale, pool::Pool};
use crate::{
    base::{BoxError, Error, Kind, Result, Seed, sync::Lock},
    pod::{Container, Context},
    queue::{Broker, Consume, Message, Subscription, consume},
};
use async_trait::async_trait;
use futures::{
    StreamExt,
    future::{BoxFuture, Either},
    stream::FuturesUnordered,
};
use std::{fmt, future::Future, pin::pin, sync::Arc};
use tokio::sync::Notify;
use tower::Service;

/// Competing consumers of one subscription in this process, as many as they are told to be.
///
/// Each is a [`consume`] of its own with one message at a time, and reports to the [`meter`](Workers::meter). Told to be
/// fewer, the idle ones go first; a busy one goes after its present message, and takes no other. Clones are one pool.
///
/// It does nothing until it is run: in a pod as a container, or by [`run_until`](Workers::run_until). Told to stop, it
/// leases no more and lets what runs end.
///
/// # Errors
/// It ends when the broker refuses one of its workers for good, as [`consume`] does; the others end first.
///
/// ```
/// use seedpod::queue::{Broker, BrokerExt, Id, Memory, Message, Publish, Topic, TopicOptions, scale::{Scale, Workers}};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, jobs) = (Arc::new(Memory::new()), Topic::new("jobs"));
/// broker.declare(&jobs, TopicOptions::new().subscription("workers")).await?;
/// for job in 0..8 {
///     broker.send(Publish::json(&jobs, Id::of(format!("job {job}")), job)).await?;
/// }
/// let work = tower::service_fn(|_: Message| async {
///     tokio::time::sleep(Duration::from_secs(1)).await;
///     Ok::<_, seedpod::Error>(())
/// });
/// let workers = Workers::new(broker.clone(), jobs.subscription("workers"), work).each(|consume| consume.attempts(5));
/// workers.set(4).await?;
/// workers.run_until(tokio::time::sleep(Duration::from_secs(2))).await?;
/// assert_eq!(broker.inspect(&jobs).await?.stored, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Workers<S> {
    broker: Arc<dyn Broker>,
    subscription: Subscription,
    service: S,
    each: Arc<dyn Fn(Consume<Measured<S>>) -> Consume<Measured<S>> + Send + Sync>,
    seed: Option<Seed>,
    meter: Meter,
    shared: Arc<Shared>,
}

struct Shared {
    pool: Lock<Pool>,
    changed: Notify,
}

impl<S> Workers<S>
where
    S: Service<Message, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// Workers that call this service for each message of the subscription: one, until they are [set](Scale::set).
    pub fn new(broker: Arc<dyn Broker>, subscription: Subscription, service: S) -> Self {
        let shared = Arc::new(Shared { pool: Lock::new(Pool::new(1)), changed: Notify::new() });
        let each = Arc::new(|consume| consume);
        Workers { broker, subscription, service, each, seed: None, meter: Meter::default(), shared }
    }

    /// Makes each worker so: its attempts, its back-off, how long it holds a lease. It has one message at a time,
    /// whatever is said here.
    #[must_use]
    pub fn each(mut self, each: impl Fn(Consume<Measured<S>>) -> Consume<Measured<S>> + Send + Sync + 'static) -> Self {
        self.each = Arc::new(each);
        self
    }

    /// What the workers' jitter comes from. Default: the container's seed, else the simulation's, else the system's.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What they measure: each message that they work on.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// How many there are.
    pub fn count(&self) -> Count {
        self.shared.pool.lock().count()
    }

    /// Runs in the caller's task until told to stop, then until what runs has ended.
    ///
    /// **Cancel-safety**: dropped, it takes its workers along; their messages come back when their leases run out.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where it is run already; else as above.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result {
        let seed = self.seed.unwrap_or_else(Seed::ambient);
        self.run_pool(seed, stop, |worker| worker).await
    }

    /// Runs the workers where `spawn` puts them.
    async fn run_pool(
        &self,
        seed: Seed,
        stop: impl Future<Output = ()>,
        spawn: impl Fn(BoxFuture<'static, Result>) -> BoxFuture<'static, Result>,
    ) -> Result {
        let _run = Run::begin(self)?;
        let seed = seed.fork("workers");
        let mut workers = FuturesUnordered::new();
        let mut stop = pin!(Either::Left(stop));
        let mut ended = Ok(());
        let mut ending = false;
        loop {
            while self.shared.pool.lock().missing() > 0 {
                let service = Measured::new(self.meter.clone(), self.service.clone());
                let (number, told) = self.shared.pool.lock().start(service.under_way());
                let one = (self.each)(consume(self.broker.clone(), self.subscription.clone(), service));
                let one = one.concurrency(1).seed(seed.fork_index(number));
                let worker = spawn(Box::pin(async move { one.run_until(told.cancelled()).await }));
                workers.push(async move { (number, worker.await) });
            }
            self.meter.workers(self.count().running);
            if ending && workers.is_empty() {
                return ended;
            }
            tokio::select! {
                biased;
                () = &mut stop => {
                    ending = true;
                    self.shared.pool.lock().end();
                    stop.set(Either::Right(std::future::pending()));
                }
                () = self.shared.changed.notified() => {}
                Some((number, end)) = workers.next() => {
                    let mut pool = self.shared.pool.lock();
                    pool.ended(number);
                    if let Err(error) = end {
                        ending = true;
                        pool.end();
                        ended = ended.and(Err(error));
                    }
                }
            }
        }
    }
}

/// One run of a pool, over when dropped.
struct Run {
    shared: Arc<Shared>,
    meter: Meter,
}

impl Run {
    fn begin<S>(workers: &Workers<S>) -> Result<Run> {
        if !workers.shared.pool.lock().begin() {
            let place = format!("workers of {}", workers.subscription);
            return Err(Error::new(Kind::Conflict, "they are run already").at(place));
        }
        Ok(Run { shared: workers.shared.clone(), meter: workers.meter.clone() })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.shared.pool.lock().over();
        self.meter.workers(0);
    }
}

#[async_trait]
impl<S: Send + Sync + 'static> Scale for Workers<S> {
    async fn current(&self) -> Result<Count> {
        Ok(self.shared.pool.lock().count())
    }

    async fn set(&self, workers: u32) -> Result {
        self.shared.pool.lock().set(workers);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn meter(&self) -> Option<Meter> {
        Some(self.meter.clone())
    }
}

/// Its workers are tasks of the container: a kill ends them at their next await, and what they held comes back when its
/// leases have run out.
impl<S> Container for Workers<S>
where
    S: Service<Message, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let workers = self.clone();
        Box::pin(async move {
            context.ready();
            let seed = workers.seed.unwrap_or_else(|| context.seed());
            let spawn = |worker| {
                let task = context.spawn(worker);
                let end = async move {
                    let ended = task.await;
                    ended.unwrap_or_else(|error| Err(Error::new(Kind::Panicked, "a worker is gone").because(error)))
                };
                Box::pin(end) as BoxFuture<'static, Result>
            };
            workers.run_pool(seed, context.stopped(), spawn).await
        })
    }
}

impl<S> fmt::Debug for Workers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("subscription", &self.subscription)
            .field("count", &self.shared.pool.lock().count())
            .finish_non_exhaustive()
    }
}
