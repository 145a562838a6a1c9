//! The store under test: shards with fences, two routers, writers and readers, a mover in trouble, and what they promise.

use async_trait::async_trait;
use futures::future::BoxFuture;
use seedpod::{
    Error, Kind, Result,
    base::{Rng, hash, sync::Lock, time},
    layer::Request,
    net::{Net, Scope},
    serving::{Endpoints, Fence, FenceLayer, Moved, Mover, Moving, Route, ShardMap, ShardMaps, Shards},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

pub(super) const SHARDS: u64 = 5;
pub(super) const KEYS: u64 = 40;
/// The longest that keys may be served by nobody, in milliseconds.
pub(super) const PAUSE: u64 = 300;

const WRITERS: u64 = 3;
const READERS: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Between,
    Copying,
    Sealing,
    HandingOver,
    Committing,
    Cleaning,
}

/// A read, or a write of this value.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    key: String,
    put: Option<u64>,
    /// Of the map that it was sent under.
    map: u64,
}

#[derive(Clone, Copy)]
pub(super) struct ByKey;

impl Route<Request<Operation>> for ByKey {
    fn with_key<T>(&self, request: &Request<Operation>, then: impl FnOnce(&[u8]) -> T) -> T {
        then(request.message().key.as_bytes())
    }

    fn stamp(&self, request: &mut Request<Operation>, version: u64) {
        request.message_mut().map = version;
    }

    fn version(&self, request: &Request<Operation>) -> Option<u64> {
        Some(request.message().map)
    }
}

type Endpoint = BoxCloneSyncService<Request<Operation>, u64, Error>;
type Router = Shards<Endpoint, ByKey>;

#[derive(Default)]
struct Rows {
    values: BTreeMap<String, u64>,
    /// Written since they were copied, for each shard that they were copied to.
    changed: BTreeMap<Arc<str>, BTreeSet<String>>,
}

struct Shard {
    fence: Fence,
    rows: Lock<Rows>,
}

/// What is known of a key from outside.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The last value whose write has begun.
    begun: u64,
    /// The highest that a write was answered with, or a read.
    answered: u64,
}

pub(super) struct World {
    pub(super) routers: [Router; 2],
    shards: BTreeMap<Arc<str>, Shard>,
    maps: ShardMaps,
    /// Where it is decided which map counts, where that is outside the process.
    store: Option<Lock<ShardMap>>,
    known: Lock<BTreeMap<String, Known>>,
    /// Which shard serves a key, how many times at once.
    inside: Lock<BTreeMap<String, (Arc<str>, u32)>>,
    stage: Lock<Stage>,
    /// How often a step of the mover fails or hangs, in a thousand.
    trouble: AtomicU64,
    rng: Lock<Rng>,
    hits: Lock<Vec<&'static str>>,
    violations: Lock<Vec<String>>,
    course: Lock<u64>,
    calls: AtomicU64,
    stopping: AtomicBool,
    /// Those that call end by themselves, and so does what arrives late; those that follow are killed.
    callers: Scope,
    late: Scope,
    followers: Scope,
    me: Weak<World>,
}

