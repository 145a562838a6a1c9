//! Floor 3: services in front of services.
//!
//! A set of endpoints that changes while requests flow, the patterns that choose among them, and what fills the set. It
//! may use `base`, `net`, `layer`, `pod`'s probes and `store`'s changes; it refuses to know what endpoints speak, and what
//! a cluster is: that is one more stream of changes.
//!
//! - [`replicas`]: [`Replicas`], equal endpoints behind one service — start here
//! - [`endpoints`]: [`Endpoints`], the set; [`changes`]: [`Changes`] to it in one step
//! - [`attributes`]: [`Attributes`], what is known of an endpoint: weight, zone, version, labels, readiness
//! - [`pick`]: [`Picker`], how one is chosen, the five there are, and those around another: near ones first, a few of many,
//!   without those who fail for the request's route
//! - [`among`]: [`Among`], what a picker chooses among
//! - [`scatter`]: [`Scatter`], a request to many at once, and one answer of theirs: all, a quorum, the first, what comes in time
//! - [`slow_start`]: [`SlowStart`], how fast a new endpoint gets its share
//! - [`load`]: [`Lease`], one pick, counted until its outcome is known
//! - [`affinity`]: [`Affinity`], a session's requests at one endpoint; `Sticky` (feature `http`), the same by a cookie
//! - [`eject`]: [`Ejection`], when [`Endpoints::eject`] puts out who fails; [`Detector`], the decision
//! - [`source`]: [`Endpoints::follow`], endpoints from a stream of changes; [`Dns`], from names
//! - [`probes`]: [`Probes`], endpoints asked whether they are ready
//! - [`shard`]: [`ShardMap`], which shard owns which key; [`ShardKey`], what a request is sharded by
//! - [`shards`]: [`Shards`], requests to the shard that owns their key, also while keys move; [`Fence`], the gate in front
//!   of a shard; [`Mover`], what moves the data; `Versioned` (feature `http`), maps' versions and refusals over HTTP
//! - [`erased`]: [`Erased`], endpoints of different types in one set
//! - `ejecting`: the decision, shown to picks and told what became of them; `cell`: what is known of one endpoint
//! - `snapshot`, `part`: the set at one moment, and a part of it; `sample`, `ewma`, `rendezvous`: drawing by weight,
//!   averaging latency, agreeing by names alone (pure)

pub mod affinity;
pub mod among;
pub mod attributes;
mod cell;
pub mod changes;
#[cfg(test)]
mod churn;
pub mod eject;
mod ejecting;
pub mod endpoints;
pub mod erased;
mod ewma;
pub mod load;
#[cfg(seedpod_loom)]
mod loom_swap;
mod part;
pub mod pick;
pub mod probes;
mod rendezvous;
pub mod replicas;
mod sample;
pub mod scatter;
pub mod shard;
pub mod shards;
pub mod slow_start;
mod snapshot;
pub mod source;

pub use affinity::Affinity;
pub use among::{Among, Draw};
pub use attributes::{Attributes, Description, Status};
pub use changes::Changes;
pub use eject::{Detector, Ejection};
pub use endpoints::Endpoints;
pub use erased::Erased;
pub use load::Lease;
pub use pick::{ByRoute, Choice, LeastPending, Locality, PeakEwma, Picker, Random, Ring, RoundRobin, Subset};
pub use probes::{ProbeReport, Probed, Probes, Probing};
pub use replicas::{Picked, Replicas};
pub use scatter::{
    Answer, Answers, Coverage, Covered, Gathered, Leaf, Leaves, Parts, Reply, Require, Scatter, ScatterHandle,
    Shortfall, Tally, Tied,
};
pub use shard::{Shard, ShardKey, ShardMap};
pub use shards::{
    By, Computed, Fence, FenceLayer, Moved, Mover, Moving, Rebalance, Rebalanced, Route, ShardMaps, Shards,
};
#[cfg(feature = "http")]
pub use shards::{MAP_VERSION, Versioned};
pub use slow_start::SlowStart;
pub use source::{Dns, Family, Follow, Member, Records, Resolution, Resolver, Srv, System};
