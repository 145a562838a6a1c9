//! What becomes of a message, decided from how its handler ended.

use super::{Done, control::Fate};
use crate::base::{Backoff, Error, Kind, Rng};
use crate::queue::{Attempts, Charge, Lease, Reject, Retry, Step};
use std::{borrow::Cow, time::Duration};

/// How a handler ended.
#[derive(Debug)]
pub(super) enum End {
    /// It had not ended, or not begun, when the pump had to stop.
    Stopped,
    /// A limit lets it in after this.
    Limited(Duration),
    Done(Done),
    Failed(Error),
    /// With what is said of it.
    Panicked(String),
}

/// The budgets, and the wait between tries.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) attempts: u16,
    pub(super) crashes: u16,
    pub(super) lapses: u16,
    /// After how many crashes and lapses together it is tried alone, in quarantine.
    pub(super) quarantine: Option<u16>,
    pub(super) backoff: Backoff,
    /// Whether a message that would be given up stays the first of its key instead.
    pub(super) holds_key: bool,
}

/// What is done with a message.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be paid for each message"
)]
pub(super) enum Verdict {
    Settle(Step, Fate),
    /// To the quarantine, for this reason.
    Quarantine(Cow<'static, str>),
}

impl Policy {
    /// What is done with a message before it is tried, if it is not to be.
    pub(super) fn before(&self, lease: Lease, attempts: Attempts) -> Option<Verdict> {
        if attempts.lapses >= self.lapses {
            let reason = format!("its lease ran out {} times: its workers were killed, or too slow", attempts.lapses);
            return Some(reject(lease, reason));
        }
        if attempts.crashes >= self.crashes {
            return Some(reject(lease, format!("its workers crashed {} times", attempts.crashes)));
        }
        self.is_suspect(attempts).then(|| {
            let Attempts { crashes, lapses, .. } = attempts;
            Verdict::Quarantine(format!("crashed {crashes} times, lease lost {lapses} times").into())
        })
    }

    /// The same for a message of a key: where it holds its key, it is not given up and not set aside, so that none of its
    /// key comes before it. It comes back after the longest wait, uncharged, until it is done or called off.
    pub(super) fn of_key(&self, verdict: Verdict, lease: Lease, attempts: Attempts, keyed: bool) -> Verdict {
        let leaves = matches!(verdict, Verdict::Quarantine(_) | Verdict::Settle(_, Fate::Rejected));
        if !(self.holds_key && keyed && leaves) {
            return verdict;
        }
        let wait = self.backoff.ceiling(attempts.total().max(u32::from(self.attempts)));
        retry(Retry::new(lease).after(wait).charge(Charge::Nothing), Fate::Blocking)
    }

    fn is_suspect(&self, attempts: Attempts) -> bool {
        let bad = u32::from(attempts.crashes) + u32::from(attempts.lapses);
        self.quarantine.is_some_and(|after| bad >= u32::from(after))
    }

