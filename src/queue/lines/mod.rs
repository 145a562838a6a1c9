//! A queue of several lines, each a topic: one per level of priority and share of its tenants. It needs no more of a broker
//! than topics.

mod leasing;
mod turns;

pub(super) use leasing::Leasing;

use super::{Broker, Delivery, Subscription, Want};
use crate::base::{
    Few, Result,
    sync::{Arc, Lock},
    time,
};
use std::time::Duration;
use turns::{Order, Turns};

/// Where a pump gets its messages from: one subscription, or several lines by turns. Clones share their turns.
#[derive(Clone)]
pub(super) struct Lines {
    all: Arc<[Arc<Subscription>]>,
    turns: Option<Arc<Lock<Turns>>>,
}

impl Lines {
    /// No more than this one.
    pub(super) fn one(subscription: Arc<Subscription>) -> Lines {
        Lines { all: Arc::from([subscription]), turns: None }
    }

    /// So many levels of so many shares, level by level from the lowest; `step` of waiting is worth a level.
    pub(super) fn by_turns(all: Vec<Arc<Subscription>>, levels: usize, shares: usize, step: Duration) -> Lines {
        let turns = (all.len() > 1).then(|| Arc::new(Lock::new(Turns::new(levels, shares, step))));
        Lines { all: all.into(), turns }
    }

    pub(super) fn all(&self) -> &[Arc<Subscription>] {
        &self.all
    }

    /// In which order to look into them now.
    pub(super) fn order(&self) -> Order {
        match &self.turns {
            Some(turns) => turns.lock().order(time::now()),
            None => Order::from_elem(0, 1),
        }
    }

    /// This line's own part of what is wanted of all.
    pub(super) fn owed(&self, line: usize, items: u32) -> u32 {
        self.turns.as_ref().map_or(items, |turns| turns.lock().owed(line, items))
    }

    /// What came of looking into this line.
    pub(super) fn looked(&self, line: usize, deliveries: &Few<Delivery>) {
        let Some(turns) = &self.turns else { return };
        match deliveries.last() {
            Some(last) => {
                turns.lock().served(line, deliveries.iter().map(Delivery::len).sum(), last.batch.published);
            }
            None => turns.lock().empty(line, time::now()),
        }
    }

    /// Takes what is there, line by line, then waits at all of them. What it has in hand when it is dropped comes back
    /// when its leases have run out.
    pub(super) async fn lease(&self, broker: &dyn Broker, want: Want) -> Result<(usize, Few<Delivery>)> {
        if self.turns.is_none() {
            let Some(only) = self.all.first() else { return Ok((0, Few::new())) };
            return Ok((0, broker.lease(only, want).await?));
        }
        for line in self.order() {
            let Some(subscription) = self.all.get(line) else { continue };
            let part = Want { items: self.owed(line, want.items), ..want.wait(Duration::ZERO) };
            let deliveries = broker.lease(subscription, part).await?;
            self.looked(line, &deliveries);
            if !deliveries.is_empty() {
                return Ok((line, deliveries));
            }
        }
        if want.wait.is_zero() {
            return Ok((0, Few::new()));
        }
        let mut leasing = self.wait(broker, want);
        let leased = (&mut leasing).await;
        let left = leasing.left();
        if !left.is_empty() {
            broker.settle(super::given_back(left)).await?;
        }
        leased
    }

    /// Waits at all lines for the first that has something.
    pub(super) fn wait<'a>(&'a self, broker: &'a dyn Broker, want: Want) -> Leasing<'a> {
        Leasing::new(self, broker, want)
    }
}