impl World {
    pub(super) fn start(map: ShardMap, rng: &mut Rng) -> Arc<World> {
        let net = Net::memory().build();
        let store = rng.chance(0.4).then(|| Lock::new(map.clone()));
        let (maps, lagging) = (ShardMaps::new(map.clone()), ShardMaps::new(map.clone()));
        let fences_lag = rng.chance(0.5);
        let shards: BTreeMap<Arc<str>, Shard> = (0..SHARDS)
            .map(|number| {
                let own = if fences_lag { ShardMaps::new(map.clone()) } else { maps.clone() };
                let name: Arc<str> = format!("s{number}").into();
                (name.clone(), Shard { fence: Fence::new(name, own), rows: Lock::default() })
            })
            .collect();
        for number in 0..KEYS {
            let key = format!("k{number}");
            let owner = map.name(map.owner(key.as_str()));
            shards[owner].rows.lock().values.insert(key, 0);
        }
        let world = Arc::new_cyclic(|world: &Weak<World>| {
            let endpoints = Endpoints::named("store");
            for (name, shard) in &shards {
                let (of, here) = (world.clone(), name.clone());
                let serve = service_fn(move |request: Request<Operation>| {
                    let (world, here) = (of.upgrade().unwrap(), here.clone());
                    async move { world.serve(here, request.into_message()).await }
                });
                let fenced = FenceLayer::new(shard.fence.clone(), ByKey).layer(serve);
                let (of, fence) = (world.clone(), shard.fence.clone());
                let seen = service_fn(move |request: Request<Operation>| {
                    let (world, fence, mut fenced) = (of.upgrade().unwrap(), fence.clone(), fenced.clone());
                    async move {
                        let asked = request.message().map;
                        let answer = fenced.call(request).await;
                        let moved = answer.as_ref().err().and_then(Moved::of);
                        world.refused(&fence, asked, moved);
                        answer
                    }
                });
                endpoints.insert(name.clone(), BoxCloneSyncService::new(seen));
            }
            let router = |maps: ShardMaps| Shards::routed(maps, ByKey, endpoints.clone());
            World {
                routers: [router(maps.clone()), router(lagging.clone())],
                shards,
                maps,
                store,
                known: Lock::default(),
                inside: Lock::default(),
                stage: Lock::new(Stage::Between),
                trouble: AtomicU64::new(0),
                rng: Lock::new(rng.fork()),
                hits: Lock::default(),
                violations: Lock::default(),
                course: Lock::new(0),
                calls: AtomicU64::new(0),
                stopping: AtomicBool::new(false),
                callers: net.scope(),
                late: net.scope(),
                followers: net.scope(),
                me: world.clone(),
            }
        });
        for number in 0..WRITERS {
            world.callers.spawn(writer(world.clone(), number, rng.fork()));
        }
        for _ in 0..READERS {
            world.callers.spawn(reader(world.clone(), rng.fork()));
        }
        // whoever has maps of its own learns of the one that counts late
        let mut follow = |maps: ShardMaps, lag| {
            drop(world.followers.spawn(follower(world.clone(), maps, lag, rng.fork())));
        };
        follow(lagging, 60);
        if world.store.is_some() {
            follow(world.maps.clone(), 20);
        }
        if fences_lag {
            world.shards.values().for_each(|shard| follow(shard.fence.maps().clone(), 30));
        }
        world
    }

    /// The map that counts.
    pub(super) fn counts(&self) -> ShardMap {
        self.store.as_ref().map_or_else(|| self.maps.current(), |store| store.lock().clone())
    }

    /// Whoever begins a rebalance knows what counts.
    pub(super) fn follow_the_store(&self) {
        let _ = self.maps.publish(self.counts());
    }

    /// Whether each key has its owner of this map.
    pub(super) fn is_as(&self, map: &ShardMap) -> bool {
        let counts = self.counts();
        (0..KEYS)
            .map(|number| format!("k{number}"))
            .all(|key| counts.name(counts.owner(key.as_str())) == map.name(map.owner(key.as_str())))
    }

    async fn serve(self: Arc<Self>, here: Arc<str>, operation: Operation) -> Result<u64> {
        let key = &operation.key;
        let _inside = Inside::enter(&self, key, &here);
        self.nap(8).await;
        let value = {
            let mut rows = self.shards[&here].rows.lock();
            match operation.put {
                Some(value) => {
                    rows.values.insert(key.clone(), value);
                    for changed in rows.changed.values_mut() {
                        changed.insert(key.clone());
                    }
                    value
                }
                None => rows.values.get(key).copied().unwrap_or_default(),
            }
        };
        self.nap(5).await;
        Ok(value)
    }

    fn refused(&self, fence: &Fence, asked: u64, moved: Option<Moved>) {
        let (Some(moved), known) = (moved, fence.maps().current().version()) else { return };
        if asked > known {
            self.hit("fence behind its router");
        } else if moved.version() > known {
            self.hit("request held for the next map");
        } else if asked < known {
            self.hit("router behind");
        }
    }

    pub(super) fn set_trouble(&self, thousandths: u64) {
        self.trouble.store(thousandths, Relaxed);
    }

