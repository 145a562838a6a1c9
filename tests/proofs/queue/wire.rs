//! The wire between a process and its broker: it loses, delays, doubles and reorders calls and answers, is cut at times,
//! and its process may crash on either side of a call.

use super::{
    features::Features,
    process::Process,
    record::Record,
    witness::{Witness, leases},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use seedpod::{
    Error, Kind, Result,
    base::{
        Answer, Few, Name, Rng,
        sync::{
            Lock,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        time,
    },
    net::Scope,
    queue::{
        Broker, Delivery, Guarantees, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    },
};
use std::{sync::Arc, time::Duration};

/// The words of faults.
pub(super) const CALL_LOST: &str = "call lost";
pub(super) const ANSWER_LOST: &str = "answer lost";
pub(super) const CALL_DELAYED: &str = "call delayed";
pub(super) const CALL_DOUBLED: &str = "call doubled";
pub(super) const CALLS_REORDERED: &str = "calls reordered";
pub(super) const PARTITIONED: &str = "partitioned";
pub(super) const KILLED: &str = "killed";

/// What all wires of a world share.
#[derive(Clone)]
pub(super) struct Weather {
    pub(super) broker: Arc<Witness>,
    /// Where calls in trouble go on, whoever made them and whether it still lives.
    pub(super) calls: Scope,
    /// How many calls in a hundred are in trouble.
    trouble: Arc<AtomicU64>,
}

impl Weather {
    pub(super) fn new(broker: Arc<Witness>, calls: Scope) -> Weather {
        Weather { broker, calls, trouble: Arc::default() }
    }

    pub(super) fn trouble(&self, percent: u64) {
        self.trouble.store(percent, Relaxed);
    }

    fn record(&self) -> &Record {
        &self.broker.record
    }
}

/// One end of it. Clones share.
#[derive(Clone)]
pub(super) struct Wire(Arc<Inner>);

struct Inner {
    weather: Weather,
    rng: Lock<Rng>,
    cut: Lock<Option<time::Instant>>,
    issued: AtomicU64,
    /// The latest call that has arrived.
    arrived: AtomicU64,
    /// Who crashes.
    process: Option<Process>,
}

/// What befalls a call in trouble.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    AnswerLost,
    Late,
    Doubled,
    CrashBefore,
    CrashAfter,
}

/// A call that can be made again, whoever is left of those who made it first.
type Ask<T> = Arc<dyn Fn(Arc<Witness>) -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// What a call is about: known from the start, and what its answer shows.
struct About<T> {
    /// None: nothing is in flight before it answers.
    known: Option<Features>,
    /// Of all that it shows.
    each: Features,
    shown: fn(&T) -> Option<Features>,
    /// Whether it may come twice: what neither a lease nor a remembered id fences is made in the broker's own process.
    doubles: bool,
}

impl<T> About<T> {
    fn known(features: Features) -> About<T> {
        About { known: Some(features), each: Features::NONE, shown: |_| None, doubles: true }
    }

    fn all(&self, result: Option<&Result<T>>) -> Option<Features> {
        let shown = result.and_then(|result| result.as_ref().ok()).and_then(self.shown).map(|own| own | self.each);
        match (self.known, shown) {
            (None, None) => None,
            (known, shown) => Some(known.unwrap_or_default() | shown.unwrap_or_default()),
        }
    }
}

impl Wire {
    pub(super) fn new(weather: Weather, rng: Rng, process: Option<Process>) -> Wire {
        Wire(Arc::new(Inner {
            weather,
            rng: Lock::new(rng),
            cut: Lock::default(),
            issued: AtomicU64::new(1),
            arrived: AtomicU64::new(0),
            process,
        }))
    }

    /// Nothing passes until then.
    pub(super) fn cut(&self, until: time::Instant) {
        *self.0.cut.lock() = Some(until);
    }

    fn is_cut(&self) -> bool {
        self.0.cut.lock().is_some_and(|until| until > time::now())
    }

    fn met(&self, fault: &'static str, features: Option<Features>) {
        if let Some(features) = features {
            self.0.weather.record().met(fault, features);
        }
    }

    fn draw(&self) -> Option<Fate> {
        let trouble = self.0.weather.trouble.load(Relaxed);
        let mut rng = self.0.rng.lock();
        if trouble == 0 || rng.below(100) >= trouble {
            return None;
        }
        let most = if self.0.process.is_some() { 13 } else { 12 };
        Some(match rng.below(most) {
            0..3 => Fate::Lost,
            3..6 => Fate::AnswerLost,
            6..9 => Fate::Late,
            9..12 => Fate::Doubled,
            _ if rng.chance(0.5) => Fate::CrashBefore,
            _ => Fate::CrashAfter,
        })
    }

    fn wait(&self) -> Duration {
        let mut rng = self.0.rng.lock();
        Duration::from_millis(if rng.chance(0.6) { rng.below(50) } else { 0 })
    }

    /// A call on its way, plainly or in trouble.
    fn call<'a, T: Send + Unpin + 'static>(
        &'a self,
        about: About<T>,
        plain: impl FnOnce() -> Answer<'a, T>,
        ask: impl FnOnce() -> Ask<T>,
    ) -> Answer<'a, T> {
        let number = self.0.issued.fetch_add(1, Relaxed);
        if self.is_cut() {
            self.met(PARTITIONED, about.known);
            let wait = self.wait();
            return Answer::later(async move {
                time::sleep(wait).await;
                Err(Error::new(Kind::Unavailable, "out of reach"))
            });
        }
        match self.draw() {
            None => {
                self.0.arrived.fetch_max(number, Relaxed);
                match plain() {
                    Answer::Now(result) => Answer::Now(result),
                    later => Answer::later(async move {
                        let result = later.await;
                        self.back(&about, result)
                    }),
                }
            }
            Some(fate @ (Fate::CrashBefore | Fate::CrashAfter)) => {
                let answer = (fate == Fate::CrashAfter).then(plain);
                let result = match &answer {
                    Some(Answer::Now(result)) => result.as_ref(),
                    _ => None,
                };
                if let Some(process) = &self.0.process {
                    let (holds, own) = (process.holds(), about.all(result));
                    self.met(KILLED, own.map(|own| own | holds).or((!holds.is_none()).then_some(holds)));
                    process.kill();
                }
                Answer::later(std::future::pending())
            }
            Some(fate) => {
                let fate = if fate == Fate::Doubled && !about.doubles { Fate::Late } else { fate };
                let under_way = self.0.weather.calls.spawn(self.clone().under_way(number, fate, about, ask()));
                Answer::later(async move {
                    under_way.await.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the wire is gone")))
                })
            }
        }
    }

    /// A call in trouble: it goes on, though whoever made it be gone.
    async fn under_way<T: Send + 'static>(self, number: u64, fate: Fate, about: About<T>, ask: Ask<T>) -> Result<T> {
        let broker = &self.0.weather.broker;
        let (before, after) = (self.wait(), self.wait());
        time::sleep(before).await;
        if fate == Fate::Lost {
            self.met(CALL_LOST, about.known);
            return Err(Error::new(Kind::Unavailable, "out of reach"));
        }
        if self.0.arrived.fetch_max(number, Relaxed) > number {
            self.met(CALLS_REORDERED, about.known);
        }
        let result = ask(broker.clone()).await;
        let features = about.all(Some(&result));
        if fate == Fate::Doubled {
            let (again, wire, wait) = (ask(broker.clone()), self.clone(), self.wait());
            self.0.weather.calls.spawn(async move {
                time::sleep(wait).await;
                let second = again.await;
                wire.met(CALL_DOUBLED, about.all(Some(&second)).or(features));
            });
            return self.lossless(result, after).await;
        }
        if !(before.is_zero() && after.is_zero()) {
            self.met(CALL_DELAYED, features);
        }
        let result = self.lossless(result, after).await;
        if fate == Fate::AnswerLost {
            self.met(ANSWER_LOST, features);
            return Err(Error::new(Kind::Unavailable, "no answer"));
        }
        result
    }

    async fn lossless<T>(&self, result: Result<T>, wait: Duration) -> Result<T> {
        time::sleep(wait).await;
        result
    }

    /// An answer that took its time may find the wire cut.
    fn back<T>(&self, about: &About<T>, result: Result<T>) -> Result<T> {
        if !self.is_cut() {
            return result;
        }
        self.met(PARTITIONED, about.all(Some(&result)));
        Err(Error::new(Kind::Unavailable, "no answer"))
    }
}

