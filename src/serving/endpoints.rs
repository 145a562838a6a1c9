//! A set of endpoints that changes while requests flow.

use super::load::Cell;
use crate::base::{
    Rng, Seed, hash,
    sync::{
        Arc as CellArc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};
use arc_swap::ArcSwap;
use std::{fmt, sync::Arc};

/// A set of endpoints: services by key, which changes while requests flow.
///
/// A handle: clones are the same set, so that whoever learns of endpoints (a watch, a test) changes it and the patterns
/// in front of it follow. A change makes a new snapshot that the next call sees; calls under way keep the endpoint they
/// have.
///
/// **Guarantees**: a call sees the set before a change or after it, never between; a change of many is one step. Readers
/// never wait. Writers may race: each change is applied to what is there. **Not guaranteed**: that a removed service is
/// dropped at once: a handle that makes no call keeps the last snapshot it saw.
///
/// A change costs one clone of every service in the set, so apply many at once ([`update`](Self::update)).
///
/// ```
/// use seedpod::serving::Endpoints;
///
/// let endpoints = Endpoints::named("cart");
/// endpoints.insert("10.0.0.1:7070", 'a');
/// endpoints.update(|changes| {
///     changes.remove("10.0.0.1:7070");
///     changes.insert("10.0.0.2:7070", 'b');
///     changes.insert("10.0.0.3:7070", 'c');
/// });
/// assert_eq!((endpoints.version(), endpoints.len()), (2, 2));
/// ```
pub struct Endpoints<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    name: Arc<str>,
    current: ArcSwap<Snapshot<S>>,
    /// The version of `current`, on its own cache lines: handles check it at every call, and a change is rare.
    version: Apart<AtomicU64>,
    /// The state of the set's generator, from which picks without a handle draw and handles are seeded.
    chance: Apart<AtomicU64>,
}

/// On cache lines of its own: two, since processors fetch them in pairs.
#[repr(align(128))]
struct Apart<T>(T);

/// The set at one moment. Flat, so that a pick follows as few pointers as can be.
pub(crate) struct Snapshot<S> {
    pub(crate) version: u64,
    pub(crate) list: Box<[Endpoint<S>]>,
}

pub(crate) struct Endpoint<S> {
    pub(crate) cell: CellArc<Cell>,
    pub(crate) service: S,
}

impl<S> Endpoint<S> {
    fn new(cell: CellArc<Cell>, service: S) -> Self {
        cell.snapshots(1);
        Endpoint { cell, service }
    }
}

impl<S: Clone> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Endpoint::new(self.cell.clone(), self.service.clone())
    }
}

impl<S> Drop for Endpoint<S> {
    fn drop(&mut self) {
        self.cell.snapshots(-1);
    }
}

impl<S> Endpoints<S> {
    /// An empty set without a name.
    pub fn new() -> Self {
        Endpoints::named("endpoints")
    }

