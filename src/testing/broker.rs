//! The conformance suite of [`Broker`]: a function per promise, and [`all`] of them.
//!
//! Run it against a broker of your own, with time paused where it keeps to tokio's clock. Each promise uses a topic of
//! its own name, so the broker should be empty, but need not be new for each. What a broker does not
//! [guarantee](Broker::guarantees) it must refuse, and that is checked instead.
//!
//! ```
//! use seedpod::{queue::Memory, testing};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
//! testing::broker::all(&Memory::new()).await
//! # }
//! ```
//!
//! # Panics
//! Each function panics where the promise is broken, and fails where the broker fails.

use crate::base::{Error, Kind, Result, time};
use crate::queue::{
    Attempts, Bound, Broker, BrokerExt, Charge, DEAD_LETTERS, DeadLetter, Delivery, Id, Json, Payload, Publish, Reject,
    Retry, Step, Subscription, Topic, TopicOptions, Want,
};
use bytes::Bytes;
use futures::{FutureExt, future};
use std::{collections::BTreeSet, time::Duration};

/// Long enough for a broker on the other side of a network, and nothing where time is paused.
const MOMENT: Duration = Duration::from_millis(200);

/// Keeps every promise.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn all(broker: &dyn Broker) -> Result {
    keeps_until_settled(broker).await?;
    every_subscription_sees_every_message(broker).await?;
    workers_compete(broker).await?;
    cuts_ranges_off_batches(broker).await?;
    heeds_bytes(broker).await?;
    lapsed_leases_come_back_and_are_fenced(broker).await?;
    extensions_hold(broker).await?;
    retries_come_back_as_charged(broker).await?;
    retries_some_items(broker).await?;
    rejects_to_dead_letters(broker).await?;
    refuses_contradictions(broker).await?;
    refuses_what_is_not_declared(broker).await?;
    declares_again(broker).await?;
    waits_and_is_woken(broker).await?;
    dropped_leases_lose_nothing(broker).await?;
    keeps_to_the_capacity(broker).await?;
    steps_are_atomic(broker).await?;
    keeps_state(broker).await?;
    heeds_priorities(broker).await?;
    heeds_delays(broker).await?;
    keeps_the_order_of_keys(broker).await?;
    first_in_is_first_out(broker).await?;
    knows_duplicates(broker).await
}

async fn declared(broker: &dyn Broker, name: &str, options: TopicOptions) -> Result<(Topic, Subscription)> {
    let topic = Topic::new(format!("conformance.{name}"));
    broker.declare(&topic, options.subscription("one")).await?;
    Ok((topic.clone(), topic.subscription("one")))
}

async fn numbers(broker: &dyn Broker, topic: &Topic, numbers: impl IntoIterator<Item = u32>) -> Result {
    for number in numbers {
        broker.send(Publish::json(topic, Id::of(number.to_string()), number)).await?;
    }
    Ok(())
}

/// One delivery that is there, or comes soon.
async fn one(broker: &dyn Broker, subscription: &Subscription, want: Want) -> Result<Delivery> {
    let mut got = broker.lease(subscription, want.wait(10 * MOMENT)).await?;
    got.pop().ok_or_else(|| Error::new(Kind::Timeout, "nothing came").at(format!("subscription {subscription}")))
}

/// Whether nothing is to be had.
async fn nothing(broker: &dyn Broker, subscription: &Subscription) -> Result<bool> {
    Ok(broker.lease(subscription, Want::one().wait(Duration::ZERO)).await?.is_empty())
}

/// Leases and acknowledges all that is there, as numbers.
async fn drain(broker: &dyn Broker, subscription: &Subscription) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    loop {
        let got = broker.lease(subscription, Want::items(100).wait(Duration::ZERO)).await?;
        if got.is_empty() {
            return Ok(all);
        }
        for delivery in got {
            for item in 0..delivery.len() {
                all.push(delivery.json(item)?);
            }
            broker.ack(delivery.lease).await?;
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T>, kind: Kind, names: &str) {
    match result {
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.place().is_some_and(|place| place.contains(names)), "{error} does not name {names}");
        }
        Ok(value) => assert_eq!(Some(kind), None, "it was taken: {value:?}"),
    }
}

