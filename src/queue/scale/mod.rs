//! Workers that scale themselves: how many are wanted, decided from arrivals, service time and backlog.
//!
//! It may use what `queue` may. It refuses to know what a worker is: whoever implements [`Scale`] does.
//!
//! - [`Consume::autoscale`](super::Consume::autoscale), [`Autoscaled`]: workers that do all of it by themselves — start here
//! - [`Autoscaler`]: the loop: look, decide, set
//! - [`Policy`], [`Inputs`], [`Decision`]: the decision, pure and explained
//! - [`Scale`], [`Count`]: what can be told how many workers to have
//! - [`Workers`]: a pool of consumers in this process, which is one
//! - [`Meter`], [`Metrics`]: what is measured, and read

mod autoscaled;
mod autoscaler;
mod decision;
mod estimate;
mod guard;
mod measured;
mod meter;
#[cfg(test)]
mod meter_tests;
mod metrics;
mod policy;
mod pool;
#[cfg(test)]
mod tests;
mod workers;

pub use autoscaled::Autoscaled;
pub use autoscaler::Autoscaler;
pub use decision::{Decision, Inputs, Reason};
pub use measured::Measured;
pub use meter::{Meter, Work};
pub use metrics::Metrics;
pub use policy::{Pace, Policy, State};
pub use workers::Workers;

use crate::base::Result;
use async_trait::async_trait;
use serde::Serialize;

/// What can be told how many workers to have: a pool in this process, the replicas of a deployment.
///
/// Object-safe. [`Workers`] is one; so is an `Arc` of one.
///
/// # Guarantees that the implementor owes
/// [`set`](Scale::set) is absolute, and again does nothing. Fewer means: who is told to go ends after the item that it
/// works on, and takes no other.
#[async_trait]
pub trait Scale: Send + Sync + 'static {
    /// How many there are now.
    ///
    /// # Errors
    /// Whatever keeps it from knowing; where that [may pass](crate::Error::is_retryable), it is asked again.
    async fn current(&self) -> Result<Count>;

    /// Sees to it that there will be this many: returns once that is under way.
    ///
    /// # Errors
    /// Whatever keeps it from doing so; where that [may pass](crate::Error::is_retryable), it is told again.
    async fn set(&self, workers: u32) -> Result;

    /// Where its workers report what they do; none where they do not.
    fn meter(&self) -> Option<Meter> {
        None
    }
}

#[async_trait]
impl<T: Scale + ?Sized> Scale for std::sync::Arc<T> {
    async fn current(&self) -> Result<Count> {
        (**self).current().await
    }

    async fn set(&self, workers: u32) -> Result {
        (**self).set(workers).await
    }

    fn meter(&self) -> Option<Meter> {
        (**self).meter()
    }
}

/// How many workers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Take items, or would if there were any.
    pub running: u32,
    /// Asked for, and not running yet.
    pub starting: u32,
    /// Of the running ones, those that work on an item. 0 where nobody knows: the meter may.
    pub busy: u32,
    /// Told to go, and still working on their last item: counted nowhere else.
    pub leaving: u32,
}

impl Count {
    /// What is there and what will be.
    pub fn total(&self) -> u32 {
        self.running.saturating_add(self.starting)
    }
}
