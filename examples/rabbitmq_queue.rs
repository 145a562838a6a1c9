//! The work queue on RabbitMQ: the same functions as in one process, and a server that keeps the orders.
//!
//! A shop takes orders. Two subscriptions see each of them; a letter that fails comes back after a wait; what can never
//! succeed goes to the dead letters with its reason. Then the shop's worker dies with an order in its hands, and the
//! order is still there: the server noticed, and the one who starts next is told that it was tried before.
//!
//! ```text
//! SEEDPOD_AMQP=amqp://127.0.0.1:5672 cargo run --example rabbitmq_queue --features amqp
//! ```
//!
//! Without the variable it looks there, too, and says what to start where nothing is.
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::{Backoff, Seed, sync::Lock, time},
    queue::{self, Amqp, Broker, BrokerExt, DEAD_LETTERS, DeadLetter, Id, Message, Publish, Topic, TopicOptions, Want},
};
use serde::{Deserialize, Serialize};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tower::service_fn;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    number: u32,
    to: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let url = std::env::var("SEEDPOD_AMQP").unwrap_or_else(|_| "amqp://127.0.0.1:5672".to_string());
    let run = std::process::id(); // so that each run has topics of its own
    match story(&url, &format!("shop-{run}")).await {
        Ok(story) => {
            println!("{story}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Tells what happens on the server at this URL, to topics whose names begin so.
pub(crate) async fn story(url: &str, shop: &str) -> seedpod::Result<String> {
    let said = Arc::new(Lock::new(Vec::new()));
    let say = {
        let said = said.clone();
        move |line: String| said.lock().push(line)
    };
    let broker: Arc<dyn Broker> = Arc::new(Amqp::connect(url).await?);
    let (orders, dead) = (Topic::new(format!("{shop}.orders")), Topic::new(format!("{shop}.dead")));
    let options = TopicOptions::new().subscription("letters").subscription("shipping").dead_letters(&dead);
    broker.declare(&orders, options).await?;
    for (number, to) in [(1, "ada@example.org"), (2, "grace"), (3, "edsger@example.org")] {
        let order = Order { number, to: to.to_string() };
        let receipt = broker.send(Publish::json(&orders, Id::of(format!("order {number}")), order)).await?;
        say(format!("order {number}: published and on the server's disk: {}", receipt.stored == 1));
    }

    // the letters: one fails once, one can never be written
    let letters = service_fn({
        let say = say.clone();
        move |message: Message| {
            let say = say.clone();
            async move {
                let order: Order = message.json()?;
                if !order.to.contains('@') {
                    return Err(Error::new(Kind::Invalid, format!("{:?} is no address", order.to)));
                }
                if order.number == 3 && message.attempts().failures == 0 {
                    say("letters: order 3 failed, it will come back".to_string());
                    return Err(Error::new(Kind::Unavailable, "the mail server is away"));
                }
                say(format!("letters: order {} sent, after {} failures", order.number, message.attempts().failures));
                Ok(())
            }
        }
    });
    let second = Duration::from_secs(1);
    let pump = queue::consume(broker.clone(), orders.subscription("letters"), letters)
        .backoff(Backoff::new(second, 10 * second).exact())
        .seed(Seed::new(1));
    let control = pump.control();
    pump.run_until(async move {
        while control.tally().done + control.tally().rejected < 3 {
            time::sleep(second / 10).await;
        }
    })
    .await?;
    for delivery in broker.lease(&dead.subscription(DEAD_LETTERS), Want::one()).await? {
        let reason = DeadLetter::read(&delivery.batch.headers).map(|letter| letter.reason).unwrap_or_default();
        say(format!("dead letters: order {}: {reason}", delivery.json::<Order>(0)?.number));
        broker.ack(delivery.lease).await?;
    }

    // the shipping worker dies: its connection ends, and nobody has settled anything
    let shipping = orders.subscription("shipping");
    let mortal = Amqp::connect(url).await?;
    for delivery in mortal.lease(&shipping, Want::one()).await? {
        say(format!("shipping: takes order {} and dies", delivery.json::<Order>(0)?.number));
    }
    drop(mortal);
    while broker.inspect(&orders).await?.ready < 3 {
        time::sleep(second / 10).await; // the server notices at once that a connection is gone
    }
    for delivery in broker.lease(&shipping, Want::items(10)).await? {
        let (order, lapses) = (delivery.json::<Order>(0)?, delivery.attempts.lapses);
        say(format!("shipping: order {} on its way, tried in vain before: {lapses}", order.number));
        broker.ack(delivery.lease).await?;
    }
    let stats = broker.inspect(&orders).await?;
    say(format!("left on the server: {}", stats.stored));
    let story = said.lock().join("\n");
    Ok(story)
}
