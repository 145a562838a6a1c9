//! What only a broker promises that is [durable](crate::queue::Guarantees::durable): what it answered for is there after
//! it was opened again, however it ended.

use super::{MOMENT, drain, nothing, numbers, one, refused};
use crate::base::{Deadline, Kind, Result, time};
use crate::queue::{
    Attempts, Broker, BrokerExt, Charge, DEAD_LETTERS, DeadLetter, Id, Json, Payload, Publish, Reject, Retry, Step,
    Topic, TopicOptions, Want,
};
use bytes::Bytes;

/// How a broker ends before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// In order: it was closed, or dropped.
    InOrder,
    /// By a crash, a kill, a power cut: nothing of it runs on, nothing more is written.
    Crash,
}

/// Keeps every promise of a durable broker, one after the other.
///
/// The closure is given the broker that is open, which is none at first, and how it is to end; it gives back the broker
/// over the same bytes.
///
/// ```
/// use seedpod::{base::{Seed, time::WallClock}, queue::Durable, testing::{broker::{Ending, reopening}, disk::Platter}};
/// use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let simulation = Seed::new(7).simulate();
/// let (mut platter, clock, mut rng) = (Platter::new(), WallClock::ambient(), Seed::ambient().rng());
/// reopening(async |open: Option<Durable>, ending| {
///     if ending == Ending::Crash {
///         platter.cut();
///         platter = platter.after_power_cut(&mut rng);
///     }
///     drop(open);
///     Durable::on(Arc::new(platter.clone())).clock(clock).opened().await
/// }).await
/// # }
/// ```
///
/// # Errors
/// Those of the broker, where it fails; a time-out, naming the promise, where it hangs.
pub async fn reopening<B: Broker>(mut reopen: impl AsyncFnMut(Option<B>, Ending) -> Result<B>) -> Result {
    let soon = || Deadline::within(1000 * MOMENT);
    soon()
        .bound(keeps_what_it_answered_for(&mut reopen))
        .await
        .flatten()
        .map_err(named("keeps_what_it_answered_for"))?;
    soon().bound(charges_what_was_held(&mut reopen)).await.flatten().map_err(named("charges_what_was_held"))?;
    soon().bound(keeps_order_over_endings(&mut reopen)).await.flatten().map_err(named("keeps_order_over_endings"))?;
    soon().bound(remembers_ids_over_endings(&mut reopen)).await.flatten().map_err(named("remembers_ids_over_endings"))
}

fn named(promise: &'static str) -> impl Fn(crate::base::Error) -> crate::base::Error {
    move |error| error.at(promise)
}

