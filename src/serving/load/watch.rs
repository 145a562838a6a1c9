//! What the end of a pick is looked at for: an answer, a latency, a route, whether its endpoint comes back.

use crate::serving::cell::Cell;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
