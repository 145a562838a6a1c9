//! What becomes of an item that did not go well.

use super::Tuning;
use crate::base::{Error, Kind, Rng};
use crate::queue::{Attempts, Charge};
use std::time::Duration;

/// Why an item did not go well.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The function panicked, with these words.
    Panicked(String),
    /// The call failed.
    Failed(Error),
    /// It is no item of this stage, or nothing here takes it: trying again cannot help.
    Hopeless(String),
}

/// What is done with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    Retry { after: Duration, charge: Charge },
    Reject(String),
}

impl Fault {
    /// By the stage's budgets, and by how often it was tried before.
    pub(super) fn fate(self, tuning: &Tuning, attempts: Attempts, rng: &mut Rng) -> Fate {
        match self {
            Fault::Hopeless(reason) => Fate::Reject(reason),
            Fault::Failed(error) if error.kind() == Kind::Invalid => Fate::Reject(error.chain()),
            Fault::Failed(error) if error.kind() == Kind::Panicked => {
                Fault::Panicked(error.chain()).fate(tuning, attempts, rng)
            }
            Fault::Failed(error) => match error.retry_after() {
                Some(after) => Fate::Retry { after, charge: Charge::Nothing },
                None if attempts.failures.saturating_add(1) >= tuning.attempts => Fate::Reject(error.chain()),
                None => {
                    let after = tuning.backoff.wait(attempts.failures.into(), rng);
                    Fate::Retry { after, charge: Charge::Failure }
                }
            },
            Fault::Panicked(words) if attempts.crashes.saturating_add(1) >= tuning.crashes => {
                Fate::Reject(format!("it panicked {} times: {words}", u32::from(attempts.crashes) + 1))
            }
            Fault::Panicked(_) => {
                let after = tuning.backoff.wait(attempts.crashes.into(), rng);
                Fate::Retry { after, charge: Charge::Crash }
            }
        }
    }
}

/// Why items that were tried so often are not tried again.
pub(super) fn spent(tuning: &Tuning, attempts: Attempts) -> Option<String> {
    let Attempts { crashes, lapses, .. } = attempts;
    if lapses >= tuning.lapses {
        return Some(format!("its lease ran out {lapses} times: its workers were killed, or too slow"));
    }
    (crashes >= tuning.crashes).then(|| format!("its workers crashed {crashes} times"))
}

/// Whether one of them may have killed its worker: they are tried one by one then, so that it takes no others along.
pub(super) fn is_suspect(tuning: &Tuning, attempts: Attempts) -> bool {
    attempts.lapses >= 2 || may_kill(tuning, attempts)
}

/// Whether one of them may have killed the process, and all that the process held is at its last try: one at a time then,
/// in the whole process.
pub(super) fn may_kill(tuning: &Tuning, attempts: Attempts) -> bool {
    attempts.crashes > 0 && attempts.crashes.saturating_add(1) >= tuning.crashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Backoff, Seed};

    #[test]
    fn every_fault_has_its_fate() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, 100 * second).exact();
        let tuning = Tuning::default().attempts(3).crashes(2).lapses(4).backoff(backoff);
        let mut rng = Seed::new(1).rng();
        let mut fate = |fault: Fault, attempts| fault.fate(&tuning, attempts, &mut rng);
        let failed = || Fault::Failed(Error::new(Kind::Unavailable, "no route"));
        let retry = |after, charge| Fate::Retry { after, charge };
        assert_eq!(fate(failed(), Attempts::new(1, 0, 0)), retry(2 * second, Charge::Failure));
        assert_eq!(fate(failed(), Attempts::new(2, 0, 0)), Fate::Reject("unavailable: no route".into()));
        let later = Fault::Failed(Error::new(Kind::Overloaded, "").after(7 * second));
        assert_eq!(fate(later, Attempts::new(2, 0, 0)), retry(7 * second, Charge::Nothing));
        let invalid = Fault::Failed(Error::new(Kind::Invalid, "no address"));
        assert_eq!(fate(invalid, Attempts::default()), Fate::Reject("invalid: no address".into()));
        let panicked = || Fault::Panicked("oh".into());
        assert_eq!(fate(panicked(), Attempts::default()), retry(second, Charge::Crash));
        assert_eq!(fate(panicked(), Attempts::new(0, 1, 0)), Fate::Reject("it panicked 2 times: oh".into()));
        assert_eq!(spent(&tuning, Attempts::new(9, 1, 3)), None);
        assert!(spent(&tuning, Attempts::new(0, 0, 4)).is_some_and(|why| why.contains("4 times")));
        let suspect = |crashes, lapses| is_suspect(&tuning.crashes(3), Attempts::new(5, crashes, lapses));
        assert!(suspect(0, 2) && suspect(2, 0) && !suspect(1, 1) && !suspect(0, 0));
        assert!(!may_kill(&tuning, Attempts::new(0, 0, 9)), "a lost lease kills no process");
    }
}
