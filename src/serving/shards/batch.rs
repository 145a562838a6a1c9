//! Requests of many keys: split by shard, sent at once, merged in order.

use super::super::{
    Lease,
    shard::{Place, ShardId},
};
use super::{
    Moved, Route, Shards, bounded,
    core::{Core, astray},
    view::{Chosen, View},
};
use crate::{
    base::{BoxError, Error, Kind, Outcome, hash, time::Instant},
    layer::{Classify, Metadata, Request, Standard, on_call::OnCall},
};
use futures::future::{BoxFuture, join_all};
use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// Sends a request of many items to the shards that own their keys: [`Shards::batched`].
///
/// Each shard gets its items in one request, all shards at once; the answers come back in the order of the items. A shard
/// that fails fails its own items only. Items that a fence refuses, since their key moves, are split anew under the next
/// map; those that were answered are not sent again.
///
/// The parts carry the deadline of the whole. Where that has an idempotency key, each part's is made of it and of the places
/// of its items: the batch sent again under the same map, to the same shards, has the same keys. Where keys have moved in
/// between it is split in another way, and its parts have other keys, so that an item which the first one carried out is
/// carried out once more. What must not be needs a key of its own in each item.
///
/// ```
/// use seedpod::{Error, layer::Request, serving::{By, Endpoints, ShardMap, Shards}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let endpoints = Endpoints::named("lengths");
/// for name in ["s0", "s1"] {
///     let measure = |words: Request<Vec<&'static str>>| async move {
///         Ok::<_, Error>(words.message().iter().map(|word| word.len()).collect::<Vec<_>>())
///     };
///     endpoints.insert(name, service_fn(measure));
/// }
/// let map = ShardMap::planned(["s0", "s1"]).build()?;
/// let mut batched = Shards::routed(map, By::new(|word: &&'static str| *word), endpoints).batched();
/// let merged = batched.call(Request::new(vec!["one", "three", "eleven"])).await?;
/// assert_eq!(merged.all()?, [3, 5, 6]);
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
///
/// **Guarantees**: one answer or error for each item, in their order; each item is sent to one shard at a time.
/// **Cancel-safety**: dropping the call drops what is under way in all shards.
///
/// # Errors
/// None for the whole: [`Merged`] has those of the items.
pub struct Batched<S, R, C = Standard> {
    core: Arc<Core<S, R, C>>,
}

impl<S, R, C> Shards<S, R, C> {
    /// For requests of many items, of which each has a key: the route is then an item's.
    pub fn batched(&self) -> Batched<S, R, C> {
        Batched { core: self.core.clone() }
    }
}

/// The answers to a batch.
#[derive(Clone, Debug)]
#[must_use = "some of it may have failed"]
pub struct Merged<U> {
    /// Of each item, in their order; an error names the shard.
    pub answers: Vec<Result<U, Error>>,
}

impl<U> Merged<U> {
    /// All answers, if none failed.
    ///
    /// # Errors
    /// The first that there is.
    pub fn all(self) -> Result<Vec<U>, Error> {
        self.answers.into_iter().collect()
    }

    /// Each shard that failed, or the whole set where no shard was found, and what its first error was.
    pub fn failed(&self) -> BTreeMap<&str, &Error> {
        let mut failed = BTreeMap::new();
        for error in self.answers.iter().filter_map(|answer| answer.as_ref().err()) {
            failed.entry(error.place().unwrap_or_default()).or_insert(error);
        }
        failed
    }
}

/// The route of a request of many items, by that of one: for the [fence](super::FenceLayer) in front of a shard that takes
/// batches.
#[derive(Clone, Copy, Debug)]
pub struct Each<R>(pub R);

impl<T, R: Route<T>> Route<Request<Vec<T>>> for Each<R> {
    fn with_key<O>(&self, request: &Request<Vec<T>>, then: impl FnOnce(&[u8]) -> O) -> O {
        match request.message().first() {
            Some(item) => self.0.with_key(item, then),
            None => then(&[]),
        }
    }

    fn each_key(&self, request: &Request<Vec<T>>, mut then: impl FnMut(&[u8])) {
        request.message().iter().for_each(|item| self.0.with_key(item, &mut then));
    }

    fn version(&self, request: &Request<Vec<T>>) -> Option<u64> {
        request.message().iter().filter_map(|item| self.0.version(item)).max()
    }
}

