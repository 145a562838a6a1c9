//! What a second attempt costs, and what the hedges of other patterns share with these: delay, budgets, record.

use super::{
    super::{Budget, budget::Extra},
    HedgeLayer,
};
use crate::base::time::Instant;
use std::time::Duration;

/// A second attempt that is paid for, by the budgets that there are.
pub(crate) struct Paid {
    own: Option<Extra>,
    shared: Option<Extra>,
}

impl Paid {
    /// By this budget alone, or by none.
    pub(crate) fn by(budget: Option<&Budget>, now: Instant) -> Option<Self> {
        match budget {
            Some(budget) => Some(Paid { own: None, shared: Some(budget.extra(now)?) }),
            None => Some(Paid { own: None, shared: None }),
        }
    }
}

/// Whether the attempt has left so far: what has not is given back when it is dropped.
pub(crate) fn has_left(paid: &mut Option<Paid>, left: bool) {
    for extra in paid.iter_mut().flat_map(|paid| [&mut paid.own, &mut paid.shared]).flatten() {
        extra.has_left(left);
    }
}

impl<C> HedgeLayer<C> {
    /// Counts so many calls that are made now, and tells after how long to make them again.
    pub(crate) fn arrive(&self, calls: u64, now: Instant) -> Option<Duration> {
        self.handle.0.own.deposit_many(calls, now);
        self.handle.0.delay(now)
    }

    /// Pays for a second attempt from both budgets, or from neither; it then counts as made.
    pub(crate) fn pay(&self, now: Instant) -> Option<Paid> {
        let paid = self.handle.0.own.extra(now).and_then(|own| match &self.budget {
            Some(budget) => Some(Paid { own: Some(own), shared: Some(budget.extra(now)?) }),
            None => Some(Paid { own: Some(own), shared: None }),
        });
        if paid.is_some() {
            self.handle.0.hedged()
        } else {
            self.handle.0.refused()
        }
        paid
    }

    /// How long an attempt took, or at least took until it lost.
    pub(crate) fn record(&self, took: Duration, now: Instant) {
        self.handle.0.record(took, now);
    }

    /// A second attempt came first.
    pub(crate) fn won(&self) {
        self.handle.0.won();
    }
}
