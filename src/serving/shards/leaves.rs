//! Shards as the leaves of a scatter: all of them, or the copies of one key.

use super::super::{Leaf, Leaves, Shards, shard::ShardId, snapshot::Endpoint};
use super::{Route, core::Core, view::View};
use crate::{
    base::{Error, Kind, Result},
    layer::Metadata,
};
use std::{fmt, sync::Arc};
use tower::Service;

/// Shards of one map, as the leaves of a [`Scatter`](super::super::Scatter): [`Shards::leaves`], [`Shards::copies`].
pub struct ShardLeaves<S, R, C> {
    core: Arc<Core<S, R, C>>,
    of: Of,
}

/// Which of them a request goes to.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// Every shard.
    Map,
    /// Those that have its key.
    Key,
}

impl<S, R, C> Shards<S, R, C> {
    /// Every shard of the map, each once, for a request that concerns all: the leaves of a
    /// [`Scatter`](super::super::Scatter). A shard that is `Replicas` answers by one of them.
    ///
    /// Each request sees one map and one set of endpoints. A shard without an endpoint, or that is not ready, is among the
    /// leaves as one that failed, so that what is covered is exact; one that is ejected or drains is asked all the same,
    /// since nobody else has what it has. Such a request has no key of its own: where a [fence](super::FenceLayer) stands
    /// in front of a shard, its route must [name none](Route::each_key) for it.
    ///
    /// It is no snapshot of the data: shards answer at different moments, and a key that moves in between can be in two
    /// answers, or in none. Let each shard answer for what its fence [owns](super::Fence::owns) alone, or what it
    /// [leads](super::Fence::leads) where there are several copies: what is on its way to a shard, or was left behind
    /// there, is in no answer then, and a key is missing only from requests that are under way while it changes hands.
    ///
    /// ```
    /// use seedpod::{Error, layer::Request, serving::{Endpoints, Scatter, ShardMap, Shards}};
    /// use tower::{Service, service_fn};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let endpoints = Endpoints::named("words");
    /// for (name, words) in [("s0", 3), ("s1", 5), ("s2", 4)] {
    ///     endpoints.insert(name, service_fn(move |_: Request<String>| async move { Ok::<_, Error>(words) }));
    /// }
    /// let map = ShardMap::planned(["s0", "s1", "s2"]).build()?;
    /// let shards = Shards::new(map, |request: &Request<String>| request.message(), endpoints);
    /// let mut count = Scatter::new(shards.leaves()).gather(|answers| answers.into_values().sum::<u32>());
    /// assert_eq!(count.call(Request::new("any".into())).await?.value, 12);
    /// # Ok::<_, Error>(()) }).unwrap();
    /// ```
    pub fn leaves(&self) -> ShardLeaves<S, R, C> {
        ShardLeaves { core: self.core.clone(), of: Of::Map }
    }

    /// The copies of the request's key, in the order of the map: a write that a quorum of them must have is a
    /// [`Scatter`](super::super::Scatter) over these. While the key moves, a copy that is sealed is a leaf that has failed by
    /// [`Moved`](super::Moved); the [`Mover`](super::Mover) has to know that there are [others](super::Mover#several-copies).
    pub fn copies(&self) -> ShardLeaves<S, R, C> {
        ShardLeaves { core: self.core.clone(), of: Of::Key }
    }
}

impl<S, R, C> Core<S, R, C>
where
    S: Clone,
{
    fn leaf<Req>(&self, view: &View<S>, shard: ShardId, request: &Req) -> Result<Leaf<S, Req>>
    where
        Req: Metadata,
        R: Route<Req>,
    {
        let Some(endpoint): Option<&Endpoint<S>> = view.endpoint(shard) else {
            let error = Error::new(Kind::Unavailable, "it has no endpoint").at(view.name(shard)).unsent();
            return Ok(Leaf::failed(view.name(shard), error));
        };
        let mut leaf = Leaf::of(endpoint, view.is_ready(shard), request)?;
        if let Some(request) = leaf.request_mut() {
            self.route.stamp(request, view.map.version());
        }
        Ok(leaf)
    }
}

