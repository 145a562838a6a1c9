//! The broker on disk: the lease table of the broker in memory, a file behind it, and one thread that commits.
//!
//! It may use `disk` besides what `queue` may use. Decisions are made at once, by the same table that decides in memory;
//! they are answered when they are on the disk, all of the same moment with one sync.
//!
//! - `books`: every decision, under one lock; what of it is written
//! - `shelf`: what is on the disk and what of it is in work; `side`: of one subscription; `segment`: of each item
//! - `loading`: what is about to be leased comes into the table
//! - `pending`, `rows`: what the next commit writes, and how it looks on the disk
//! - `recover`: what is brought back when a file is opened

mod books;
mod clock;
mod loading;
mod open;
mod pending;
mod recover;
mod rows;
mod segment;
mod shelf;
mod side;

use super::{
    Broker, Delivery, Guarantees, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
};
use crate::base::{Answer, Few, Name, Result, time::WallClock};
use crate::disk::{Source, Storage};
use bytes::Bytes;
use open::{Open, encoded};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::OnceCell;

/// The broker on disk: one file, whose messages survive the process and the machine.
///
/// One process has it open at a time; all its containers and tasks share it. What is published or settled at the same
/// time is synced together, by a thread of its own: thirty-two publishers share one sync.
///
/// ```
/// use seedpod::queue::{Broker, BrokerExt, Durable, Id, Publish, Topic, TopicOptions, Want};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// # let folder = std::env::temp_dir().join(format!("seedpod-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("orders.db");
/// let orders = Topic::new("orders");
/// let broker = Durable::open(&path).await?;
/// broker.declare(&orders, TopicOptions::new().subscription("mailer")).await?;
/// broker.send(Publish::json(&orders, Id::of("order 17"), "a book".to_string())).await?; // it is on the disk
/// drop(broker);
///
/// let broker = Durable::open(&path).await?; // a day later
/// for order in broker.lease(&orders.subscription("mailer"), Want::one()).await? {
///     assert_eq!(order.json::<String>(0)?, "a book");
///     broker.ack(order.lease).await?;
/// }
/// # drop(broker);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(()) }
/// ```
///
/// # Guarantees
/// All that the broker in memory guarantees: atomic steps, priorities, delays, order per key, first in first out, exact
/// capacity, dedup, state. And:
/// - Publishing and settling answer once it is on the disk (synced), whole. Topics, delays, ids that are remembered, dead
///   letters and state are kept like messages.
/// - Leases are not: after opening, what was leased is ready again, in its old place, and a settlement under a lease of
///   before is refused. Who held it is charged a crash, or a lapse where the broker was dropped in order.
/// - That an item was handed out is written with the next commit, within 50 ms. After an end that was not orderly it is
///   written first, until all that had been handed out is settled, and 1,024 items more: so whatever item kills the
///   process goes uncharged once at most.
/// - After a failed sync, a full disk or anything in the file that does not read back as it was written, every call
///   fails as [closed](crate::base::Kind::Closed), saying so, until the file is opened again. The whole file is checked
///   when it is opened.
///
/// # Not guaranteed
/// Whether a publish or a settlement that failed so took effect: opening the file again tells; do it again under the same
/// ids. Lapses of leases, and that items were handed out, are on the disk only as said above. Where the process was
/// killed within 50 ms after a commit, damage that the file's header takes later: with one sync per commit it cannot be
/// told from a torn write, and what stood before that commit is taken.
///
/// # Memory and disk
/// A batch has 1 GiB and 1,048,576 items at most; larger ones are refused as [invalid](crate::base::Kind::Invalid).
///
/// What is only stored takes no memory: a place in the file, read when its turn comes. In memory are what is leased, up to
/// 256 items or 64 KiB beyond it per subscription and priority, what a topic remembers of ids, one entry per key that has
/// messages, one per time at which something is due, and 64 MiB of the file's pages at most. The file's space is used
/// again, so that it does not grow with what goes through it; where half of 16 MiB or more is unused, it shrinks when it
/// is next opened. The time on the disk never runs backwards: where the wall clock was set back, it goes on from the last
/// commit.
///
/// # Cancel-safety
/// As [`Broker`] says. Dropping the broker waits for the commits under way, a few milliseconds, and closes the file.
pub struct Durable {
    source: Source,
    clock: Option<WallClock>,
    open: OnceCell<Open>,
}

