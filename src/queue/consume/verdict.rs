//! What becomes of a message, decided from how its handler ended.

use crate::base::{Backoff, Error, Kind, Rng};
use crate::queue::{Attempts, Charge, Lease, Reject, Retry, Step};

/// How a handler ended.
#[derive(Debug)]
pub(super) enum End {
    /// It had not begun when the container was told to stop.
    Unstarted,
    Done,
    Failed(Error),
    Panicked(String),
}

/// The budgets, and the wait between tries.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) attempts: u16,
    pub(super) crashes: u16,
    pub(super) lapses: u16,
    pub(super) backoff: Backoff,
}

impl Policy {
    /// Why a message is given up before it is tried again.
    pub(super) fn spent(&self, attempts: Attempts) -> Option<String> {
        (attempts.lapses >= self.lapses)
            .then(|| format!("its lease ran out {} times: its workers were killed, or too slow", attempts.lapses))
    }

    /// How it is settled.
    pub(super) fn settle(&self, end: End, lease: Lease, attempts: Attempts, rng: &mut Rng) -> Step {
        match end {
            End::Done => Step::new().ack(lease),
            End::Unstarted => Step::new().retry(Retry::new(lease).charge(Charge::Nothing)),
            End::Failed(error) if error.kind() == Kind::Invalid => {
                Step::new().reject(Reject::new(lease, error.chain()))
            }
            End::Failed(error) => match error.retry_after() {
                Some(wait) => Step::new().retry(Retry::new(lease).after(wait).charge(Charge::Nothing)),
                None if attempts.failures.saturating_add(1) >= self.attempts => {
                    Step::new().reject(Reject::new(lease, error.chain()))
                }
                None => {
                    let wait = self.backoff.wait(attempts.failures.into(), rng);
                    Step::new().retry(Retry::new(lease).after(wait))
                }
            },
            End::Panicked(message) if attempts.crashes.saturating_add(1) >= self.crashes => {
                Step::new().reject(Reject::new(lease, format!("its handler panicked: {message}")))
            }
            End::Panicked(_) => {
                let wait = self.backoff.wait(attempts.crashes.into(), rng);
                Step::new().retry(Retry::new(lease).after(wait).charge(Charge::Crash))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn settle(end: End, attempts: Attempts) -> Step {
        let backoff = Backoff::new(SECOND, 100 * SECOND).exact();
        let policy = Policy { attempts: 3, crashes: 2, lapses: 4, backoff };
        policy.settle(end, Lease::new(0, 0, 1, time::now()), attempts, &mut Seed::new(1).rng())
    }

    fn retry(end: End, attempts: Attempts) -> (Duration, Charge) {
        let step = settle(end, attempts);
        assert!(step.acks.is_empty() && step.rejects.is_empty());
        (step.retries[0].after, step.retries[0].charge)
    }

    fn reason(end: End, attempts: Attempts) -> String {
        let step = settle(end, attempts);
        assert!(step.acks.is_empty() && step.retries.is_empty());
        step.rejects[0].reason.to_string()
    }

    #[test]
    fn every_end_has_its_settlement() {
        let failed = || End::Failed(Error::new(Kind::Unavailable, "no route"));
        let panicked = || End::Panicked("oh".into());
        assert_eq!(settle(End::Done, Attempts::new(2, 1, 3)).acks.len(), 1);
        assert_eq!(retry(End::Unstarted, Attempts::new(2, 1, 3)), (Duration::ZERO, Charge::Nothing));
        assert_eq!(retry(failed(), Attempts::new(0, 1, 3)), (SECOND, Charge::Failure));
        assert_eq!(retry(failed(), Attempts::new(1, 1, 3)), (2 * SECOND, Charge::Failure));
        assert_eq!(reason(failed(), Attempts::new(2, 0, 0)), "unavailable: no route");
        assert_eq!(retry(panicked(), Attempts::new(2, 0, 3)), (SECOND, Charge::Crash));
        assert_eq!(reason(panicked(), Attempts::new(0, 1, 0)), "its handler panicked: oh");
        let invalid = End::Failed(Error::new(Kind::Invalid, "no such card").because("bad digit"));
        assert_eq!(reason(invalid, Attempts::default()), "invalid: no such card: bad digit");
        let throttled = End::Failed(Error::new(Kind::Overloaded, "").after(7 * SECOND));
        assert_eq!(retry(throttled, Attempts::new(2, 0, 0)), (7 * SECOND, Charge::Nothing));
    }

    #[test]
    fn lapses_are_bounded_before_the_next_try() {
        let policy = Policy { attempts: 3, crashes: 2, lapses: 4, backoff: Backoff::default() };
        assert_eq!(policy.spent(Attempts::new(9, 9, 3)), None);
        assert!(policy.spent(Attempts::new(0, 0, 4)).is_some_and(|reason| reason.contains("4 times")));
    }
}
