//! The broker on a disk that fails: power cuts that tear what was not synced, failed syncs, a full disk, an engine that
//! panics, orderly ends between them. Whatever was answered for is there at the end, once, and in the order of its key;
//! state, outputs and acknowledgements are there together; a crash is charged to what was held.

use crate::schedule::{Hits, Subject, simulate};
use seedpod::{
    Kind, Result,
    base::{Rng, Seed, hash, sync::Lock, time, time::WallClock},
    queue::{Broker, BrokerExt, Delivery, Durable, Id, Publish, Retry, Step, Subscription, Topic, TopicOptions, Want},
    testing::disk::Platter,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

const SUBJECT: Subject = Subject {
    test: "durable::schedules_durable",
    faults: &[
        "disk full",
        "engine panicked",
        "held at the end, and charged",
        "leases held at the end",
        "power cut",
        "publish in flight at the end",
        "step in flight at the end",
        "sync failed",
        "torn writes",
    ],
    one_in: 10,
    usual: 2000,
};

/// Panics of the engine below are contained, and no news.
pub(crate) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let engine = panic.location().is_some_and(|at| at.file().contains("redb"));
            if !engine && !panic.to_string().contains("as it was told to") {
                usual(panic);
            }
        }));
    });
}

#[test]
fn schedules_durable() {
    quiet_panics();
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

const MILLI: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    PowerCut,
    SyncFails,
    Full,
    Panics,
    InOrder,
}

/// What the clients know, whatever becomes of the broker.
#[derive(Default)]
struct Known {
    /// Answered for.
    published: BTreeSet<u64>,
    asked: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    /// Steps that were asked for, and not refused.
    perhaps_settled: BTreeSet<u64>,
    publishing: usize,
    settling: usize,
    /// Since when it is held.
    held: BTreeMap<u64, time::Instant>,
    /// When the first call failed.
    over: Option<time::Instant>,
}

struct World {
    jobs: Topic,
    done: Topic,
    workers: Subscription,
    known: Lock<Known>,
    next: Lock<u64>,
}

const KEYS: u64 = 3;

/// Every third has no key.
fn key(number: u64) -> Option<String> {
    let of = number % (KEYS + 1);
    (of < KEYS).then(|| format!("key {of}"))
}

fn number(delivery: &Delivery) -> u64 {
    delivery.json::<u64>(0).unwrap()
}

/// The broker is no more.
fn stopped(world: &World, error: seedpod::Error) {
    assert_eq!(error.kind(), Kind::Closed, "{error}");
    world.known.lock().over.get_or_insert(time::now());
}

/// Publishes until the broker is no more.
async fn producer(world: Arc<World>, broker: Arc<Durable>, mut rng: Rng) {
    loop {
        let number = {
            let mut next = world.next.lock();
            *next += 1;
            *next
        };
        let mut publish =
            Publish::json(&world.jobs, Id::of(number.to_string()), number).priority(rng.below(2) as u8 * 9);
        publish = match key(number) {
            Some(key) => publish.key(key).priority(0),
            None if rng.chance(0.2) => publish.delay(rng.below(20) as u32 * MILLI),
            None => publish,
        };
        let mut batches = vec![publish];
        if rng.chance(0.2) {
            batches.push(batches[0].clone()); // the topic remembers ids
        }
        {
            let mut known = world.known.lock();
            known.asked.insert(number);
            known.publishing += 1;
        }
        match broker.publish(batches.into_iter().collect()).await {
            Ok(receipt) => {
                assert_eq!(receipt.stored, 1);
                let mut known = world.known.lock();
                known.publishing -= 1;
                known.published.insert(number);
            }
            Err(error) => return stopped(&world, error),
        }
        time::sleep(rng.below(6) as u32 * MILLI).await;
    }
}

