//! Join: a barrier. An album is done when every photo of it is accounted for, whatever became of it.
//!
//! Photos of an album are sent together. Some are dropped, some become several pictures, some cannot be read; the join
//! waits for all that, and fires once for each album. An album that takes too long fires without what is missing.
//!
//! ```text
//! cargo run --example join
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::time,
    flow::{Batch, Called, Collect, Flow, Joined, OnFailed},
    queue::{Id, Memory},
};
use std::{sync::Arc, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

/// Develops a photo; some cannot be read, some take their time.
async fn develop(photo: Called<String>) -> seedpod::Result<String> {
    match photo.item.as_str() {
        "torn" => return Err(Error::new(Kind::Invalid, "it cannot be read")),
        "huge" => time::sleep(10 * MINUTE).await,
        _ => time::sleep(Duration::from_secs(2)).await,
    }
    Ok(photo.item)
}

async fn tell() -> seedpod::Result<String> {
    let mut flow = Flow::new("albums");
    let photos = flow.source::<String>("photos").filter(|photo| photo != "blurred");
    let developed = photos.tune(|stage| stage.concurrency(4)).named("develop").call(develop);
    let [pictures, thumbs] = developed.explode(|photo| [photo.clone(), format!("{photo} mirrored")]).copy();
    let thumbs = thumbs.map(|photo| format!("thumb of {photo}")).named("thumbs");
    thumbs.merge(pictures).named("album").join(Batch::of(Collect), 5 * MINUTE, OnFailed::Report).sink("albums");
    let graph = flow.build()?;
    let mut said = vec![graph.to_mermaid(), String::new()];

    let run = graph.on(Arc::new(Memory::new()));
    let input = run.input::<String>("photos").await?;
    let albums = [("sea", vec!["shore", "blurred"]), ("attic", vec!["cat", "torn"]), ("space", vec!["moon", "huge"])];
    for (album, photos) in &albums {
        input.batch(Id::of(album), photos.iter().map(|photo| photo.to_string()).collect()).await?;
    }
    run.until_drained().await?;
    for joined in run.output::<Joined<Vec<String>>>("albums")?.ready().await? {
        let album =
            albums.iter().find(|(album, _)| Id::of(album).to_string() == joined.batch).map_or("", |(name, _)| name);
        let Joined { arrived, ended, failed, timed_out, .. } = &joined;
        said.push(format!("{album}: {arrived} arrived, {ended} ended elsewhere, {failed} failed, late: {timed_out}"));
        said.push(format!("  {}", joined.value.join(", ")));
        said.extend(joined.reasons.iter().map(|reason| format!("  {reason}")));
    }
    Ok(said.join("\n"))
}
