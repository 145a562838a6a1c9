//! Sharder: each upload goes to the region that its user belongs to; while that is out, to the next in line.
//!
//! Rendezvous hashing: everybody who has the names agrees, and only the keys of the region that is out move. The choice
//! and the acknowledgement are one step, so nothing is delivered twice when a region comes back.
//!
//! ```text
//! cargo run --example sharder
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    flow::{Flow, OnOut, Outlets, Run},
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

const REGIONS: [&str; 3] = ["europe", "america", "asia"];

async fn tell() -> seedpod::Result<String> {
    let outlets = Outlets::new();
    let mut flow = Flow::new("uploads");
    let by_user = |(user, _): &(String, u32)| user.clone();
    let regions = flow.source::<(String, u32)>("uploads").shard(REGIONS, by_user, &outlets, OnOut::Reroute);
    for (region, name) in regions.into_iter().zip(REGIONS) {
        region.map(|(user, _)| user.clone()).named(format!("work-{name}")).sink(name);
    }
    let graph = flow.build()?;
    let mut said = vec![graph.to_mermaid(), String::new()];
    let run = graph.on(Arc::new(Memory::new()));

    said.push(format!("all are in:      {}", round(&run, 1).await?));
    outlets.close("america");
    said.push(format!("america is out:  {}", round(&run, 2).await?));
    outlets.open("america");
    said.push(format!("america is back: {}", round(&run, 3).await?));
    Ok(said.join("\n"))
}

/// Everybody uploads something.
async fn round(run: &Run, round: u32) -> seedpod::Result<String> {
    let users = [
        "ada", "alan", "barbara", "donald", "edsger", "frances", "grace", "john", "margaret", "niklaus", "radia",
        "tony",
    ];
    let input = run.input::<(String, u32)>("uploads").await?;
    input.batch(Id::of(format!("round {round}")), users.map(|user| (user.to_string(), round)).to_vec()).await?;
    run.until_drained().await?;
    let mut regions = Vec::new();
    for name in REGIONS {
        let mut users = run.output::<String>(name)?.ready().await?;
        users.sort();
        regions.push(format!("{name}: {}", users.join(" ")));
    }
    Ok(regions.join(" | "))
}
