//! Floor 5: a Kubernetes-shaped cluster in this process.
//!
//! It may use every floor below its own, and refuses to know the mesh: what is injected into pods comes through an
//! admission closure.
//!
//! - [`Cluster`]: put together, started, given manifests, watched, disturbed — start here
//! - [`object`]: Kubernetes' own JSON in parts, with typed views
//! - [`manifest`]: YAML in; objects with their defaults, or all mistakes at once, out
//! - [`schedule`]: which node a pod goes to, pure
//! - [`rollout`]: how a Deployment moves from one template to the next, pure
//! - [`service`]: addresses that stay while pods come and go

mod apply;
mod available;
mod builder;
mod controllers;
mod demand;
mod drain;
mod expose;
mod handle;
mod identity;
mod kubelet;
pub mod manifest;
pub mod object;
mod plane;
mod recorder;
mod reference;
pub mod rollout;
pub mod schedule;
pub mod service;

pub use apply::{Applied, Change};
pub use available::Available;
pub use builder::Builder;
pub use handle::Cluster;
