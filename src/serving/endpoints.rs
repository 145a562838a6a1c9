//! A set of endpoints that changes while requests flow.

#[cfg(seedpod_loom)]
use super::loom_swap::{ArcSwap, Guard};
use super::{
    Description, Detector,
    cell::{Cell, state},
    eject::Routes,
    snapshot::{Endpoint, Snapshot},
};
use crate::base::{
    Error, Kind, Rng, Seed,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
    time::{self, sleep},
};
#[cfg(not(seedpod_loom))]
use arc_swap::{ArcSwap, Guard};
use std::{
    fmt,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::Notify;

mod changing;

/// How often [`Endpoints::drained`] looks.
const DRAINED_PERIOD: Duration = Duration::from_millis(5);

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
/// Each endpoint has [`Attributes`](super::Attributes): weight, zone, version, labels, readiness. Who only becomes ready or not, by a
/// probe's word ([`set_ready`](Self::set_ready)), costs no change. Who fails too much is [ejected](Self::eject) for a
/// while, where that is asked for. Before an endpoint is taken out it can be [drained](Self::drain).
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
    pub(super) shared: Arc<Shared<S>>,
}

pub(super) struct Shared<S> {
    name: Arc<str>,
    current: ArcSwap<Snapshot<S>>,
    /// The version of `current`, on its own cache lines: handles check it at every call, and a change is rare.
    version: Apart<AtomicU64>,
    /// The state of the set's generator, from which picks without a handle draw and handles are seeded.
    pub(super) chance: Apart<AtomicU64>,
    changed: Notify,
    /// Who fails, once [`Endpoints::eject`] was called.
    pub(super) detector: OnceLock<Detector>,
    /// Who fails on which route, once anybody asks for it.
    pub(super) routes: OnceLock<Routes>,
}

impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        // what shows who is out holds the endpoints' counts, and they hold it
        if let Some(detector) = self.detector.get() {
            detector.roll(time::now(), |_| ());
        }
        if let Some(routes) = self.routes.get() {
            routes.muster(|| (Box::new(|_, detector| detector.roll(time::now(), |_| ())), ()));
        }
    }
}

/// On cache lines of its own: two, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct Apart<T>(pub(super) T);

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
            current: ArcSwap::from_pointee(Snapshot::empty(time::now())),
            version: Apart(AtomicU64::new(0)),
            chance: Apart(AtomicU64::new(seed.get())),
            changed: Notify::new(),
            detector: OnceLock::new(),
            routes: OnceLock::new(),
        };
        Endpoints { shared: Arc::new(shared) }
    }

    /// Where picks draw from, instead; for a set that nobody uses yet.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.shared.chance.0.store(seed.fork("endpoints").get(), Relaxed);
        if let Some(detector) = self.shared.detector.get() {
            detector.reseed(seed);
        }
        if let Some(routes) = self.shared.routes.get() {
            routes.reseed(seed.fork("routes"));
        }
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

    /// Waits until the set has another version than this one, and gives that. Changes that follow one another fast are
    /// seen as one.
    ///
    /// **Cancel-safety**: safe.
    pub async fn changed(&self, version: u64) -> u64 {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable(); // before looking, so that no change falls in between
            match self.version() {
                same if same == version => changed.await,
                other => return other,
            }
        }
    }

    /// How many calls and leases this endpoint has in flight; none where it is not in the set.
    pub fn pending(&self, key: &str) -> Option<u32> {
        Some(Cell::pending(&self.current().find(key)?.cell))
    }

    /// What each endpoint is like, in the order in which they came.
    pub fn describe(&self) -> Vec<Description> {
        let (current, now) = (self.current(), time::now());
        (0..current.list.len()).filter_map(|place| current.describe(place, now)).collect()
    }

    /// A probe's word: whether this endpoint takes calls. From the next pick on, without a new version of the set. It
    /// stands until the next word, also where the service under the key is replaced; where the endpoint comes back
    /// into the set later, it is ready again. False where there is no such endpoint.
    ///
    /// Each word that it is ready says that it has been found well just now, so that it also ends an
    /// [ejection](Self::eject), unless the settings [say otherwise](super::Ejection::heal): do not repeat it on the
    /// strength of an earlier check.
    pub fn set_ready(&self, key: &str, ready: bool) -> bool {
        self.note_ready(key, ready, ready)
    }

    /// Whether this endpoint takes calls, and apart from that whether it has been found well just now: that alone ends an
    /// ejection.
    pub(super) fn note_ready(&self, key: &str, ready: bool, well: bool) -> bool {
        let current = self.current();
        let Some(endpoint) = current.find(key) else { return false };
        let changed = endpoint.cell.mark(state::UNREADY, !ready);
        if ready && changed && current.warm.is_some() {
            endpoint.cell.warm(time::now());
        }
        if let Some(watched) = endpoint.cell.watched().filter(|_| well) {
            watched.heal(time::now());
        }
        if changed {
            self.call_roll();
        }
        true
    }

    /// Waits until this endpoint has nothing in flight and gets nothing new: it is draining, or has been taken out. At
    /// once where there is no such endpoint.
    ///
    /// It looks every 5 ms, so that no call pays for it. **Cancel-safety**: safe.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where the endpoint takes calls: nobody has asked it to [drain](Self::drain), or it was put in
    /// anew meanwhile.
    pub async fn drained(&self, key: &str) -> Result<(), Error> {
        let Some(watched) = self.current().find(key).map(Endpoint::witness) else { return Ok(()) };
        loop {
            let draining = self.current().about(key).is_none_or(|about| about.weight() == 0);
            if !draining {
                return Err(Error::new(Kind::Conflict, "it is not draining").at(key));
            }
            if Cell::pending(&watched.cell) == 0 {
                return Ok(());
            }
            sleep(DRAINED_PERIOD).await;
        }
    }

    /// The snapshot of now, for a short look.
    #[inline(always)]
    pub(crate) fn current(&self) -> Guard<Arc<Snapshot<S>>> {
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

#[cfg(all(test, seedpod_loom))]
mod loom_model;

#[cfg(test)]
mod tests;
