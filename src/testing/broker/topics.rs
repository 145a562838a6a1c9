//! Topics: declared, bounded, in order.

use super::{MOMENT, declared, drain, nothing, numbers, one, refused};
use crate::base::{Error, Kind, Result, time};
use crate::queue::{
    Bound, Broker, BrokerExt, Charge, Id, Json, Payload, Publish, Retry, Step, Topic, TopicOptions, Want,
};
use futures::future;
use std::time::Duration;

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

/// However a broker counts, a topic is not without a bound: a publisher is refused in the end, and nothing of what was
/// taken is lost; settling makes room.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn bounds_every_topic(broker: &dyn Broker) -> Result {
    let refusing = TopicOptions::new().capacity(8).bound(Bound::Refuse);
    let (topic, subscription) = declared(broker, "bounded", refusing).await?;
    let mut taken = Vec::new();
    for number in 0..1000_u32 {
        match broker.send(Publish::json(&topic, Id::of(number.to_string()), number)).await {
            Ok(_) => taken.push(number),
            error => {
                refused(error, Kind::Overloaded, "conformance.bounded");
                break;
            }
        }
    }
    assert!((8..1000).contains(&taken.len()), "a topic for 8 took {}", taken.len());
    let mut drained = drain(broker, &subscription).await?;
    drained.sort_unstable();
    assert_eq!(drained, taken);
    broker.send(Publish::json(&topic, Id::of("again"), 7)).await?;
    assert_eq!(drain(broker, &subscription).await?, [7]);
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

/// A subscription that comes late sees the last items first, as many as the topic keeps; or a history is refused.
///
/// # Errors
/// Those of the broker.
pub async fn keeps_a_history(broker: &dyn Broker) -> Result {
    let topic = Topic::new("conformance.keeps_a_history");
    let options = || TopicOptions::new().history(3);
    if !broker.guarantees().history {
        refused(broker.declare(&topic, options()).await, Kind::Unsupported, topic.as_str());
        return Ok(());
    }
    broker.declare(&topic, options().subscription("one")).await?;
    numbers(broker, &topic, 0..5).await?;
    assert_eq!(drain(broker, &topic.subscription("one")).await?, [0, 1, 2, 3, 4]);
    broker.declare(&topic, options().subscription("late")).await?;
    broker.declare(&topic, options().subscription("late")).await?;
    let late = topic.subscription("late");
    assert_eq!(drain(broker, &late).await?, [2, 3, 4], "the last ones, once, though others are done with them");
    numbers(broker, &topic, 5..6).await?;
    assert_eq!(drain(broker, &late).await?, [5]);
    assert_eq!(drain(broker, &topic.subscription("one")).await?, [5]);
    Ok(())
}
