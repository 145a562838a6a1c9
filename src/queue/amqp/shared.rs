//! What all clones and calls of one handle share: the connection of the moment, the leases, what is known of topics.

use super::{
    address::Address,
    held::Held,
    known::Topics,
    names::{self, Names},
    session::Session,
    topology::{self, Arguments, Make},
    unsettled::Unsettled,
};
use crate::base::{
    Error, Kind, Result, Rng, Seed,
    sync::{
        Lock,
        atomic::{AtomicU64, Ordering},
    },
    time::{self, Instant, WallClock},
};
use crate::queue::{DEAD_LETTERS, Subscription, Topic, TopicOptions, TopicStats};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle};

pub(super) struct Shared {
    pub(super) address: Address,
    pub(super) patience: Duration,
    pub(super) deliveries: u32,
    pub(super) wall: WallClock,
    pub(super) rng: Lock<Rng>,
    pub(super) held: Lock<Held<Unsettled>>,
    /// Another lease may run out first now.
    pub(super) changed: Arc<Notify>,
    pub(super) topics: Lock<Topics>,
    link: tokio::sync::Mutex<Link>,
    numbers: AtomicU64,
    keeper: Lock<Option<JoinHandle<()>>>,
}

/// The connection of the moment, or how the last try to make one ended.
#[derive(Default)]
struct Link {
    session: Option<Arc<Session>>,
    failed: Option<(Instant, Error)>,
}

impl Shared {
    pub(super) fn new(address: Address, patience: Duration, deliveries: u32) -> Arc<Shared> {
        Arc::new(Shared {
            address,
            patience,
            deliveries,
            wall: WallClock::ambient(),
            rng: Lock::new(Seed::ambient().rng()),
            held: Lock::default(),
            changed: Arc::default(),
            topics: Lock::default(),
            link: tokio::sync::Mutex::default(),
            numbers: AtomicU64::new(1),
            keeper: Lock::default(),
        })
    }

    /// A number that this handle has not given before.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The connection, made anew where it is gone; one who needs it connects, and the others share what comes of it.
    pub(super) async fn session(&self) -> Result<Arc<Session>> {
        let asked = time::now();
        let mut link = self.link.lock().await;
        if let Some(session) = &link.session {
            if session.is_alive() {
                return Ok(session.clone());
            }
            drop(self.held.lock().disconnected(session.number));
            tracing::warn!(broker = %self.address, "the connection was lost");
            link.session = None;
        }
        match &link.failed {
            // a server that hangs would make those in line wait for it one after the other
            Some((at, error)) if *at >= asked => return Err(error.clone()),
            _ => {}
        }
        let connected = Session::connect(&self.address, self.patience, self.next_number()).await.map(Arc::new);
        match &connected {
            Ok(session) => *link = Link { session: Some(session.clone()), failed: None },
            Err(error) => link.failed = Some((time::now(), error.clone())),
        }
        connected
    }

    /// Sees to it that leases end when they run out.
    pub(super) fn watch_leases(self: &Arc<Self>) {
        let mut keeper = self.keeper.lock();
        if keeper.as_ref().is_none_or(JoinHandle::is_finished) {
            *keeper = Some(tokio::spawn(keep(Arc::downgrade(self))));
        }
    }

    /// Where it happened: this thing, on this server.
    pub(super) fn place(&self, thing: impl std::fmt::Display) -> String {
        format!("{thing}, broker {}", self.address)
    }

    pub(super) async fn declare(&self, topic: &Topic, options: &TopicOptions) -> Result {
        let all = topology::of(topic, options, self.deliveries)?;
        self.topics.lock().check(topic, options)?;
        let session = self.session().await?;
        self.make(&session, &all).await?;
        let mut topics = self.topics.lock();
        topics.declared(topic, options, false);
        if let Some(dead) = &options.dead_letters {
            topics.declared(dead, &TopicOptions::new().subscription(DEAD_LETTERS), true);
        }
        Ok(())
    }

    /// Sees to it that all of this is there.
    pub(super) async fn make(&self, session: &Session, all: &[Make]) -> Result {
        let mut channel = session.scratch().await?;
        for make in all {
            if let Make::Queue { name, implied: true, .. } = make {
                match session.call(channel.queue_declare(short(name), passive(), FieldTable::default())).await {
                    Err(error) if error.kind() == Kind::NotFound => channel = session.scratch().await?,
                    found => {
                        found?;
                        continue;
                    }
                }
            }
            one(session, &channel, make).await?;
        }
        Ok(())
    }