/// What was published is stored until it is settled, and then gone.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn keeps_until_settled(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "keeps", TopicOptions::new()).await?;
    let receipt = broker.send(Publish::json(&topic, Id::of("a"), "text".to_string()).header("origin", "here")).await?;
    assert_eq!((receipt.stored, receipt.duplicates), (1, 0));
    let stats = broker.inspect(&topic).await?;
    assert_eq!((stats.stored, stats.ready, stats.leased), (1, 1, 0));
    let delivery = one(broker, &subscription, Want::one()).await?;
    assert_eq!((delivery.id(0), delivery.attempts), (Id::of("a"), Attempts::default()));
    assert_eq!(delivery.json::<String>(0)?, "text");
    assert_eq!(delivery.bytes(0)?, r#""text""#);
    assert_eq!(delivery.batch.headers.get("origin"), Some("here"));
    let stats = broker.inspect(&topic).await?;
    assert_eq!((stats.stored, stats.ready, stats.leased), (1, 0, 1));
    broker.ack(delivery.lease).await?;
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    refused(broker.ack(delivery.lease).await, Kind::LeaseLost, "conformance.keeps/one");
    Ok(())
}

/// Each subscription gets each message, and settles it for itself; a later one gets what comes later.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn every_subscription_sees_every_message(broker: &dyn Broker) -> Result {
    let (topic, first) = declared(broker, "fan_out", TopicOptions::new().subscription("two")).await?;
    numbers(broker, &topic, 0..3).await?;
    broker.declare(&topic, TopicOptions::new().subscription("late")).await?;
    numbers(broker, &topic, 3..5).await?;
    assert_eq!(drain(broker, &first).await?, [0, 1, 2, 3, 4]);
    assert_eq!(broker.inspect(&topic).await?.stored, 7);
    assert_eq!(drain(broker, &topic.subscription("two")).await?, [0, 1, 2, 3, 4]);
    assert_eq!(drain(broker, &topic.subscription("late")).await?, [3, 4]);
    let nobody = Topic::new("conformance.nobody");
    broker.declare(&nobody, TopicOptions::new()).await?;
    assert_eq!(broker.send(Publish::new(&nobody, Id::of("x"), "lost")).await?.stored, 0);
    Ok(())
}

/// Within a subscription no item is leased twice at once, and none is left out.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn workers_compete(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "compete", TopicOptions::new()).await?;
    let worker = || async {
        let mut mine = Vec::new();
        while let Ok(delivery) = one(broker, &subscription, Want::one()).await {
            mine.push(delivery.json::<u32>(0)?);
            time::sleep(MOMENT / 100).await;
            broker.ack(delivery.lease).await?;
        }
        Ok::<_, Error>(mine)
    };
    let workers = future::try_join_all((0..4).map(|_| worker()));
    let (shares, published) = future::join(workers, numbers(broker, &topic, 0..40)).await;
    published?;
    let shares = shares?;
    assert!(shares.iter().filter(|share| !share.is_empty()).count() > 1, "one worker got it all: {shares:?}");
    let all: Vec<u32> = shares.into_iter().flatten().collect();
    assert_eq!(all.len(), 40);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (0..40).collect());
    Ok(())
}

