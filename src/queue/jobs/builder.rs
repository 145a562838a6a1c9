//! How a queue is opened: what it needs of its broker, and how its topics are declared.

use super::{Inner, Queue, Schema, layout::Layout};
use crate::base::{Error, Kind, Name, Result, Seed, time::WallClock};
use crate::queue::{Bound, Broker, Codec, Guarantees, Json, Topic, TopicOptions, id::Ids};
use futures::future::BoxFuture;
use std::{fmt, future::IntoFuture, marker::PhantomData, sync::Arc, time::Duration};

/// What a queue cannot do without; see the [guarantees](Guarantees) of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// What was answered for survives the end of the broker's process.
    Durable,
    /// An acknowledgement and what was made take effect together or not at all.
    AtomicStep,
    /// State: unique keys, progress, cancelling, results.
    State,
    /// Ids are remembered for this long.
    Dedup(Duration),
    /// Priorities.
    Priorities,
    /// Delays.
    Delays,
    /// Order per key.
    KeyOrder,
    /// First in, first out.
    FirstInFirstOut,
    /// A capacity met to the item.
    ExactCapacity,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Durable => f.write_str("durable storage"),
            Need::AtomicStep => f.write_str("atomic steps"),
            Need::State => f.write_str("state"),
            Need::Dedup(window) => write!(f, "deduplication over {} s", window.as_secs_f64()),
            Need::Priorities => f.write_str("priorities"),
            Need::Delays => f.write_str("delays"),
            Need::KeyOrder => f.write_str("order per key"),
            Need::FirstInFirstOut => f.write_str("first in, first out"),
            Need::ExactCapacity => f.write_str("an exact capacity"),
        }
    }
}

impl Guarantees {
    /// Whether it holds.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::Durable => self.durable,
            Need::AtomicStep => self.atomic_step,
            Need::State => self.state,
            Need::Dedup(window) => self.dedup.is_some_and(|most| most >= window),
            Need::Priorities => self.priorities,
            Need::Delays => self.delays,
            Need::KeyOrder => self.key_order,
            Need::FirstInFirstOut => self.first_in_first_out,
            Need::ExactCapacity => self.exact_capacity,
        }
    }

    /// That all of these hold.
    ///
    /// # Errors
    /// [`Kind::Unsupported`], naming the broker and all that it lacks.
    pub fn require(&self, needs: &[Need]) -> Result {
        let lacks: Vec<_> = needs.iter().filter(|need| !self.has(**need)).map(Need::to_string).collect();
        if lacks.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Unsupported, format!("the broker {} has no {}", self.name, lacks.join(", no "))))
    }
}

/// The settings of a [`Queue`]. Awaited, it [opens](QueueBuilder::open) it.
#[must_use = "it does nothing until it is opened"]
pub struct QueueBuilder<T, C = Json> {
    broker: Arc<dyn Broker>,
    name: Name,
    needs: Vec<Need>,
    options: TopicOptions,
    schema: Schema<T>,
    seed: Option<Seed>,
    levels: Option<(u8, Duration)>,
    tenants: u16,
    rows: usize,
    codec: PhantomData<fn() -> C>,
}

/// More lines than this are refused: a worker looks into each.
const LINES: usize = 256;

/// At 290 results a second, each kept for an hour.
const ROWS: usize = 1 << 20;

/// The window of SQS's queues without duplicates.
const DEDUP: Duration = Duration::from_secs(300);

impl<T: Send + Sync + 'static> QueueBuilder<T> {
    pub(super) fn new(broker: Arc<dyn Broker>, name: Name) -> QueueBuilder<T> {
        let mut options = TopicOptions::new().dead_letters(format!("{name}.dead"));
        options.dedup = broker.guarantees().dedup.map(|most| most.min(DEDUP));
        QueueBuilder {
            broker,
            name,
            needs: Vec::new(),
            options,
            schema: Schema::default(),
            seed: None,
            levels: None,
            tenants: 1,
            rows: ROWS,
            codec: PhantomData,
        }
    }
}

