//! How many.

use super::Reduce;

/// Counts the items.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<T> Reduce<T> for Count {
    type Partial = u64;
    type Out = u64;

    fn one(&self, _: &T) -> u64 {
        1
    }

    fn merge(&self, into: &mut u64, other: u64) {
        *into += other;
    }

    fn finish(&self, partial: Option<&u64>) -> u64 {
        partial.copied().unwrap_or(0)
    }
}
