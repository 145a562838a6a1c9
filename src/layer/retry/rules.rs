//! What a retry decides by, and counts: the live side and the decision.

use super::super::{
    Budget,
    budget::Extra,
    deadline::{nanos, until},
};
use crate::base::{
    Backoff, Deadline, Rng,
    sync::{
        Arc, Lock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use std::{fmt, time::Duration};

/// The live side of [`RetryLayer`](super::RetryLayer).
#[derive(Clone, Default)]
pub struct RetryHandle(Arc<Rules>);

pub(super) struct Rules {
    attempts: AtomicU32,
    /// In nanoseconds; `u64::MAX` is none.
    attempt_timeout: AtomicU64,
    attempt_min: AtomicU64,
    backoff: Lock<Backoff>,
    calls: AtomicU64,
    retries: AtomicU64,
    given_up: AtomicU64,
    over_budget: AtomicU64,
    once_only: AtomicU64,
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The attempts are used up.
    Attempts,
    /// None could end before the deadline.
    Deadline,
    /// The budget is spent.
    Budget,
    /// The request must not, or cannot, be sent twice.
    Once,
}

impl RetryHandle {
    /// How often a request is sent at most, the first time included.
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// Changes how often a request is sent at most; 0 counts as 1. A call that was made when it was 1 is not sent again.
    pub fn set_attempts(&self, attempts: u32) {
        self.0.attempts.store(attempts.max(1), Relaxed);
    }

    /// How long to wait before each further attempt.
    pub fn backoff(&self) -> Backoff {
        *self.0.backoff.lock()
    }

    /// Changes how long to wait before each further attempt.
    pub fn set_backoff(&self, backoff: Backoff) {
        *self.0.backoff.lock() = backoff;
    }

    /// How long one attempt may take.
    pub fn attempt_timeout(&self) -> Option<Duration> {
        self.0.attempt_timeout()
    }

    /// Changes how long one attempt may take, for attempts from now on.
    pub fn set_attempt_timeout(&self, timeout: Option<Duration>) {
        self.0.attempt_timeout.store(timeout.map_or(u64::MAX, nanos), Relaxed);
    }

    /// The least time in which an attempt can end.
    pub fn attempt_min(&self) -> Duration {
        Duration::from_nanos(self.0.attempt_min.load(Relaxed))
    }

    /// Changes the least time in which an attempt can end.
    pub fn set_attempt_min(&self, min: Duration) {
        self.0.attempt_min.store(nanos(min), Relaxed);
    }

    /// How many attempts have been made: calls, and retries.
    pub fn made(&self) -> u64 {
        self.0.calls.load(Relaxed) + self.retries()
    }

    /// How many attempts have been made beyond the first of each call.
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Relaxed)
    }

    /// How many calls ended with a result that was worth another try, for whatever reason there was none.
    pub fn given_up(&self) -> u64 {
        self.0.given_up.load(Relaxed)
    }

    /// How many of those because the budget was spent.
    pub fn over_budget(&self) -> u64 {
        self.0.over_budget.load(Relaxed)
    }

    /// How many of those because the request is not idempotent, or cannot be repeated: where this grows, a retry that is
    /// configured does nothing.
    pub fn once_only(&self) -> u64 {
        self.0.once_only.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn rules(&self) -> &Rules {
        &self.0
    }
}

impl fmt::Debug for RetryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts())
            .field("backoff", &self.backoff())
            .field("attempt_timeout", &self.attempt_timeout())
            .field("made", &self.made())
            .field("retries", &self.retries())
            .field("given_up", &self.given_up())
            .finish_non_exhaustive()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            attempts: AtomicU32::new(3),
            attempt_timeout: AtomicU64::new(u64::MAX),
            attempt_min: AtomicU64::new(0),
            backoff: Lock::default(),
            calls: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            over_budget: AtomicU64::new(0),
            once_only: AtomicU64::new(0),
        }
    }
}

impl Rules {
    #[inline(always)]
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn attempt_timeout(&self) -> Option<Duration> {
        Some(self.attempt_timeout.load(Relaxed)).filter(|nanos| *nanos != u64::MAX).map(Duration::from_nanos)
    }

