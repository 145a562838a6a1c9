//! Splitter: each order is confirmed the way its customer wants; and, in another flow, in every way that they want.
//!
//! The first flow sends each item to exactly one stream. The second combines copier and splitter. Who asked for nothing
//! that we have is a dead letter, with the reason.
//!
//! ```text
//! cargo run --example splitter
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    flow::{Flow, Port, Run, port},
    queue::{Broker, DEAD_LETTERS, DeadLetter, Id, Memory, Want},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    number: u32,
    email: bool,
    text: bool,
}

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

fn ways() -> [Port<Order>; 2] {
    [port("email", |order: &Order| order.email), port("text", |order: &Order| order.text)]
}

async fn tell() -> seedpod::Result<String> {
    let mut said = Vec::new();
    let orders = |number: u32| Order { number, email: number.is_multiple_of(2), text: number.is_multiple_of(3) };
    let orders: Vec<_> = (1..=6).map(orders).collect();

    let mut flow = Flow::new("one");
    let [email, text] = flow.source::<Order>("orders").split(ways());
    email.map(|order| order.number).sink("emails");
    text.map(|order| order.number).sink("texts");
    let graph = flow.build()?;
    said.extend([graph.to_mermaid(), String::new()]);
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    run.input("orders").await?.batch(Id::of("monday"), orders.clone()).await?;
    run.until_drained().await?;
    said.push(format!("exactly one: {}", sent(&run).await?));
    let letters = graph.dead_letters().subscription(DEAD_LETTERS);
    for letter in broker.lease(&letters, Want::items(10).wait(Duration::ZERO)).await? {
        let reason = DeadLetter::read(&letter.batch.headers).map(|letter| letter.reason).unwrap_or_default();
        for item in 0..letter.len() {
            said.push(format!("dead: order {}: {reason}", letter.json::<Order>(item)?.number));
        }
    }

    let mut flow = Flow::new("every");
    let wanted = flow.source::<Order>("orders").filter(|order| order.email || order.text);
    let [email, text] = wanted.split_all(ways());
    email.map(|order| order.number).sink("emails");
    text.map(|order| order.number).sink("texts");
    let run = flow.build()?.on(Arc::new(Memory::new()));
    run.input("orders").await?.batch(Id::of("monday"), orders).await?;
    run.until_drained().await?;
    said.push(format!("every one that they want: {}", sent(&run).await?));
    Ok(said.join("\n"))
}

async fn sent(run: &Run) -> seedpod::Result<String> {
    let (emails, texts) = (run.output::<u32>("emails")?.ready().await?, run.output::<u32>("texts")?.ready().await?);
    Ok(format!("emails {emails:?}, texts {texts:?}"))
}
