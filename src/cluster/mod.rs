//! A Kubernetes-shaped cluster in this process.
//!
//! - [`schedule`]: which node a pod goes to, pure
//! - [`rollout`]: how a Deployment moves from one template to the next, pure

mod demand;
mod identity;
mod plane;
mod recorder;
pub mod rollout;
pub mod schedule;
pub mod service;
