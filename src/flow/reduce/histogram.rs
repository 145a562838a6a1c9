//! How many in which range.

use super::Reduce;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Counts numbers by ranges.
#[derive(Clone)]
pub struct Histogram<F> {
    bounds: Vec<i64>,
    number: F,
}

/// How many numbers are in which range; what a [`Histogram`] makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Buckets {
    /// The upper bounds, ascending; each belongs to its range, as with Prometheus.
    pub bounds: Vec<i64>,
    /// How many, by range: one more than there are bounds, since the last has none.
    pub counts: Vec<u64>,
}

impl Histogram<()> {
    /// Of this number of each item, in ranges that end at these bounds.
    pub fn of<T, F>(bounds: impl IntoIterator<Item = i64>, number: F) -> Histogram<F>
    where
        F: Fn(&T) -> i64 + Send + Sync + 'static,
    {
        let mut bounds: Vec<_> = bounds.into_iter().collect();
        bounds.sort_unstable();
        bounds.dedup();
        Histogram { bounds, number }
    }
}

impl<T, F: Fn(&T) -> i64 + Send + Sync + 'static> Reduce<T> for Histogram<F> {
    type Partial = Vec<u64>;
    type Out = Buckets;

    fn one(&self, item: &T) -> Vec<u64> {
        let mut counts = vec![0; self.bounds.len() + 1];
        self.add(&mut counts, item);
        counts
    }

    fn merge(&self, into: &mut Vec<u64>, other: Vec<u64>) {
        into.iter_mut().zip(other).for_each(|(into, other)| *into += other);
    }

    fn finish(&self, partial: Option<&Vec<u64>>) -> Buckets {
        let none = vec![0; self.bounds.len() + 1];
        Buckets { bounds: self.bounds.clone(), counts: partial.cloned().unwrap_or(none) }
    }

    fn add(&self, into: &mut Vec<u64>, item: &T) {
        let number = (self.number)(item);
        let at = self.bounds.partition_point(|bound| *bound < number);
        if let Some(count) = into.get_mut(at) {
            *count += 1;
        }
    }
}

impl<F> fmt::Debug for Histogram<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}
