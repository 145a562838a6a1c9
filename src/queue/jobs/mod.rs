//! The typed queue: submit values, and work on them.

mod builder;
mod job;
mod layout;
mod pause;
mod rows;
mod schema;
mod submit;
mod task;
mod worker;

pub(in crate::queue) use rows::{Sweep, cancel_key, held, is_replaced, result_key};

pub use builder::{Need, QueueBuilder};
pub use job::{Job, Submitted, SubmittedAll, Taken, Unique};
pub use schema::Schema;
pub use submit::Submit;
pub use task::{Task, Work};
pub use worker::Worker;

use super::{
    Broker, Id, Json, Progress, Subscription, Topic, TopicStats,
    id::Ids,
    lines::Lines,
    scale::{Meter, Metrics},
};
use crate::base::{
    Backoff, Error, Kind, Name, Result,
    time::{self, WallClock},
};
use layout::Layout;
use serde::de::DeserializeOwned;
use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

/// A queue of values on any broker: what is submitted is stored once the submission returns, and worked on until it is
/// done or given up.
///
/// It is a topic with one subscription, `workers`, unless the [builder](Queue::builder) names others: each of them sees
/// every job. [Levels](QueueBuilder::levels) and [tenants](QueueBuilder::tenants) make it several lines, each a topic of
/// its own, `<name>.line-<level>-<line>`. Beside it stand `<name>.dead` for what was given up, `<name>.quarantine` for what
/// crashes its workers, and `<name>.sweep`, by which rows of the broker's state go when their time is over.
///
/// 1. [`submit`](Queue::submit) a value, or a [`Job`]: a value with a delay, a priority, a key, a unique key; or
///    [many](Queue::submit_many), or at the [ticks of a clock](Queue::cron).
/// 2. [`worker`](Queue::worker): a closure or a service that works on one at a time, or on several.
/// 3. Or by hand: [`Work::take`], then [`Task::complete`], [`Task::retry`] or [`Task::reject`].
///
/// Clones share. Values travel by reference in this process, else by the codec `C`.
///
/// # Guarantees
/// Those of its broker; [`QueueBuilder::needs`] refuses a broker that lacks one. At least once: make effects idempotent
/// by the message's id.
///
/// # Errors
/// The broker's, which name the topic. [`Kind::Unsupported`], naming the broker, where it cannot do what is asked.
///
/// ```
/// use seedpod::queue::{Memory, Queue};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let jobs: Queue<String> = Queue::open(Arc::new(Memory::new()), "resize").await?;
/// jobs.submit("a.png".to_string()).await?;
///
/// let worker = jobs.worker(|path: String| async move {
///     println!("{path} resized");
///     Ok::<_, seedpod::Error>(())
/// });
/// worker.concurrency(8).run_until(tokio::time::sleep(Duration::from_secs(1))).await?;
/// assert_eq!(jobs.inspect().await?.stored, 0);
/// # Ok(()) }
/// ```
pub struct Queue<T, C = Json> {
    inner: Arc<Inner<T>>,
    codec: PhantomData<fn() -> C>,
}

struct Inner<T> {
    broker: Arc<dyn Broker>,
    topic: Topic,
    workers: Subscription,
    dead: Topic,
    quarantine: Topic,
    sweep: Topic,
    layout: Layout,
    /// What is taken by hand comes from these.
    lines: Lines,
    schema: Schema<T>,
    wall: WallClock,
    dedup: Option<Duration>,
    /// Of what is submitted without one.
    ids: Ids,
}

impl<T: Send + Sync + 'static> Queue<T> {
    /// The queue of this name, in JSON; see [`builder`](Queue::builder) for the rest.
    ///
    /// # Errors
    /// Those of [`QueueBuilder::open`].
    pub async fn open(broker: Arc<dyn Broker>, name: impl Into<Name>) -> Result<Queue<T>> {
        Queue::builder(broker, name).open().await
    }

    /// The settings of a queue of this name.
    pub fn builder(broker: Arc<dyn Broker>, name: impl Into<Name>) -> QueueBuilder<T> {
        QueueBuilder::new(broker, name.into())
    }
}