/// Messages with all that they carry, what became of them, dead letters, state and topics are there again; what was
/// settled is not.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn keeps_what_it_answered_for<B: Broker>(
    mut reopen: impl AsyncFnMut(Option<B>, Ending) -> Result<B>,
) -> Result {
    for ending in [Ending::Crash, Ending::InOrder] {
        let broker = reopen(None, Ending::InOrder).await?;
        let (topic, dead) = (Topic::new(format!("kept.{ending:?}")), Topic::new(format!("kept.dead.{ending:?}")));
        let options = || TopicOptions::new().subscription("one").subscription("two").dead_letters(&dead).capacity(40);
        let (one_, two) = (topic.subscription("one"), topic.subscription("two"));
        broker.declare(&topic, options()).await?;
        let batch = Payload::values((0..4_u32).collect(), Json);
        broker.send(Publish::new(&topic, Id::of("batch"), batch).header("origin", "here").priority(3)).await?;
        let published = time::now();
        broker.send(Publish::json(&topic, Id::of("later"), 9_u32).delay(5 * MOMENT)).await?;
        let first = one(&broker, &one_, Want::items(4)).await?;
        let step = Step::new()
            .retry(Retry::new(first.lease).items(1..2))
            .reject(Reject::new(first.lease, "unwanted").items(3..4))
            .write(format!("kept.{ending:?}"), 0, "known");
        broker.settle(step).await?;
        let stats = broker.inspect(&topic).await?;

        let broker = reopen(Some(broker), ending).await?;
        let again = broker.inspect(&topic).await?;
        assert_eq!((again.stored, again.rejected), (stats.stored, 1), "{ending:?}");
        assert_eq!((again.ready, again.delayed, again.leased), (5, 2, 0), "{ending:?}: {again:?}");
        broker.declare(&topic, options()).await?;
        refused(broker.declare(&topic, options().capacity(41)).await, Kind::Conflict, "kept");
        assert_eq!(broker.load(&format!("kept.{ending:?}").as_str().into()).await?, (1, Bytes::from_static(b"known")));
        let retried = one(&broker, &one_, Want::one()).await?;
        assert_eq!((retried.json::<u32>(0)?, retried.id(0)), (1, Id::of("batch").item(1)));
        assert_eq!((retried.attempts, retried.batch.headers.get("origin")), (Attempts::new(1, 0, 0), Some("here")));
        broker.ack(retried.lease).await?;
        assert_eq!(drain(&broker, &two).await?, [0, 1, 2, 3]);
        let letter = one(&broker, &dead.subscription(DEAD_LETTERS), Want::one()).await?;
        assert_eq!(letter.json::<u32>(0)?, 3);
        let note = DeadLetter::read(&letter.batch.headers);
        assert_eq!(note.map(|note| (note.reason, note.id)), Some(("unwanted".to_string(), Id::of("batch"))));
        broker.ack(letter.lease).await?;
        for subscription in [&one_, &two] {
            let later = one(&broker, subscription, Want::one()).await?;
            assert!(time::now() - published >= 5 * MOMENT, "the delayed one came too soon");
            assert_eq!(later.json::<u32>(0)?, 9);
            broker.ack(later.lease).await?;
        }
        let broker = reopen(Some(broker), ending).await?;
        assert_eq!(broker.inspect(&topic).await?.stored, 0, "{ending:?}: what was settled has come back");
        drop(reopen(Some(broker), Ending::InOrder).await?);
    }
    Ok(())
}

/// What was leased is ready again, in its place; who holds a lease of before is refused; and a crash is charged to what
/// was held, once the moment has passed in which that may not be written yet.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn charges_what_was_held<B: Broker>(mut reopen: impl AsyncFnMut(Option<B>, Ending) -> Result<B>) -> Result {
    let mut broker = reopen(None, Ending::InOrder).await?;
    let topic = Topic::new("charged");
    let subscription = topic.subscription("one");
    broker.declare(&topic, TopicOptions::new().subscription("one")).await?;
    numbers(&broker, &topic, 0..4).await?;
    let mut before = Vec::new();
    for crashes in 0..3 {
        let held = one(&broker, &subscription, Want::one()).await?;
        for lease in &before {
            refused(broker.ack(*lease).await, Kind::LeaseLost, ""); // another holds it now
        }
        before.push(held.lease);
        assert_eq!((held.json::<u32>(0)?, held.attempts.crashes), (0, crashes), "of what was leased at the crash");
        let unstarted = one(&broker, &subscription, Want::one()).await?;
        let back = Step::new().retry(Retry::new(unstarted.lease).charge(Charge::Nothing));
        if crashes == 0 {
            time::sleep(MOMENT).await; // after an unclean end there is nothing to wait for
        }
        broker.settle(back).await?;
        broker = reopen(Some(broker), Ending::Crash).await?;
        if crashes == 1 {
            broker = reopen(Some(broker), Ending::InOrder).await?; // nobody has come for it meanwhile
        }
        assert_eq!((broker.inspect(&topic).await?.ready, broker.inspect(&topic).await?.leased), (4, 0));
        refused(broker.ack(held.lease).await, Kind::LeaseLost, "");
    }
    let held = one(&broker, &subscription, Want::one()).await?;
    assert_eq!(held.attempts, Attempts::new(0, 3, 0));
    // at once: after an unclean end it was written before it was handed out
    broker = reopen(Some(broker), Ending::Crash).await?;
    let held = one(&broker, &subscription, Want::one()).await?;
    assert_eq!(held.attempts, Attempts::new(0, 4, 0), "a start was handed out before it was written");
    let given_back = one(&broker, &subscription, Want::one()).await?;
    assert_eq!((given_back.json::<u32>(0)?, given_back.attempts.total()), (1, 0), "it was handed back unstarted");
    let broker = reopen(Some(broker), Ending::InOrder).await?;
    let held = one(&broker, &subscription, Want::one()).await?;
    assert_eq!((held.json::<u32>(0)?, held.attempts.crashes), (0, 4), "an orderly end is no crash");
    broker.ack(held.lease).await?;
    assert_eq!(drain(&broker, &subscription).await?, [1, 2, 3]);
    drop(reopen(Some(broker), Ending::InOrder).await?);
    Ok(())
}