/// A lease cuts ranges off a batch; each item keeps the id that it has in the batch, and each range is settled alone.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn cuts_ranges_off_batches(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "ranges", TopicOptions::new()).await?;
    let payload = Payload::values((0..10_u32).collect(), Json);
    assert_eq!(broker.send(Publish::new(&topic, Id::of("batch"), payload)).await?.stored, 10);
    let got = broker.lease(&subscription, Want::items(8).chunk(3)).await?;
    assert!(got.iter().all(|delivery| delivery.len() <= 3));
    assert_eq!(got.iter().map(Delivery::len).sum::<u32>(), 8);
    for delivery in &got {
        for item in 0..delivery.len() {
            assert_eq!(delivery.id(item), Id::of("batch").item(delivery.json::<u32>(item)?));
        }
    }
    let (kept, acked): (Vec<_>, Vec<_>) = got.into_iter().enumerate().partition(|(index, _)| *index == 0);
    for (_, delivery) in acked {
        broker.ack(delivery.lease).await?;
    }
    let left = kept.iter().map(|(_, delivery)| delivery.len()).sum::<u32>() + 2;
    assert_eq!(broker.inspect(&topic).await?.stored, left as usize);
    assert_eq!(drain(broker, &subscription).await?, [8, 9]);
    for (_, delivery) in kept {
        broker.ack(delivery.lease).await?;
    }
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    Ok(())
}

/// A lease takes no more bytes than wanted, except that the first item always comes.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn heeds_bytes(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "bytes", TopicOptions::new()).await?;
    let items = [900, 300, 300, 300].map(|size| Bytes::from(vec![0; size]));
    broker.send(Publish::new(&topic, Id::of("batch"), Payload::many(items))).await?;
    for expected in [1, 2, 1] {
        let got = broker.lease(&subscription, Want::items(10).bytes(700)).await?;
        assert_eq!(got.iter().map(Delivery::len).sum::<u32>(), expected);
        for delivery in got {
            broker.ack(delivery.lease).await?;
        }
    }
    Ok(())
}

/// A lease that ran out is counted, its items come back, and its holder is refused for good.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn lapsed_leases_come_back_and_are_fenced(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "lapse", TopicOptions::new()).await?;
    numbers(broker, &topic, [7]).await?;
    let first = one(broker, &subscription, Want::one().hold(MOMENT)).await?;
    assert!(nothing(broker, &subscription).await?, "it is leased");
    let second = one(broker, &subscription, Want::one().hold(100 * MOMENT)).await?;
    assert_eq!((second.attempts.lapses, second.attempts.total(), second.id(0)), (1, 1, first.id(0)));
    assert_ne!(second.lease.epoch, first.lease.epoch);
    refused(broker.ack(first.lease).await, Kind::LeaseLost, "conformance.lapse/one");
    refused(broker.settle(Step::new().retry(Retry::new(first.lease))).await, Kind::LeaseLost, "conformance.lapse");
    refused(broker.settle(Step::new().extend(first.lease, MOMENT)).await, Kind::LeaseLost, "conformance.lapse");
    broker.ack(second.lease).await?;
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    Ok(())
}

/// An extended lease holds until its new deadline, a shortened one no longer.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn extensions_hold(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "extend", TopicOptions::new()).await?;
    numbers(broker, &topic, [7]).await?;
    let held = one(broker, &subscription, Want::one().hold(2 * MOMENT)).await?;
    for _ in 0..3 {
        time::sleep(MOMENT).await;
        broker.settle(Step::new().extend(held.lease, 2 * MOMENT)).await?;
    }
    assert!(nothing(broker, &subscription).await?, "it is still leased");
    broker.settle(Step::new().extend(held.lease, 1000 * MOMENT)).await?;
    let waiting = one(broker, &subscription, Want::one());
    let shortened = async {
        time::sleep(MOMENT).await;
        broker.settle(Step::new().extend(held.lease, MOMENT)).await
    };
    let (waiting, shortened) = future::join(waiting, shortened).await;
    shortened?;
    broker.ack(waiting?.lease).await
}

