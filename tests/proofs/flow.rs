//! Random graphs of up to twelve operators on a broker that loses, delays and refuses calls; runs are killed and
//! resumed, calls fail, items are poison: every item comes to every sink exactly as often as it should, or to the dead
//! letters once; joins fire once for each batch, with the right counts.

mod trouble;

use crate::schedule::{Hits, Subject, alive, simulate};
use seedpod::{
    Error, Kind,
    base::{Backoff, Rng, Seed, hash, sync::Lock, time},
    flow::{Batch, Called, Edge, Flow, Graph, OnFailed, Run, Sum, port},
    net::{Net, Scope},
    queue::{Broker, DEAD_LETTERS, DeadLetter, Id, Want},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};
use trouble::Trouble;

const SUBJECT: Subject = Subject {
    test: "flow::schedules_flow",
    faults: &[
        trouble::ANSWER_LOST,
        trouble::CALL_DELAYED,
        trouble::CALL_FAILED,
        trouble::LEASE_LOST,
        "batch joined",
        "call to be repeated",
        "item unmatched",
        "poison given up",
        "run killed",
    ],
    one_in: 1,
    usual: 200,
};

#[test]
fn schedules_flow() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

/// What should be on a stream: the items of each batch, in any order.
#[derive(Clone, Debug, Default)]
struct Model {
    batches: BTreeMap<u64, Vec<u64>>,
    /// The operators that it came through.
    through: BTreeSet<usize>,
}

impl Model {
    /// What each item becomes, or that it is given up.
    fn step(&mut self, operator: usize, dead: &mut Dead, each: impl Fn(u64) -> Option<Vec<u64>>) {
        self.through.insert(operator);
        for (batch, items) in &mut self.batches {
            let mut next = Vec::new();
            for item in std::mem::take(items) {
                match each(item) {
                    Some(made) => next.extend(made),
                    None => *dead.entry((operator, *batch)).or_default() += 1,
                }
            }
            *items = next;
        }
    }

    fn len(&self) -> usize {
        self.batches.values().map(Vec::len).sum()
    }
}

/// How many were given up, by operator and batch.
type Dead = BTreeMap<(usize, u64), u64>;

/// A graph and what must come of it.
struct Plan {
    graph: Graph,
    batches: BTreeMap<u64, Vec<u64>>,
    sinks: Vec<Model>,
    dead: Dead,
    joins: usize,
    poison: bool,
    unmatched: bool,
}

