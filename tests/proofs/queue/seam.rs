//! Publishers, a pump in pods and consumers by hand, on a broker that loses and delays calls; handlers fail, hang, panic
//! and are killed; leases lapse, late settlements come: every item is acknowledged or rejected exactly once by each
//! subscription, never held twice at once, never lost, and all is drained in the end.

use super::{
    model::Over,
    record::Record,
    wire::{ANSWER_LOST, CALL_DELAYED, CALL_DOUBLED, CALL_LOST, CALLS_REORDERED, Weather, Wire},
    witness::{NO_ROOM, Witness},
};
use crate::schedule::{Hits, Subject, alive, simulate};
use seedpod::{
    Error, Kind, Result,
    base::{Backoff, Rng, Seed, sync::Lock, time},
    net::{Net, Scope},
    pod::{ContainerSpec, Pod, PodSpec},
    queue::{
        self, Broker, BrokerExt, Charge, DEAD_LETTERS, DeadLetter, Delivery, Id, Memory, Message, Payload, Publish,
        Reject, Retry, Step, Topic, TopicOptions, Want,
    },
};
use std::{
    collections::BTreeSet,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
const SUBJECT: Subject = Subject {
    test: "queue::seam::schedules_queue",
    faults: &[
        ANSWER_LOST,
        CALL_DELAYED,
        CALL_DOUBLED,
        CALL_LOST,
        CALLS_REORDERED,
        "consumer killed",
        "handler failed",
        "handler panicked",
        "handler told to wait",
        "late settlement refused",
        "lease extended",
        "lease lapsed in hand",
        "poison rejected",
        "publisher killed",
        NO_ROOM,
        "pump killed",
        "pump stopped",
        "step conflicted",
    ],
    one_in: 1,
    usual: 200,
};

#[test]
fn schedules_queue() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

const HOLD: Duration = Duration::from_millis(200);

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What all parts of a schedule share.
struct World {
    broker: Arc<Wire>,
    witness: Arc<Witness>,
    record: Arc<Record>,
    weather: Weather,
    orders: Topic,
    results: Topic,
    dead: Topic,
    net: Net,
    /// Messages in the hands of handlers.
    running: Lock<BTreeSet<Id>>,
    /// Deliveries in the hands of the consumers.
    in_hand: AtomicU64,
    /// A publisher is in the middle of a call.
    publishing: AtomicBool,
    /// Ids whose publish has answered.
    accepted: Lock<BTreeSet<Id>>,
    /// Results of steps that have answered.
    made: Lock<BTreeSet<Id>>,
    healing: AtomicBool,
}

/// In a handler's hands for as long as it lives.
struct Running(Arc<World>, Id);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.lock().remove(&self.1);
    }
}

