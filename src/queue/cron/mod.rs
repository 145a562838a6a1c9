//! Jobs at the ticks of a schedule, from every process and once all the same.

mod civil;
mod field;
mod schedule;

pub use schedule::Schedule;

use super::{BrokerExt, Codec, Guarantees, Id, Job, Json, Publish, Queue, Step};
use crate::{
    base::{Backoff, Error, Kind, Name, Result, Seed, time},
    pod::{Container, Context},
};
use futures::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What becomes of ticks that passed while nobody submitted them: no process ran, or the broker was out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// The last of them is made up for, as anacron and Kubernetes' CronJobs do.
    #[default]
    Last,
    /// Each of them is made up for, the oldest first.
    All,
    /// None; a tick counts as missed a minute after it was due.
    Skip,
}

/// Submits a job to a queue at each tick of a schedule. It runs in every process, and needs no leader: the id of a job is
/// made of the schedule's name and the tick, and who is first submits it.
///
/// # Guarantees
/// One job per tick, from however many processes, where the broker keeps [state](Guarantees::state) and its
/// [steps are atomic](Guarantees::atomic_step): the last tick stands in a row that is written with the job. Elsewhere as far
/// as the queue [remembers ids](crate::queue::QueueBuilder::dedup): a window of less than a minute, which clocks may be
/// apart, is refused, and so is every policy but [`Missed::Skip`], since nobody knows what was missed.
///
/// # Not guaranteed
/// That a tick is on the second: the clock is the one that the process read when it opened the queue, and has kept since.
///
/// **Cancel-safety**: may be dropped at any time; a tick is submitted or not.
///
/// # Errors
/// [`Kind::Invalid`] for a job with an id or a unique key of its own; [`Kind::Unsupported`], naming queue and broker, as
/// above; else those of the broker, where they do not pass.
///
/// ```
/// use seedpod::queue::{Memory, Missed, Queue, Schedule};
/// use std::{sync::Arc, time::{Duration, SystemTime}};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let reports: Queue<u64> = Queue::open(Arc::new(Memory::new()), "reports").await?;
/// let hourly: Schedule = "@hourly".parse()?;
/// let hour = |tick: SystemTime| tick.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / 3600;
/// let day = || tokio::time::sleep(Duration::from_secs(86_400));
/// let one = reports.cron("hourly report", hourly.clone(), hour);
/// let other = reports.cron("hourly report", hourly, hour).missed(Missed::All); // as from another process
/// tokio::try_join!(one.run_until(day()), other.run_until(day()))?;
/// assert_eq!(reports.inspect().await?.ready, 24);
/// # Ok(()) }
/// ```
#[must_use = "it does nothing until it is run"]
pub struct Cron<T, C = Json> {
    queue: Queue<T, C>,
    name: Name,
    schedule: Schedule,
    job: Arc<dyn Fn(SystemTime) -> Job<T> + Send + Sync>,
    missed: Missed,
}

/// So far apart the clocks of processes may be, and so late a tick is not missed yet.
const APART: Duration = Duration::from_secs(60);
/// Between tries to reach a broker.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

impl<T: Send + Sync + 'static, C: Codec<T>> Queue<T, C> {
    /// Submits what this makes of each tick of the schedule; see [`Cron`]. The name is that of the schedule in all
    /// processes.
    pub fn cron<J: Into<Job<T>>>(
        &self,
        name: impl Into<Name>,
        schedule: Schedule,
        job: impl Fn(SystemTime) -> J + Send + Sync + 'static,
    ) -> Cron<T, C> {
        let job = Arc::new(move |tick| job(tick).into());
        Cron { queue: self.clone(), name: name.into(), schedule, job, missed: Missed::default() }
    }
}

