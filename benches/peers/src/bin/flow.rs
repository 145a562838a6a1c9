//! Five steps of work (map, filter, map, filter, map) over small numbers: fused, and staged over topics in memory with a
//! lease and a settlement on every edge. By hand there is one loop, or batches over channels, which acknowledge nothing.

use futures::{StreamExt, stream};
use seedpod::{
    Result,
    flow::{Flow, pipe},
    queue::{Broker, Id, Memory, Step, Want},
};
use seedpod_peers::{
    Group, Target,
    bare::flow::{self as bare, flip, increment, no_fifth, no_third, triple},
};
use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use timely::dataflow::operators::{
    Input, Inspect,
    vec::{Filter, Map},
};
use tokio::{runtime::Runtime, sync::mpsc};

fn fused(count: u64) -> u64 {
    let pipe = pipe::<u64>().map(increment).filter(no_third).map(triple).filter(no_fifth).map(flip);
    let mut sum = 0_u64;
    pipe.run((0..count).map(black_box), |number| sum = sum.wrapping_add(number));
    sum
}

fn fused_in_batches(count: u64) -> u64 {
    let pipe = pipe::<u64>().map(increment).filter(no_third).map(triple).filter(no_fifth).map(flip);
    let (mut sum, mut batch, mut made) = (0_u64, Vec::with_capacity(256), Vec::with_capacity(256));
    for first in (0..count).step_by(256) {
        batch.clear();
        made.clear();
        batch.extend((first..(first + 256).min(count)).map(black_box));
        pipe.extend(&batch, &mut made);
        sum = made.iter().fold(sum, |sum, number| sum.wrapping_add(*number));
    }
    sum
}

fn combinators(count: u64) -> u64 {
    let all = stream::iter((0..count).map(black_box))
        .map(|number| increment(&number))
        .filter(|number| std::future::ready(no_third(number)))
        .map(|number| triple(&number))
        .filter(|number| std::future::ready(no_fifth(number)))
        .map(|number| flip(&number));
    futures::executor::block_on(all.fold(0_u64, |sum, number| std::future::ready(sum.wrapping_add(number))))
}

fn timely(count: u64) -> u64 {
    timely::execute_directly(move |worker| {
        let sum = std::rc::Rc::new(std::cell::Cell::new(0_u64));
        let total = sum.clone();
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, numbers) = scope.new_input::<Vec<u64>>();
            numbers
                .map(|number| increment(&number))
                .filter(no_third)
                .map(|number| triple(&number))
                .filter(no_fifth)
                .map(|number| flip(&number))
                .inspect(move |number| total.set(total.get().wrapping_add(*number)));
            input
        });
        for number in 0..count {
            input.send(black_box(number));
            if number % 65_536 == 0 {
                worker.step();
            }
        }
        drop(input);
        while worker.step() {}
        sum.get()
    })
}

/// How many items are there when all are through both criteria.
fn due(count: u64) -> u64 {
    let through = |count: u64| (0..count).filter(|n| no_third(&(n + 1)) && no_fifth(&(3 * (n + 1)))).count() as u64;
    count / 15 * through(15) + through(count % 15)
}

/// How the work is cut: five stages, or the same with five steps that all items go through.
#[derive(Clone, Copy)]
enum Steps {
    Filtering,
    Even,
}

/// A stage for each step, each between two topics.
async fn staged(count: u64, batch: u32, steps: Steps) -> Result<u64> {
    let mut flow = Flow::new("steps");
    flow.tune(|stage| stage.batch(batch).capacity(16 * batch as usize));
    let numbers = flow.source::<u64>("numbers").map(increment).edge();
    match steps {
        Steps::Filtering => {
            numbers.filter(no_third).edge().map(triple).edge().filter(no_fifth).edge().map(flip).sink("out");
        }
        Steps::Even => numbers.map(triple).edge().map(flip).edge().map(increment).edge().map(flip).sink("out"),
    }
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let graph = flow.build()?;
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await?;
    let feed = tokio::spawn(async move {
        for first in (0..count).step_by(batch as usize) {
            let items = (first..(first + u64::from(batch)).min(count)).collect();
            input.batch(Id::from_u128(first.into()), items).await?;
        }
        Ok::<_, seedpod::Error>(())
    });
    let all = match steps {
        Steps::Filtering => due(count),
        Steps::Even => count,
    };
    let (readers, sum) = (graph.subscription("out")?, AtomicU64::new(0));
    let reading = async {
        let mut left = all;
        while left > 0 {
            let Ok(leased) = broker.lease(&readers, Want::items(batch)).await else { return };
            let mut step = Step::new();
            for delivery in &leased {
                let items = delivery.slice::<u64>().unwrap_or_default();
                let more = items.iter().fold(0_u64, |sum, number| sum.wrapping_add(*number));
                sum.store(sum.load(Relaxed).wrapping_add(more), Relaxed);
                left -= u64::from(delivery.len());
                step.acks.push(delivery.lease);
            }
            let _ = broker.settle(step).await;
        }
    };
    run.run_until(reading).await?;
    let _ = feed.await;
    Ok(sum.into_inner())
}

