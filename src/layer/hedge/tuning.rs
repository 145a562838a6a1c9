//! When to hedge: the decision and what it is fed with, shared by all calls of a layer, and its live side.

use super::{super::Budget, latency::Latency};
use crate::base::{
    Error, Kind, Result,
    sync::{
        Arc, Lock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{self, Instant},
};
use std::{fmt, time::Duration};

/// How long a delay holds before it is found anew: Finagle's.
const REFRESH: Duration = Duration::from_secs(3);

/// The live side of [`HedgeLayer`](super::HedgeLayer).
#[derive(Clone)]
pub struct HedgeHandle(pub(super) Arc<Tuning>);

pub(super) struct Tuning {
    state: Lock<State>,
    /// Bounds the hedges by the load that they may add.
    pub(super) own: Budget,
    hedged: AtomicU64,
    won: AtomicU64,
    refused: AtomicU64,
}

struct State {
    most: f64,
    least: Duration,
    latency: Latency,
    delay: Option<Duration>,
    refresh: Instant,
}

impl HedgeHandle {
    pub(super) fn new(most: f64) -> Result<Self> {
        check(most)?;
        let now = time::now();
        let (latency, least) = (Latency::new(now), Duration::from_millis(1));
        let state = Lock::new(State { most, least, latency, delay: None, refresh: now });
        let (hedged, won, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Ok(HedgeHandle(Arc::new(Tuning { state, own: Budget::share(most), hedged, won, refused })))
    }

    /// Which part of the calls may be made twice.
    pub fn extra_load(&self) -> f64 {
        self.0.state.lock().most
    }

    /// Changes which part of the calls may be made twice; 0 ends hedging. The delay follows at once.
    ///
    /// # Errors
    /// [`Kind::Invalid`] unless it is from 0 to below 1; then nothing has changed.
    pub fn set_extra_load(&self, part: f64) -> Result {
        check(part)?;
        let mut state = self.0.state.lock();
        (state.most, state.refresh) = (part, time::now());
        self.0.own.set_share(part);
        Ok(())
    }

    /// The shortest delay.
    pub fn delay_min(&self) -> Duration {
        self.0.state.lock().least
    }

    /// Changes the shortest delay.
    pub fn set_delay_min(&self, least: Duration) {
        let mut state = self.0.state.lock();
        (state.least, state.refresh) = (least, time::now());
    }

    /// After how long a call made now is made a second time; none while too few have been seen, or it is turned off.
    pub fn delay(&self) -> Option<Duration> {
        self.0.delay(time::now())
    }

    /// How many calls were made a second time.
    pub fn hedged(&self) -> u64 {
        self.0.hedged.load(Relaxed)
    }

    /// How many of those were answered by the second.
    pub fn won(&self) -> u64 {
        self.0.won.load(Relaxed)
    }

    /// How many calls were slow enough, and not made a second time since a budget was spent.
    pub fn over_budget(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }
}

fn check(most: f64) -> Result {
    if (0.0..1.0).contains(&most) {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("hedge: the extra load must be from 0 to below 1, not {most}")))
}

impl fmt::Debug for HedgeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (most, delay) = (self.extra_load(), self.delay());
        write!(f, "Hedge({most} of the calls, after {delay:?}; {} hedged, {} won)", self.hedged(), self.won())
    }
}

impl Tuning {
    /// After how long to hedge: what all but the part that may be made twice take at most. None while that many have not
    /// been seen that one of them would be beyond it.
    pub(super) fn delay(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        if now >= state.refresh {
            let (most, least) = (state.most, state.least);
            let enough = state.latency.count(now) as f64 * most >= 1.0;
            state.delay = enough.then(|| state.latency.quantile(1.0 - most, now).max(least));
            // while there are too few, each call may be the one that makes them enough: so they are counted, not ranked
            state.refresh = if state.delay.is_some() || most == 0.0 { time::after(now, REFRESH) } else { now };
        }
        state.delay
    }

    /// How long an attempt took, or at least took until it lost.
    pub(super) fn record(&self, took: Duration, now: Instant) {
        self.state.lock().latency.record(took, now);
    }

    pub(super) fn hedged(&self) {
        self.hedged.fetch_add(1, Relaxed);
    }

    pub(super) fn won(&self) {
        self.won.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn a_hundred_thousand_calls_tune_the_delay_to_the_part_that_may_be_made_twice() {
        for most in [0.01, 0.05, 0.2] {
            let (handle, mut rng, mut now) = (HedgeHandle::new(most).unwrap(), Seed::new(61).rng(), time::now());
            let mut late = 0;
            for call in 0..100_000_u32 {
                now += Duration::from_millis(1);
                // up to a second, most of them fast; after half of the time all of it three times as slow
                let took = Duration::from_secs_f64(rng.unit().powi(4)) * if call < 50_000 { 1 } else { 3 };
                let delay = handle.0.delay(now);
                assert_eq!(delay.is_none(), f64::from(call) * most < 1.0, "{call}");
                if call > 90_000 {
                    late += u32::from(delay.is_some_and(|delay| took > delay));
                }
                handle.0.record(took, now);
            }
            let part = f64::from(late) / 10_000.0;
            assert!(part > most * 0.6 && part < most * 1.2, "{part} of {most}");
        }
    }
}