impl<T: Send + Sync + 'static, C: Codec<T>> Cron<T, C> {
    /// What becomes of ticks that nobody submitted in time. Default: the last of them is made up for.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// The id of the job of this tick.
    pub fn id(&self, tick: SystemTime) -> Id {
        Id::of(format!("cron {} {} {}", self.queue.topic(), self.name, seconds(tick)))
    }

    /// Runs in the caller's task until told to stop.
    ///
    /// # Errors
    /// As above.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result {
        let mut stop = pin!(stop);
        let run = self.run_for_ever(Seed::ambient());
        tokio::select! {
            biased;
            () = &mut stop => Ok(()),
            ended = run => ended,
        }
    }

    async fn run_for_ever(&self, seed: Seed) -> Result {
        let keeps = self.check()?;
        let wall = self.queue.wall();
        let row = Name::from(format!("cron/{}/{}", self.queue.topic(), self.name));
        let mut rng = seed.fork("cron").fork(self.name.as_str()).rng();
        let (mut last, mut refused) = (wall.now(), 0);
        let mut known = !keeps;
        loop {
            let now = wall.now();
            if known && self.due(last, now).is_none() {
                let Some(next) = self.schedule.after(last.max(now)) else { return std::future::pending().await };
                time::sleep(next.duration_since(now).unwrap_or_default()).await;
            }
            match self.tick(keeps.then_some(&row), last, wall.now()).await {
                Ok(ticked) => (last, known, refused) = (ticked, true, 0),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(cron = %self.name, error = %error.chain(), "nothing submitted for now");
                    time::sleep(error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, &mut rng))).await;
                    refused += 1;
                }
                Err(error) => return Err(error.at(format!("cron {}", self.name))),
            }
        }
    }

    /// Submits what is due, if anything; the last tick that needs no more care.
    async fn tick(&self, row: Option<&Name>, last: SystemTime, now: SystemTime) -> Result<SystemTime> {
        let broker = self.queue.broker();
        let Some(row) = row else {
            let Some(due) = self.due(last, now) else { return Ok(last) };
            broker.send(self.publish(due)?).await?;
            return Ok(due);
        };
        let (version, bytes) = broker.load(row).await?;
        // where the schedule is new, it begins now
        let last = if version == 0 { last } else { read(&bytes)? };
        let Some(due) = self.due(last, now) else {
            if version == 0 {
                self.write(Step::new().write(row, 0, seconds(last).to_string())).await?;
            }
            return Ok(last);
        };
        let step = Step::new().write(row, version, seconds(due).to_string()).publish(self.publish(due)?);
        self.write(step).await?;
        Ok(due)
    }

    /// Where another process was first, it has submitted the same.
    async fn write(&self, step: Step) -> Result {
        match self.queue.broker().settle(step).await {
            Err(error) if error.kind() == Kind::Conflict => Ok(()),
            settled => settled,
        }
    }

    /// The tick that is to be submitted now, when this was the last.
    fn due(&self, last: SystemTime, now: SystemTime) -> Option<SystemTime> {
        let tick = match self.missed {
            Missed::All => self.schedule.after(last),
            Missed::Last | Missed::Skip => self.schedule.until(now),
        };
        let late = |tick: &SystemTime| now.duration_since(*tick).unwrap_or_default();
        tick.filter(|tick| last < *tick && *tick <= now)
            .filter(|tick| self.missed != Missed::Skip || late(tick) <= APART)
    }

    fn publish(&self, tick: SystemTime) -> Result<Publish> {
        let job = (self.job)(tick);
        if job.id.is_some() || job.unique.is_some() {
            return Err(Error::new(Kind::Invalid, "the id of its jobs is made of the tick, and keeps them unique"));
        }
        Ok(self.queue.publish_under(self.id(tick), job))
    }

    /// Whether the last tick is kept in a row; else the queue must remember ids for long enough.
    fn check(&self) -> Result<bool> {
        let guarantees: Guarantees = self.queue.broker().guarantees();
        if guarantees.keeps_rows() {
            return Ok(true);
        }
        let refuse = |why: &str| {
            let message = format!("the broker {} keeps no state, {why}", guarantees.name);
            Err(Error::new(Kind::Unsupported, message).at(format!("queue {}, cron {}", self.queue.topic(), self.name)))
        };
        if self.missed != Missed::Skip {
            return refuse("so it cannot be told which ticks were missed: they can only be skipped");
        }
        if self.queue.dedup().is_none_or(|window| window < APART) {
            return refuse("and the queue remembers ids for less than a minute: each process would submit each tick");
        }
        Ok(false)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn read(bytes: &[u8]) -> Result<SystemTime> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let seconds = text.ok_or_else(|| Error::new(Kind::Invalid, "the row of its last tick cannot be read"))?;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.ok_or_else(|| Error::new(Kind::Invalid, "the row of its last tick is beyond all clocks"))
}

impl<T, C> Clone for Cron<T, C> {
    fn clone(&self) -> Self {
        Cron {
            queue: self.queue.clone(),
            name: self.name.clone(),
            schedule: self.schedule.clone(),
            job: self.job.clone(),
            missed: self.missed,
        }
    }
}

impl<T: Send + Sync + 'static, C: Codec<T>> Container for Cron<T, C> {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let cron = self.clone();
        Box::pin(async move {
            context.ready();
            tokio::select! {
                biased;
                () = context.stopped() => Ok(()),
                ended = cron.run_for_ever(context.seed()) => ended,
            }
        })
    }
}

impl<T, C> fmt::Debug for Cron<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cron").field("name", &self.name).field("schedule", &self.schedule).finish_non_exhaustive()
    }
}
