//! The handle: one lock around the table, one around each ring.

use super::{
    Builder, Change, Entry, Expect, Key, Page, Since, Snapshot, Watch, Write,
    key::normal,
    ring::{Aftermath, Ring},
    table::Table,
};
use crate::base::{
    Answer, Result, hash,
    sync::{Arc, Lock},
};
use std::{collections::BTreeMap, fmt};

/// Keyed, versioned state that can be watched, in memory. Clones are handles of the same store.
///
/// # Guarantees
/// - One writer at a time; each commit that changes something raises the store's revision by one, and every entry it
///   writes bears that revision. Revisions start at 1.
/// - [`commit`](Store::commit) is all or nothing, for readers, pages and watchers alike.
/// - Who has seen a change in a [`Watch`] finds it, or what came after it, with [`get`](Store::get).
///
/// # Bounds
/// The entries themselves are bounded by whoever writes them. What is kept beside them is bounded here: for each watched
/// prefix the latest [`ring`](Builder::ring) changes, for all prefixes together the latest
/// [`tombstones`](Builder::tombstones) removals. Who falls behind further than that loses steps, never facts.
///
/// # Values
/// Values are handed out by clone, so `V` is cheap to clone, as an `Arc`. Cloning happens while the store is locked: it
/// must not call the store. (Dropping is left until it is not locked.)
///
/// # Cost
/// About that of an insert into a `BTreeMap`, and per watched prefix above the key one push; watchers of other prefixes
/// cost nothing.
pub struct Store<V> {
    inner: Arc<Inner<V>>,
    alive: Arc<Alive<V>>,
}

pub(super) struct Inner<V> {
    pub(super) state: Lock<State<V>>,
    ring: usize,
}

pub(super) struct State<V> {
    pub(super) table: Table<V>,
    /// By prefix in normal form, while anybody watches it.
    pub(super) rings: hash::Map<Arc<str>, Arc<Lock<Ring<V>>>>,
}

/// Shared by the handles, not by the watches: its end is the end of all changes.
struct Alive<V>(Arc<Inner<V>>);

/// How far a watcher of one whole key may fall behind: catching up with one entry is no work, so its history is short.
const KEY_RING: usize = 16;

impl<V: Clone> Store<V> {
    pub(super) fn bounded(ring: usize, tombstones: usize) -> Self {
        let state = State { table: Table::new(tombstones), rings: hash::Map::default() };
        let inner = Arc::new(Inner { state: Lock::new(state), ring });
        Store { alive: Arc::new(Alive(inner.clone())), inner }
    }
}

