//! Flows on the broker in memory: the laws of the operators, what becomes of what goes wrong, and what `build` refuses.

use crate::{
    settling::{Settling, at_once},
    simulated::simulate,
};
use seedpod::{
    Error, Kind,
    base::{Answer, Backoff, Few, Name, Rng, Seed, sync::Lock, time},
    flow::{Batch, Called, Collect, Count, Flow, Graph, Group, Joined, OnFailed, OnOut, Outlets, Run, Sum, port},
    net::Net,
    pod::{ContainerSpec, Pod, PodSpec},
    queue::{
        Broker, BrokerExt, DEAD_LETTERS, DeadLetter, Delivery, Guarantees, Id, Memory, Publish, Receipt, Step,
        Subscription, Topic, TopicOptions, TopicStats, Want,
    },
};
use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

fn numbers(rng: &mut Rng, most: u64) -> Vec<u64> {
    (0..1 + rng.below(most)).map(|_| rng.below(1000)).collect()
}

/// Sends these batches to the source `numbers`, and drains.
async fn drained(graph: &Graph, batches: &[Vec<u64>]) -> Run {
    let run = graph.on(Arc::new(Memory::new()));
    let input = run.input::<u64>("numbers").await.unwrap();
    for (number, batch) in batches.iter().enumerate() {
        input.batch(Id::of(number.to_le_bytes()), batch.clone()).await.unwrap();
    }
    run.until_drained().await.unwrap();
    run
}

async fn sorted(run: &Run, sink: &str) -> Vec<u64> {
    let mut all = run.output::<u64>(sink).unwrap().ready().await.unwrap();
    all.sort_unstable();
    all
}

/// Of each dead letter, the reason and the number in it.
async fn dead(broker: &dyn Broker, graph: &Graph) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let letters = graph.dead_letters().subscription(DEAD_LETTERS);
    for letter in broker.lease(&letters, Want::items(1000).wait(Duration::ZERO)).await.unwrap() {
        let reason = DeadLetter::read(&letter.batch.headers).unwrap().reason;
        for item in 0..letter.len() {
            all.push((reason.clone(), String::from_utf8(letter.bytes(item).unwrap().to_vec()).unwrap()));
        }
    }
    all.sort();
    all
}

/// A law, over many random batches in batches of many sizes.
fn law<F: Future<Output = ()>>(one: impl Fn(Vec<Vec<u64>>, u32) -> F) {
    for seed in 0..40 {
        let mut rng = Seed::new(seed).rng();
        let batches: Vec<_> = (0..1 + rng.below(5)).map(|_| numbers(&mut rng, 40)).collect();
        let size = 1 + rng.below(50) as u32;
        simulate(Seed::new(seed), one(batches, size));
    }
}

fn flow(size: u32) -> Flow {
    let mut flow = Flow::new("law");
    flow.tune(|stage| stage.batch(size).workers(2));
    flow
}

fn all_of(batches: &[Vec<u64>]) -> Vec<u64> {
    let mut all = batches.concat();
    all.sort_unstable();
    all
}

#[test]
fn every_copy_is_the_input() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let [one, two, three] = flow.source::<u64>("numbers").copy();
        one.sink("one");
        two.sink("two");
        three.sink("three");
        let run = drained(&flow.build().unwrap(), &batches).await;
        for sink in ["one", "two", "three"] {
            assert_eq!(sorted(&run, sink).await, all_of(&batches));
        }
    });
}

#[test]
fn a_splitter_partitions_and_a_merger_puts_together_again() {
    law(|batches, size| async move {
        let mut split = flow(size);
        let [low, odd] =
            split.source::<u64>("numbers").split([port("low", |n: &u64| *n < 300), port("odd", |n: &u64| n % 2 == 1)]);
        low.sink("low");
        odd.sink("odd");
        let graph = split.build().unwrap();
        let run = graph.on(Arc::new(Memory::new()));
        let broker: Arc<dyn Broker> = Arc::new(Memory::new());
        drop(run);
        let run = graph.on(broker.clone());
        run.input::<u64>("numbers").await.unwrap().batch(Id::of("all"), batches.concat()).await.unwrap();
        run.until_drained().await.unwrap();
        let (low, odd, dead) = (sorted(&run, "low").await, sorted(&run, "odd").await, dead(&*broker, &graph).await);
        assert!(low.iter().all(|n| *n < 300) && odd.iter().all(|n| *n >= 300 && n % 2 == 1));
        assert!(dead.iter().all(|(reason, _)| reason == "no port takes it: low, odd"), "{dead:?}");
        let mut all: Vec<u64> = dead.iter().map(|(_, number)| number.parse().unwrap()).collect();
        assert!(all.iter().all(|n| *n >= 300 && n % 2 == 0));
        all.extend(low.into_iter().chain(odd));
        all.sort_unstable();
        assert_eq!(all, all_of(&batches), "each goes one way");

        let mut merge = flow(size);
        let [one, two] = merge
            .source::<u64>("numbers")
            .split([port("one", |n: &u64| n.is_multiple_of(3)), port("rest", |_: &u64| true)]);
        one.weight(2).merge(two).sink("all");
        let run = drained(&merge.build().unwrap(), &batches).await;
        assert_eq!(sorted(&run, "all").await, all_of(&batches));
    });
}

