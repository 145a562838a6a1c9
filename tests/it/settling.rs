//! Memory whose settlements go as a test has them.

use bytes::Bytes;
use seedpod::{
    base::{Answer, Few, Name},
    queue::{
        Broker, Delivery, Guarantees, Memory, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats,
        Want,
    },
};

/// The memory below, and what becomes of a step.
pub(crate) struct Settling<F>(pub(crate) Memory, pub(crate) F);

impl<F: Fn(&Memory, Step) -> seedpod::Result + Send + Sync + 'static> Broker for Settling<F> {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }
    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.0.declare(topic, options)
    }
    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.0.publish(batches)
    }
    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.0.lease(subscription, want)
    }
    fn settle(&self, step: Step) -> Answer<'_, ()> {
        Answer::now((self.1)(&self.0, step))
    }
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        self.0.load(key)
    }
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.0.inspect(topic)
    }
}

/// Settles on memory, which answers at once.
pub(crate) fn at_once(memory: &Memory, step: Step) -> seedpod::Result {
    match memory.settle(step) {
        Answer::Now(Some(answer)) => answer,
        _ => panic!("memory waits"),
    }
}
