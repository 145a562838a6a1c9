//! Copier: the same items on several streams, for tasks that know nothing of each other.
//!
//! A film is uploaded once. One stream makes a small version of it, one a large one, one a picture for the catalogue. The
//! slowest of the three does not decide when the others are done.
//!
//! ```text
//! cargo run --example copier
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error,
    base::time,
    flow::{Called, Flow},
    queue::{Id, Memory},
};
use std::{sync::Arc, time::Duration};

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn transcode(film: String, height: u32, seconds: u64) -> seedpod::Result<String> {
    time::sleep(Duration::from_secs(seconds)).await;
    Ok(format!("{film} at {height}p"))
}

async fn tell() -> seedpod::Result<String> {
    let mut flow = Flow::new("films");
    let [small, large, picture] = flow.source::<String>("uploads").copy();
    small.named("small").call(|film: Called<String>| transcode(film.item, 480, 1)).sink("phones");
    large.named("large").call(|film: Called<String>| transcode(film.item, 2160, 20)).sink("screens");
    picture.named("picture").map(|film| format!("picture of {film}")).sink("catalogue");
    let graph = flow.build()?;
    let mut said = vec![graph.to_mermaid(), String::new()];

    let run = graph.on(Arc::new(Memory::new()));
    let uploads = run.input::<String>("uploads").await?;
    uploads.batch(Id::of("monday"), ["dune", "tron", "solaris"].map(String::from).to_vec()).await?;
    let (phones, screens) = (run.output::<String>("phones")?, run.output::<String>("screens")?);
    let pictures = run.output::<String>("catalogue")?;
    let look = async {
        for seconds in [5, 60] {
            time::sleep(Duration::from_secs(seconds)).await;
            said.push(format!("after {seconds} more seconds"));
            for (name, output) in [("phones", &phones), ("screens", &screens), ("catalogue", &pictures)] {
                said.push(format!("  {name}: {}", output.ready().await?.join(", ")));
            }
        }
        Ok::<_, Error>(())
    };
    let mut looked = Ok(());
    run.run_until(async { looked = look.await }).await?;
    looked?;
    Ok(said.join("\n"))
}
