//! What a pump watches: a prefix of a store, and which keys a change of it concerns.

use super::WorkQueue;
use crate::{
    base::time,
    store::{Change, Entry, Key, Start, Store},
};
use futures::future::BoxFuture;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Which keys are to be worked on because of a change.
pub(super) type Concerns<V> = Arc<dyn Fn(&Change<V>) -> Vec<Key> + Send + Sync>;

pub(super) struct Source<V> {
    pub(super) store: Store<V>,
    pub(super) prefix: Arc<str>,
    pub(super) concerns: Concerns<V>,
}

impl<V> Clone for Source<V> {
    fn clone(&self) -> Self {
        Source { store: self.store.clone(), prefix: self.prefix.clone(), concerns: self.concerns.clone() }
    }
}

/// A source of whatever values.
pub(super) trait Feed: Send + Sync {
    /// Adds the keys of all that is there, then of each change, and every so often those of all again; for ever.
    fn feed(&self, queue: WorkQueue<Key>, resync: Option<Duration>) -> BoxFuture<'static, ()>;
}

impl<V: Clone + Send + Sync + 'static> Feed for Source<V> {
    fn feed(&self, queue: WorkQueue<Key>, resync: Option<Duration>) -> BoxFuture<'static, ()> {
        let Source { store, prefix, concerns } = self.clone();
        Box::pin(async move {
            let mut watch = store.watch(&prefix, Start);
            let mut known = Known::default();
            let mut again = resync.map(|period| time::after(time::now(), period));
            let add = |change: &Change<V>| concerns(change).into_iter().for_each(|key| queue.add(key));
            loop {
                let over = async {
                    match again {
                        Some(at) => time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = over => {
                        known.all().for_each(|change| add(&change));
                        again = resync.map(|period| time::after(time::now(), period));
                    }
                    batch = watch.next() => match batch {
                        Some(batch) => batch.into_iter().for_each(|change| known.apply(change, add)),
                        None => return std::future::pending().await,
                    },
                }
            }
        })
    }
}

/// What a watch has told, so that a change can be told with what was before, whatever the watch has skipped.
struct Known<V>(BTreeMap<Key, Entry<V>>);

impl<V> Default for Known<V> {
    fn default() -> Self {
        Known(BTreeMap::new())
    }
}

impl<V: Clone> Known<V> {
    /// Tells a change as single puts and removals: a reset as what it makes different, a put with the value before.
    fn apply(&mut self, change: Change<V>, mut tell: impl FnMut(&Change<V>)) {
        match change {
            Change::Put { entry, old } => {
                let before = self.0.insert(entry.key.clone(), entry.clone());
                tell(&Change::Put { entry, old: old.or(before.map(|entry| entry.value)) });
            }
            Change::Remove(entry) => {
                self.0.remove(&entry.key);
                tell(&Change::Remove(entry));
            }
            Change::Reset { entries, revision } => {
                let mut before = std::mem::take(&mut self.0);
                for entry in entries {
                    let old = before.remove(&entry.key);
                    self.0.insert(entry.key.clone(), entry.clone());
                    if old.as_ref().is_none_or(|old| old.revision != entry.revision) {
                        tell(&Change::Put { entry, old: old.map(|old| old.value) });
                    }
                }
                before.into_values().for_each(|gone| tell(&Change::Remove(Entry { revision, ..gone })));
            }
        }
    }

    /// Everything once more, as puts that change nothing.
    fn all(&self) -> impl Iterator<Item = Change<V>> {
        self.0.values().map(|entry| Change::Put { entry: entry.clone(), old: Some(entry.value.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_told_as_what_it_makes_different() {
        let entry = |key: &str, revision| Entry { key: Key::new(key), created: 1, revision, value: revision };
        let mut known = Known::default();
        let mut told = Vec::new();
        known.apply(Change::Reset { entries: vec![entry("a", 1), entry("b", 2), entry("c", 3)], revision: 3 }, |_| ());
        known.apply(Change::Put { entry: entry("b", 4), old: None }, |change| told.push(change.clone()));
        known.apply(
            Change::Reset { entries: vec![entry("a", 1), entry("b", 7), entry("d", 8)], revision: 9 },
            |change| {
                told.push(change.clone());
            },
        );
        let wanted = [
            Change::Put { entry: entry("b", 4), old: Some(2) },
            Change::Put { entry: entry("b", 7), old: Some(4) },
            Change::Put { entry: entry("d", 8), old: None },
            Change::Remove(Entry { revision: 9, ..entry("c", 3) }),
        ];
        assert_eq!(told, wanted);
        assert_eq!(known.all().count(), 3);
    }
}
