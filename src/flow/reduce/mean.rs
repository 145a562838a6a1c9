//! The mean.

use super::Reduce;
use std::fmt;

/// The arithmetic mean of whole numbers: divided once, at the end.
#[derive(Clone, Copy)]
pub struct Mean<F>(F);

impl Mean<()> {
    /// Of this number of each item.
    pub fn of<T, N: Into<i128>, F: Fn(&T) -> N + Send + Sync + 'static>(number: F) -> Mean<F> {
        Mean(number)
    }
}

impl<T, N: Into<i128>, F: Fn(&T) -> N + Send + Sync + 'static> Reduce<T> for Mean<F> {
    type Partial = (i128, u64);
    /// None where there was no item.
    type Out = Option<f64>;

    fn one(&self, item: &T) -> (i128, u64) {
        ((self.0)(item).into(), 1)
    }

    fn merge(&self, into: &mut (i128, u64), other: (i128, u64)) {
        *into = (into.0.wrapping_add(other.0), into.1 + other.1);
    }

    fn finish(&self, partial: Option<&(i128, u64)>) -> Option<f64> {
        partial.map(|(sum, count)| *sum as f64 / *count as f64)
    }
}

impl<F> fmt::Debug for Mean<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mean")
    }
}
