//! When the next commit begins: a decision that reads no clock and waits for nothing.

use crate::base::time::Instant;
use std::time::Duration;

/// What nobody waits for is on the disk after this long at the latest.
const UNSAID: Duration = Duration::from_millis(50);

/// After a commit that answered somebody, and this long without another, an empty one follows. Of two header slots the
/// engine reads the last that is whole, since one sync cannot tell a torn slot from one that was damaged later: so the
/// last one should hold nothing that anybody was promised.
const QUIET: Duration = Duration::from_millis(50);

/// What there is to commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Calls that wait for the answer.
    pub(crate) calls: usize,
    /// Whether there is something that nobody waits for.
    pub(crate) unsaid: bool,
}

/// Who was answered by a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) calls: usize,
    /// Calls that came while it was under way, counted before anybody was answered.
    pub(crate) meanwhile: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Commit,
    /// Look again when more calls have come, or after this time.
    Wait(Option<Duration>),
    End,
}

/// Who was just answered is likely to ask again: waiting for that many, for as long as the last commit took at most,
/// halves the syncs of many that ask one after the other. Without it two cohorts alternate.
#[derive(Default)]
pub(super) struct Rhythm {
    expected: usize,
    patient_until: Option<Instant>,
    unsaid_since: Option<Instant>,
    promised_at: Option<Instant>,
}

impl Rhythm {
    pub(super) fn next(&mut self, now: Instant, waiting: Waiting, closing: bool) -> Next {
        if waiting.unsaid {
            self.unsaid_since.get_or_insert(now);
        } else {
            self.unsaid_since = None;
        }
        if closing {
            return if waiting == Waiting::default() { Next::End } else { Next::Commit };
        }
        if waiting.calls == 0 {
            let (unsaid, quiet) = (self.unsaid_since.map(|at| at + UNSAID), self.promised_at.map(|at| at + QUIET));
            let Some(then) = unsaid.into_iter().chain(quiet).min() else { return Next::Wait(None) };
            let left = then.saturating_duration_since(now);
            return if left.is_zero() { Next::Commit } else { Next::Wait(Some(left)) };
        }
        let left = self.patient_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        match waiting.calls < self.expected && !left.is_zero() {
            true => Next::Wait(Some(left)),
            false => Next::Commit,
        }
    }

    /// How many calls are enough to begin.
    pub(super) fn enough(&self, waiting: Waiting) -> usize {
        if waiting.calls == 0 { 1 } else { self.expected }
    }

    /// A commit that began then has just ended.
    pub(super) fn committed(&mut self, began: Instant, now: Instant, answered: Answered) {
        self.expected = answered.calls + answered.meanwhile;
        self.promised_at = (answered.calls > 0).then_some(now);
        self.patient_until = Some(now + now.saturating_duration_since(began));
        self.unsaid_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    const MILLI: Duration = Duration::from_millis(1);

    fn calls(calls: usize) -> Waiting {
        Waiting { calls, unsaid: false }
    }

    #[test]
    fn it_waits_for_those_it_answered_but_no_longer_than_a_commit_takes() {
        let (mut rhythm, start) = (Rhythm::default(), time::now());
        assert_eq!(rhythm.next(start, calls(0), false), Next::Wait(None));
        assert_eq!(rhythm.next(start, calls(1), false), Next::Commit, "nobody else is expected");
        rhythm.committed(start, start + 4 * MILLI, Answered { calls: 6, meanwhile: 2 });
        assert_eq!(rhythm.next(start + 5 * MILLI, calls(3), false), Next::Wait(Some(3 * MILLI)));
        assert_eq!(rhythm.enough(calls(3)), 8);
        assert_eq!(rhythm.next(start + 5 * MILLI, calls(8), false), Next::Commit);
        assert_eq!(rhythm.next(start + 8 * MILLI, calls(3), false), Next::Commit);
    }

    #[test]
    fn what_nobody_waits_for_is_written_soon_and_before_the_end() {
        let (mut rhythm, start) = (Rhythm::default(), time::now());
        let unsaid = Waiting { calls: 0, unsaid: true };
        assert_eq!(rhythm.next(start, unsaid, false), Next::Wait(Some(UNSAID)));
        assert_eq!(rhythm.next(start + 20 * MILLI, unsaid, false), Next::Wait(Some(30 * MILLI)));
        assert_eq!(rhythm.next(start + UNSAID, unsaid, false), Next::Commit);
        assert_eq!(rhythm.next(start, unsaid, true), Next::Commit);
        assert_eq!(rhythm.next(start, calls(0), true), Next::End);
    }

    #[test]
    fn when_it_is_quiet_an_empty_commit_follows_what_was_promised() {
        let (mut rhythm, start) = (Rhythm::default(), time::now());
        rhythm.committed(start, start, Answered { calls: 1, meanwhile: 0 });
        assert_eq!(rhythm.next(start + 10 * MILLI, calls(0), false), Next::Wait(Some(40 * MILLI)));
        assert_eq!(rhythm.next(start + QUIET, calls(0), false), Next::Commit);
        rhythm.committed(start + QUIET, start + QUIET, Answered::default());
        assert_eq!(rhythm.next(start + 2 * QUIET, calls(0), false), Next::Wait(None));
    }
}