impl<T: Send + Sync + 'static, C> QueueBuilder<T, C> {
    /// Refuses a broker without this.
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// Stores this many at most, in each of its lines where it has several. Default 65,536.
    pub fn capacity(mut self, items: usize) -> Self {
        self.options = self.options.capacity(items);
        self
    }

    /// What happens at the capacity. Default: who submits waits.
    pub fn bound(mut self, bound: Bound) -> Self {
        self.options = self.options.bound(bound);
        self
    }

    /// For how long an id is remembered. Default 5 minutes, as with SQS, or the broker's most where that is less; longer
    /// than the broker can is refused.
    pub fn dedup(mut self, window: Duration) -> Self {
        self.options = self.options.dedup(window);
        self.needs.push(Need::Dedup(window));
        self
    }

    /// A subscription; each sees every job. Default: one, called `workers`. The first is the one that its workers have
    /// unless they name another.
    pub fn subscription(mut self, name: impl Into<Name>) -> Self {
        self.options = self.options.subscription(name);
        self
    }

    /// Which version of the payload it speaks. Default 1, and no other.
    pub fn schema(mut self, schema: Schema<T>) -> Self {
        self.schema = schema;
        self
    }

    /// How values become bytes. Default: JSON.
    pub fn codec<D: Codec<T>>(self, _codec: D) -> QueueBuilder<T, D> {
        let QueueBuilder { broker, name, needs, options, schema, seed, levels, tenants, rows, .. } = self;
        QueueBuilder { broker, name, needs, options, schema, seed, levels, tenants, rows, codec: PhantomData }
    }

    /// Priorities with ageing: so many levels (a [priority](super::Job::priority) of 0 is the lowest, any beyond the highest
    /// is the highest), and a wait of `step` lifts a job by one level. So nothing starves: a job is begun before those of a
    /// higher level that were submitted more than `step` times their distance later, but for one job of each such level,
    /// which a worker must have seen to know how young it is. With lines of [tenants](QueueBuilder::tenants), a level's turn
    /// comes by its oldest job, and goes around its lines.
    ///
    /// On any broker, since a level is a topic of its own. Default: the broker's own priorities, where it has them, by which
    /// a job waits for as long as there are jobs of a higher one.
    ///
    /// All processes must open the queue with the same levels. A change leaves jobs in topics where nobody looks.
    pub fn levels(mut self, levels: u8, step: Duration) -> Self {
        self.levels = Some((levels.max(1), step));
        self
    }

    /// Fairness between [tenants](super::Job::tenant): their jobs are kept in so many lines, by the hash of the tenant, and
    /// workers take from the lines by turns (deficit round robin over items), so that a tenant with a million jobs holds up
    /// another by one turn and not by a million. On any broker, since a line is a topic of its own. Tenants that fall into
    /// one line share its turn: have several times as many lines as tenants that are active at a time. Default 1: no
    /// turns.
    ///
    /// Each line costs: a worker asks the broker line by line for what is there, and waits at all of them while nothing is.
    ///
    /// All processes must open the queue with as many lines. A change leaves jobs in topics where nobody looks.
    pub fn tenants(mut self, lines: u16) -> Self {
        self.tenants = lines.max(1);
        self
    }

    /// Keeps so many rows of the broker's state for a while: [results](crate::queue::Consume::results), unique keys that
    /// [have a window](super::Unique), jobs that were [called off](Queue::cancel). Beyond it, whoever would keep another
    /// waits until one goes: a job that is done holds its lease meanwhile. Default 1,048,576, which is 290 results a second
    /// when each is kept for an hour.
    ///
    /// All processes must open the queue with as many.
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }

    /// What the ids of jobs without one come from. Default: the simulation's seed, else the system's: no two handles
    /// have the same.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Declares what is not there yet.
    ///
    /// # Errors
    /// [`Kind::Unsupported`], naming the queue, the broker and what it lacks; [`Kind::Conflict`] where the queue is
    /// declared otherwise; [`Kind::Invalid`] for more than 256 lines; else the broker's.
    pub async fn open(self) -> Result<Queue<T, C>> {
        let QueueBuilder { broker, name, needs, options, schema, seed, levels, tenants, rows, .. } = self;
        let lines = usize::from(levels.map_or(1, |(levels, _)| levels)) * usize::from(tenants);
        if lines > LINES {
            let message = format!("levels times tenants are {lines} lines, at most {LINES} may be");
            return Err(Error::new(Kind::Invalid, message).at(format!("queue {name}")));
        }
        broker.guarantees().require(&needs).map_err(|error| error.at(format!("queue {name}")))?;
        let beside = |suffix: &str| Topic::new(format!("{name}.{suffix}"));
        let topic = Topic::new(&name);
        let workers = options.subscriptions.first().cloned().unwrap_or_else(|| Name::from(WORKERS));
        let (layout, options) = (Layout::new(&topic, levels, tenants), options.subscription(&workers));
        for line in layout.topics() {
            broker.declare(line, options.clone()).await?;
        }
        let sweep = beside("sweep");
        broker.declare(&sweep, TopicOptions::new().subscription(WORKERS).capacity(rows)).await?;
        let ids = Ids::new(&name, seed.unwrap_or_else(Seed::fresh).fork("queue"));
        let workers = topic.subscription(workers);
        let inner = Inner {
            broker,
            lines: layout.lines(&Arc::new(workers.clone())),
            workers,
            dead: beside("dead"),
            quarantine: beside("quarantine"),
            sweep,
            layout,
            topic,
            schema,
            wall: WallClock::ambient(),
            dedup: options.dedup,
            ids,
        };
        Ok(Queue { inner: Arc::new(inner), codec: PhantomData })
    }
}

const WORKERS: &str = "workers";

impl<T: Send + Sync + 'static, C: 'static> IntoFuture for QueueBuilder<T, C> {
    type Output = Result<Queue<T, C>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

impl<T, C> fmt::Debug for QueueBuilder<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder").field("name", &self.name).field("options", &self.options).finish_non_exhaustive()
    }
}
