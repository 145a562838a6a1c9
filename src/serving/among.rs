//! What a picker chooses among: the set at one moment, and chance.

use super::{
    Attributes,
    affinity::Told,
    cell::{Cell, state},
    part::{Part, flaps},
    sample::{Sampling, candidates},
    snapshot::Snapshot,
};
use crate::base::{
    Rng,
    time::{self, Instant},
};

/// How often a draw is repeated before all endpoints are looked at.
const DRAWS: u32 = 16;

/// The set at one moment, as a [`Picker`](super::Picker) sees it: endpoints by their place, from 0.
///
/// A draw gives each endpoint its share by weight, counts in how far it has warmed up, and leaves out those that are
/// draining, not ready or ejected. One that is ejected and whose time is over can be drawn again: the call that goes there
/// decides whether it comes back. Where a picker narrows the choice ([`only`](Self::only)), it leaves out all others, too.
pub struct Among<'a, S> {
    pub(crate) snapshot: &'a Snapshot<S>,
    /// What is drawn from: the snapshot's own, or that of a part.
    pub(crate) sampling: &'a Sampling,
    /// The snapshot's or the part's.
    pub(crate) id: u64,
    only: Option<&'a dyn Fn(usize) -> bool>,
    route: Option<OnRoute>,
}

/// The route of the request, where routes are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnRoute {
    pub(crate) number: u16,
    /// Whether anybody is out there.
    pub(crate) some_out: bool,
}

impl<'a, S> Among<'a, S> {
    #[inline(always)]
    pub(crate) fn new(snapshot: &'a Snapshot<S>) -> Self {
        Among { snapshot, sampling: &snapshot.sampling, id: snapshot.id, only: None, route: None }
    }

    /// How many endpoints there are, whether they take calls or not.
    pub fn len(&self) -> usize {
        self.snapshot.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of an endpoint; empty where there is none.
    pub fn key(&self, place: usize) -> &'a str {
        self.snapshot.list.get(place).map_or("", |endpoint| endpoint.cell.key())
    }

