//! What all handles of the same shards have in common.

use super::super::{
    Endpoints,
    shard::{Place, ShardMap},
};
use super::{
    Moved, ShardMaps,
    bounded::{Counts, dues},
    measure::Measure,
    settings::Settings,
    view::View,
};
use crate::base::{
    Deadline, Error, Kind, Result,
    sync::{
        Lock,
        atomic::{
            AtomicU32,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::{self, Instant},
};
use arc_swap::ArcSwapOption;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Waits between two attempts at an endpoint that knows an older map than its router: doubling, from and up to these.
const LAG: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

pub(super) struct Core<S, R, C> {
    pub(super) maps: ShardMaps,
    pub(super) endpoints: Endpoints<S>,
    pub(super) route: R,
    pub(super) classify: C,
    pub(super) settings: Settings,
    pub(super) measure: Option<Measure>,
    view: ArcSwapOption<View<S>>,
    /// How many requests wait for a newer map.
    held: AtomicU32,
    /// In flight in all shards, and in each by name: kept from map to map.
    all: Arc<AtomicU32>,
    each: Lock<BTreeMap<Arc<str>, Arc<AtomicU32>>>,
}

impl<S, R, C> Core<S, R, C> {
    pub(super) fn new(maps: ShardMaps, endpoints: Endpoints<S>, route: R, classify: C, settings: Settings) -> Self {
        Core {
            measure: settings.measured.map(Measure::one_in),
            maps,
            endpoints,
            route,
            classify,
            settings,
            view: ArcSwapOption::empty(),
            held: AtomicU32::new(0),
            all: Arc::default(),
            each: Lock::default(),
        }
    }

    /// Whether this is what counts now.
    #[inline(always)]
    pub(super) fn is_current(&self, view: &View<S>) -> bool {
        self.maps.is_current(view.map.version()) && self.endpoints.is_current(view.set.version)
    }

    /// The map and the endpoints of now.
    #[cold]
    pub(super) fn view(&self) -> Arc<View<S>> {
        if let Some(view) = self.view.load_full().filter(|view| self.is_current(view)) {
            return view;
        }
        let (map, set) = (self.maps.current(), self.endpoints.current_shared());
        let last = self.view.load_full().filter(|last| last.map.version() == map.version());
        let loads = self.settings.bound.map(|bound| {
            let dues = last.and_then(|last| last.loads.as_ref().map(Counts::dues)).unwrap_or_else(|| dues(&map));
            let mut known = self.each.lock();
            let count = |name: &Arc<str>| known.entry(name.clone()).or_default().clone();
            let each = map.shards().iter().map(|shard| &shard.name).map(count).collect();
            known.retain(|_, count| Arc::strong_count(count) > 1); // of shards that are gone, with nothing in flight
            Counts::new(bound, self.all.clone(), each, dues)
        });
        let view = Arc::new(View::new(map, set, loads));
        self.view.store(Some(view.clone()));
        view
    }

    #[inline(always)]
    pub(super) fn count(&self, map: &ShardMap, place: Place) {
        if let Some(measure) = &self.measure {
            measure.count(map, place);
        }
    }

    /// When a request that a fence has refused is given up.
    pub(super) fn patience(&self, deadline: Option<Deadline>) -> Instant {
        let hold = time::after(time::now(), self.settings.hold);
        deadline.map_or(hold, |deadline| deadline.instant().min(hold))
    }

    /// Waits until it makes sense to send a request again that was refused: until the map that was named counts, or, where
    /// the endpoint is behind, for a moment.
    ///
    /// # Errors
    /// When the patience is over, or too many wait already.
    pub(super) async fn wait(&self, moved: Moved, version: u64, tries: u32, until: Instant) -> Result {
        let _held = Held::one_more(&self.held, self.settings.held)?;
        let again = async {
            if moved.version() > version {
                self.maps.at_least(moved.version()).await;
            } else {
                time::sleep(LAG.1.min(LAG.0 * 2_u32.saturating_pow(tries))).await;
            }
        };
        // biased to the map: one that came at the last moment counts
        tokio::select! {
            biased;
            () = again => Ok(()),
            () = time::sleep_until(until) => Err(late(moved, version)),
        }
    }

    pub(super) fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }
}

#[cold]
fn late(moved: Moved, version: u64) -> Error {
    let message = match moved.version() > version {
        true => format!("map {} has not come in time, this one is {version}", moved.version()),
        false => format!("the shard has not learnt map {version} in time"),
    };
    Error::new(Kind::Unavailable, message).because(moved)
}

/// The shard that this key was sent to under a map does not own it under that very map, as its error says: to ask again would
/// be in vain.
#[cold]
pub(super) fn astray(map: &ShardMap, key: &[u8], moved: Moved, error: &Error) -> Error {
    let place = map.locate(key);
    let of = match place.slot() {
        Some(slot) => slot.to_string(),
        None => map.parts().nth(place.index()).map_or_else(String::new, |(span, _)| span.to_string()),
    };
    let message = format!("it does not own {of} under map {}, nor does it say who does", moved.version());
    let astray = Error::new(Kind::Conflict, message);
    match error.place() {
        Some(shard) => astray.at(shard),
        None => astray,
    }
}

/// One request that waits, until dropped.
struct Held<'a>(&'a AtomicU32);

impl<'a> Held<'a> {
    fn one_more(held: &'a AtomicU32, most: u32) -> Result<Self> {
        let taken = held.fetch_update(AcqRel, Relaxed, |count| (count < most).then_some(count + 1));
        match taken {
            Ok(_) => Ok(Held(held)),
            Err(count) => {
                let message = format!("{count} requests wait for a newer map, and no more may");
                Err(Error::new(Kind::Overloaded, message).unsent())
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}
