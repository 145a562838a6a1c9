//! Shards: a key-value store in the pods of a cluster grows from three to five and shrinks back, while it is written and
//! read.
//!
//! ```text
//! cargo run --example shards
//! ```
//!
//! ```text
//!  pod application                       StatefulSet db
//! ┌──────────────────────────┐          ┌────────────────────────────┐
//! │ application ─► localhost │  GET PUT │ db-0  db-1  db-2 ┆ db-3  db-4 │
//! │                    │     │ ───────► │  fence, keys     ┆             │
//! │               ambassador │          └────────────────────────────┘
//! └────────────────────┬─────┘                   │ which map counts?
//!                      └──── pod maps ◄──────────┘
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

pub(crate) mod ambassador;
pub(crate) mod application;
pub(crate) mod maps;
pub(crate) mod mover;
pub(crate) mod refusal;
pub(crate) mod shard;
pub(crate) mod show;

use seedpod::Result;
use std::process::ExitCode;

/// On the real clock.
#[tokio::main]
async fn main() -> ExitCode {
    match show::play(|line| println!("{line}")).await {
        Ok(summary) if summary.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// The same on paused time, where it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let told = std::sync::Arc::new(seedpod::base::sync::Lock::new(Vec::new()));
    let lines = told.clone();
    runtime.block_on(show::play(move |line| lines.lock().push(line)))?;
    Ok(std::mem::take(&mut *told.lock()).join("\n"))
}
