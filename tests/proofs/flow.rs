//! Random graphs of up to twelve operators on a broker that loses, delays and refuses calls, in memory or on a disk that
//! fails; runs are killed and resumed, calls fail, items are poison: every item comes to every sink exactly as often as it
//! should, or to the dead letters once; joins fire once for each batch, with the right counts; reductions are exact.

mod graph;
mod ground;
mod memory;
mod reader;
mod trouble;

use crate::durable::quiet_panics;
use crate::schedule::{Hits, Subject, alive, simulate};
use graph::{FEATURES, Plan};
use ground::Ground;
use reader::{READ, Readers};
use seedpod::{
    Kind,
    base::{Rng, Seed, hash, time},
    flow::Input,
    net::{Net, Scope},
    queue::{Broker, DEAD_LETTERS, DeadLetter, Id, Want},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use trouble::{ANSWER_LOST, CALL_DELAYED, CALL_FAILED, KILLED, LEASE_LOST, Trouble};

const SUBJECT: Subject = Subject {
    test: "flow::schedules_flow",
    faults: &[
        ANSWER_LOST,
        CALL_DELAYED,
        CALL_FAILED,
        LEASE_LOST,
        KILLED,
        "batch joined",
        "batch opened again",
        "call to be repeated",
        "item unmatched",
        "poison given up",
        "shard out",
    ],
    one_in: 1,
    usual: 200,
};

/// The same on a disk that fails, which is a world of its own each time.
const ON_DISK: Subject = Subject {
    test: "flow::schedules_flow_on_disk",
    faults: &[
        ANSWER_LOST,
        CALL_DELAYED,
        CALL_FAILED,
        LEASE_LOST,
        KILLED,
        ground::POWER_CUT,
        ground::SYNC_FAILED,
        ground::DISK_FULL,
        ground::TORN,
        "batch joined",
        "batch opened again",
        "call to be repeated",
        "item unmatched",
        "poison given up",
        "shard out",
    ],
    one_in: 10,
    usual: 400,
};

#[test]
fn schedules_flow() {
    SUBJECT.run_by_feature(FEATURES, |seed, hits| simulate(seed, schedule(seed, hits, Ground::memory())));
}

#[test]
fn schedules_flow_on_disk() {
    quiet_panics();
    ON_DISK.run_by_feature(FEATURES, |seed, hits| simulate(seed, schedule(seed, hits, Ground::disk())));
}

fn run(net: &Net, plan: &Plan, broker: &Arc<Trouble>) -> Scope {
    let (scope, run) = (net.scope(), plan.graph.on(broker.clone()));
    scope.spawn(async move {
        let ended = run.run_until(std::future::pending()).await;
        let error = ended.expect_err("it was not told to stop");
        assert_eq!(error.kind(), Kind::Closed, "{}", error.chain()); // as a broker whose disk fails is
    });
    scope
}

/// Sends all batches, at once or bit by bit; whatever is unclear is sent again under its id.
async fn send(sender: Input<u64>, batches: Vec<(u64, Vec<u64>)>, broker: Arc<Trouble>, mut rng: Rng) {
    for (batch, items) in batches {
        let id = Id::of(batch.to_le_bytes());
        let bits = rng.chance(0.5);
        while !bits && sender.batch(id, items.clone()).await.is_err() {
            time::sleep(Duration::from_millis(1)).await;
        }
        while bits && !bit_by_bit(&sender, id, &items, &broker, &mut rng).await {
            time::sleep(Duration::from_millis(1)).await;
        }
        time::sleep(Duration::from_millis(rng.below(30))).await;
    }
}

/// Whether the batch is closed; where no join waits for it, it is sent at once.
async fn bit_by_bit(sender: &Input<u64>, id: Id, items: &[u64], broker: &Trouble, rng: &mut Rng) -> bool {
    let mut batch = match sender.open(id).await {
        Ok(batch) => batch,
        Err(error) if error.kind() == Kind::Invalid => return sender.batch(id, items.to_vec()).await.is_ok(),
        Err(error) => return error.is_conflict(), // it was closed, and the answer was lost
    };
    if batch.items() > 0 {
        broker.hit("batch opened again");
    }
    for (bit, items) in (0_u64..).zip(items.chunks(2)) {
        if batch.add(Id::of(bit.to_le_bytes()), items.to_vec()).await.is_err() {
            return false;
        }
        time::sleep(Duration::from_millis(rng.below(15))).await;
    }
    batch.close().await.is_ok()
}

async fn schedule(seed: Seed, hits: &mut Hits, mut ground: Ground) -> (u64, usize) {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let broker = Arc::new(Trouble::new(ground.broker().await, rng.fork()));
    let net = Net::memory().seed(seed).build();
    let plan = graph::plan(&mut rng, &broker);
    let sender = plan.graph.on(broker.clone()).input::<u64>("numbers").await.unwrap();
    let readers = Readers::new(&plan);
    broker.per_mille(*rng.choose(&[40, 120, 240]).unwrap());
    if rng.chance(0.5) {
        plan.outlets.close("b");
    }
    let mut scopes = vec![run(&net, &plan, &broker)];
    let aside = net.scope();
    aside.spawn(readers.clone().read(broker.clone()));
    let sending = aside.spawn(send(sender, plan.batches.clone().into_iter().collect(), broker.clone(), rng.fork()));
    for _ in 0..2 + rng.below(3) {
        time::sleep(Duration::from_millis(rng.below(120))).await;
        if ground.is_disk() && rng.chance(0.75) {
            ground.strike(&broker, &aside, &mut rng).await;
        }
        if !broker.is_closed() {
            broker.killed();
        }
        let killed = scopes.last().unwrap();
        killed.kill();
        if broker.is_closed() {
            killed.gone().await; // nobody else has the file when it is opened again
            let again = ground.recover(&broker, &mut rng).await;
            broker.goes_on_with(again);
        }
        scopes.push(run(&net, &plan, &broker));
    }
    plan.outlets.open("b");
    let _ = sending.await;
    broker.per_mille(0);
    scopes.last().unwrap().kill();
    drain(&plan, &broker).await;
    time::sleep(2 * READ).await;
    scopes.push(aside);
    scopes.last().unwrap().kill();
    for scope in scopes {
        scope.gone().await;
        assert_eq!(scope.panics(), 0, "a worker has panicked");
    }
    let left = ground.left(&broker).await;
    check(&plan, &*left, &readers, &mut *hits).await;
    for (fault, met) in broker.met() {
        match met.is_empty() {
            true => hits.hit(fault),
            false => hits.met(fault, met),
        }
    }
    let got = readers.kept(&*left).await;
    drop((left, broker, plan));
    time::sleep(Duration::from_millis(1)).await; // a file is closed by a task of its own
    assert_eq!(alive(), before, "tasks are left");
    (hash::of(format!("{got:?}").as_bytes()), got.iter().map(Vec::len).sum())
}

async fn drain(plan: &Plan, broker: &Arc<Trouble>) {
    let run = plan.graph.on(broker.clone());
    let drained = tokio::time::timeout(Duration::from_secs(900), run.until_drained()).await;
    drained.expect("it is not drained after fifteen minutes").unwrap();
}

/// What came of it, against what should have.
async fn check(plan: &Plan, left: &dyn Broker, readers: &Readers, hits: &mut Hits) {
    let letters = plan.graph.dead_letters().subscription(DEAD_LETTERS);
    let (mut dead, mut reasons) = (0, BTreeSet::new());
    loop {
        let letter = left.lease(&letters, Want::items(100).wait(Duration::ZERO)).await.unwrap();
        if letter.is_empty() {
            break;
        }
        reasons.extend(letter.iter().filter_map(|letter| Some(DeadLetter::read(&letter.batch.headers)?.reason)));
        dead += letter.iter().map(|letter| u64::from(letter.len())).sum::<u64>();
    }
    let got = readers.kept(left).await;
    for (sink, (got, model)) in got.iter().zip(&plan.sinks).enumerate() {
        let complaint = model.compare(got);
        assert_eq!(complaint, None, "sink {sink} of\n{}\n{reasons:#?}", plan.graph.to_mermaid());
    }
    assert_eq!(dead, plan.dead.values().sum::<u64>(), "dead letters of\n{}\n{reasons:#?}", plan.graph.to_mermaid());
    for word in &plan.words {
        hits.hit(word);
    }
}
