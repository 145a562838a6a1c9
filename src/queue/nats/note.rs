//! What JetStream cannot say of a message that comes again: why it came back, and which of its items are done.
//!
//! JetStream counts deliveries and nothing else. So before a message goes back on purpose, a note is written of what is
//! left of it and of how many deliveries are accounted for; a delivery that no note accounts for was a lapse.

use super::parts::{Part, Parts, State};
use crate::base::time::{Instant, WallClock};
use crate::queue::Attempts;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A note on one message, for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// How many deliveries did not lapse.
    accounted: u64,
    left: Vec<Left>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    from: u32,
    to: u32,
    failures: u16,
    crashes: u16,
    lapses: u16,
    /// Not to be leased before, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due: Option<u64>,
}

impl Note {
    /// What is left after this many deliveries that are accounted for.
    pub(super) fn of(parts: &Parts, accounted: u64, clock: &WallClock) -> Note {
        let left = parts.0.iter().map(|part| Left {
            from: part.range.start,
            to: part.range.end,
            failures: part.attempts.failures,
            crashes: part.attempts.crashes,
            lapses: part.attempts.lapses,
            due: if let State::Later(due) = part.state { Some(millis(clock, due)) } else { None },
        });
        Note { accounted, left: left.collect() }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What is left of a message of so many items at this delivery, counted from 1, by the note on it. A note that does
    /// not fit the message counts as none.
    pub(super) fn read(note: Option<&[u8]>, count: u32, delivery: u64, now: Instant, clock: &WallClock) -> Parts {
        let note = note.and_then(|bytes| serde_json::from_slice::<Note>(bytes).ok()).filter(|note| note.fits(count));
        let accounted = note.as_ref().map_or(0, |note| note.accounted);
        let lapses = u16::try_from(delivery.saturating_sub(1).saturating_sub(accounted)).unwrap_or(u16::MAX);
        let Some(note) = note else { return Parts::whole(count, Attempts::new(0, 0, lapses)) };
        let today = clock.unix_millis();
        let part = |left: &Left| {
            let due =
                left.due.map(|due| Duration::from_millis(due.saturating_sub(today))).filter(|wait| !wait.is_zero());
            Part {
                range: left.from..left.to,
                attempts: Attempts::new(left.failures, left.crashes, left.lapses.saturating_add(lapses)),
                state: due.and_then(|wait| now.checked_add(wait)).map_or(State::Ready, State::Later),
            }
        };
        Parts(note.left.iter().map(part).collect())
    }

    /// Its ranges are in order, do not overlap, and lie within the message.
    fn fits(&self, count: u32) -> bool {
        let mut end = 0;
        !self.left.is_empty()
            && self.left.iter().all(|left| {
                let fits = end <= left.from && left.from < left.to && left.to <= count;
                end = left.to;
                fits
            })
    }
}

fn millis(clock: &WallClock, then: Instant) -> u64 {
    let since = clock.at(then).duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    fn attempts(parts: &Parts) -> Vec<Attempts> {
        parts.0.iter().map(|part| part.attempts).collect()
    }

    #[test]
    fn what_no_note_accounts_for_was_a_lapse() {
        let (now, clock) = (time::now(), WallClock::ambient());
        assert_eq!(attempts(&Note::read(None, 1, 1, now, &clock)), [Attempts::default()]);
        assert_eq!(attempts(&Note::read(None, 1, 4, now, &clock)), [Attempts::new(0, 0, 3)]);
        let note = Note::of(&Parts::whole(1, Attempts::new(2, 1, 1)), 5, &clock).write();
        assert_eq!(attempts(&Note::read(Some(&note), 1, 6, now, &clock)), [Attempts::new(2, 1, 1)]);
        assert_eq!(attempts(&Note::read(Some(&note), 1, 8, now, &clock)), [Attempts::new(2, 1, 3)]);
        assert_eq!(attempts(&Note::read(Some(&note), 1, u64::MAX, now, &clock)), [Attempts::new(2, 1, u16::MAX)]);
    }

    #[test]
    fn parts_come_back_as_they_were() {
        let (now, clock) = (time::now(), WallClock::ambient());
        let part = |range, failures, state| Part { range, attempts: Attempts::new(failures, 0, 0), state };
        let parts = Parts(vec![
            part(1..3, 1, State::Later(now + Duration::from_secs(60))),
            part(7..8, 2, State::Ready),
            part(8..9, 0, State::Later(now)),
        ]);
        let mut again = Note::read(Some(&Note::of(&parts, 1, &clock).write()), 9, 2, now, &clock);
        again.ripen(now + Duration::from_millis(1)); // a note is of whole milliseconds, and never early
        assert_eq!((again.0[0].range.clone(), &again.0[1]), (1..3, &parts.0[1]));
        assert!(again.next_due().is_some_and(|due| due > now + Duration::from_secs(59)));
        assert_eq!(again.count(), (2, 0, 2));
    }

    #[test]
    fn a_note_that_does_not_fit_counts_as_none() {
        let (now, clock) = (time::now(), WallClock::ambient());
        let left = |from: u32, to: u32| format!(r#"{{"from":{from},"to":{to},"failures":9,"crashes":0,"lapses":0}}"#);
        let all = |left: &[String]| format!(r#"{{"accounted":1,"left":[{}]}}"#, left.join(","));
        for bad in [
            all(&[]),
            all(&[left(0, 4)]),
            all(&[left(1, 1)]),
            all(&[left(1, 2), left(0, 1)]),
            all(&[left(0, 2), left(1, 3)]),
            "{".to_string(),
            "null".to_string(),
        ] {
            let parts = Note::read(Some(bad.as_bytes()), 3, 2, now, &clock);
            assert_eq!(parts, Parts::whole(3, Attempts::new(0, 0, 1)), "{bad}");
        }
    }
}
