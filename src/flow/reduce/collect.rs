//! All of them.

use super::Reduce;
use crate::flow::Item;

/// Keeps all items, in ascending order, so that it does not matter in which they came. Give it batches that fit into
/// memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collect;

impl<T: Item + Ord> Reduce<T> for Collect {
    type Partial = Vec<T>;
    type Out = Vec<T>;

    fn one(&self, item: &T) -> Vec<T> {
        vec![item.clone()]
    }

    fn merge(&self, into: &mut Vec<T>, other: Vec<T>) {
        into.extend(other);
    }

    fn finish(&self, partial: Option<&Vec<T>>) -> Vec<T> {
        let mut all = partial.cloned().unwrap_or_default();
        all.sort();
        all
    }

    fn add(&self, into: &mut Vec<T>, item: &T) {
        into.push(item.clone());
    }
}