impl<V: Clone + Send + Sync + 'static> Store<V> {
    /// An empty store with the default bounds.
    pub fn new() -> Self {
        Store::builder().build()
    }

    /// A store with other bounds.
    pub fn builder() -> Builder<V> {
        Builder::default()
    }

    /// The revision of the last commit that changed something; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.inner.state.lock().table.revision
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.inner.state.lock().table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry under this key.
    pub fn get(&self, key: &str) -> Option<Entry<V>> {
        self.inner.state.lock().table.get(key)
    }

    /// Up to `limit` entries under a [prefix](Key), from a key on (included), in the order of keys.
    ///
    /// The page is consistent; the store is locked while it is read. Two pages may differ in revision: what is there all
    /// along is listed exactly once, and who watches [`After`](Since::After) the first page's revision misses nothing.
    ///
    /// ```
    /// # use seedpod::store::Store;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let store = Store::new();
    /// for name in ["a", "b", "c"] {
    ///     store.put(["pods", name], name).await?;
    /// }
    /// let (mut names, mut from) = (Vec::new(), None);
    /// loop {
    ///     let page = store.list("pods/", from.as_ref(), 2);
    ///     names.extend(page.entries.into_iter().map(|entry| entry.value));
    ///     from = page.next;
    ///     if from.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(names, ["a", "b", "c"]);
    /// # Ok::<(), seedpod::Error>(()) }).unwrap();
    /// ```
    pub fn list(&self, prefix: &str, from: Option<&Key>, limit: usize) -> Page<V> {
        self.inner.state.lock().table.page(prefix, from, limit)
    }

    /// Everything, unmoved by later commits. Costs nothing now, and a copy of the table at the next commit while it
    /// lives: see [`Snapshot`].
    pub fn snapshot(&self) -> Snapshot<V> {
        self.inner.state.lock().table.snapshot()
    }

    /// Writes all of it or nothing. Returns the store's revision, which every written entry bears; a commit that changes
    /// nothing (it is empty, or removes only what is not there) leaves the revision as it is.
    ///
    /// # Errors
    /// [`Conflict`](crate::base::Kind::Conflict) at the first key where something else is there than expected; it names
    /// both. [`Invalid`](crate::base::Kind::Invalid) for the empty key, and for a key that stands in it twice.
    pub fn commit(&self, writes: Vec<Write<V>>) -> Answer<'_, u64> {
        Answer::now(self.apply(writes))
    }

    /// Puts a value there, whatever is there now. Returns its revision.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) for the empty key.
    pub fn put(&self, key: impl Into<Key>, value: V) -> Answer<'_, u64> {
        self.commit(vec![Write::put(key, value)])
    }

    /// Removes what is there, if anything is. Returns the store's revision.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) for the empty key.
    pub fn remove(&self, key: impl Into<Key>) -> Answer<'_, u64> {
        self.commit(vec![Write::remove(key)])
    }

    /// Computes the new value from the one that is there, again if another writer comes in between. `None` leaves it as
    /// it is. Returns what is there then. The closure runs while nothing is locked.
    ///
    /// ```
    /// # use seedpod::store::Store;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let store = Store::new();
    /// let count = |old: Option<&u32>| Some(old.map_or(1, |old| old + 1));
    /// store.update("visits", count).await?;
    /// assert_eq!(store.update("visits", count).await?.unwrap().value, 2);
    /// # Ok::<(), seedpod::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) for the empty key.
    pub fn update<'a>(
        &'a self,
        key: impl Into<Key>,
        mut change: impl FnMut(Option<&V>) -> Option<V> + Send + 'a,
    ) -> Answer<'a, Option<Entry<V>>> {
        let key = key.into();
        loop {
            let there = self.get(&key);
            let Some(value) = change(there.as_ref().map(|entry| &entry.value)) else { return Answer::ok(there) };
            let expect = there.as_ref().map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
            match self.apply(vec![Write::put(key.clone(), value.clone()).expect(expect)]) {
                Ok(revision) => {
                    let created = there.map_or(revision, |entry| entry.created);
                    return Answer::ok(Some(Entry { key, created, revision, value }));
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Answer::now(Err(error)),
            }
        }
    }

    /// Watches a [prefix](Key). From [`Start`](Since::Start) the first batch is one [`Reset`](Change::Reset) with
    /// everything; [`After`](Since::After) a revision it is what changed since, or a `Reset` where that is not known any
    /// more, or the revision is none that this store has had.
    pub fn watch(&self, prefix: &str, from: Since) -> Watch<V> {
        let prefix: Arc<str> = normal(prefix).into();
        let mut state = self.inner.state.lock();
        let State { table, rings } = &mut *state;
        let revision = table.revision;
        let whole_key = !prefix.is_empty() && !prefix.ends_with('/');
        let capacity = if whole_key { self.inner.ring.min(KEY_RING) } else { self.inner.ring };
        let ring = rings.entry(prefix.clone()).or_insert_with(|| Arc::new(Lock::new(Ring::new(capacity, revision))));
        let ring = ring.clone();
        let mut seats = ring.lock();
        let seat = seats.sit();
        let (seen, first) = match from {
            Since::After(seen) if seen <= revision && seats.rewind(seat, seen) => (seen, None),
            Since::After(seen) => match table.since(&prefix, seen) {
                Some(changes) if changes.is_empty() => (revision, None),
                Some(changes) => (seen, Some(changes)),
                None => (0, Some(vec![table.reset(&prefix)])),
            },
            Since::Start => (0, Some(vec![table.reset(&prefix)])),
        };
        drop(seats);
        drop(state);
        let first = first.map(|changes| (changes, revision));
        Watch { inner: self.inner.clone(), prefix, ring, seat, revision: seen, first }
    }

    /// How much it holds.
    pub fn stats(&self) -> Stats {
        let state = self.inner.state.lock();
        Stats {
            revision: state.table.revision,
            entries: state.table.len(),
            tombstones: state.table.remembered(),
            prefixes: state.rings.len(),
            watches: state.rings.values().map(|ring| ring.lock().taken()).sum(),
        }
    }

    fn apply(&self, writes: Vec<Write<V>>) -> Result<u64> {
        let (mut forgotten, mut after) = (Vec::new(), Aftermath::default());
        let changes; // dropped after the lock is, as all that may hold the last of a value
        let revision = {
            let mut state = self.inner.state.lock();
            state.table.check(&writes)?;
            changes = state.table.apply(writes, &mut forgotten);
            let revision = state.table.revision;
            if !state.rings.is_empty() {
                tell(&state.rings, revision, &changes, &mut after);
            }
            revision
        };
        after.run();
        Ok(revision)
    }
}

