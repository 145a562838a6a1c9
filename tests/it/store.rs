//! store: what its users rely on, and threads.

use futures::{FutureExt, Stream, StreamExt};
use seedpod::base::{Error, Kind, Result};
use seedpod::store::{After, Change, Entry, Expect, Key, Start, Store, Watch, Write};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
};

type View = BTreeMap<Key, Entry<u64>>;

fn apply(view: &mut View, batch: Vec<Change<u64>>) {
    for change in batch {
        match change {
            Change::Reset { entries, .. } => {
                *view = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
            }
            Change::Put { entry, .. } => drop(view.insert(entry.key.clone(), entry)),
            Change::Remove(entry) => drop(view.remove(&entry.key)),
        }
    }
}

fn now<V: Clone>(watch: &mut Watch<V>) -> Option<Vec<Change<V>>> {
    watch.next().now_or_never().flatten()
}

fn puts(batch: &[Change<u64>]) -> Vec<(String, u64)> {
    let put = |change: &Change<u64>| match change {
        Change::Put { entry, .. } => (entry.key.to_string(), entry.value),
        other => panic!("{other:?}"),
    };
    batch.iter().map(put).collect()
}

#[tokio::test]
async fn a_commit_is_all_or_nothing_and_names_what_is_in_the_way() -> Result {
    let store = Store::new();
    assert_eq!(store.commit(vec![Write::create("a/x", 1), Write::create("b/x", 1)]).await?, 1);
    let said = async |writes: Vec<Write<u64>>| store.commit(writes).await.unwrap_err();
    let error = said(vec![Write::create("a/y", 1), Write::put("b/x", 2).expect(Expect::Revision(7))]).await;
    assert!(error.is_conflict());
    assert_eq!(error.place(), Some("b/x"));
    assert_eq!(error.to_string(), "b/x: conflict: expected revision 7, revision 1 is there");
    assert_eq!(
        said(vec![Write::create("b/x", 2)]).await.to_string(),
        "b/x: conflict: expected nothing, revision 1 is there"
    );
    assert_eq!(
        said(vec![Write::remove("c").expect(Expect::Revision(1))]).await.to_string(),
        "c: conflict: expected revision 1, nothing is there"
    );
    assert_eq!(said(vec![Write::put("", 1)]).await.kind(), Kind::Invalid);
    assert_eq!(
        said(vec![Write::put("a/z", 1), Write::put("a//z", 2)]).await.to_string(),
        "a/z: invalid: written twice in one commit"
    );
    assert_eq!((store.revision(), store.len(), store.get("a/y")), (1, 2, None));
    assert_eq!(store.commit(vec![Write::remove("nobody")]).await?, 1, "what changes nothing is no revision");
    assert_eq!(store.commit(Vec::new()).await?, 1);
    store.remove("a/x").await?;
    store.put("a/x", 5).await?;
    let updated = store.update("a/x", |old| old.copied()).await?.unwrap();
    let again = store.get("/a/x").unwrap();
    assert_eq!(updated, again);
    assert_eq!(store.update("a/x", |_| None).await?, Some(updated), "none leaves it as it is");
    assert_eq!((again.created, again.revision, again.value), (3, 4, 5), "another thing of the same name");
    store.put("a/x", 6).await?;
    assert_eq!(store.get("a/x").map(|entry| (entry.created, entry.revision)), Some((3, 5)));
    Ok(())
}

#[tokio::test]
async fn a_watch_tells_everything_then_each_change_with_what_it_replaced() -> Result {
    let store = Store::new();
    store.put("a/x", 1).await?;
    store.put("b/x", 1).await?;
    let mut watch = store.watch("a/", Start);
    let entry = |created, revision, value| Entry { key: Key::new("a/x"), created, revision, value };
    assert_eq!(now(&mut watch), Some(vec![Change::Reset { entries: vec![entry(1, 1, 1)], revision: 2 }]));
    assert_eq!(now(&mut watch), None);
    store.put("a/x", 2).await?;
    store.put("b/x", 2).await?;
    store.remove("a/x").await?;
    let told = vec![Change::Put { entry: entry(1, 3, 2), old: Some(1) }, Change::Remove(entry(1, 5, 2))];
    assert_eq!(now(&mut watch), Some(told));
    assert_eq!(watch.revision(), 5);
    Ok(())
}

