//! Bounded memory while many items pass, fused and in stages. `SEEDPOD_ITEMS` says how many; where it does, the process
//! does nothing else, and its peak is held against a bound.

use seedpod::{
    base::sync::Lock,
    flow::{Flow, Run, Sum},
    queue::{Id, Memory},
};
use std::{sync::Arc, time::Duration};

/// Items that are sent together.
const BATCH: u64 = 1024;
/// Items that an edge holds.
const CAPACITY: usize = 8 * 1024;
/// How much the process may grow, once it is warm: a source remembers a million ids at most.
const GROWTH_KIB: u64 = 96 * 1024;

fn run(staged: bool) -> Run {
    let mut flow = Flow::new("many");
    flow.tune(|stage| stage.batch(BATCH as u32).capacity(CAPACITY));
    let numbers = flow.source::<u64>("numbers");
    let sum = Sum::of(|n: &u64| *n);
    match staged {
        false => numbers.map(|n| n + 1).filter(|n| n % 3 != 0).map(|n| n * 2).reduce(sum).sink("sums"),
        true => {
            let numbers = numbers.map(|n| n + 1).edge().filter(|n| n % 3 != 0).edge();
            numbers.map(|n| n * 2).edge().reduce(sum).sink("sums");
        }
    }
    flow.build().unwrap().on(Arc::new(Memory::new()))
}

/// The peak of this process, where the system tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Sends so many items, and sees to it that no edge ever holds more than it should.
async fn pass(run: &Run, first: u64, items: u64, last: &Lock<i128>) {
    let input = run.input::<u64>("numbers").await.unwrap();
    let (output, watch) = (run.output::<i128>("sums").unwrap(), run.watch());
    let read = async || {
        if let Some(sum) = output.ready().await.unwrap().last() {
            *last.lock() = *sum;
        }
    };
    let sending = async {
        for batch in first / BATCH..(first + items) / BATCH {
            let numbers = (batch * BATCH..(batch + 1) * BATCH).collect();
            input.batch(Id::of(batch.to_le_bytes()), numbers).await.unwrap();
            if batch % 8 == 0 {
                read().await;
                for (edge, stats) in watch.edges().await.unwrap() {
                    assert!(stats.stored <= CAPACITY, "{edge:?} holds {}", stats.stored);
                }
            }
        }
        while tokio::time::timeout(Duration::from_millis(1), run.until_drained()).await.is_err() {
            read().await;
        }
        read().await;
    };
    run.run_until(sending).await.unwrap();
}

#[test]
fn memory_is_bounded_while_many_items_pass() {
    let asked = std::env::var("SEEDPOD_ITEMS").ok().and_then(|text| text.parse::<u64>().ok());
    let items = asked.unwrap_or(200_000) / BATCH * BATCH;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (name, staged) in [("fused", false), ("staged", true)] {
        let (run, last, warm) = (run(staged), Lock::new(0), items / 10 / BATCH * BATCH);
        runtime.block_on(pass(&run, 0, warm, &last));
        let before = peak_kib();
        runtime.block_on(pass(&run, warm, items - warm, &last));
        let after = peak_kib();
        let due: i128 = (1..=i128::from(items)).filter(|n| n % 3 != 0).sum::<i128>() * 2;
        assert_eq!(*last.lock(), due, "each item counts once");
        let (Some(before), Some(after)) = (before, after) else { continue };
        println!("summary {name}: {items} items, a peak of {after} KiB, {before} KiB after the first tenth");
        assert!(asked.is_none() || after - before < GROWTH_KIB, "{name}: from {before} KiB to {after} KiB");
    }
}
