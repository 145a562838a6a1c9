//! Keys to the shard that owns them.

use super::{Endpoints, ShardKey, ShardMap, shard::Loads};
use crate::{
    base::{BoxError, Error, Result},
    layer::{Classify, Metadata, Standard},
};
use core::Core;
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

mod batch;
mod bounded;
mod core;
mod course;
mod fence;
mod fenced;
#[cfg(feature = "http")]
mod http;
mod leaves;
mod maps;
mod measure;
mod moved;
mod mover;
mod moving;
mod rebalance;
mod route;
mod routing;
mod settings;
mod steps;
mod view;

pub use batch::{Batched, Each, Merged};
pub use fence::{Fence, Pass};
pub use fenced::{FenceLayer, Fenced, Passing};
#[cfg(feature = "http")]
pub use http::{MAP_VERSION, Versioned};
pub use leaves::ShardLeaves;
pub use maps::ShardMaps;
pub use moved::Moved;
pub use mover::Mover;
pub use moving::Moving;
pub use rebalance::{Rebalance, Rebalanced};
pub use route::{By, Computed, Route};
pub use routing::Routing;

use bounded::Bound;
use settings::Settings;
use view::View;

/// Sends each request to the shard that owns its key, and goes on doing so while keys move between shards.
///
/// Use it where data is too much for one instance and every key lives in one place: a store, a cache, a session table. A
/// shard is an endpoint of the map's name for it; it may be [`Replicas`](super::Replicas), or anything else that is a
/// service.
///
/// ```text
///            key ─hash─► slot ─map─► owner            ┌─► s0
/// Shards ──────────────────────────────────► s1 ──────┼─► s1 ✓
///                                                     └─► s2      only s1 must be ready
/// ```
///
/// ```
/// use seedpod::{Error, layer::Request, serving::{Endpoints, ShardMap, Shards}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let endpoints = Endpoints::named("carts");
/// for name in ["s0", "s1", "s2"] {
///     endpoints.insert(name, service_fn(move |_: Request<&'static str>| async move { Ok::<_, Error>(name) }));
/// }
/// let map = ShardMap::planned(["s0", "s1", "s2"]).build()?;
/// let mut shards = Shards::new(map, |request: &Request<&'static str>| *request.message(), endpoints);
/// let owner = shards.call(Request::new("ann")).await?;
/// assert_eq!(shards.call(Request::new("ann")).await?, owner, "always the same one");
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
///
/// **While keys move**, by [`rebalance`](Self::rebalance), a part at a time:
///
/// ```text
/// router       map 6 ──────────────────────────────┬─ map 7 ───────────────────
///                                 held requests ───┴──► sent to s3
/// s1 (old)     serves ──copy──► serves ─┤ sealed ···· refuses: moved, map 7
/// s3 (new)     refuses                       hand over ┤ serves ─────────────
///                                                   commit          clean s1
/// ```
///
/// The old owner serves while its data is copied. Then its [`Fence`] is sealed: who is inside is waited for, who comes is
/// refused. What changed since the copy is handed over, and the next map is published: that is the one moment at which the
/// part changes hands. Requests that were refused wait for that map, and go to the new owner.
///
/// **Guarantees**
/// - Under one map a key has the same owners, in the same order, at every router. Each request sees one map and one set of
///   endpoints.
/// - Only the shard that the request needs must be ready; the others may hang or be away.
/// - With [fences](FenceLayer) in front of the data: at every moment at most one shard serves a key (of several copies, only
///   its owners by one map), also while it moves, whatever crashes, and also for routers that have an old map. A write that
///   was answered is seen by every later read of that copy. An old owner that crashes in the middle of a move and comes back
///   with a [fence made anew](Fence) begins as described there.
/// - No request fails because keys move: it waits, at most as long as its deadline or [`hold`](Self::hold) says.
/// - Of several copies the first one in the map that takes calls is asked; who is not ready, ejected, draining, or was
///   tried by an earlier attempt of the same request stands behind those that are not. Whose fence refused, since keys move,
///   was not tried.
/// - Always ready: the endpoint is cloned once per attempt and made ready inside the call.
///
/// **Not guaranteed**: that copies are alike, which is the shards' own affair; that a request which cannot be repeated
/// ([`Metadata::repeat`]) survives a move of its key.
///
/// # Errors
/// [`Kind::Unavailable`](crate::base::Kind::Unavailable) naming the shard, where the map names an owner that has no
/// endpoint, or that takes no calls: such a request [was not sent](Error::is_unsent); and where the map that a fence named
/// has not come in time. [`Kind::Overloaded`](crate::base::Kind::Overloaded) where the shard is at its
/// [bound](Self::bounded), or too many wait. [`Kind::Conflict`](crate::base::Kind::Conflict), at once, where a fence that goes
/// by the same map denies that the shard owns the key: its route finds another key than this one, or the request has several
/// of several shards. An endpoint's error carries its name.
pub struct Shards<S, R, C = Standard> {
    core: Arc<Core<S, R, C>>,
    seen: Option<Arc<View<S>>>,
}

