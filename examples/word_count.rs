//! A coordinated batch: how often each word stands in all files below a directory. They are read in parallel, the counts of
//! each worker are combined where they arise, exchanged by the hash of the word, added up and put in order. What is no
//! UTF-8 is left out, and said.
//!
//! Run: `cargo run --example word_count -- DIRECTORY` counts yours, with a bar that says how far it is. Without one it
//! counts a few small texts, and draws what it does.
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Result,
    flow::{self, Progress, Reduced},
};
use std::{
    fs,
    io::{IsTerminal, Write, stderr},
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

fn main() -> Result {
    match std::env::args().nth(1) {
        Some(folder) => runtime()?.block_on(count(&folder)),
        None => {
            println!("{}", story()?);
            Ok(())
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_time().build()?)
}

async fn count(folder: &str) -> Result {
    let batch = flow::counting().files(folder);
    let progress = batch.progress();
    let mut running = Box::pin(batch.run());
    let counted = loop {
        tokio::select! {
            biased;
            counted = &mut running => break counted?,
            () = tokio::time::sleep(Duration::from_millis(100)) => bar(&progress),
        }
    };
    bar(&progress);
    println!("\n{}", report(&counted));
    Ok(())
}

/// Where somebody looks on, how far it is.
fn bar(progress: &Progress) {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r{progress} ");
    }
}

/// What is left out, the ten most frequent words, and the sums.
fn report(counted: &Reduced<u64>) -> String {
    let mut lines: Vec<_> = counted.skipped.iter().map(|skipped| format!("left out: {skipped}")).collect();
    let mut rows: Vec<_> = counted.rows.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count)); // of as many, in the order of the words
    lines.extend(rows.iter().take(10).map(|(word, count)| format!("{count:>8} {word}")));
    let words: u64 = counted.rows.iter().map(|(_, count)| count).sum();
    let (files, skipped, distinct) = (counted.texts, counted.skipped.len(), counted.rows.len());
    lines.push(format!("summary files={files} skipped={skipped} words={words} distinct={distinct}"));
    lines.join("\n")
}

/// Counts a few texts, and draws how.
async fn told() -> Result<String> {
    let folder = texts()?;
    let two = NonZero::<usize>::MIN.saturating_add(1);
    let batch = flow::counting().files(&folder).workers(two);
    let (drawn, progress) = (batch.to_mermaid(), batch.progress());
    let counted = batch.run().await;
    fs::remove_dir_all(folder)?;
    Ok(format!("{drawn}\n{progress}\n{}", report(&counted?)))
}

/// What it prints without a directory, for its test.
pub(crate) fn story() -> Result<String> {
    runtime()?.block_on(told())
}

/// Some texts, and two that are none.
fn texts() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("seedpod-word-count-{}", std::process::id()));
    let write = |path: &str, text: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, text)
    };
    write("hamlet", b"to be or not to be that is the question\n")?;
    write("songs/rose", b"a rose is a rose is a rose\n")?;
    write("songs/row", b"row row row your boat gently down the stream\n")?;
    write("letters/1623", b"to the great variety of readers\n")?;
    write("letters/latin-1", b"d\xe9j\xe0 vu\n")?;
    write("picture", &[0x89, b'P', b'N', b'G', 0xff, 0xd8])?;
    Ok(folder)
}
