//! Writers that conflict and are killed; watchers that lag, are dropped, give up waiting and come back: at each batch a
//! watcher's view is what the store held at that revision, never an older one, and at the end what it holds.

use crate::schedule::{Hits, Subject, alive, simulate};
use seedpod::{
    base::{Kind, Rng, Seed, hash, sync::Lock, time},
    net::Scope,
    store::{After, Change, Entry, Expect, Key, Snapshot, Start, Store, Watch, Write},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

const SUBJECT: Subject = Subject {
    test: "store::schedules_store",
    faults: &[
        "commit refused whole",
        "everything again",
        "lag",
        "pages under writes",
        "snapshot outlived",
        "wait given up",
        "watch dropped and resumed",
        "watch dropped and restarted",
        "writer killed before its commit",
        "writer too late",
    ],
    one_in: 1,
    usual: 200,
};

#[test]
fn schedules_store() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

type View = BTreeMap<Key, Entry<u64>>;

/// The store, and all that it must have held: a view per revision.
struct World {
    store: Store<u64>,
    ring: usize,
    /// Locked over each commit, so that the model keeps step.
    history: Lock<Vec<View>>,
    /// Successful counts.
    counted: Lock<u64>,
    hits: Lock<Vec<&'static str>>,
    course: Lock<u64>,
    /// Nobody writes any more.
    over: AtomicBool,
    /// Nobody is to begin another write.
    closing: AtomicBool,
}

fn under(view: &View, prefix: &str) -> View {
    view.iter().filter(|(key, _)| key.is_under(prefix)).map(|(key, entry)| (key.clone(), entry.clone())).collect()
}

impl World {
    fn hit_if(&self, met: bool, fault: &'static str) {
        if met {
            self.hits.lock().push(fault);
        }
    }

    /// Commits, and does the same to the model; whether it took effect.
    async fn commit(&self, writes: Vec<Write<u64>>) -> bool {
        let mut history = self.history.lock();
        let before = history.last().cloned().unwrap_or_default();
        let wrong = |write: &Write<u64>| match write.expect {
            Expect::Any => false,
            Expect::Absent => before.contains_key(&write.key),
            Expect::Revision(revision) => before.get(&write.key).is_none_or(|entry| entry.revision != revision),
        };
        let refused = writes.iter().find(|write| wrong(write)).map(|write| write.key.clone());
        let mut after = before.clone();
        let next = history.len() as u64;
        for Write { key, value, .. } in writes.clone() {
            match value {
                Some(value) => {
                    let created = before.get(&key).map_or(next, |entry| entry.created);
                    after.insert(key.clone(), Entry { key, created, revision: next, value });
                }
                None => drop(after.remove(&key)),
            }
        }
        let several = writes.len() > 1;
        let answer = futures::FutureExt::now_or_never(self.store.commit(writes)).expect("memory answers at once");
        match (answer, refused) {
            (Ok(revision), None) if after == before => assert_eq!(revision, next - 1, "nothing has changed"),
            (Ok(revision), None) => {
                assert_eq!(revision, next);
                history.push(after);
                return true;
            }
            (Err(error), Some(key)) => {
                assert_eq!((error.kind(), error.place()), (Kind::Conflict, Some(key.as_str())));
                assert_eq!(self.store.revision(), next - 1, "a refused commit leaves the store as it was");
                drop(history);
                self.hit_if(several, "commit refused whole");
            }
            (answer, refused) => panic!("{answer:?}, and the model says {refused:?}"),
        }
        false
    }
}

/// Reads, thinks, writes what is to follow on what it has read.
async fn writer(world: Arc<World>, deciding: Arc<AtomicBool>, mut rng: Rng) {
    while !world.closing.load(Relaxed) {
        let name = rng.below(4).to_string();
        let key = Key::from(["a", ["1", "2"][rng.below(2) as usize], &name]);
        match rng.below(6) {
            // both keys of a pair are always written by one commit, on what was there
            0..3 => {
                let pair = ["1", "2"].map(|side| Key::from(["p", side, &name]));
                let seen = pair.clone().map(|key| world.store.get(&key).map(|entry| entry.revision));
                deciding.store(true, Relaxed);
                time::sleep(Duration::from_millis(rng.below(3))).await;
                deciding.store(false, Relaxed);
                let value = rng.chance(0.7).then(|| rng.next_u64());
                let writes = pair.into_iter().zip(seen).map(|(key, seen)| Write {
                    key,
                    expect: seen.map_or(Expect::Absent, Expect::Revision),
                    value,
                });
                let late = seen[0] != world.store.get(["p", "1", &name].join("/").as_str()).map(|entry| entry.revision);
                let taken = world.commit(writes.collect()).await;
                assert!(!(late && taken));
                world.hit_if(late, "writer too late");
            }
            3 => drop(world.commit(vec![Write::remove(key)]).await),
            4 => {
                let count = world.store.get("count");
                let next = count.as_ref().map_or(1, |entry| entry.value + 1);
                let write = count.map_or(Write::create("count", 1), |entry| Write::replace(&entry, next));
                if world.commit(vec![write]).await {
                    *world.counted.lock() += 1;
                }
            }
            _ => drop(world.commit(vec![Write::put(key, rng.next_u64())]).await),
        }
        if rng.chance(0.3) {
            time::sleep(Duration::from_millis(rng.below(4))).await;
        }
    }
}

/// A watcher and what it believes.
struct Watcher {
    prefix: &'static str,
    view: View,
    at: u64,
    resets: usize,
}

impl Watcher {
    /// Takes a batch; holds what it then believes to what was there.
    fn take(&mut self, world: &World, watch: &Watch<u64>, batch: Vec<Change<u64>>) {
        assert!(!batch.is_empty());
        let mut last = self.at;
        for change in batch {
            assert!(change.revision() >= last, "{}: back from {last} to {}", self.prefix, change.revision());
            last = change.revision();
            match change {
                Change::Reset { entries, .. } => {
                    self.resets += 1;
                    self.view = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
                }
                Change::Put { entry, old } => {
                    let before = self.view.insert(entry.key.clone(), entry);
                    assert!(old.is_none() || old == before.map(|entry| entry.value), "what was replaced");
                }
                Change::Remove(entry) => drop(self.view.remove(&entry.key)),
            }
        }
        assert!(watch.revision() >= last);
        self.at = watch.revision();
        let history = world.history.lock();
        assert_eq!(self.view, under(&history[self.at as usize], self.prefix), "{} at {}", self.prefix, self.at);
        let mut course = world.course.lock();
        *course = hash::of(format!("{course} {} {} {:?}", self.prefix, self.at, self.view.keys()).as_bytes());
    }

    /// How many changes it has not been told.
    fn behind(&self, world: &World) -> usize {
        let history = world.history.lock();
        let since = &history[self.at as usize..];
        since.windows(2).filter(|pair| under(&pair[0], self.prefix) != under(&pair[1], self.prefix)).count()
    }
}

async fn watcher(world: Arc<World>, prefix: &'static str, mut rng: Rng) -> Watcher {
    let mut own = Watcher { prefix, view: View::new(), at: 0, resets: 0 };
    let mut watch = world.store.watch(prefix, Start);
    let slow = rng.chance(0.5);
    loop {
        if world.over.load(Relaxed) && own.behind(&world) == 0 && own.resets > 0 {
            return own;
        }
        match rng.below(10) {
            // begins to wait, and does not stay; what it is given after all counts
            0 | 1 => {
                let waiting = tokio::time::timeout(Duration::from_millis(rng.below(2)), watch.next()).await;
                match waiting {
                    Ok(batch) => own.take(&world, &watch, batch.unwrap()),
                    Err(_) => world.hit_if(!world.over.load(Relaxed), "wait given up"),
                }
            }
            2 if own.resets > 0 => {
                world.hit_if(own.behind(&world) > 0, "watch dropped and resumed");
                drop(watch);
                watch = world.store.watch(prefix, After(own.at));
            }
            3 => {
                world.hit_if(own.behind(&world) > 0, "watch dropped and restarted");
                watch = world.store.watch(prefix, Start);
            }
            _ => {
                let resets = own.resets;
                let lagging = own.behind(&world) > world.ring;
                let waiting = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
                if let Ok(batch) = waiting {
                    let first = matches!(batch.as_deref(), Some([Change::Reset { .. }])) && !lagging;
                    own.take(&world, &watch, batch.unwrap());
                    world.hit_if(lagging, "lag");
                    world.hit_if(own.resets > resets && resets > 0 && !first, "everything again");
                }
            }
        }
        let pause = if slow { rng.below(12) } else { rng.below(2) };
        time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Lists in small pages while others write: what was there all along is listed once.
async fn reader(world: Arc<World>, mut rng: Rng) {
    while !world.over.load(Relaxed) {
        let first = world.store.revision() as usize;
        let (mut listed, mut from, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = world.store.list("", from.as_ref(), 1 + rng.below(4) as usize);
            let moment = world.history.lock()[page.revision as usize].clone();
            assert!(page.entries.iter().all(|entry| moment.get(&entry.key) == Some(entry)));
            listed.extend(page.entries.into_iter().map(|entry| entry.key));
            (from, pages) = (page.next, pages + 1);
            if from.is_none() {
                break;
            }
            time::sleep(Duration::from_millis(rng.below(2))).await;
        }
        assert!(listed.is_sorted() && listed.windows(2).all(|pair| pair[0] != pair[1]));
        let last = world.store.revision() as usize;
        {
            let history = world.history.lock();
            let kept = |key: &&Key| history[first..=last].iter().all(|view| view.contains_key(*key));
            assert!(history[first].keys().filter(kept).all(|key| listed.contains(key)), "{listed:?}");
        }
        world.hit_if(last > first && pages > 1, "pages under writes");
        time::sleep(Duration::from_millis(rng.below(6))).await;
    }
}

fn unmoved(world: &World, snapshot: &Snapshot<u64>) {
    let held: View = snapshot.list("", None, 999).entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    assert_eq!(held, world.history.lock()[snapshot.revision() as usize], "a snapshot has moved");
}

async fn schedule(seed: Seed, hits: &mut Hits) -> (u64, u64) {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let ring = 1 + rng.below(8) as usize;
    let world = Arc::new(World {
        store: Store::builder().ring(ring).tombstones(rng.below(12) as usize).build(),
        ring,
        history: Lock::new(vec![View::new()]),
        counted: Lock::new(0),
        hits: Lock::default(),
        course: Lock::new(0),
        over: AtomicBool::new(false),
        closing: AtomicBool::new(false),
    });
    let scope = |rng: &mut Rng| Scope::perturbed(rng.fork());
    let watching = scope(&mut rng);
    let watchers: Vec<_> = ["", "a/", "p/", "p/1/", "count"]
        .map(|prefix| watching.spawn(watcher(world.clone(), prefix, rng.fork())))
        .into();
    watching.spawn(reader(world.clone(), rng.fork()));
    let write = |scope: Scope, rng: &mut Rng| {
        let deciding = Arc::<AtomicBool>::default();
        scope.spawn(writer(world.clone(), deciding.clone(), rng.fork()));
        (scope, deciding)
    };
    let (mut writing, mut scopes): (Vec<_>, _) = (Vec::new(), vec![watching]);
    for _ in 0..3 {
        writing.push(write(scope(&mut rng), &mut rng));
    }
    let mut snapshots = Vec::new();
    for _ in 0..3 + rng.below(4) {
        time::sleep(Duration::from_millis(rng.below(8))).await;
        let victim = &mut writing[rng.below(3) as usize];
        world.hit_if(victim.1.load(Relaxed), "writer killed before its commit");
        victim.0.kill();
        scopes.push(std::mem::replace(victim, write(scope(&mut rng), &mut rng)).0);
        snapshots.push(world.store.snapshot());
    }
    world.closing.store(true, Relaxed);
    for (scope, _) in &writing {
        scope.gone().await;
    }
    world.over.store(true, Relaxed);
    for watcher in watchers {
        let own = tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("a watcher hangs").unwrap();
        assert_eq!(own.view, under(world.history.lock().last().unwrap(), own.prefix), "the end of {}", own.prefix);
    }
    for snapshot in &snapshots {
        unmoved(&world, snapshot);
        world.hit_if(snapshot.revision() < world.store.revision(), "snapshot outlived");
    }
    assert_eq!(world.store.get("count").map_or(0, |entry| entry.value), *world.counted.lock(), "no count is lost");
    for scope in scopes.into_iter().chain(writing.into_iter().map(|(scope, _)| scope)) {
        scope.gone().await;
        assert_eq!(scope.panics(), 0);
    }
    let stats = world.store.stats();
    assert_eq!((stats.watches, stats.prefixes), (0, 0), "no watch is left");
    assert_eq!(alive(), before, "tasks are left");
    for fault in world.hits.lock().drain(..) {
        hits.hit(fault);
    }
    let course = *world.course.lock();
    (course, world.store.revision())
}
