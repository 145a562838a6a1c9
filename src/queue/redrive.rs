//! Dead letters back into work: those that match, so fast and no faster, or only counted.

use super::{
    Broker, Charge, DEAD_LETTERS, DeadLetter, Delivery, Id, Lease, Payload, Publish, Retry, Step, Topic, Want,
};
use crate::base::{Name, Result, time};
use std::{fmt, sync::Arc, time::Duration};

type Filter = Arc<dyn Fn(&DeadLetter, &Delivery) -> bool + Send + Sync>;

/// Sends dead letters back to where they came from, to be tried again with budgets that are new.
///
/// Each is published to the topic that it was given up in and acknowledged as a dead letter in one step. It gets an id of
/// its own, since its topic may remember the old one; [`Message::idempotency_key`](crate::queue::Message::idempotency_key)
/// stays what it was. Every subscription of that topic sees it.
///
/// # Not guaranteed
/// On a broker without [atomic steps](crate::queue::Guarantees::atomic_step), that a letter goes back once: the same
/// derived id goes twice where the acknowledgement was lost.
///
/// **Cancel-safety**: what was moved is moved; letters that it had looked at and left come back when their leases of a
/// minute have run out.
///
/// ```
/// use seedpod::queue::{Memory, Queue, Redrive, Work};
/// use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let jobs: Queue<String> = Queue::open(Arc::new(Memory::new()), "resize").await?;
/// jobs.submit("a.png".to_string()).await?;
/// jobs.take().await?.expect("one is there").reject("no such file").await?;
///
/// let redrive = Redrive::new(jobs.broker().clone(), jobs.dead_letters())
///     .filter(|letter, _| letter.reason.contains("no such file"))
///     .rate(100);
/// assert_eq!(redrive.clone().dry_run().run().await?.matched, 1);
/// assert_eq!(redrive.run().await?.moved, 1);
/// assert_eq!(jobs.take().await?.expect("it is back").value, "a.png");
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until it is run"]
pub struct Redrive {
    broker: Arc<dyn Broker>,
    dead: Topic,
    filter: Filter,
    pause: Duration,
    most: usize,
    dry: bool,
}

/// What a redrive did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// Letters that were looked at.
    pub seen: usize,
    /// Letters that matched.
    pub matched: usize,
    /// Letters that went back into work: those that matched, unless it was a dry run.
    pub moved: usize,
}

/// The header that keeps the id which a message had first.
pub(crate) const FIRST_ID: &str = "redriven-id";

const HOLD: Duration = Duration::from_secs(60);

impl Redrive {
    /// All that is in this dead-letter topic.
    pub fn new(broker: Arc<dyn Broker>, dead_letters: impl Into<Topic>) -> Redrive {
        let (dead, filter) = (dead_letters.into(), Arc::new(|_: &DeadLetter, _: &Delivery| true));
        Redrive { broker, dead, filter, pause: Duration::ZERO, most: 10_000, dry: false }
    }

    /// Only those for which this holds; the others stay.
    pub fn filter(mut self, holds: impl Fn(&DeadLetter, &Delivery) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Arc::new(holds);
        self
    }

    /// At most so many in a second. Default: as fast as it can.
    pub fn rate(mut self, per_second: u32) -> Self {
        self.pause = Duration::from_secs(1) / per_second.max(1);
        self
    }

    /// Looks at so many letters at most. Default 10,000: those that stay are held in memory while it looks.
    pub fn most(mut self, letters: usize) -> Self {
        self.most = letters;
        self
    }

    /// Only counts.
    pub fn dry_run(mut self) -> Self {
        self.dry = true;
        self
    }

    /// Does it, until no letter is there that it has not seen. Of letters with one key it sees those behind one that stays
    /// only when that is gone.
    ///
    /// # Errors
    /// The broker's; [`Kind::NotFound`](crate::base::Kind::NotFound) where the topic that a letter came from is not
    /// declared any more. What was moved until then is moved, and the others are given back.
    pub async fn run(self) -> Result<Redriven> {
        let mut stay = Vec::new();
        let mut done = Redriven::default();
        let ended = self.look(&mut stay, &mut done).await;
        let mut step = Step::new();
        step.retries = stay.into_iter().map(|lease| Retry::new(lease).charge(Charge::Nothing)).collect();
        if !step.retries.is_empty() {
            // a lease that ran out meanwhile has gone back by itself, and so do the others then
            let _ = self.broker.settle(step).await;
        }
        ended.map(|()| done)
    }

    async fn look(&self, stay: &mut Vec<Lease>, done: &mut Redriven) -> Result {
        let letters = self.dead.subscription(DEAD_LETTERS);
        let want = Want::one().wait(Duration::ZERO).hold(HOLD);
        let mut held = time::now();
        while done.seen < self.most {
            if time::now().saturating_duration_since(held) >= HOLD / 3 && !stay.is_empty() {
                held = time::now();
                let mut step = Step::new();
                step.extensions = stay.iter().map(|lease| (*lease, HOLD)).collect();
                self.broker.settle(step).await?;
            }
            let Some(delivery) = self.broker.lease(&letters, want).await?.into_iter().next() else { break };
            done.seen += 1;
            let letter = DeadLetter::read(&delivery.batch.headers);
            let Some(letter) = letter.filter(|letter| (self.filter)(letter, &delivery)) else {
                stay.push(delivery.lease);
                continue;
            };
            done.matched += 1;
            stay.push(delivery.lease);
            if self.dry {
                continue;
            }
            let step = Step::new().ack(delivery.lease).publish(back(&letter, &delivery)?);
            self.broker.settle(step).await?;
            stay.pop();
            done.moved += 1;
            if !self.pause.is_zero() {
                time::sleep(self.pause).await;
            }
        }
        Ok(())
    }
}

/// The letter as the message that it was.
fn back(letter: &DeadLetter, delivery: &Delivery) -> Result<Publish> {
    let batch = &delivery.batch;
    let id = Id::derive(&Name::from("redrive"), delivery.id(0), DeadLetter::PORT, 0);
    let mut publish = Publish::new(&letter.subscription.topic, id, Payload::from(delivery.bytes(0)?));
    (publish.priority, publish.key, publish.headers) = (batch.priority, batch.key.clone(), batch.headers.clone());
    if publish.headers.get(FIRST_ID).is_none() {
        publish.headers.insert(FIRST_ID, letter.id.to_string());
    }
    Ok(publish)
}

impl fmt::Debug for Redrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive").field("dead", &self.dead).field("dry", &self.dry).finish_non_exhaustive()
    }
}
