//! One result for each key.

use super::Reduce;
use crate::flow::Item;
use std::{collections::BTreeMap, fmt};

/// Reduces the items of each key by themselves.
///
/// ```
/// use seedpod::flow::{Count, Group, Reduce};
/// let by_length = Group::by(|word: &&str| word.len() as u32, Count);
/// assert_eq!(by_length.all(&["a", "bc", "d"]), [(1, 2), (2, 1)].into());
/// ```
#[derive(Clone, Copy)]
pub struct Group<F, R> {
    key: F,
    each: R,
}

impl Group<(), ()> {
    /// By this key of each item, and for each key so.
    pub fn by<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static, R: Reduce<T>>(key: F, each: R) -> Group<F, R> {
        Group { key, each }
    }
}

impl<T, K: Item + Ord, F: Fn(&T) -> K + Send + Sync + 'static, R: Reduce<T>> Reduce<T> for Group<F, R> {
    type Partial = BTreeMap<K, R::Partial>;
    type Out = BTreeMap<K, R::Out>;

    fn one(&self, item: &T) -> Self::Partial {
        BTreeMap::from([((self.key)(item), self.each.one(item))])
    }

    fn merge(&self, into: &mut Self::Partial, mut other: Self::Partial) {
        if other.len() > into.len() {
            std::mem::swap(into, &mut other);
        }
        for (key, other) in other {
            match into.get_mut(&key) {
                Some(into) => self.each.merge(into, other),
                None => drop(into.insert(key, other)),
            }
        }
    }

    fn finish(&self, partial: Option<&Self::Partial>) -> Self::Out {
        let all = partial.into_iter().flatten();
        all.map(|(key, partial)| (key.clone(), self.each.finish(Some(partial)))).collect()
    }

    fn add(&self, into: &mut Self::Partial, item: &T) {
        let key = (self.key)(item);
        match into.get_mut(&key) {
            Some(into) => self.each.add(into, item),
            None => drop(into.insert(key, self.each.one(item))),
        }
    }
}

impl<F, R: fmt::Debug> fmt::Debug for Group<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("each", &self.each).finish_non_exhaustive()
    }
}
