//! How many leaves must answer, and what is known after each answer.

use crate::base::{Error, Kind, Result};
use std::fmt;

/// Billionths, cut off: two thirds of three is two.
const ALL: u64 = 1_000_000_000;

/// What a request to many leaves needs, to be answered.
///
/// | requirement | is answered | fails |
/// | --- | --- | --- |
/// | [`All`](Self::All) | when all have answered | with the first that fails |
/// | [`Quorum`](Self::Quorum) of k | with the k-th answer; the others are cancelled | when fewer than k are left |
/// | [`First`](Self::First) | with the first answer; the others are cancelled | when all have failed |
/// | [`Coverage`] | when all have ended, or time is up, if so many have answered | when so many cannot answer any more |
///
/// What cannot be reached any more fails at once, whatever time is left. Of a [tree](super::Scatter::tree), a quorum counts
/// branches, and a coverage the leaves behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// Every leaf.
    #[default]
    All,
    /// This many leaves; 0 counts as 1.
    Quorum(usize),
    /// One leaf, whichever it is.
    First,
    /// As many as answer in time, and no fewer than this.
    Coverage(Coverage),
}

/// How many leaves must have answered when all have ended or time is up: best effort, with a floor.
///
/// ```
/// use seedpod::serving::Coverage;
///
/// assert_eq!(Coverage::fraction(0.95)?.of(30), 29);
/// assert_eq!(Coverage::count(20).of(30), 20);
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Coverage(Floor);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Floor {
    Count(usize),
    /// In billionths.
    Part(u64),
}

impl Coverage {
    /// At least this part of the leaves, from 0 to 1, rounded up: 0 is content with no answer at all.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for any other part.
    pub fn fraction(part: f64) -> Result<Self> {
        if (0.0..=1.0).contains(&part) {
            return Ok(Coverage(Floor::Part((part * ALL as f64) as u64)));
        }
        Err(Error::new(Kind::Invalid, format!("scatter: the coverage must be from 0 to 1, not {part}")))
    }

    /// At least this many leaves.
    pub fn count(leaves: usize) -> Self {
        Coverage(Floor::Count(leaves))
    }

    /// How many of this many leaves that is.
    pub fn of(self, leaves: usize) -> usize {
        match self.0 {
            Floor::Count(count) => count,
            Floor::Part(part) => (u128::from(part) * leaves as u128).div_ceil(ALL.into()) as usize,
        }
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Floor::Count(count) => write!(f, "Coverage({count} leaves)"),
            Floor::Part(part) => write!(f, "Coverage({} %)", part as f64 * 100.0 / ALL as f64),
        }
    }
}

impl From<Coverage> for Require {
    fn from(coverage: Coverage) -> Self {
        Require::Coverage(coverage)
    }
}

/// What is known after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not decided yet.
    Open,
    /// Nothing more is needed.
    Done,
    /// It cannot be reached any more.
    Short,
}

impl Require {
    /// How many of this many leaves must answer.
    #[inline]
    pub(super) fn needs(self, leaves: usize) -> usize {
        match self {
            Require::All => leaves,
            Require::Quorum(count) => count.max(1),
            Require::First => 1,
            Require::Coverage(coverage) => coverage.of(leaves),
        }
    }

    /// The same as a number, for requests to this many leaves.
    #[inline]
    pub(super) fn need(self, leaves: usize) -> Need {
        Need { leaves, answers: self.needs(leaves), waits: matches!(self, Require::Coverage(_)) }
    }
}

/// What one request needs.
#[derive(Clone, Copy)]
pub(super) struct Need {
    pub(super) leaves: usize,
    pub(super) answers: usize,
    /// Whether it takes what it can get until all have ended.
    waits: bool,
}

impl Need {
    /// Whether an answer that has just come may be the last one needed.
    #[inline(always)]
    pub(super) fn may_be_met(self, answered: usize, failed: usize) -> bool {
        answered + failed == self.leaves || (!self.waits && answered >= self.answers)
    }

