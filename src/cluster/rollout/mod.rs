//! How workloads move their pods from one template to the next: the decisions, pure.
//!
//! A Deployment owns ReplicaSets, one per template; [`step`] says how many replicas each should have next, so that
//! never more than the surge exist and never fewer than the minimum are available; [`replicate`] says which pods a
//! ReplicaSet creates or deletes to get there. It may use `base` alone, and refuses to know objects, stores and clocks.
//!
//! - [`Wanted`], [`Set`], [`step`]: the rolling update — start here
//! - [`progress`]: what the Deployment's `Available` and `Progressing` conditions say
//! - [`ordered`]: what a StatefulSet creates and deletes, number by number
//! - [`replicate`]: creations in slow-start batches, victims in Kubernetes' order

mod bound;
pub mod ordered;
mod progress;
pub mod replicate;
mod scale;
mod step;

pub use bound::Bound;
pub use progress::{Counts, Verdict, available, progress};
pub use step::{Scale, Set, Strategy, Wanted, opening, step};
