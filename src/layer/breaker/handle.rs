//! The circuits of one layer, and their live side.

use super::circuit::{Core, Explained, Forced, Permit, Trip};
use crate::base::{
    Result, Rng, Seed,
    sync::{
        Arc, Lock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{self, Instant},
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// How many keys are told apart, unless said otherwise.
const KEYS: usize = 1024;

pub(super) type Cell = Lock<Core>;

pub(super) struct Shared<K> {
    pub(super) name: Arc<str>,
    pub(super) cells: Lock<Cells<K>>,
    turns: AtomicU64,
    refused: AtomicU64,
}

pub(super) struct Cells<K> {
    of: BTreeMap<K, Arc<Cell>>,
    /// Where those go for whom there is none.
    rest: Arc<Cell>,
    trip: Trip,
    pub(super) rng: Rng,
    pub(super) most: usize,
    /// The idle are looked for only when twice as many have come as were needed the last time.
    sweep_at: usize,
}

impl<K> Shared<K> {
    pub(super) fn new(name: Arc<str>, trip: Trip, seed: Seed) -> Self {
        let mut rng = seed.rng();
        let rest = Arc::new(Lock::new(Core::new(trip.clone(), rng.fork(), time::now())));
        let cells = Cells { of: BTreeMap::new(), rest, trip, rng, most: KEYS, sweep_at: 0 };
        Shared { name, cells: Lock::new(cells), turns: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// The same settings for other keys, with nothing counted.
    pub(super) fn anew<L>(&self) -> Shared<L> {
        let mut cells = self.cells.lock();
        let (trip, most, seed) = (cells.trip.clone(), cells.most, Seed::new(cells.rng.next_u64()));
        let shared = Shared::new(self.name.clone(), trip, seed);
        shared.cells.lock().most = most;
        shared
    }

    pub(super) fn admit(&self, cell: &Cell, now: Instant) -> Result<Permit, Option<Duration>> {
        let admitted = self.change(cell, |core| core.admit(now));
        if admitted.is_err() {
            self.refused.fetch_add(1, Relaxed);
        }
        admitted
    }

    pub(super) fn settle(&self, cell: &Cell, permit: Permit, failed: Option<bool>, now: Instant) {
        self.change(cell, |core| {
            let slow = now.saturating_duration_since(permit.start) >= core.trip.slow_after;
            core.settle(permit, failed.map(|failed| (failed, slow)), now);
        });
    }

    /// Changes a circuit, and tells of a turn that it takes: not under the lock.
    fn change<T>(&self, cell: &Cell, change: impl FnOnce(&mut Core) -> T) -> T {
        let (changed, turn) = {
            let mut core = cell.lock();
            (change(&mut core), core.turn.take())
        };
        if let Some(turn) = turn {
            self.turns.fetch_add(1, Relaxed);
            tracing::info!(breaker = &*self.name, from = %turn.from, to = %turn.to, why = %turn.why, "a circuit changes");
        }
        changed
    }
}

impl<K: Ord> Shared<K> {
    /// This key's circuit.
    #[inline]
    pub(super) fn cell(&self, key: K, now: Instant) -> Arc<Cell> {
        self.cells.lock().cell(key, now)
    }
}

impl<K: Ord> Cells<K> {
    fn cell(&mut self, key: K, now: Instant) -> Arc<Cell> {
        if let Some(cell) = self.of.get(&key) {
            return cell.clone();
        }
        if self.of.len() >= self.sweep_at.min(self.most) {
            // who is handed out stays: it is so only under this lock, so the count is exact
            self.of.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.lock().is_idle(now));
            self.sweep_at = (2 * self.of.len()).max(16);
        }
        if self.of.len() >= self.most {
            return self.rest.clone();
        }
        let cell = Arc::new(Lock::new(Core::new(self.trip.clone(), self.rng.fork(), now)));
        self.of.insert(key, cell.clone());
        cell
    }
}

/// The live side of [`BreakerLayer`](super::BreakerLayer).
pub struct BreakerHandle<K = ()>(pub(super) Arc<Shared<K>>);

impl BreakerHandle {
    /// Where it stands, since when, until when, and why.
    pub fn explain(&self) -> Explained {
        self.0.cell((), time::now()).lock().explain(time::now())
    }

    /// Holds it in this state, or with none lets it go: closed, with nothing counted.
    pub fn force(&self, forced: Option<Forced>) {
        self.force_of((), forced);
    }

    /// Closes it, with nothing counted.
    pub fn reset(&self) {
        self.reset_of(());
    }
}

impl<K: Ord> BreakerHandle<K> {
    /// Where this key's circuit stands; none where there is none: as if closed, with nothing counted.
    pub fn explain_of(&self, key: &K) -> Option<Explained> {
        let cell = self.0.cells.lock().of.get(key).cloned();
        cell.map(|cell| cell.lock().explain(time::now()))
    }

    /// Where each circuit stands.
    pub fn explain_all(&self) -> Vec<(K, Explained)>
    where
        K: Clone,
    {
        let now = time::now();
        self.0.cells.lock().of.iter().map(|(key, cell)| (key.clone(), cell.lock().explain(now))).collect()
    }

    /// Holds this key's circuit in this state, or with none lets it go: closed, with nothing counted.
    pub fn force_of(&self, key: K, forced: Option<Forced>) {
        let now = time::now();
        let cell = self.0.cell(key, now);
        self.0.change(&cell, |core| core.force(forced, now));
    }

    /// Closes this key's circuit, with nothing counted.
    pub fn reset_of(&self, key: K) {
        let now = time::now();
        let cell = self.0.cell(key, now);
        self.0.change(&cell, |core| core.reset(now));
    }

    /// The settings.
    pub fn settings(&self) -> Trip {
        self.0.cells.lock().trip.clone()
    }

    /// Changes the settings of all circuits while calls flow. The counts are kept, unless the window is another; who is
    /// open stays so for the time said when it opened.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) for settings that make no sense; then nothing has changed.
    pub fn set(&self, trip: Trip) -> Result {
        trip.check()?;
        let now = time::now();
        let mut cells = self.0.cells.lock();
        cells.of.values().chain([&cells.rest]).for_each(|cell| cell.lock().set(trip.clone(), now));
        cells.trip = trip;
        Ok(())
    }

    /// How often a circuit has changed its state.
    pub fn turns(&self) -> u64 {
        self.0.turns.load(Relaxed)
    }

    /// How many calls have been refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// How many keys have a circuit at the moment.
    pub fn keys(&self) -> usize {
        self.0.cells.lock().of.len()
    }
}

impl<K> Clone for BreakerHandle<K> {
    fn clone(&self) -> Self {
        BreakerHandle(self.0.clone())
    }
}

impl<K> fmt::Debug for BreakerHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, turns, refused) = (&self.0.name, self.0.turns.load(Relaxed), self.0.refused.load(Relaxed));
        write!(f, "Breaker({name}; {turns} turns, {refused} refused)")
    }
}
