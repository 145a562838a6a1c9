//! Requests of many keys, split and merged.

use super::*;

type Many = BoxCloneSyncService<Request<Vec<u64>>, Vec<String>, Error>;

fn many(name: &'static str, seen: Arc<Lock<Vec<(String, usize)>>>) -> Many {
    BoxCloneSyncService::new(service_fn(move |request: Request<Vec<u64>>| {
        seen.lock().push((name.to_owned(), request.message().len()));
        async move { Ok(request.message().iter().map(|item| format!("{name} {item}")).collect()) }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_request_per_shard_and_is_merged_in_order() {
    let (map, endpoints, seen) = (map(&["s0", "s1", "s2"]), Endpoints::named("store"), Arc::new(Lock::default()));
    ["s0", "s1", "s2"].iter().for_each(|name| endpoints.insert(*name, many(name, seen.clone())));
    let shards = Shards::new(map.clone(), |item: &u64| item, endpoints.clone());
    let items: Vec<u64> = (0..100).collect();
    let merged = shards.batched().call(Request::new(items.clone())).await.unwrap();
    let expected: Vec<_> = items.iter().map(|item| format!("{} {item}", owner(&map, *item))).collect();
    assert_eq!(merged.all().unwrap(), expected);
    let seen = std::mem::take(&mut *seen.lock());
    assert_eq!((seen.len(), seen.iter().map(|(_, items)| items).sum::<usize>()), (3, 100));
    assert!(shards.batched().call(Request::new(Vec::new())).await.unwrap().answers.is_empty());

    // one fails, one gives too few answers, one is away: the others' items are well
    let failing = service_fn(|_: Request<Vec<u64>>| async { Err::<Vec<String>, _>(Error::new(Kind::Failed, "disk")) });
    endpoints.insert("s0", BoxCloneSyncService::new(failing));
    let short = service_fn(|_: Request<Vec<u64>>| async { Ok::<Vec<String>, Error>(vec!["one".into()]) });
    endpoints.insert("s1", BoxCloneSyncService::new(short));
    let merged = shards.batched().call(Request::new(items.clone())).await.unwrap();
    for (item, answer) in items.iter().zip(&merged.answers) {
        assert_eq!(answer.is_ok(), owner(&map, *item) == "s2");
    }
    let failed = merged.failed();
    assert_eq!(failed["s0"].to_string(), "s0: failed: disk");
    assert!(failed["s1"].to_string().starts_with("s1: failed: it gave 1 answers to "));
    endpoints.remove("s2");
    let merged = shards.batched().call(Request::new(items)).await.unwrap();
    assert_eq!((merged.failed().len(), merged.failed()["s2"].is_unsent()), (3, true));
    assert!(merged.all().is_err());
}

#[tokio::test(start_paused = true)]
async fn items_of_a_batch_whose_keys_move_are_split_anew_and_no_other_is_sent_twice() {
    let (map, endpoints, seen) = (map(&["s0", "s1"]), Endpoints::named("store"), Arc::new(Lock::default()));
    let maps = ShardMaps::new(map.clone());
    let route = By::new((|item: &u64| item) as fn(&u64) -> &u64);
    let mut fences = BTreeMap::new();
    for name in ["s0", "s1", "s2"] {
        let fence = Fence::new(name, maps.clone());
        let fenced = FenceLayer::new(fence.clone(), Each(route)).layer(many(name, seen.clone()));
        endpoints.insert(name, BoxCloneSyncService::new(fenced));
        fences.insert(name, fence);
    }
    let shards = Shards::routed(maps.clone(), route, endpoints);
    let next = map.next(|change| {
        change.add("s2");
    });
    let next = next.unwrap();
    let spans: Vec<_> = next.parts().filter(|(_, owners)| next.name(owners[0]) == "s2").map(|(span, _)| span).collect();
    for from in ["s0", "s1"] {
        let moving = Moving {
            from: from.into(),
            to: "s2".into(),
            spans: spans.clone().into(),
            version: 2,
            stays: false,
            owners: [].into(),
        };
        fences[from].seal(&moving).now_or_never().unwrap().unwrap();
    }
    let items: Vec<u64> = (0..60).collect();
    let mut batched = shards.batched();
    let mut call = Box::pin(batched.call(Request::new(items.clone()).keyed("order")));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(shards.held(), 1);
    maps.publish(next.clone()).unwrap();
    let answers = call.await.unwrap().all().unwrap();
    let expected: Vec<_> = items.iter().map(|item| format!("{} {item}", owner(&next, *item))).collect();
    assert_eq!(answers, expected);
    assert_eq!(seen.lock().iter().map(|(_, items)| items).sum::<usize>(), 60, "each was served once");
}

#[tokio::test(start_paused = true)]
async fn items_refused_under_the_same_map_fail_at_once_and_the_others_are_answered() {
    let (map, endpoints, seen) = (map(&["s0", "s1"]), Endpoints::named("store"), Arc::new(Lock::default()));
    endpoints.insert("s0", many("s0", seen));
    let refuses = service_fn(|_: Request<Vec<u64>>| async { Err::<Vec<String>, _>(Moved::at(1).into()) });
    endpoints.insert("s1", BoxCloneSyncService::new(refuses));
    let (items, start): (Vec<u64>, _) = ((0..20).collect(), time::now());
    let shards = Shards::new(map.clone(), |item: &u64| item, endpoints);
    let merged = shards.batched().call(Request::new(items.clone())).await.unwrap();
    for (item, answer) in items.iter().zip(&merged.answers) {
        let slot = map.locate(item).slot().unwrap();
        match answer {
            Ok(answer) => assert_eq!((owner(&map, *item).as_str(), answer), ("s0", &format!("s0 {item}"))),
            Err(error) => {
                assert!(error.to_string().starts_with(&format!("s1: conflict: it does not own {slot} under")))
            }
        }
    }
    assert_eq!((merged.failed().len(), start.elapsed(), shards.held()), (1, Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_parts_key_is_the_same_for_the_same_split_and_another_for_another() {
    let (maps, endpoints, seen) = (ShardMaps::new(map(&["s0", "s1"])), Endpoints::named("store"), Arc::default());
    for name in ["s0", "s1", "s2"] {
        let seen: Arc<Lock<BTreeMap<&str, String>>> = Arc::clone(&seen);
        let note = service_fn(move |request: Request<Vec<u64>>| {
            seen.lock().insert(name, request.idempotency_key().unwrap().to_owned());
            async move { Ok(vec![String::new(); request.message().len()]) }
        });
        endpoints.insert(name, Many::new(note));
    }
    let shards = Shards::new(maps.clone(), |item: &u64| item, endpoints);
    let keys = || {
        let request = Request::new((0..60).collect()).keyed("order");
        shards.batched().call(request).now_or_never().unwrap().unwrap().all().unwrap();
        std::mem::take(&mut *seen.lock())
    };
    let before = keys();
    assert_ne!(before["s0"], before["s1"]);
    assert_eq!(keys(), before, "sent again, the same");
    let next = maps.current().next(|change| {
        change.add("s2");
    });
    maps.publish(next.unwrap()).unwrap();
    let after = keys();
    assert_eq!(after.len(), 3);
    assert!(after.values().all(|key| before.values().all(|old| old != key)), "split anew, other keys");
}
