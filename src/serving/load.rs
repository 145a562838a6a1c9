//! A pick, counted until its outcome is known.

use super::cell::Cell;
use crate::{
    base::{Outcome, sync::Counted as Arc, time},
    layer::attempt,
};
use std::fmt;

/// What the end of a pick is looked at for, beside failing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Watch {
    /// Nothing: a call that goes well leaves no mark.
    Nothing,
    /// That it was answered.
    Answer,
    /// How long it took, too.
    Time(Timing),
    /// Whether its endpoint comes back: it is the probe of this number.
    Probe(u32),
    /// That, and how long it took.
    TimedProbe(u32, Timing),
    /// What became of it on its route, too.
    Route(Ticket),
    /// That, and how long it took.
    TimedRoute(Ticket, Timing),
}

/// Of a call that belongs to a route: which one, what it decides, and the number of the probe that it is. In one word,
/// so that the picks of those who know no routes carry nothing for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ticket(u32);

/// What a call that belongs to a route decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trial {
    /// Nothing.
    Nothing = 0,
    /// Whether its endpoint comes back.
    OfEndpoint = 1,
    /// Whether its endpoint comes back for calls of this route.
    OfRoute = 2,
}

impl Ticket {
    /// Bits of a probe's number: [`PROBES`] are told apart.
    const NUMBER: u32 = 17;
    const TRIAL: u32 = 2;

    fn new(route: u16, trial: Trial, number: u32) -> Self {
        let above = u32::from(route) << Self::TRIAL | trial as u32;
        Ticket(above << Self::NUMBER | (number & (PROBES - 1)))
    }

    pub(crate) fn route(self) -> u16 {
        (self.0 >> (Self::NUMBER + Self::TRIAL)) as u16
    }

    pub(crate) fn trial(self) -> Trial {
        match (self.0 >> Self::NUMBER) & 3 {
            0 => Trial::Nothing,
            1 => Trial::OfEndpoint,
            _ => Trial::OfRoute,
        }
    }

    pub(crate) fn number(self) -> u32 {
        self.0 & (PROBES - 1)
    }
}

/// How many probes of a detector are told apart: their numbers are below it, and begin again from 0.
pub(crate) const PROBES: u32 = 1 << Ticket::NUMBER;

/// How many routes are told apart, those together that are not included.
pub(crate) const ROUTES: usize = 1 << (32 - Ticket::NUMBER - Ticket::TRIAL);

impl Watch {
    /// As little as this endpoint can do with.
    #[inline(always)]
    pub(crate) fn least(cell: &Cell) -> Self {
        if cell.is_watched() { Watch::Answer } else { Watch::Nothing }
    }

    /// The same of the probe of this number.
    pub(crate) fn of_probe(self, number: u32) -> Self {
        match self {
            Watch::Time(timing) | Watch::TimedProbe(_, timing) => Watch::TimedProbe(number, timing),
            Watch::Nothing | Watch::Answer | Watch::Probe(_) => Watch::Probe(number),
            Watch::Route(ticket) => Watch::Route(Ticket::new(ticket.route(), Trial::OfEndpoint, number)),
            Watch::TimedRoute(ticket, timing) => {
                Watch::TimedRoute(Ticket::new(ticket.route(), Trial::OfEndpoint, number), timing)
            }
        }
    }

    /// The same of a call of the route of this number.
    #[inline]
    pub(crate) fn of_route(self, route: u16) -> Self {
        let (plain, probe) = (Ticket::new(route, Trial::Nothing, 0), Trial::OfEndpoint);
        match self {
            Watch::Nothing | Watch::Answer => Watch::Route(plain),
            Watch::Time(timing) => Watch::TimedRoute(plain, timing),
            Watch::Probe(number) => Watch::Route(Ticket::new(route, probe, number)),
            Watch::TimedProbe(number, timing) => Watch::TimedRoute(Ticket::new(route, probe, number), timing),
            routed => routed,
        }
    }

    /// The same of the probe of this number of its route.
    pub(crate) fn of_route_probe(self, number: u32) -> Self {
        let probe = |ticket: Ticket| Ticket::new(ticket.route(), Trial::OfRoute, number);
        match self {
            Watch::Route(ticket) => Watch::Route(probe(ticket)),
            Watch::TimedRoute(ticket, timing) => Watch::TimedRoute(probe(ticket), timing),
            other => other,
        }
    }

    /// Whether the outcome decides whether an endpoint comes back.
    #[inline]
    pub(crate) fn is_probe(self) -> bool {
        match self {
            Watch::Probe(_) | Watch::TimedProbe(..) => true,
            Watch::Route(ticket) | Watch::TimedRoute(ticket, _) => ticket.trial() != Trial::Nothing,
            Watch::Nothing | Watch::Answer | Watch::Time(_) => false,
        }
    }
}

/// How a latency is measured: when the call began, in nanoseconds after the set's beginning, and what to make of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Timing {
    pub(crate) start: u64,
    pub(crate) decay: f32,
    pub(crate) penalty: f32,
    pub(crate) unknown: f32,
}

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
    fn a_lease_that_may_be_a_probe_or_of_a_route_is_no_larger_than_one_that_is_timed() {
        assert_eq!(size_of::<Watch>(), size_of::<u64>() + size_of::<Timing>());
    }

    #[test]
    fn a_ticket_says_what_it_was_made_of() {
        for route in [0, 1, 4_096, ROUTES as u16 - 1] {
            for trial in [Trial::Nothing, Trial::OfEndpoint, Trial::OfRoute] {
                for number in [0, 1, PROBES - 1] {
                    let ticket = Ticket::new(route, trial, number);
                    assert_eq!((ticket.route(), ticket.trial(), ticket.number()), (route, trial, number));
                }
            }
        }
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