impl<S, F> Shards<S, By<F>> {
    /// Routed by this map, by the key that this function borrows from a request, to the endpoints of the shards' names.
    pub fn new<Req, K>(maps: impl Into<ShardMaps>, key: F, endpoints: Endpoints<S>) -> Self
    where
        F: Fn(&Req) -> &K,
        K: ShardKey + ?Sized,
    {
        Shards::routed(maps, By::new(key), endpoints)
    }
}

impl<S, R> Shards<S, R> {
    /// The same by any [`Route`]: [`Computed`] makes the key from the request.
    pub fn routed(maps: impl Into<ShardMaps>, route: R, endpoints: Endpoints<S>) -> Self {
        Shards { core: Arc::new(Core::new(maps.into(), endpoints, route, Standard, Settings::default())), seen: None }
    }
}

impl<S, R: Clone, C: Clone> Shards<S, R, C> {
    /// Reads results by this classifier instead of by the error alone.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> Shards<S, R, D> {
        let core = &*self.core;
        self.with(classify, core.settings.clone())
    }

    /// The longest that a request waits for a newer map, where its deadline does not come sooner: 10 s by default.
    #[must_use]
    pub fn hold(self, hold: Duration) -> Self {
        self.set(|settings| settings.hold = hold)
    }

    /// How many requests may wait for a newer map at a time: 10,000 by default (linkerd's request queue). Who is one too
    /// many is refused as overloaded.
    #[must_use]
    pub fn held_max(self, held: u32) -> Self {
        self.set(|settings| settings.held = held)
    }

    /// No shard gets more than ⌈factor × its due⌉ of what is in flight in all of them. Of several copies the less loaded of
    /// two drawn at random is asked first, then the others; where all are full, the request is refused.
    ///
    /// Shards that own something are due by their weights, so that equal ones are due the mean. Where somebody has planned
    /// who owns what, whoever owns more than its weight says is due that instead: while keys move to shards that were added,
    /// those that still have them may go on serving them.
    ///
    /// Envoy's and HAProxy's usual factor is 1.2 to 2.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) for a factor below 1.
    pub fn bounded(self, factor: f64) -> Result<Self> {
        let bound = Bound::new(factor, false)?;
        Ok(self.set(|settings| settings.bound = Some(bound)))
    }

    /// The same, and what is too much for a key's owners goes to the others that own something, along the key's
    /// [walk](ShardMap::walk); so does what they cannot take since they are not ready or ejected. For caches, where any shard
    /// can answer and the owner is only the best: a [fence](FenceLayer) would refuse what is not its shard's.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) for a factor below 1.
    pub fn spilling(self, factor: f64) -> Result<Self> {
        let bound = Bound::new(factor, true)?;
        Ok(self.set(|settings| settings.bound = Some(bound)))
    }

    /// Counts one in so many requests to its slot: [`loads`](Self::loads) tells what came together.
    #[must_use]
    pub fn measured(self, one_in: u32) -> Self {
        self.set(|settings| settings.measured = Some(one_in))
    }

    fn set(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.core.settings.clone();
        set(&mut settings);
        let classify = self.core.classify.clone();
        self.with(classify, settings)
    }

    fn with<D>(&self, classify: D, settings: Settings) -> Shards<S, R, D> {
        let (maps, endpoints) = (self.core.maps.clone(), self.core.endpoints.clone());
        Shards { core: Arc::new(Core::new(maps, endpoints, self.core.route.clone(), classify, settings)), seen: None }
    }
}

impl<S, R, C> Shards<S, R, C> {
    /// The maps that it is routed by: publish or follow a newer one there.
    pub fn maps(&self) -> &ShardMaps {
        &self.core.maps
    }

    /// The map of now.
    pub fn map(&self) -> ShardMap {
        self.core.maps.current()
    }

    /// The set that the shards' endpoints are in.
    pub fn endpoints(&self) -> &Endpoints<S> {
        &self.core.endpoints
    }

    /// How many requests wait for a newer map.
    pub fn held(&self) -> u32 {
        self.core.held()
    }

    /// How many requests each slot, each part of one that is split, or each range got since the last time, where that is
    /// [measured](Self::measured): what [`ShardMap::relieve`] goes by.
    ///
    /// They are for the [map](Self::map) of now. What was counted for ranges that have since been cut is told evenly of
    /// their pieces, and what was counted before a slot was split, evenly of its parts.
    pub fn loads(&self) -> Loads {
        let map = self.map();
        self.core.measure.as_ref().map_or_else(|| Loads::of(&map), |measure| measure.take(&map))
    }
}

impl<S, R, C> Clone for Shards<S, R, C> {
    #[inline]
    fn clone(&self) -> Self {
        Shards { core: self.core.clone(), seen: self.seen.clone() }
    }
}

impl<S, R, C> fmt::Debug for Shards<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shards").field(&self.core.maps).field(&self.core.endpoints).finish()
    }
}

impl<S, Req, R, C> Service<Req> for Shards<S, R, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    Req: Metadata,
    R: Route<Req> + Send + Sync + 'static,
    C: Classify<S::Response> + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Routing<S, Req, R, C>;

    #[inline(always)]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        match &self.seen {
            Some(view) if self.core.is_current(view) => Routing::new(&self.core, view, request),
            _ => {
                let view = self.core.view();
                let routing = Routing::new(&self.core, &view, request);
                self.seen = Some(view);
                routing
            }
        }
    }
}

#[cfg(test)]
mod tests;
