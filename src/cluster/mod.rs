//! A Kubernetes-shaped cluster in this process.
//!
//! - [`schedule`]: which node a pod goes to, pure

pub mod schedule;