/// A retry comes back after its delay, charged as it says; one charged with nothing counts no attempt.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn retries_come_back_as_charged(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "retry", TopicOptions::new()).await?;
    numbers(broker, &topic, [7]).await?;
    let mut expected = Attempts::default();
    for charge in [Charge::Failure, Charge::Crash, Charge::Nothing, Charge::Failure] {
        let delivery = one(broker, &subscription, Want::one()).await?;
        assert_eq!(delivery.attempts, expected);
        broker.settle(Step::new().retry(Retry::new(delivery.lease).charge(charge))).await?;
        expected.failures += u16::from(charge == Charge::Failure);
        expected.crashes += u16::from(charge == Charge::Crash);
    }
    let delivery = one(broker, &subscription, Want::one()).await?;
    assert_eq!(delivery.attempts, expected);
    let before = time::now();
    broker.settle(Step::new().retry(Retry::new(delivery.lease).after(MOMENT))).await?;
    assert_eq!(broker.inspect(&topic).await?.delayed, 1);
    let delivery = one(broker, &subscription, Want::one()).await?;
    assert!(time::now() - before >= MOMENT, "it came too soon");
    broker.ack(delivery.lease).await
}

/// Some items of a delivery are retried, the others are done.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn retries_some_items(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "some", TopicOptions::new()).await?;
    let payload = Payload::values((0..10_u32).collect(), Json);
    broker.send(Publish::new(&topic, Id::of("batch"), payload)).await?;
    let delivery = one(broker, &subscription, Want::items(10)).await?;
    let (low, high) = (Retry::new(delivery.lease).items(1..3), Retry::new(delivery.lease).items(7..8));
    broker.settle(Step::new().retry(low).retry(high)).await?;
    assert_eq!(broker.inspect(&topic).await?.stored, 3);
    let mut left = drain(broker, &subscription).await?;
    left.sort_unstable();
    assert_eq!(left, [1, 2, 7]);
    Ok(())
}

/// What is rejected goes to the dead letters, with its reason and its history, under a derived id.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn rejects_to_dead_letters(broker: &dyn Broker) -> Result {
    let dead = Topic::new("conformance.reject.dead");
    let (topic, subscription) = declared(broker, "reject", TopicOptions::new().dead_letters(&dead)).await?;
    broker.send(Publish::json(&topic, Id::of("a"), 7_u32).header("origin", "here")).await?;
    let delivery = one(broker, &subscription, Want::one()).await?;
    broker.settle(Step::new().retry(Retry::new(delivery.lease))).await?;
    let delivery = one(broker, &subscription, Want::one()).await?;
    broker.settle(Step::new().reject(Reject::new(delivery.lease, "no such card"))).await?;
    let stats = broker.inspect(&topic).await?;
    assert_eq!((stats.stored, stats.rejected), (0, 1));
    let letter = one(broker, &dead.subscription(DEAD_LETTERS), Want::one()).await?;
    assert_eq!(letter.json::<u32>(0)?, 7);
    assert_eq!(letter.id(0), Id::derive(&subscription.name, Id::of("a"), DeadLetter::PORT, 0));
    assert_eq!(letter.batch.headers.get("origin"), Some("here"));
    let history = DeadLetter::new("no such card", subscription.clone(), Id::of("a"), Attempts::new(1, 0, 0));
    assert_eq!(DeadLetter::read(&letter.batch.headers), Some(history));
    broker.ack(letter.lease).await?;

    let (topic, subscription) = declared(broker, "reject.nowhere", TopicOptions::new()).await?;
    numbers(broker, &topic, [1]).await?;
    let delivery = one(broker, &subscription, Want::one()).await?;
    broker.settle(Step::new().reject(Reject::new(delivery.lease, "unwanted"))).await?;
    let stats = broker.inspect(&topic).await?;
    assert_eq!((stats.stored, stats.rejected), (0, 1));
    Ok(())
}

