//! Rebalance: a keyed store grows from three shards to five and shrinks back, while it is written and read.
//!
//! The plan is printed before, the moves while they happen. On the way one hand-over fails and is tried again, and one
//! rebalance is dropped in the middle and planned anew from where it got to. No request fails, and no key is lost.
//!
//! ```text
//! cargo run --example rebalance
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use async_trait::async_trait;
use seedpod::{
    Error, Result,
    base::{Kind, Seed, sync::Lock, time},
    layer::Request,
    serving::{By, Endpoints, Fence, FenceLayer, Mover, Moving, Rebalance, ShardMap, ShardMaps, Shards},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

const MILLI: Duration = Duration::from_millis(1);
const KEYS: u64 = 1_000;

fn main() -> Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and fixed seeds, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(grow_and_shrink())
}

async fn grow_and_shrink() -> Result<String> {
    let three = ShardMap::planned(["s0", "s1", "s2"]).build()?;
    let store = Store::new(three.clone())?;
    let clients: Vec<_> = (0..8).map(|number| tokio::spawn(client(store.clone(), number))).collect();
    let mut story = Vec::new();

    time::sleep(500 * MILLI).await; // each key is written

    let five = three.next(|shards| {
        shards.add("s3").add("s4");
    })?;
    let plan = store.shards.plan(&five)?;
    story.push(format!("The plan: {}", plan.to_string().trim_end()));
    let settings = Rebalance::new().step(8_192).seed(Seed::new(1));
    let begun = tokio::time::timeout(250 * MILLI, store.shards.rebalance_by(&settings, &plan, &*store)).await;
    story.push("The moves:".into());
    story.extend(store.told());
    if begun.is_err() {
        story.push(format!("Dropped in the middle. The map that counts is {}.", store.shards.map()));
    }
    let plan = store.shards.plan(&five)?;
    story.push(format!("\nThe plan from here: {}", plan.to_string().trim_end()));
    store.fails_once.store(true, Relaxed);
    let done = store.shards.rebalance_by(&settings, &plan, &*store).await?;
    story.push("The moves:".into());
    story.extend(store.told());
    story.push(format!("Done: {done}."));

    let back = five.next(|shards| {
        shards.remove("s3").remove("s4");
    })?;
    let plan = store.shards.plan(&back)?;
    story.push(format!("\nBack to three: {}", plan.to_string().trim_end()));
    let done = store.shards.rebalance_by(&settings, &plan, &*store).await?;
    story.push("The moves:".into());
    story.extend(store.told());
    story.push(format!("Done: {done}."));

    store.closing.store(true, Relaxed);
    let (mut requests, mut failed) = (0, 0);
    for client in clients {
        let (made, lost) = client.await.map_err(|error| Error::new(Kind::Panicked, "").because(error))?;
        (requests, failed) = (requests + made, failed + lost);
    }
    let lost = store.lost();
    let waited = store.nodes.values().map(|shard| shard.fence.refused()).sum::<u64>();
    story.push(format!(
        "\n{requests} requests meanwhile: {failed} failed, {waited} times one waited for the next map and went on; of {KEYS} keys {lost} \
         are lost."
    ));
    Ok(story.join("\n"))
}

/// A read, or a write of this value.
#[derive(Clone)]
struct Operation {
    key: u64,
    put: Option<u64>,
}

type Asked = Request<Operation>;
type Endpoint = BoxCloneSyncService<Asked, u64, Error>;
type Route = By<fn(&Asked) -> &u64>;

/// The shards, what they hold, and what moves it.
struct Store {
    shards: Shards<Endpoint, Route>,
    nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// What was acknowledged last, by key.
    written: Lock<BTreeMap<u64, u64>>,
    told: Lock<Vec<String>>,
    fails_once: AtomicBool,
    closing: AtomicBool,
}

/// What one shard holds, and the fence in front of it.
struct Node {
    fence: Fence,
    rows: Lock<Rows>,
}

#[derive(Default)]
struct Rows {
    values: BTreeMap<u64, u64>,
    /// Written since they were copied.
    changed: BTreeSet<u64>,
}

