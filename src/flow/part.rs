//! What one delivery comes to.

use super::fault::Fate;
use crate::queue::{Delivery, Lease, Reject, Retry, Step};

/// What one delivery comes to.
pub(super) struct Part {
    pub(super) delivery: Delivery,
    pub(super) step: Step,
    pub(super) retried: u32,
    pub(super) rejected: u32,
    pub(super) made: u64,
}

impl Part {
    pub(super) fn new(delivery: &Delivery) -> Part {
        Part { delivery: delivery.clone(), step: Step::new(), retried: 0, rejected: 0, made: 0 }
    }

    pub(super) fn lease(&self) -> Lease {
        self.delivery.lease
    }

    /// What becomes of an item that did not go well.
    pub(super) fn add(&mut self, at: u32, fate: Fate) {
        let items = at..at + 1;
        match fate {
            Fate::Retry { after, charge } => {
                self.retried += 1;
                self.step.retries.push(Retry::new(self.lease()).items(items).after(after).charge(charge));
            }
            Fate::Reject(reason) => {
                self.rejected += 1;
                self.step.rejects.push(Reject::new(self.lease(), reason).items(items));
            }
        }
    }

    /// Adds what it comes to: all that is not named otherwise is acknowledged.
    pub(super) fn settle(&self, mut step: Step) -> Step {
        if self.step.retries.is_empty() && self.step.rejects.is_empty() {
            step.acks.push(self.lease());
        }
        step.retries.extend_from_slice(&self.step.retries);
        step.rejects.extend_from_slice(&self.step.rejects);
        step.publishes.extend(self.step.publishes.iter().cloned());
        step
    }
}
