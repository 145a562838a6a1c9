//! What an answer of a resolver changes, and when to ask again: pure.

use super::answer::Members;
use crate::base::{Backoff, Error, Kind, Result, Rng};
use std::time::Duration;

/// What was found under a name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) members: Members,
    pub(super) ttl: Option<Duration>,
    /// What went wrong on the way, where it did not spoil the rest.
    pub(super) trouble: Option<Error>,
}

/// How often a name is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) floor: Duration,
    pub(super) ceiling: Duration,
    pub(super) jitter: f64,
    pub(super) failed: Backoff,
    pub(super) absent_after: u32,
}

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    pub(super) members: Members,
    /// Failed questions in a row.
    pub(super) failures: u32,
    /// Answers in a row that there is nothing.
    pub(super) absences: u32,
    /// What was wrong with the last answer.
    pub(super) error: Option<Error>,
    /// Whether anything has been told.
    told: bool,
}

/// What follows from an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Next {
    /// Whether the members have changed, and are to be told.
    pub(super) changed: bool,
    /// How long to wait before the next question.
    pub(super) wait: Duration,
}

impl Refresh {
    pub(super) fn take(&mut self, result: Result<Found>, pace: &Pace, rng: &mut Rng) -> Next {
        let jittered = |wait: Duration, rng: &mut Rng| {
            let longer = wait.as_secs_f64() * (1.0 + pace.jitter * rng.unit());
            Duration::try_from_secs_f64(longer).unwrap_or(Duration::MAX)
        };
        let usual = |ttl: Option<Duration>| ttl.map_or(pace.interval, |ttl| ttl.max(pace.floor).min(pace.ceiling));
        let found = match result {
            Err(error) if error.kind() != Kind::NotFound => {
                let wait = pace.failed.ceiling(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.error = Some(error);
                return Next { changed: false, wait: jittered(wait, rng) };
            }
            Err(error) => Found { trouble: Some(error), ..Found::default() },
            Ok(found) => found,
        };
        let wait = jittered(usual(found.ttl), rng);
        self.failures = 0;
        self.error = found.trouble;
        if found.members.is_empty() {
            self.absences = self.absences.saturating_add(1);
            self.error.get_or_insert_with(|| Error::new(Kind::NotFound, "the name has no address"));
            if self.absences < pace.absent_after {
                return Next { changed: false, wait };
            }
        } else {
            self.absences = 0;
        }
        let changed = !self.told || self.members != found.members;
        self.members = found.members;
        self.told = true;
        Next { changed, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::answer::{Family, hosts},
        *,
    };
    use crate::base::Seed;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace() -> Pace {
        Pace {
            interval: seconds(5),
            floor: seconds(1),
            ceiling: seconds(300),
            jitter: 0.0,
            failed: Backoff::new(seconds(1), seconds(30)),
            absent_after: 3,
        }
    }

    fn found(last: &[u8], ttl: Option<u64>) -> Result<Found> {
        let ips: Vec<_> = last.iter().map(|last| [10, 0, 0, *last].into()).collect();
        Ok(Found { members: hosts(&ips, 80, Family::All).0, ttl: ttl.map(seconds), trouble: None })
    }

    #[test]
    fn a_time_to_live_is_obeyed_between_floor_and_ceiling() {
        let (mut refresh, pace, mut rng) = (Refresh::default(), pace(), Seed::new(1).rng());
        let mut wait = |ttl| refresh.take(found(&[1], ttl), &pace, &mut rng).wait;
        assert_eq!([None, Some(0), Some(60), Some(86_400)].map(&mut wait), [5, 1, 60, 300].map(seconds));
        let jittery = Pace { jitter: 0.1, ..pace };
        let waits: Vec<_> =
            (0..1000).map(|_| refresh.take(found(&[1], None), &jittery, &mut rng).wait.as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (5.0..=5.5).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 5.05) && waits.iter().any(|wait| *wait > 5.45));
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_and_asks_again_ever_later() {
        let (mut refresh, pace, mut rng) = (Refresh::default(), pace(), Seed::new(1).rng());
        assert!(refresh.take(found(&[1, 2], None), &pace, &mut rng).changed);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let next = refresh.take(Err(Error::new(Kind::Timeout, "no answer")), &pace, &mut rng);
            assert!(!next.changed);
            waits.push(next.wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!((refresh.members.len(), refresh.failures), (2, 7));
        assert!(refresh.error.as_ref().unwrap().is_timeout());
        let next = refresh.take(found(&[1, 2], None), &pace, &mut rng);
        assert_eq!((next.changed, next.wait, refresh.failures), (false, seconds(5), 0));
        assert!(refresh.error.is_none());
    }

    #[test]
    fn that_there_is_nothing_is_believed_when_it_was_said_often_enough_in_a_row() {
        let (mut refresh, pace, mut rng) = (Refresh::default(), pace(), Seed::new(1).rng());
        refresh.take(found(&[1], None), &pace, &mut rng);
        let gone = || Err(Error::new(Kind::NotFound, "no such host"));
        let mut take = |result| (refresh.take(result, &pace, &mut rng).changed, refresh.members.len());
        assert_eq!([take(gone()), take(found(&[], None))], [(false, 1); 2]);
        assert_eq!(take(found(&[1], None)), (false, 1), "it was not so");
        assert_eq!([take(gone()), take(gone())], [(false, 1); 2]);
        assert_eq!(take(Err(Kind::Timeout.into())), (false, 1), "a failure says nothing either way");
        assert_eq!(take(gone()), (true, 0));
        assert_eq!(take(gone()), (false, 0));
        assert_eq!(take(found(&[2], None)), (true, 1));
    }
}
