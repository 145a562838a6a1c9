//! The one place that reads a clock: tokio's, which tests can pause, and a wall clock that follows it.

use super::{Error, Kind, Result};
use std::{
    fmt,
    future::Future,
    pin::pin,
    time::{Duration, SystemTime},
};

pub use tokio::time::Instant;

/// The monotonic clock. Paused where tokio's is.
#[inline]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn now() -> Instant {
    Instant::now()
}

/// This long after that moment; where that is longer than the clock can tell, about thirty years after it.
///
/// What comes from outside (a manifest, a user's setting) is added this way: a plain `+` panics when it overflows.
#[inline]
pub fn after(moment: Instant, wait: Duration) -> Instant {
    moment.checked_add(wait).unwrap_or_else(|| moment + Duration::from_secs(86_400 * 365 * 30))
}

/// Waits this long; paused time does not make it wait for real.
pub async fn sleep(wait: Duration) {
    tokio::time::sleep(wait).await;
}

/// Waits until then.
pub async fn sleep_until(then: Instant) {
    tokio::time::sleep_until(then).await;
}

/// The wall clock: an epoch plus what tokio's clock has run since, so that it pauses with it and never jumps.
///
/// For cron, certificates, HTTP dates and time stamps. In a simulation the epoch is fixed; else it is the system's time
/// at the moment the clock is made.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    epoch: SystemTime,
    start: Instant,
}

impl WallClock {
    /// Where simulations begin: 2030-01-01T00:00:00Z.
    pub const SIMULATED_EPOCH: Duration = Duration::from_secs(1_893_456_000);

    /// A clock that starts at this time, now.
    pub fn starting_at(epoch: SystemTime) -> Self {
        WallClock { epoch, start: now() }
    }

    /// A clock that starts at the system's time. In a simulation all such clocks are the same, and the first of them
    /// starts at [`SIMULATED_EPOCH`](Self::SIMULATED_EPOCH).
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    pub fn ambient() -> Self {
        match super::Seed::simulated_since(now()) {
            Some(start) => WallClock { epoch: SystemTime::UNIX_EPOCH + Self::SIMULATED_EPOCH, start },
            None => WallClock::starting_at(SystemTime::now()),
        }
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        self.at(now())
    }

    /// The time at this moment of the monotonic clock.
    pub fn at(&self, moment: Instant) -> SystemTime {
        match moment.checked_duration_since(self.start) {
            Some(since) => self.epoch + since,
            None => self.epoch - self.start.duration_since(moment),
        }
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(&self) -> u64 {
        self.now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// When a request must be answered. It belongs to the request and only ever shrinks.
///
/// ```
/// use seedpod::base::Deadline;
/// use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let deadline = Deadline::within(Duration::from_secs(1));
/// let attempt = deadline.sooner(Duration::from_millis(200));
/// assert!(attempt.remaining() <= Duration::from_millis(200));
/// assert!(!attempt.is_over());
/// # });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// At this moment.
    pub const fn at(moment: Instant) -> Self {
        Deadline(moment)
    }

    /// This long from now. Longer than the clock can tell is about thirty years.
    pub fn within(wait: Duration) -> Self {
        Deadline(after(now(), wait))
    }

    /// This deadline, or this long from now where that is sooner.
    #[must_use]
    pub fn sooner(self, wait: Duration) -> Self {
        self.min(Deadline::within(wait))
    }

    /// The moment itself.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// How long is left; zero once it is over.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// Runs the future until it ends or the deadline passes, whichever is first.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when the deadline passes first; the future is dropped then.
    pub async fn bound<F: Future>(self, future: F) -> Result<F::Output> {
        let mut future = pin!(future);
        tokio::select! {
            biased;
            output = &mut future => Ok(output),
            () = sleep_until(self.0) => Err(Error::new(Kind::Timeout, "the deadline has passed")),
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {:?}", self.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_follows_paused_time() {
        let _simulation = super::super::Seed::new(1).simulate();
        let clock = WallClock::ambient();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.unix_millis(), (WallClock::SIMULATED_EPOCH.as_millis() + 3_600_000) as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_only_shrinks_and_ends_what_it_bounds() {
        let deadline = Deadline::within(Duration::from_secs(10));
        assert_eq!(deadline.sooner(Duration::from_secs(60)), deadline);
        assert_eq!(deadline.bound(async { 1 }).await.unwrap(), 1);
        let error = deadline.bound(std::future::pending::<()>()).await.unwrap_err();
        assert!(error.is_timeout() && deadline.is_over());
        assert!(!Deadline::within(Duration::MAX).is_over());
    }
}
