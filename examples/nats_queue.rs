//! A work queue on NATS JetStream: two processes share it, one of them is lost, and nothing else is.
//!
//! A shop publishes orders, each twice, as after a lost answer. A mailer takes one and is never heard of again; the other
//! mailer gets it when the lease has run out. What fails comes back, what cannot succeed goes to the dead letters, and
//! who settles too late is told so. The ledger, another subscription, sees every order for itself.
//!
//! It needs a server: `nats-server -js` (Debian: `apt install nats-server`), or any other that `SEEDPOD_NATS` names.
//!
//! ```text
//! cargo run --example nats_queue --features nats
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::{
        Backoff,
        sync::Lock,
        time::{self, WallClock},
    },
    queue::{self, Broker, BrokerExt, DEAD_LETTERS, DeadLetter, Id, Message, Nats, Publish, Topic, TopicOptions, Want},
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tower::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let url = std::env::var("SEEDPOD_NATS").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_string());
    match story(&url).await {
        Ok(story) => {
            println!("{story}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

pub(crate) async fn story(url: &str) -> seedpod::Result<String> {
    let said = Arc::new(Lock::new(Vec::new()));
    let say = {
        let said = said.clone();
        move |line: String| said.lock().push(line)
    };
    // two connections stand for two processes: they share nothing but the server
    let shop: Arc<dyn Broker> = Arc::new(Nats::connect(url).await?);
    let (lost, other) = (Nats::connect(url).await?, Arc::new(Nats::connect(url).await?));

    let (orders, dead) = (Topic::new("example.orders"), Topic::new("example.orders.dead"));
    let options = TopicOptions::new()
        .subscription("mailer")
        .subscription("ledger")
        .dead_letters(&dead)
        .dedup(Duration::from_secs(120));
    shop.declare(&orders, options).await?;

    let today = WallClock::ambient().unix_millis(); // a run of its own on a server that remembers the last one
    for (number, to) in [(1, "ada@example.org"), (2, "grace@example.org"), (3, "edsger")] {
        let order = Publish::json(&orders, Id::of(format!("{today} order {number}")), (number, to.to_string()));
        let first = shop.send(order.clone()).await?;
        let again = shop.send(order).await?;
        say(format!("order {number}: stored {}; published again: stored {}", first.stored, again.stored));
    }

    let mailer = orders.subscription("mailer");
    let hold = Duration::from_millis(700);
    let held = lost.lease(&mailer, Want::one().hold(hold)).await?;
    for order in &held {
        say(format!("a mailer takes order {}, and is not heard of again", order.json::<(u32, String)>(0)?.0));
    }
    let kept = held.first().map(|order| order.lease);

    let send = service_fn({
        let say = say.clone();
        move |message: Message| {
            let say = say.clone();
            async move {
                let (number, to): (u32, String) = message.json()?;
                if !to.contains('@') {
                    return Err(Error::new(Kind::Invalid, format!("{to:?} is no address")));
                }
                let attempts = message.attempts();
                if number == 2 && attempts.failures == 0 {
                    say(format!("order {number}: the mail server is away"));
                    return Err(Error::new(Kind::Failed, "the mail server is away"));
                }
                say(format!(
                    "order {number}: sent, after {} failures and {} lapses",
                    attempts.failures, attempts.lapses
                ));
                Ok(())
            }
        }
    });
    let pump = queue::consume(other.clone(), mailer.clone(), send)
        .hold(Duration::from_secs(10))
        .backoff(Backoff::new(Duration::from_secs(2), Duration::from_secs(2)).exact());
    pump.run_until(time::sleep(Duration::from_secs(4))).await?;

    if let Some(lease) = kept
        && let Err(error) = lost.ack(lease).await
    {
        say(format!("the lost mailer says that it is done: {}", error.kind()));
    }
    for letter in shop.lease(&dead.subscription(DEAD_LETTERS), Want::one()).await? {
        if let Some(told) = DeadLetter::read(&letter.batch.headers) {
            say(format!("dead letter of {}: {}", told.subscription, told.reason));
        }
        shop.ack(letter.lease).await?;
    }
    let ledger = read_all(&*shop, &orders).await?;
    say(format!("the ledger has seen {ledger:?}"));

    let later = Publish::json(&orders, Id::of(format!("{today} order 4")), (4, "late".to_string()));
    if let Err(error) = shop.send(later.priority(9)).await {
        say(format!("with a priority: {}: {}", error.kind(), error.message()));
    }
    let left = shop.inspect(&orders).await?.stored + shop.inspect(&dead).await?.stored;
    say(format!("left: {left}"));
    let said = said.lock();
    Ok(said.join("\n"))
}

/// What the ledger gets, acknowledged.
async fn read_all(broker: &dyn Broker, orders: &Topic) -> seedpod::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    loop {
        let leased = broker.lease(&orders.subscription("ledger"), Want::items(10).wait(Duration::ZERO)).await?;
        if leased.is_empty() {
            return Ok(numbers);
        }
        for order in leased {
            numbers.push(order.json::<(u32, String)>(0)?.0);
            broker.ack(order.lease).await?;
        }
    }
}
