//! What all calls share: the connection, made at the first of them, and what is known of topics and subscriptions.

use super::{
    keeper,
    link::{Link, NO_CONSUMER, NO_STREAM, OTHERWISE, without_secret},
    names::Names,
    plan::{self, Declared},
    table::Table,
};
use crate::base::{
    Error, Kind, Result, Seed,
    sync::{
        Lock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::WallClock,
};
use crate::queue::{Subscription, Topic};
use async_nats::Subject;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify, OnceCell},
    task::AbortHandle,
};

/// How the broker was built.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) names: Names,
    pub(super) timeout: Duration,
    pub(super) replicas: usize,
    pub(super) history: Option<Duration>,
}

/// A topic that is there.
pub(super) struct Known {
    pub(super) topic: Topic,
    pub(super) declared: Declared,
    /// Where messages of one item are published to it.
    pub(super) single: Subject,
    /// Whether any subscription keeps what is published; once there is one, there always is.
    pub(super) subscribed: AtomicBool,
}

pub(super) struct Core {
    pub(super) settings: Settings,
    link: OnceCell<Connected>,
    bucket: OnceCell<()>,
    pub(super) topics: Lock<BTreeMap<Topic, Arc<Known>>>,
    table: Lock<Table>,
    /// One subscription is opened, or made to wait longer, at a time.
    pub(super) opening: Mutex<()>,
    /// Told when the table is to be looked at sooner than planned.
    pub(super) keeper: Arc<Notify>,
    pub(super) clock: WallClock,
    /// Unlike that of any other broker: with a number behind it, it names one publish.
    nonce: u64,
    next: AtomicU64,
}