fn plan(rng: &mut Rng, broker: &Arc<Trouble>) -> Plan {
    let mut flow = Flow::new("random");
    let (batch, capacity) = (1 + rng.below(8) as u32, 4 + rng.below(40) as usize);
    flow.tune(|stage| {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
        stage.batch(batch).capacity(capacity).hold(HOLD).crashes(2).lapses(200).attempts(100).backoff(backoff)
    });
    let batches: BTreeMap<u64, Vec<u64>> = (0..2 + rng.below(4))
        .map(|batch| (batch, (0..1 + rng.below(6)).map(|_| rng.below(1_000_000)).collect()))
        .collect();
    let source = Model { batches: batches.clone(), through: BTreeSet::new() };
    let mut open: Vec<(Edge<u64>, Model)> = vec![(flow.source("numbers"), source)];
    let mut plan = (Dead::new(), 0, false, false);
    for operator in 0..1 + rng.below(12) as usize {
        let at = rng.below(open.len() as u64) as usize;
        let (stream, mut model) = open.swap_remove(at);
        let stream = stream.tune(|stage| stage.workers(1 + rng.below(2) as usize));
        let salt = rng.below(1_000);
        let dead = &mut plan.0;
        let big = model.len() > 60;
        match rng.below(if open.is_empty() { 9 } else { 11 }) {
            0 => {
                model.step(operator, dead, |n| Some(vec![n.wrapping_mul(31) ^ salt]));
                open.push((stream.map(move |n| n.wrapping_mul(31) ^ salt).edge(), model));
            }
            1 => {
                model.step(operator, dead, |n| Some(if n % 3 == salt % 3 { vec![] } else { vec![n + 1] }));
                open.push((stream.filter(move |n| n % 3 != salt % 3).map(|n| n + 1).edge(), model));
            }
            2 if !big => {
                let many =
                    move |n: &u64| (0..(n ^ salt) % 4).map(|k| n.wrapping_mul(5).wrapping_add(k)).collect::<Vec<_>>();
                model.step(operator, dead, |n| Some(many(&n)));
                open.push((stream.explode(many).edge(), model));
            }
            3 if !big => {
                let [one, two] = stream.copy();
                model.through.insert(operator);
                open.extend([(one, model.clone()), (two, model)]);
            }
            4 => {
                // 0 goes one way, 1 the other, 2 nowhere where there is no last port
                let kind = move |n: &u64| (n ^ salt) % 7 % 3;
                let (mut two, before) = (model.clone(), dead.clone());
                model.step(operator, dead, |n| (kind(&n) < 2).then(|| if kind(&n) == 0 { vec![n] } else { vec![] }));
                plan.3 |= *dead != before;
                two.step(operator, &mut Dead::new(), |n| Some(if kind(&n) == 1 { vec![n] } else { vec![] }));
                let [even, odd] =
                    stream.split([port("zero", move |n: &u64| kind(n) == 0), port("one", move |n: &u64| kind(n) == 1)]);
                open.extend([(even, model), (odd, two)]);
            }
            5 if !big => {
                let mut two = model.clone();
                model.step(operator, dead, |n| Some(if n % 3 < 2 { vec![n] } else { vec![] }));
                two.step(operator, &mut Dead::new(), |n| Some(if n % 3 > 0 { vec![n] } else { vec![] }));
                let [low, high] =
                    stream.split_all([port("low", |n: &u64| n % 3 < 2), port("high", |n: &u64| !n.is_multiple_of(3))]);
                open.extend([(low, model), (high, two)]);
            }
            6 => {
                let poison = move |n: &u64| (n ^ salt).is_multiple_of(11);
                let before = dead.clone();
                model.step(operator, dead, |n| (!poison(&n)).then(|| vec![n ^ 1]));
                plan.2 |= *dead != before;
                let map = stream.map(move |n| match poison(n) {
                    true => resume_unwind(Box::new("poison")), // without a word on the terminal
                    false => n ^ 1,
                });
                open.push((map.edge(), model));
            }
            7 => {
                let broken = move |n: &u64| (n ^ salt).is_multiple_of(13);
                model.step(operator, dead, |n| (!broken(&n)).then(|| vec![n + 2]));
                let broker = broker.clone();
                let call = move |called: Called<u64>| {
                    let broker = broker.clone();
                    async move {
                        time::sleep(Duration::from_millis(broker.draw(40))).await;
                        if broken(&called.item) {
                            return Err(Error::new(Kind::Invalid, "broken"));
                        }
                        if broker.draw(5) == 0 {
                            broker.hit("call to be repeated");
                            return Err(Error::new(Kind::Unavailable, "not now"));
                        }
                        Ok(called.item + 2)
                    }
                };
                let concurrency = 1 + rng.below(4) as usize;
                open.push((stream.tune(|stage| stage.concurrency(concurrency)).call(call), model));
            }
            8 => {
                plan.1 += 1;
                let through = model.through.clone();
                let failed = |batch: u64| through.iter().filter_map(|by| plan.0.get(&(*by, batch))).sum::<u64>();
                let one = |(batch, items): (&u64, &Vec<u64>)| {
                    let sum: u64 = items.iter().fold(0, |sum, n| sum.wrapping_add(*n));
                    (*batch, vec![said(sum, items.len() as u64, failed(*batch), false)])
                };
                let batches = model.batches.iter().map(one).collect();
                let join = stream.join(Batch::of(Sum::of(|n: &u64| *n)), HOUR, OnFailed::Report);
                let map = join.map(|joined| said(joined.value as u64, joined.arrived, joined.failed, joined.timed_out));
                open.push((map.edge(), Model { batches, through }));
            }
            9 | 10 => {
                let (other, more) = open.swap_remove(rng.below(open.len() as u64) as usize);
                for (batch, items) in more.batches {
                    model.batches.entry(batch).or_default().extend(items);
                }
                model.through.extend(more.through);
                open.push((stream.weight(1 + rng.below(3) as u32).merge(other), model));
            }
            _ => open.push((stream, model)),
        }
    }
    let mut sinks = Vec::new();
    for (number, (stream, model)) in open.into_iter().enumerate() {
        stream.sink(format!("sink-{number}"));
        sinks.push(model);
    }
    let (dead, joins, poison, unmatched) = plan;
    Plan { graph: flow.build().unwrap(), batches, sinks, dead, joins, poison, unmatched }
}

/// What a join says of a batch, as a number.
fn said(sum: u64, arrived: u64, failed: u64, timed_out: bool) -> u64 {
    sum.wrapping_add(arrived << 40).wrapping_add(failed << 50).wrapping_add(u64::from(timed_out) << 63)
}

const HOLD: Duration = Duration::from_millis(200);
const HOUR: Duration = Duration::from_secs(3600);
const READ: Duration = Duration::from_millis(30);