async fn handle(world: Arc<World>, message: Message) -> Result {
    let id = message.id();
    let alone = world.running.lock().insert(id);
    world.record.hold(alone, || format!("{id} is handled twice at once"));
    let _running = Running(world.clone(), id);
    let mut rng = Seed::ambient().fork_index(u64::from(message.attempts().total())).fork(&id.to_string()).rng();
    time::sleep(milliseconds(rng.below(60))).await;
    if world.healing.load(Relaxed) {
        return Ok(());
    }
    match rng.below(16) {
        0 | 1 => {
            world.record.hit("handler failed");
            Err(Error::new(Kind::Unavailable, "no mail server"))
        }
        2 => {
            world.record.hit("handler panicked");
            resume_unwind(Box::new("on purpose")) // without a word on the terminal
        }
        3 => {
            world.record.hit("handler told to wait");
            Err(Error::new(Kind::Overloaded, "").after(milliseconds(1 + rng.below(100))))
        }
        4 => {
            world.record.hit("poison rejected");
            Err(Error::new(Kind::Invalid, "unreadable"))
        }
        5 | 6 => {
            // longer than a lease: it is extended meanwhile, or lost, and then this goes no further
            time::sleep(HOLD * 3).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn pump(world: &Arc<World>, number: u64) -> Pod {
    let own = world.clone();
    let service = tower::service_fn(move |message: Message| handle(own.clone(), message));
    let pump = queue::consume(world.broker.clone(), world.orders.subscription("pump"), service)
        .concurrency(3)
        .hold(HOLD)
        .attempts(3)
        .crashes(2)
        .lapses(4)
        .backoff(Backoff::new(milliseconds(20), milliseconds(300)));
    let spec = PodSpec::new(format!("pump-{number}")).container(ContainerSpec::new("pump", pump));
    Pod::start(spec, &world.net).unwrap()
}

/// Publishes batches until all are taken; whatever is unclear is published again under its id.
async fn publisher(world: Arc<World>, name: u64, mut rng: Rng) {
    for number in 0..10 {
        let id = Id::of(format!("{name}/{number}"));
        let items = 1 + rng.below(3) as usize;
        let payload = Payload::many((0..items).map(|item| format!("{id} {item}").into()));
        let mut publish = Publish::new(&world.orders, id, payload);
        match rng.below(4) {
            0 => publish = publish.delay(milliseconds(rng.below(100))),
            1 => publish = publish.key(["red", "blue"][rng.below(2) as usize]),
            2 => publish = publish.priority(rng.below(3) as u8),
            _ => {}
        }
        loop {
            world.publishing.store(true, Relaxed);
            let answer = world.broker.send(publish.clone()).await;
            world.publishing.store(false, Relaxed);
            match answer {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
            }
        }
        world.accepted.lock().insert(id);
        time::sleep(milliseconds(rng.below(20))).await;
    }
}

/// Leases by hand, and settles in every way there is.
async fn consumer(world: Arc<World>, mut rng: Rng) {
    let subscription = world.orders.subscription("hand");
    loop {
        let want =
            Want::items(1 + rng.below(4) as u32).chunk(1 + rng.below(3) as u32).wait(milliseconds(100)).hold(HOLD);
        let Ok(deliveries) = world.broker.lease(&subscription, want).await else { continue };
        world.in_hand.fetch_add(deliveries.len() as u64, Relaxed);
        let held = Hand(world.clone(), deliveries.len() as u64);
        for delivery in deliveries {
            settle(&world, delivery, &mut rng).await;
        }
        drop(held);
    }
}

struct Hand(Arc<World>, u64);

impl Drop for Hand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(self.1, Relaxed);
    }
}

async fn settle(world: &World, delivery: Delivery, rng: &mut Rng) {
    let (lease, broker, record) = (delivery.lease, &world.broker, &world.record);
    let healing = world.healing.load(Relaxed);
    time::sleep(milliseconds(rng.below(if healing { 5 } else { 60 }))).await;
    let part = {
        let start = rng.below(delivery.len().into()) as u32;
        start..start + 1
    };
    let made = Id::of(format!("{} {}", delivery.id(0), delivery.len()));
    let step = match if healing { 20 } else { rng.below(20) } {
        0 => Step::new().retry(Retry::new(lease).after(milliseconds(rng.below(200)))),
        1 => Step::new().retry(Retry::new(lease).items(part).charge(Charge::Crash)),
        2 => Step::new().reject(Reject::new(lease, "by hand")),
        3 => Step::new().reject(Reject::new(lease, "in part").items(part)),
        4 => Step::new().retry(Retry::new(lease).charge(Charge::Nothing)),
        // kept longer than it is held
        5 | 6 => {
            time::sleep(HOLD).await;
            record.hit("lease lapsed in hand");
            Step::new().ack(lease)
        }
        // kept longer, and extended in time
        7 | 8 => {
            for _ in 0..3 {
                time::sleep(HOLD / 2).await;
                let valid = world.witness.is_valid(&lease);
                if broker.settle(Step::new().extend(lease, HOLD)).await.is_ok() && valid {
                    record.hit("lease extended");
                }
            }
            Step::new().ack(lease)
        }
        // a state that others write as well: where it conflicts, the message stays in hand
        9..15 => {
            let name = seedpod::base::Name::from("count");
            let Ok((version, _)) = broker.load(&name).await else { return };
            time::sleep(milliseconds(20 + rng.below(60))).await;
            let step = Step::new().ack(lease).write(name, version, "1");
            match broker.settle(step).await {
                Err(error) if error.is_conflict() => {
                    record.hit("step conflicted");
                    Step::new().ack(lease)
                }
                _ => return,
            }
        }
        15..18 => Step::new().ack(lease).publish(Publish::new(&world.results, made, "made")),
        _ => Step::new().ack(lease),
    };
    let publishes = !step.publishes.is_empty();
    match broker.settle(step.clone()).await {
        Ok(()) if publishes => drop(world.made.lock().insert(made)),
        Ok(()) if step.extensions.is_empty() => {
            // settled once is settled for good
            if let Err(error) = broker.ack(lease).await {
                let kind = error.kind();
                record
                    .hold(matches!(kind, Kind::LeaseLost | Kind::Unavailable), || format!("{kind} for a second time"));
            }
        }
        Err(error) if error.kind() == Kind::LeaseLost => record.hit("late settlement refused"),
        _ => {}
    }
}

async fn schedule(seed: Seed, hits: &mut Hits) -> (u64, usize) {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let net = Net::memory().seed(seed).perturb().build();
    let record = Arc::new(Record::new(false));
    let witness = Arc::new(Witness::new(Arc::new(Memory::new()), record.clone(), Box::new(|_, _| {})));
    let weather = Weather::new(witness.clone(), net.scope());
    let broker = Arc::new(Wire::new(weather.clone(), rng.fork(), None));
    let (orders, results, dead) = (Topic::new("orders"), Topic::new("results"), Topic::new("dead"));
    let options = TopicOptions::new()
        .subscription("pump")
        .subscription("hand")
        .dead_letters(&dead)
        .dedup(Duration::from_secs(3600))
        .capacity(8 + rng.below(24) as usize);
    broker.declare(&dead, TopicOptions::new().subscription(DEAD_LETTERS)).await.unwrap();
    broker.declare(&results, TopicOptions::new().subscription("all").capacity(6)).await.unwrap();
    broker.declare(&orders, options).await.unwrap();
    let world = Arc::new(World {
        broker,
        witness,
        record,
        weather,
        orders,
        results,
        dead,
        net,
        running: Lock::default(),
        in_hand: AtomicU64::new(0),
        publishing: AtomicBool::new(false),
        accepted: Lock::default(),
        made: Lock::default(),
        healing: AtomicBool::new(false),
    });
    let mut scopes = Vec::new();
    let mut consumers: Vec<_> = (0..3).map(|_| consuming(&world, &mut rng)).collect();
    let mut pumps = vec![pump(&world, 0), pump(&world, 1)];
    let mut publishers = Vec::new();
    let drain = world.net.scope();
    drain.spawn(collect(world.clone()));
    for name in 0..2 {
        publishers.push(publishing(&world, name, &mut rng));
    }
    for number in 0..4 + rng.below(5) {
        time::sleep(milliseconds(rng.below(80))).await;
        world.weather.trouble(*rng.choose(&[0, 0, 10, 30, 60]).unwrap());
        match rng.below(5) {
            0 => {
                let (name, victim) = (10 + number, rng.below(2) as usize);
                if world.publishing.load(Relaxed) {
                    world.record.hit("publisher killed");
                }
                publishers[victim].kill();
                scopes.push(std::mem::replace(&mut publishers[victim], publishing(&world, name, &mut rng)));
            }
            1 => {
                let victim = rng.below(3) as usize;
                if world.in_hand.load(Relaxed) > 0 {
                    world.record.hit("consumer killed");
                }
                consumers[victim].kill();
                scopes.push(std::mem::replace(&mut consumers[victim], consuming(&world, &mut rng)));
            }
            2 => {
                let victim = rng.below(2) as usize;
                let busy = !world.running.lock().is_empty();
                let stopped = std::mem::replace(&mut pumps[victim], pump(&world, 2 + number));
                stopped.stop(HOLD * 2).await;
                stopped.gone().await;
                if busy {
                    world.record.hit("pump stopped");
                }
            }
            _ => {
                let victim = rng.below(2) as usize;
                if !world.running.lock().is_empty() {
                    world.record.hit("pump killed");
                }
                pumps[victim].kill();
                pumps[victim].gone().await;
                pumps[victim] = pump(&world, 2 + number);
            }
        }
    }
    world.weather.trouble(0);
    world.healing.store(true, Relaxed);
    let drained = drained(&world, &publishers);
    if tokio::time::timeout(Duration::from_secs(120), drained).await.is_err() {
        world.record.hold(false, || "it is not drained after two minutes".into());
    }
    for pod in pumps {
        pod.stop(Duration::from_secs(5)).await;
        pod.gone().await;
        assert_eq!((pod.tasks(), pod.sockets()), (0, 0));
    }
    scopes.extend(consumers);
    scopes.extend(publishers);
    scopes.push(drain);
    scopes.push(world.weather.calls.clone());
    for scope in scopes {
        scope.kill();
        scope.gone().await;
        world.record.hold(scope.panics() == 0, || "a task has panicked".into());
    }
    tokio::task::yield_now().await;
    assert_eq!(alive(), before, "tasks are left");
    let ends = judge(&world).await;
    (world.record.close(hits), ends)
}

fn consuming(world: &Arc<World>, rng: &mut Rng) -> Scope {
    let scope = world.net.scope();
    scope.spawn(consumer(world.clone(), rng.fork()));
    scope
}

fn publishing(world: &Arc<World>, name: u64, rng: &mut Rng) -> Scope {
    let scope = world.net.scope();
    scope.spawn(publisher(world.clone(), name, rng.fork()));
    scope
}

/// Takes the results away, slowly, so that steps that publish wait for room now and then.
async fn collect(world: Arc<World>) {
    let all = world.results.subscription("all");
    loop {
        if let Ok(deliveries) = world.broker.lease(&all, Want::one()).await {
            for delivery in deliveries {
                let _ = world.broker.ack(delivery.lease).await;
            }
        }
        time::sleep(milliseconds(5)).await;
    }
}

/// Waits until all that is published has come to its end.
async fn drained(world: &World, publishers: &[Scope]) {
    for scope in publishers {
        scope.gone().await;
    }
    while world.broker.inspect(&world.orders).await.unwrap().stored > 0
        || world.broker.inspect(&world.results).await.unwrap().stored > 0
    {
        time::sleep(milliseconds(50)).await;
    }
}

/// Each item has come to one end; what was rejected lies among the dead, once; what was promised is there.
async fn judge(world: &World) -> usize {
    let (witness, record, mut rejected, mut ends) = (&world.witness, &world.record, BTreeSet::new(), 0);
    for name in ["pump", "hand"] {
        let subscription = world.orders.subscription(name);
        for (id, over) in witness.overs(&subscription) {
            ends += 1;
            record.hold(over.is_some(), || format!("{id} of {subscription} is lost"));
            if over == Some(Over::Rejected) {
                rejected.insert((subscription.clone(), id));
            }
        }
        let there: BTreeSet<_> = witness.overs(&subscription).into_iter().map(|(id, _)| id).collect();
        for id in world.accepted.lock().iter() {
            record.hold(there.contains(id) || there.contains(&id.item(0)), || format!("{id} was promised"));
        }
    }
    let letters = world.dead.subscription(DEAD_LETTERS);
    let mut found = BTreeSet::new();
    let want = Want::one().wait(Duration::ZERO);
    while let Some(letter) = witness.lease(&letters, want).await.unwrap().pop() {
        let of = DeadLetter::read(&letter.batch.headers).unwrap();
        // the letter names the batch; the item is told by its payload
        let payload = letter.bytes(0).unwrap_or_default();
        record.hold(found.insert((of.subscription, of.id, payload)), || "a dead letter came twice".into());
        witness.ack(letter.lease).await.unwrap();
    }
    record.hold(found.len() == rejected.len(), || format!("dead letters {found:?} for {rejected:?}"));
    let results: BTreeSet<_> =
        witness.overs(&world.results.subscription("all")).into_iter().map(|(id, _)| id).collect();
    for made in world.made.lock().iter() {
        record.hold(results.contains(made), || format!("the result {made} is lost"));
    }
    ends
}