    /// An empty set of this name, which errors then carry. Its chance comes from the running simulation's seed, forked
    /// by the name, or from the system.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        let seed = Seed::ambient().fork("endpoints").fork(&name);
        let shared = Shared {
            name,
            current: ArcSwap::from_pointee(Snapshot { version: 0, list: Box::new([]) }),
            version: Apart(AtomicU64::new(0)),
            chance: Apart(AtomicU64::new(seed.get())),
        };
        Endpoints { shared: Arc::new(shared) }
    }

    /// Where picks draw from, instead; for a set that nobody uses yet.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.shared.chance.0.store(seed.fork("endpoints").get(), Relaxed);
        self
    }

    /// The name of the set.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn name_shared(&self) -> Arc<str> {
        self.shared.name.clone()
    }

    /// How many endpoints are in it.
    pub fn len(&self) -> usize {
        self.current().list.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys, in the order in which they came.
    pub fn keys(&self) -> Vec<Arc<str>> {
        self.current().list.iter().map(|endpoint| endpoint.cell.key().clone()).collect()
    }

    /// Whether this endpoint is in it.
    pub fn contains(&self, key: &str) -> bool {
        self.current().list.iter().any(|endpoint| **endpoint.cell.key() == *key)
    }

    /// How many changes there were; each [`insert`](Self::insert), [`remove`](Self::remove) and
    /// [`update`](Self::update) that changed something is one.
    pub fn version(&self) -> u64 {
        self.current().version
    }

    /// How many calls and leases this endpoint has in flight; none where it is not in the set.
    pub fn pending(&self, key: &str) -> Option<u32> {
        let current = self.current();
        let endpoint = current.list.iter().find(|endpoint| **endpoint.cell.key() == *key)?;
        Some(Cell::pending(&endpoint.cell))
    }

    /// The snapshot of now, for a short look.
    #[inline(always)]
    pub(crate) fn current(&self) -> arc_swap::Guard<Arc<Snapshot<S>>> {
        self.shared.current.load()
    }

    /// The snapshot of now, to keep.
    pub(crate) fn current_shared(&self) -> Arc<Snapshot<S>> {
        self.shared.current.load_full()
    }

    /// Whether a snapshot of this version is still the one of now.
    #[inline(always)]
    pub(crate) fn is_current(&self, version: u64) -> bool {
        self.shared.version.0.load(Acquire) == version
    }

    /// A generator of its own, for a handle.
    pub(crate) fn rng(&self) -> Rng {
        // each step of the shared state is a seed of its own: `Rng` mixes before it draws
        let step = self.shared.chance.0.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
        Seed::new(step).fork_index(0).rng()
    }
}

impl<S: Clone> Endpoints<S> {
    /// Puts a service in under this key. Under a key that is there already it takes the other's place: calls from now on
    /// go to it, and what is in flight under the key stays counted.
    pub fn insert(&self, key: impl Into<Arc<str>>, service: S) {
        self.update(|changes| changes.insert(key, service));
    }

    /// Takes this endpoint out. Calls under way in it go on. Where there is none, nothing changes.
    pub fn remove(&self, key: &str) {
        self.update(|changes| changes.remove(key));
    }

    /// Applies any number of changes in one step. They apply in order, when the closure has returned.
    pub fn update(&self, change: impl FnOnce(&mut Changes<S>)) {
        let mut changes = Changes(Vec::new());
        change(&mut changes);
        let mut version = None;
        // no lock: services are foreign code, and cloning or dropping one may well use this set
        self.shared.current.rcu(|old| {
            let list = changes.apply(&old.list);
            version = list.is_some().then_some(old.version + 1);
            match list {
                Some(list) => Arc::new(Snapshot { version: old.version + 1, list }),
                None => old.clone(),
            }
        });
        if let Some(version) = version {
            self.shared.version.0.fetch_max(version, Release);
        }
    }
}

impl<S> Default for Endpoints<S> {
    fn default() -> Self {
        Endpoints::new()
    }
}

impl<S> Clone for Endpoints<S> {
    fn clone(&self) -> Self {
        Endpoints { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Endpoints<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoints({}: {} in version {})", self.name(), self.len(), self.version())
    }
}

/// Changes to a set of endpoints, to be applied in one step: [`Endpoints::update`].
#[derive(Debug)]
pub struct Changes<S>(Vec<Change<S>>);

#[derive(Debug)]
enum Change<S> {
    Insert(Arc<str>, S),
    Remove(Arc<str>),
    Clear,
}

impl<S> Changes<S> {
    /// Puts a service in under this key, or in the place of the one that is there.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, service: S) {
        self.0.push(Change::Insert(key.into(), service));
    }

    /// Takes the endpoint of this key out.
    pub fn remove(&mut self, key: impl Into<Arc<str>>) {
        self.0.push(Change::Remove(key.into()));
    }

    /// Takes all out, so that what follows is the whole set. Endpoints that come back in the same step keep their place
    /// in the books.
    pub fn clear(&mut self) {
        self.0.push(Change::Clear);
    }
}

