//! What a fence's refusal says to the router: wait, send it elsewhere, or leave it.

use super::*;
use bytes::Bytes;

/// All keys in one range, owned by these.
fn owned(version: u64, owners: [&'static str; 2]) -> ShardMap {
    ShardMap::ranges().range(.., owners).version(version).build().unwrap()
}

fn all_to(to: &str, version: u64) -> Moving {
    let all = Span::Keys { from: Bytes::new(), until: None };
    Moving { from: "a".into(), to: to.into(), spans: [all].into(), version, stays: true, owners: [].into() }
}

fn fenced(fence: &Fence) -> Endpoint {
    BoxCloneSyncService::new(FenceLayer::new(fence.clone(), By::new(key)).layer(after(fence.shard(), 0)))
}

#[tokio::test(start_paused = true)]
async fn whoever_refuses_since_the_key_moves_was_not_tried_and_stays_the_first() {
    // a copy moves from b to c; the same, given up
    for second in ["c", "b"] {
        let (maps, endpoints) = (ShardMaps::new(owned(1, ["a", "b"])), named(&["b", "c"], 0));
        let fence = Fence::new("a", maps.clone());
        endpoints.insert("a", fenced(&fence));
        fence.seal(&all_to("c", 2)).now_or_never().unwrap().unwrap();
        let retried = RetryLayer::new().layer(Shards::new(maps.clone(), key, endpoints));
        let mut write = Box::pin(retried.oneshot(Request::new(7).idempotent()));
        assert!(write.as_mut().now_or_never().is_none(), "it waits for the map");
        maps.publish(owned(2, ["a", second])).unwrap();
        assert_eq!(write.await.unwrap(), "a", "later reads go there");
    }
}

/// Refuses by this version, and counts how often.
fn counting(version: u64, asked: &Arc<Lock<u32>>) -> Endpoint {
    let asked = asked.clone();
    BoxCloneSyncService::new(service_fn(move |_: Request<u64>| {
        *asked.lock() += 1;
        async move { Err::<String, _>(Moved::at(version).into()) }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_under_the_same_map_fails_at_once_and_names_the_slot() {
    let (asked, start) = (Arc::default(), time::now());
    let endpoints = Endpoints::named("store");
    endpoints.insert("s0", counting(1, &asked));
    let map = map(&["s0"]);
    let mut shards = Shards::new(map.clone(), key, endpoints.clone());
    let error = shards.call(Request::new(1)).await.unwrap_err();
    let slot = map.locate(&1_u64).slot().unwrap();
    assert_eq!(
        error.to_string(),
        format!("s0: conflict: it does not own {slot} under map 1, nor does it say who does")
    );
    assert_eq!((*asked.lock(), start.elapsed(), shards.held()), (1, Duration::ZERO, 0), "sent once, and nobody waits");
    assert_eq!(Moved::of(&error), None, "whoever stands outside has nothing to wait for");
    let ranges = ShardMap::ranges().range(..9_u64, ["s0"]).range(9_u64.., ["s1"]).build().unwrap();
    let error = Shards::new(ranges, key, endpoints).call(Request::new(1)).await.unwrap_err();
    assert!(error.to_string().starts_with("s0: conflict: it does not own keys until "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_lags_is_asked_again_until_it_has_learnt_the_map() {
    let (asked, start) = (Arc::default(), time::now());
    let endpoints = Endpoints::named("store");
    endpoints.insert("s0", counting(1, &asked));
    let mut shards = Shards::new(map(&["s0"]).with_version(2), key, endpoints).hold(Duration::from_secs(2));
    let error = shards.call(Request::new(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "s0: unavailable: the shard has not learnt map 2 in time");
    assert!(*asked.lock() > 10 && start.elapsed() == Duration::from_secs(2));
}

/// A router that hears of a move that was given up before the fence does: with the version in the request, and without.
#[tokio::test(start_paused = true)]
async fn a_fence_that_is_sealed_for_the_routers_map_is_waited_for() {
    #[derive(Clone, Copy)]
    struct Stamped(bool);
    impl Route<Request<u64>> for Stamped {
        fn with_key<T>(&self, request: &Request<u64>, then: impl FnOnce(&[u8]) -> T) -> T {
            then(&request.message().to_be_bytes())
        }
        fn version(&self, _: &Request<u64>) -> Option<u64> {
            self.0.then_some(2)
        }
    }
    for stamped in [false, true] {
        let known = ShardMaps::new(owned(1, ["a", "b"]));
        let fence = Fence::new("a", known.clone());
        fence.seal(&all_to("c", 2)).now_or_never().unwrap().unwrap();
        let layer = FenceLayer::new(fence, Stamped(stamped));
        let endpoints = named(&["b"], 0);
        endpoints.insert("a", BoxCloneSyncService::new(layer.layer(after("a", 0))));
        let mut shards = Shards::new(owned(2, ["a", "b"]), key, endpoints);
        let mut call = Box::pin(shards.call(Request::new(7)));
        assert!(call.as_mut().now_or_never().is_none());
        known.publish(owned(2, ["a", "b"])).unwrap();
        assert_eq!(call.await.unwrap(), "a");
    }
}