/// Priorities, first in first out and the order of keys are the same after an ending as before it.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn keeps_order_over_endings<B: Broker>(
    mut reopen: impl AsyncFnMut(Option<B>, Ending) -> Result<B>,
) -> Result {
    for ending in [Ending::Crash, Ending::InOrder] {
        let mut broker = reopen(None, Ending::InOrder).await?;
        let topic = Topic::new(format!("ordered.{ending:?}"));
        let subscription = topic.subscription("one");
        broker.declare(&topic, TopicOptions::new().subscription("one")).await?;
        let number = |number: u32| Publish::json(&topic, Id::of(number.to_string()), number);
        for publish in [number(0), number(1).priority(9), number(2), number(3).key("k"), number(4).key("k"), number(5)]
        {
            broker.send(publish).await?;
        }
        let taken = one(&broker, &subscription, Want::one()).await?;
        assert_eq!(taken.json::<u32>(0)?, 1);
        broker.ack(taken.lease).await?;
        broker = reopen(Some(broker), ending).await?;
        assert_eq!(broker.inspect(&topic).await?.blocked, 1);
        for expected in [0, 2, 3] {
            let delivery = one(&broker, &subscription, Want::one()).await?;
            assert_eq!(delivery.json::<u32>(0)?, expected);
            if expected < 3 {
                broker.ack(delivery.lease).await?;
                continue;
            }
            broker.settle(Step::new().retry(Retry::new(delivery.lease).after(2 * MOMENT))).await?;
        }
        broker = reopen(Some(broker), ending).await?;
        broker.send(number(6).key("k")).await?;
        assert_eq!(
            drain(&broker, &subscription).await?,
            [5],
            "of a key, the one that is due again later holds the line"
        );
        for (expected, failures) in [(3, 1), (4, 0), (6, 0)] {
            let delivery = one(&broker, &subscription, Want::one()).await?;
            assert_eq!((delivery.json::<u32>(0)?, delivery.attempts.failures), (expected, failures));
            broker.ack(delivery.lease).await?;
        }
        drop(reopen(Some(broker), Ending::InOrder).await?);
    }
    Ok(())
}

/// An id is a duplicate within its topic's window, and news after it, whatever endings lie between.
///
/// # Errors
/// Those of the broker, where it fails.
pub async fn remembers_ids_over_endings<B: Broker>(
    mut reopen: impl AsyncFnMut(Option<B>, Ending) -> Result<B>,
) -> Result {
    let mut broker = reopen(None, Ending::InOrder).await?;
    let topic = Topic::new("remembered");
    let subscription = topic.subscription("one");
    broker.declare(&topic, TopicOptions::new().subscription("one").dedup(20 * MOMENT)).await?;
    let publish = |name: &str| Publish::json(&topic, Id::of(name), 1_u32);
    let began = time::now();
    broker.send(publish("a")).await?;
    for ending in [Ending::Crash, Ending::InOrder, Ending::Crash] {
        broker = reopen(Some(broker), ending).await?;
        let receipt = broker.send(publish("a")).await?;
        assert_eq!((receipt.stored, receipt.duplicates), (0, 1), "{ending:?}: the id was forgotten");
        assert_eq!(broker.send(publish(&format!("{:?}", time::now() - began))).await?.stored, 1);
        time::sleep(MOMENT).await;
    }
    assert_eq!(drain(&broker, &subscription).await?.len(), 4);
    time::sleep_until(began + 21 * MOMENT).await;
    broker = reopen(Some(broker), Ending::Crash).await?;
    assert_eq!(broker.send(publish("a")).await?.stored, 1, "the window is over");
    assert_eq!(drain(&broker, &subscription).await?, [1]);
    assert!(nothing(&broker, &subscription).await?);
    drop(reopen(Some(broker), Ending::InOrder).await?);
    Ok(())
}
