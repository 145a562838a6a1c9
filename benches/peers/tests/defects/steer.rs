//! tower's Steer is ready when all its services are: one that hangs holds up the requests for all others.

use futures::FutureExt;
use seedpod::{
    layer::Request,
    serving::{Endpoints, ShardMap, Shards},
};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};
use tower::{Service, ServiceExt, steer::Steer};

/// Answers with its number; the last of three never becomes ready.
#[derive(Clone)]
struct Shard(usize);

impl Service<Request<u64>> for Shard {
    type Response = usize;
    type Error = Infallible;
    type Future = Ready<Result<usize, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.0 == 2 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: Request<u64>) -> Self::Future {
        ready(Ok(self.0))
    }
}

fn map() -> ShardMap {
    ShardMap::planned(["0", "1", "2"]).build().unwrap()
}

/// Of a hundred keys, for how many a well shard answers, and for how many one should.
fn answered<S>(service: S, map: &ShardMap) -> (usize, usize)
where
    S: Service<Request<u64>, Response = usize> + Clone,
{
    let well = (0..100_u64).filter(|key| map.owner(key).index() != 2);
    let answers = well.clone().filter(|key| {
        let answer = service.clone().oneshot(Request::new(*key)).now_or_never();
        answer.is_some_and(|answer| answer.is_ok_and(|shard| shard == map.owner(key).index()))
    });
    (answers.count(), well.count())
}

#[test]
fn ours_answers_for_every_shard_that_is_well() {
    let endpoints = Endpoints::named("shards");
    (0..3).for_each(|number| endpoints.insert(number.to_string(), Shard(number)));
    let shards = Shards::new(map(), |request: &Request<u64>| request.message(), endpoints);
    let (answered, well) = answered(shards, &map());
    assert_eq!(answered, well);
}

#[test]
fn towers_answers_for_none() {
    let map = map();
    let routes = map.clone();
    let pick = move |request: &Request<u64>, _: &[Shard]| routes.owner(request.message()).index();
    let (answered, well) = answered(Steer::new((0..3).map(Shard), pick), &map);
    assert!(answered == 0 && well > 50, "{answered} of {well}");
}
