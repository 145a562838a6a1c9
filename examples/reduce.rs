//! Reduce: results that are merged as they come, in parallel, without waiting for the last.
//!
//! Readings of many sensors go through three workers, each of which makes one partial result of what it takes; those are
//! merged into the state in the same step that acknowledges them. A crash in the middle counts nothing twice.
//!
//! ```text
//! cargo run --example reduce
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    base::time,
    flow::{Buckets, Flow, Group, Histogram, Mean, TopK},
    queue::{Id, Memory},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

type Reading = (String, i64);

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
    let mut flow = Flow::new("weather");
    flow.tune(|stage| stage.batch(16).workers(3).hold(Duration::from_secs(5)));
    let [mean, range, top] = flow.source::<Reading>("readings").filter(|(_, celsius)| *celsius < 100).copy();
    let celsius = |(_, celsius): &Reading| *celsius;
    mean.named("mean").reduce(Group::by(|(place, _): &Reading| place.clone(), Mean::of(celsius))).sink("means");
    range.named("ranges").reduce(Histogram::of([0, 10, 20], celsius)).sink("histograms");
    top.named("top").reduce(TopK::of(2, |(place, celsius): &Reading| (*celsius, place.clone()))).sink("tops");
    let graph = flow.build()?;
    let mut said = vec![graph.to_mermaid(), String::new()];

    let run = graph.on(Arc::new(Memory::new()));
    let input = run.input::<Reading>("readings").await?;
    for hour in 0..24_i64 {
        let place = |(name, base): (&str, i64)| (name.to_string(), base + 12 - (hour - 12).abs());
        let readings = [("Oslo", -8), ("Rome", 9), ("broken", 300)].map(place).to_vec();
        input.batch(Id::of(format!("hour {hour}")), readings).await?;
    }
    // the process dies while it works
    tokio::select! {
        biased;
        () = time::sleep(Duration::from_micros(1)) => said.push("killed at work, and started again".into()),
        ended = run.run_until(std::future::pending()) => ended?,
    }
    run.until_drained().await?;
    let means = run.output::<BTreeMap<String, Option<f64>>>("means")?.ready().await?;
    for (place, mean) in means.last().into_iter().flatten() {
        said.push(format!("{place}: {:.1} °C", mean.unwrap_or_default()));
    }
    let ranges = run.output::<Buckets>("histograms")?.ready().await?;
    said.extend(ranges.last().map(|all| format!("up to {:?} °C and above: {:?} readings", all.bounds, all.counts)));
    let tops = run.output::<Vec<(i64, String)>>("tops")?.ready().await?;
    said.extend(tops.last().map(|top| format!("warmest: {top:?}")));
    Ok(said.join("\n"))
}
