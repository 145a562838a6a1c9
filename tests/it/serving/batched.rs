//! Requests of many keys: the rule of readiness, and nothing left behind by who is dropped.

use super::{drops::leaves_nothing, *};
use seedpod::{
    serving::{By, ShardMap, Shards},
    testing::{
        drops::Slow,
        readiness::{Probe, check},
    },
};

type Items = Request<Vec<u32>>;

fn item(item: &u32) -> &u32 {
    item
}

fn over<S: Clone>(names: &[&'static str], service: S) -> Shards<S, By<fn(&u32) -> &u32>> {
    let endpoints = seeded("probed");
    names.iter().for_each(|name| endpoints.insert(*name, service.clone()));
    let map = ShardMap::planned(names.iter().copied()).build().unwrap();
    Shards::routed(map, By::new(item as fn(&u32) -> &u32), endpoints)
}

#[tokio::test(start_paused = true)]
async fn a_batch_keeps_the_rule_of_readiness() {
    let request = || Request::new(vec![1, 2, 3]).idempotent();
    let report = check(request, Items::into_message, |probe: Probe<Items, Vec<u32>>| over(&["s0"], probe).batched());
    let report = report.await.unwrap();
    assert!(report.calls > 5 && report.cancelled > 0 && report.clones <= report.calls + 3, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn batches_dropped_after_any_number_of_polls_leave_nothing_under_way_in_any_shard() {
    let slow = Slow::new(Items::into_message);
    let shards = over(&["s0", "s1", "s2"], slow.clone()).bounded(3.0).unwrap();
    let endpoints = shards.endpoints().clone();
    let left = || (slow.under_way(), shards.held(), ["s0", "s1", "s2"].map(|name| endpoints.pending(name)));
    leaves_nothing(|| shards.batched().oneshot(Request::new((0..30).collect())), left).await;
}
