//! A Kubernetes-shaped cluster in this process.
//!
//! - [`object`]: Kubernetes' own JSON in parts, with typed views
//! - [`manifest`]: YAML in; objects with their defaults, or all mistakes at once, out
//! - [`schedule`]: which node a pod goes to, pure
//! - [`rollout`]: how a Deployment moves from one template to the next, pure

pub mod manifest;
pub mod object;
pub mod rollout;
pub mod schedule;
pub mod service;
