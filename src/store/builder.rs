//! How much a store keeps beside its entries.

use super::Store;
use std::marker::PhantomData;

/// The bounds of a [`Store`].
#[derive(Debug)]
pub struct Builder<V> {
    ring: usize,
    tombstones: usize,
    values: PhantomData<fn() -> V>,
}

impl<V: Clone + Send + Sync + 'static> Builder<V> {
    /// How many changes are kept per watched prefix: how far a watcher may fall behind before it is given changed keys
    /// instead of changes. 1,024 by default (a few milliseconds of the busiest writer, a few kilobytes of handles); at
    /// least 1, and at most 16 for the watch of a whole key.
    #[must_use]
    pub fn ring(mut self, changes: usize) -> Self {
        self.ring = changes.max(1);
        self
    }

    /// How many removals are remembered, of all prefixes together: how many may pass before a watcher that is still
    /// further behind is given everything anew. 4,096 by default (four rings); at least 1. Each keeps its last value.
    #[must_use]
    pub fn tombstones(mut self, removals: usize) -> Self {
        self.tombstones = removals.max(1);
        self
    }

    /// The store.
    pub fn build(self) -> Store<V> {
        Store::bounded(self.ring, self.tombstones)
    }
}

impl<V> Default for Builder<V> {
    fn default() -> Self {
        Builder { ring: 1024, tombstones: 4096, values: PhantomData }
    }
}
