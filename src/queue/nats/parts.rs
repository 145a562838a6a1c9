//! The items of one message from the server, cut into parts that are leased, settled and given back apart. Pure.

use crate::base::time::Instant;
use crate::queue::{Attempts, Charge};
use std::{ops::Range, time::Duration};

/// Some items, where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) range: Range<u32>,
    pub(super) attempts: Attempts,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Ready from then on.
    Later(Instant),
    Leased {
        epoch: u64,
        deadline: Instant,
    },
}

/// What becomes of some items of a lease: given back after this, at this charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) items: Range<u32>,
    pub(super) after: Duration,
    pub(super) charge: Charge,
}

/// All items of a message that are not done, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts(pub(super) Vec<Part>);

impl Parts {
    /// All of so many items, tried so often.
    pub(super) fn whole(count: u32, attempts: Attempts) -> Parts {
        Parts(vec![Part { range: 0..count, attempts, state: State::Ready }])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.0.iter().any(|part| part.state == State::Ready)
    }

    pub(super) fn has_leased(&self) -> bool {
        self.0.iter().any(|part| matches!(part.state, State::Leased { .. }))
    }

    /// When the first of those that wait is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |part: &Part| if let State::Later(due) = part.state { Some(due) } else { None };
        self.0.iter().filter_map(due).min()
    }

    /// Those that are due are ready.
    pub(super) fn ripen(&mut self, now: Instant) {
        for part in &mut self.0 {
            if matches!(part.state, State::Later(due) if due <= now) {
                part.state = State::Ready;
            }
        }
    }

    /// Leases ready items from the first on: this many, and no more than fit into `bytes` but the first, where it is
    /// `first` of all; how many bytes they have.
    pub(super) fn take(
        &mut self,
        epoch: u64,
        deadline: Instant,
        most: u32,
        size: impl Fn(u32) -> usize,
        bytes: usize,
        first: bool,
    ) -> Option<(Range<u32>, Attempts, usize)> {
        let at = self.0.iter().position(|part| part.state == State::Ready)?;
        let part = self.0.get_mut(at)?;
        let (start, mut end, mut used) = (part.range.start, part.range.start, 0_usize);
        while end < part.range.end && end - start < most {
            let with = used.saturating_add(size(end));
            if with > bytes && !(first && end == start) {
                break;
            }
            (end, used) = (end + 1, with);
        }
        if end == start {
            return None;
        }
        let taken = Part { range: start..end, attempts: part.attempts, state: State::Leased { epoch, deadline } };
        if end == part.range.end {
            *part = taken;
        } else {
            part.range.start = end;
            self.0.insert(at, taken);
        }
        let attempts = self.0.get(at).map(|part| part.attempts).unwrap_or_default();
        Some((start..end, attempts, used))
    }

    /// What is leased under this epoch.
    pub(super) fn leased(&self, epoch: u64) -> Option<(&Part, Instant)> {
        self.0.iter().find_map(|part| match part.state {
            State::Leased { epoch: its, deadline } if its == epoch => Some((part, deadline)),
            _ => None,
        })
    }

    /// Holds it until then; from when on it would have been over.
    pub(super) fn extend(&mut self, epoch: u64, until: Instant) -> Option<Instant> {
        self.0.iter_mut().find_map(|part| match &mut part.state {
            State::Leased { epoch: its, deadline } if *its == epoch => Some(std::mem::replace(deadline, until)),
            _ => None,
        })
    }

    /// The lease is over: what is given back of it waits, the rest is done. Its items are counted from 0 within it.
    pub(super) fn settle(&mut self, now: Instant, epoch: u64, back: &[Back]) {
        let Some(at) =
            self.0.iter().position(|part| matches!(part.state, State::Leased { epoch: its, .. } if its == epoch))
        else {
            return;
        };
        let part = self.0.remove(at);
        let mut again: Vec<Part> = back
            .iter()
            .map(|back| {
                let mut attempts = part.attempts;
                match back.charge {
                    Charge::Nothing => {}
                    Charge::Failure => attempts.failures = attempts.failures.saturating_add(1),
                    Charge::Crash => attempts.crashes = attempts.crashes.saturating_add(1),
                }
                let due = now.checked_add(back.after).filter(|_| !back.after.is_zero());
                Part {
                    range: part.range.start + back.items.start..part.range.start + back.items.end,
                    attempts,
                    state: due.map_or(State::Ready, State::Later),
                }
            })
            .collect();
        again.sort_by_key(|part| part.range.start);
        self.0.splice(at..at, again);
        self.join();
    }

    /// The lease ran out: its items are ready again.
    pub(super) fn lapse(&mut self, epoch: u64) {
        for part in &mut self.0 {
            if matches!(part.state, State::Leased { epoch: its, .. } if its == epoch) {
                part.attempts.lapses = part.attempts.lapses.saturating_add(1);
                part.state = State::Ready;
            }
        }
        self.join();
    }

    /// The lease was never handed out: its items are ready as they were.
    pub(super) fn untake(&mut self, epoch: u64) {
        for part in &mut self.0 {
            if matches!(part.state, State::Leased { epoch: its, .. } if its == epoch) {
                part.state = State::Ready;
            }
        }
        self.join();
    }

    /// Neighbours that are ready and alike are one.
    fn join(&mut self) {
        self.0.dedup_by(|next, part| {
            let alike = part.range.end == next.range.start
                && part.attempts == next.attempts
                && part.state == next.state
                && !matches!(part.state, State::Leased { .. });
            if alike {
                part.range.end = next.range.end;
            }
            alike
        });
    }

    /// How many items are ready, leased, and due later.
    pub(super) fn count(&self) -> (usize, usize, usize) {
        self.0.iter().fold((0, 0, 0), |(ready, leased, later), part| {
            let items = part.range.len();
            match part.state {
                State::Ready => (ready + items, leased, later),
                State::Leased { .. } => (ready, leased + items, later),
                State::Later(_) => (ready, leased, later + items),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    fn shown(parts: &Parts) -> Vec<(Range<u32>, u32, &'static str)> {
        let state = |part: &Part| match part.state {
            State::Ready => "ready",
            State::Later(_) => "later",
            State::Leased { .. } => "leased",
        };
        parts.0.iter().map(|part| (part.range.clone(), part.attempts.total(), state(part))).collect()
    }

    #[test]
    fn cut_settled_and_joined() {
        let now = time::now();
        let mut parts = Parts::whole(10, Attempts::default());
        let take =
            |parts: &mut Parts, epoch, most| parts.take(epoch, now, most, |_| 1, usize::MAX, true).map(|it| it.0);
        assert_eq!(take(&mut parts, 1, 3), Some(0..3));
        assert_eq!(take(&mut parts, 2, 3), Some(3..6));
        let back = |items, charge, after| Back { items, charge, after };
        parts.settle(now, 2, &[back(2..3, Charge::Crash, Duration::ZERO), back(0..1, Charge::Failure, Duration::MAX)]);
        assert_eq!(shown(&parts), [(0..3, 0, "leased"), (3..4, 1, "ready"), (5..6, 1, "ready"), (6..10, 0, "ready")]);
        assert_eq!(parts.count(), (6, 3, 0));
        assert_eq!(take(&mut parts, 3, 9), Some(3..4));
        parts.settle(now, 3, &[back(0..1, Charge::Nothing, Duration::from_secs(1))]);
        assert_eq!(parts.next_due(), Some(now + Duration::from_secs(1)));
        parts.settle(now, 9, &[]);
        parts.lapse(1);
        assert_eq!((parts.0[0].attempts, parts.has_leased()), (Attempts::new(0, 0, 1), false));
        parts.ripen(now + Duration::from_secs(1));
        for epoch in 4.. {
            if take(&mut parts, epoch, 99).is_none() {
                break;
            }
            parts.settle(now, epoch, &[]);
        }
        assert!(parts.is_empty());
    }

    #[test]
    fn bytes_are_heeded_but_for_the_first() {
        let now = time::now();
        let sizes = [900, 300, 300, 300];
        let mut parts = Parts::whole(4, Attempts::default());
        let take = |parts: &mut Parts, epoch, first| parts.take(epoch, now, 9, |item| sizes[item as usize], 700, first);
        assert_eq!(take(&mut parts, 1, false), None);
        assert_eq!(take(&mut parts, 1, true).map(|it| (it.0, it.2)), Some((0..1, 900)));
        assert_eq!(take(&mut parts, 2, true).map(|it| (it.0, it.2)), Some((1..3, 600)));
        parts.untake(2);
        assert_eq!(shown(&parts), [(0..1, 0, "leased"), (1..4, 0, "ready")]);
        assert_eq!((parts.extend(1, now + Duration::from_secs(9)), parts.extend(2, now)), (Some(now), None));
        assert_eq!(parts.leased(1).map(|it| it.1), Some(now + Duration::from_secs(9)));
    }
}
