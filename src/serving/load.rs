//! A pick, counted until its outcome is known.

use super::cell::Cell;
use crate::{
    base::{Outcome, sync::Counted as Arc, time},
    layer::attempt,
};
use std::fmt;

mod watch;

pub(crate) use watch::{PROBES, ROUTES, Ticket, Timing, Trial, Watch};

/// A pick: counts its endpoint in flight until it takes exactly one [`Outcome`]. Dropped without one, the outcome is
/// [what the drop says](attempt::dropped): [`Outcome::Cancelled`], unless a time-out or another attempt ended it.
#[must_use = "dropping the lease ends the pick as cancelled"]
pub struct Lease {
    cell: Option<Arc<Cell>>,
    watch: Watch,
}

impl Lease {
    #[inline(always)]
    pub(crate) fn new(cell: &Arc<Cell>, watch: Watch) -> Self {
        Lease::of(cell.clone(), watch)
    }

    /// By a reference that is counted already.
    #[inline(always)]
    pub(crate) fn of(counted: Arc<Cell>, watch: Watch) -> Self {
        Lease { cell: Some(counted), watch }
    }

    /// Of no endpoint: for a call that found none.
    pub(crate) fn none() -> Self {
        Lease { cell: None, watch: Watch::Nothing }
    }

    /// The endpoint's key.
    pub fn key(&self) -> &str {
        self.cell.as_ref().map_or("", |cell| cell.key())
    }

    /// Ends the pick with what became of it.
    pub fn complete(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    /// Whether its outcome decides whether an ejected endpoint comes back.
    pub fn is_probe(&self) -> bool {
        self.watch.is_probe()
    }

    pub(crate) fn cell(&self) -> Option<&Arc<Cell>> {
        self.cell.as_ref()
    }

    /// In place: moving a lease out of a future costs more than the pick.
    #[inline(always)]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if outcome != Outcome::Success
            && let Some(cell) = &self.cell
        {
            cell.suffer(outcome, time::now());
        }
        self.end(outcome);
    }

    #[inline(always)]
    fn end(&mut self, outcome: Outcome) {
        if self.watch != Watch::Nothing
            && let Some(cell) = &self.cell
        {
            cell.observe(self.watch, outcome);
        }
        self.cell = None;
    }

    #[cold]
    fn dropped(&mut self) {
        match attempt::dropped() {
            Outcome::Failure => self.settle(Outcome::Failure),
            outcome => self.end(outcome),
        }
    }
}

impl Drop for Lease {
    #[inline(always)]
    fn drop(&mut self) {
        if self.cell.is_some() {
            self.dropped();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.key())
    }
}

/// A [`Lease`] of one word, for picks that are looked at for as little as their endpoint can do with.
pub(crate) struct Count(Option<Arc<Cell>>);

impl Count {
    #[inline(always)]
    pub(crate) fn new(cell: &Arc<Cell>) -> Self {
        Count(Some(cell.clone()))
    }

    #[inline(always)]
    pub(crate) fn cell(&self) -> Option<&Arc<Cell>> {
        self.0.as_ref()
    }

    /// Another pick of the same endpoint.
    pub(crate) fn again(&self) -> Lease {
        self.0.as_ref().map_or_else(Lease::none, |cell| Lease::new(cell, Watch::least(cell)))
    }

    /// It went well.
    #[inline(always)]
    pub(crate) fn succeed(&mut self) {
        match self.0.take() {
            Some(cell) if cell.is_watched() => lease(cell).settle(Outcome::Success),
            _ => {}
        }
    }

    /// Ends it with what became of it.
    #[cold]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if let Some(cell) = self.0.take() {
            lease(cell).settle(outcome);
        }
    }

    #[cold]
    fn dropped(&mut self) {
        drop(self.0.take().map(lease));
    }
}

#[cold]
fn lease(counted: Arc<Cell>) -> Lease {
    let watch = Watch::least(&counted);
    Lease::of(counted, watch)
}

impl Drop for Count {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.dropped();
        }
    }
}

#[cfg(all(test, seedpod_loom))]
mod loom_model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::cell::better;
    use std::time::Duration;

    fn cell(key: &str) -> Arc<Cell> {
        let cell = Arc::new(Cell::new(key.into(), time::now()));
        cell.snapshots(1); // the reference that this test holds
        cell
    }

    #[test]
    fn in_flight_is_counted_by_leases_and_returned_by_dropping_them() {
        let (a, b, now) = (cell("a"), cell("b"), || time::now());
        let (first, second) = (Lease::new(&a, Watch::Nothing), Lease::new(&a, Watch::Nothing));
        assert_eq!((Cell::pending(&a), Cell::pending(&b)), (2, 0));
        assert!(better(&b, &a, now) && !better(&a, &b, now));
        first.complete(Outcome::Success);
        drop(second);
        assert_eq!(Cell::pending(&a), 0);
        assert!(better(&a, &b, now) && better(&b, &a, now));
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_is_second_choice_until_it_has_passed() {
        let (busy, failed, now) = (cell("busy"), cell("failed"), time::now);
        let _load = [Lease::new(&busy, Watch::Nothing), Lease::new(&busy, Watch::Nothing)];
        let seconds = Duration::from_secs;
        for (outcome, shunned) in [
            (Outcome::Failure, seconds(1)),
            (Outcome::LocalOrigin, seconds(1)),
            (Outcome::Throttled(None), seconds(1)),
            (Outcome::Throttled(Some(seconds(7))), seconds(7)),
            (Outcome::Throttled(Some(seconds(9000))), seconds(300)),
        ] {
            assert!(better(&failed, &busy, now));
            Lease::new(&failed, Watch::Nothing).complete(outcome);
            time::sleep(shunned - Duration::from_millis(2)).await;
            assert!(better(&busy, &failed, now), "{outcome:?}");
            time::sleep(Duration::from_millis(4)).await;
        }
        for outcome in [Outcome::Ignored, Outcome::Superseded, Outcome::Cancelled, Outcome::Success] {
            Lease::new(&failed, Watch::Nothing).complete(outcome);
            assert!(better(&failed, &busy, now), "{outcome:?}");
        }
        Lease::new(&failed, Watch::Nothing).complete(Outcome::Failure);
        Lease::new(&busy, Watch::Nothing).complete(Outcome::Failure);
        assert!(better(&failed, &busy, now), "where both failed, load decides");
    }
}