/// Moves jobs to what is done, each in one step with a count of them; retries some; gives up when the broker is no more.
async fn worker(world: Arc<World>, broker: Arc<Durable>, mut rng: Rng) {
    let counter = format!("count {}", rng.below(2));
    loop {
        let want = Want::items(1 + rng.below(4) as u32).chunk(1).hold(60 * 1000 * MILLI);
        let leased = match broker.lease(&world.workers, want).await {
            Ok(leased) => leased,
            Err(error) => return stopped(&world, error),
        };
        let now = time::now();
        for delivery in &leased {
            let twice = world.known.lock().held.insert(number(delivery), now);
            assert!(twice.is_none(), "{} is held twice", number(delivery));
            assert!(!world.known.lock().settled.contains(&number(delivery)), "{} came back", number(delivery));
        }
        time::sleep(rng.below(80) as u32 * MILLI).await;
        for delivery in leased {
            let number = number(&delivery);
            let outcome = loop {
                let retry = rng.chance(0.2);
                let mut step = Step::new();
                if retry {
                    step = step.retry(Retry::new(delivery.lease).after(rng.below(3) as u32 * 4 * MILLI));
                } else {
                    let (version, count) = match broker.load(&counter.as_str().into()).await {
                        Ok((version, count)) => {
                            (version, count.first_chunk::<8>().map_or(0, |count| u64::from_be_bytes(*count)))
                        }
                        Err(error) => return stopped(&world, error),
                    };
                    let out = Publish::json(&world.done, Id::of(format!("done {number}")), number);
                    step = step.ack(delivery.lease).publish(out);
                    step = step.write(&*counter, version, (count + 1).to_be_bytes().to_vec());
                    world.known.lock().perhaps_settled.insert(number);
                }
                {
                    let mut known = world.known.lock();
                    known.settling += 1;
                    known.held.remove(&number); // whoever leases it next may know so sooner than we do
                }
                let settled = broker.settle(step).await;
                match settled {
                    Ok(()) if retry => break false,
                    Ok(()) => break true,
                    Err(error) if error.kind() == Kind::Conflict => {
                        // another has counted meanwhile
                        let mut known = world.known.lock();
                        known.settling -= 1;
                        known.perhaps_settled.remove(&number);
                    }
                    Err(error) => return stopped(&world, error),
                }
            };
            let mut known = world.known.lock();
            known.settling -= 1;
            if outcome {
                known.settled.insert(number);
            }
        }
    }
}

async fn declare(world: &World, broker: &Durable) -> Result {
    let dedup = Duration::from_secs(3600);
    broker.declare(&world.jobs, TopicOptions::new().subscription("workers").dedup(dedup)).await?;
    broker.declare(&world.done, TopicOptions::new().subscription("out")).await
}

/// Everything that a subscription has, acknowledged.
async fn drain(broker: &Durable, subscription: &Subscription, mut seen: impl FnMut(&Delivery)) {
    loop {
        let leased = broker.lease(subscription, Want::items(500).chunk(1).wait(1000 * MILLI)).await.unwrap();
        if leased.is_empty() {
            return;
        }
        let mut step = Step::new();
        for delivery in leased {
            seen(&delivery);
            step = step.ack(delivery.lease);
        }
        broker.settle(step).await.unwrap();
    }
}

