//! The broker in this process: the lease table behind one lock. Whoever waits drives the timers.

use super::{
    Broker, Delivery, Guarantees, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    table::{Effects, Refused, Table, Waiter},
};
use crate::base::{
    Answer, Few, Name, Result, Seed,
    sync::Lock,
    time::{self, Instant},
};
use bytes::Bytes;
use std::{fmt, time::Duration};

/// The broker in this process: the reference that defines what the others do.
///
/// It answers at once and allocates one batch per publish; values travel by reference. In a running simulation with
/// debug assertions it sends each published value through its codec and back.
///
/// # Guarantees
/// Steps are atomic; priorities, delays, order per key, first in first out and the exact capacity hold. A topic may
/// [dedup](TopicOptions::dedup) over any time, up to 2²⁰ ids, and keep a [history](TopicOptions::history). Nothing survives
/// the process, nor the broker's last handle.
///
/// # At the bound
/// Each topic stores as many items as its [capacity](TopicOptions::capacity) says; then publishers wait or are refused, as
/// it was [declared](crate::queue::Bound). It never spills to disk: what must outgrow memory belongs on a broker that is
/// there for it, and a publisher that waits keeps its payload alone. The capacity counts items, not bytes: where they come
/// from outside, bound their size before.
///
/// # Cancel-safety
/// A call does all or nothing, at one moment: dropping its answer before that moment takes nothing and stores nothing.
///
/// ```
/// use seedpod::queue::{Broker, BrokerExt, Id, Memory, Publish, Topic, TopicOptions, Want};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// let (broker, jobs) = (Memory::new(), Topic::new("jobs"));
/// broker.declare(&jobs, TopicOptions::new().subscription("workers")).await?;
/// broker.send(Publish::json(&jobs, Id::of("job 1"), 21_u32)).await?;
///
/// let workers = jobs.subscription("workers");
/// for job in broker.lease(&workers, Want::one()).await? {
///     assert_eq!(job.json::<u32>(0)?, 21);
///     broker.ack(job.lease).await?;
/// }
/// # Ok(()) }
/// ```
pub struct Memory {
    table: Lock<Table>,
}

impl Memory {
    /// What it guarantees.
    pub const GUARANTEES: Guarantees = Guarantees {
        durable: false,
        atomic_step: true,
        state: true,
        dedup: Some(Duration::MAX),
        priorities: true,
        delays: true,
        key_order: true,
        first_in_first_out: true,
        exact_capacity: true,
        history: true,
        ..Guarantees::none("memory")
    };

    /// A broker without topics.
    pub fn new() -> Memory {
        Memory { table: Lock::default() }
    }

    /// Decides under the lock, and does what follows from it outside.
    fn decide<T>(&self, decision: impl FnOnce(&mut Table, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let decided = decision(&mut self.table.lock(), &mut effects);
        effects.perform();
        decided
    }

    fn try_publish(&self, batches: &mut Few<Publish>) -> Result<Receipt, Refused> {
        let now = time::now();
        self.decide(|table, effects| table.publish(now, batches, effects))
    }

    fn try_settle(&self, step: &mut Step) -> Result<(), Refused> {
        let now = time::now();
        self.decide(|table, effects| table.settle(now, step, effects))
    }

    /// What is there, or when to look again: once woken, or at that time.
    fn try_lease(
        &self,
        now: Instant,
        subscription: &Subscription,
        want: &Want,
        waiter: &mut Option<Waiter>,
    ) -> Result<(Few<Delivery>, Option<Instant>)> {
        self.decide(|table, effects| {
            let deliveries = table.lease(now, subscription, want, effects)?;
            if !deliveries.is_empty() || want.wait.is_zero() {
                return Ok((deliveries, None));
            }
            if waiter.is_none() {
                *waiter = table.waiter(subscription);
            }
            Ok((deliveries, table.next_due(subscription)))
        })
    }

    async fn wait_to_lease(
        &self,
        subscription: &Subscription,
        want: Want,
        until: Option<Instant>,
        mut due: Option<Instant>,
        mut waiter: Option<Waiter>,
    ) -> Result<Few<Delivery>> {
        loop {
            if let Some(waiter) = &waiter {
                waiter.woken_by([due, until].into_iter().flatten().min()).await;
            }
            let now = time::now();
            let (deliveries, next) = self.try_lease(now, subscription, &want, &mut waiter)?;
            if !deliveries.is_empty() || until.is_some_and(|until| until <= now) {
                return Ok(deliveries);
            }
            due = next;
        }
    }
}

impl Broker for Memory {
    fn guarantees(&self) -> Guarantees {
        Memory::GUARANTEES
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        let now = time::now();
        Answer::now(self.decide(|table, effects| table.declare(now, topic, options, effects)).map(drop))
    }

    fn publish(&self, mut batches: Few<Publish>) -> Answer<'_, Receipt> {
        if let Err(error) = through_codecs(&mut batches) {
            return Answer::now(Err(error));
        }
        match self.try_publish(&mut batches) {
            Ok(receipt) => Answer::ok(receipt),
            Err(Refused::Error(error)) => Answer::now(Err(error)),
            Err(Refused::Full(mut room)) => Answer::later(async move {
                loop {
                    room.await;
                    match self.try_publish(&mut batches) {
                        Ok(receipt) => return Ok(receipt),
                        Err(Refused::Error(error)) => return Err(error),
                        Err(Refused::Full(next)) => room = next,
                    }
                }
            }),
        }
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        let now = time::now();
        let mut waiter = None;
        match self.try_lease(now, subscription, &want, &mut waiter) {
            Err(error) => Answer::now(Err(error)),
            Ok((deliveries, _)) if waiter.is_none() => Answer::ok(deliveries),
            Ok((_, due)) => Answer::later(self.wait_to_lease(subscription, want, want.until(now), due, waiter)),
        }
    }

    fn settle(&self, mut step: Step) -> Answer<'_, ()> {
        if let Err(error) = through_codecs(&mut step.publishes) {
            return Answer::now(Err(error));
        }
        match self.try_settle(&mut step) {
            Ok(()) => Answer::ok(()),
            Err(Refused::Error(error)) => Answer::now(Err(error)),
            Err(Refused::Full(mut room)) => Answer::later(async move {
                loop {
                    room.await;
                    match self.try_settle(&mut step) {
                        Ok(()) => return Ok(()),
                        Err(Refused::Error(error)) => return Err(error),
                        Err(Refused::Full(next)) => room = next,
                    }
                }
            }),
        }
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        Answer::ok(self.table.lock().load(key))
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        let now = time::now();
        Answer::now(self.decide(|table, effects| table.inspect(now, topic, effects)))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// In a simulation, sends every value through its codec and back: what works in one process must work between two.
fn through_codecs(batches: &mut Few<Publish>) -> Result {
    if !(cfg!(debug_assertions) && Seed::in_simulation()) {
        return Ok(());
    }
    for publish in batches {
        let again = publish.payload.round_trip();
        publish.payload =
            again.map_err(|error| error.at(format!("topic {}, message {}", publish.topic, publish.id)))?;
    }
    Ok(())
}
