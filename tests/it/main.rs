//! One integration binary, so that it links once: a module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]
#![allow(clippy::disallowed_macros, reason = "tests may print")]

#[cfg(target_os = "linux")]
mod balancer;
mod boutique;
mod cluster;
mod control;
mod durable;
mod durable_damage;
mod durable_schedules;
mod examples;
mod fleet;
mod flow;
mod flow_schedules;
mod http;
mod jobs;
#[cfg(target_os = "linux")]
mod killed;
mod malformed;
mod manifest;
mod net;
mod per_item;
mod pod;
mod pod_schedules;
#[cfg(target_os = "linux")]
mod processes;
mod queue;
mod queue_features;
mod queue_input;
mod queue_model;
mod queue_schedules;
mod reply;
mod scale;
mod schedule;
mod serving;
mod shard_schedules;
mod store;
mod store_schedules;
mod tidy;