    /// So many have answered and so many failed; `over`: nobody is waited for any more.
    #[inline(always)]
    pub(super) fn judge(self, answered: usize, failed: usize, over: bool) -> Verdict {
        let over = over || answered + failed == self.leaves;
        if answered >= self.answers && (over || !self.waits) {
            Verdict::Done
        } else if over || self.leaves - failed < self.answers {
            Verdict::Short
        } else {
            Verdict::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    /// Whether it may still come out well, or badly, over all ways in which the open leaves may end or time may be up.
    fn futures(require: Require, leaves: usize, answered: usize, failed: usize) -> (bool, bool) {
        let wanted = |answered: usize| match require {
            Require::All => answered == leaves,
            Require::Quorum(count) => answered >= count.max(1),
            Require::First => answered > 0,
            Require::Coverage(Coverage(Floor::Count(count))) => answered >= count,
            Require::Coverage(Coverage(Floor::Part(part))) => answered as u64 * ALL >= part * leaves as u64,
        };
        let (mut well, mut badly) = (false, false);
        for more in 0..=leaves - answered - failed {
            if wanted(answered + more) { well = true } else { badly = true }
        }
        (well, badly)
    }

    /// Every requirement, up to nine leaves, every state that can be reached.
    #[test]
    fn every_verdict_is_that_of_all_the_futures_there_are() {
        let parts = [0.0, 0.1, 0.29, 1.0 / 3.0, 0.5, 0.7, 0.95, 1.0];
        let mut seen = [0; 3];
        for leaves in 1..=9 {
            let coverages = parts.map(|part| Require::Coverage(Coverage::fraction(part).unwrap()));
            let counts = (0..=leaves + 1).flat_map(|k| [Require::Quorum(k), Coverage::count(k).into()]);
            for require in [Require::All, Require::First].into_iter().chain(coverages).chain(counts) {
                for answered in 0..=leaves {
                    for failed in 0..=leaves - answered {
                        let (well, badly) = futures(require, leaves, answered, failed);
                        let ended = answered + failed == leaves;
                        let waits = matches!(require, Require::Coverage(_)) && !ended;
                        let verdict = require.need(leaves).judge(answered, failed, false);
                        let expected = match (well, badly) {
                            (false, _) => Verdict::Short,
                            (true, false) if !waits => Verdict::Done,
                            _ => Verdict::Open,
                        };
                        let at = (require, leaves, answered, failed);
                        assert_eq!(verdict, expected, "{at:?}");
                        let need = require.need(leaves);
                        assert!(need.may_be_met(answered, failed) || verdict != Verdict::Done, "{at:?}");
                        seen[verdict as usize] += 1;
                        let over = require.need(leaves).judge(answered, failed, true);
                        let enough = !badly || futures(require, leaves, answered, leaves - answered).0;
                        assert_eq!(over, if enough { Verdict::Done } else { Verdict::Short }, "{at:?} over");
                    }
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
    }

    /// Random orders of answers and failures: it is decided once, at the first moment at which it can be.
    #[test]
    fn a_hundred_thousand_random_requests_are_decided_once_and_no_sooner() {
        let mut rng = Seed::new(31).rng();
        for _ in 0..100_000 {
            let leaves = rng.range(1..40) as usize;
            let k = rng.range(0..45) as usize;
            let require = match rng.below(4) {
                0 => Require::All,
                1 => Require::First,
                2 => Require::Quorum(k),
                _ => Coverage::fraction(rng.unit()).unwrap().into(),
            };
            let (mut answered, mut failed, mut decided) = (0, 0, None);
            for step in 0..leaves {
                if rng.chance(0.6) {
                    answered += 1
                } else {
                    failed += 1
                }
                let verdict = require.need(leaves).judge(answered, failed, false);
                match decided {
                    None if verdict != Verdict::Open => decided = Some(verdict),
                    Some(before) => assert_eq!(verdict, before, "{require:?} of {leaves} at {step}"),
                    None => {}
                }
            }
            assert!(decided.is_some(), "when all have ended, it is decided");
        }
    }

    #[test]
    fn parts_are_exact_and_others_than_parts_are_refused() {
        for leaves in 0..2_000 {
            for percent in 0..=100 {
                let coverage = Coverage::fraction(percent as f64 / 100.0).unwrap();
                assert_eq!(coverage.of(leaves), (percent * leaves).div_ceil(100), "{percent} % of {leaves}");
            }
        }
        for leaves in 1..300 {
            for answered in 0..=leaves {
                let part = answered as f64 / leaves as f64;
                assert_eq!(Coverage::fraction(part).unwrap().of(leaves), answered, "{answered} of {leaves}");
            }
        }
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let error = Coverage::fraction(wrong).unwrap_err();
            assert!(error.to_string().contains(&wrong.to_string()), "{error}");
        }
    }
}