#[tokio::test]
async fn a_prefix_is_everything_or_a_folder_or_one_key() -> Result {
    let store = Store::new();
    let keys = ["pods", "pods/shop", "pods/shop/cart", "pods/shopping/cart", "podsx"];
    for key in keys {
        store.put(key, 0).await?;
    }
    for (prefix, wanted) in [("", &keys[..]), ("/", &keys[..]), ("pods/", &keys[1..4]), ("pods/shop", &keys[1..2])] {
        let found: Vec<_> = store.list(prefix, None, 9).entries.into_iter().map(|entry| entry.key).collect();
        assert_eq!(found, wanted, "{prefix:?}");
        let mut watch = store.watch(prefix, After(0));
        assert_eq!(puts(&now(&mut watch).unwrap()).len(), wanted.len(), "{prefix:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_watcher_is_given_each_changed_key_once() -> Result {
    let store = Store::builder().ring(8).build();
    for key in ["a/1", "a/2", "a/3", "a/4"] {
        store.put(key, 0).await?;
    }
    let mut watch = store.watch("a/", Start);
    now(&mut watch).unwrap();
    for value in 1..100 {
        store.put("a/2", value).await?;
        store.put("a/1", value).await?;
        store.put(format!("a/passing{value}"), value).await?;
        store.remove(format!("a/passing{value}")).await?;
    }
    store.remove("a/3").await?;
    store.remove("a/4").await?;
    store.put("a/4", 7).await?;
    let batch = now(&mut watch).unwrap();
    let told: Vec<_> = batch.iter().map(|change| change.entries()[0].key.as_str()).collect();
    assert_eq!(told, ["a/2", "a/1", "a/3", "a/4"], "in the order of revisions, without what came and went");
    assert!(matches!(&batch[2], Change::Remove(entry) if entry.value == 0));
    assert!(matches!(&batch[3], Change::Put { entry, .. } if entry.created == entry.revision));
    assert_eq!(now(&mut watch), None);
    Ok(())
}

#[tokio::test]
async fn everything_again_only_when_removals_are_forgotten() -> Result {
    let store = Store::builder().ring(8).tombstones(10).build();
    store.put("a/kept", 0).await?;
    let (mut lagging, mut quiet) = (store.watch("a/", Start), store.watch("b/", Start));
    now(&mut lagging).unwrap();
    now(&mut quiet).unwrap();
    let churn = async |times| {
        for value in 0..times {
            store.put("a/x", value).await?;
            store.remove("a/x").await?;
        }
        Ok::<_, Error>(())
    };
    churn(10).await?;
    assert_eq!(now(&mut lagging), None, "ten removals are remembered, and the key is not worth a word");
    churn(11).await?;
    let batch = now(&mut lagging).unwrap();
    assert!(matches!(&batch[..], [Change::Reset { entries, revision: 43 }] if entries.len() == 1), "{batch:?}");
    store.put("b/x", 1).await?;
    assert_eq!(puts(&now(&mut quiet).unwrap()), [("b/x".into(), 1)], "a quiet prefix never falls behind");
    Ok(())
}

#[tokio::test]
async fn a_burst_on_a_long_quiet_prefix_is_no_reason_for_a_reset() -> Result {
    let store = Store::builder().ring(4).tombstones(4).build();
    let mut watch = store.watch("quiet/", Start);
    now(&mut watch).unwrap();
    for value in 0..100 {
        store.put("busy/x", value).await?;
        store.remove("busy/x").await?;
    }
    for value in 0..20 {
        store.put("quiet/x", value).await?;
    }
    assert_eq!(puts(&now(&mut watch).unwrap()), [("quiet/x".into(), 19)]);
    Ok(())
}

#[tokio::test]
async fn after_a_revision_comes_what_changed_since() -> Result {
    let store = Store::builder().tombstones(2).build();
    for value in 0..4 {
        store.put(["a", &value.to_string()], value).await?;
    }
    assert_eq!(now(&mut store.watch("a/", After(4))), None);
    assert_eq!(puts(&now(&mut store.watch("a/", After(2))).unwrap()), [("a/2".into(), 2), ("a/3".into(), 3)]);
    let ahead = now(&mut store.watch("a/", After(99))).unwrap();
    assert!(matches!(&ahead[..], [Change::Reset { revision: 4, .. }]), "no revision of this store");
    let mut first = store.watch("a/", After(4));
    store.put("a/0", 9).await?; // 5
    store.remove("a/1").await?; // 6
    let steps = now(&mut store.watch("a/", After(4))).unwrap();
    assert!(matches!(&steps[0], Change::Put { old: Some(0), .. }), "what a ring still has is told step by step");
    assert_eq!(now(&mut first), Some(steps));
    drop(first);
    let summary = now(&mut store.watch("a/", After(4))).unwrap();
    assert!(matches!(&summary[..], [Change::Put { old: None, .. }, Change::Remove(_)]));
    store.remove("a/2").await?;
    store.remove("a/3").await?;
    let forgotten = now(&mut store.watch("a/", After(4))).unwrap();
    assert!(matches!(&forgotten[..], [Change::Reset { entries, .. }] if entries.len() == 1));
    Ok(())
}

#[tokio::test]
async fn a_commit_comes_whole_however_large() -> Result {
    let store = Store::builder().ring(4).build();
    let mut watch = store.watch("a/", Start);
    now(&mut watch).unwrap();
    for size in [3_u64, 3, 5, 600] {
        store.commit((0..size).map(|n| Write::put(format!("a/{n:03}"), size)).collect()).await?;
        assert_eq!(now(&mut watch).map(|batch| batch.len()), Some(size as usize));
    }
    let large = Store::new();
    let mut watch = large.watch("", Start);
    now(&mut watch).unwrap();
    for _ in 0..3 {
        large.commit((0..200).map(|n| Write::put(n.to_string(), n)).collect()).await?;
    }
    let sizes: Vec<_> = std::iter::from_fn(|| now(&mut watch)).map(|batch: Vec<Change<u64>>| batch.len()).collect();
    assert_eq!(sizes, [400, 200], "a batch ends where a commit does");
    Ok(())
}

#[tokio::test]
async fn pages_under_writes_list_once_what_is_there_all_along() -> Result {
    let store = Store::new();
    for n in 0..100_u64 {
        store.put(format!("kept/{n:03}"), n).await?;
    }
    let snapshot = store.snapshot();
    let first = store.list("kept/", None, 7);
    let mut watch = store.watch("kept/", After(first.revision));
    let mut view: View = first.entries.iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
    let (mut listed, mut page) = (first.entries.len(), first);
    for round in 0.. {
        let Some(from) = page.next.take() else { break };
        store.put(format!("kept/{:03}x", round * 5), 0).await?;
        store.remove(format!("kept/{:03}x", round * 3)).await?;
        page = store.list("kept/", Some(&from), 7);
        assert!(page.entries.len() == 7 || page.next.is_none());
        listed += page.entries.iter().filter(|entry| !entry.key.ends_with('x')).count();
        view.extend(page.entries.iter().map(|entry| (entry.key.clone(), entry.clone())));
    }
    assert_eq!(listed, 100);
    while let Some(batch) = now(&mut watch) {
        apply(&mut view, batch);
    }
    let there: View = store.list("kept/", None, 1000).entries.into_iter().map(|e| (e.key.clone(), e)).collect();
    assert_eq!(view, there, "the listing and the watch after its first page miss nothing");
    assert_eq!((snapshot.len(), snapshot.revision()), (100, 100), "later commits do not move it");
    assert_eq!(snapshot.get("kept/007").map(|entry| entry.value), Some(7));
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_with_the_last_handle_and_frees_its_seat() -> Result {
    let store = Store::new();
    let other = store.clone();
    let mut watch = store.watch("a/", Start);
    let second = store.watch("a/", Start);
    assert_eq!((store.stats().watches, store.stats().prefixes), (2, 1));
    drop(second);
    drop(store.watch("b/", Start));
    assert_eq!((store.stats().watches, store.stats().prefixes), (1, 1));
    assert!(watch.next().await.is_some());
    let waiting = tokio::spawn(async move { (watch.next().await, watch.next().await) });
    tokio::task::yield_now().await;
    drop(store);
    other.put("a/x", 1).await?;
    drop(other);
    let (last, end) = waiting.await.unwrap();
    assert_eq!(puts(&last.unwrap()), [("a/x".into(), 1)], "what was written is told first");
    assert_eq!(end, None);
    Ok(())
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[tokio::test]
async fn each_seat_is_woken_once_and_holds_one_waker() -> Result {
    let store = Store::new();
    let mut watches: Vec<_> = (0..3).map(|_| store.watch("a/", Start)).collect();
    let counts: Vec<_> = (0..3).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
    for (watch, count) in watches.iter_mut().zip(&counts) {
        now(watch).unwrap();
        for _ in 0..5 {
            // given up and begun again, each time with another waker
            let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
            assert!(Pin::new(&mut *watch).poll_next(&mut Context::from_waker(&waker)).is_pending());
            let waker = Waker::from(count.clone());
            assert!(Pin::new(&mut *watch).poll_next(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    drop(watches.remove(0));
    store.put("b/x", 1).await?;
    store.put("a/x", 1).await?;
    store.put("a/x", 2).await?;
    assert_eq!(counts.iter().map(|count| count.0.load(Relaxed)).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(Arc::strong_count(&counts[1]), 1, "no waker is kept");
    assert_eq!(puts(&now(&mut watches[0]).unwrap()).len(), 2, "a dropped wait loses nothing");
    Ok(())
}

/// A value whose end touches the store, as a guard of a registration would.
#[derive(Clone)]
struct Guard(Option<Arc<Store<Guard>>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(store) = &self.0 {
            assert!(store.revision() < 1000);
        }
    }
}

#[tokio::test]
async fn values_are_dropped_while_nothing_is_locked() -> Result {
    let store: Arc<Store<Guard>> = Arc::new(Store::builder().ring(2).tombstones(1).build());
    let watch = store.watch("a/", Start);
    for _ in 0..10 {
        store.put("a/x", Guard(Some(store.clone()))).await?;
        store.put("b/x", Guard(Some(store.clone()))).await?;
        store.remove("a/x").await?;
        assert!(store.commit(vec![Write::create("b/x", Guard(Some(store.clone())))]).await.is_err());
    }
    drop(watch);
    store.remove("b/x").await?;
    store.put("c", Guard(None)).await?;
    store.remove("c").await?;
    Ok(())
}

#[tokio::test]
async fn a_busy_store_lets_its_readers_yield() -> Result {
    let store = Store::new();
    let mut watch = store.watch("", Start);
    let reader = tokio::spawn({
        let store = store.clone();
        async move {
            while let Some(_batch) = watch.next().await {
                let _ = store.put("x", 1).await; // so that there is always more
            }
        }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    reader.abort();
    assert!(reader.await.unwrap_err().is_cancelled());
    assert!(store.revision() > 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_write_and_watch_and_all_agree_at_the_end() -> Result {
    const WRITERS: u64 = 4;
    const EACH: u64 = 3_000;
    let store: Store<u64> = Store::builder().ring(32).tombstones(64).build();
    store.put("sum", 0).await?;
    let watchers: Vec<_> = ["", "a/", "a/1/", "sum"]
        .into_iter()
        .cycle()
        .take(12)
        .enumerate()
        .map(|(index, prefix)| {
            let mut watch = store.watch(prefix, Start);
            tokio::spawn(async move {
                let (mut view, mut at) = (View::new(), 0);
                while let Some(batch) = watch.next().await {
                    assert!(watch.revision() >= at && batch.iter().all(|change| change.revision() >= at));
                    at = watch.revision();
                    apply(&mut view, batch);
                    // both keys of a pair are always written by one commit
                    for (key, entry) in view.range(Key::new("a/")..).take_while(|(key, _)| key.is_under("a/")) {
                        if prefix.len() < 3 {
                            let pair = Key::from(["a", if key.starts_with("a/1") { "2" } else { "1" }, key.name()]);
                            assert_eq!(view.get(&pair).map(|pair| pair.revision), Some(entry.revision), "{key}");
                        }
                    }
                    if index % 3 == 0 {
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                }
                (prefix, view)
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for step in 0..EACH {
                    let name = ((writer * 7 + step) % 13).to_string();
                    let value = (step % 3 > 0).then_some(step);
                    let pair =
                        ["1", "2"].map(|side| Write { key: Key::from(["a", side, &name]), expect: Expect::Any, value });
                    store.commit(pair.into()).await?;
                    store.update("sum", |sum| sum.map(|sum| sum + 1)).await?;
                    if step % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap()?;
    }
    assert_eq!(store.get("sum").unwrap().value, WRITERS * EACH, "no update is lost");
    let end = store.snapshot();
    drop(store); // which ends the watches
    for watcher in watchers {
        let (prefix, view) = watcher.await.unwrap();
        let there: View = end.list(prefix, None, 999).entries.into_iter().map(|e| (e.key.clone(), e)).collect();
        assert_eq!(view, there, "watcher of {prefix:?}");
    }
    Ok(())
}

#[tokio::test]
async fn it_is_a_stream() -> Result {
    let store = Store::new();
    let watch = store.watch("", Start);
    store.put("x", 1_u64).await?;
    drop(store);
    assert_eq!(watch.count().await, 2);
    Ok(())
}
