//! The least and the greatest.

use super::Reduce;
use crate::flow::Item;
use std::fmt;

/// The least and the greatest.
#[derive(Clone, Copy)]
pub struct MinMax<F>(F);

impl MinMax<()> {
    /// Of what this makes of each item.
    pub fn of<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static>(key: F) -> MinMax<F> {
        MinMax(key)
    }
}

impl<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static> Reduce<T> for MinMax<F> {
    type Partial = (K, K);
    /// None where there was no item.
    type Out = Option<(K, K)>;

    fn one(&self, item: &T) -> (K, K) {
        let key = (self.0)(item);
        (key.clone(), key)
    }

    fn merge(&self, into: &mut (K, K), other: (K, K)) {
        if other.0 < into.0 {
            into.0 = other.0;
        }
        if other.1 > into.1 {
            into.1 = other.1;
        }
    }

    fn finish(&self, partial: Option<&(K, K)>) -> Option<(K, K)> {
        partial.cloned()
    }
}

impl<F> fmt::Debug for MinMax<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MinMax")
    }
}