/// A step that says two things of one item, or speaks of items that are not there, is refused whole.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn refuses_contradictions(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "contradiction", TopicOptions::new()).await?;
    broker.send(Publish::new(&topic, Id::of("batch"), Payload::values(vec![1_u32, 2, 3], Json))).await?;
    let lease = one(broker, &subscription, Want::items(3)).await?.lease;
    let steps = [
        Step::new().retry(Retry::new(lease).items(0..4)),
        Step::new().retry(Retry::new(lease).items(1..1)),
        Step::new().retry(Retry::new(lease)).retry(Retry::new(lease)),
        Step::new().retry(Retry::new(lease).items(0..2)).reject(Reject::new(lease, "").items(1..2)),
        Step::new().retry(Retry::new(lease)).reject(Reject::new(lease, "")),
    ];
    for step in steps {
        let shown = format!("{step:?}");
        assert_eq!(broker.settle(step).await.map_err(|error| error.kind()), Err(Kind::Invalid), "{shown}");
    }
    let asks_nothing = broker.lease(&subscription, Want::items(0).wait(Duration::ZERO)).await;
    refused(asks_nothing, Kind::Invalid, "conformance.contradiction/one");
    assert_eq!(broker.inspect(&topic).await?.leased, 3);
    broker.ack(lease).await
}

/// Topics and subscriptions that are not declared are refused by name, and nothing of such a call is done.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn refuses_what_is_not_declared(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "declared", TopicOptions::new()).await?;
    let stranger = Topic::new("conformance.stranger");
    let both = [Publish::new(&topic, Id::of("a"), "x"), Publish::new(&stranger, Id::of("b"), "y")];
    refused(broker.publish(both.into_iter().collect()).await, Kind::NotFound, "conformance.stranger");
    assert!(nothing(broker, &subscription).await?, "half of it was stored");
    refused(broker.lease(&topic.subscription("two"), Want::one()).await, Kind::NotFound, "conformance.declared/two");
    refused(broker.inspect(&stranger).await, Kind::NotFound, "conformance.stranger");
    Ok(())
}

/// Declaring again is idempotent, and refused where it contradicts.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn declares_again(broker: &dyn Broker) -> Result {
    let options = || TopicOptions::new().capacity(10);
    let (topic, subscription) = declared(broker, "again", options()).await?;
    numbers(broker, &topic, [1]).await?;
    broker.declare(&topic, options().subscription("one")).await?;
    refused(broker.declare(&topic, options().capacity(11)).await, Kind::Conflict, "conformance.again");
    refused(broker.declare(&topic, options().dead_letters(&topic)).await, Kind::Invalid, "conformance.again");
    assert_eq!(drain(broker, &subscription).await?, [1]);
    Ok(())
}

/// A lease waits for what is published, delayed or lapsed, without anyone else's doing; and no longer than wanted.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn waits_and_is_woken(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "wait", TopicOptions::new()).await?;
    let before = time::now();
    assert!(broker.lease(&subscription, Want::one().wait(MOMENT)).await?.is_empty());
    assert!(time::now() - before >= MOMENT, "it gave up too soon");
    let publish = async {
        time::sleep(MOMENT).await;
        numbers(broker, &topic, [1]).await
    };
    let (woken, published) = future::join(one(broker, &subscription, Want::one().hold(MOMENT)), publish).await;
    published?;
    woken?;
    let lapsed = one(broker, &subscription, Want::one()).await?;
    assert_eq!(lapsed.attempts.lapses, 1, "the lease that ran out woke nobody");
    broker.ack(lapsed.lease).await
}

/// A lease that is dropped while it waits takes nothing along, even where it was the one that would have been woken.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn dropped_leases_lose_nothing(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "dropped", TopicOptions::new()).await?;
    let want = Want::one().wait(100 * MOMENT);
    let mut first = Box::pin(broker.lease(&subscription, want));
    let second = broker.lease(&subscription, want);
    assert!(first.as_mut().now_or_never().is_none());
    let later = async {
        time::sleep(MOMENT).await;
        broker.send(Publish::json(&topic, Id::of("a"), 1_u32)).await?;
        drop(first);
        Ok::<_, Error>(())
    };
    let (second, published) = future::join(second, later).await;
    published?;
    let second = second?;
    assert_eq!(second.len(), 1, "the one that still waits got nothing");
    for delivery in second {
        broker.ack(delivery.lease).await?;
    }
    if !broker.guarantees().delays {
        return Ok(());
    }
    let mut first = Box::pin(broker.lease(&subscription, want));
    let second = broker.lease(&subscription, want);
    assert!(first.as_mut().now_or_never().is_none());
    let later = async {
        broker.send(Publish::json(&topic, Id::of("b"), 2_u32).delay(3 * MOMENT)).await?;
        let _ = future::select(&mut first, Box::pin(time::sleep(MOMENT))).await;
        drop(first);
        Ok::<_, Error>(())
    };
    let (second, published) = future::join(second, later).await;
    published?;
    let second = second?;
    assert_eq!(second.len(), 1, "whoever drove the timer took it along");
    for delivery in second {
        broker.ack(delivery.lease).await?;
    }
    Ok(())
}

