//! Batches that are sent bit by bit: a join waits until they are closed and all that came of them is accounted for.

use crate::{
    settling::{Settling, at_once},
    simulated::simulate,
};
use seedpod::{
    Error, Kind,
    base::{Seed, sync::Lock, time, time::WallClock},
    flow::{Batch, Collect, Count, Flow, Graph, Joined, OnFailed, Run, port},
    queue::{Broker, DEAD_LETTERS, DeadLetter, Durable, Id, Memory, Step, Want},
    testing::disk::Platter,
};
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

/// A join behind much that divides items, drops them and goes around an inner join.
fn graph(size: u32) -> Graph {
    let mut flow = Flow::new("bits");
    flow.tune(|stage| stage.batch(size).workers(2).hold(SECOND));
    let [one, two] = flow.source::<u64>("numbers").copy();
    let inner = one.filter(|n| *n < 100).join(Batch::of(Count), 600 * SECOND, OnFailed::Report);
    let inner = inner.map(|joined| 1_000_000 + joined.value);
    let [low, high] = two.split([port("low", |n: &u64| *n < 500), port("high", |n: &u64| *n < 900)]);
    let low = low.explode(|n| (0..n % 3).map(|k| n + k).collect::<Vec<_>>());
    inner.merge(low).merge(high).join(Batch::of(Collect), 600 * SECOND, OnFailed::Report).sink("joined");
    flow.build().unwrap()
}

fn due(numbers: &[u64]) -> (Vec<u64>, u64) {
    let mut all = vec![1_000_000 + numbers.iter().filter(|n| **n < 100).count() as u64];
    all.extend(numbers.iter().filter(|n| **n < 500).flat_map(|n| (0..n % 3).map(move |k| n + k)));
    all.extend(numbers.iter().filter(|n| (500..900).contains(*n)));
    all.sort_unstable();
    (all, numbers.iter().filter(|n| **n >= 900).count() as u64)
}

async fn joined(run: &Run) -> Vec<Joined<Vec<u64>>> {
    run.output("joined").unwrap().ready().await.unwrap()
}

