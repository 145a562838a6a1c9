//! Shards: a key-value store in the pods of a cluster grows from three shards to five and shrinks back, while it is
//! written and read.
//!
//! ```text
//! cargo run --example shards               # about 20 seconds
//! cargo run --example shards -- --paused   # the same in virtual time, where it always reads the same
//! ```
//!
//! ```text
//! pod application                              StatefulSet db
//! ┌──────────────────────────────┐             ┌─────────────────────────────┐
//! │ application ──► localhost    │   GET PUT   │ db-0  db-1  db-2  db-3 db-4 │
//! │                     │        │ ──────────► │   each a fence, and rows    │
//! │                 ambassador   │             └──────────────┬──────────────┘
//! └─────────────────────┬────────┘                            │
//!                       └──────────► pod maps ◄───────────────┘   which map counts?
//! ```
//!
//! **The store** is [`store.yaml`](show): a StatefulSet whose pods are the shards ([`shard`]), and a pod that knows which
//! map counts ([`maps`]). Each key is kept by two of them. All writes of a key go to the first, which answers when the other
//! has it, too; a read needs one. **The application** ([`application`]) knows a port of localhost and nothing else: beside it
//! in its pod stands the [`ambassador`], which sends each request to the shard that owns its key.
//!
//! **The show** ([`show`]): the StatefulSet is scaled to five; then keys move, step by step ([`mover`]), each step under a map
//! of its own, while writers and readers go on. Then all goes back. Who asks for a key at the moment at which it changes hands
//! is told by 421 which map to wait for, and waits in the ambassador. In the end every owner is asked for every key, and
//! the answers are compared with what the application was told.
//!
//! ```text
//! summary requests=5832 failed=0 stale=0 keys=400 lost=0 astray=0
//! ```
//!
//! `failed`: requests without the answer that they should have; `stale`: reads that did not see a write that had been
//! acknowledged; `lost`: copies that are not where the map says, as written last; `astray`: copies left where they do not
//! belong. The exit code is 0 only where all of these are 0.
#![allow(clippy::disallowed_macros, reason = "an example prints")]

pub(crate) mod ambassador;
pub(crate) mod application;
pub(crate) mod maps;
pub(crate) mod mover;
pub(crate) mod refusal;
pub(crate) mod shard;
pub(crate) mod show;

use seedpod::{
    Error, Result,
    base::{Kind, sync::Lock},
};
use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let told = match std::env::args().nth(1).as_deref() {
        None => run(),
        Some("--paused") => story().map(|story| println!("{story}")),
        Some(other) => Err(Error::new(Kind::Invalid, format!("unknown argument {other}: there is only --paused"))),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// On the real clock.
fn run() -> Result {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(show::play(|line| println!("{line}")))
}

/// Runs on paused time and fixed seeds, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let told = Arc::new(Lock::new(Vec::new()));
    let lines = told.clone();
    runtime.block_on(show::play(move |line| lines.lock().push(line)))?;
    Ok(std::mem::take(&mut *told.lock()).join("\n"))
}