fn of_deliveries(deliveries: &Few<Delivery>) -> Option<Features> {
    let all = deliveries.iter().map(|delivery| Features::of(&Topic::new(""), &delivery.batch.headers));
    (!deliveries.is_empty()).then(|| all.collect())
}

impl Broker for Wire {
    fn guarantees(&self) -> Guarantees {
        self.0.weather.broker.guarantees()
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.0.weather.broker.declare(topic, options)
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        let known = batches.iter().map(|publish| Features::of(&publish.topic, &publish.headers)).collect();
        let copy = batches.clone();
        self.call(
            About::known(known),
            || self.0.weather.broker.publish(batches),
            || {
                Arc::new(move |broker| {
                    let batches = copy.clone();
                    Box::pin(async move { broker.publish(batches).await })
                })
            },
        )
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.call(
            About { known: None, each: Features::of_topic(&subscription.topic), shown: of_deliveries, doubles: true },
            || self.0.weather.broker.lease(subscription, want),
            || {
                let subscription = subscription.clone();
                Arc::new(move |broker| {
                    let subscription = subscription.clone();
                    Box::pin(async move { broker.lease(&subscription, want).await })
                })
            },
        )
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        let known = self.0.weather.broker.features(&step);
        let doubles = leases(&step).next().is_some();
        let copy = step.clone();
        self.call(
            About { doubles, ..About::known(known) },
            || self.0.weather.broker.settle(step),
            || {
                Arc::new(move |broker| {
                    let step = copy.clone();
                    Box::pin(async move { broker.settle(step).await })
                })
            },
        )
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        self.call(
            About::known(Features::of_row(key.as_str())),
            || self.0.weather.broker.load(key),
            || {
                let key = key.clone();
                Arc::new(move |broker| {
                    let key = key.clone();
                    Box::pin(async move { broker.load(&key).await })
                })
            },
        )
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.0.weather.broker.inspect(topic)
    }
}