#[test]
fn whatever_bits_it_came_in_it_fires_once_with_all_of_them_and_not_before_it_is_closed() {
    for seed in 0..40 {
        let mut rng = Seed::new(seed).rng();
        simulate(Seed::new(seed), async move {
            let run = graph(1 + rng.below(10) as u32).on(Arc::new(Memory::new()));
            let input = run.input::<u64>("numbers").await.unwrap();
            let mut batch = input.open(Id::of("album")).await.unwrap();
            let mut sent = Vec::new();
            for bit in 0..rng.below(8) {
                let items: Vec<u64> = (0..1 + rng.below(12)).map(|_| rng.below(1000)).collect();
                sent.extend(items.clone());
                batch.add(Id::of(bit.to_le_bytes()), items).await.unwrap();
                if rng.chance(0.5) {
                    run.until_drained().await.unwrap();
                    assert_eq!(joined(&run).await, [], "it is open");
                }
            }
            assert_eq!(batch.items(), sent.len() as u64);
            batch.close().await.unwrap();
            run.until_drained().await.unwrap();
            let joined = joined(&run).await;
            let (value, failed) = due(&sent);
            assert_eq!(joined.len(), 1);
            assert_eq!((&joined[0].value, joined[0].failed, joined[0].timed_out), (&value, failed, false));
            assert_eq!(joined[0].batch, Id::of("album").to_string());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_closed_in_time_fires_without_what_is_missing_and_what_is_late_is_a_dead_letter() {
    let mut flow = Flow::new("late");
    flow.source::<u64>("numbers").map(|n| n + 1).join(Batch::of(Collect), 60 * SECOND, OnFailed::Report).sink("joined");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    let mut batch = input.open(Id::of("forgotten")).await.unwrap();
    let empty = input.open(Id::of("empty")).await.unwrap();
    batch.add(Id::of("first"), vec![1, 2]).await.unwrap();
    run.run_until(time::sleep(59 * SECOND)).await.unwrap();
    assert_eq!(joined(&run).await, [], "not before its time");
    run.run_until(time::sleep(2 * SECOND)).await.unwrap();
    let mut late = joined(&run).await;
    late.sort_by_key(|joined| joined.arrived);
    assert_eq!((late.len(), late[0].arrived, late[0].timed_out), (2, 0, true), "of {} nothing came", empty.id());
    assert_eq!((&late[1].value, late[1].timed_out), (&vec![2, 3], true));
    batch.add(Id::of("second"), vec![3]).await.unwrap();
    batch.close().await.unwrap();
    run.until_drained().await.unwrap();
    assert_eq!(joined(&run).await, [], "once");
    let letters = graph.dead_letters().subscription(DEAD_LETTERS);
    let letters = broker.lease(&letters, Want::items(10).wait(Duration::ZERO)).await.unwrap();
    let reason = DeadLetter::read(&letters[0].batch.headers).unwrap().reason;
    assert_eq!((letters.len(), reason.as_str()), (1, "it is late: its batch is over"));
    assert_eq!(letters[0].json::<u64>(0).unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn several_add_to_it_at_once_and_the_same_twice_adds_nothing() {
    let run = graph(4).on(Arc::new(Memory::new()));
    let input = run.input::<u64>("numbers").await.unwrap();
    let add = |from: u64| {
        let input = input.clone();
        async move {
            let mut batch = input.open(Id::of("shared")).await.unwrap();
            for n in from..from + 50 {
                batch.add(Id::of((n / 2).to_le_bytes()), vec![n]).await.unwrap(); // every other one is there already
                tokio::task::yield_now().await;
            }
        }
    };
    futures::future::join3(add(0), add(500), add(0)).await;
    let mut batch = input.open(Id::of("shared")).await.unwrap();
    assert_eq!(batch.items(), 50);
    let mut other = input.open(Id::of("shared")).await.unwrap();
    batch.close().await.unwrap();
    other.close().await.unwrap();
    run.until_drained().await.unwrap();
    let numbers: Vec<u64> = (0..50).step_by(2).chain((500..550).step_by(2)).collect();
    let joined = joined(&run).await;
    assert_eq!((joined.len(), &joined[0].value), (1, &due(&numbers).0));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_closed_takes_no_more_and_is_not_opened_again() {
    let run = graph(4).on(Arc::new(Memory::new()));
    let input = run.input::<u64>("numbers").await.unwrap();
    let mut batch = input.open(Id::of("album")).await.unwrap();
    let mut other = input.open(Id::of("album")).await.unwrap();
    batch.add(Id::of("one"), vec![1]).await.unwrap();
    batch.close().await.unwrap();
    batch.close().await.unwrap();
    let album = format!("batch {}: conflict: it is closed", Id::of("album"));
    assert_eq!(other.add(Id::of("two"), vec![2]).await.unwrap_err().to_string(), album);
    assert_eq!(batch.add(Id::of("two"), vec![2]).await.unwrap_err().to_string(), album);
    assert_eq!(input.open(Id::of("album")).await.unwrap_err().to_string(), album);
    let mut next = input.open(Id::of("next")).await.unwrap();
    assert_eq!(next.add(Id::of("none"), vec![]).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn where_no_join_waits_nothing_is_opened() {
    let mut flow = Flow::new("plain");
    flow.source::<u64>("numbers").map(|n| n + 1).sink("out");
    let run = flow.build().unwrap().on(Arc::new(Memory::new()));
    let error = run.input::<u64>("numbers").await.unwrap().open(Id::of("album")).await.unwrap_err();
    assert_eq!(error.to_string(), "topic plain.numbers: invalid: no join waits for its batches");
}

/// Each step in turn is done and not answered, or not done: what is unclear is done again.
#[test]
fn what_is_unclear_is_done_again_and_is_done_once() {
    for (fails_at, does_it) in (1..=6).flat_map(|at| [(at, false), (at, true)]) {
        simulate(Seed::new(fails_at), async move {
            let steps = Lock::new(0);
            let broker = Settling(Memory::new(), move |memory: &Memory, step: Step| {
                let mut steps = steps.lock();
                let own = step.acks.is_empty() && !step.state.is_empty();
                *steps += u64::from(own);
                if *steps != fails_at || !own {
                    return at_once(memory, step);
                }
                if does_it {
                    at_once(memory, step)?;
                }
                Err(Error::new(Kind::Unavailable, "no answer"))
            });
            let run = graph(4).on(Arc::new(broker));
            let input = run.input::<u64>("numbers").await.unwrap();
            let mut batch = loop {
                if let Ok(batch) = input.open(Id::of("album")).await {
                    break batch;
                }
            };
            for n in 0..4_u64 {
                while batch.add(Id::of(n.to_le_bytes()), vec![n, 510 + n]).await.is_err() {}
            }
            while batch.close().await.is_err() {}
            run.until_drained().await.unwrap();
            let joined = joined(&run).await;
            let numbers: Vec<u64> = (0..4).chain(510..514).collect();
            assert_eq!(joined.len(), 1, "step {fails_at}, done: {does_it}");
            assert_eq!((&joined[0].value, joined[0].timed_out), (&due(&numbers).0, false));
        });
    }
}

#[test]
fn it_outlives_its_process_on_disk() {
    simulate(Seed::new(3), async {
        let mut platter = Platter::new();
        let graph = graph(4);
        for bit in 0..4_u64 {
            let opened = Durable::on(Arc::new(platter.clone())).clock(WallClock::ambient()).opened().await;
            let run = graph.on(Arc::new(opened.unwrap()));
            let mut batch = run.input::<u64>("numbers").await.unwrap().open(Id::of("album")).await.unwrap();
            assert_eq!(batch.items(), 2 * bit);
            batch.add(Id::of("begin"), vec![1, 501]).await.unwrap();
            if bit > 0 {
                batch.add(Id::of(bit.to_le_bytes()), vec![bit, 501 + bit]).await.unwrap();
            }
            if bit == 3 {
                batch.close().await.unwrap();
                run.until_drained().await.unwrap();
                let joined = joined(&run).await;
                assert_eq!(joined[0].value, due(&[1, 501, 1, 502, 2, 503, 3, 504]).0);
            }
            tokio::select! {
                biased;
                () = time::sleep(Duration::from_millis(3)) => {}
                ended = run.run_until(std::future::pending()) => ended.unwrap(),
            }
            platter.cut();
            platter = Platter::holding(platter.bytes());
        }
    });
}
