//! Flows that are killed: at every step, by an item, with partial results that come twice.

use crate::{
    settling::{Settling, at_once},
    simulated::simulate,
};
use bytes::Bytes;
use seedpod::{
    Error, Kind,
    base::{Answer, Backoff, Few, Name, Seed, sync::Lock, time, time::WallClock},
    flow::{Called, Flow, Graph, Run, Sum},
    queue::{
        Broker, BrokerExt, DEAD_LETTERS, DeadLetter, Delivery, Durable, Guarantees, Id, Memory, Publish, Receipt,
        StateWrite, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    },
    testing::disk::Platter,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

/// Of each dead letter, the reason and what is in it.
async fn dead(broker: &dyn Broker, graph: &Graph) -> Vec<(String, Vec<u8>)> {
    let letters = graph.dead_letters().subscription(DEAD_LETTERS);
    let letters = broker.lease(&letters, Want::items(1000).wait(Duration::ZERO)).await.unwrap();
    let one = |letter: &Delivery| {
        (DeadLetter::read(&letter.batch.headers).unwrap().reason, letter.bytes(0).unwrap().to_vec())
    };
    letters.iter().map(one).collect()
}

/// Runs until this has happened, and dies then.
async fn killed_at(run: &Run, death: &Notify) {
    tokio::select! {
        biased;
        () = death.notified() => {}
        ended = run.run_until(std::future::pending()) => panic!("it ended: {ended:?}"),
    }
}

/// Memory that answers nothing any more from this step on, which it does or does not; what a partial result is published
/// by is done twice.
struct Deadly {
    steps: u64,
    dies_at: u64,
    does_it: bool,
    dead: bool,
}

fn deadly(deadly: &Arc<Lock<Deadly>>, death: &Arc<Notify>) -> Arc<dyn Broker> {
    let (deadly, death) = (deadly.clone(), death.clone());
    Arc::new(Settling(Memory::new(), move |memory: &Memory, mut step: Step| {
        let mut state = deadly.lock();
        let gone = || Err(Error::new(Kind::Unavailable, "it is dead"));
        if state.dead {
            return gone();
        }
        let twice: Vec<_> =
            step.publishes.iter().filter(|one| one.topic.as_str() == "killed.sum-combine").cloned().collect();
        step.publishes.extend(twice);
        state.steps += 1;
        if state.steps != state.dies_at {
            return at_once(memory, step);
        }
        state.dead = true;
        death.notify_one();
        if state.does_it {
            at_once(memory, step).unwrap();
        }
        gone()
    }))
}

#[test]
fn a_reduction_is_the_sequential_fold_wherever_it_is_killed_and_whatever_comes_twice() {
    let numbers: Vec<i64> = (0..60).map(|n| n * n % 37 - 11).collect();
    let fold: i128 = numbers.iter().map(|n| i128::from(*n)).sum();
    for does_it in [false, true] {
        let mut deaths = 0;
        for dies_at in 1.. {
            let state = Arc::new(Lock::new(Deadly { steps: 0, dies_at, does_it, dead: false }));
            let numbers = numbers.clone();
            let seen = state.clone();
            let sums = simulate(Seed::new(dies_at), async move {
                let mut flow = Flow::new("killed");
                flow.tune(|stage| stage.batch(4).workers(2).hold(SECOND));
                flow.source::<i64>("numbers").named("sum").reduce(Sum::of(|n: &i64| *n)).sink("sums");
                let death = Arc::new(Notify::new());
                let run = flow.build().unwrap().on(deadly(&state, &death));
                let input = run.input::<i64>("numbers").await.unwrap();
                for (batch, items) in (0_u64..).zip(numbers.chunks(15)) {
                    input.batch(Id::of(batch.to_le_bytes()), items.to_vec()).await.unwrap();
                }
                tokio::select! {
                    biased;
                    () = killed_at(&run, &death) => {}
                    () = time::sleep(10 * SECOND) => {}
                }
                {
                    let mut state = state.lock();
                    (state.dead, state.dies_at) = (false, 0);
                }
                run.until_drained().await.unwrap();
                run.output::<i128>("sums").unwrap().ready().await.unwrap()
            });
            assert_eq!(sums.last(), Some(&fold), "killed at step {dies_at}, which was done: {does_it}");
            if seen.lock().steps < dies_at {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 20, "{deaths}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_result_that_covers_what_is_counted_is_passed_over_or_refused() {
    let mut flow = Flow::new("cover");
    flow.source::<i64>("numbers").named("sum").reduce(Sum::of(|n: &i64| *n)).sink("sums");
    let graph = flow.build().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let run = graph.on(broker.clone());
    run.input::<i64>("numbers").await.unwrap().batch(Id::of("a"), vec![1; 10]).await.unwrap();
    run.until_drained().await.unwrap();
    let bits = Id::of("a").item(0).as_u128();
    let partial = |items: std::ops::Range<u32>, sum: i128| {
        let cover = vec![(((bits >> 64) as u64, bits as u64), items.start, items.end)];
        let bytes = postcard::to_allocvec(&(cover, sum)).unwrap();
        Publish::new("cover.sum-combine", Id::of(format!("{items:?}")), bytes)
    };
    for partial in [partial(2..4, 100), partial(5..15, 1000), partial(10..12, 20), partial(0..12, 5000)] {
        broker.send(partial).await.unwrap();
        run.until_drained().await.unwrap();
    }
    assert_eq!(run.output::<i128>("sums").unwrap().ready().await.unwrap(), [10, 30]);
    let dead: Vec<_> = dead(&*broker, &graph).await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(dead, ["some of what it covers is counted already"]);
}

#[tokio::test(start_paused = true)]
async fn two_sources_may_use_the_same_ids() {
    let mut flow = Flow::new("ids");
    let (one, two) = (flow.source::<i64>("one"), flow.source::<i64>("two"));
    one.merge(two).reduce(Sum::of(|n: &i64| *n)).sink("sums");
    let run = flow.build().unwrap().on(Arc::new(Memory::new()));
    for source in ["one", "two"] {
        run.input::<i64>(source).await.unwrap().batch(Id::of("monday"), vec![1, 2]).await.unwrap();
    }
    run.until_drained().await.unwrap();
    assert_eq!(run.output::<i128>("sums").unwrap().ready().await.unwrap().last(), Some(&6));
}

/// Memory in front of which one step waits: the first that changes a row which was written once.
struct Slow {
    inner: Memory,
    waited: AtomicBool,
}

impl Broker for Slow {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
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
        let changes = |write: &StateWrite| write.expect == 1 && write.value.is_some();
        if step.state.is_empty() || !step.state.iter().all(changes) || self.waited.swap(true, Relaxed) {
            return self.inner.settle(step);
        }
        Answer::later(async move {
            time::sleep(10 * SECOND).await;
            self.inner.settle(step).await
        })
    }
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        self.inner.load(key)
    }
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.inner.inspect(topic)
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_step_does_not_take_what_was_forgotten_and_made_again_for_what_it_saw() {
    let mut flow = Flow::new("late");
    flow.tune(|stage| stage.workers(2));
    let (one, two) = (flow.source::<String>("one"), flow.source::<String>("two"));
    one.pair(two, |_| "key", |_| "key", 60 * SECOND).sink("pairs");
    let broker = Arc::new(Slow { inner: Memory::new(), waited: AtomicBool::new(false) });
    let run = flow.build().unwrap().on(broker.clone());
    let (one, two) = (run.input::<String>("one").await.unwrap(), run.input::<String>("two").await.unwrap());
    let sending = async {
        for (input, item) in [(&one, "a"), (&one, "b"), (&two, "c"), (&two, "d")] {
            input.send(Id::of(item), item.to_string()).await.unwrap();
            time::sleep(SECOND).await; // b is what waits
        }
        time::sleep(20 * SECOND).await;
    };
    run.run_until(sending).await.unwrap();
    assert!(broker.waited.load(Relaxed));
    let pairs = run.output::<(String, String)>("pairs").unwrap().ready().await.unwrap();
    let pair = |one: &str, two: &str| (one.to_string(), two.to_string());
    assert_eq!(pairs, [pair("a", "c"), pair("b", "d")]);
}

/// On a disk the process is charged for what it held when it died: to all of it, for nobody knows who it was.
#[test]
fn an_item_that_kills_the_process_takes_no_other_along() {
    simulate(Seed::new(1), killer());
}

async fn killer() {
    let death = Arc::new(Notify::new());
    let mut flow = Flow::new("killer");
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100)).exact();
    flow.tune(|stage| stage.crashes(3).backoff(backoff).concurrency(8).workers(2));
    let kill = death.clone();
    let call = move |called: Called<u64>| {
        let kill = kill.clone();
        async move {
            time::sleep(Duration::from_millis(100)).await; // it is on the disk by then who has begun
            if called.item == 7 {
                kill.notify_one();
                std::future::pending::<()>().await;
            }
            time::sleep(Duration::from_millis(100)).await;
            Ok::<_, Error>(called.item)
        }
    };
    let before = flow.source::<u64>("numbers").call(call.clone());
    before.call(call).sink("out");
    let graph = flow.build().unwrap();
    let mut platter = Platter::new();
    let mut lives = 0;
    let broker = loop {
        lives += 1;
        let broker = Durable::on(Arc::new(platter.clone())).clock(WallClock::ambient()).opened().await.unwrap();
        let broker: Arc<dyn Broker> = Arc::new(broker);
        let run = graph.on(broker.clone());
        let input = run.input::<u64>("numbers").await.unwrap();
        input.batch(Id::of("all"), (0..40).collect()).await.unwrap();
        tokio::select! {
            biased;
            () = death.notified() => {}
            drained = run.until_drained() => {
                drained.unwrap();
                break broker;
            }
        }
        platter.cut();
        platter = Platter::holding(platter.bytes());
    };
    assert!((4..=5).contains(&lives), "{lives}: three times, and perhaps once uncharged");
    let dead = dead(&*broker, &graph).await;
    let culprits: Vec<_> = dead.iter().map(|(_, number)| String::from_utf8(number.clone()).unwrap()).collect();
    assert_eq!(culprits, ["7"], "{dead:?}");
    assert!(dead.iter().all(|(reason, _)| reason == "its workers crashed 3 times"), "{dead:?}");
    let mut out = graph.on(broker).output::<u64>("out").unwrap().ready().await.unwrap();
    out.sort_unstable();
    assert_eq!(out, (0..40).filter(|n| *n != 7).collect::<Vec<_>>());
}
