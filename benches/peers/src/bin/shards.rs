//! Shards: what a look-up costs, how even the shares are, what moves when one comes, and how long a map takes to build.
//!
//! Ours against perfect hashing by hand, the rings of consistent_hash_ring and pingora with 160 points a shard, jump and
//! rendezvous hashing. Keys have 16 bytes; every look-up hashes its key.

use consistent_hash_ring::{Ring, RingBuilder};
use pingora_ketama::{Bucket, Continuum};
use rendezvous_hash::{DefaultNodeHasher, IdNode};
use seedpod::serving::{ShardMap, shard::Strategy};
use seedpod_peers::{Figure, Group, Target, bare::slots::Perfect};
use std::{cell::OnceCell, env, hint::black_box, net::SocketAddr, time::Instant};
use xxhash_rust::xxh3::xxh3_64;

type Key = [u8; 16];

fn key(number: u64) -> Key {
    let mut key = [0; 16];
    let (one, other) = key.split_at_mut(8);
    one.copy_from_slice(&xxh3_64(&number.to_le_bytes()).to_le_bytes());
    other.copy_from_slice(&number.to_le_bytes());
    key
}

/// Whether this process counts the instructions of one case: it makes no others.
fn counts() -> bool {
    env::args().nth(1).is_some_and(|word| word == "--counted")
}

/// So many look-ups, of 4,096 keys in turn.
fn drive<M, T>(make: impl Fn() -> M, owner: impl Fn(&M, &Key) -> T) -> impl FnMut(u64) {
    let keys: Vec<Key> = (0..4096).map(key).collect();
    let made = OnceCell::new();
    if !counts() {
        made.get_or_init(&make);
    }
    move |count| {
        let made = made.get_or_init(&make);
        for key in keys.iter().cycle().take(count as usize) {
            black_box(owner(made, black_box(key)));
        }
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("shard-{number}")).collect()
}

fn ring(count: usize) -> Ring<String> {
    RingBuilder::default().vnodes(160).nodes_iter(names(count)).build()
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7070))
}

fn ketama(count: usize) -> Continuum {
    Continuum::new(&(0..count).map(|number| Bucket::new(address(number), 1)).collect::<Vec<_>>())
}

fn rendezvous(count: usize) -> rendezvous_hash::RendezvousNodes<IdNode<String>, DefaultNodeHasher> {
    let mut nodes = rendezvous_hash::RendezvousNodes::default();
    names(count).into_iter().for_each(|name| drop(nodes.insert(IdNode::new(name))));
    nodes
}

fn map(strategy: Strategy, count: usize) -> ShardMap {
    let names = names(count);
    let builder = match strategy {
        Strategy::Planned => ShardMap::planned(names),
        Strategy::Ring => ShardMap::ring(names),
        Strategy::ConsistentHashRing => ShardMap::consistent_hash_ring(names),
        Strategy::Rendezvous => ShardMap::rendezvous(names),
        Strategy::Jump => ShardMap::jump(names),
        _ => ShardMap::maglev(names),
    };
    builder.build().expect("names that differ")
}

fn lookup() {
    for count in [10, 100, 1000] {
        let copies = move || ShardMap::planned(names(count)).copies(3).build().expect("names that differ");
        Group::new(format!("shards/lookup/{count}"), Target::of_bare(1.5).ahead(8.0))
            .bare("xxh3 and multiply", drive(move || Perfect(count), |perfect, key| perfect.owner(key)))
            .ours("ShardMap::owner", drive(move || map(Strategy::Planned, count), |map, key| map.owner(key)))
            .beside("ShardMap::owners, 3 copies", drive(copies, |map, key| map.owners(key).len()))
            .peer("consistent_hash_ring, 160 points", drive(move || ring(count), |ring, key| ring.get(key).len()))
            .peer("pingora-ketama, 160 points", drive(move || ketama(count), |ketama, key| ketama.node(key)))
            // it knows numbers alone, of which the last may go
            .beside(
                "jump-consistent-hash, xxh3",
                drive(move || count, |count, key| jump_consistent_hash::hash(xxh3_64(key), *count)),
            )
            .peer(
                "rendezvous_hash",
                drive(move || rendezvous(count), |nodes, key| nodes.calc_candidates(key).next().map(|node| node.len())),
            )
            .run();
    }
}

const STATELESS: [Strategy; 4] = [Strategy::Ring, Strategy::Rendezvous, Strategy::Jump, Strategy::Maglev];

/// The most that a shard has of a million keys, against the mean.
fn fullest(count: usize, owner: impl Fn(&Key) -> usize) -> f64 {
    let mut counts = vec![0_u32; count];
    (0..1_000_000).for_each(|number| counts[owner(&key(number))] += 1);
    f64::from(counts.into_iter().max().unwrap_or(0)) * count as f64 / 1e6
}

