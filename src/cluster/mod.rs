//! Floor 5: a Kubernetes-shaped cluster in this process.
//!
//! It may use every floor below its own, and refuses to know the mesh: what is injected into pods comes through an
//! admission closure.
//!
//! - [`object`]: Kubernetes' own JSON in parts, with typed views
//! - [`manifest`]: YAML in; objects with their defaults, or all mistakes at once, out
//! - [`schedule`]: which node a pod goes to, pure
//! - [`rollout`]: how a Deployment moves from one template to the next, pure
//! - [`service`]: addresses that stay while pods come and go

mod controllers;
mod demand;
mod identity;
mod kubelet;
pub mod manifest;
pub mod object;
mod plane;
mod recorder;
pub mod rollout;
pub mod schedule;
pub mod service;
