//! A queue that outlives its process: kill it wherever it is, start it again, and it goes on.
//!
//! A press prints twelve orders, one after the other, and counts them. The orders, and how many are printed, are in one
//! file. Press Ctrl-C, and it hands back what it has not begun; kill it with SIGKILL, and the order that was in the
//! press comes back with a crash charged to it. Whatever happens, twelve are counted at the end: the count is written in
//! the same step that acknowledges the order.
//!
//! ```text
//! cargo run --example durable_queue                            # press Ctrl-C in the middle, and run it again
//! cargo run --example durable_queue -- --jam 4                 # order 4 jams the press for a minute: kill -9 it
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::time,
    queue::{self, Broker, BrokerExt, Done, Durable, Id, Message, Publish, Topic, TopicOptions},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tower::service_fn;

const ORDERS: u32 = 12;

#[tokio::main]
async fn main() -> seedpod::Result {
    run(std::env::args().skip(1)).await
}

struct Arguments {
    file: PathBuf,
    pace: Duration,
    /// The order that takes a minute, unless it has been in a crash already.
    jam: Option<u32>,
}

/// `--file PATH`: by default in the folder for temporary files. `--pace MILLISECONDS` per order: 400. `--jam ORDER`: none.
fn arguments(mut given: impl Iterator<Item = String>) -> seedpod::Result<Arguments> {
    let mut arguments = Arguments {
        file: std::env::temp_dir().join("seedpod-durable-queue.db"),
        pace: Duration::from_millis(400),
        jam: None,
    };
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| Error::new(Kind::Invalid, format!("{name} needs a value")))?;
        match (name.as_str(), value.parse::<u32>()) {
            ("--file", _) => arguments.file = value.into(),
            ("--pace", Ok(millis)) => arguments.pace = Duration::from_millis(millis.into()),
            ("--jam", Ok(order)) => arguments.jam = Some(order),
            _ => {
                let usage = "say --file PATH, --pace MILLISECONDS or --jam ORDER";
                return Err(Error::new(Kind::Invalid, format!("{name} {value}: {usage}")));
            }
        }
    }
    Ok(arguments)
}

/// How many are printed, and the version of that count.
async fn printed(broker: &dyn Broker) -> seedpod::Result<(u64, u32)> {
    let (version, count) = broker.load(&"printed".into()).await?;
    Ok((version, count.first_chunk::<4>().map_or(0, |count| u32::from_be_bytes(*count))))
}

pub(crate) async fn run(given: impl Iterator<Item = String>) -> seedpod::Result {
    let Arguments { file, pace, jam } = arguments(given)?;
    let broker: Arc<dyn Broker> = Arc::new(Durable::open(&file).await?);
    let orders = Topic::new("orders");
    // an id is remembered for a year: who starts again publishes the same orders, and none is there twice
    let year = Duration::from_secs(365 * 86_400);
    broker.declare(&orders, TopicOptions::new().subscription("press").dedup(year)).await?;
    let mut new = 0;
    for number in 1..=ORDERS {
        let publish = Publish::json(&orders, Id::of(format!("order {number}")), number);
        new += broker.send(publish).await?.stored;
    }
    let (_, before) = printed(&*broker).await?;
    println!(
        "{new} orders are new, {before} of {ORDERS} are printed, {} are left",
        broker.inspect(&orders).await?.stored
    );

    let over = Arc::new(tokio::sync::Notify::new());
    let press = service_fn({
        let (broker, over) = (broker.clone(), over.clone());
        move |order: Message| {
            let (broker, over) = (broker.clone(), over.clone());
            async move {
                let number: u32 = order.json()?;
                let crashes = order.attempts().crashes;
                match crashes {
                    0 => println!("order {number}: in the press"),
                    crashes => println!("order {number}: in the press again, crashes so far: {crashes}"),
                }
                let jams = jam == Some(number) && crashes == 0;
                time::sleep(if jams { Duration::from_secs(60) } else { pace }).await;
                let (version, count) = printed(&*broker).await?;
                println!("order {number}: printed, {} of {ORDERS} are", count + 1);
                if count + 1 == ORDERS {
                    over.notify_one();
                }
                // acknowledged and counted at once, or neither
                Ok::<_, Error>(Done::new().write("printed", version, (count + 1).to_be_bytes().to_vec()))
            }
        }
    });
    let stop = async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => println!("told to end: finishing the order in the press"),
            () = over.notified(), if before < ORDERS => {}
            () = std::future::ready(()), if before == ORDERS => {}
        }
    };
    queue::consume(broker.clone(), orders.subscription("press"), press).run_until(stop).await?;

    let (_, count) = printed(&*broker).await?;
    match broker.inspect(&orders).await?.stored {
        0 => println!("all {count} are printed; remove the file to begin anew"),
        left => println!("{count} of {ORDERS} are printed, {left} are left: start it again"),
    }
    Ok(())
}