fn run(net: &Net, plan: &Plan, broker: &Arc<Trouble>) -> Scope {
    let (scope, run) = (net.scope(), plan.graph.on(broker.clone()));
    scope.spawn(async move { run.run_until(std::future::pending()).await.unwrap() });
    scope
}

async fn schedule(seed: Seed, hits: &mut Hits) -> (u64, usize) {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let broker = Arc::new(Trouble::new(rng.fork()));
    let net = Net::memory().seed(seed).build();
    let plan = plan(&mut rng, &broker);
    let sender = plan.graph.on(broker.clone()).input::<u64>("numbers").await.unwrap();
    *broker.per_mille.lock() = *rng.choose(&[20, 60, 120]).unwrap();
    let mut scopes = vec![run(&net, &plan, &broker)];
    let got = Arc::new(Lock::new(vec![Vec::new(); plan.sinks.len()]));
    let reader = net.scope();
    reader.spawn(read(plan.graph.on(broker.inner.clone()), got.clone()));
    for (batch, items) in &plan.batches {
        // whatever is unclear is sent again under its id
        while sender.batch(Id::of(batch.to_le_bytes()), items.clone()).await.is_err() {}
        time::sleep(Duration::from_millis(rng.below(30))).await;
    }
    for _ in 0..1 + rng.below(4) {
        time::sleep(Duration::from_millis(rng.below(250))).await;
        if leased(&plan, &broker).await {
            broker.hit("run killed");
        }
        scopes.last().unwrap().kill();
        scopes.push(run(&net, &plan, &broker));
    }
    *broker.per_mille.lock() = 0;
    scopes.last().unwrap().kill();
    let drained = plan.graph.on(broker.clone());
    let drained = tokio::time::timeout(Duration::from_secs(600), drained.until_drained()).await;
    drained.expect("it is not drained after ten minutes").unwrap();
    time::sleep(READ).await;
    scopes.push(reader);
    scopes.last().unwrap().kill();
    for scope in scopes {
        scope.gone().await;
        assert_eq!(scope.panics(), 0, "a worker has panicked");
    }
    tokio::task::yield_now().await;
    assert_eq!(alive(), before, "tasks are left");
    let mut got = std::mem::take(&mut *got.lock());
    let course = hash::of(format!("{got:?}").as_bytes());
    let letters = plan.graph.dead_letters().subscription(DEAD_LETTERS);
    let (mut dead, mut reasons) = (0, BTreeSet::new());
    loop {
        let letter = broker.inner.lease(&letters, Want::items(100).wait(Duration::ZERO)).await.unwrap();
        if letter.is_empty() {
            break;
        }
        reasons.extend(letter.iter().filter_map(|letter| Some(DeadLetter::read(&letter.batch.headers)?.reason)));
        dead += letter.iter().map(|letter| u64::from(letter.len())).sum::<u64>();
    }
    for (sink, (got, model)) in got.iter_mut().zip(&plan.sinks).enumerate() {
        let mut due: Vec<u64> = model.batches.values().flatten().copied().collect();
        due.sort_unstable();
        got.sort_unstable();
        assert_eq!(*got, due, "sink {sink} of\n{}\n{reasons:#?}", plan.graph.to_mermaid());
    }
    assert_eq!(dead, plan.dead.values().sum::<u64>(), "dead letters of\n{}", plan.graph.to_mermaid());
    for fault in broker.hits.lock().drain(..) {
        hits.hit(fault);
    }
    for (there, word) in
        [(plan.joins > 0, "batch joined"), (plan.poison, "poison given up"), (plan.unmatched, "item unmatched")]
    {
        if there {
            hits.hit(word);
        }
    }
    (course, got.iter().map(Vec::len).sum())
}

/// Reads the sinks, by a connection without trouble: one that is full holds up all the others.
async fn read(run: Run, got: Arc<Lock<Vec<Vec<u64>>>>) {
    let sinks = got.lock().len();
    let outputs: Vec<_> = (0..sinks).map(|sink| run.output::<u64>(&format!("sink-{sink}")).unwrap()).collect();
    loop {
        time::sleep(READ).await;
        for (sink, output) in outputs.iter().enumerate() {
            let more = output.ready().await.unwrap();
            got.lock()[sink].extend(more);
        }
    }
}

/// Whether a kill meets something in a stage's hands.
async fn leased(plan: &Plan, broker: &Arc<Trouble>) -> bool {
    let stats = plan.graph.on(broker.clone()).watch().edges().await.unwrap();
    stats.iter().any(|(_, stats)| stats.leased > 0)
}
