//! One integration binary, so that it links once: a module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]
#![allow(clippy::disallowed_macros, reason = "tests may print")]

mod adapter;
#[cfg(target_os = "linux")]
mod balancer;
mod boutique;
mod cluster;
mod control;
mod durable;
mod examples;
mod fleet;
mod flow;
mod flow_ends;
mod flow_open;
mod flow_state;
mod http;
mod jobs;
#[cfg(target_os = "linux")]
mod killed;
mod manifest;
mod map_reduce;
mod net;
mod per_item;
mod pod;
#[cfg(target_os = "linux")]
mod processes;
mod queue;
mod queue_features;
mod queue_input;
mod reply;
mod scale;
mod serving;
mod settling;
mod simulated;
mod store;
mod tidy;