/// A task for each step, and a channel that takes item by item.
async fn item_channels(count: u64) -> u64 {
    let (sender, mut receiver) = mpsc::channel::<u64>(4096);
    tokio::spawn(async move {
        for number in 0..count {
            if sender.send(number).await.is_err() {
                return;
            }
        }
    });
    let steps: [fn(u64) -> Option<u64>; 5] = [
        |number| Some(increment(&number)),
        |number| no_third(&number).then_some(number),
        |number| Some(triple(&number)),
        |number| no_fifth(&number).then_some(number),
        |number| Some(flip(&number)),
    ];
    for step in steps {
        let (sender, next) = mpsc::channel(4096);
        let mut from = std::mem::replace(&mut receiver, next);
        tokio::spawn(async move {
            while let Some(number) = from.recv().await {
                if let Some(number) = step(number)
                    && sender.send(number).await.is_err()
                {
                    return;
                }
            }
        });
    }
    let mut sum = 0_u64;
    while let Some(number) = receiver.recv().await {
        sum = sum.wrapping_add(number);
    }
    sum
}

fn drive<F: Future>(runtime: &Runtime, work: impl Fn(u64) -> F) -> impl FnMut(u64) {
    move |count| drop(black_box(runtime.block_on(work(count))))
}

/// The edges between source and reader, which each item crosses.
const EDGES: u64 = 6;

fn main() -> std::io::Result<()> {
    let count = 100_000;
    assert_eq!(
        (fused(count), fused_in_batches(count), combinators(count)),
        (bare::one_loop(count), bare::one_loop(count), bare::one_loop(count))
    );
    assert_eq!(timely(count), bare::one_loop(count));
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    assert_eq!(runtime.block_on(bare::channels(count, 256)), bare::one_loop(count));
    assert_eq!(runtime.block_on(staged(count, 256, Steps::Filtering)).ok(), Some(bare::one_loop(count)));

    type Case = (&'static str, f64, fn(u64) -> u64);
    let cases: [Case; 2] = [("flow/fused/items", 1.5, fused), ("flow/fused/batches", 2.5, fused_in_batches)];
    for (name, times, ours) in cases {
        Group::new(name, Target::of_bare(times).ahead(4.0))
            .bare("one loop", |count| {
                black_box(bare::one_loop(count));
            })
            .ours("pipe", move |count| {
                black_box(ours(count));
            })
            .peer("timely", |count| {
                black_box(timely(count));
            })
            .peer("Stream combinators", |count| {
                black_box(combinators(count));
            })
            .run();
    }
    Group::new("flow/staged", Target::of_bare(4.0).ahead(15.0))
        .bare("batches of 256 over channels, in place", drive(runtime, |count| bare::channels(count, 256)))
        .ours(
            "batches of 256 over topics, leased and settled",
            drive(runtime, |count| staged(count, 256, Steps::Filtering)),
        )
        .peer("tokio channels, item by item", drive(runtime, item_channels))
        .run();
    for (name, batch, target) in [("256", 256, 6.0), ("64", 64, 15.0), ("1", 1, 450.0)] {
        let count = |items: u64| (items / EDGES).max(u64::from(batch));
        Group::new(format!("flow/edge/{name}"), Target::nanos(target))
            .ours("per item and edge", drive(runtime, move |items| staged(count(items), batch, Steps::Even)))
            .run();
    }
    Ok(())
}