impl<S: Clone> Changes<S> {
    /// The list after the changes; none where they change nothing.
    fn apply(&self, old: &[Endpoint<S>]) -> Option<Box<[Endpoint<S>]>> {
        let mut changed = false;
        // one place per key, in the order of arrival; a gone endpoint keeps its place and its counts until the end
        let mut list: Vec<(CellArc<Cell>, Option<&S>)> =
            old.iter().map(|endpoint| (endpoint.cell.clone(), Some(&endpoint.service))).collect();
        let mut places: hash::Map<&str, usize> =
            old.iter().enumerate().map(|(place, endpoint)| (&**endpoint.cell.key(), place)).collect();
        for change in &self.0 {
            match change {
                Change::Insert(key, service) => {
                    changed = true;
                    match places.get(&**key).and_then(|place| list.get_mut(*place)) {
                        Some((_, present)) => *present = Some(service),
                        None => {
                            places.insert(key, list.len());
                            list.push((CellArc::new(Cell::new(key.clone())), Some(service)));
                        }
                    }
                }
                Change::Remove(key) => {
                    if let Some((_, present)) = places.get(&**key).and_then(|place| list.get_mut(*place)) {
                        changed |= present.take().is_some();
                    }
                }
                Change::Clear => {
                    for (_, present) in &mut list {
                        changed |= present.take().is_some();
                    }
                }
            }
        }
        let endpoint = |(cell, service): (CellArc<Cell>, Option<&S>)| Some(Endpoint::new(cell, service?.clone()));
        changed.then(|| list.into_iter().filter_map(endpoint).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_change_of_many_is_one_step_and_no_change_is_none() {
        let endpoints = Endpoints::new();
        endpoints.update(|changes| (0..100).for_each(|number| changes.insert(number.to_string(), number)));
        assert_eq!((endpoints.version(), endpoints.len()), (1, 100));
        endpoints.remove("none");
        endpoints.update(|_| ());
        assert_eq!((endpoints.version(), endpoints.is_current(1)), (1, true));
        endpoints.insert("7", 70);
        assert_eq!((endpoints.version(), endpoints.len(), endpoints.is_current(1)), (2, 100, false));
        endpoints.update(|changes| {
            changes.clear();
            changes.insert("b", 1);
            changes.insert("a", 2);
            changes.remove("b");
        });
        assert_eq!((endpoints.keys(), endpoints.version()), (vec!["a".into()], 3));
    }

    #[test]
    fn random_changes_agree_with_a_map() {
        let (mut rng, endpoints) = (Seed::new(4).rng(), Endpoints::new());
        let mut model = BTreeMap::new();
        for step in 0..20_000_u32 {
            endpoints.update(|changes| {
                for _ in 0..rng.below(4) {
                    let key = rng.below(20).to_string();
                    match rng.below(20) {
                        0 => {
                            changes.clear();
                            model.clear();
                        }
                        1..10 => {
                            changes.remove(key.as_str());
                            model.remove(&key);
                        }
                        _ => {
                            changes.insert(key.as_str(), step);
                            model.insert(key, step);
                        }
                    }
                }
            });
            let current = endpoints.current();
            let seen: BTreeMap<_, _> =
                current.list.iter().map(|endpoint| (endpoint.cell.key().to_string(), endpoint.service)).collect();
            assert_eq!((seen, current.list.len()), (model.clone(), model.len()), "step {step}");
            assert!(current.list.iter().all(|endpoint| Cell::pending(&endpoint.cell) == 0), "step {step}");
        }
    }

    #[test]
    fn what_is_in_flight_stays_counted_while_its_key_changes_hands() {
        let endpoints = Endpoints::new();
        endpoints.insert("a", 1);
        let lease = super::super::Lease::new(&endpoints.current().list[0].cell);
        let kept = endpoints.current_shared();
        endpoints.insert("a", 2);
        endpoints.update(|changes| {
            changes.clear();
            changes.insert("a", 3);
        });
        assert_eq!(endpoints.pending("a"), Some(1));
        drop((lease, kept));
        assert_eq!(endpoints.pending("a"), Some(0));
        endpoints.remove("a");
        assert_eq!(endpoints.pending("a"), None);
    }

    #[test]
    fn writers_that_race_lose_nothing() {
        let endpoints = Endpoints::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let endpoints = &endpoints;
                scope.spawn(move || (0..100).for_each(|number| endpoints.insert(format!("{thread}/{number}"), number)));
            }
        });
        assert_eq!((endpoints.len(), endpoints.version(), endpoints.is_current(400)), (400, 400, true));
    }
}