impl<T, C> Queue<T, C> {
    /// The topic that it is.
    pub fn topic(&self) -> &Topic {
        &self.inner.topic
    }

    /// Where what was given up goes.
    pub fn dead_letters(&self) -> &Topic {
        &self.inner.dead
    }

    /// The broker that it is on.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// The subscription that its workers have unless they name another.
    pub fn subscription(&self) -> &Subscription {
        &self.inner.workers
    }

    pub(super) fn wall(&self) -> WallClock {
        self.inner.wall
    }

    /// For how long it remembers ids.
    pub(super) fn dedup(&self) -> Option<Duration> {
        self.inner.dedup
    }

    /// What it holds.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn inspect(&self) -> Result<TopicStats> {
        let mut sum = TopicStats::default();
        for line in self.inner.layout.topics() {
            sum = sum.and(self.inner.broker.inspect(line).await?);
        }
        Ok(sum)
    }

    /// What this meter has measured of the queue's workers, together with what the queue holds now.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn metrics(&self, meter: &Meter) -> Result<Metrics> {
        meter.seen(&self.inspect().await?);
        Ok(meter.read())
    }

    /// How far the job of this id is, as its handler said by [`Message::progress`](crate::queue::Message::progress).
    ///
    /// # Errors
    /// Those of [`Progress::of`].
    pub async fn progress(&self, id: Id) -> Result<Option<Progress>> {
        Progress::of(&*self.inner.broker, &self.inner.workers, id).await
    }

    /// Calls off the job of this id: one that waits is given up when a worker comes to it, one that runs is dropped at
    /// its next await, within a tenth of its lease. It goes to the dead letters as `cancelled`. Of one that is done it
    /// changes nothing, and is forgotten after a day.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the broker keeps no state; else the broker's.
    pub async fn cancel(&self, id: Id) -> Result {
        let inner = &self.inner;
        self.needs_state("keeps no state, so nothing can be cancelled")?;
        let key = cancel_key(&inner.workers, id);
        let (version, _) = inner.broker.load(&key).await?;
        if version > 0 {
            return Ok(()); // it is called off already
        }
        let sweep = Sweep::after(&inner.sweep, &key, 1, Duration::from_secs(86_400))?;
        let step = super::Step::new().write(key, 0, "cancelled").publish(sweep);
        match inner.broker.settle(step).await {
            Err(error) if error.kind() == Kind::Conflict => Ok(()), // another did it meanwhile
            done => done,
        }
    }

    /// Waits for what the job of this id [resulted](crate::queue::Done::result) in. It looks again and again, from every
    /// 5 ms to once in a second: put a time-out around it, since a job that fails has no result.
    ///
    /// **Cancel-safety**: it changes nothing; ask again.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the broker keeps no state; [`Kind::Invalid`] where the result is no such value.
    pub async fn result<R: DeserializeOwned>(&self, id: Id) -> Result<R> {
        self.needs_state("keeps no state, so no result")?;
        let key = result_key(&self.inner.workers, id);
        let patience = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
        let mut looks = 0;
        loop {
            let (version, row) = self.inner.broker.load(&key).await?;
            if version > 0 {
                let read = serde_json::from_slice(&row).map_err(Error::from);
                return read.map_err(|error| error.at(format!("result of message {id}")));
            }
            time::sleep(patience.ceiling(looks)).await;
            looks = looks.saturating_add(1);
        }
    }

    fn needs_state(&self, lack: &str) -> Result {
        let guarantees = self.inner.broker.guarantees();
        if guarantees.keeps_rows() {
            return Ok(());
        }
        Err(rows::unsupported(lack, guarantees.name).at(format!("queue {}", self.inner.topic)))
    }
}

impl<T, C> Clone for Queue<T, C> {
    fn clone(&self) -> Self {
        Queue { inner: self.inner.clone(), codec: PhantomData }
    }
}

impl<T, C> fmt::Debug for Queue<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("topic", &self.inner.topic).finish_non_exhaustive()
    }
}
