//! Every promise of the suite, on both servers; and on two brokers that share one.

use crate::servers;
use seedpod::{
    Result,
    base::{Answer, Few, Name},
    queue::{
        Broker, BrokerExt, Delivery, Guarantees, Id, Nats, Publish, Receipt, Step, Subscription, Topic, TopicOptions,
        TopicStats, Want,
    },
    testing,
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_on_every_server() {
    for program in servers::programs() {
        println!("{}", program.display());
        let server = servers::start(program);
        let broker = servers::connect(&server).await;
        testing::broker::all(&broker).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    }
}

/// A topic begun by one client is gone on with by another: what is noted of messages, and how topics are declared,
/// stands on the server.
#[tokio::test]
async fn another_client_finds_everything_as_it_was_left() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let (one, other) = (servers::connect(&server).await, servers::connect(&server).await);
        let topic = Topic::new("left");
        one.declare(&topic, TopicOptions::new().subscription("s").dead_letters("left.dead").capacity(100)).await?;
        let subscription = topic.subscription("s");
        one.send(Publish::json(&topic, Id::of("a"), 1_u32)).await?;
        for _ in 0..2 {
            let got = one.lease(&subscription, Want::one()).await?.remove(0);
            one.settle(Step::new().retry(seedpod::queue::Retry::new(got.lease))).await?;
        }
        let lapsing = one.lease(&subscription, Want::one().hold(Duration::from_millis(100))).await?.remove(0);
        let again = other.lease(&subscription, Want::one()).await?.remove(0);
        assert_eq!((again.attempts.failures, again.attempts.lapses), (2, 1));
        assert_ne!(again.lease.epoch, 0);
        assert!(one.ack(lapsing.lease).await.is_err(), "its lease is over");
        other.settle(Step::new().reject(seedpod::queue::Reject::new(again.lease, "no use"))).await?;
        let dead = Topic::new("left.dead").subscription(seedpod::queue::DEAD_LETTERS);
        let letter = one.lease(&dead, Want::one()).await?.remove(0);
        let history = seedpod::queue::DeadLetter::read(&letter.batch.headers).expect("a dead letter");
        assert_eq!((history.attempts.failures, history.attempts.lapses, &*history.reason), (2, 1, "no use"));

        let contrary = TopicOptions::new().subscription("s").capacity(101);
        let error = other.declare(&topic, contrary).await.unwrap_err();
        assert_eq!(error.kind(), seedpod::Kind::Conflict, "{error}");
    }
    Ok(())
}

/// The items of a batch that are done stay done, though their client is gone.
#[tokio::test]
async fn what_is_done_of_a_batch_is_not_done_again() {
    // a client that is gone is noticed when the consumer has waited, for 37.5 s: all servers at once
    let all = servers::programs().into_iter().map(|program| async {
        let server = servers::start(program);
        let topic = Topic::new("batch");
        let subscription = topic.subscription("s");
        let payload = seedpod::queue::Payload::values((0..10_u32).collect(), seedpod::queue::Json);
        {
            let gone = servers::connect(&server).await;
            gone.declare(&topic, TopicOptions::new().subscription("s")).await?;
            gone.send(Publish::new(&topic, Id::of("batch"), payload)).await?;
            for delivery in gone.lease(&subscription, Want::items(4).chunk(1)).await? {
                gone.ack(delivery.lease).await?;
            }
            assert_eq!(gone.lease(&subscription, Want::items(2).chunk(1)).await?.len(), 2);
        }
        let other = servers::connect(&server).await;
        let mut rest = Vec::new();
        while rest.len() < 6 {
            for delivery in other.lease(&subscription, Want::items(10)).await? {
                for item in 0..delivery.len() {
                    rest.push((delivery.json::<u32>(item)?, delivery.attempts.lapses));
                }
                other.ack(delivery.lease).await?;
            }
        }
        assert_eq!(rest, [(4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1)]);
        assert_eq!(other.inspect(&topic).await?.stored, 0);
        Ok::<_, seedpod::Error>(())
    });
    let all: Result<Vec<()>> = futures::future::try_join_all(all).await;
    all.unwrap_or_else(|error| panic!("{}", error.chain()));
}

/// Calls go to two clients of one server in turn, except that what one has leased it settles.
struct InTurn(Nats, Nats);

impl InTurn {
    fn by(&self, name: &Name) -> &Nats {
        if name.hash64().is_multiple_of(2) { &self.0 } else { &self.1 }
    }
}

impl Broker for InTurn {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }
    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.1.declare(topic, options)
    }
    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.1.publish(batches)
    }
    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.0.lease(subscription, want)
    }
    fn settle(&self, step: Step) -> Answer<'_, ()> {
        self.0.settle(step)
    }
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, bytes::Bytes)> {
        self.by(key).load(key)
    }
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.0.inspect(topic)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_publishes_and_another_works() {
    for program in servers::programs() {
        let server = servers::start(program);
        let broker = InTurn(servers::connect(&server).await, servers::connect(&server).await);
        testing::broker::all(&broker).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    }
}