/// What one shard gets.
struct Part<S, T> {
    service: S,
    leases: Vec<(Lease, Option<bounded::Place>)>,
    places: Vec<usize>,
    items: Vec<T>,
}

/// A batch under way.
struct Batch<T, U> {
    /// The request without its items.
    bare: Request<Vec<T>>,
    items: Vec<T>,
    answers: Vec<Option<Result<U, Error>>>,
}

impl<T: Clone, U> Batch<T, U> {
    fn open(&self) -> Vec<usize> {
        self.answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(place, _)| place).collect()
    }

    fn answer(&mut self, place: usize, answer: Result<U, Error>) {
        if let Some(slot) = self.answers.get_mut(place) {
            *slot = Some(answer);
        }
    }

    /// The items without an answer, by the endpoint that they go to.
    fn split<S: Clone, R: Route<T>, C>(
        &mut self,
        core: &Core<S, R, C>,
        view: &View<S>,
    ) -> BTreeMap<Arc<str>, Part<S, T>> {
        let mut by_owners: BTreeMap<&[ShardId], Vec<(Place, usize)>> = BTreeMap::new();
        for place in self.open() {
            let Some(item) = self.items.get(place) else { continue };
            let found = core.route.with_key(item, |key| view.map.locate(key));
            core.count(&view.map, found);
            by_owners.entry(view.map.owners_at(found)).or_default().push((found, place));
        }
        let mut parts: BTreeMap<Arc<str>, Part<S, T>> = BTreeMap::new();
        for (owners, places) in by_owners {
            match view.choose_closer(owners, None, || core.endpoints.rng()) {
                Ok(chosen) => self.put(&mut parts, core, view, chosen, places.into_iter().map(|(_, place)| place)),
                // each slot has a walk of its own
                Err(_) if view.spills() => {
                    let mut by_slot: BTreeMap<usize, (Place, Vec<usize>)> = BTreeMap::new();
                    for (found, place) in places {
                        by_slot.entry(found.index()).or_insert_with(|| (found, Vec::new())).1.push(place);
                    }
                    for (found, places) in by_slot.into_values() {
                        match view.choose(found, || core.endpoints.rng()) {
                            Ok(chosen) => self.put(&mut parts, core, view, chosen, places.into_iter()),
                            Err(error) => places.into_iter().for_each(|place| self.answer(place, Err(error.clone()))),
                        }
                    }
                }
                Err(error) => places.into_iter().for_each(|(_, place)| self.answer(place, Err(error.clone()))),
            }
        }
        parts
    }

    /// These items go to this endpoint, with what goes there already: in one request, which counts once.
    fn put<S: Clone, R: Route<T>, C>(
        &self,
        parts: &mut BTreeMap<Arc<str>, Part<S, T>>,
        core: &Core<S, R, C>,
        view: &View<S>,
        chosen: Chosen<'_, S>,
        places: impl Iterator<Item = usize>,
    ) {
        let cell = &chosen.endpoint.cell;
        let part = parts.entry(cell.key().clone()).or_insert_with(|| {
            let service = chosen.endpoint.service.clone();
            Part { service, leases: Vec::new(), places: Vec::new(), items: Vec::new() }
        });
        if part.leases.is_empty() || chosen.watch.is_probe() {
            part.leases.push((Lease::new(cell, chosen.watch), chosen.loaded));
        }
        for place in places {
            if let Some(item) = self.items.get(place) {
                let mut item = item.clone();
                core.route.stamp(&mut item, view.map.version());
                part.places.push(place);
                part.items.push(item);
            }
        }
    }

    /// A shard that goes by the same map has refused these items.
    fn astray<S, R: Route<T>, C>(&mut self, core: &Core<S, R, C>, places: Vec<usize>, moved: Moved, error: &Error) {
        let map = core.maps.current();
        for place in places {
            let Some(item) = self.items.get(place) else { continue };
            let astray = core.route.with_key(item, |key| astray(&map, key, moved, error));
            self.answer(place, Err(astray));
        }
    }

    fn request(&self, places: &[usize], items: Vec<T>) -> Request<Vec<T>> {
        let mut request = self.bare.clone();
        *request.message_mut() = items;
        match request.idempotency_key().map(str::to_owned) {
            Some(key) => {
                let places: Vec<u8> = places.iter().flat_map(|place| (*place as u64).to_be_bytes()).collect();
                request.keyed(format!("{key}/{:016x}", hash::of(&places)))
            }
            None => request,
        }
    }
}

