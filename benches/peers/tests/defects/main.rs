//! Defects of what users would pick instead, each shown failing beside ours holding: the same test, run on both.
//!
//! A test of a peer that stops failing means that the peer was mended: take it out then.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

mod balance;
mod budget;
mod hedge;
mod steer;
