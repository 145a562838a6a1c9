//! Overload: up to ten times what the servers can do, and what comes of it with and without limits.
//!
//! In virtual time the whole story takes a few seconds and always reads the same. With `--loopback` the same is done for
//! real: HTTP servers on this machine's loopback, calls in an open loop, measured against the goals; it fails where one is
//! missed.
//!
//! ```text
//! cargo run --example overload
//! cargo run --release --example overload -- --loopback
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

mod loopback;
mod story;

fn main() -> seedpod::Result {
    match std::env::args().nth(1).as_deref() {
        None => {
            println!("{}", story::story()?);
            Ok(())
        }
        Some("--loopback") => loopback::run(),
        Some(other) => {
            let message = format!("unknown argument {other}: there is only --loopback");
            Err(seedpod::Error::new(seedpod::base::Kind::Invalid, message))
        }
    }
}