impl Durable {
    /// What it guarantees.
    pub const GUARANTEES: Guarantees = Guarantees {
        durable: true,
        atomic_step: true,
        state: true,
        dedup: Some(Duration::MAX),
        priorities: true,
        delays: true,
        key_order: true,
        first_in_first_out: true,
        exact_capacity: true,
        ..Guarantees::none("file")
    };

    /// Opens this file, or makes it. It reads and checks the whole file, without holding up other tasks.
    ///
    /// # Errors
    /// [`Conflict`](crate::base::Kind::Conflict) where it is open already, here or in another process;
    /// [`Closed`](crate::base::Kind::Closed) or [`Failed`](crate::base::Kind::Failed) where it is damaged or no such
    /// file, or the disk fails; [`Unsupported`](crate::base::Kind::Unsupported) where it has another format. They name the file.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Durable> {
        Durable::at(path).opened().await
    }

    /// The broker in this file, opened at the first call; the errors of opening are those of that call.
    pub fn at(path: impl Into<PathBuf>) -> Durable {
        Durable { source: Source::File(path.into()), clock: None, open: OnceCell::new() }
    }

    /// The broker on these bytes instead of a file, opened at the first call: for tests of what a disk may do.
    pub fn on(storage: Arc<dyn Storage>) -> Durable {
        Durable { source: Source::Storage(storage), clock: None, open: OnceCell::new() }
    }

    /// By this wall clock. Default: the ambient one.
    #[must_use]
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Opens it now.
    ///
    /// # Errors
    /// Those of [`open`](Durable::open).
    pub async fn opened(self) -> Result<Durable> {
        self.ready().await?;
        Ok(self)
    }

    async fn ready(&self) -> Result<&Open> {
        self.open.get_or_try_init(|| Open::new(&self.source, self.clock)).await
    }
}

impl Broker for Durable {
    fn guarantees(&self) -> Guarantees {
        Durable::GUARANTEES
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        if let Err(error) = Durable::GUARANTEES.check(topic, &options) {
            return Answer::now(Err(error));
        }
        match self.open.get() {
            Some(open) => open.declare(topic, options),
            None => Answer::later(async move { self.ready().await?.declare(topic, options).await }),
        }
    }

    fn publish(&self, mut batches: Few<Publish>) -> Answer<'_, Receipt> {
        if let Err(error) = encoded(&mut batches) {
            return Answer::now(Err(error));
        }
        match self.open.get() {
            Some(open) => open.publish(batches),
            None => Answer::later(async move { self.ready().await?.publish(batches).await }),
        }
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        match self.open.get() {
            Some(open) => open.lease(subscription, want),
            None => Answer::later(async move { self.ready().await?.lease(subscription, want).await }),
        }
    }

    fn settle(&self, mut step: Step) -> Answer<'_, ()> {
        if let Err(error) = encoded(&mut step.publishes) {
            return Answer::now(Err(error));
        }
        match self.open.get() {
            Some(open) => open.settle(step),
            None => Answer::later(async move { self.ready().await?.settle(step).await }),
        }
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        match self.open.get() {
            Some(open) => open.load(key),
            None => Answer::later(async move { self.ready().await?.load(key).await }),
        }
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        match self.open.get() {
            Some(open) => open.inspect(topic),
            None => Answer::later(async move { self.ready().await?.inspect(topic).await }),
        }
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("at", &self.source.to_string()).finish_non_exhaustive()
    }
}

/// The broker of a `file:` URL, opened at the first call.
pub(super) fn durable(url: &str) -> Result<Arc<dyn Broker>> {
    let path = url.strip_prefix("file:").unwrap_or(url);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(crate::base::Error::new(crate::base::Kind::Invalid, "it names no file, such as file:orders.db"));
    }
    Ok(Arc::new(Durable::at(path)))
}