/// At its capacity a topic makes publishers wait, or refuses; settling makes room.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn keeps_to_the_capacity(broker: &dyn Broker) -> Result {
    if !broker.guarantees().exact_capacity {
        return Ok(());
    }
    let refusing = TopicOptions::new().capacity(2).bound(Bound::Refuse);
    let (topic, subscription) = declared(broker, "refuse", refusing).await?;
    numbers(broker, &topic, 0..2).await?;
    let third = || Publish::json(&topic, Id::of("2"), 2_u32);
    refused(broker.send(third()).await, Kind::Overloaded, "conformance.refuse");
    broker.ack(one(broker, &subscription, Want::one()).await?.lease).await?;
    broker.send(third()).await?;
    assert_eq!(drain(broker, &subscription).await?, [1, 2]);

    let (topic, subscription) = declared(broker, "full", TopicOptions::new().capacity(4)).await?;
    let publisher = numbers(broker, &topic, 0..20);
    let consumer = async {
        let mut all = Vec::new();
        while all.len() < 20 {
            assert!(broker.inspect(&topic).await?.stored <= 4);
            let delivery = one(broker, &subscription, Want::one()).await?;
            all.push(delivery.json::<u32>(0)?);
            broker.ack(delivery.lease).await?;
        }
        Ok::<_, Error>(all)
    };
    let (published, consumed) = future::join(publisher, consumer).await;
    published?;
    assert_eq!(consumed?, (0..20).collect::<Vec<_>>());

    let large = Payload::values((0..9_u32).collect(), Json);
    broker.send(Publish::new(&topic, Id::of("larger than the topic"), large)).await?;
    let waiting = broker.send(Publish::json(&topic, Id::of("behind it"), 9_u32));
    let dropped = broker.send(Publish::json(&topic, Id::of("given up"), 10_u32));
    let consumer = async {
        time::sleep(MOMENT).await;
        drop(dropped);
        drain(broker, &subscription).await
    };
    let (waited, mut all) = future::join(waiting, consumer).await;
    waited?;
    let all = all.as_mut().map_err(|error| error.clone())?;
    all.extend(drain(broker, &subscription).await?);
    assert_eq!(*all, (0..10).collect::<Vec<_>>());
    Ok(())
}

/// A step that is refused for one thing does none of the others.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn steps_are_atomic(broker: &dyn Broker) -> Result {
    if !broker.guarantees().atomic_step {
        return Ok(());
    }
    let (topic, subscription) = declared(broker, "step", TopicOptions::new()).await?;
    let refusing = TopicOptions::new().capacity(1).bound(Bound::Refuse);
    let (out, out_subscription) = declared(broker, "step.out", refusing).await?;
    numbers(broker, &topic, 0..2).await?;
    let stale = one(broker, &subscription, Want::one()).await?;
    broker.ack(stale.lease).await?;
    let held = one(broker, &subscription, Want::one()).await?;
    let whole = || Step::new().ack(held.lease).publish(Publish::json(&out, Id::of("out"), 1_u32));
    refused(broker.settle(whole().ack(stale.lease)).await, Kind::LeaseLost, "conformance.step/one");
    refused(broker.settle(whole().write("conformance.step", 5, "x")).await, Kind::Conflict, "conformance.step");
    let second = Publish::json(&out, Id::of("another"), 2_u32);
    broker.send(second.clone()).await?;
    refused(broker.settle(whole()).await, Kind::Overloaded, "conformance.step.out");
    assert_eq!(broker.inspect(&topic).await?.leased, 1);
    assert_eq!(broker.load(&"conformance.step".into()).await?, (0, Bytes::new()));
    assert_eq!(drain(broker, &out_subscription).await?, [2]);

    broker.settle(whole().write("conformance.step", 0, "done")).await?;
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    assert_eq!(broker.load(&"conformance.step".into()).await?, (1, Bytes::from_static(b"done")));
    let inner = one(broker, &out_subscription, Want::one()).await?;
    let onward = Step::new().ack(inner.lease).publish(Publish::json(&out, Id::of("round"), 3_u32));
    broker.settle(onward).await?; // to the full topic itself: what it gives up makes the room that it needs
    assert_eq!(drain(broker, &out_subscription).await?, [3]);
    Ok(())
}

