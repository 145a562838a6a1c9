//! A video pipeline: one upload, copied to several formats, sharded over encoders, joined, and its owner told.
//!
//! An upload is exploded into its chunks. Copies of each go to two formats; chunks are sharded over the encoders of each
//! format, and merged again. A join per upload waits until every chunk in every format is done. Then a splitter sends the
//! notice by e-mail or by text, as the owner wants. One encoder breaks down on the way, one chunk cannot be read.
//!
//! ```text
//! cargo run --example video_pipeline
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::time,
    flow::{Batch, Called, Collect, Edge, Flow, OnFailed, OnOut, Outlets, Port, port},
    queue::{Id, Memory},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Upload {
    film: String,
    owner: String,
    chunks: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Chunk {
    film: String,
    owner: String,
    number: u32,
    format: String,
    encoder: String,
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

fn chunks(upload: &Upload) -> Vec<Chunk> {
    let Upload { film, owner, chunks } = upload;
    let one = |number| Chunk {
        film: film.clone(),
        owner: owner.clone(),
        number,
        format: String::new(),
        encoder: String::new(),
    };
    (0..*chunks).map(one).collect()
}

/// Encodes a chunk; the third of one film cannot be read.
async fn encode(chunk: Chunk, format: &str, encoder: &str) -> seedpod::Result<Chunk> {
    time::sleep(Duration::from_secs(if format == "av1" { 9 } else { 3 })).await;
    match chunk.film == "torn" && chunk.number == 2 {
        true => Err(Error::new(Kind::Invalid, format!("chunk {} is torn", chunk.number))),
        false => Ok(Chunk { format: format.into(), encoder: encoder.into(), ..chunk }),
    }
}

/// The chunks of a format, over its encoders and together again.
fn format(chunks: Edge<Chunk>, format: &'static str, outlets: &Outlets) -> Edge<Chunk> {
    let key = |chunk: &Chunk| format!("{} {}", chunk.film, chunk.number);
    let [a, b] = chunks.named(format!("shard-{format}")).shard(["a", "b"], key, outlets, OnOut::Reroute);
    let by = |shard: Edge<Chunk>, encoder| {
        let encode = move |chunk: Called<Chunk>| encode(chunk.item, format, encoder);
        shard.named(format!("{format}-{encoder}")).tune(|stage| stage.concurrency(4)).call(encode)
    };
    by(a, "a").merge(by(b, "b"))
}

/// To whom, and what.
type Notice = (String, String);

/// How the owner is told.
fn ways() -> [Port<Notice>; 2] {
    let email = port("email", |(owner, _): &Notice| owner.contains('@'));
    [email, port("text", |(owner, _): &Notice| owner.starts_with('+'))]
}

async fn tell() -> seedpod::Result<String> {
    let broken = Outlets::new();
    let mut flow = Flow::new("video");
    let [h264, av1] = flow.source::<Upload>("uploads").explode(chunks).named("cut").copy();
    let both = format(h264, "h264", &broken).merge(format(av1, "av1", &broken));
    let done = both.named("done").join(Batch::of(Collect), Duration::from_secs(600), OnFailed::Report);
    let notices = done.map(|film| {
        let first = film.value.first();
        let name = first.map_or("", |chunk| &chunk.film);
        let on = |encoder| film.value.iter().filter(|chunk| chunk.encoder == encoder).count();
        let text = match film.failed {
            0 => format!("{name} is there: {} chunks, {} of them by a, {} by b", film.arrived, on("a"), on("b")),
            failed => format!("{name} lacks {failed} chunks: {}", film.reasons.join("; ")),
        };
        (first.map(|chunk| chunk.owner.clone()).unwrap_or_default(), text)
    });
    let [email, text] = notices.named("notify").split(ways());
    email.sink("emails");
    text.sink("texts");
    let graph = flow.build()?;
    let mut said = vec![graph.to_mermaid(), String::new()];

    let run = graph.on(Arc::new(Memory::new()));
    let uploads = run.input::<Upload>("uploads").await?;
    let films = [("dune", "ada@example.org", 6), ("torn", "+33123", 4)];
    for (film, owner, chunks) in films {
        uploads.send(Id::of(film), Upload { film: film.into(), owner: owner.into(), chunks }).await?;
    }
    run.until_drained().await?;
    broken.close("b");
    uploads.send(Id::of("tron"), Upload { film: "tron".into(), owner: "alan@example.org".into(), chunks: 5 }).await?;
    run.until_drained().await?;
    for sink in ["emails", "texts"] {
        for (owner, text) in run.output::<Notice>(sink)?.ready().await? {
            said.push(format!("{sink}: to {owner}: {text}"));
        }
    }
    let stored = run.watch().edges().await?.iter().map(|(_, edge)| edge.stored).sum::<usize>();
    said.push(format!("summary uploads=3 left={stored}"));
    Ok(said.join("\n"))
}
