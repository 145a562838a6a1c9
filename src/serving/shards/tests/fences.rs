//! Fences: who gets in, and what a seal waits for.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_seal_waits_for_who_is_inside_and_a_map_decides() {
    let map = map(&["s0"]);
    let maps = ShardMaps::new(map.clone());
    let fence = Fence::new("s0", maps.clone());
    let slot = map.locate(&7_u64).slot().unwrap();
    let half = |first, last| Moving {
        from: "s0".into(),
        to: "s1".into(),
        spans: [Span::Hashes { seed: 0, first, last }].into(),
        version: 2,
        stays: false,
        owners: [].into(),
    };
    let hash = map.locate(&7_u64).hash().unwrap();
    let mine = half(hash, slot.last());
    let inside = fence.enter(&7_u64, None).unwrap();
    let mut seal = Box::pin(fence.seal(&mine));
    assert!(seal.as_mut().now_or_never().is_none());
    assert_eq!(fence.enter(&7_u64, None).unwrap_err(), Moved::undecided(2), "sealed before it is empty");
    let beside =
        (0_u64..).find(|key| map.locate(key).slot() == Some(slot) && map.locate(key).hash() < Some(hash)).unwrap();
    let neighbour: Pass = fence.enter(&beside, None).unwrap();
    drop(inside);
    seal.await.unwrap();
    drop(neighbour);
    fence.seal(&mine).now_or_never().unwrap().unwrap();
    // given up: the next map leaves the key where it is
    maps.publish(map.with_version(2)).unwrap();
    assert_eq!(
        fence.seal(&mine).await.unwrap_err().to_string(),
        "s0: conflict: map 2 counts already: too late to seal for map 2"
    );
    drop(fence.enter(&7_u64, None).unwrap());
    // another one takes it
    let mine = Moving { version: 3, ..mine };
    fence.seal(&mine).await.unwrap();
    maps.publish(ShardMap::planned(["s1"]).version(3).build().unwrap()).unwrap();
    assert_eq!(fence.enter(&7_u64, None).unwrap_err(), Moved::at(3));
    assert_eq!((fence.owns(&7_u64), fence.refused()), (false, 2));
    // and a request that knows more than the fence is refused in any case
    maps.publish(map.with_version(4)).unwrap();
    assert_eq!(fence.enter(&7_u64, Some(5)).unwrap_err(), Moved::at(4));
    assert!(fence.enter(&7_u64, Some(1)).is_ok(), "who is behind, and right, is served");
}

#[tokio::test(start_paused = true)]
async fn a_batch_inside_is_counted_for_each_of_its_keys() {
    let maps = ShardMaps::new(map(&["s0"]));
    let fence = Fence::new("s0", maps);
    let route = By::new((|item: &u64| item) as fn(&u64) -> &u64);
    let hangs = service_fn(|_: Request<Vec<u64>>| pending::<Result<Vec<u64>>>());
    let call = Box::pin(FenceLayer::new(fence.clone(), Each(route)).layer(hangs).call(Request::new(vec![1, 2, 3])));
    let all = Span::Hashes { seed: 0, first: 0, last: u64::MAX };
    let moving =
        Moving { from: "s0".into(), to: "s1".into(), spans: [all].into(), version: 2, stays: false, owners: [].into() };
    let mut seal = Box::pin(fence.seal(&moving));
    assert!(seal.as_mut().now_or_never().is_none());
    drop(call);
    assert!(seal.now_or_never().is_some());
}