#[test]
fn split_all_sends_to_every_port_that_holds() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let ports =
            [port("low", |n: &u64| *n < 600), port("even", |n: &u64| n.is_multiple_of(2)), port("any", |_: &u64| true)];
        let [low, even, any] = flow.source::<u64>("numbers").split_all(ports);
        low.sink("low");
        even.sink("even");
        any.sink("any");
        let run = drained(&flow.build().unwrap(), &batches).await;
        let only = |criterion: fn(&u64) -> bool| all_of(&batches).into_iter().filter(criterion).collect::<Vec<_>>();
        assert_eq!(sorted(&run, "low").await, only(|n| *n < 600));
        assert_eq!(sorted(&run, "even").await, only(|n| n % 2 == 0));
        assert_eq!(sorted(&run, "any").await, only(|_| true));
    });
}

#[test]
fn a_chain_over_edges_is_the_same_as_one_that_is_fused() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let [fused, apart] = flow.source::<u64>("numbers").copy();
        let many = |n: &u64| vec![*n; (n % 3) as usize];
        fused.map(|n| n + 1).filter(|n| n % 5 != 0).explode(many).sink("fused");
        apart.map(|n| n + 1).edge().filter(|n| n % 5 != 0).edge().explode(many).sink("apart");
        let run = drained(&flow.build().unwrap(), &batches).await;
        let due = all_of(&batches).into_iter().map(|n| n + 1).filter(|n| n % 5 != 0).flat_map(|n| many(&n));
        let due: Vec<_> = due.collect();
        assert_eq!((sorted(&run, "fused").await, sorted(&run, "apart").await), (due.clone(), due));
    });
}

#[test]
fn a_join_fires_once_for_each_batch_with_all_that_arrived() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let [one, two] = flow.source::<u64>("numbers").filter(|n| n % 10 != 0).copy();
        let one = one.explode(|n| (0..n % 3).collect::<Vec<_>>()).edge();
        let [kept, away] = two.split([port("kept", |n: &u64| *n < 800), port("away", |_: &u64| true)]);
        away.sink("away");
        let join = one.merge(kept).join(Batch::of(Collect), 60 * SECOND, OnFailed::Report);
        join.sink("joined");
        let run = drained(&flow.build().unwrap(), &batches).await;
        let joined = run.output::<Joined<Vec<u64>>>("joined").unwrap().ready().await.unwrap();
        assert_eq!(joined.len(), batches.len());
        for (number, batch) in batches.iter().enumerate() {
            let id = Id::of(number.to_le_bytes()).to_string();
            let joined = joined.iter().find(|joined| joined.batch == id).unwrap();
            let through = batch.iter().filter(|n| *n % 10 != 0);
            let mut due: Vec<u64> = through.clone().flat_map(|n| 0..n % 3).collect();
            due.extend(through.filter(|n| **n < 800));
            due.sort_unstable();
            assert_eq!((&joined.value, joined.arrived, joined.failed), (&due, due.len() as u64, 0));
            assert!(!joined.timed_out);
        }
    });
}

#[test]
fn joins_behind_joins_and_beside_them() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let [one, two] = flow.source::<u64>("numbers").copy();
        // nothing at all may come through to the inner one
        let inner = one.filter(|n| *n < 100).join(Batch::of(Count), 60 * SECOND, OnFailed::Report);
        let inner = inner.map(|joined| joined.value);
        inner.merge(two).join(Batch::of(Collect), 60 * SECOND, OnFailed::Report).sink("outer");
        let run = drained(&flow.build().unwrap(), &batches).await;
        let outer = run.output::<Joined<Vec<u64>>>("outer").unwrap().ready().await.unwrap();
        assert_eq!(outer.len(), batches.len());
        let mut got: Vec<Vec<u64>> = outer.into_iter().map(|joined| joined.value).collect();
        let mut due: Vec<Vec<u64>> = batches
            .iter()
            .map(|batch| {
                let mut all = batch.clone();
                all.push(batch.iter().filter(|n| **n < 100).count() as u64);
                all.sort_unstable();
                all
            })
            .collect();
        got.sort();
        due.sort();
        assert_eq!(got, due);
    });
}