/// State is written where its version is the expected one, and read with its version.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn keeps_state(broker: &dyn Broker) -> Result {
    if !broker.guarantees().state {
        refused(broker.settle(Step::new().write("conformance.state", 0, "a")).await, Kind::Unsupported, "");
        return Ok(());
    }
    let key = "conformance.state".into();
    assert_eq!(broker.load(&key).await?, (0, Bytes::new()));
    broker.settle(Step::new().write(&key, 0, "a")).await?;
    refused(broker.settle(Step::new().write(&key, 0, "b")).await, Kind::Conflict, "conformance.state");
    broker.settle(Step::new().write(&key, 1, "c")).await?;
    assert_eq!(broker.load(&key).await?, (2, Bytes::from_static(b"c")));
    let twice = Step::new().write(&key, 2, "d").write(&key, 2, "e");
    refused(broker.settle(twice).await, Kind::Invalid, "conformance.state");
    Ok(())
}

/// The higher priority comes first, whatever came first.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn heeds_priorities(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "priority", TopicOptions::new()).await?;
    for (number, priority) in [(0, 0), (1, 200), (2, 0), (3, 7), (4, 200)] {
        let publish = Publish::json(&topic, Id::of(number.to_string()), number as u32).priority(priority);
        let sent = broker.send(publish).await;
        if !broker.guarantees().priorities && priority > 0 {
            refused(sent, Kind::Unsupported, "conformance.priority");
        } else {
            sent?;
        }
    }
    let expected: &[u32] = if broker.guarantees().priorities { &[1, 4, 3, 0, 2] } else { &[0, 2] };
    assert_eq!(drain(broker, &subscription).await?, expected);
    Ok(())
}

/// What is delayed comes when it is due, not before.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn heeds_delays(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "delay", TopicOptions::new()).await?;
    let before = time::now();
    for (number, delay) in [(0_u32, 3 * MOMENT), (1, MOMENT), (2, Duration::ZERO)] {
        let sent = broker.send(Publish::json(&topic, Id::of(number.to_string()), number).delay(delay)).await;
        if !broker.guarantees().delays && !delay.is_zero() {
            refused(sent, Kind::Unsupported, "conformance.delay");
        } else {
            sent?;
        }
    }
    if broker.guarantees().delays {
        for (number, delay) in [(2_u32, Duration::ZERO), (1, MOMENT), (0, 3 * MOMENT)] {
            let delivery = one(broker, &subscription, Want::one()).await?;
            assert_eq!(delivery.json::<u32>(0)?, number);
            assert!(time::now() - before >= delay, "{number} came too soon");
            broker.ack(delivery.lease).await?;
        }
    }
    Ok(())
}