/// Many threads go in and out while the key is sealed and given up again and again.
#[test]
fn once_a_seal_is_over_nobody_is_inside_however_threads_meet() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    let map = map(&["s0", "s1"]);
    let keys: Vec<u64> = (0..).filter(|key| owner(&map, *key) == "s0").take(4).collect();
    let (maps, over) = (ShardMaps::new(map.clone()), AtomicBool::new(false));
    let fence = Fence::new("s0", maps.clone());
    let inside: [AtomicU32; 4] = Default::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spans = keys[..2].iter().map(|key| map.locate(key).hash().unwrap()).map(|hash| Span::Hashes {
        seed: 0,
        first: hash,
        last: hash,
    });
    let spans: Arc<[Span]> = Span::in_order(spans.collect()).into();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (fence, inside, keys, over) = (&fence, &inside, &keys, &over);
            scope.spawn(move || {
                let mut rng = Seed::new(thread).rng();
                while !over.load(SeqCst) {
                    let place = rng.below(4) as usize;
                    if let Ok(pass) = fence.enter(&keys[place], None) {
                        inside[place].fetch_add(1, SeqCst);
                        if rng.chance(0.1) {
                            std::thread::yield_now();
                        }
                        inside[place].fetch_sub(1, SeqCst);
                        drop(pass);
                    }
                }
            });
        }
        let mut entered = 0;
        for version in 2..400 {
            let moving = Moving {
                from: "s0".into(),
                to: "s1".into(),
                spans: spans.clone(),
                version,
                stays: false,
                owners: [].into(),
            };
            runtime.block_on(fence.seal(&moving)).unwrap();
            for _ in 0..50 {
                assert_eq!((inside[0].load(SeqCst), inside[1].load(SeqCst)), (0, 0));
                assert!(fence.enter(&keys[0], None).is_err());
                entered += u32::from(fence.enter(&keys[2], None).is_ok());
            }
            maps.publish(map.with_version(version)).unwrap();
            drop(fence.enter(&keys[0], None).unwrap());
        }
        over.store(true, SeqCst);
        assert_eq!(entered, 398 * 50, "keys beside it are served all the time");
    });
}

#[tokio::test(start_paused = true)]
async fn what_arrives_late_is_refused_at_the_new_owner() {
    let map = map(&["s0", "s1"]);
    let maps = ShardMaps::new(map.clone());
    let fence = Fence::new("s1", maps.clone());
    let by = |version| Moving {
        from: "s0".into(),
        to: "s1".into(),
        spans: [Span::Hashes { seed: 0, first: 0, last: u64::MAX }].into(),
        version,
        stays: false,
        owners: ["s0".into()].into(),
    };
    let told = fence.receive(&by(1)).unwrap_err().to_string();
    assert_eq!(told, "s1: conflict: too late to bring something for map 1: map 2 is the next");
    fence.receive(&by(2)).unwrap();
    fence.receive(&by(2)).unwrap();
    // another try has begun here, whether or not its map is known
    fence.receive(&by(3)).unwrap();
    assert!(fence.receive(&by(2)).unwrap_err().is_conflict());
    fence.receive(&by(3)).unwrap();
    maps.publish(map.with_version(3)).unwrap();
    assert!(fence.receive(&by(3)).unwrap_err().is_conflict(), "the keys have arrived");
}

#[test]
fn of_several_copies_one_fence_leads() {
    let names = ["s0", "s1", "s2"];
    let maps = ShardMaps::new(ShardMap::planned(names).copies(2).build().unwrap());
    let fences = names.map(|name| Fence::new(name, maps.clone()));
    for key in 0..100_u64 {
        assert_eq!(fences.iter().filter(|fence| fence.owns(&key)).count(), 2);
        assert_eq!(fences.iter().filter(|fence| fence.leads(&key)).count(), 1);
    }
}

#[test]
fn a_further_copy_refuses_who_may_take_it_for_the_first() {
    let map = ShardMap::planned(["s0", "s1"]).copies(2).build().unwrap();
    let first = owner(&map, 7);
    let other = if first == "s0" { "s1" } else { "s0" };
    let maps = ShardMaps::new(map.with_version(5));
    let (first, other) = (Fence::new(first.as_str(), maps.clone()), Fence::new(other, maps));
    for (asked, served) in [(None, true), (Some(5), true), (Some(4), false), (Some(6), false)] {
        assert_eq!(other.enter(&7_u64, asked).is_ok(), served, "{asked:?}");
        assert_eq!(first.enter(&7_u64, asked).is_ok(), asked != Some(6), "{asked:?}");
    }
}
