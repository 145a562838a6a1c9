//! Merger: the union of several streams, in which each gets its share.
//!
//! Urgent mails and newsletters share one printer. While both wait, three urgent ones are printed for each newsletter;
//! when no urgent one is there, newsletters have the printer for themselves.
//!
//! ```text
//! cargo run --example merger
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    base::sync::Lock,
    flow::Flow,
    queue::{Id, Memory},
};
use std::sync::Arc;

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let printed = Arc::new(Lock::new(String::new()));
    let paper = printed.clone();
    let mut flow = Flow::new("printer");
    let (urgent, news) = (flow.source::<u32>("urgent"), flow.source::<u32>("news"));
    let both = urgent.map(|_| 'U').named("letters").weight(3).merge(news.map(|_| 'n').named("letters-of-news"));
    both.map(move |letter| paper.lock().push(*letter)).named("print").tune(|stage| stage.batch(1)).discard();
    let graph = flow.build()?;
    let mut said = vec![graph.to_mermaid(), String::new()];

    // all that waits is there before the printer is on
    let broker = Arc::new(Memory::new());
    let letters = graph.on(broker.clone()).only(["letters", "letters-of-news"]);
    letters.input::<u32>("urgent").await?.batch(Id::of("monday"), (0..24).collect()).await?;
    letters.input::<u32>("news").await?.batch(Id::of("monday"), (0..16).collect()).await?;
    letters.run_until(seedpod::base::time::sleep(std::time::Duration::from_secs(1))).await?;
    graph.on(broker).until_drained().await?;

    let printed = printed.lock().clone();
    said.push(format!("printed: {printed}"));
    let (first, rest) = printed.split_at(32);
    let count = |text: &str, letter| text.chars().filter(|c| *c == letter).count();
    said.push(format!("of the first 32: {} urgent, {} news", count(first, 'U'), count(first, 'n')));
    said.push(format!("of the rest:     {} urgent, {} news", count(rest, 'U'), count(rest, 'n')));
    Ok(said.join("\n"))
}
