//! What is known of an endpoint from one call to the next, and the choice between two by that.

use super::{
    SlowStart,
    eject::{Admit, Watched},
    ewma,
    load::{Ticket, Timing, Trial, Watch},
    part,
};
use crate::base::{
    Outcome,
    sync::{
        Counted as Arc,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{self, Instant},
};
use std::{sync::OnceLock, time::Duration};

/// After a failure, how long the endpoint is chosen only if the other candidate failed too: linkerd's first breaker
/// back-off.
pub(super) const SHUN: Duration = Duration::from_secs(1);

/// The longest that an endpoint's own `Retry-After` is believed: linkerd's and Envoy's ceiling.
const SHUN_MAX: Duration = Duration::from_secs(300);

/// Why an endpoint is not picked as a matter of course, a bit each; 0 is a healthy one.
pub(crate) mod state {
    /// It gets part of its share: it has just come.
    pub(crate) const WARMING: u32 = 1;
    /// A probe finds it not ready.
    pub(crate) const UNREADY: u32 = 2;
    /// It failed too much; picked once its time is over, by the one call that decides.
    pub(crate) const EJECTED: u32 = 4;
    /// It failed too much and is picked all the same, since too many did.
    pub(crate) const USED: u32 = 8;
    /// Not a reason: what becomes of calls to it is told to a detector.
    pub(super) const WATCHED: u32 = 16;
}

/// One endpoint's load, shared by all handles and leases.
///
/// In flight is the `Arc`'s own count less the snapshots that hold it: a second counter beside it would cost another two
/// atomic operations per call.
#[repr(C)] // what a pick reads stands on the counts' own cache line
pub(crate) struct Cell {
    state: AtomicU32,
    snapshots: AtomicI32,
    /// Until when it is shunned, in milliseconds after `epoch`; 0 is not at all, so that a healthy pick reads no clock.
    shunned: AtomicU64,
    /// Latency, as [`ewma`] packs it.
    cost: AtomicU64,
    /// Since when it is warming, in milliseconds after `epoch`.
    since: AtomicU64,
    /// Calls answered while it was warming.
    served: AtomicU32,
    epoch: Instant,
    key: std::sync::Arc<str>,
    watched: OnceLock<Watched>,
    /// What is held against it on each route alone, where routes are told apart. It is the last, and fills two cache lines
    /// together with the counts in front of it, so that neighbours do not share one.
    routes: OnceLock<Box<PerRoute>>,
}

/// By the number of the route: cells that are marked, warmed up and watched as the endpoint's own is, and counted by nobody.
struct PerRoute(Box<[OnceLock<Arc<Cell>>]>);

impl Cell {
    /// Of the set that began at `epoch`.
    pub(crate) fn new(key: std::sync::Arc<str>, epoch: Instant) -> Self {
        Cell {
            state: AtomicU32::new(0),
            snapshots: AtomicI32::new(0),
            shunned: AtomicU64::new(0),
            cost: AtomicU64::new(0),
            since: AtomicU64::new(0),
            served: AtomicU32::new(0),
            epoch,
            key,
            watched: OnceLock::new(),
            routes: OnceLock::new(),
        }
    }

    pub(crate) fn key(&self) -> &std::sync::Arc<str> {
        &self.key
    }

    #[inline(always)]
    pub(crate) fn pending(this: &Arc<Self>) -> u32 {
        (Arc::strong_count(this) as i32 - this.snapshots.load(Relaxed)).max(0) as u32
    }

    /// A snapshot took or gave back a reference, which is no call in flight.
    pub(crate) fn snapshots(&self, by: i32) {
        self.snapshots.fetch_add(by, Relaxed);
    }

    /// The bits of [`state`]; 0 where nothing is wrong.
    #[inline(always)]
    pub(crate) fn state(&self) -> u32 {
        self.state.load(Relaxed) & !state::WATCHED
    }

    /// Whether what becomes of calls to it is told to a detector.
    #[inline(always)]
    pub(crate) fn is_watched(&self) -> bool {
        self.state.load(Relaxed) & state::WATCHED != 0
    }

    /// Whether it is ejected, used all the same or not.
    #[inline(always)]
    pub(crate) fn is_out(&self) -> bool {
        self.state.load(Relaxed) & (state::EJECTED | state::USED) != 0
    }

    /// What a detector has of it, once there is one.
    pub(crate) fn watched(&self) -> Option<&Watched> {
        self.watched.get()
    }

    /// From now on a detector is told; the first one that comes.
    pub(crate) fn watch(&self, watched: Watched) {
        if self.watched.set(watched).is_ok() {
            self.mark(state::WATCHED, true);
        }
    }

    /// What is held against it on the route of this number, once somebody opened that.
    #[inline]
    pub(crate) fn on_route(&self, number: u16) -> Option<&Arc<Cell>> {
        self.routes.get()?.0.get(usize::from(number))?.get()
    }

    /// The same, opened; of so many routes in all.
    pub(crate) fn open_route(&self, number: u16, routes: usize) -> Option<&Arc<Cell>> {
        let all = || Box::new(PerRoute((0..routes).map(|_| OnceLock::new()).collect()));
        let route = self.routes.get_or_init(all).0.get(usize::from(number))?;
        Some(route.get_or_init(|| Arc::new(Cell::new(self.key.clone(), self.epoch))))
    }

    /// Whether it is out and its time is over.
    #[cold]
    pub(crate) fn is_due(&self) -> bool {
        self.is_out() && self.watched.get().is_some_and(|watched| watched.is_due(time::now()))
    }

    /// What the call that picked it may do with it.
    #[cold]
    pub(crate) fn admit(&self) -> Admit {
        self.watched.get().map_or(Admit::In, |watched| watched.admit(time::now()))
    }

    /// Sets these bits of [`state`] or takes them away; whether that changed anything.
    pub(crate) fn mark(&self, bits: u32, on: bool) -> bool {
        let before = if on { self.state.fetch_or(bits, Relaxed) } else { self.state.fetch_and(!bits, Relaxed) };
        let changed = (before & bits == bits) != on;
        if changed && bits & !state::WARMING != 0 {
            part::flapped();
        }
        changed
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// It gets only part of its share from now on.
    pub(crate) fn warm(&self, now: Instant) {
        self.since.store(self.millis(now), Relaxed);
        self.served.store(0, Relaxed);
        self.mark(state::WARMING, true);
    }

    /// Its part of its share, while it is warming.
    #[cold]
    pub(crate) fn share(&self, start: Option<SlowStart>, now: Instant) -> f64 {
        let since = self.millis(now).saturating_sub(self.since.load(Relaxed));
        let share = start.map_or(1.0, |start| start.share(Duration::from_millis(since), self.served.load(Relaxed)));
        if share >= 1.0 {
            self.mark(state::WARMING, false);
        }
        share
    }

    #[inline(always)]
    pub(crate) fn is_shunned(&self, now: impl Fn() -> Instant) -> bool {
        let until = self.shunned.load(Relaxed);
        until != 0 && self.still_shunned(until, now())
    }

    #[cold]
    fn still_shunned(&self, until: u64, now: Instant) -> bool {
        let shunned = now.saturating_duration_since(self.epoch) < Duration::from_millis(until);
        if !shunned {
            // in vain where it failed again in between, which is as it should be
            let _ = self.shunned.compare_exchange(until, 0, Relaxed, Relaxed);
        }
        shunned
    }

    /// Its latency as of now, in nanoseconds; none where it was never measured.
    #[inline(always)]
    pub(crate) fn cost(&self, now: u64, decay: f32) -> Option<f32> {
        ewma::at(self.cost.load(Relaxed), ewma::tick(now), decay)
    }

    /// Takes in what became of a call. A fast refusal must not look attractive: it leaves no load behind.
    #[cold]
    pub(super) fn suffer(&self, outcome: Outcome, now: Instant) {
        let wait = match outcome {
            Outcome::Failure | Outcome::LocalOrigin => SHUN,
            Outcome::Throttled(wait) => wait.unwrap_or(SHUN).min(SHUN_MAX),
            _ => return,
        };
        let until = now.saturating_duration_since(self.epoch) + wait;
        self.shunned.fetch_max(until.as_millis() as u64, Relaxed);
        if let Some(watched) = self.watched.get() {
            watched.record(outcome, || now);
        }
    }

    /// What else a call leaves behind, where its pick asked for that.
    #[inline(always)]
    pub(super) fn observe(&self, watch: Watch, outcome: Outcome) {
        let state = self.state.load(Relaxed);
        if outcome == Outcome::Success && state != 0 {
            self.answered(state);
        }
        match watch {
            Watch::Nothing | Watch::Answer => {}
            Watch::Time(timing) => self.timed(timing, outcome),
            Watch::Probe(number) => self.settle(number, outcome),
            Watch::TimedProbe(number, timing) => self.probed(number, timing, outcome),
            Watch::Route(ticket) => self.routed(ticket, None, outcome),
            Watch::TimedRoute(ticket, timing) => self.routed(ticket, Some(timing), outcome),
        }
    }

    /// A call of a route has ended.
    #[inline(never)]
    fn routed(&self, ticket: Ticket, timing: Option<Timing>, outcome: Outcome) {
        if let Some(timing) = timing {
            self.timed(timing, outcome);
        }
        if ticket.trial() == Trial::OfEndpoint {
            self.settle(ticket.number(), outcome);
        }
        let Some(cell) = self.on_route(ticket.route()) else { return };
        match (ticket.trial(), outcome, cell.state.load(Relaxed)) {
            (Trial::OfRoute, ..) => cell.settle(ticket.number(), outcome),
            (_, Outcome::Success, state) => cell.answered(state),
            (_, outcome, _) => {
                if let Some(watched) = cell.watched.get() {
                    watched.record(outcome, time::now);
                }
            }
        }
    }

    #[inline]
    fn timed(&self, timing: Timing, outcome: Outcome) {
        let now = nanos(self.epoch, time::now());
        let (taken, tick) = (now.saturating_sub(timing.start) as f32, ewma::tick(now));
        let mut word = self.cost.load(Relaxed);
        loop {
            let next = match outcome {
                Outcome::Success => ewma::add(word, taken, tick, timing.decay),
                Outcome::Failure | Outcome::LocalOrigin | Outcome::Throttled(None) => {
                    ewma::add(word, taken.max(timing.penalty), tick, timing.decay)
                }
                Outcome::Throttled(Some(wait)) => {
                    ewma::add(word, taken.max(wait.min(SHUN_MAX).as_nanos() as f32), tick, timing.decay)
                }
                _ => ewma::floor(word, taken, tick, timing.decay, timing.unknown),
            };
            if next == word {
                return;
            }
            match self.cost.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// A call went well, and somebody counts that.
    #[inline(never)]
    fn answered(&self, state: u32) {
        if state & state::WARMING != 0 {
            self.served.fetch_add(1, Relaxed);
        }
        if let Some(watched) = self.watched.get() {
            watched.record(Outcome::Success, time::now);
        }
    }

    /// A probe has ended that is measured, too.
    #[cold]
    fn probed(&self, number: u32, timing: Timing, outcome: Outcome) {
        self.timed(timing, outcome);
        self.settle(number, outcome);
    }

    /// The probe of this number has ended.
    #[cold]
    fn settle(&self, number: u32, outcome: Outcome) {
        if let Some(watched) = self.watched.get() {
            watched.settle(number, outcome, time::now());
        }
    }
}

/// A moment as nanoseconds after a set's beginning.
#[inline(always)]
pub(crate) fn nanos(epoch: Instant, now: Instant) -> u64 {
    let since = now.saturating_duration_since(epoch);
    // in 64 bits, which last for five centuries: the multiplication in 128 costs as much as the rest
    since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
}

/// Whether the first is the better of two: who is not shunned, then who has fewer calls in flight (Finagle's order).
#[inline(always)]
pub(crate) fn better(a: &Arc<Cell>, b: &Arc<Cell>, now: impl Fn() -> Instant) -> bool {
    match (a.is_shunned(&now), b.is_shunned(&now)) {
        (false, true) => true,
        (true, false) => false,
        _ => Cell::pending(a) <= Cell::pending(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cache_lines_each() {
        assert_eq!(size_of::<Cell>() + 2 * size_of::<usize>(), 128);
    }
}