/// Of one key, one batch is out at a time, in the order of publishing: through retries and lapses, too.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn keeps_the_order_of_keys(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "key", TopicOptions::new()).await?;
    let publish = |number: u32, key: &str| Publish::json(&topic, Id::of(number.to_string()), number).key(key);
    if !broker.guarantees().key_order {
        refused(broker.send(publish(0, "a")).await, Kind::Unsupported, "conformance.key");
        return Ok(());
    }
    for (number, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        broker.send(publish(number, key)).await?;
    }
    assert_eq!(broker.inspect(&topic).await?.blocked, 2);
    let a = one(broker, &subscription, Want::one()).await?;
    let b = one(broker, &subscription, Want::one()).await?;
    assert_eq!((a.json::<u32>(0)?, b.json::<u32>(0)?), (0, 2));
    assert!(nothing(broker, &subscription).await?, "the key is out");
    broker.settle(Step::new().ack(b.lease).retry(Retry::new(a.lease).after(MOMENT))).await?;
    assert!(nothing(broker, &subscription).await?, "one of the key is due again later");
    let a = one(broker, &subscription, Want::one().hold(MOMENT)).await?;
    assert_eq!(a.json::<u32>(0)?, 0);
    let a = one(broker, &subscription, Want::one()).await?;
    assert_eq!((a.json::<u32>(0)?, a.attempts.lapses), (0, 1));
    broker.ack(a.lease).await?;
    assert_eq!(drain(broker, &subscription).await?, [1, 3]);

    let batch = Publish::new(&topic, Id::of("batch"), Payload::values((10..14_u32).collect(), Json)).key("a");
    broker.send(batch).await?;
    broker.send(publish(14, "a")).await?;
    let cut = one(broker, &subscription, Want::items(3)).await?;
    assert_eq!(cut.len(), 3);
    assert!(nothing(broker, &subscription).await?, "the rest of the batch is of the same key");
    let (low, high) = (Retry::new(cut.lease).items(0..1), Retry::new(cut.lease).items(2..3));
    broker.settle(Step::new().retry(high).retry(low)).await?;
    assert_eq!(drain(broker, &subscription).await?, [10, 12, 13, 14]);
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    Ok(())
}

/// Within a priority, first in is first out; what is handed back unstarted, or lapses, keeps its place.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn first_in_is_first_out(broker: &dyn Broker) -> Result {
    if !broker.guarantees().first_in_first_out {
        return Ok(());
    }
    let (topic, subscription) = declared(broker, "order", TopicOptions::new()).await?;
    numbers(broker, &topic, 0..6).await?;
    let got = broker.lease(&subscription, Want::items(3).chunk(1).hold(MOMENT)).await?;
    let mut step = Step::new();
    for delivery in &got {
        step = step.retry(Retry::new(delivery.lease).charge(Charge::Nothing));
    }
    broker.settle(step).await?;
    let lapsing = broker.lease(&subscription, Want::items(3).chunk(1).hold(MOMENT)).await?;
    assert_eq!(lapsing.len(), 3);
    time::sleep(2 * MOMENT).await;
    assert_eq!(drain(broker, &subscription).await?, [0, 1, 2, 3, 4, 5]);
    Ok(())
}

/// The same id within the topic's window is stored once, wherever it is published; after the window it is news.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn knows_duplicates(broker: &dyn Broker) -> Result {
    let options = TopicOptions::new().dedup(2 * MOMENT);
    if broker.guarantees().dedup.is_none() {
        refused(declared(broker, "dedup", options).await, Kind::Unsupported, "conformance.dedup");
        return Ok(());
    }
    let (topic, subscription) = declared(broker, "dedup", options).await?;
    let publish = || Publish::json(&topic, Id::of("a"), 1_u32);
    assert_eq!(broker.send(publish()).await?.stored, 1);
    let again = broker.publish([publish(), Publish::json(&topic, Id::of("b"), 2)].into_iter().collect()).await?;
    assert_eq!((again.stored, again.duplicates), (1, 1));
    assert_eq!(drain(broker, &subscription).await?, [1, 2]);
    broker.settle(Step::new().publish(publish())).await?;
    assert!(nothing(broker, &subscription).await?, "settled or not, it was seen");
    time::sleep(3 * MOMENT).await;
    assert_eq!(broker.send(publish()).await?.stored, 1);
    assert_eq!(drain(broker, &subscription).await?, [1]);
    Ok(())
}