/// The connection, and what ends with it.
struct Connected {
    link: Link,
    inbox: String,
    keeper: AbortHandle,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Core {
    pub(super) fn new(settings: Settings) -> Arc<Core> {
        Arc::new(Core {
            settings,
            link: OnceCell::new(),
            bucket: OnceCell::new(),
            topics: Lock::default(),
            table: Lock::default(),
            opening: Mutex::new(()),
            keeper: Arc::default(),
            clock: WallClock::ambient(),
            nonce: Seed::ambient().fork("nats").rng().next_u64(),
            next: AtomicU64::new(0),
        })
    }

    /// Decides something at the table; whoever looks after it is woken where that is too late otherwise.
    pub(super) fn decide<T>(&self, decision: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock();
        let decided = decision(&mut table);
        let overslept = table.is_overslept();
        drop(table);
        if overslept {
            self.keeper.notify_one();
        }
        decided
    }

    /// A number that was not given before.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A name that nobody else gives.
    pub(super) fn unique(&self) -> String {
        format!("{:016x}.{}", self.nonce, self.next())
    }

    pub(super) fn names(&self) -> &Names {
        &self.settings.names
    }

    async fn connected(self: &Arc<Self>) -> Result<&Connected> {
        self.link.get_or_try_init(|| self.connect()).await
    }

    /// The connection, made now where it is not there.
    pub(super) async fn link(self: &Arc<Self>) -> Result<&Link> {
        self.connected().await.map(|connected| &connected.link)
    }

    /// Where answers to pull requests go.
    pub(super) async fn inbox(self: &Arc<Self>) -> Result<&str> {
        self.connected().await.map(|connected| connected.inbox.as_str())
    }

    async fn connect(self: &Arc<Self>) -> Result<Connected> {
        let core = Arc::downgrade(self);
        let reconnected = move || {
            if let Some(core) = core.upgrade() {
                core.decide(Table::forget_pulls);
            }
        };
        let link = Link::connect(&self.settings.url, self.settings.timeout, reconnected).await?;
        self.make_stream(&link, &plan::notes(self.names(), self.settings.replicas)).await?;
        let inbox = link.client.new_inbox();
        let keeper = tokio::spawn(keeper::keep(Arc::downgrade(self), self.keeper.clone())).abort_handle();
        Ok(Connected { link, inbox, keeper })
    }

    /// What errors call this place.
    pub(super) fn at(&self, place: impl std::fmt::Display) -> String {
        format!("{place} on NATS server {}", without_secret(&self.settings.url))
    }

    /// The stream, made unless it is there, and read back: it is what was asked for. Whether it was made.
    pub(super) async fn make_stream(&self, link: &Link, asked: &Value) -> Result<bool> {
        let name = asked.get("name").and_then(Value::as_str).unwrap_or_default();
        let made = self.try_stream(link, asked, name).await;
        made.map_err(|error| error.at(link.at(format!("stream {name}"))))
    }

    async fn try_stream(&self, link: &Link, asked: &Value, name: &str) -> Result<bool> {
        let mut made = false;
        if let Err(refusal) = link.api(&format!("STREAM.INFO.{name}"), &Value::Null).await? {
            if refusal.code != NO_STREAM {
                return Err(link.failed("STREAM.INFO", &refusal));
            }
            match link.api(&format!("STREAM.CREATE.{name}"), asked).await? {
                Ok(_) => made = true,
                Err(refusal) if refusal.code == OTHERWISE => {} // another was faster
                Err(refusal) => return Err(link.failed("STREAM.CREATE", &refusal)),
            }
        }
        let has = link.must(&format!("STREAM.INFO.{name}"), &Value::Null).await?;
        match plan::differs(asked, has.get("config").unwrap_or(&Value::Null)) {
            None => Ok(made),
            Some(difference) if made => {
                let message = format!("the server keeps the stream otherwise than asked: {difference}");
                Err(Error::new(Kind::Unsupported, message))
            }
            Some(difference) => {
                let message = format!("the stream is there, and not as seedpod needs it: {difference}");
                Err(Error::new(Kind::Conflict, message))
            }
        }
    }

    /// The bucket of the state is there.
    pub(super) async fn bucket(self: &Arc<Self>) -> Result {
        let make = || async {
            let bucket = plan::bucket(self.names(), self.settings.replicas);
            self.make_stream(self.link().await?, &bucket).await.map(drop)
        };
        self.bucket.get_or_try_init(make).await.map(drop)
    }

    /// The topic, if it is there.
    pub(super) async fn look_up(self: &Arc<Self>, topic: &Topic) -> Result<Option<Arc<Known>>> {
        if let Some(known) = self.topics.lock().get(topic) {
            return Ok(Some(known.clone()));
        }
        let link = self.link().await?;
        let place = || self.at(format!("topic {topic}"));
        let info = match link.api(&format!("STREAM.INFO.{}", self.names().stream(topic.name())), &Value::Null).await {
            Ok(Ok(info)) => info,
            Ok(Err(refusal)) if refusal.code == NO_STREAM => return Ok(None),
            Ok(Err(refusal)) => return Err(Error::new(Kind::Unavailable, refusal.description).at(place())),
            Err(error) => return Err(error.at(place())),
        };
        let Some(declared) = info.get("config").and_then(Declared::read) else {
            let message = "its stream is there, and seedpod did not make it, or another version of it";
            return Err(Error::new(Kind::Conflict, message).at(place()));
        };
        let consumers = info.pointer("/state/consumer_count").and_then(Value::as_u64).unwrap_or(0);
        let subscribed = AtomicBool::new(consumers > 0 || declared.has_history());
        let known = Arc::new(Known {
            topic: topic.clone(),
            declared,
            single: self.names().subject(topic.name(), 1).into(),
            subscribed,
        });
        self.topics.lock().insert(topic.clone(), known.clone());
        Ok(Some(known))
    }

    pub(super) async fn known(self: &Arc<Self>, topic: &Topic) -> Result<Arc<Known>> {
        self.look_up(topic)
            .await?
            .ok_or_else(|| Error::new(Kind::NotFound, "it is not declared").at(self.at(format!("topic {topic}"))))
    }

    /// Another look at the server is due: the stream may have gone.
    pub(super) fn forget(&self, topic: &Topic) {
        self.topics.lock().remove(topic);
    }

    /// Whether anyone keeps what is published there.
    pub(super) async fn is_subscribed(self: &Arc<Self>, known: &Known) -> Result<bool> {
        if !known.subscribed.load(Ordering::Relaxed) {
            self.forget(&known.topic);
            let again = self.known(&known.topic).await?.subscribed.load(Ordering::Relaxed);
            known.subscribed.store(again, Ordering::Relaxed);
        }
        Ok(known.subscribed.load(Ordering::Relaxed))
    }

    /// How the server keeps the consumer of this subscription, if it is there.
    pub(super) async fn find(self: &Arc<Self>, subscription: &Subscription) -> Result<Option<Value>> {
        let (link, names) = (self.link().await?, self.names());
        let (stream, name) = (names.stream(subscription.topic.name()), names.consumer(&subscription.name));
        let place = || self.at(format!("subscription {subscription}"));
        let info = link.api(&format!("CONSUMER.INFO.{stream}.{name}"), &Value::Null).await;
        match info.map_err(|error| error.at(place()))? {
            Ok(info) => Ok(Some(info)),
            Err(refusal) if [NO_CONSUMER, NO_STREAM].contains(&refusal.code) => Ok(None),
            Err(refusal) => Err(link.failed("CONSUMER.INFO", &refusal).at(place())),
        }
    }

    /// The station of this subscription, whose consumer waits longer than leases hold.
    pub(super) async fn open(self: &Arc<Self>, subscription: &Subscription, hold: Duration) -> Result<usize> {
        let wait = plan::wait_for(hold);
        let found = |table: &Table| {
            table.find(subscription).filter(|at| table.station(*at).is_some_and(|station| station.wait >= wait))
        };
        if let Some(at) = self.decide(|table| found(table)) {
            return Ok(at);
        }
        let _one = self.opening.lock().await;
        if let Some(at) = self.decide(|table| found(table)) {
            return Ok(at);
        }
        let Some(info) = self.find(subscription).await? else {
            let place = self.at(format!("subscription {subscription}"));
            return Err(Error::new(Kind::NotFound, "it is not declared").at(place));
        };
        let its = info.pointer("/config/ack_wait").and_then(Value::as_u64).map_or(Duration::ZERO, Duration::from_nanos);
        if its < wait {
            self.make_consumer(subscription, wait).await?;
        }
        let names = self.names();
        let (stream, name) = (names.stream(subscription.topic.name()), names.consumer(&subscription.name));
        Ok(self.decide(|table| {
            let at = table.open(subscription, stream, name, its.max(wait));
            if let Some(station) = table.stations.get_mut(at) {
                station.wait = its.max(wait);
            }
            at
        }))
    }
}
