//! What came of a request to many leaves: of each by its name, and counted.

use crate::base::Error;
use std::{fmt, iter::Sum, ops::Add, sync::Arc};

/// What became of so many leaves. Each is counted once, so that trees add up.
///
/// ```
/// use seedpod::serving::Tally;
///
/// let tally = Tally { answered: 6, late: 1, failed: 1, ..Tally::default() };
/// assert_eq!((tally.to_string().as_str(), tally.fraction()), ("6 of 8 answered, 1 failed, 1 late", 0.75));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered, and the answer is in.
    pub answered: usize,
    /// Failed.
    pub failed: usize,
    /// Asked, and silent when time was up.
    pub late: usize,
    /// Asked, and given up when the others sufficed, or could not suffice any more.
    pub dropped: usize,
    /// Never asked: it was over before it was their turn.
    pub unsent: usize,
}

impl Tally {
    /// One leaf that has answered.
    pub const ONE: Tally = Tally { answered: 1, failed: 0, late: 0, dropped: 0, unsent: 0 };

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        let all = [self.answered, self.failed, self.late, self.dropped, self.unsent];
        all.into_iter().fold(0, usize::saturating_add) // those of another process may be anything
    }

    /// The part that has answered, from 0 to 1; 1 of none.
    pub fn fraction(&self) -> f64 {
        match self.leaves() {
            0 => 1.0,
            leaves => self.answered as f64 / leaves as f64,
        }
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            answered: self.answered.saturating_add(other.answered),
            failed: self.failed.saturating_add(other.failed),
            late: self.late.saturating_add(other.late),
            dropped: self.dropped.saturating_add(other.dropped),
            unsent: self.unsent.saturating_add(other.unsent),
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), Add::add)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} answered", self.answered, self.leaves())?;
        let rest =
            [(self.failed, "failed"), (self.late, "late"), (self.dropped, "dropped"), (self.unsent, "not asked")];
        rest.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, word)| write!(f, ", {count} {word}"))
    }
}

/// Whatever knows how many leaves it covers: an answer that itself was put together from answers.
pub trait Covered {
    /// What became of the leaves behind it.
    fn tally(&self) -> Tally;
}

/// What became of one leaf.
#[derive(Clone, Debug)]
pub enum Reply<T> {
    /// It answered.
    Answered(T),
    /// It failed.
    Failed(Error),
    /// It was asked, and silent when time was up.
    Late,
    /// It was asked, and given up when the others sufficed, or could not suffice any more.
    Dropped,
    /// It was never asked.
    Unsent,
}

/// One leaf, and what became of it.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The leaf's name.
    pub name: Arc<str>,
    /// What became of it.
    pub reply: Reply<T>,
}

/// What became of each leaf, in the order in which the leaves were named.
#[derive(Clone)]
pub struct Answers<T> {
    pub(super) list: Vec<Answer<T>>,
    pub(super) tally: Tally,
}

impl<T> Answers<T> {
    /// Each leaf and what became of it.
    pub fn iter(&self) -> std::slice::Iter<'_, Answer<T>> {
        self.list.iter()
    }

    /// How many did what.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Those that answered, with their names.
    pub fn answered(&self) -> impl Iterator<Item = (&str, &T)> {
        self.list.iter().filter_map(|answer| match &answer.reply {
            Reply::Answered(value) => Some((&*answer.name, value)),
            _ => None,
        })
    }

    /// The answers alone.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.list.into_iter().filter_map(|answer| match answer.reply {
            Reply::Answered(value) => Some(value),
            _ => None,
        })
    }

    /// Those that failed, with their names.
    pub fn failed(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.list.iter().filter_map(|answer| match &answer.reply {
            Reply::Failed(error) => Some((&*answer.name, error)),
            _ => None,
        })
    }

    pub(super) fn failures(&self) -> Vec<(Arc<str>, Error)> {
        let failed = self.list.iter().filter_map(|answer| match &answer.reply {
            Reply::Failed(error) => Some((answer.name.clone(), error.clone())),
            _ => None,
        });
        failed.collect()
    }
}

impl<T> IntoIterator for Answers<T> {
    type Item = Answer<T>;
    type IntoIter = std::vec::IntoIter<Answer<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Answers<T> {
    type Item = &'a Answer<T>;
    type IntoIter = std::slice::Iter<'a, Answer<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Covered for Answers<T> {
    fn tally(&self) -> Tally {
        self.tally
    }
}

impl<T> fmt::Debug for Answers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answers({})", self.tally)
    }
}

/// What answers were put together to, and what it covers.
#[derive(Clone, Debug)]
pub struct Gathered<U> {
    /// What they were put together to.
    pub value: U,
    /// What became of the leaves.
    pub tally: Tally,
    /// Those that failed, by name.
    pub failed: Vec<(Arc<str>, Error)>,
}

impl<U> Covered for Gathered<U> {
    fn tally(&self) -> Tally {
        self.tally
    }
}

/// Why a requirement was not reached: the source of the [`Error`], found by [`Error::downcast_ref`].
#[derive(Clone, Debug)]
pub struct Shortfall {
    /// What became of the leaves.
    pub tally: Tally,
    /// How many had to answer.
    pub needed: usize,
    /// Those that failed, by name.
    pub failed: Vec<(Arc<str>, Error)>,
}

/// How many failures are spelled out.
const SAID: usize = 3;

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tally)?;
        for (place, (_, error)) in self.failed.iter().take(SAID).enumerate() {
            write!(f, "{} {error}", if place == 0 { ":" } else { ";" })?;
        }
        match self.failed.len().saturating_sub(SAID) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Shortfall {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failed.first().map(|(_, error)| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;

    #[test]
    fn tallies_add_up_and_say_what_is_missing() {
        let (half, none) = (Tally { answered: 1, late: 1, ..Tally::default() }, Tally::default());
        let sum: Tally = [half, Tally::ONE, none, Tally { dropped: 2, unsent: 3, ..none }].into_iter().sum();
        assert_eq!((sum.leaves(), sum.fraction(), none.fraction()), (8, 0.25, 1.0));
        assert_eq!(sum.to_string(), "2 of 8 answered, 1 late, 2 dropped, 3 not asked");
        let hostile = Tally { answered: usize::MAX, failed: usize::MAX, ..half };
        assert_eq!((hostile + hostile).leaves(), usize::MAX);
    }

    #[test]
    fn a_shortfall_spells_out_the_first_failures_and_leads_to_the_users_own() {
        let io = std::io::Error::other("disk");
        let mut failed: Vec<(Arc<str>, Error)> = (1..6)
            .map(|leaf| (format!("db-{leaf}").into(), Error::from(Kind::Closed).at(format!("db-{leaf}"))))
            .collect();
        failed.insert(0, ("db-0".into(), Error::new(Kind::Failed, "").because(io).at("db-0")));
        let shortfall = Shortfall { tally: Tally { failed: 6, ..Tally::default() }, needed: 1, failed };
        let text = "0 of 6 answered, 6 failed: db-0: failed; db-1: closed; db-2: closed; and 3 more";
        assert_eq!(shortfall.to_string(), text);
        let error = Error::new(Kind::Failed, "1 was needed").because(shortfall);
        assert_eq!(error.downcast_ref::<Shortfall>().map(|shortfall| shortfall.needed), Some(1));
        assert!(error.downcast_ref::<std::io::Error>().is_some());
    }
}
