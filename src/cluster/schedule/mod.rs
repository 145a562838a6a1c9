//! Which node a pod goes to: the scheduler's decision, pure.
//!
//! [`Nodes`] is a snapshot of nodes that is kept up to date change by change; [`Nodes::pick`] filters and scores as
//! Kubernetes' default profile does and returns a node, or [`Unschedulable`] with Kubernetes' own words. It may use
//! `base` alone, and refuses to know objects, stores, tasks and clocks.
//!
//! - [`Nodes`]: the snapshot and the pick — start here
//! - [`Demand`]: what a pod asks for; [`Shape`]: what a node offers; [`Amount`], [`Taint`], [`Toleration`], [`Spread`]
//! - [`Unschedulable`]: how many nodes stood in the way, by [`Reason`]

mod amount;
mod demand;
mod nodes;
mod reason;
mod score;
mod spread;

pub use amount::Amount;
pub use demand::{Demand, Effect, Shape, Spread, Taint, Toleration};
pub use nodes::Nodes;
pub use reason::{Reason, Unschedulable};