    pub(super) fn begin(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(super) fn again(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn given_up(&self, refusal: Refusal) {
        self.given_up.fetch_add(1, Relaxed);
        match refusal {
            Refusal::Budget => self.over_budget.fetch_add(1, Relaxed),
            Refusal::Once => self.once_only.fetch_add(1, Relaxed),
            Refusal::Attempts | Refusal::Deadline => 0,
        };
    }

    /// When an attempt that starts now must end.
    #[inline(always)]
    pub(super) fn attempt_until(&self, now: Instant, deadline: Option<Deadline>) -> Option<Instant> {
        match self.attempt_timeout() {
            Some(timeout) => Some(until(now, timeout, deadline)),
            None => deadline.map(Deadline::instant),
        }
    }

    /// When to make the next attempt, after `made` of them and a result that asks to wait at least this long. Draws on
    /// the budget last, so that only what is sent is paid for.
    pub(super) fn next(
        &self,
        made: u32,
        asked: Duration,
        deadline: Option<Deadline>,
        now: Instant,
        rng: &mut Rng,
        budget: &Budget,
    ) -> Result<(Instant, Extra), Refusal> {
        if made >= self.attempts() {
            return Err(Refusal::Attempts);
        }
        let backoff = *self.backoff.lock();
        let start = now.checked_add(backoff.wait(made.saturating_sub(1), rng).max(asked)).ok_or(Refusal::Deadline)?;
        if let Some(deadline) = deadline {
            let least = Duration::from_nanos(self.attempt_min.load(Relaxed));
            let end = start.checked_add(least).ok_or(Refusal::Deadline)?;
            if end >= deadline.instant() {
                return Err(Refusal::Deadline);
            }
        }
        budget.extra(now).map(|extra| (start, extra)).ok_or(Refusal::Budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};

    #[test]
    fn a_hundred_thousand_decisions_keep_every_limit() {
        let mut rng = Seed::new(5).rng();
        let now = time::now();
        let (mut again, mut refused) = (0, [0; 4]);
        for _ in 0..100_000 {
            let (handle, budget) = (RetryHandle::default(), Budget::new(rng.below(2) as u32, 0));
            handle.set_attempts(rng.below(5) as u32);
            handle.set_attempt_min(Duration::from_millis(rng.below(50)));
            let (made, asked) = (rng.range(1..6) as u32, Duration::from_millis(rng.below(400)));
            let deadline = rng.chance(0.7).then(|| Deadline::at(now + Duration::from_millis(rng.below(600))));
            match handle.0.next(made, asked, deadline, now, &mut rng, &budget) {
                Err(refusal) => refused[refusal as usize] += 1,
                Ok((start, extra)) => {
                    again += 1;
                    assert!(made < handle.attempts() && start >= now + asked);
                    assert!(start <= now + asked.max(handle.backoff().ceiling(made - 1)));
                    assert!(deadline.is_none_or(|deadline| start + handle.attempt_min() < deadline.instant()));
                    assert_eq!(budget.left(now), 9, "paid for once");
                    drop(extra);
                    assert_eq!(budget.left(now), 10, "given back, since it never left");
                }
            }
        }
        assert!(again > 5_000 && refused[..3].iter().all(|count| *count > 5_000), "{again} {refused:?}");
    }

    #[test]
    fn an_attempt_ends_at_its_time_out_or_at_the_deadline() {
        let (now, second) = (time::now(), Duration::from_secs(1));
        let handle = RetryHandle::default();
        assert_eq!(handle.0.attempt_until(now, None), None);
        handle.set_attempt_timeout(Some(second));
        assert_eq!(handle.0.attempt_until(now, None), Some(now + second));
        assert_eq!(handle.0.attempt_until(now, Some(Deadline::at(now + second / 2))), Some(now + second / 2));
        assert_eq!(handle.0.attempt_until(now, Some(Deadline::at(now + 2 * second))), Some(now + second));
    }
}
