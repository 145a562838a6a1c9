//! What came of it all: did every order that was confirmed have its effects, each of them once?

use super::{call::Caller, services::Ledger, traffic::Tally};
use seedpod::{
    Result,
    base::time::{self, Instant},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// What every order must have exactly once.
const EFFECTS: [&str; 3] = ["payment", "email", "shipping"];

/// The outcome of a run, printed as its last line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) orders: u64,
    /// Confirmed orders that lack an effect.
    pub(crate) orders_lost: u64,
    /// Orders, confirmed or not, with an effect seen more than once.
    pub(crate) orders_doubled: u64,
    pub(crate) restarts: u64,
}

impl Summary {
    /// Whether nothing failed, got lost or was done twice.
    pub(crate) fn is_clean(&self) -> bool {
        (self.failed, self.orders_lost, self.orders_doubled) == (0, 0, 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { requests, failed, orders, orders_lost, orders_doubled, restarts } = self;
        write!(
            f,
            "summary requests={requests} failed={failed} orders={orders} orders_lost={orders_lost} \
             orders_doubled={orders_doubled} restarts={restarts}"
        )
    }
}

/// Waits for the queue to be worked off, at most until then, and compares what was confirmed with the ledger.
pub(crate) async fn take(caller: &Caller, tally: &Tally, restarts: u64, then: Instant) -> Result<Summary> {
    loop {
        let mut seen = Vec::new();
        for effect in EFFECTS {
            seen.push(Ledger::count(caller, effect).await?);
        }
        let (lost, doubled) = compare(&tally.orders, &seen);
        if lost == 0 || time::now() >= then {
            return Ok(Summary {
                requests: tally.requests,
                failed: tally.failed,
                orders: tally.orders.len() as u64,
                orders_lost: lost,
                orders_doubled: doubled,
                restarts,
            });
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many confirmed orders lack an effect, and how many orders of all have one more than once.
fn compare(confirmed: &BTreeSet<String>, seen: &[BTreeMap<String, u64>]) -> (u64, u64) {
    let lost = confirmed.iter().filter(|order| seen.iter().any(|effect| !effect.contains_key(*order)));
    let doubled: BTreeSet<_> = seen.iter().flatten().filter(|(_, times)| **times > 1).map(|(order, _)| order).collect();
    (lost.count() as u64, doubled.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_doubled_are_told_apart() {
        let seen = |orders: &[(&str, u64)]| orders.iter().map(|(id, times)| (id.to_string(), *times)).collect();
        let confirmed = ["a", "b", "c"].map(str::to_string).into();
        let all = seen(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(compare(&confirmed, &[all]), (0, 0));
        let (payments, emails) = (seen(&[("a", 1), ("b", 2), ("x", 2)]), seen(&[("a", 1), ("b", 3), ("c", 1)]));
        assert_eq!(compare(&confirmed, &[payments, emails]), (1, 2));
    }

    #[test]
    fn the_last_line() {
        let summary = Summary { requests: 9, orders: 2, restarts: 1, ..Summary::default() };
        let line = "summary requests=9 failed=0 orders=2 orders_lost=0 orders_doubled=0 restarts=1";
        assert_eq!(summary.to_string(), line);
        assert!(summary.is_clean() && !Summary { failed: 1, ..summary }.is_clean());
    }
}
