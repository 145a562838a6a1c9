//! One map and one set of endpoints, as a request sees them, and which owner of a key it goes to.

use super::super::{
    cell::state,
    eject::Admit,
    load::Watch,
    shard::{Place, ShardId, ShardMap},
    snapshot::{Endpoint, Snapshot},
};
use super::bounded::{Counts, Place as Loaded};
use crate::{
    base::{Error, Kind, Rng},
    layer::attempt,
};
use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

/// Says that a shard has no endpoint.
const NOWHERE: u32 = u32::MAX;

/// One map and one set of endpoints: each request sees one pair.
pub(super) struct View<S> {
    pub(super) map: ShardMap,
    pub(super) set: Arc<Snapshot<S>>,
    /// Where each shard's endpoint is in the set.
    places: Box<[u32]>,
    /// What each shard has in flight, where that is bounded.
    pub(super) loads: Option<Counts>,
}

/// The owner that a request goes to.
pub(super) struct Chosen<'a, S> {
    pub(super) endpoint: &'a Endpoint<S>,
    pub(super) watch: Watch,
    pub(super) loaded: Option<Loaded>,
}

impl<S> View<S> {
    pub(super) fn new(map: ShardMap, set: Arc<Snapshot<S>>, loads: Option<Counts>) -> Self {
        let by_key: BTreeMap<&str, u32> =
            set.list.iter().zip(0..).map(|(endpoint, place)| (&**endpoint.cell.key(), place)).collect();
        let place = |name: &str| by_key.get(name).copied().unwrap_or(NOWHERE);
        let places = map.shards().iter().map(|shard| place(&shard.name)).collect();
        View { map, set, places, loads }
    }

    #[inline(always)]
    pub(super) fn endpoint(&self, owner: ShardId) -> Option<&Endpoint<S>> {
        self.set.list.get(*self.places.get(owner.index())? as usize)
    }

    /// Whether it is ready, for a request that has nowhere else to go.
    pub(super) fn is_ready(&self, owner: ShardId) -> bool {
        let Some(place) = self.place(owner) else { return false };
        let about = self.set.about.get(place).is_some_and(|about| about.attributes.ready);
        about && self.set.list.get(place).is_some_and(|endpoint| endpoint.cell.state() & state::UNREADY == 0)
    }

    pub(super) fn name(&self, owner: ShardId) -> Arc<str> {
        self.map.shards().get(owner.index()).map(|shard| shard.name.clone()).unwrap_or_default()
    }

    fn place(&self, owner: ShardId) -> Option<usize> {
        self.places.get(owner.index()).map(|place| *place as usize).filter(|place| *place < self.set.list.len())
    }

    /// The first owner that takes calls; the less loaded of two, and none above the bound, where load is bounded.
    #[inline(always)]
    pub(super) fn choose(&self, place: Place, chance: impl FnOnce() -> Rng) -> Result<Chosen<'_, S>, Error> {
        let owners = self.map.owners_at(place);
        if let (Some(first), None) = (owners.first(), &self.loads)
            && let Some(endpoint) = self.endpoint(*first)
            && endpoint.cell.state() == 0
            && !attempt::any_tried()
            && self.place(*first).and_then(|place| self.set.about.get(place)).is_some_and(|about| about.weight() > 0)
        {
            return Ok(Chosen { endpoint, watch: Watch::least(&endpoint.cell), loaded: None });
        }
        self.choose_closer(owners, self.spills().then_some(place), chance)
    }

    /// Whether others stand in for a key's owners.
    pub(super) fn spills(&self) -> bool {
        self.loads.as_ref().is_some_and(Counts::spills)
    }

    /// The same of these owners; behind them, where there is a place, all that stand in for them there.
    #[inline(never)]
    pub(super) fn choose_closer(
        &self,
        owners: &[ShardId],
        place: Option<Place>,
        chance: impl FnOnce() -> Rng,
    ) -> Result<Chosen<'_, S>, Error> {
        let Some(loads) = &self.loads else {
            let taken = self.in_order(|at| owners.get(at).copied(), |_| Ok(None));
            return taken.unwrap_or_else(|| Err(self.nobody(owners)));
        };
        let (order, walk) = (loads.order(owners, chance), OnceCell::new());
        let others = |place| {
            let mut walk = self.map.walk_at(place);
            walk.retain(|shard| !owners.contains(shard) && loads.stands_in(*shard));
            walk
        };
        let nth = |at: usize| match (order.get(at), place) {
            (Some(owner), _) => Some(*owner),
            // looked for only where no owner may have it: it takes them all
            (None, Some(place)) => walk.get_or_init(|| others(place)).get(at - order.len()).copied(),
            (None, None) => None,
        };
        let mut full = None;
        let taken = self.in_order(nth, |owner| match loads.take(owner) {
            Ok(loaded) => Ok(Some(loaded)),
            Err(error) => {
                full.get_or_insert_with(|| error.at(self.name(owner)));
                Err(())
            }
        });
        taken.unwrap_or_else(|| Err(full.unwrap_or_else(|| self.nobody(owners))))
    }

    /// The first of these that takes calls and lets itself be taken: before all others those that no attempt went to; at
    /// last those that are draining, since the key is nowhere else.
    fn in_order(
        &self,
        nth: impl Fn(usize) -> Option<ShardId>,
        mut take: impl FnMut(ShardId) -> Result<Option<Loaded>, ()>,
    ) -> Option<Result<Chosen<'_, S>, Error>> {
        let ways = [(false, false), (true, false), (true, true)];
        let passes = ways.iter().flat_map(|way| (0..).map_while(&nth).map(move |owner| (owner, *way)));
        for (owner, (again, draining)) in passes {
            let Some(endpoint) = self.endpoint(owner) else { continue };
            let about = self.place(owner).and_then(|place| self.set.about.get(place));
            let Some(about) = about else { continue };
            let cell = &endpoint.cell;
            let out = !about.attributes.ready || cell.state() & state::UNREADY != 0;
            let drains = about.draining || about.attributes.weight == 0;
            if out || drains != draining || (!again && attempt::tried(cell.key())) {
                continue;
            }
            let admit = if cell.is_out() { cell.admit() } else { Admit::In };
            if matches!(admit, Admit::Out) && cell.state() & state::EJECTED != 0 {
                continue;
            }
            // a probe that cannot be taken is dropped with what admitted it: the next request is the probe
            let Ok(loaded) = take(owner) else { continue };
            let mut watch = Watch::least(cell);
            if let Admit::Probe(probe) = admit {
                watch = probe.number().map_or(watch, |number| watch.of_probe(number));
            }
            return Some(Ok(Chosen { endpoint, watch, loaded }));
        }
        None
    }

    /// Why none of the owners was chosen.
    #[cold]
    fn nobody(&self, owners: &[ShardId]) -> Error {
        let Some(first) = owners.first() else {
            return Error::new(Kind::Unavailable, "the map names no owner").unsent();
        };
        let names: Vec<&str> = owners.iter().map(|owner| self.map.name(*owner)).collect();
        let message = match owners {
            [owner] if self.place(*owner).is_none() => {
                "the map names this shard, and there is no endpoint of that name".into()
            }
            [_] => "the shard takes no calls".into(),
            _ => format!("of the owners {} none takes calls, or there is no endpoint of that name", names.join(", ")),
        };
        Error::new(Kind::Unavailable, message).at(self.name(*first)).unsent()
    }
}
