//! Floor 3: services in front of services.
//!
//! A set of endpoints that changes while requests flow, and the patterns that choose among them. It may use `base` and
//! `layer`; it refuses to know where endpoints come from, what they speak, and what a pod or a cluster is.
//!
//! - [`replicas`]: [`Replicas`], equal endpoints behind one service — start here
//! - [`endpoints`]: [`Endpoints`], the set; [`changes`]: [`Changes`] to it in one step
//! - [`attributes`]: [`Attributes`], what is known of an endpoint: weight, zone, version, labels, readiness
//! - [`pick`]: [`Picker`], how one is chosen, and the five there are
//! - [`among`]: [`Among`], what a picker chooses among
//! - [`slow_start`]: [`SlowStart`], how fast a new endpoint gets its share
//! - [`load`]: [`Lease`], one pick, counted until its outcome is known
//! - [`affinity`]: [`Affinity`], a session's requests at one endpoint, and the cookie for it
//! - [`eject`]: [`Detector`], who may not be picked for a while, and why
//! - [`erased`]: [`Erased`], endpoints of different types in one set
//! - `snapshot`, `sample`, `ewma`: the set at one moment; drawing by weight and averaging latency (pure)

pub mod affinity;
pub mod among;
pub mod attributes;
pub mod changes;
#[cfg(test)]
mod churn;
pub mod eject;
pub mod endpoints;
pub mod erased;
mod ewma;
pub mod load;
#[cfg(seedpod_loom)]
mod loom_swap;
pub mod pick;
mod rendezvous;
pub mod replicas;
mod sample;
pub mod slow_start;
mod snapshot;

pub use affinity::Affinity;
pub use among::{Among, Draw};
pub use attributes::{Attributes, Description, Status};
pub use changes::Changes;
pub use eject::{Detector, Ejection};
pub use endpoints::Endpoints;
pub use erased::Erased;
pub use load::Lease;
pub use pick::{Choice, LeastPending, PeakEwma, Picker, Random, Ring, RoundRobin};
pub use replicas::{Picked, Replicas};
pub use slow_start::SlowStart;