impl<S, R, C, Req> Leaves<Req> for ShardLeaves<S, R, C>
where
    S: Service<Req> + Clone,
    Req: Metadata,
    R: Route<Req>,
{
    type Service = S;
    type Request = Req;

    fn leaves(&mut self, request: Req) -> Result<Vec<Leaf<S, Req>>> {
        let (core, view) = (&self.core, self.core.view());
        let leaf = |shard| core.leaf(&view, shard, &request);
        match self.of {
            Of::Map => view.map.shards().iter().filter_map(|shard| view.map.id(&shard.name)).map(leaf).collect(),
            Of::Key => core.route.with_key(&request, |key| view.map.owners(key).iter().copied().map(leaf).collect()),
        }
    }
}

impl<S, R, C> Clone for ShardLeaves<S, R, C> {
    fn clone(&self) -> Self {
        ShardLeaves { core: self.core.clone(), of: self.of }
    }
}

impl<S, R, C> fmt::Debug for ShardLeaves<S, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardLeaves").field("map", &self.core.maps.current()).field("of", &self.of).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Coverage, Endpoints, Require, Scatter, ShardMap};
    use super::*;
    use crate::{base::sync::Lock, layer::Request};
    use futures::future::{BoxFuture, FutureExt};
    use std::collections::BTreeSet;
    use tower::util::BoxCloneSyncService;

    type Shard = BoxCloneSyncService<Request<u64>, Arc<str>, Error>;

    fn shard(name: &str, asked: &Arc<Lock<BTreeSet<Arc<str>>>>, well: bool) -> Shard {
        let (name, asked): (Arc<str>, _) = (name.into(), asked.clone());
        BoxCloneSyncService::new(tower::service_fn(move |_: Request<u64>| -> BoxFuture<'static, Result<Arc<str>>> {
            asked.lock().insert(name.clone());
            let answer = if well { Ok(name.clone()) } else { Err(Error::new(Kind::Failed, "no disk")) };
            async move { answer }.boxed()
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn every_shard_is_asked_once_and_one_without_an_endpoint_is_missing_by_name() {
        let (endpoints, asked) = (Endpoints::named("s"), Arc::default());
        for name in ["s0", "s1", "stranger"] {
            endpoints.insert(name, shard(name, &asked, true));
        }
        let map = ShardMap::planned(["s0", "s1", "s2"]).build().unwrap();
        let shards = Shards::new(map, |request: &Request<u64>| request.message(), endpoints.clone());
        let mut search = Scatter::new(shards.leaves()).require(Coverage::count(2));
        let answers = search.call(Request::new(1)).await.unwrap();
        assert_eq!(answers.failed().map(|(name, _)| name).collect::<Vec<_>>(), ["s2"]);
        assert_eq!(asked.lock().iter().map(|name| &**name).collect::<Vec<_>>(), ["s0", "s1"]);
        endpoints.insert("s2", shard("s2", &asked, true));
        let answers = search.call(Request::new(1)).await.unwrap();
        assert_eq!((answers.answered().count(), asked.lock().len()), (3, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_done_when_a_quorum_of_the_keys_copies_has_it_and_nobody_else_is_asked() {
        let (endpoints, asked) = (Endpoints::named("s"), Arc::default());
        let names = ["s0", "s1", "s2", "s3", "s4"];
        let map = ShardMap::rendezvous(names).copies(3).build().unwrap();
        let owners: Vec<_> = map.owners(&7_u64).iter().map(|id| map.shards()[id.index()].name.clone()).collect();
        for name in names {
            endpoints.insert(name, shard(name, &asked, *name != *owners[1]));
        }
        let shards = Shards::new(map, |request: &Request<u64>| request.message(), endpoints.clone());
        let mut write = Scatter::new(shards.copies()).require(Require::Quorum(2));
        let answers = write.call(Request::new(7)).await.unwrap();
        assert_eq!(answers.into_values().collect::<BTreeSet<_>>(), [owners[0].clone(), owners[2].clone()].into());
        assert_eq!(*asked.lock(), owners.iter().cloned().collect());
        endpoints.insert(owners[2].clone(), shard("ill", &asked, false));
        let error = write.call(Request::new(7)).await.unwrap_err();
        assert!(error.to_string().contains("1 of 3"), "{error}");
    }
}
