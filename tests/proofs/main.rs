//! Proofs by number: seeded fault schedules, a module per subject, queues held to a model of theirs, malformed inputs and
//! damaged files. A binary of their own: it is built for release, too, and runs ten thousand cases of each and more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]
#![allow(clippy::disallowed_macros, reason = "tests may print")]

mod cluster;
mod damage;
mod durable;
mod flow;
mod malformed;
mod net;
mod pod;
#[path = "../it/adapter/prometheus.rs"]
mod prometheus;
mod queue;
mod queue_model;
mod schedule;
mod shards;
#[path = "../it/cluster/shop.rs"]
mod shop;
#[path = "../it/simulated.rs"]
mod simulated;
mod store;
