//! What goes elsewhere where any shard can answer: along the map's walk, and only to who owns something.

use super::{
    super::super::shard::tests::{STRATEGIES, of},
    *,
};
use crate::serving::Shard;

const NAMES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];

/// Who is first in the key's walk beside this one.
fn stands_in(map: &ShardMap, key: u64, sick: &str) -> String {
    map.walk(&key).into_iter().map(|shard| map.name(shard).to_owned()).find(|name| name != sick).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_sick_shard_go_along_the_walk_and_come_back_and_no_other_moves() {
    for strategy in STRATEGIES {
        let (map, endpoints) = (of(strategy, NAMES).build().unwrap(), named(&NAMES, 0));
        let mut shards = Shards::new(map.clone(), key, endpoints.clone()).spilling(100.0).unwrap();
        let mut ask = |key: u64| shards.call(Request::new(key)).now_or_never().unwrap().unwrap();
        endpoints.set_ready("s2", false);
        let mut elsewhere = std::collections::BTreeSet::new();
        for number in 0..300 {
            let answer = ask(number);
            assert_eq!(answer, stands_in(&map, number, "s2"), "{strategy}");
            if owner(&map, number) == "s2" {
                elsewhere.insert(answer);
            } else {
                assert_eq!(answer, owner(&map, number), "{strategy}");
            }
        }
        assert!(elsewhere.len() >= 4, "{strategy}: they go to {elsewhere:?}");
        endpoints.set_ready("s2", true);
        assert!((0..300).all(|number| ask(number) == owner(&map, number)), "{strategy}: they come back");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_to_who_weighs_nothing_or_owns_nothing() {
    let names = ["s0", "s1", "s2", "s3"];
    let two = ShardMap::planned([Shard::new("s0"), Shard::new("s1"), Shard::new("s2").weight(0)]).build().unwrap();
    let next = two.next(|change| {
        change.add("s3");
    });
    let (next, endpoints) = (next.unwrap(), named(&names, 0));
    let begun = two.stepped(&next, &[], 2).unwrap();
    assert_eq!((begun.shards().len(), begun.share("s3")), (4, 0.0));
    let mut shards = Shards::new(begun.clone(), key, endpoints.clone()).spilling(100.0).unwrap();
    endpoints.set_ready("s0", false);
    for number in 0..200 {
        assert_eq!(shards.call(Request::new(number)).await.unwrap(), "s1");
    }
    endpoints.set_ready("s1", false);
    let error = shards.call(Request::new(7)).await.unwrap_err();
    assert_eq!((error.place(), error.kind()), (Some(owner(&begun, 7).as_str()), Kind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn the_items_of_a_batch_go_along_the_walk_each_by_itself() {
    type Many = BoxCloneSyncService<Request<Vec<u64>>, Vec<String>, Error>;
    let (map, endpoints) = (ShardMap::rendezvous(NAMES).build().unwrap(), Endpoints::named("store"));
    for name in NAMES {
        let serve = service_fn(move |request: Request<Vec<u64>>| async move {
            time::sleep(Duration::from_millis(5)).await;
            Ok(vec![name.to_owned(); request.message().len()])
        });
        endpoints.insert(name, Many::new(serve));
    }
    endpoints.set_ready("s2", false);
    let shards = Shards::new(map.clone(), |item: &u64| item, endpoints.clone()).spilling(100.0).unwrap();
    let items: Vec<u64> = (0..300).collect();
    let mut call = Box::pin(shards.batched().oneshot(Request::new(items.clone())));
    assert!(call.as_mut().now_or_never().is_none());
    let under_way: Vec<_> = NAMES.iter().map(|name| endpoints.pending(name)).collect();
    assert_eq!(under_way, [1, 1, 0, 1, 1, 1].map(Some), "one request for each");
    let answers = call.await.unwrap().all().unwrap();
    for (item, answer) in items.into_iter().zip(answers) {
        assert_eq!(answer, stands_in(&map, item, "s2"));
    }
}