    /// What is known of an endpoint.
    pub fn attributes(&self, place: usize) -> Option<&'a Attributes> {
        self.snapshot.about.get(place).map(|about| &about.attributes)
    }

    /// How many calls and leases an endpoint has in flight.
    pub fn pending(&self, place: usize) -> u32 {
        self.snapshot.list.get(place).map_or(0, |endpoint| Cell::pending(&endpoint.cell))
    }

    /// Its weight in the draw; 0 where it is draining, where its source says that it is not ready, and where the draw is
    /// from a part without it: another zone's, another subset's.
    pub fn weight(&self, place: usize) -> u32 {
        self.sampling.weight(place)
    }

    /// Whether it may be picked: it has a weight, is ready, is not ejected or at the end of its time out, and the choice was
    /// not narrowed without it.
    pub fn is_pickable(&self, place: usize) -> bool {
        let right = |cell: &Cell| match cell.state() & !(state::WARMING | state::USED) {
            0 => true,
            state::EJECTED => cell.is_due(),
            _ => false,
        };
        let there = |cell: &Cell| right(cell) && self.on_route(cell).is_none_or(right);
        self.snapshot.list.get(place).is_some_and(|endpoint| there(&endpoint.cell))
            && self.weight(place) > 0
            && self.allows(place)
    }

    /// Whether it takes calls as a matter of course, also where the choice was narrowed without it.
    pub(crate) fn takes(&self, place: usize) -> bool {
        let state = self.snapshot.list.get(place).map(|endpoint| self.state(&endpoint.cell));
        state.is_some_and(|state| state & !(state::WARMING | state::USED) == 0) && self.weight(place) > 0
    }

    /// The same choice without the endpoints that do not pass.
    ///
    /// ```
    /// # use seedpod::{layer::Standard, serving::*};
    /// /// In this zone where anything there takes calls, else anywhere.
    /// #[derive(Clone)]
    /// struct Near(&'static str);
    ///
    /// impl<Req: ?Sized> Picker<Req> for Near {
    ///     fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice> {
    ///         let near = |place| among.attributes(place).is_some_and(|about| about.zone.as_deref() == Some(self.0));
    ///         let found = among.only(&near, |near| LeastPending.choose(near, request, draw));
    ///         found.or_else(|| LeastPending.choose(among, request, draw))
    ///     }
    /// }
    ///
    /// let replicas = Replicas::named("cart").pick_by(Near("b"));
    /// replicas.endpoints().update(|changes| {
    ///     changes.insert("far", 1).zone("a");
    ///     changes.insert("near", 2).zone("b");
    /// });
    /// assert_eq!(replicas.pick().unwrap().key(), "near");
    /// replicas.endpoints().drain("near");
    /// assert_eq!(replicas.pick().unwrap().key(), "far");
    /// ```
    pub fn only<R>(&self, pass: &dyn Fn(usize) -> bool, choose: impl FnOnce(&Among<'_, S>) -> R) -> R {
        match self.only {
            None => choose(&Among { only: Some(pass), ..*self }),
            Some(outer) => {
                let both = |place| outer(place) && pass(place);
                choose(&Among { only: Some(&both), ..*self })
            }
        }
    }

    /// The same choice within a part, whose places take the others' share of the draws: what [`only`](Self::only) finds
    /// by trying, this one draws at once. The part was made of what this one draws from.
    #[inline(always)]
    pub(crate) fn within<'b>(&'b self, part: &'b Part) -> Among<'b, S> {
        Among { snapshot: self.snapshot, sampling: &part.sampling, id: part.id, only: self.only, route: self.route }
    }

    /// The same choice for a request of this route: who is out there is out, who comes back there comes back slowly.
    #[inline]
    pub(crate) fn on(&self, route: OnRoute) -> Among<'a, S> {
        Among { route: Some(route), ..*self }
    }

    /// What is held against an endpoint on the route of the request.
    #[inline(always)]
    fn on_route<'c>(&self, cell: &'c Cell) -> Option<&'c Cell> {
        self.route.and_then(|route| cell.on_route(route.number)).map(|cell| &**cell)
    }

    /// All that is wrong with an endpoint, as bits of [`state`].
    #[inline(always)]
    fn state(&self, cell: &Cell) -> u32 {
        match self.route {
            None => cell.state(),
            Some(_) => cell.state() | self.on_route(cell).map_or(0, Cell::state),
        }
    }

    /// Under what to keep that which is made of who takes calls: another number where that may be others.
    #[inline(always)]
    pub(crate) fn known_as(&self) -> (u64, u64) {
        let route = self.route.filter(|route| route.some_out).map_or(0, |route| u64::from(route.number) + 1);
        (self.id | route << 47, flaps()) // ids are counted up from 0
    }

    /// Whether the draw is from the whole set.
    pub(crate) fn is_whole(&self) -> bool {
        self.id == self.snapshot.id
    }

    /// Whether any can be picked at all.
    pub(crate) fn has_pickable(&self) -> bool {
        self.sampling.places().any(|place| self.is_pickable(place))
    }

    /// Whether a call that goes to one of them decides whether it comes back.
    #[cold]
    pub(crate) fn has_due(&self) -> bool {
        self.sampling.places().any(|place| self.is_due(place) && self.is_pickable(place))
    }

    /// Whether places were taken out of the choice.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.only.is_some()
    }

    /// Whether it is ejected and the call that goes there decides whether it comes back.
    #[inline(always)]
    pub(crate) fn is_due(&self, place: usize) -> bool {
        let due = |cell: &Cell| cell.is_out() && cell.is_due();
        let there = |cell: &Cell| due(cell) || self.on_route(cell).is_some_and(due);
        self.snapshot.list.get(place).is_some_and(|endpoint| there(&endpoint.cell))
    }

    /// Whether it gets only part of its share yet.
    pub(crate) fn is_warming(&self, place: usize) -> bool {
        self.snapshot.list.get(place).is_some_and(|endpoint| self.state(&endpoint.cell) & state::WARMING != 0)
    }

    #[inline(always)]
    pub(crate) fn allows(&self, place: usize) -> bool {
        self.only.is_none_or(|only| only(place))
    }

    /// One endpoint, drawn by weight. None where none can be picked.
    #[inline(always)]
    pub fn one(&self, draw: &mut Draw) -> Option<usize> {
        let word = draw.word();
        let place = self.sampling.draw(word as u32)?;
        if self.is_free(place) || self.admits(place, (word >> 32) as u32) { Some(place) } else { self.one_of_few(draw) }
    }

    /// Two endpoints, drawn by weight; the first twice where it is the only one, or so heavy that it was drawn again, or
    /// where it is ejected and its time is over: against another it would hardly ever be tried.
    ///
    /// That a heavy one meets itself is what keeps the weights: were the second always another, the light ones would be
    /// a candidate of every call.
    #[inline(always)]
    pub fn two(&self, draw: &mut Draw) -> Option<(usize, usize)> {
        match self.two_at_once(draw) {
            Ok(two) => Some(two),
            Err(drawn) => self.two_of_few(draw, drawn),
        }
    }

    /// Two different ones, where all are alike and the draw finds two that nothing is wrong with; else what was drawn.
    #[inline(always)]
    pub(crate) fn two_at_once(&self, draw: &mut Draw) -> Result<(usize, usize), Option<(usize, usize)>> {
        if !matches!(*self.sampling, Sampling::All(_)) || self.only.is_some() {
            return Err(None);
        }
        let (a, b) = candidates(self.snapshot.list.len(), draw.word());
        match (self.snapshot.list.get(a), self.snapshot.list.get(b)) {
            (Some(first), Some(second)) if self.state(&first.cell) | self.state(&second.cell) == 0 => Ok((a, b)),
            _ => Err(Some((a, b))),
        }
    }

    /// The same for any set. What was drawn before stands where it is admitted: to draw anew would take from those that
    /// are warming.
    #[inline(never)]
    pub(crate) fn two_of_few(&self, draw: &mut Draw, drawn: Option<(usize, usize)>) -> Option<(usize, usize)> {
        let coin = draw.word();
        let (first, second) = match drawn {
            Some((a, b)) => {
                (self.admits(a, coin as u32).then_some(a), self.admits(b, (coin >> 32) as u32).then_some(b))
            }
            None => (None, None),
        };
        let first = first.or_else(|| self.one(draw))?;
        if self.is_due(first) {
            return Some((first, first));
        }
        if let Some(due) = second.filter(|second| self.is_due(*second)) {
            return Some((due, due));
        }
        if let Some(second) = second.filter(|second| *second != first) {
            return Some((first, second));
        }
        let again = if self.sampling.is_even() { 4 } else { 2 };
        for _ in 0..again {
            let second = self.one(draw)?;
            if self.is_due(second) {
                return Some((second, second));
            }
            if second != first {
                return Some((first, second));
            }
        }
        Some((first, first))
    }

    /// Whether nothing is wrong with it.
    #[inline(always)]
    pub(crate) fn is_free(&self, place: usize) -> bool {
        self.only.is_none() && self.snapshot.list.get(place).is_some_and(|endpoint| self.state(&endpoint.cell) == 0)
    }

    #[inline(never)]
    fn one_of_few(&self, draw: &mut Draw) -> Option<usize> {
        for _ in 0..DRAWS {
            let word = draw.word();
            let place = self.sampling.draw(word as u32)?;
            if self.admits(place, (word >> 32) as u32) {
                return Some(place);
            }
        }
        self.scan(draw)
    }

    /// Whether a draw of this endpoint counts: always where nothing is wrong with it, in proportion while it is warming.
    /// `coin` decides that, out of 2^32.
    #[inline(never)]
    pub(crate) fn admits(&self, place: usize, coin: u32) -> bool {
        let Some(endpoint) = self.snapshot.list.get(place) else { return false };
        let admitted = || f64::from(coin) < self.share(&endpoint.cell, time::now()) * 2_f64.powi(32);
        self.allows(place) && (self.state(&endpoint.cell) == 0 || admitted())
    }

    /// How much of its share it gets: 0 where it cannot be picked.
    fn share(&self, cell: &Cell, now: Instant) -> f64 {
        let share = |cell: &Cell| match cell.state() & !state::USED {
            0 => 1.0,
            state::WARMING => cell.share(self.snapshot.warm, now),
            state if state & state::UNREADY == 0 && cell.is_due() => 1.0,
            _ => 0.0,
        };
        share(cell) * self.on_route(cell).map_or(1.0, share)
    }

    /// One endpoint by weight, where few can be picked: looks at all.
    #[cold]
    fn scan(&self, draw: &mut Draw) -> Option<usize> {
        let now = time::now();
        let shares = || (0..self.len()).map(|place| (place, self.part(place, now)));
        let total: u128 = shares().map(|(_, share)| share).sum();
        let mut left = (u128::from(draw.word()) * total) >> 64;
        shares().find_map(|(place, share)| {
            let found = left < share;
            left = left.saturating_sub(share);
            found.then_some(place)
        })
    }

    /// Weight times how far it has warmed up, in parts of 2^16; 0 where it cannot be picked.
    fn part(&self, place: usize, now: Instant) -> u128 {
        match self.snapshot.list.get(place) {
            Some(endpoint) if self.allows(place) => {
                u128::from(self.weight(place)) * (self.share(&endpoint.cell, now) * 65_536.0) as u128
            }
            _ => 0,
        }
    }
}

/// The chance of one handle, whose turn it is there, and what became of its last session.
#[derive(Debug)]
pub struct Draw {
    pub(crate) rng: Rng,
    /// None before the first pick.
    pub(crate) turn: Option<u64>,
    /// Of the last pick.
    pub(crate) told: Told,
}

impl Draw {
    #[inline(always)]
    pub(crate) fn new(rng: Rng) -> Self {
        Draw { rng, turn: None, told: Told::Nothing }
    }

    /// The next 64 random bits.
    #[inline(always)]
    pub fn word(&mut self) -> u64 {
        self.rng.next_u64()
    }
}
