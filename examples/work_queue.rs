//! A work queue: two subscriptions of one topic, a worker that fails now and then, and nothing lost.
//!
//! Each subscription sees every message; inside one, the workers compete. A failure comes back after a wait that grows;
//! what can never succeed goes to the dead letters with its reason.
//!
//! ```text
//! cargo run --example work_queue
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::{Backoff, Seed, sync::Lock, time},
    queue::{
        self, Broker, BrokerExt, DeadLetter, Id, Memory, Message, Publish, Step, Subscription, Topic, TopicOptions,
        Want,
    },
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tower::service_fn;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    number: u32,
    to: String,
}

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let said = Arc::new(Lock::new(Vec::new()));
    let say = {
        let said = said.clone();
        move |line: String| said.lock().push(line)
    };
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let (orders, dead) = (Topic::new("orders"), Topic::new("orders.dead"));
    broker.declare(&dead, TopicOptions::new().subscription("clerk")).await?;
    let options = TopicOptions::new()
        .subscription("email")
        .subscription("shipping")
        .dead_letters(&dead)
        .dedup(Duration::from_secs(120));
    broker.declare(&orders, options).await?;

    for (number, to) in [(1, "ada@example.org"), (2, "grace"), (3, "edsger@example.org")] {
        // the id is derived from what it is, so that publishing it twice stores it once
        let publish = Publish::json(&orders, Id::of(format!("order {number}")), Order { number, to: to.into() });
        broker.send(publish.clone()).await?;
        let again = broker.send(publish).await?;
        say(format!("order {number} published; published again: {} stored", again.stored));
    }

    let email = service_fn({
        let say = say.clone();
        move |message: Message| {
            let say = say.clone();
            async move {
                let order: Order = message.json()?;
                if !order.to.contains('@') {
                    return Err(Error::new(Kind::Invalid, format!("{:?} is no address", order.to)));
                }
                if order.number == 3 && message.attempts().failures == 0 {
                    say(format!("email:    order {} failed, it will come back", order.number));
                    return Err(Error::new(Kind::Unavailable, "the mail server is away"));
                }
                say(format!("email:    order {} sent", order.number));
                Ok(())
            }
        }
    });
    let shipping = service_fn({
        let say = say.clone();
        move |message: Message| {
            let say = say.clone();
            async move {
                say(format!("shipping: order {} on its way", message.json::<Order>()?.number));
                Ok::<_, Error>(())
            }
        }
    });

    // two pumps, each a container of its own in a real system
    let a_while = || time::sleep(Duration::from_secs(60));
    let emails = queue::consume(broker.clone(), Subscription::new(&orders, "email"), email)
        .backoff(Backoff::new(Duration::from_secs(1), Duration::from_secs(10)).exact())
        .seed(Seed::new(1));
    let shipments = queue::consume(broker.clone(), Subscription::new(&orders, "shipping"), shipping).seed(Seed::new(2));
    futures::future::try_join(emails.run_until(a_while()), shipments.run_until(a_while())).await?;

    for delivery in broker.lease(&Subscription::new(&dead, "clerk"), Want::items(10)).await? {
        let reason = DeadLetter::read(&delivery.batch.headers).map(|letter| letter.reason).unwrap_or_default();
        say(format!("dead:     order {}: {reason}", delivery.json::<Order>(0)?.number));
        broker.settle(Step::new().ack(delivery.lease)).await?;
    }
    let stats = broker.inspect(&orders).await?;
    say(format!("left in the queue: {}", stats.ready + stats.leased + stats.delayed));
    let story = said.lock().join("\n");
    Ok(story)
}
