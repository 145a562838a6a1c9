//! The same key to the same endpoint.

use super::{Choice, Picker};
use crate::{
    base::{Seed, hash},
    serving::{Among, Draw, snapshot::Snapshot},
};
use std::fmt;

/// The same key to the same endpoint, as long as it can be picked: a ring of hashes.
///
/// For caches that each hold a part, and for whatever is better at what it has seen before. Where an endpoint goes or
/// cannot be picked, its keys alone move, spread over the others; they come back when it does.
///
/// ```
/// use seedpod::serving::{Replicas, Ring};
///
/// let caches = Replicas::named("caches").pick_by(Ring::by(|url: &str| url.as_bytes()));
/// caches.endpoints().update(|changes| {
///     for key in ["a", "b", "c"] {
///         changes.insert(key, ());
///     }
/// });
/// let owner = |url: &str| caches.pick_for(url).map(|picked| picked.key().to_owned());
/// assert_eq!(owner("/cat.png"), owner("/cat.png"));
/// ```
///
/// **Guarantees**: each endpoint has 160 points for each unit of its weight (Ketama's; 16,384 at most), which depend on
/// its key and weight alone: handles and processes that share nothing agree. A new endpoint that is
/// [warming](super::super::SlowStart) takes its keys one by one. **Not guaranteed**: equal shares; the most loaded of
/// ten gets about an eighth more than the mean.
///
/// The points are placed anew when the set changes, by the first pick after it: 0.2 ms for ten endpoints, 6 ms for a
/// thousand. Readiness, ejection and warming place nothing anew.
#[derive(Clone)]
pub struct Ring<F> {
    hash: F,
}

/// Points for each unit of weight.
const POINTS: usize = 160;

/// The most points of one endpoint.
const POINTS_MAX: usize = 16_384;

impl Ring<()> {
    /// By these bytes of the request.
    pub fn by<Req: ?Sized, F>(key: F) -> Ring<impl Fn(&Req) -> u64 + Clone>
    where
        F: Fn(&Req) -> &[u8] + Clone,
    {
        Ring { hash: move |request: &Req| hash::of(key(request)) }
    }

    /// By this number made of the request; it is hashed once more.
    pub fn by_number<Req: ?Sized, F: Fn(&Req) -> u64 + Clone>(number: F) -> Ring<impl Fn(&Req) -> u64 + Clone> {
        Ring { hash: move |request: &Req| Seed::new(number(request)).fork_index(0).get() }
    }
}

impl<F> fmt::Debug for Ring<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring(..)")
    }
}

impl<Req: ?Sized, F: Fn(&Req) -> u64> Picker<Req> for Ring<F> {
    fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice> {
        let point = (self.hash)(request);
        let circle = among.snapshot.circle.get_or_init(|| Circle::new(among.snapshot));
        let walk = || circle.walk(point, among.len());
        let Some(owner) = walk().find(|place| among.is_pickable(*place)) else {
            return among.one(draw).map(Choice::of);
        };
        // whether a warming owner takes the key yet depends on the key: it moves once, not back and forth
        let coin = (Seed::new(point).fork_index(1).get() >> 32) as u32;
        if among.admits(owner, coin) {
            return Some(Choice::of(owner));
        }
        let warm = walk().find(|place| among.is_pickable(*place) && !among.is_warming(*place));
        warm.or(Some(owner)).map(Choice::of)
    }
}

/// The points of all endpoints, in the order of their hashes.
pub(crate) struct Circle(Box<[(u64, u32)]>);

impl Circle {
    /// One sort of all points: the crate `consistent_hash_ring` inserts them one by one into a sorted list, which takes
    /// seconds for a thousand endpoints.
    pub(crate) fn new<S>(set: &Snapshot<S>) -> Self {
        let mut points = Vec::new();
        for (place, endpoint) in set.list.iter().enumerate() {
            let seed = Seed::new(hash::of(endpoint.cell.key().as_bytes()));
            let count = (POINTS * set.sampling.weight(place) as usize).min(POINTS_MAX);
            points.extend((0..count as u64).map(|index| (seed.fork_index(index).get(), place as u32)));
        }
        points.sort_unstable();
        Circle(points.into())
    }

    /// The places in the order in which they follow this point, each once.
    pub(super) fn walk(&self, point: u64, places: usize) -> impl Iterator<Item = usize> {
        let start = self.0.partition_point(|(at, _)| *at < point);
        let (before, after) = self.0.split_at_checked(start).unwrap_or_default();
        let first = after.iter().chain(before).next().map(|(_, place)| *place as usize);
        let mut seen = Vec::new(); // of all places, once the first is not taken
        let others = after.iter().chain(before).filter_map(move |(_, place)| {
            if seen.is_empty() {
                seen.resize(places, false);
            }
            let seen = seen.get_mut(*place as usize)?;
            (!std::mem::replace(seen, true)).then_some(*place as usize)
        });
        first.into_iter().chain(others.skip(1))
    }
}
