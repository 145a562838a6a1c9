//! The greatest few.

use super::Reduce;
use crate::flow::Item;
use std::fmt;

/// The greatest few, the greatest first. Of equal ones as many as there are.
#[derive(Clone, Copy)]
pub struct TopK<F> {
    most: usize,
    key: F,
}

impl TopK<()> {
    /// This many, of what this makes of each item: a score first, and behind it what is to be known of the item.
    pub fn of<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static>(most: usize, key: F) -> TopK<F> {
        TopK { most, key }
    }
}

impl<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static> Reduce<T> for TopK<F> {
    type Partial = Vec<K>;
    type Out = Vec<K>;

    fn one(&self, item: &T) -> Vec<K> {
        let mut one = vec![(self.key)(item)];
        one.truncate(self.most);
        one
    }

    fn merge(&self, into: &mut Vec<K>, other: Vec<K>) {
        into.extend(other);
        into.sort_by(|one, next| next.cmp(one));
        into.truncate(self.most);
    }

    fn finish(&self, partial: Option<&Vec<K>>) -> Vec<K> {
        partial.cloned().unwrap_or_default()
    }
}

impl<F> fmt::Debug for TopK<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopK").field("most", &self.most).finish_non_exhaustive()
    }
}
