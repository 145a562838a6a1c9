//! What is published is delivered: to every subscription, to one worker at a time, again until it is settled.

use super::{MOMENT, declared, drain, nothing, numbers, one, refused};
use crate::base::{Error, Kind, Result, time};
use crate::queue::{
    Attempts, Broker, BrokerExt, Delivery, Id, Json, Payload, Publish, Retry, Step, Topic, TopicOptions, Want,
};
use bytes::Bytes;
use futures::{FutureExt, future};
use std::collections::BTreeSet;

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

    numbers(broker, &topic, [8]).await?;
    let late = one(broker, &subscription, Want::one().hold(MOMENT)).await?;
    time::sleep(2 * MOMENT).await;
    // nobody has asked for it meanwhile, and still it is too late
    refused(broker.ack(late.lease).await, Kind::LeaseLost, "conformance.lapse/one");
    let again = one(broker, &subscription, Want::one()).await?;
    assert_eq!(again.attempts.lapses, 1);
    broker.ack(again.lease).await
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
    let before = time::now();
    let (waiting, shortened) = future::join(waiting, shortened).await;
    shortened?;
    assert!(time::now() - before < 5 * MOMENT, "the sooner deadline woke nobody");
    broker.ack(waiting?.lease).await
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
    let before = time::now();
    let (second, published) = future::join(second, later).await;
    published?;
    let second = second?;
    assert!(second.len() == 1 && time::now() - before < 9 * MOMENT, "whoever drove the timer took it along");
    for delivery in second {
        broker.ack(delivery.lease).await?;
    }
    Ok(())
}
