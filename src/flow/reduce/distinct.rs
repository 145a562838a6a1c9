//! How many different ones.

use super::Reduce;
use crate::flow::Item;
use std::{collections::BTreeSet, fmt};

/// Counts different values, exactly: it keeps them all, so give it short ones, and not too many.
#[derive(Clone, Copy)]
pub struct Distinct<F>(F);

impl Distinct<()> {
    /// Of what this makes of each item.
    pub fn of<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static>(key: F) -> Distinct<F> {
        Distinct(key)
    }
}

impl<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static> Reduce<T> for Distinct<F> {
    type Partial = BTreeSet<K>;
    type Out = u64;

    fn one(&self, item: &T) -> BTreeSet<K> {
        BTreeSet::from([(self.0)(item)])
    }

    fn merge(&self, into: &mut BTreeSet<K>, mut other: BTreeSet<K>) {
        if other.len() > into.len() {
            std::mem::swap(into, &mut other);
        }
        into.extend(other);
    }

    fn finish(&self, partial: Option<&BTreeSet<K>>) -> u64 {
        partial.map_or(0, |all| all.len() as u64)
    }

    fn add(&self, into: &mut BTreeSet<K>, item: &T) {
        into.insert((self.0)(item));
    }
}

impl<F> fmt::Debug for Distinct<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distinct")
    }
}