/// Pushes a commit to the rings of its keys' ancestors: to each ring once, so that nobody reads half of it.
fn tell<V: Clone>(
    rings: &hash::Map<Arc<str>, Arc<Lock<Ring<V>>>>,
    revision: u64,
    changes: &[Change<V>],
    after: &mut Aftermath<V>,
) {
    if let [change] = changes {
        for ring in prefixes(change).filter_map(|prefix| rings.get(prefix)) {
            ring.lock().push(revision, std::iter::once(change), after);
        }
        return;
    }
    let mut parts: BTreeMap<&str, (&Lock<Ring<V>>, Vec<&Change<V>>)> = BTreeMap::new();
    for change in changes {
        for (prefix, ring) in prefixes(change).filter_map(|prefix| rings.get_key_value(prefix)) {
            parts.entry(prefix).or_insert_with(|| (ring, Vec::new())).1.push(change);
        }
    }
    for (ring, part) in parts.into_values() {
        ring.lock().push(revision, part.into_iter(), after);
    }
}

/// The prefixes that cover the key of this change.
fn prefixes<V>(change: &Change<V>) -> impl Iterator<Item = &str> {
    change.entries().iter().flat_map(|entry| entry.key.ancestors())
}

impl<V> Drop for Alive<V> {
    fn drop(&mut self) {
        let mut after = Aftermath::default();
        {
            let state = self.0.state.lock();
            let mut rings: Vec<_> = state.rings.iter().collect();
            rings.sort_by_key(|(prefix, _)| *prefix); // the map's order must not decide who wakes first
            rings.into_iter().for_each(|(_, ring)| ring.lock().close(&mut after));
        }
        after.run();
    }
}

impl<V> Clone for Store<V> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone(), alive: self.alive.clone() }
    }
}

impl<V: Clone + Send + Sync + 'static> Default for Store<V> {
    fn default() -> Self {
        Store::new()
    }
}

impl<V> fmt::Debug for Store<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state.lock();
        f.debug_struct("Store").field("revision", &state.table.revision).field("watched", &state.rings.len()).finish()
    }
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The revision of the last commit that changed something.
    pub revision: u64,
    /// Entries.
    pub entries: usize,
    /// Removals that are remembered.
    pub tombstones: usize,
    /// Prefixes that are watched.
    pub prefixes: usize,
    /// Watches, of whatever prefix.
    pub watches: usize,
}