    /// How it is settled.
    pub(super) fn after(&self, end: End, lease: Lease, attempts: Attempts, rng: &mut Rng) -> Verdict {
        match end {
            End::Done(done) => Verdict::Settle(done.onto(Step::new().ack(lease)), Fate::Done),
            End::Stopped => retry(Retry::new(lease).charge(Charge::Nothing), Fate::HandedBack),
            End::Limited(wait) => retry(Retry::new(lease).after(wait).charge(Charge::Nothing), Fate::Limited),
            End::Failed(error) if error.kind() == Kind::Invalid => reject(lease, error.chain()),
            End::Failed(error) if error.kind() == Kind::Panicked => {
                self.after(End::Panicked(error.chain()), lease, attempts, rng)
            }
            End::Failed(error) => match error.retry_after() {
                Some(wait) => retry(Retry::new(lease).after(wait).charge(Charge::Nothing), Fate::Postponed),
                None if attempts.failures.saturating_add(1) >= self.attempts => reject(lease, error.chain()),
                None => {
                    let wait = self.backoff.wait(attempts.failures.into(), rng);
                    retry(Retry::new(lease).after(wait), Fate::Retried)
                }
            },
            End::Panicked(reason) => {
                let crashes = attempts.crashes.saturating_add(1);
                if crashes >= self.crashes {
                    return reject(lease, reason);
                }
                if self.is_suspect(Attempts { crashes, ..attempts }) {
                    return Verdict::Quarantine(reason.into());
                }
                let wait = self.backoff.wait(attempts.crashes.into(), rng);
                retry(Retry::new(lease).after(wait).charge(Charge::Crash), Fate::Retried)
            }
        }
    }
}

fn reject(lease: Lease, reason: impl Into<Cow<'static, str>>) -> Verdict {
    Verdict::Settle(Step::new().reject(Reject::new(lease, reason)), Fate::Rejected)
}

fn retry(retry: Retry, fate: Fate) -> Verdict {
    Verdict::Settle(Step::new().retry(retry), fate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> Policy {
        let backoff = Backoff::new(SECOND, 100 * SECOND).exact();
        Policy { attempts: 3, crashes: 2, lapses: 4, quarantine: None, backoff, holds_key: false }
    }

    fn lease() -> Lease {
        Lease::new(0, 0, 1, time::now())
    }

    fn settle(end: End, attempts: Attempts) -> Step {
        match policy().after(end, lease(), attempts, &mut Seed::new(1).rng()) {
            Verdict::Settle(step, _) => step,
            Verdict::Quarantine(reason) => panic!("quarantined: {reason}"),
        }
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
        let panicked = || End::Panicked("its handler panicked: oh".into());
        assert_eq!(settle(End::Done(Done::new()), Attempts::new(2, 1, 3)).acks.len(), 1);
        assert_eq!(retry(End::Stopped, Attempts::new(2, 1, 3)), (Duration::ZERO, Charge::Nothing));
        assert_eq!(retry(failed(), Attempts::new(0, 1, 3)), (SECOND, Charge::Failure));
        assert_eq!(retry(failed(), Attempts::new(1, 1, 3)), (2 * SECOND, Charge::Failure));
        assert_eq!(reason(failed(), Attempts::new(2, 0, 0)), "unavailable: no route");
        assert_eq!(retry(panicked(), Attempts::new(2, 0, 3)), (SECOND, Charge::Crash));
        let elsewhere = || End::Failed(Error::new(Kind::Panicked, "in its pod"));
        assert_eq!(retry(elsewhere(), Attempts::new(2, 0, 3)), (SECOND, Charge::Crash));
        assert_eq!(reason(panicked(), Attempts::new(0, 1, 0)), "its handler panicked: oh");
        let invalid = End::Failed(Error::new(Kind::Invalid, "no such card").because("bad digit"));
        assert_eq!(reason(invalid, Attempts::default()), "invalid: no such card: bad digit");
        let throttled = End::Failed(Error::new(Kind::Overloaded, "").after(7 * SECOND));
        assert_eq!(retry(throttled, Attempts::new(2, 0, 0)), (7 * SECOND, Charge::Nothing));
    }

    #[test]
    fn crashes_and_lapses_are_bounded_before_the_next_try() {
        let reason = |attempts| match policy().before(lease(), attempts) {
            Some(Verdict::Settle(step, Fate::Rejected)) => step.rejects[0].reason.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(reason(Attempts::new(9, 1, 3)), "None", "failures were counted when they came");
        assert!(reason(Attempts::new(0, 0, 4)).contains("4 times"));
        assert_eq!(reason(Attempts::new(0, 2, 0)), "its workers crashed 2 times");
    }

    #[test]
    fn whoever_crashed_or_lost_its_lease_often_enough_is_tried_alone() {
        let policy = Policy { crashes: 9, quarantine: Some(2), ..policy() };
        assert!(policy.before(lease(), Attempts::new(9, 1, 0)).is_none());
        assert!(matches!(policy.before(lease(), Attempts::new(0, 1, 1)), Some(Verdict::Quarantine(_))));
        let mut rng = Seed::new(1).rng();
        let panicked = |attempts, rng: &mut Rng| policy.after(End::Panicked("oh".into()), lease(), attempts, rng);
        assert!(matches!(panicked(Attempts::default(), &mut rng), Verdict::Settle(_, Fate::Retried)));
        assert!(matches!(panicked(Attempts::new(0, 1, 0), &mut rng), Verdict::Quarantine(_)));
    }
    #[test]
    fn who_holds_its_key_is_neither_given_up_nor_set_aside() {
        let policy = Policy { holds_key: true, quarantine: Some(1), ..policy() };
        let mut rng = Seed::new(1).rng();
        let spent = Attempts::new(2, 0, 0);
        for end in [End::Failed(Kind::Failed.into()), End::Failed(Kind::Invalid.into()), End::Panicked("oh".into())] {
            let leaves = |verdict: &Verdict| !matches!(verdict, Verdict::Settle(_, Fate::Blocking));
            let verdict = policy.after(end, lease(), spent, &mut rng);
            let verdict = policy.of_key(verdict, lease(), spent, false);
            assert!(leaves(&verdict), "without a key it goes: {verdict:?}");
            let Verdict::Settle(step, Fate::Blocking) = policy.of_key(verdict, lease(), spent, true) else {
                panic!("it left its key")
            };
            assert_eq!((step.retries[0].after, step.retries[0].charge), (8 * SECOND, Charge::Nothing));
        }
        let verdict = policy.after(End::Failed(Kind::Failed.into()), lease(), Attempts::default(), &mut rng);
        let verdict = policy.of_key(verdict, lease(), Attempts::default(), true);
        assert!(matches!(verdict, Verdict::Settle(_, Fate::Retried)), "it has tries left: {verdict:?}");
    }
}
