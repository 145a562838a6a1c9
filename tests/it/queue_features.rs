//! What stands above the broker: turns, limits, batches, schedules, pausing, traces, metrics.

mod batches;
mod brokers;
mod cron;
mod keys;
mod limits;
mod pausing;
mod traces;
mod turns;

use bytes::Bytes;
use seedpod::{
    Error, Kind,
    base::{Answer, Few, Name, sync::Lock, time},
    queue::{
        Broker, Guarantees, Memory, Publish, Queue, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    },
};
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

async fn numbers() -> Queue<u32> {
    Queue::open(Arc::new(Memory::new()), "numbers").await.unwrap()
}

/// What was worked on, and when.
#[derive(Clone)]
struct Log<T>(Arc<Lock<Vec<(Duration, T)>>>, time::Instant);

impl<T: Clone> Log<T> {
    fn new() -> Self {
        Log(Arc::default(), time::now())
    }

    fn say(&self, what: T) {
        self.0.lock().push((time::now() - self.1, what));
    }

    fn all(&self) -> Vec<T> {
        self.0.lock().iter().map(|(_, what)| what.clone()).collect()
    }

    fn times(&self) -> Vec<Duration> {
        self.0.lock().iter().map(|(when, _)| *when).collect()
    }
}

/// Memory without state.
struct Poor(Memory, Option<Duration>);

impl Broker for Poor {
    fn guarantees(&self) -> Guarantees {
        let mut poor = Guarantees::none("poor");
        poor.dedup = self.1;
        poor
    }
    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        match self.guarantees().check(topic, &options) {
            Ok(()) => self.0.declare(topic, options),
            Err(error) => Answer::now(Err(error)),
        }
    }
    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        assert!(batches.iter().all(|publish| publish.priority == 0), "it has no priorities");
        self.0.publish(batches)
    }
    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<seedpod::queue::Delivery>> {
        self.0.lease(subscription, want)
    }
    fn settle(&self, step: Step) -> Answer<'_, ()> {
        assert!(step.state.is_empty(), "it has no state");
        self.0.settle(step)
    }
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        Answer::now(Err(Error::new(Kind::Unsupported, "it has no state").at(format!("state {key}"))))
    }
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.0.inspect(topic)
    }
}