    pub(super) fn at(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    /// The rebalance was dropped where it was.
    pub(super) fn dropped(&self) {
        self.hit(match *self.stage.lock() {
            Stage::Between => return,
            Stage::Copying => "dropped while copying",
            Stage::Sealing => "dropped while sealing",
            Stage::HandingOver => "dropped while handing over",
            Stage::Committing => "dropped while committing",
            Stage::Cleaning => "dropped while cleaning",
        });
    }

    fn below(&self, limit: u64) -> u64 {
        self.rng.lock().below(limit)
    }

    async fn nap(&self, limit: u64) {
        let nap = self.below(limit);
        time::sleep(Duration::from_millis(nap)).await;
    }

    /// Whether something goes wrong now.
    fn wrong(&self) -> bool {
        self.below(1_000) < self.trouble.load(Relaxed)
    }

    fn hit(&self, fault: &'static str) {
        self.hits.lock().push(fault);
    }

    pub(super) fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.lock().push(what());
        }
    }

    fn note(&self, what: u64) {
        let mut course = self.course.lock();
        let since = self.calls.load(Relaxed);
        *course = hash::of(&[*course, what, since].map(u64::to_be_bytes).concat());
    }

    pub(super) fn course(&self) -> u64 {
        *self.course.lock()
    }

    pub(super) fn take_hits(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.hits.lock())
    }

    pub(super) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.violations.lock())
    }

    /// Ends all tasks; how many calls there were.
    pub(super) async fn stop(&self) -> usize {
        self.stopping.store(true, Relaxed);
        self.callers.gone().await;
        self.late.gone().await;
        self.followers.kill();
        self.followers.gone().await;
        self.hold(self.callers.panics() + self.late.panics() + self.followers.panics() == 0, || {
            "a task has panicked".into()
        });
        self.calls.load(Relaxed) as usize
    }

    /// Each key lies where the map says, with what was answered last.
    pub(super) fn judge(&self) {
        let counts = self.counts();
        self.hold(self.inside.lock().is_empty(), || "somebody is still inside".into());
        for number in 0..KEYS {
            let key = format!("k{number}");
            let known = self.known.lock().get(&key).copied().unwrap_or_default();
            let owner = counts.name(counts.owner(key.as_str()));
            let value = self.shards[owner].rows.lock().values.get(&key).copied();
            let fits = value.is_some_and(|value| (known.answered..=known.begun).contains(&value));
            self.hold(fits, || format!("{key} is {value:?} at {owner}, known is {known:?}"));
        }
    }

    /// Brings these rows to the new owner, in place of what it has of them or beside it.
    fn bring(&self, moving: &Moving, rows: &[(String, u64)], in_place: bool) -> Result {
        let shard = &self.shards[&moving.to];
        let mut there = shard.rows.lock();
        shard.fence.receive(moving)?;
        if in_place {
            there.values.retain(|key, _| !moving.contains(key));
        }
        there.values.extend(rows.iter().cloned());
        Ok(())
    }

    /// Now and then the rows are on their way for long, and who sent them thinks that they are lost.
    fn may_be_late(&self, moving: &Moving, rows: &[(String, u64)], in_place: bool) -> Result {
        if !self.wrong() {
            return Ok(());
        }
        let (world, moving, rows) = (self.me.upgrade().unwrap(), moving.clone(), rows.to_vec());
        let wait = self.below(250);
        drop(self.late.spawn(async move {
            time::sleep(Duration::from_millis(wait)).await;
            if world.bring(&moving, &rows, in_place).is_err() {
                world.hit("late data refused");
            }
        }));
        Err(Error::new(Kind::Timeout, "no answer"))
    }

    /// A step of the mover that may go wrong.
    async fn step(&self, stage: Stage, failed: &'static str) -> Result {
        self.at(stage);
        self.nap(6).await;
        if self.wrong() {
            self.hit(failed);
            return Err(Error::new(Kind::Unavailable, failed));
        }
        if matches!(stage, Stage::Sealing | Stage::HandingOver) && self.wrong() {
            self.hit("mover hung");
            time::sleep(Duration::from_millis(PAUSE * 10)).await;
        }
        Ok(())
    }
}

/// One that is served, for as long as it lives.
struct Inside {
    world: Arc<World>,
    key: String,
}

impl Inside {
    fn enter(world: &Arc<World>, key: &str, here: &Arc<str>) -> Self {
        let mut inside = world.inside.lock();
        let (shard, count) = inside.entry(key.to_owned()).or_insert_with(|| (here.clone(), 0));
        *count += 1;
        let other = (*shard != *here).then(|| shard.clone());
        drop(inside);
        world.hold(other.is_none(), || format!("{key} is served by {here} and {other:?}"));
        Inside { world: world.clone(), key: key.to_owned() }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut inside = self.world.inside.lock();
        if let Some((_, count)) = inside.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.key);
            }
        }
    }
}

/// Publishes the map that counts to those who have their own, late.
async fn follower(world: Arc<World>, maps: ShardMaps, lag: u64, mut rng: Rng) {
    loop {
        time::sleep(Duration::from_millis(1 + rng.below(lag))).await;
        let _ = maps.publish(world.counts());
    }
}

/// The only one that writes these keys: each value is higher than the one before.
async fn writer(world: Arc<World>, number: u64, mut rng: Rng) {
    while !world.stopping.load(Relaxed) {
        let key = format!("k{}", rng.below(KEYS / WRITERS) * WRITERS + number);
        let value = {
            let mut known = world.known.lock();
            let known = known.entry(key.clone()).or_default();
            known.begun += 1;
            known.begun
        };
        let call = call(&world, &key, Some(value), &mut rng);
        let patience = if rng.chance(0.1) { rng.below(20) } else { 3_600_000 };
        match time_out(patience, call).await {
            None => world.hit("caller gone"),
            Some(Ok(_)) => answered(&world, &key, value),
            Some(Err(error)) => world.hold(false, || format!("a write of {key} fails: {}", error.chain())),
        }
        time::sleep(Duration::from_millis(rng.below(10))).await;
    }
}