/// The number at the end of a name.
fn number(name: &str) -> usize {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn of_ketama(ketama: Continuum) -> impl Fn(&Key) -> usize {
    move |key| match ketama.node(key) {
        Some(SocketAddr::V4(node)) => usize::from(node.ip().octets()[2]) << 8 | usize::from(node.ip().octets()[3]),
        _ => 0,
    }
}

fn ours(map: &ShardMap) -> impl Fn(&Key) -> usize {
    move |key| map.owner(key).index()
}

fn balance() {
    for count in [10, 100, 1000] {
        let perfect = Perfect(count);
        let perfect = || fullest(count, |key| perfect.owner(key));
        Figure::new(format!("shards/balance/planned/{count}"), "max/mean", Target::nanos(perfect() + 0.01))
            .bare("perfect hashing", perfect)
            .ours("planned", || fullest(count, ours(&map(Strategy::Planned, count))))
            .peer("jump-consistent-hash, xxh3", || {
                fullest(count, |key| jump_consistent_hash::hash(xxh3_64(key), count) as usize)
            })
            .run();
        Figure::new(format!("shards/balance/ring/{count}"), "max/mean", Target::nanos(9.0).ahead(1.0))
            .ours("ring", || fullest(count, ours(&map(Strategy::Ring, count))))
            .peer("consistent_hash_ring, 160 points", || {
                let ring = ring(count);
                fullest(count, |key| number(ring.get(key)))
            })
            .peer("pingora-ketama, 160 points", || fullest(count, of_ketama(ketama(count))))
            .run();
        let mut others = Figure::new(format!("shards/balance/stateless/{count}"), "max/mean", Target::nanos(9.0));
        for strategy in &STATELESS[1..] {
            others = others.beside(strategy.as_str(), || fullest(count, ours(&map(*strategy, count))));
        }
        others.run();
    }
}

/// What moves when a shard comes, against what it gets; when it goes, against what it had. 1.0: nothing else moves.
fn moved(strategy: Strategy, count: usize, goes: bool) -> f64 {
    let few = map(strategy, count);
    let last = format!("shard-{count}");
    let many = few.next(|change| _ = change.add(last.as_str())).expect("another name");
    let less = many.next(|change| _ = change.remove(&last)).expect("it is there");
    let (before, after) = if goes { (&many, &less) } else { (&few, &many) };
    let plan = before.plan(after).expect("they follow one another");
    plan.handed / many.share(&last)
}

/// The same of anything else, by a million keys.
fn keys_moved(count: usize, before: impl Fn(&Key) -> usize, after: impl Fn(&Key) -> usize) -> f64 {
    let (mut moved, mut due) = (0_u32, 0_u32);
    for number in 0..1_000_000 {
        let key = key(number);
        let owner = after(&key);
        moved += u32::from(before(&key) != owner);
        due += u32::from(owner == count);
    }
    f64::from(moved) / f64::from(due)
}

fn moves() {
    for count in [10, 100, 1000] {
        for goes in [false, true] {
            let which = if goes { "remove" } else { "add" };
            let mut figure = Figure::new(format!("shards/moves/{which}/{count}"), "moved/due", Target::nanos(1.0001))
                .ours("planned", || moved(Strategy::Planned, count, goes))
                .bare("perfect hashing", || {
                    keys_moved(count, |key| Perfect(count).owner(key), |key| Perfect(count + 1).owner(key))
                });
            for strategy in STATELESS {
                figure = figure.beside(strategy.as_str(), || moved(strategy, count, goes));
            }
            let of_ketama = || keys_moved(count, of_ketama(ketama(count)), of_ketama(ketama(count + 1)));
            figure.peer("pingora-ketama, 160 points", of_ketama).run();
        }
    }
}

/// So many maps.
fn build<T>(one: impl Fn() -> T) -> impl FnMut(u64) {
    move |count| (0..count).for_each(|_| drop(black_box(one())))
}

fn builds() {
    for (strategy, millis) in [
        (Strategy::Planned, 2.0),
        (Strategy::Ring, 50.0),
        (Strategy::Jump, 50.0),
        (Strategy::Maglev, 50.0),
        (Strategy::Rendezvous, 200.0),
    ] {
        let mut group = Group::new(format!("shards/build/{strategy}/1000"), Target::nanos(millis * 1e6)).counted(0);
        if strategy == Strategy::Ring {
            group = group.peer("pingora-ketama, 160 points", build(|| ketama(1000)));
        }
        group.ours(strategy.as_str(), build(move || map(strategy, 1000))).run();
    }
    let planned = map(Strategy::Planned, 1000);
    let next = move || planned.next(|change| _ = change.add("another"));
    Group::new("shards/build/planned next/1000", Target::nanos(2e6)).counted(0).ours("planned next", build(next)).run();
    // seconds each: once
    let millis = |build: &dyn Fn()| {
        let start = Instant::now();
        build();
        start.elapsed().as_secs_f64() * 1e3
    };
    Figure::new("shards/build/consistent_hash_ring/1000", "ms", Target::nanos(f64::MAX))
        .ours("the wrapped ring", || millis(&|| drop(black_box(map(Strategy::ConsistentHashRing, 1000)))))
        .peer("consistent_hash_ring, 160 points", || millis(&|| drop(black_box(ring(1000)))))
        .run();
}

fn main() {
    lookup();
    if counts() {
        return; // instructions of look-ups alone are counted
    }
    balance();
    moves();
    builds();
}
