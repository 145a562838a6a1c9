//! Filter: only what can be used goes on; here as an ambassador in front of a plain work queue.
//!
//! Workers of the queue `pictures` can read PNG. Whoever uploads knows nothing of that. The filter stands between them:
//! what the workers cannot use is dropped there, and an upload that is no upload at all goes to the dead letters.
//!
//! ```text
//! cargo run --example filter
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error,
    base::{sync::Lock, time},
    flow::Flow,
    queue::{self, Broker, BrokerExt, Id, Memory, Message, Publish},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tower::service_fn;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Upload {
    name: String,
    bytes: u64,
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

async fn tell() -> seedpod::Result<String> {
    let said = Arc::new(Lock::new(Vec::new()));
    let mut flow = Flow::new("uploads");
    let uploads = flow.source::<Upload>("all");
    uploads.filter(|upload| upload.name.ends_with(".png")).filter(|upload| upload.bytes > 0).sink("pictures");
    let graph = flow.build()?;
    said.lock().extend([graph.to_mermaid(), String::new()]);

    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<Upload>("all").await?;
    for (name, bytes) in [("sea.png", 900), ("notes.txt", 12), ("empty.png", 0), ("wood.png", 700)] {
        input.send(Id::of(name), Upload { name: name.into(), bytes }).await?;
    }
    broker.send(Publish::new("uploads.all", Id::of("?"), "no upload")).await?;

    // a worker of the queue: it knows its topic, and nothing of the flow
    let worker = service_fn({
        let said = said.clone();
        move |message: Message| {
            let said = said.clone();
            async move {
                said.lock().push(format!("worker: {} resized", message.json::<Upload>()?.name));
                Ok::<_, Error>(())
            }
        }
    });
    let a_while = || time::sleep(Duration::from_secs(10));
    let worker = queue::consume(broker.clone(), graph.subscription("pictures")?, worker);
    let watch = run.watch();
    tokio::try_join!(run.run_until(a_while()), worker.run_until(a_while()))?;

    for stage in watch.stages() {
        let (taken, made, dead) = (stage.taken, stage.made, stage.rejected);
        said.lock().push(format!("{}: {taken} in, {made} out, {dead} dead", stage.name));
    }
    let story = said.lock().join("\n");
    Ok(story)
}