#[test]
fn a_reduction_ends_at_the_sequential_fold() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let numbers = flow.source::<u64>("numbers").filter(|n| n % 7 != 0);
        numbers.reduce(Group::by(|n: &u64| n % 4, Sum::of(|n: &u64| *n))).sink("sums");
        let run = drained(&flow.build().unwrap(), &batches).await;
        let sums = run.output::<BTreeMap<u64, i128>>("sums").unwrap().ready().await.unwrap();
        let mut due = BTreeMap::new();
        for n in batches.concat().into_iter().filter(|n| n % 7 != 0) {
            *due.entry(n % 4).or_default() += i128::from(n);
        }
        assert_eq!(sums.last().cloned().unwrap_or_default(), due);
    });
}

fn quick(flow: &mut Flow) {
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100)).exact();
    flow.tune(|stage| stage.crashes(2).attempts(3).backoff(backoff).hold(SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_poison_item_takes_no_other_along() {
    let mut flow = Flow::new("poison");
    quick(&mut flow);
    let tried = Arc::new(AtomicU64::new(0));
    let count = tried.clone();
    let map = flow.source::<u64>("numbers").map(move |n| {
        if n % 100 == 50 {
            count.fetch_add(1, Relaxed);
            resume_unwind(Box::new("it is poison")); // without a word on the terminal
        }
        n + 1
    });
    let joined = map.join(Batch::of(Count), 60 * SECOND, OnFailed::Report);
    joined.sink("joined");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    input.batch(Id::of("all"), (0..256).collect()).await.unwrap();
    let watch = run.watch();
    run.until_drained().await.unwrap();
    let joined = run.output::<Joined<u64>>("joined").unwrap().ready().await.unwrap();
    assert_eq!((joined[0].arrived, joined[0].failed), (253, 3));
    assert_eq!(joined[0].reasons, ["it panicked 2 times: it is poison"]);
    assert_eq!(tried.load(Relaxed), 6, "each alone, twice");
    let dead = dead(&*broker, &graph).await;
    let numbers: Vec<_> = dead.iter().map(|(_, number)| number.as_str()).collect();
    assert_eq!(numbers, ["150", "250", "50"]);
    let stats = watch.stages();
    let stats = (stats[0].taken, stats[0].made, stats[0].retried, stats[0].rejected);
    assert_eq!(stats, (256, 253, 3 + 2 + 1, 3), "the last time one by one, and the others given back");
}

#[tokio::test(start_paused = true)]
async fn a_reduction_survives_poison() {
    let mut flow = Flow::new("reduced");
    quick(&mut flow);
    let value = |n: &u64| match n % 10 {
        3 => resume_unwind(Box::new("three")), // without a word on the terminal
        _ => *n,
    };
    flow.source::<u64>("numbers").reduce(Sum::of(value)).sink("sum");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    run.input::<u64>("numbers").await.unwrap().batch(Id::of("all"), (0..50).collect()).await.unwrap();
    run.until_drained().await.unwrap();
    let sums = run.output::<i128>("sum").unwrap().ready().await.unwrap();
    assert_eq!(sums.last(), Some(&(0..50).filter(|n| n % 10 != 3).sum()));
    let dead: Vec<_> = dead(&*broker, &graph).await.into_iter().map(|(_, number)| number).collect();
    assert_eq!(dead, ["13", "23", "3", "33", "43"]);
}

#[tokio::test(start_paused = true)]
async fn a_sharder_goes_around_what_is_full_or_out_and_waits_where_all_are() {
    let outlets = Outlets::new();
    let mut flow = Flow::new("sharded");
    flow.tune(|stage| stage.capacity(20).batch(4));
    let numbers = flow.source::<u64>("numbers").tune(|stage| stage.capacity(20));
    let [a, b] = numbers.shard(["a", "b"], |n| (n % 2).to_le_bytes(), &outlets, OnOut::Reroute);
    a.tune(|stage| stage.capacity(100)).map(|n| *n).named("work-a").sink("out-a");
    b.tune(|stage| stage.capacity(100)).map(|n| *n).named("work-b").sink("out-b");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    let sender = input.clone();
    let sending = async move {
        for n in 0..60_u64 {
            sender.send(Id::of(n.to_le_bytes()), 2 * n).await.unwrap(); // all of one key
        }
    };
    // nobody works behind the shards
    let sharding = graph.on(broker.clone()).only(["shard"]);
    let until = async {
        let sending = std::pin::pin!(sending);
        futures::future::select(sending, std::pin::pin!(time::sleep(60 * SECOND))).await;
        time::sleep(60 * SECOND).await;
    };
    sharding.run_until(until).await.unwrap();
    let stored = |topic: &'static str| {
        let broker = broker.clone();
        async move { broker.inspect(&Topic::new(topic)).await.unwrap().stored }
    };
    let (a, b) = (stored("sharded.shard.a").await, stored("sharded.shard.b").await);
    assert!((17..=20).contains(&a) && (17..=20).contains(&b), "first one, then the next: {a} {b}");
    let waiting = broker.lease(&Topic::new("sharded.numbers").subscription("shard"), Want::items(20)).await.unwrap();
    assert!(waiting.iter().all(|delivery| delivery.attempts.total() == 0), "who waits is not charged");
    drop(waiting);
    outlets.close("a");
    outlets.close("b");
    let begin = time::now();
    outlets.open("a");
    run.until_drained().await.unwrap();
    assert!(begin.elapsed() < 120 * SECOND);
    let (a, b) = (sorted(&run, "out-a").await, sorted(&run, "out-b").await);
    let mut all = [a, b].concat();
    all.sort_unstable();
    assert_eq!(all, (0..60).map(|n| 2 * n).collect::<Vec<_>>(), "each once");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_such_item_is_a_dead_letter() {
    let mut flow = Flow::new("types");
    flow.source::<u64>("numbers").map(|n| n + 1).sink("more");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    run.input::<u64>("numbers").await.unwrap().send(Id::of("a"), 1).await.unwrap();
    // from a program of another version
    for (id, bytes) in [("b", "\"two\""), ("c", "3")] {
        broker.send(Publish::new("types.numbers", Id::of(id), bytes)).await.unwrap();
    }
    run.until_drained().await.unwrap();
    assert_eq!(sorted(&run, "more").await, [2, 4]);
    let dead = dead(&*broker, &graph).await;
    assert_eq!(dead.len(), 1);
    assert!(dead[0].0.starts_with("it is no u64: ") && dead[0].1 == "\"two\"", "{dead:?}");
    let wrong = run.output::<u32>("more").unwrap_err();
    assert_eq!(wrong.to_string(), "flow types: invalid: \"more\" carries u64, not u32");
    assert_eq!(run.output::<u64>("less").unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tried_again_by_how_it_failed() {
    let mut flow = Flow::new("calls");
    quick(&mut flow);
    let (said, most, now) = (Arc::new(Lock::new(BTreeMap::<u64, Vec<Id>>::new())), Arc::default(), Arc::default());
    let (calls, peak): (_, Arc<AtomicU64>) = (said.clone(), most);
    let highest = peak.clone();
    let running: Arc<AtomicU64> = now;
    let call = move |called: Called<u64>| {
        let (calls, running, peak) = (calls.clone(), running.clone(), peak.clone());
        async move {
            let tries = {
                let mut calls = calls.lock();
                let ids = calls.entry(called.item).or_default();
                ids.push(called.id);
                ids.len()
            };
            peak.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            // longer than a lease
            time::sleep(3 * SECOND).await;
            running.fetch_sub(1, Relaxed);
            match (called.item, tries) {
                (1, _) => Err(Error::new(Kind::Invalid, "no address")),
                (2, _) => Err(Error::new(Kind::Unavailable, "no route")),
                (3, 1) => resume_unwind(Box::new("oh")),
                (4, 1..8) => Err(Error::new(Kind::Overloaded, "").after(SECOND)),
                (item, _) => Ok(item * 10),
            }
        }
    };
    flow.source::<u64>("numbers").tune(|stage| stage.concurrency(3)).call(call).sink("called");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    for n in 0..5_u64 {
        input.send(Id::of(n.to_le_bytes()), n).await.unwrap();
    }
    run.until_drained().await.unwrap();
    assert_eq!(sorted(&run, "called").await, [0, 30, 40]);
    let reasons: Vec<_> = dead(&*broker, &graph).await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["invalid: no address", "unavailable: no route"]);
    let said = said.lock();
    assert_eq!(said.values().map(Vec::len).collect::<Vec<_>>(), [1, 1, 3, 2, 8], "no lease was lost meanwhile");
    assert!(said.values().all(|ids| ids.iter().all(|id| *id == ids[0])), "the same key at every try");
    assert_eq!(highest.load(Relaxed), 3);
}

#[test]
fn all_mistakes_at_once_each_at_its_line() {
    let mut flow = Flow::new("a flow");
    let source = flow.source::<u64>("numbers");
    let [one, two] = source.split([port("same", |_: &u64| true), port("same", |_: &u64| false)]);
    one.named("x").map(|n| n + 1).sink("dead");
    drop(two);
    let mut other = Flow::new("other");
    let stray = other.source::<u64>("stray");
    flow.source::<u64>("more").merge(stray).named("x").map(|n| n * 2).sink("out");
    let reduced = flow.source::<u64>("last").reduce(Count);
    reduced.join(Batch::sent(), SECOND, OnFailed::Report).sink("out");
    let error = flow.build().unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "the name \"a flow\" of a flow",
        "the stage \"split\" has two ports \"same\"",
        "the port \"same\" of \"split\" leads nowhere",
        "has the topic of another",
        "the name \"dead\" of a sink",
        "the two streams are of different flows",
        "there is a stage \"x\" already",
        "the join \"join\" stands behind \"reduce-combine\", which mixes batches",
        "there is a sink, a source or a stage \"out\" already",
    ];
    for what in expected {
        let line = lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what} is not in\n{text}"));
        assert!(line.starts_with("tests/it/flow.rs:"), "{line}");
    }
    let at = |what: &str| {
        let line = lines.iter().find(|line| line.contains(what)).unwrap();
        line.split(':').nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(at("\"dead\" of a sink"), at("two ports \"same\"") + 1, "at the caller's line");
    let empty = Flow::new("empty").build().unwrap_err();
    assert!(empty.to_string().contains("is empty"), "{empty}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_up_the_source_and_nothing_grows() {
    let mut flow = Flow::new("slow");
    flow.tune(|stage| stage.batch(8).capacity(16));
    flow.source::<u64>("numbers").map(|n| n + 1).edge().map(|n| n + 1).edge().map(|n| n + 1).sink("out");
    let run = flow.build().unwrap().on(Arc::new(Memory::new()));
    let input = run.input::<u64>("numbers").await.unwrap();
    let sent = AtomicU64::new(0);
    let sending = async {
        for n in 0..1000_u64 {
            input.send(Id::of(n.to_le_bytes()), n).await.unwrap();
            sent.fetch_add(1, Relaxed);
        }
    };
    let reading = async {
        let (watch, output) = (run.watch(), run.output::<u64>("out").unwrap());
        time::sleep(3600 * SECOND).await;
        let edges = watch.edges().await.unwrap();
        assert!(edges.iter().all(|(_, stats)| stats.stored <= 16), "{edges:?}");
        let ahead = sent.load(Relaxed);
        assert!((48..=64).contains(&ahead), "{ahead} are in four topics of 16");
        let mut all = Vec::new();
        while all.len() < 1000 {
            all.extend(output.take(5, SECOND).await.unwrap());
            let edges = watch.edges().await.unwrap();
            assert!(edges.iter().all(|(_, stats)| stats.stored <= 16), "{edges:?}");
        }
        all.sort_unstable();
        assert_eq!(all, (3..1003).collect::<Vec<_>>());
        assert!(watch.stages().iter().all(|stage| stage.lost == 0), "leases are held while it waits for room");
    };
    run.run_until(async {
        futures::future::join(sending, reading).await;
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_gives_back_what_finds_no_room() {
    let mut flow = Flow::new("stop");
    flow.tune(|stage| stage.batch(8).capacity(8));
    flow.source::<u64>("numbers").map(|n| n + 1).sink("out");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    let sending = async {
        for n in 0..16_u64 {
            input.send(Id::of(n.to_le_bytes()), n).await.unwrap();
        }
        time::sleep(100 * SECOND).await;
    };
    let begin = time::now();
    run.run_until(sending).await.unwrap();
    assert!(begin.elapsed() < 102 * SECOND);
    let stats = broker.inspect(&Topic::new("stop.numbers")).await.unwrap();
    assert_eq!((stats.ready, stats.leased), (8, 0));
    let left = broker.lease(&Topic::new("stop.numbers").subscription("map"), Want::items(8)).await.unwrap();
    assert!(left.iter().all(|delivery| delivery.attempts.total() == 0), "uncharged");
    assert_eq!(sorted(&run, "out").await, (1..9).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_late_fires_without_what_is_missing() {
    let mut flow = Flow::new("late");
    quick(&mut flow);
    let call = |called: Called<u64>| async move {
        time::sleep(called.item as u32 * SECOND).await;
        Ok::<_, Error>(called.item)
    };
    let slow = flow.source::<u64>("seconds").tune(|stage| stage.concurrency(8)).call(call);
    slow.join(Batch::of(Collect), 60 * SECOND, OnFailed::Report).sink("joined");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("seconds").await.unwrap();
    for seconds in [vec![1, 2, 100], vec![3]] {
        let id = Id::of(seconds.len().to_string());
        input.batch(id, seconds).await.unwrap();
    }
    let joined = run.output::<Joined<Vec<u64>>>("joined").unwrap();
    let look = async {
        time::sleep(10 * SECOND).await;
        let first = joined.ready().await.unwrap();
        assert_eq!((first.len(), &first[0].value, first[0].timed_out), (1, &vec![3], false));
        time::sleep(49 * SECOND).await;
        assert_eq!(joined.ready().await.unwrap(), [], "not before its time");
        time::sleep(41 * SECOND).await;
        let late = joined.ready().await.unwrap();
        assert_eq!((late.len(), late[0].timed_out, late[0].arrived), (1, true, 2), "{late:?}");
        assert_eq!(late[0].value, [1, 2]);
    };
    run.run_until(look).await.unwrap();
    run.until_drained().await.unwrap();
    assert_eq!(joined.ready().await.unwrap(), [], "once");
    let dead = dead(&*broker, &graph).await;
    assert_eq!(dead, [("it is late: its batch is over".to_string(), "100".to_string())]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_items_failed_may_be_withheld() {
    let mut flow = Flow::new("withheld");
    let whole = flow.source::<u64>("numbers").split([port("small", |n: &u64| *n < 10)]);
    let [small] = whole;
    small.join(Batch::sent(), 60 * SECOND, OnFailed::Withhold).sink("joined");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    input.batch(Id::of("good"), vec![1, 2]).await.unwrap();
    input.batch(Id::of("bad"), vec![1, 20, 3]).await.unwrap();
    run.until_drained().await.unwrap();
    let joined = run.output::<Joined<()>>("joined").unwrap().ready().await.unwrap();
    assert_eq!(joined.iter().map(|joined| joined.batch.clone()).collect::<Vec<_>>(), [Id::of("good").to_string()]);
    let dead = dead(&*broker, &graph).await;
    assert_eq!(dead[0].0, "1 of its items failed: no port takes it: small");
    assert!(dead[0].1.contains(&Id::of("bad").to_string()), "{dead:?}");
    assert_eq!(dead[1], ("no port takes it: small".to_string(), "20".to_string()));
}

#[tokio::test(start_paused = true)]
async fn without_stages_too_it_runs_until_it_is_told_to_stop() {
    let mut flow = Flow::new("empty");
    flow.source::<u64>("numbers").sink("out");
    let run = flow.build().unwrap().on(Arc::new(Memory::new()));
    let begin = time::now();
    run.run_until(time::sleep(5 * SECOND)).await.unwrap();
    assert_eq!(begin.elapsed(), 5 * SECOND);
    run.until_drained().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stages_run_in_different_pods_by_their_names() {
    let mut flow = Flow::new("pods");
    let doubled = flow.source::<u64>("numbers").map(|n| n * 2).named("double").edge();
    doubled.filter(|n| n % 4 == 0).named("even").sink("out");
    let graph = flow.build().unwrap();
    assert_eq!(graph.stages().map(Name::as_str).collect::<Vec<_>>(), ["double", "even"]);
    let (broker, net): (Arc<dyn Broker>, _) = (Arc::new(Memory::new()), Net::memory().build());
    let pod = |stage: &'static str| {
        let run = graph.on(broker.clone()).only([stage]);
        Pod::start(PodSpec::new(stage).container(ContainerSpec::new("stage", run)), &net).unwrap()
    };
    let first = pod("double");
    let all = graph.on(broker.clone());
    all.input::<u64>("numbers").await.unwrap().batch(Id::of("all"), (0..10).collect()).await.unwrap();
    time::sleep(SECOND).await;
    assert_eq!(broker.inspect(&Topic::new("pods.double")).await.unwrap().ready, 10);
    let second = pod("even");
    time::sleep(SECOND).await;
    assert_eq!(sorted(&all, "out").await, [0, 4, 8, 12, 16]);
    for pod in [first, second] {
        pod.stop(SECOND).await;
        pod.gone().await;
    }
    let missing = graph.on(broker).only(["evn"]).run_until(std::future::ready(())).await.unwrap_err();
    assert_eq!(missing.to_string(), "flow pods: not found: it has no stage \"evn\", only double, even");
}

/// What was settled, and not answered, is no more held: the stage goes on with what is next.
#[tokio::test(start_paused = true)]
async fn a_broker_that_answers_nothing_for_longer_than_a_lease_ends_no_stage() {
    let mut flow = Flow::new("deaf");
    quick(&mut flow);
    flow.source::<u64>("numbers").join(Batch::sent(), 60 * SECOND, OnFailed::Report).map(|all| all.arrived).sink("out");
    let graph = flow.build().unwrap();
    let deaf_until = Lock::new(None);
    let broker: Arc<dyn Broker> = Arc::new(Settling(Memory::new(), move |memory: &Memory, step: Step| {
        if step.acks.is_empty() {
            return at_once(memory, step);
        }
        let deaf_until = *deaf_until.lock().get_or_insert(time::now() + 10 * SECOND);
        let settled = at_once(memory, step);
        if time::now() < deaf_until { Err(Error::new(Kind::Unavailable, "no answer")) } else { settled }
    }));
    let run = graph.on(broker);
    let input = run.input::<u64>("numbers").await.unwrap();
    input.batch(Id::of("one"), (0..10).collect()).await.unwrap();
    run.until_drained().await.unwrap();
    time::sleep(10 * SECOND).await;
    assert_eq!(run.output::<u64>("out").unwrap().ready().await.unwrap(), [10]);
}

/// A broker that cannot do everything: it publishes, and settles in another call. Some answers get lost.
struct Plain {
    inner: Memory,
    dedup: Option<Duration>,
    lost: AtomicU64,
}

impl Broker for Plain {
    fn guarantees(&self) -> Guarantees {
        let mut guarantees = self.inner.guarantees();
        (guarantees.name, guarantees.atomic_step, guarantees.dedup) = ("plain", false, self.dedup);
        guarantees
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.inner.declare(topic, options)
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.inner.publish(batches)
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.inner.lease(subscription, want)
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        assert!(step.publishes.is_empty() && step.state.is_empty(), "not both at once");
        if !step.acks.is_empty() && self.lost.fetch_add(1, Relaxed).is_multiple_of(3) {
            return Answer::now(Err(Error::new(Kind::LeaseLost, "the worker died before it acknowledged")));
        }
        self.inner.settle(step)
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, bytes::Bytes)> {
        self.inner.load(key)
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.inner.inspect(topic)
    }
}

#[tokio::test(start_paused = true)]
async fn without_atomic_steps_what_is_published_again_is_a_duplicate() {
    let mut flow = Flow::new("plain");
    quick(&mut flow);
    // each lease takes another part of the batch, so that ids must not depend on it
    flow.tune(|stage| stage.batch(7).workers(2));
    let [one, two] = flow.source::<u64>("numbers").explode(|n| vec![*n; (n % 3) as usize]).copy();
    one.merge(two.map(|n| n + 1000)).sink("out");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> =
        Arc::new(Plain { inner: Memory::new(), dedup: Some(Duration::MAX), lost: AtomicU64::new(0) });
    let run = graph.on(broker.clone());
    let input = run.input::<u64>("numbers").await.unwrap();
    input.batch(Id::of("all"), (0..100).collect()).await.unwrap();
    run.until_drained().await.unwrap();
    let mut due: Vec<u64> = (0..100).flat_map(|n| vec![n; (n % 3) as usize]).collect();
    due.extend(due.clone().into_iter().map(|n| n + 1000));
    due.sort_unstable();
    let taken = run.output::<u64>("out").unwrap();
    let mut got = Vec::new();
    while got.len() < due.len() {
        // here too the acknowledgement gets lost now and then, and what was leased comes again: not to be counted
        let subscription = graph.subscription("out").unwrap();
        for delivery in broker.lease(&subscription, Want::items(1000).wait(SECOND)).await.unwrap() {
            got.extend((0..delivery.len()).map(|item| delivery.json::<u64>(item).unwrap()));
        }
    }
    drop(taken);
    got.sort_unstable();
    assert_eq!(got, due);
}

#[test]
fn a_broker_that_lacks_something_is_refused_with_all_that_lacks() {
    let mut flow = Flow::new("needy");
    let [one, two] = flow.source::<u64>("numbers").copy();
    one.join(Batch::sent(), SECOND, OnFailed::Report).sink("joined");
    two.reduce(Count).sink("count");
    let graph = flow.build().unwrap();
    graph.check(&Memory::new().guarantees()).unwrap();
    let plain = Plain { inner: Memory::new(), dedup: Some(60 * SECOND), lost: AtomicU64::new(0) };
    let error = graph.check(&plain.guarantees()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("join \"join\": the broker plain has no atomic steps"), "{text}");
    assert!(text.contains("reduce \"reduce\": the broker plain has no atomic steps"), "{text}");
    assert!(text.contains("it needs ids to be known for that long (at most 60 s)"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_run_held_comes_back_and_counts_once() {
    let mut flow = Flow::new("crash");
    quick(&mut flow);
    flow.tune(|stage| stage.batch(3).workers(3));
    let work = |called: Called<u64>| async move {
        time::sleep(Duration::from_millis(called.item % 50)).await;
        Ok::<_, Error>(called.item)
    };
    let [sum, out] = flow.source::<u64>("numbers").call(work).copy();
    sum.reduce(Sum::of(|n: &u64| *n)).sink("sum");
    out.sink("out");
    let run = flow.build().unwrap().on(Arc::new(Memory::new()));
    let input = run.input::<u64>("numbers").await.unwrap();
    input.batch(Id::of("all"), (0..500).collect()).await.unwrap();
    for crash in 1..15_u64 {
        let life = run.run_until(std::future::pending());
        let killed = time::sleep(Duration::from_millis(37 * crash));
        tokio::select! {
            biased;
            () = killed => {}
            ended = life => ended.unwrap(),
        }
    }
    run.until_drained().await.unwrap();
    assert_eq!(sorted(&run, "out").await, (0..500).collect::<Vec<_>>());
    let sums = run.output::<i128>("sum").unwrap().ready().await.unwrap();
    assert_eq!(sums.last(), Some(&(0..500).sum::<i128>()));
}

#[tokio::test(start_paused = true)]
async fn the_drawing_of_a_run_tells_what_waits() {
    let mut flow = Flow::new("drawn");
    let [one, two] =
        flow.source::<u64>("numbers").split([port("even", |n: &u64| n.is_multiple_of(2)), port("odd", |_: &u64| true)]);
    one.merge(two).filter(|n| *n != 7).sink("out");
    let graph = flow.build().unwrap();
    let run = graph.on(Arc::new(Memory::new()));
    let watch = run.watch();
    run.input::<u64>("numbers").await.unwrap().batch(Id::of("all"), (0..10).collect()).await.unwrap();
    run.until_drained().await.unwrap();
    time::sleep(2 * SECOND).await;
    let mermaid = watch.to_mermaid().await.unwrap();
    assert!(mermaid.contains("s0[\"split<br>10 in, 10 out, "), "{mermaid}");
    assert!(mermaid.contains("s0 -- \"even: 0 waiting\" --> s1"), "{mermaid}");
    assert!(mermaid.contains("s1[\"filter: merge, filter<br>10 in, 9 out, "), "{mermaid}");
    assert!(mermaid.contains("s1 -- \"9 waiting, oldest 2.0 s\" --> o3"), "{mermaid}");
    assert!(watch.to_dot().await.unwrap().contains("s0 -> s1 [label=\"even: 0 waiting\"];"));
    assert!(graph.to_dot().starts_with("digraph \"drawn\" {\n  rankdir=LR;\n  i0 [shape=oval, label=\"numbers\"];"));
}

#[test]
fn every_item_is_in_one_pair_or_is_a_dead_letter() {
    law(|batches, size| async move {
        let mut flow = flow(size);
        let (one, two) = (flow.source::<u64>("numbers"), flow.source::<u64>("others"));
        let key = |n: &u64| (n % 40).to_le_bytes();
        one.pair(two.map(|n| n + 40), key, key, 60 * SECOND).sink("pairs");
        let graph = flow.build().unwrap();
        let broker: Arc<dyn Broker> = Arc::new(Memory::new());
        let run = graph.on(broker.clone());
        let (left, right) = (batches.concat(), batches[0].clone());
        run.input::<u64>("numbers").await.unwrap().batch(Id::of("all"), left.clone()).await.unwrap();
        run.input::<u64>("others").await.unwrap().batch(Id::of("all"), right.clone()).await.unwrap();
        run.until_drained().await.unwrap();
        let pairs = run.output::<(u64, u64)>("pairs").unwrap().ready().await.unwrap();
        assert!(pairs.iter().all(|(one, two)| one % 40 == two % 40), "{pairs:?}");
        // all of the first batch are on both sides, so nobody on the right stays alone
        assert_eq!(pairs.len(), right.len());
        let dead = dead(&*broker, &graph).await;
        assert!(dead.iter().all(|(reason, _)| reason == "its partner did not come in time"), "{dead:?}");
        let mut lefts: Vec<u64> = pairs.iter().map(|(one, _)| *one).collect();
        lefts.extend(dead.iter().map(|(_, number)| number.parse::<u64>().unwrap()));
        lefts.sort_unstable();
        assert_eq!(lefts, all_of(&batches));
        let mut rights: Vec<u64> = pairs.iter().map(|(_, two)| two - 40).collect();
        rights.sort_unstable();
        assert_eq!(rights, all_of(&[right]));
    });
}