impl<S, R, C> Batched<S, R, C> {
    async fn gather<T, U>(core: Arc<Core<S, R, C>>, mut request: Request<Vec<T>>) -> Merged<U>
    where
        S: Service<Request<Vec<T>>, Response = Vec<U>> + Clone,
        S::Error: Into<BoxError> + 'static,
        T: Clone,
        R: Route<T>,
        C: Classify<Vec<U>>,
    {
        let items = std::mem::take(request.message_mut());
        let answers = items.iter().map(|_| None).collect();
        let mut batch = Batch { bare: request, items, answers };
        let (mut until, mut refusals): (Option<Instant>, u32) = (None, 0);
        loop {
            let view = core.view();
            let parts = batch.split(&core, &view);
            let calls = parts.into_iter().map(|(shard, part)| {
                let request = batch.request(&part.places, part.items);
                let call = OnCall::new(part.service, request);
                let (places, leases, core) = (part.places, part.leases, &core);
                async move { (settle(shard, leases, core, places.len(), call.await), places) }
            });
            let mut moved: Option<Moved> = None;
            for (result, places) in join_all(calls).await {
                match result {
                    Ok(answers) => {
                        places.into_iter().zip(answers).for_each(|(place, answer)| batch.answer(place, Ok(answer)))
                    }
                    Err(error) => match Moved::of(&error) {
                        Some(found) if found.is_decided() && found.version() == view.map.version() => {
                            batch.astray(&core, places, found, &error);
                        }
                        Some(found) => moved = moved.max(Some(found)),
                        None => places.into_iter().for_each(|place| batch.answer(place, Err(error.clone()))),
                    },
                }
            }
            let Some(moved) = moved else { break };
            let until = *until.get_or_insert_with(|| core.patience(batch.bare.deadline()));
            if let Err(error) = core.wait(moved, view.map.version(), refusals, until).await {
                batch.open().into_iter().for_each(|place| batch.answer(place, Err(error.clone())));
                break;
            }
            refusals += 1;
        }
        let never = || Err(Error::new(Kind::Failed, "it was not answered"));
        Merged { answers: batch.answers.into_iter().map(|answer| answer.unwrap_or_else(never)).collect() }
    }
}

/// Reads what a shard answered, tells the picks, and holds it to one answer for each item.
fn settle<S, R, C, U, E>(
    shard: Arc<str>,
    leases: Vec<(Lease, Option<bounded::Place>)>,
    core: &Core<S, R, C>,
    items: usize,
    result: Result<Vec<U>, E>,
) -> Result<Vec<U>, Error>
where
    C: Classify<Vec<U>>,
    E: Into<BoxError> + 'static,
{
    let result = result.map_err(|error| Error::adopt(error, Kind::Failed).sent().at(shard.clone()));
    let outcome = match &result {
        Err(error) if Moved::of(error).is_some() => Outcome::Ignored,
        result => core.classify.outcome(result.as_ref()),
    };
    leases.into_iter().for_each(|(lease, _)| lease.complete(outcome));
    let answers = result?;
    if answers.len() != items {
        let message = format!("it gave {} answers to {items} items", answers.len());
        return Err(Error::new(Kind::Failed, message).at(shard));
    }
    Ok(answers)
}

impl<S, R, C> Clone for Batched<S, R, C> {
    fn clone(&self) -> Self {
        Batched { core: self.core.clone() }
    }
}

impl<S, R, C> fmt::Debug for Batched<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batched").field(&self.core.maps).field(&self.core.endpoints).finish()
    }
}

impl<S, T, U, R, C> Service<Request<Vec<T>>> for Batched<S, R, C>
where
    S: Service<Request<Vec<T>>, Response = Vec<U>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    S::Future: Send,
    T: Clone + Send + Sync + 'static,
    U: Send + 'static,
    R: Route<T> + Send + Sync + 'static,
    C: Classify<Vec<U>> + Send + Sync + 'static,
{
    type Response = Merged<U>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Merged<U>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Vec<T>>) -> Self::Future {
        let core = self.core.clone();
        Box::pin(async move { Ok(Batched::gather(core, request).await) })
    }
}
