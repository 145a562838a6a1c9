//! What is known of an endpoint's load, and the choice between two of them.

use super::{
    SlowStart,
    eject::{Admit, Watched},
    ewma, part,
};
use crate::{
    base::{
        Outcome,
        sync::{
            Counted as Arc,
            atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
        },
        time::{self, Instant},
    },
    layer::attempt,
};
use std::{fmt, sync::OnceLock, time::Duration};

/// After a failure, how long the endpoint is chosen only if the other candidate failed too: linkerd's first breaker
/// back-off.
const SHUN: Duration = Duration::from_secs(1);

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
    /// Fills two cache lines together with the counts in front of it, so that neighbours do not share one.
    _apart: [u64; 2],
}

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
            _apart: [0; 2],
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
    fn suffer(&self, outcome: Outcome, now: Instant) {
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
    fn observe(&self, watch: Watch, outcome: Outcome) {
        let state = self.state.load(Relaxed);
        if outcome == Outcome::Success && state != 0 {
            self.answered(state);
        }
        match watch {
            Watch::Nothing | Watch::Answer => {}
            Watch::Time(timing) => self.timed(timing, outcome),
            Watch::Probe(number) => self.settle(number, outcome),
            Watch::TimedProbe(number, timing) => self.probed(number, timing, outcome),
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
}

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
        Lease { cell: Some(cell.clone()), watch }
    }

    /// Of no endpoint: for a call that found none.
    pub(crate) fn none() -> Self {
        Lease { cell: None, watch: Watch::Nothing }
    }

    /// Another one of the same endpoint.
    pub(crate) fn again(&self) -> Self {
        self.cell.as_ref().map_or_else(Lease::none, |cell| Lease::new(cell, Watch::least(cell)))
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
        matches!(self.watch, Watch::Probe(_) | Watch::TimedProbe(..))
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

#[cfg(all(test, seedpod_loom))]
mod loom_model;

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(key: &str) -> Arc<Cell> {
        let cell = Arc::new(Cell::new(key.into(), time::now()));
        cell.snapshots(1); // the reference that this test holds
        cell
    }

    #[test]
    fn two_cache_lines_each() {
        assert_eq!(size_of::<Cell>() + 2 * size_of::<usize>(), 128);
    }

    #[test]
    fn a_lease_that_may_be_a_probe_is_no_larger_than_one_that_is_timed() {
        assert_eq!(size_of::<Watch>(), size_of::<u64>() + size_of::<Timing>());
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
