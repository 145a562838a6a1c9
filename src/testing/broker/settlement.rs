//! What a step says is done, whole or not at all.

use super::{MOMENT, declared, drain, numbers, one, refused, several};
use crate::base::{Kind, Result, time};
use crate::queue::{
    Attempts, Bound, Broker, BrokerExt, Charge, DEAD_LETTERS, DeadLetter, Id, Json, Payload, Publish, Reject, Retry,
    Step, Topic, TopicOptions, Want,
};
use bytes::Bytes;
use std::time::Duration;

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
    let mut step = Step::new();
    for delivery in several(broker, &subscription, 10).await? {
        let mut back = Vec::new();
        for item in 0..delivery.len() {
            if [1, 2, 7].contains(&delivery.json::<u32>(item)?) {
                back.push(Retry::new(delivery.lease).items(item..item + 1));
            }
        }
        step = if back.is_empty() { step.ack(delivery.lease) } else { back.into_iter().fold(step, Step::retry) };
    }
    broker.settle(step).await?;
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

/// Of one delivery several parts can be rejected, each for its own reason; the rest is done.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn rejects_parts_of_one_delivery(broker: &dyn Broker) -> Result {
    let dead = Topic::new("conformance.parts.dead");
    let (topic, subscription) = declared(broker, "parts", TopicOptions::new().dead_letters(&dead)).await?;
    broker.send(Publish::new(&topic, Id::of("five"), Payload::values(vec![0_u32, 1, 2, 3, 4], Json))).await?;
    let mut rejected = 0;
    while rejected < 2 {
        let got = broker.lease(&subscription, Want::items(5).wait(10 * MOMENT)).await?;
        assert!(!got.is_empty(), "two items are rejected, {rejected} came");
        // a broker may hand out a batch in several deliveries
        for delivery in got {
            let mut step = Step::new();
            for item in 0..delivery.len() {
                let number = delivery.json::<u32>(item)?;
                if number % 2 == 1 {
                    let reason = format!("{number} is odd");
                    step.rejects.push(Reject::new(delivery.lease, reason).items(item..item + 1));
                    rejected += 1;
                }
            }
            let step = if step.rejects.is_empty() { step.ack(delivery.lease) } else { step };
            broker.settle(step).await?;
        }
    }
    let mut letters = Vec::new();
    while letters.len() < 2 {
        let letter = one(broker, &dead.subscription(DEAD_LETTERS), Want::one()).await?;
        let reason = DeadLetter::read(&letter.batch.headers).map(|letter| letter.reason).unwrap_or_default();
        letters.push((letter.json::<u32>(0)?, reason));
        broker.ack(letter.lease).await?;
    }
    letters.sort_unstable();
    assert_eq!(letters, [(1, "1 is odd".to_string()), (3, "3 is odd".to_string())]);
    Ok(())
}

/// A step that says two things of one item, or speaks of items that are not there, is refused whole.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn refuses_contradictions(broker: &dyn Broker) -> Result {
    let (topic, subscription) = declared(broker, "contradiction", TopicOptions::new()).await?;
    broker.send(Publish::new(&topic, Id::of("batch"), Payload::values(vec![1_u32, 2, 3], Json))).await?;
    let leased = several(broker, &subscription, 3).await?;
    let lease = leased.iter().map(|delivery| delivery.lease).next().ok_or(Kind::NotFound)?;
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
    broker.settle(leased.iter().fold(Step::new(), |step, delivery| step.ack(delivery.lease))).await
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

/// State is written and forgotten where its version is the expected one, and read with its version.
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
    refused(broker.settle(Step::new().forget(&key, 1)).await, Kind::Conflict, "conformance.state");
    broker.settle(Step::new().forget(&key, 2)).await?;
    assert_eq!(broker.load(&key).await?, (0, Bytes::new()), "forgotten");
    broker.settle(Step::new().write(&key, 0, "again")).await?;
    assert_eq!(broker.load(&key).await?, (1, Bytes::from_static(b"again")));
    Ok(())
}
