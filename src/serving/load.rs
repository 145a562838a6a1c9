//! What is known of an endpoint's load, and the choice between two of them.

use crate::base::{
    Outcome,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
    },
    time::{self, Instant},
};
use std::{fmt, time::Duration};

/// After a failure, how long the endpoint is chosen only if the other candidate failed too: linkerd's first breaker
/// back-off.
const SHUN: Duration = Duration::from_secs(1);

/// The longest that an endpoint's own `Retry-After` is believed: linkerd's and Envoy's ceiling.
const SHUN_MAX: Duration = Duration::from_secs(300);

/// One endpoint's load, shared by all handles and leases.
///
/// In flight is the `Arc`'s own count less the snapshots that hold it: a second counter beside it would cost another two
/// atomic operations per call.
pub(crate) struct Cell {
    key: std::sync::Arc<str>,
    snapshots: AtomicI32,
    /// Until when it is shunned, in milliseconds after `born`; 0 is not at all, so that a healthy pick reads no clock.
    shunned: AtomicU64,
    born: Instant,
    /// Fills two cache lines together with the counts in front of it, so that neighbours do not share one.
    _apart: [u64; 8],
}

impl Cell {
    pub(crate) fn new(key: std::sync::Arc<str>) -> Self {
        let (snapshots, shunned) = (AtomicI32::new(0), AtomicU64::new(0));
        Cell { key, snapshots, shunned, born: time::now(), _apart: [0; 8] }
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

    #[inline(always)]
    fn is_shunned(&self, now: impl Fn() -> Instant) -> bool {
        let until = self.shunned.load(Relaxed);
        until != 0 && self.still_shunned(until, now())
    }

    #[cold]
    fn still_shunned(&self, until: u64, now: Instant) -> bool {
        let shunned = now.saturating_duration_since(self.born) < Duration::from_millis(until);
        if !shunned {
            // in vain where it failed again in between, which is as it should be
            let _ = self.shunned.compare_exchange(until, 0, Relaxed, Relaxed);
        }
        shunned
    }

    /// Takes in what became of a call. A fast refusal must not look attractive: it leaves no load behind.
    #[cold]
    fn suffer(&self, outcome: Outcome, now: Instant) {
        let wait = match outcome {
            Outcome::Failure | Outcome::LocalOrigin => SHUN,
            Outcome::Throttled(wait) => wait.unwrap_or(SHUN).min(SHUN_MAX),
            _ => return,
        };
        let until = now.saturating_duration_since(self.born) + wait;
        self.shunned.fetch_max(until.as_millis() as u64, Relaxed);
    }
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

/// Two different indices below `count` from one random word: the candidates. The same twice where there is only one.
#[inline(always)]
pub(crate) fn candidates(count: usize, word: u64) -> (usize, usize) {
    let count = count as u64;
    let first = ((word & 0xFFFF_FFFF) * count) >> 32;
    let other = ((word >> 32) * count.saturating_sub(1)) >> 32;
    let second = if count > 1 && other >= first { other + 1 } else { other };
    (first as usize, second as usize)
}

/// A pick: counts its endpoint in flight until it takes exactly one [`Outcome`]. Dropped without one, the outcome is
/// [`Outcome::Cancelled`].
#[must_use = "dropping the lease ends the pick as cancelled"]
pub struct Lease(Option<Arc<Cell>>);

impl Lease {
    #[inline(always)]
    pub(crate) fn new(cell: &Arc<Cell>) -> Self {
        Lease(Some(cell.clone()))
    }

    /// Of no endpoint: for a call that found none.
    pub(crate) fn none() -> Self {
        Lease(None)
    }

    /// The endpoint's key.
    pub fn key(&self) -> &str {
        self.0.as_ref().map_or("", |cell| cell.key())
    }

    /// Ends the pick with what became of it.
    pub fn complete(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    pub(crate) fn cell(&self) -> Option<&Arc<Cell>> {
        self.0.as_ref()
    }

    /// In place: moving a lease out of a future costs more than the pick.
    #[inline(always)]
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if outcome != Outcome::Success
            && let Some(cell) = &self.0
        {
            cell.suffer(outcome, time::now());
        }
        self.0 = None; // a success and a cancellation leave no mark but the count
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    fn cell(key: &str) -> Arc<Cell> {
        let cell = Arc::new(Cell::new(key.into()));
        cell.snapshots(1); // the reference that this test holds
        cell
    }

    #[test]
    fn two_cache_lines_each() {
        assert_eq!(size_of::<Cell>() + 2 * size_of::<usize>(), 128);
    }

    #[test]
    fn a_million_draws_are_two_different_ones_and_even() {
        let mut rng = Seed::new(1).rng();
        for count in [1, 2, 3, 10, 1000] {
            let mut drawn = vec![0_u32; count];
            for _ in 0..200_000 {
                let (a, b) = candidates(count, rng.next_u64());
                assert!(a != b || count == 1);
                drawn[a] += 1;
                drawn[b] += 1;
            }
            let mean = 400_000.0 / count as f64;
            assert!(drawn.iter().all(|n| (f64::from(*n) - mean).abs() < 6.0 * mean.sqrt() + 1.0), "{count}: {drawn:?}");
        }
        assert_eq!((candidates(0, u64::MAX), candidates(1, u64::MAX)), ((0, 0), (0, 0)));
    }

    #[test]
    fn in_flight_is_counted_by_leases_and_returned_by_dropping_them() {
        let (a, b, now) = (cell("a"), cell("b"), || time::now());
        let (first, second) = (Lease::new(&a), Lease::new(&a));
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
        let _load = [Lease::new(&busy), Lease::new(&busy)];
        let seconds = Duration::from_secs;
        for (outcome, shunned) in [
            (Outcome::Failure, seconds(1)),
            (Outcome::LocalOrigin, seconds(1)),
            (Outcome::Throttled(None), seconds(1)),
            (Outcome::Throttled(Some(seconds(7))), seconds(7)),
            (Outcome::Throttled(Some(seconds(9000))), seconds(300)),
        ] {
            assert!(better(&failed, &busy, now));
            Lease::new(&failed).complete(outcome);
            time::sleep(shunned - Duration::from_millis(2)).await;
            assert!(better(&busy, &failed, now), "{outcome:?}");
            time::sleep(Duration::from_millis(4)).await;
        }
        for outcome in [Outcome::Ignored, Outcome::Superseded, Outcome::Cancelled, Outcome::Success] {
            Lease::new(&failed).complete(outcome);
            assert!(better(&failed, &busy, now), "{outcome:?}");
        }
        Lease::new(&failed).complete(Outcome::Failure);
        Lease::new(&busy).complete(Outcome::Failure);
        assert!(better(&failed, &busy, now), "where both failed, load decides");
    }
}
