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
//! A durable broker keeps the promises of [`reopening`], too.
//!
//! # Panics
//! Each function panics where the promise is broken, and fails where the broker fails.

mod delivery;
mod reopening;
mod settlement;
mod topics;

pub use delivery::{
    cuts_ranges_off_batches, dropped_leases_lose_nothing, every_subscription_sees_every_message, extensions_hold,
    heeds_bytes, keeps_until_settled, lapsed_leases_come_back_and_are_fenced, waits_and_is_woken, workers_compete,
};
pub use reopening::{
    Ending, charges_what_was_held, keeps_order_over_endings, keeps_what_it_answered_for, remembers_ids_over_endings,
    reopening,
};
pub use settlement::{
    keeps_state, refuses_contradictions, rejects_parts_of_one_delivery, rejects_to_dead_letters,
    retries_come_back_as_charged, retries_some_items, steps_are_atomic,
};
pub use topics::{
    bounds_every_topic, declares_again, first_in_is_first_out, heeds_delays, heeds_priorities, keeps_a_history,
    keeps_the_order_of_keys, keeps_to_the_capacity, knows_duplicates, refuses_what_is_not_declared,
};

use crate::base::{Deadline, Error, Kind, Result};
use crate::queue::{Broker, BrokerExt, Delivery, Id, Publish, Subscription, Topic, TopicOptions, Want};
use futures::future::BoxFuture;
use std::time::Duration;

/// Long enough for a broker on the other side of a network, and nothing where time is paused.
const MOMENT: Duration = Duration::from_millis(200);

/// Keeps every promise, one after the other.
///
/// # Errors
/// Those of the broker, where it fails; a time-out, naming the promise, where it hangs.
pub async fn all(broker: &dyn Broker) -> Result {
    let promises: [(&str, BoxFuture<'_, Result>); 26] = [
        ("keeps_until_settled", Box::pin(keeps_until_settled(broker))),
        ("every_subscription_sees_every_message", Box::pin(every_subscription_sees_every_message(broker))),
        ("workers_compete", Box::pin(workers_compete(broker))),
        ("cuts_ranges_off_batches", Box::pin(cuts_ranges_off_batches(broker))),
        ("heeds_bytes", Box::pin(heeds_bytes(broker))),
        ("lapsed_leases_come_back_and_are_fenced", Box::pin(lapsed_leases_come_back_and_are_fenced(broker))),
        ("extensions_hold", Box::pin(extensions_hold(broker))),
        ("retries_come_back_as_charged", Box::pin(retries_come_back_as_charged(broker))),
        ("retries_some_items", Box::pin(retries_some_items(broker))),
        ("rejects_to_dead_letters", Box::pin(rejects_to_dead_letters(broker))),
        ("rejects_parts_of_one_delivery", Box::pin(rejects_parts_of_one_delivery(broker))),
        ("refuses_contradictions", Box::pin(refuses_contradictions(broker))),
        ("refuses_what_is_not_declared", Box::pin(refuses_what_is_not_declared(broker))),
        ("declares_again", Box::pin(declares_again(broker))),
        ("waits_and_is_woken", Box::pin(waits_and_is_woken(broker))),
        ("dropped_leases_lose_nothing", Box::pin(dropped_leases_lose_nothing(broker))),
        ("keeps_to_the_capacity", Box::pin(keeps_to_the_capacity(broker))),
        ("bounds_every_topic", Box::pin(bounds_every_topic(broker))),
        ("steps_are_atomic", Box::pin(steps_are_atomic(broker))),
        ("keeps_state", Box::pin(keeps_state(broker))),
        ("heeds_priorities", Box::pin(heeds_priorities(broker))),
        ("heeds_delays", Box::pin(heeds_delays(broker))),
        ("keeps_the_order_of_keys", Box::pin(keeps_the_order_of_keys(broker))),
        ("first_in_is_first_out", Box::pin(first_in_is_first_out(broker))),
        ("knows_duplicates", Box::pin(knows_duplicates(broker))),
        ("keeps_a_history", Box::pin(keeps_a_history(broker))),
    ];
    for (name, promise) in promises {
        // a promise that waits for ever is a broken one
        Deadline::within(1000 * MOMENT).bound(promise).await.flatten().map_err(|error| error.at(name))?;
    }
    Ok(())
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

/// Deliveries of so many items in all: a broker may hand out the items of a batch one by one.
async fn several(broker: &dyn Broker, subscription: &Subscription, items: u32) -> Result<Vec<Delivery>> {
    let (mut all, mut left) = (Vec::new(), items);
    while left > 0 {
        let got = broker.lease(subscription, Want::items(left).wait(10 * MOMENT)).await?;
        if got.is_empty() {
            return Err(Error::new(Kind::Timeout, "nothing came").at(format!("subscription {subscription}")));
        }
        left -= got.iter().map(Delivery::len).sum::<u32>();
        all.extend(got);
    }
    Ok(all)
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
