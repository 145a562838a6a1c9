//! A pool of consumers in this process whose number can be set.

use super::{Count, Measured, Meter, Scale, pool::Pool};
use crate::{
    base::{BoxError, Error, Kind, Result, Seed, sync::Lock},
    pod::{Container, Context},
    queue::{Consume, Done, Message, consume::spawned},
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
/// Each is a pump as it was given, of [`consume`](crate::queue::consume) or of a [queue](crate::queue::Queue::worker), with
/// one message at a time whatever its concurrency, and reports to the [`meter`](Workers::meter). Told to be fewer, the idle ones go first; a busy one goes after its present message, and takes no other. Clones are one pool.
///
/// It does nothing until it is run: in a pod as a container, or by [`run_until`](Workers::run_until). Told to stop, it
/// leases no more and lets what runs end.
///
/// # Errors
/// It ends when the broker refuses one of its workers for good, as the pump does; the others end first.
///
/// ```
/// use seedpod::queue::{self, Broker, BrokerExt, Id, Memory, Message, Publish, Topic, TopicOptions};
/// use seedpod::queue::scale::{Scale, Workers};
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
/// let pump = queue::consume(broker.clone(), jobs.subscription("workers"), work).attempts(5);
/// let workers = Workers::new(pump);
/// workers.set(4).await?;
/// workers.run_until(tokio::time::sleep(Duration::from_secs(2))).await?;
/// assert_eq!(broker.inspect(&jobs).await?.stored, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Workers<S> {
    pump: Consume<S>,
    meter: Meter,
    shared: Arc<Shared>,
}

struct Shared {
    pool: Lock<Pool>,
    changed: Notify,
}

impl<S> Workers<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// Workers of which each is such a pump: one, until they are [set](Scale::set).
    pub fn new(pump: Consume<S>) -> Self {
        let shared = Arc::new(Shared { pool: Lock::new(Pool::new(1)), changed: Notify::new() });
        Workers { pump, meter: Meter::default(), shared }
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
        self.run_pool(None, stop).await
    }

    /// Runs the workers, as tasks of the container where there is one.
    async fn run_pool(&self, context: Option<Context>, stop: impl Future<Output = ()>) -> Result {
        let _run = Run::begin(self)?;
        let ambient = || context.as_ref().map_or_else(Seed::ambient, Context::seed);
        let seed = self.pump.seeded().unwrap_or_else(ambient).fork("workers");
        let mut workers = FuturesUnordered::new();
        let mut stop = pin!(Either::Left(stop));
        let mut ended = Ok(());
        let mut ending = false;
        loop {
            while self.shared.pool.lock().missing() > 0 {
                let (number, told, under_way) = {
                    let under_way = Arc::default();
                    let (number, told) = self.shared.pool.lock().start(Arc::clone(&under_way));
                    (number, told, under_way)
                };
                let one = self.pump.clone().around(|service| Measured::new(self.meter.clone(), service, under_way));
                let one = one.concurrency(1).seed(seed.fork_index(number)).inside(context.clone());
                let worker = Box::pin(async move { one.run_until(told.cancelled()).await });
                let worker = match &context {
                    Some(context) => spawned(context, worker),
                    None => worker,
                };
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
            let place = format!("workers of {}", workers.pump.subscription());
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
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let workers = self.clone();
        Box::pin(async move {
            context.ready();
            let stopped = context.stopped();
            workers.run_pool(Some(context), stopped).await
        })
    }
}

impl<S> fmt::Debug for Workers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("subscription", self.pump.subscription())
            .field("count", &self.shared.pool.lock().count())
            .finish_non_exhaustive()
    }
}
