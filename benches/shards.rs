//! What a map of shards costs: to ask, to build, to follow another, to plan.
//!
//! `cargo bench --bench shards`; side by side with what else there is:
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --bin shards`.
#![allow(missing_docs, reason = "criterion's macros write functions without them")]

#[allow(unreachable_pub, reason = "the file belongs to another crate, too")]
#[path = "peers/src/bare/slots.rs"]
mod slots;

use criterion::{Criterion, criterion_group, criterion_main};
use seedpod::serving::{
    ShardMap,
    shard::{Loads, ShardMapBuilder},
};
use std::hint::black_box;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("shard-{number}")).collect()
}

fn built(builder: ShardMapBuilder) -> ShardMap {
    builder.build().unwrap_or_else(|error| unreachable!("{error}"))
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shards");
    let key = *b"0123456789abcdef";
    for count in [10, 100, 1000] {
        let perfect = slots::Perfect(count);
        group.bench_function(format!("perfect hashing/{count}"), |it| it.iter(|| perfect.owner(black_box(&key))));
        let map = built(ShardMap::planned(names(count)));
        group.bench_function(format!("owner/{count}"), |it| it.iter(|| map.owner(black_box(&key))));
        let copies = built(ShardMap::planned(names(count)).copies(3));
        group
            .bench_function(format!("owners, 3 copies/{count}"), |it| it.iter(|| copies.owners(black_box(&key)).len()));
        let mut ranges = ShardMap::ranges().range(..[1_u8, 0], ["shard-0"]);
        for at in 1..count as u16 {
            let (from, until, owner) = (at.to_be_bytes(), (at + 1).to_be_bytes(), [format!("shard-{at}")]);
            let from = if at == 1 { [1, 0].to_vec() } else { [1, 0].iter().chain(&from).copied().collect() };
            let until: Vec<u8> = [1, 0].iter().chain(&until).copied().collect();
            ranges = if usize::from(at) + 1 == count {
                ranges.range(from.., owner)
            } else {
                ranges.range(from..until, owner)
            };
        }
        let ranges = built(ranges);
        group.bench_function(format!("owner of ranges/{count}"), |it| it.iter(|| ranges.owner(black_box(&key))));
    }
    group.finish();
}

fn maps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard maps");
    group.sample_size(10);
    for count in [10, 100, 1000] {
        type Begin = fn(Vec<String>) -> ShardMapBuilder;
        let strategies: [(&str, Begin); 5] = [
            ("planned", ShardMap::planned),
            ("ring", ShardMap::ring),
            ("rendezvous", ShardMap::rendezvous),
            ("jump", ShardMap::jump),
            ("maglev", ShardMap::maglev),
        ];
        for (name, begin) in strategies {
            group.bench_function(format!("{name}/{count}"), |it| it.iter(|| built(begin(names(count)))));
        }
        let three = || built(ShardMap::planned(names(count)).copies(3));
        group.bench_function(format!("planned, 3 copies/{count}"), |it| it.iter(three));
        let map = built(ShardMap::planned(names(count)));
        let next = || map.next(|change| _ = change.add("another"));
        group.bench_function(format!("planned next/{count}"), |it| it.iter(next));
        let Ok(after) = next() else { continue };
        group.bench_function(format!("plan/{count}"), |it| it.iter(|| map.plan(&after)));
        let mut loads = Loads::of(&map);
        (0..100_000_u64).for_each(|key| loads.add(map.locate(&key), 1_000_000 / (key + 1)));
        group.bench_function(format!("relieve, 100 moves/{count}"), |it| it.iter(|| map.relieve(&loads, 100)));
    }
    group.finish();
}

criterion_group!(benches, lookups, maps);
criterion_main!(benches);
