//! The sum.

use super::Reduce;
use std::fmt;

/// Adds up whole numbers, exactly: in 128 bits, so that no order overflows before another.
#[derive(Clone, Copy)]
pub struct Sum<F>(F);

impl Sum<()> {
    /// Of this number of each item. Fractions are summed in a unit small enough to be whole: a sum of floats would depend
    /// on the order in which its parts are merged.
    pub fn of<T, N: Into<i128>, F: Fn(&T) -> N + Send + Sync + 'static>(number: F) -> Sum<F> {
        Sum(number)
    }
}

impl<T, N: Into<i128>, F: Fn(&T) -> N + Send + Sync + 'static> Reduce<T> for Sum<F> {
    type Partial = i128;
    type Out = i128;

    fn one(&self, item: &T) -> i128 {
        (self.0)(item).into()
    }

    fn merge(&self, into: &mut i128, other: i128) {
        *into = into.wrapping_add(other);
    }

    fn finish(&self, partial: Option<&i128>) -> i128 {
        partial.copied().unwrap_or(0)
    }
}

impl<F> fmt::Debug for Sum<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sum")
    }
}