    /// Sees to it that the topic is there, whoever declared it.
    pub(super) async fn ensure_topic(&self, session: &Session, topic: &Topic) -> Result {
        if self.topics.lock().knows(topic) {
            return Ok(());
        }
        let name = Names::of(topic)?;
        let channel = session.scratch().await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let call =
            channel.exchange_declare(short(name.exchange()), ExchangeKind::Fanout, options, FieldTable::default());
        session.call(call).await.map_err(|error| error.at(self.place(format!("topic {topic}"))))?;
        self.topics.lock().found(topic);
        Ok(())
    }

    /// The queue of this subscription, which is there.
    pub(super) async fn ensure_queue(&self, session: &Session, subscription: &Subscription) -> Result<String> {
        let queue = names::queue(subscription)?;
        if !self.topics.lock().knows_subscription(subscription) {
            self.ready(session, &queue).await?;
            self.topics.lock().found_subscription(subscription);
        }
        Ok(queue)
    }

    /// How many messages of a queue could be leased now.
    async fn ready(&self, session: &Session, queue: &str) -> Result<usize> {
        let channel = session.scratch().await?;
        let found = session.call(channel.queue_declare(short(queue), passive(), FieldTable::default())).await?;
        Ok(found.message_count() as usize)
    }

    pub(super) async fn inspect(&self, topic: &Topic) -> Result<TopicStats> {
        let session = self.session().await?;
        self.ensure_topic(&session, topic).await?;
        let subscriptions = self.topics.lock().subscriptions(topic);
        let (delayed, rejected) = self.topics.lock().counts(topic, time::now());
        let (mut ready, mut leased) = (0, 0);
        for subscription in &subscriptions {
            ready += self.ready(&session, &names::queue(subscription)?).await?;
            let weight = |out: &Unsettled| out.batch.payload.len() as usize;
            leased += self.held.lock().count(subscription, weight);
        }
        let mut stats = TopicStats { ready, leased, delayed, rejected, ..TopicStats::default() };
        stats.stored = ready + leased + delayed;
        Ok(stats)
    }
}

/// Ends leases when they run out, for as long as the handle lives: their messages go back to their queues.
async fn keep(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let lapsed = strong.held.lock().lapsed(time::now());
        for (_, out) in lapsed {
            out.requeue().await;
        }
        let (next, changed) = (strong.held.lock().next(), strong.changed.clone());
        drop(strong);
        match next {
            None => changed.notified().await,
            Some(next) => tokio::select! {
                biased;
                () = changed.notified() => {}
                () = time::sleep_until(next) => {}
            },
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.changed.notify_one(); // the keeper looks, and ends
    }
}

async fn one(session: &Session, channel: &Channel, make: &Make) -> Result {
    let none = FieldTable::default();
    match make {
        Make::Exchange { name, by_pattern } => {
            let kind = if *by_pattern { ExchangeKind::Topic } else { ExchangeKind::Fanout };
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            session.call(channel.exchange_declare(short(name), kind, options, none)).await
        }
        Make::Queue { name, arguments, .. } => {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            session.call(channel.queue_declare(short(name), options, table(arguments))).await.map(drop)
        }
        Make::Bind { queue, to, key } => {
            let options = QueueBindOptions::default();
            session.call(channel.queue_bind(short(queue), short(to), short(key), options, none)).await
        }
        Make::Chain { exchange, to, key } => {
            let options = ExchangeBindOptions::default();
            session.call(channel.exchange_bind(short(exchange), short(to), short(key), options, none)).await
        }
    }
}

/// What the server is told of a queue.
fn table(arguments: &Arguments) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let number = |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    table.insert("x-max-length".into(), number(arguments.length));
    table.insert("x-overflow".into(), text("reject-publish"));
    if let Some(deliveries) = arguments.deliveries {
        table.insert("x-delivery-limit".into(), number(deliveries.into()));
    }
    if let Some(stays) = arguments.stays {
        table.insert("x-message-ttl".into(), number(stays));
    }
    if let Some(onward) = &arguments.onward {
        table.insert("x-dead-letter-exchange".into(), text(onward));
        table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    table
}

fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() }
}

fn short(text: &str) -> ShortString {
    ShortString::from(text)
}

/// The error, at this place where it names none closer to it.
pub(super) fn at<T>(result: Result<T>, place: impl FnOnce() -> String) -> Result<T> {
    result.map_err(|error: Error| error.at(place()))
}