impl Store {
    fn new(map: ShardMap) -> Result<Arc<Store>> {
        let route: Route = By::new(|asked| &asked.message().key);
        let (maps, endpoints, mut nodes) = (ShardMaps::new(map), Endpoints::named("store"), BTreeMap::new());
        for name in ["s0", "s1", "s2", "s3", "s4"] {
            let node = Arc::new(Node { fence: Fence::new(name, maps.clone()), rows: Lock::default() });
            let fence = FenceLayer::new(node.fence.clone(), route);
            nodes.insert(Arc::from(name), node.clone());
            let serve = service_fn(move |asked: Asked| serve(node.clone(), asked.into_message()));
            endpoints.insert(name, BoxCloneSyncService::new(fence.layer(serve)));
        }
        Ok(Arc::new(Store {
            shards: Shards::routed(maps, route, endpoints),
            nodes,
            written: Lock::default(),
            told: Lock::default(),
            fails_once: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }))
    }

    fn node(&self, name: &Arc<str>) -> Result<&Node> {
        let node = self.nodes.get(name).ok_or_else(|| Error::new(Kind::NotFound, "no such shard").at(name.clone()))?;
        Ok(node)
    }

    fn tell(&self, what: String) {
        self.told.lock().push(format!("  {what}"));
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock())
    }

    /// How many keys do not lie where the map says, with what was acknowledged last.
    fn lost(&self) -> usize {
        let map = self.shards.map();
        let there = |key: &u64, value: &u64| {
            let node = self.nodes.get(map.name(map.owner(key)));
            node.is_some_and(|node| node.rows.lock().values.get(key) == Some(value))
        };
        let written = self.written.lock();
        (KEYS as usize - written.len()) + written.iter().filter(|(key, value)| !there(key, value)).count()
    }
}

async fn serve(node: Arc<Node>, operation: Operation) -> Result<u64> {
    time::sleep(MILLI).await;
    let mut rows = node.rows.lock();
    match operation.put {
        Some(value) => {
            rows.values.insert(operation.key, value);
            rows.changed.insert(operation.key);
            Ok(value)
        }
        None => rows.values.get(&operation.key).copied().ok_or_else(|| Kind::NotFound.into()),
    }
}

/// Writes its keys in turn, and reads each back; how many requests it made, and how many failed.
async fn client(store: Arc<Store>, number: u64) -> (u64, u64) {
    let (failed, mut made) = (AtomicU64::new(0), 0);
    let ask = |key, put| store.shards.clone().oneshot(Request::new(Operation { key, put }));
    for value in 1.. {
        for key in (number..KEYS).step_by(8) {
            if value > 1 && store.closing.load(Relaxed) {
                return (made, failed.into_inner());
            }
            made += 2;
            let wrote = ask(key, Some(value)).await;
            if wrote.is_ok() {
                store.written.lock().insert(key, value);
            }
            let read = ask(key, None).await;
            if wrote.is_err() || !read.is_ok_and(|read| read == value) {
                failed.fetch_add(1, Relaxed);
            }
        }
    }
    (made, failed.into_inner())
}

#[async_trait]
impl Mover for Store {
    async fn copy(&self, moving: &Moving) -> Result {
        let rows: Vec<(u64, u64)> = {
            let mut rows = self.node(&moving.from)?.rows.lock();
            rows.changed.retain(|key| !moving.contains(key));
            rows.values.iter().filter(|(key, _)| moving.contains(*key)).map(|(key, value)| (*key, *value)).collect()
        };
        time::sleep(rows.len() as u32 * MILLI).await;
        let mut there = self.node(&moving.to)?.rows.lock();
        there.values.retain(|key, _| !moving.contains(key));
        there.values.extend(rows);
        Ok(())
    }

    async fn seal(&self, moving: &Moving) -> Result {
        self.node(&moving.from)?.fence.seal(moving).await
    }

    async fn hand_over(&self, moving: &Moving) -> Result {
        time::sleep(5 * MILLI).await;
        if self.fails_once.swap(false, Relaxed) {
            self.tell(format!("{moving}: the hand-over fails, the old owner goes on"));
            return Err(Error::new(Kind::Unavailable, "the connection is lost"));
        }
        let changed: Vec<(u64, u64)> = {
            let rows = self.node(&moving.from)?.rows.lock();
            let changed = rows.changed.iter().filter(|key| moving.contains(*key));
            changed.filter_map(|key| Some((*key, *rows.values.get(key)?))).collect()
        };
        self.node(&moving.to)?.rows.lock().values.extend(changed);
        Ok(())
    }

    async fn clean(&self, moving: &Moving) -> Result {
        self.node(&moving.from)?.rows.lock().values.retain(|key, _| !moving.contains(key));
        self.tell(moving.to_string());
        Ok(())
    }
}