async fn schedule(seed: Seed, hits: &mut Hits) -> u64 {
    let mut rng = seed.fork("schedule").rng();
    let (jobs, clock) = (Topic::new("jobs"), WallClock::ambient());
    let world = Arc::new(World {
        workers: jobs.subscription("workers"),
        jobs,
        done: Topic::new("done"),
        known: Lock::default(),
        next: Lock::new(0),
    });
    let mut platter = Platter::new();
    let mut course = 0;
    // the very first opening is not cut: what is no file yet may be none afterwards
    let first = Durable::on(Arc::new(platter.clone())).clock(clock).opened().await.unwrap();
    declare(&world, &first).await.unwrap();
    drop(first);
    for _ in 0..2 + rng.below(2) {
        let broker = Durable::on(Arc::new(platter.clone())).clock(clock).opened().await;
        let broker = Arc::new(broker.unwrap_or_else(|error| panic!("it does not open: {}", error.chain())));
        declare(&world, &broker).await.unwrap();
        let end =
            [End::PowerCut, End::PowerCut, End::SyncFails, End::Full, End::Panics, End::InOrder][rng.below(6) as usize];
        match end {
            End::PowerCut => platter.cut_after(1 + rng.below(300)),
            End::SyncFails => platter.fail_sync_after(1 + rng.below(60)),
            End::Panics => platter.panic_after(1 + rng.below(300)),
            End::Full | End::InOrder => {}
        }
        let mut tasks = Vec::new();
        for _ in 0..3 {
            tasks.push(tokio::spawn(producer(world.clone(), broker.clone(), rng.fork())));
        }
        for _ in 0..3 {
            tasks.push(tokio::spawn(worker(world.clone(), broker.clone(), rng.fork())));
        }
        if end == End::InOrder {
            time::sleep(rng.below(200) as u32 * MILLI).await;
        } else {
            if end == End::Full {
                time::sleep(rng.below(100) as u32 * MILLI).await;
                platter.room(0);
                let large = Publish::new(&world.done, Id::of("x"), vec![0_u8; 8 << 20]);
                let error = broker.send(large).await.expect_err("there is no room");
                assert_eq!(error.kind(), Kind::Closed, "{error}");
            }
            // each call ends, with an error that says so
            for task in tasks.drain(..) {
                tokio::time::timeout(Duration::from_secs(60), task).await.expect("a call hangs").unwrap();
            }
            let error = broker.inspect(&world.jobs).await.expect_err("it was given up");
            assert_eq!(error.kind(), Kind::Closed, "{error}");
        }
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        let long = {
            let mut known = world.known.lock();
            let mut met = |met: bool, fault| {
                if met {
                    hits.hit(fault)
                }
            };
            met(known.publishing > 0, "publish in flight at the end");
            met(known.settling > 0, "step in flight at the end");
            met(!known.held.is_empty(), "leases held at the end");
            met(platter.unsynced() > 0, "torn writes");
            (known.publishing, known.settling) = (0, 0);
            let held = std::mem::take(&mut known.held);
            let over = known.over.take().unwrap_or_else(time::now);
            held.into_iter()
                .filter(|(_, since)| over > *since + 60 * MILLI)
                .map(|(number, _)| number)
                .collect::<BTreeSet<_>>()
        };
        match end {
            End::PowerCut => hits.hit("power cut"),
            End::SyncFails => hits.hit("sync failed"),
            End::Full => hits.hit("disk full"),
            End::Panics => hits.hit("engine panicked"),
            End::InOrder => {}
        }
        if end != End::InOrder {
            let process_alone = end != End::PowerCut && rng.chance(0.5);
            platter.cut();
            platter = if process_alone { Platter::holding(platter.bytes()) } else { platter.after_power_cut(&mut rng) };
        }
        drop(broker);
        if end == End::InOrder || rng.chance(0.5) {
            continue;
        }
        // what was held for long, and is still there, is charged
        let broker = Durable::on(Arc::new(platter.clone())).clock(clock).opened().await.unwrap();
        let leased = broker.lease(&world.workers, Want::items(500).chunk(1).wait(MILLI)).await.unwrap();
        let mut step = Step::new();
        for delivery in &leased {
            if long.contains(&number(delivery)) {
                assert!(delivery.attempts.crashes > 0, "{} was held, and is not charged", number(delivery));
                hits.hit("held at the end, and charged");
            }
            step = step.retry(Retry::new(delivery.lease).charge(seedpod::queue::Charge::Nothing));
        }
        broker.settle(step).await.unwrap();
        course = hash::of(format!("{course} {end:?} {:?}", world.known.lock().settled).as_bytes());
    }
    let broker = Durable::on(Arc::new(platter)).clock(clock).opened().await.unwrap();
    declare(&world, &broker).await.unwrap();
    let mut counted = 0;
    for counter in ["count 0", "count 1"] {
        let (_, count) = broker.load(&counter.into()).await.unwrap();
        counted += count.first_chunk::<8>().map_or(0, |count| u64::from_be_bytes(*count));
    }
    let (mut left, mut done) = (Vec::new(), Vec::new());
    drain(&broker, &world.workers, |delivery| left.push(number(delivery))).await;
    drain(&broker, &world.done.subscription("out"), |delivery| {
        if delivery.id(0) != Id::of("x") {
            done.push(number(delivery));
        }
    })
    .await;
    let stats = broker.inspect(&world.jobs).await.unwrap();
    assert_eq!((stats.stored, stats.leased, stats.blocked, stats.delayed), (0, 0, 0, 0));
    let known = world.known.lock();
    let (left_set, done_set): (BTreeSet<_>, BTreeSet<_>) =
        (left.iter().copied().collect(), done.iter().copied().collect());
    assert_eq!((left_set.len(), done_set.len()), (left.len(), done.len()), "twice: {left:?} {done:?}");
    assert!(left_set.is_disjoint(&done_set), "acknowledged, and there again");
    for number in &known.published {
        assert!(left_set.contains(number) || done_set.contains(number), "{number} was answered for, and is lost");
    }
    for number in &known.settled {
        assert!(done_set.contains(number), "{number} was settled, and its output is lost");
    }
    assert!(left_set.iter().chain(&done_set).all(|number| known.asked.contains(number)), "out of nowhere");
    assert!(done_set.iter().all(|number| known.perhaps_settled.contains(number)), "done, and nobody did it");
    assert_eq!(counted, done.len() as u64, "outputs and the count of them were written together");
    for of in 0..KEYS {
        let own =
            |numbers: &[u64]| numbers.iter().copied().filter(|number| number % (KEYS + 1) == of).collect::<Vec<_>>();
        let (left, done) = (own(&left), own(&done));
        assert!(done.iter().chain(&left).is_sorted(), "of key {of}, {done:?} is done and {left:?} is left");
    }
    hash::of(format!("{course} {left:?} {done:?}").as_bytes())
}
