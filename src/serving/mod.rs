//! Floor 3: services in front of services.
//!
//! A set of endpoints that changes while requests flow, and the patterns that choose among them. It may use `base` and
//! `layer`; it refuses to know where endpoints come from, what they speak, and what a pod or a cluster is.
//!
//! - [`replicas`]: [`Replicas`], equal endpoints behind one service — start here
//! - [`endpoints`]: [`Endpoints`], the set
//! - [`load`]: [`Lease`], one pick, counted until its outcome is known
//! - [`affinity`]: [`Affinity`], a session's requests at one endpoint, and the cookie for it
//! - [`eject`]: [`Detector`], who may not be picked for a while, and why
//! - [`erased`]: [`Erased`], endpoints of different types in one set

pub mod affinity;
pub mod eject;
pub mod endpoints;
pub mod erased;
pub mod load;
mod rendezvous;
pub mod replicas;

pub use affinity::Affinity;
pub use eject::{Detector, Ejection};
pub use endpoints::{Changes, Endpoints};
pub use erased::Erased;
pub use load::Lease;
pub use replicas::{Picked, Replicas};