async fn reader(world: Arc<World>, mut rng: Rng) {
    while !world.stopping.load(Relaxed) {
        let key = format!("k{}", rng.below(KEYS));
        let least = world.known.lock().get(&key).copied().unwrap_or_default().answered;
        match call(&world, &key, None, &mut rng).await {
            Ok(value) => {
                let most = world.known.lock().get(&key).copied().unwrap_or_default().begun;
                world.hold((least..=most).contains(&value), || format!("{key} reads {value}, not {least} to {most}"));
                answered(&world, &key, value);
            }
            Err(error) => world.hold(false, || format!("a read of {key} fails: {}", error.chain())),
        }
        time::sleep(Duration::from_millis(rng.below(10))).await;
    }
}

fn answered(world: &World, key: &str, value: u64) {
    {
        let mut known = world.known.lock();
        let known = known.entry(key.to_owned()).or_default();
        known.answered = known.answered.max(value);
    }
    world.note(value);
}

async fn time_out<F: Future>(milliseconds: u64, future: F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(milliseconds), future).await.ok()
}

fn call(world: &World, key: &str, put: Option<u64>, rng: &mut Rng) -> impl Future<Output = Result<u64>> + use<> {
    world.calls.fetch_add(1, Relaxed);
    let router = world.routers[usize::from(rng.chance(0.5))].clone();
    router.oneshot(Request::new(Operation { key: key.to_owned(), put, map: 0 }))
}

#[async_trait]
impl Mover for World {
    async fn copy(&self, moving: &Moving) -> Result {
        self.step(Stage::Copying, "mover failed copying").await?;
        let rows: Vec<(String, u64)> = {
            let mut rows = self.shards[&moving.from].rows.lock();
            rows.changed.entry(moving.to.clone()).or_default().retain(|key| !moving.contains(key));
            rows.values
                .iter()
                .filter(|(key, _)| moving.contains(*key))
                .map(|(key, value)| (key.clone(), *value))
                .collect()
        };
        self.nap(10).await;
        self.may_be_late(moving, &rows, true)?;
        self.bring(moving, &[], true)?;
        self.nap(5).await;
        self.bring(moving, &rows, false)
    }

    async fn seal(&self, moving: &Moving) -> Result {
        self.step(Stage::Sealing, "mover failed sealing").await?;
        if self.inside.lock().iter().any(|(key, (shard, _))| *shard == moving.from && moving.contains(key)) {
            self.hit("in flight when sealed");
        }
        self.shards[&moving.from].fence.seal(moving).await
    }

    async fn hand_over(&self, moving: &Moving) -> Result {
        self.step(Stage::HandingOver, "mover failed handing over").await?;
        let changed: Vec<(String, u64)> = {
            let rows = self.shards[&moving.from].rows.lock();
            let changed = rows.changed.get(&moving.to).into_iter().flatten().filter(|key| moving.contains(*key));
            changed.filter_map(|key| Some((key.clone(), *rows.values.get(key)?))).collect()
        };
        self.nap(5).await;
        self.may_be_late(moving, &changed, false)?;
        self.bring(moving, &changed, false)?;
        self.nap(3).await;
        Ok(())
    }

    async fn clean(&self, moving: &Moving) -> Result {
        self.step(Stage::Cleaning, "mover failed cleaning").await?;
        self.shards[&moving.from].rows.lock().values.retain(|key, _| !moving.contains(key));
        self.nap(3).await;
        Ok(())
    }

    fn commit<'a>(&'a self, map: &'a ShardMap) -> Option<BoxFuture<'a, Result>> {
        let store = self.store.as_ref()?;
        Some(Box::pin(async move {
            self.at(Stage::Committing);
            self.nap(4).await;
            if self.wrong() {
                self.hit("commit refused for once");
                return Err(Error::new(Kind::Unavailable, "the store is not there"));
            }
            {
                let mut counts = store.lock();
                if counts.version() >= map.version() && *counts != *map {
                    return Err(Error::new(Kind::Conflict, "another map counts"));
                }
                *counts = map.clone();
            }
            self.nap(4).await;
            if self.wrong() {
                self.hit("commit lost its answer");
                return Err(Error::new(Kind::Unavailable, "the answer is lost"));
            }
            Ok(())
        }))
    }
}
