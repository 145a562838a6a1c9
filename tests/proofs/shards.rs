//! A store of shards that grows and shrinks while it is written and read, by routers of which one lags: movers fail, hang,
//! are dropped wherever they are, and the place where maps are decided loses its answers. No request fails, no key is
//! served by two shards at once, nothing that was answered is lost, and a read sees what was written before it.

mod world;

use crate::schedule::{Hits, Subject, alive, simulate};
use seedpod::{
    base::{Backoff, Rng, Seed, time},
    serving::{Rebalance, ShardMap, shard::Strategy},
};
use std::{sync::Arc, time::Duration};
use world::{Stage, World};

const SUBJECT: Subject = Subject {
    test: "shards::schedules_shards",
    faults: &[
        "caller gone",
        "commit lost its answer",
        "commit refused for once",
        "dropped while cleaning",
        "dropped while committing",
        "dropped while copying",
        "dropped while handing over",
        "dropped while sealing",
        "fence behind its router",
        "in flight when sealed",
        "late data refused",
        "mover failed cleaning",
        "mover failed copying",
        "mover failed handing over",
        "mover failed sealing",
        "mover hung",
        "request held for the next map",
        "router behind",
        "shard added",
        "shard removed",
        "went back",
    ],
    one_in: 1,
    usual: 40,
};

#[test]
fn schedules_shards() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A map by any strategy that there is no trouble with when shards come and go, of one copy or two.
fn begin(rng: &mut Rng) -> ShardMap {
    let names = ["s0", "s1", "s2"];
    let (seed, copies) = (rng.next_u64(), 1 + rng.below(2) as usize);
    // most are of ranges: those of slots take a hundred times longer to step through
    match rng.below(40) {
        0 => ShardMap::ring(names).seed(seed).points(8).copies(copies).build(),
        1 => ShardMap::rendezvous(names).seed(seed).copies(copies).build(),
        2..4 => ShardMap::planned(names).seed(seed).copies(copies).build(),
        _ => {
            let owners = |first: usize| names.into_iter().cycle().skip(first).take(copies);
            ShardMap::ranges().range(.."k1", owners(0)).range("k1".."k2", owners(1)).range("k2".., owners(2)).build()
        }
    }
    .unwrap()
}

/// Another map to go to: one shard more or one less, or other weights; of ranges, other owners and borders.
fn other(map: &ShardMap, rng: &mut Rng, hits: &mut Hits) -> ShardMap {
    let names: Vec<_> = map.shards().iter().map(|shard| shard.name.clone()).collect();
    if map.strategy() == Strategy::Ranges {
        let mut borders: Vec<String> = (0..1 + rng.below(3)).map(|_| format!("k{}", rng.below(world::KEYS))).collect();
        borders.sort();
        borders.dedup();
        let mut owner = || {
            let first = rng.below(world::SHARDS);
            let others =
                (0..map.copies() as u64 - 1).map(|at| (first + 1 + at + rng.below(world::SHARDS - 1)) % world::SHARDS);
            std::iter::once(first).chain(others).map(|number| format!("s{number}")).collect::<Vec<_>>()
        };
        let mut ranges = ShardMap::ranges().range(..borders[0].as_str(), owner());
        for pair in borders.windows(2) {
            ranges = ranges.range(pair[0].as_str()..pair[1].as_str(), owner());
        }
        return ranges.range(borders[borders.len() - 1].as_str().., owner()).build().unwrap();
    }
    let all: Vec<_> = (0..world::SHARDS).map(|number| format!("s{number}")).collect();
    let absent: Vec<_> = all.iter().filter(|name| !names.iter().any(|known| **known == ***name)).collect();
    let next = map.next(|change| match rng.below(3) {
        0 if names.len() > 2 => {
            hits.hit("shard removed");
            change.remove(rng.choose(&names).unwrap());
        }
        1 => {
            change.weigh(rng.choose(&names).unwrap(), 1 + rng.below(3) as u32);
        }
        _ => {
            if let Some(name) = rng.choose(&absent) {
                hits.hit("shard added");
                change.add(name.as_str());
            }
        }
    });
    next.unwrap()
}

async fn schedule(seed: Seed, hits: &mut Hits) -> (u64, usize) {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let mut wanted = begin(&mut rng);
    let world = World::start(wanted.clone(), &mut rng);
    for _ in 0..3 + rng.below(3) {
        let back = wanted.clone();
        wanted = other(&wanted, &mut rng, hits);
        time::sleep(milliseconds(rng.below(50))).await;
        world.set_trouble(*rng.choose(&[0, 20, 60, 120]).unwrap());
        for attempt in 0..3 + rng.below(4) {
            if attempt > 0 && rng.chance(0.15) {
                hits.hit("went back");
                wanted = back.clone();
            }
            let patience = *rng.choose(&[20, 60, 150, 400, 2_000]).unwrap();
            match tokio::time::timeout(milliseconds(rng.below(patience)), rebalance(&world, &wanted, &mut rng)).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(_) => world.dropped(),
            }
            if rng.chance(0.5) {
                time::sleep(milliseconds(rng.below(40))).await;
            }
        }
    }
    world.set_trouble(0);
    for _ in 0..20 {
        if rebalance(&world, &wanted, &mut rng).await {
            break;
        }
        time::sleep(milliseconds(100)).await;
    }
    world.hold(world.is_as(&wanted), || "it does not end with the map that was wanted".into());
    let calls = world.stop().await;
    tokio::task::yield_now().await;
    assert_eq!(alive(), before, "tasks are left");
    world.judge();
    let violations = world.take_violations();
    assert!(violations.is_empty(), "{violations:#?}");
    for fault in world.take_hits() {
        hits.hit(fault);
    }
    (world.course(), calls)
}

/// One rebalance; whether it came to its end.
async fn rebalance(world: &Arc<World>, wanted: &ShardMap, rng: &mut Rng) -> bool {
    let settings = Rebalance::new()
        .attempts(1 + rng.below(3) as u32)
        .backoff(Backoff::new(milliseconds(5), milliseconds(20)))
        .pause_max(milliseconds(world::PAUSE))
        .step(*rng.choose(&[8_192, 20_000, 65_536]).unwrap())
        .seed(Seed::new(rng.next_u64()));
    world.at(Stage::Between);
    world.follow_the_store();
    let plan = world.routers[0].plan(wanted).unwrap();
    world.routers[0].rebalance_by(&settings, &plan, &**world).await.is_ok()
}
