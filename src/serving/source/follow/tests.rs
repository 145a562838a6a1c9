//! What following a stream promises.

use super::{super::super::Replicas, *};
use crate::{
    base::{Seed, time::sleep},
    store::{Since, Store, Write},
};
use futures::stream;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

type Backends = Store<Member<u32>>;

fn put(key: &str, member: Member<u32>) -> Write<Member<u32>> {
    Write::put(key, member)
}

fn told(endpoints: &Endpoints<String>) -> Vec<String> {
    endpoints.describe().iter().map(ToString::to_string).collect()
}

async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// A set that follows a store; what it connected to, in order.
fn following(store: &Backends) -> (Endpoints<String>, Arc<AtomicU32>, tokio::task::JoinHandle<Result>) {
    let (endpoints, connects) = (Endpoints::named("followed"), Arc::new(AtomicU32::new(0)));
    let counted = connects.clone();
    let follow = endpoints.follow(store.watch("", Since::Start), Member::of, move |address| {
        format!("{address} by {}", counted.fetch_add(1, Relaxed))
    });
    let task = tokio::spawn(follow.into_future());
    (endpoints, connects, task)
}

#[tokio::test(start_paused = true)]
async fn who_stays_at_its_address_keeps_its_service_whatever_else_becomes_known() {
    let store = Backends::new();
    let (endpoints, connects, _task) = following(&store);
    let one = Member::new(1).about(|it| {
        it.weight(2).zone("a");
    });
    store.commit(vec![put("x/1", one.clone()), put("x/2", Member::new(2))]).await.unwrap();
    settle().await;
    assert_eq!(told(&endpoints), ["x/1: ready, weight 2, zone a", "x/2: ready"]);
    let unready = one.clone().about(|it| {
        it.ready(false);
    });
    store.commit(vec![put("x/1", unready)]).await.unwrap();
    settle().await;
    assert_eq!(told(&endpoints)[0], "x/1: not ready, weight 2, zone a");
    let version = endpoints.version();
    store.commit(vec![put("x/2", Member::new(2))]).await.unwrap();
    settle().await;
    assert_eq!((endpoints.version(), connects.load(Relaxed)), (version, 2), "no news");
    store.commit(vec![put("x/2", Member::new(2).draining(true))]).await.unwrap();
    settle().await;
    assert_eq!((&*told(&endpoints)[1], connects.load(Relaxed)), ("x/2: draining", 2));
    store.commit(vec![put("x/2", Member::new(2)), put("x/1", Member::new(3))]).await.unwrap();
    settle().await;
    assert_eq!((told(&endpoints), connects.load(Relaxed)), (vec!["x/1: ready".into(), "x/2: ready".into()], 4));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_no_endpoint_is_left_out_and_taken_out() {
    let store = Store::<u32>::new();
    let endpoints = Endpoints::<u32>::named("even");
    let even = |entry: &Entry<u32>| entry.value.is_multiple_of(2).then(|| Member::new(entry.value));
    let _task = tokio::spawn(endpoints.follow(store.watch("", Since::Start), even, |it| *it).into_future());
    store.commit((0..5).map(|it| Write::put(it.to_string(), it)).collect()).await.unwrap();
    settle().await;
    assert_eq!(endpoints.keys(), ["0".into(), "2".into(), "4".into()]);
    store.commit(vec![Write::put("2", 7), Write::put("1", 8)]).await.unwrap();
    settle().await;
    assert_eq!(endpoints.keys(), ["0".into(), "4".into(), "1".into()]);
}

#[tokio::test(start_paused = true)]
async fn who_is_taken_out_ends_what_it_has_in_flight_as_draining_and_comes_back_with_its_counts() {
    let store = Backends::new();
    let (endpoints, _, task) = following(&store);
    store.commit(vec![put("a", Member::new(1)), put("b", Member::new(2))]).await.unwrap();
    settle().await;
    let replicas = Replicas::new(endpoints.clone());
    let (one, two) = (replicas.pick().unwrap(), replicas.pick().unwrap());
    store.commit(vec![Write::remove("a"), Write::remove("b")]).await.unwrap();
    settle().await;
    assert_eq!(told(&endpoints), ["a: draining, 1 in flight", "b: draining, 1 in flight"]);
    assert!(replicas.pick().is_none());
    store.commit(vec![put("a", Member::new(1))]).await.unwrap();
    settle().await;
    assert_eq!(told(&endpoints)[0], "a: ready, 1 in flight");
    drop((one, two));
    sleep(LOOK * 2).await;
    assert_eq!(told(&endpoints), ["a: ready"]);
    let held = replicas.pick().unwrap();
    store.commit(vec![Write::remove("a")]).await.unwrap();
    sleep(LINGER - LOOK).await;
    assert_eq!(told(&endpoints), ["a: draining, 1 in flight"]);
    sleep(LOOK * 3).await;
    assert!(endpoints.is_empty(), "it has had its time");
    drop(held);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn dropping_it_ends_the_following_and_what_was_leaving_is_out() {
    let store = Backends::new();
    let (endpoints, _, task) = following(&store);
    store.commit(vec![put("a", Member::new(1)), put("b", Member::new(2))]).await.unwrap();
    settle().await;
    let replicas = Replicas::new(endpoints.clone());
    let _held = (replicas.pick(), replicas.pick());
    store.commit(vec![Write::remove("a")]).await.unwrap();
    settle().await;
    assert_eq!(endpoints.len(), 2);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(told(&endpoints), ["b: ready, 1 in flight"]);
    store.commit(vec![Write::remove("b"), put("c", Member::new(3))]).await.unwrap();
    settle().await;
    assert_eq!(told(&endpoints), ["b: ready, 1 in flight"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_is_told_and_the_last_that_was_known_stays() {
    let store = Backends::new();
    let (endpoints, _, task) = following(&store);
    store.commit(vec![put("a", Member::new(1))]).await.unwrap();
    settle().await;
    drop(store);
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "followed: closed: the stream of its changes has ended");
    assert_eq!(told(&endpoints), ["a: ready"]);
    let store = Backends::new();
    let follow = endpoints.follow(store.watch("", Since::Start), Member::of, |_| String::new());
    follow.until(sleep(Duration::from_secs(1))).await.unwrap();
    assert_eq!(told(&endpoints), ["a: ready"], "another source's");
}

#[tokio::test(start_paused = true)]
async fn a_reset_replaces_what_this_source_has_told_and_nothing_else() {
    let endpoints = Endpoints::named("two");
    endpoints.insert("by hand", 0);
    let entry = |key: &str| Entry { key: key.into(), created: 1, revision: 1, value: Member::new(1) };
    let reset = |keys: &[&str]| Change::Reset { entries: keys.iter().map(|key| entry(key)).collect(), revision: 1 };
    let batches = [vec![reset(&["a", "b"])], vec![], vec![Change::Remove(entry("b")), reset(&["c", "b", "c"])]];
    let ended = endpoints.follow(stream::iter(batches), Member::of, |it| *it).await;
    assert!(ended.unwrap_err().is_closed());
    assert_eq!(endpoints.keys(), ["by hand".into(), "b".into(), "c".into()]);
    assert_eq!(endpoints.version(), 3, "a batch is one step");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_slow_follower_misses_the_set_is_what_the_store_holds() {
    for seed in 0..40 {
        let mut rng = Seed::new(seed).rng();
        // so small that it lags, and that removals are forgotten
        let store: Backends = Store::builder().ring(4).tombstones(6).build();
        let (endpoints, _, task) = following(&store);
        for _ in 0..300 {
            let keys: BTreeSet<_> = (0..rng.below(5)).map(|_| rng.below(12).to_string()).collect();
            let writes = keys.iter().map(|key| match rng.chance(0.4) {
                true => Write::remove(key.as_str()),
                false => put(key, Member::new(rng.below(3) as u32).draining(rng.chance(0.1))),
            });
            store.commit(writes.collect()).await.unwrap();
            if rng.chance(0.2) {
                settle().await;
            }
        }
        settle().await;
        let mut seen: Vec<_> = endpoints.describe();
        seen.sort_by(|a, b| a.key.cmp(&b.key));
        let seen: Vec<_> = seen.iter().map(ToString::to_string).collect();
        let held = store.list("", None, usize::MAX).entries.into_iter();
        let status = |member: &Member<u32>| if member.draining { "draining" } else { "ready" };
        let held: Vec<_> = held.map(|entry| format!("{}: {}", entry.key.as_str(), status(&entry.value))).collect();
        assert_eq!(seen, held, "seed {seed}");
        task.abort();
    }
}
