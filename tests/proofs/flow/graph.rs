//! A random graph, and what must come of it.

use super::trouble::Trouble;
use seedpod::{
    Error, Kind,
    base::{Backoff, Rng, time},
    flow::{Batch, Called, Edge, Flow, Graph, Group, OnFailed, OnOut, Outlets, Sum, Tuning, Window, port},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

/// The operators that have stages of their own.
pub(super) const FEATURES: &[&str] = &[
    "call", "copy", "explode", "filter", "join", "map", "merge", "pair", "poison", "reduce", "shard", "split", "window",
];

const HOLD: Duration = Duration::from_millis(200);
/// More than a power cut is charged for: the same item may be in hand each time.
const CRASHES: u16 = 6;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any trouble lasts.
const WITHIN: Duration = Duration::from_secs(60);
/// Beyond so many items on a stream, nothing makes more of them.
const BIG: usize = 60;

/// How many were given up, by operator and batch.
pub(super) type Dead = BTreeMap<(usize, u64), u64>;

/// What should be on a stream: the items of each batch, in any order.
#[derive(Clone, Debug, Default)]
struct Model {
    batches: BTreeMap<u64, Vec<u64>>,
    /// The operators that it came through.
    through: BTreeSet<usize>,
    /// What came of different batches can no longer be told apart.
    mixed: bool,
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

    fn with(mut self, other: Model) -> Model {
        for (batch, items) in other.batches {
            self.batches.entry(batch).or_default().extend(items);
        }
        self.through.extend(other.through);
        self.mixed |= other.mixed;
        self
    }

    fn mixed(mut self) -> Model {
        self.mixed = true;
        self
    }

    fn all(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.batches.values().flatten().copied().collect();
        all.sort_unstable();
        all
    }

    fn len(&self) -> usize {
        self.batches.values().map(Vec::len).sum()
    }
}

/// What should be in a sink.
pub(super) enum Expected {
    /// These numbers, in any order.
    Items(Vec<u64>),
    /// Sums by key, more and more of them, and at last these.
    Sums(BTreeMap<u64, i128>),
}

impl Expected {
    /// What is wrong with what came, each item as its JSON.
    pub(super) fn compare(&self, got: &[String]) -> Option<String> {
        match self {
            Expected::Items(due) => {
                let mut got: Vec<u64> = got.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
                got.sort_unstable();
                (got != *due).then(|| format!("{got:?} came, and not {due:?}"))
            }
            Expected::Sums(due) => {
                let got = got.iter().map(|item| serde_json::from_str(item).unwrap());
                let got: Vec<BTreeMap<u64, i128>> = got.collect();
                let grows = got.is_sorted_by(|one, next| one.iter().all(|(key, sum)| next.get(key) >= Some(sum)));
                let last = got.last().cloned().unwrap_or_default();
                (!grows || last != *due).then(|| format!("{got:?} came, and not at last {due:?}"))
            }
        }
    }
}

/// A graph and what must come of it.
pub(super) struct Plan {
    pub(super) graph: Graph,
    pub(super) batches: BTreeMap<u64, Vec<u64>>,
    pub(super) sinks: Vec<Expected>,
    pub(super) dead: Dead,
    /// Of the shards of all sharders, which are out.
    pub(super) outlets: Outlets,
    /// What else must come to pass.
    pub(super) words: Vec<&'static str>,
}

/// What a join says of a batch, as a number.
fn said(sum: u64, arrived: u64, failed: u64, timed_out: bool) -> u64 {
    sum.wrapping_add(arrived << 40).wrapping_add(failed << 50).wrapping_add(u64::from(timed_out) << 63)
}

fn sums(items: &[u64]) -> BTreeMap<u64, i128> {
    items.iter().fold(BTreeMap::new(), |mut sums, n| {
        *sums.entry(n % 3).or_default() += i128::from(*n);
        sums
    })
}

/// A graph in the making.
struct Draw<'a> {
    rng: &'a mut Rng,
    broker: &'a Arc<Trouble>,
    open: Vec<(Edge<u64>, Model)>,
    sinks: Vec<Expected>,
    dead: Dead,
    outlets: Outlets,
    words: BTreeSet<&'static str>,
}

pub(super) fn plan(rng: &mut Rng, broker: &Arc<Trouble>) -> Plan {
    let mut flow = Flow::new("random");
    let (batch, capacity) = (1 + rng.below(8) as u32, 4 + rng.below(40) as usize);
    flow.tune(|stage| {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
        stage.batch(batch).capacity(capacity).hold(HOLD).crashes(CRASHES).lapses(200).attempts(100).backoff(backoff)
    });
    let batches: BTreeMap<u64, Vec<u64>> = (0..3 + rng.below(6))
        .map(|batch| (batch, (0..1 + rng.below(6)).map(|_| rng.below(1_000_000)).collect()))
        .collect();
    let source = Model { batches: batches.clone(), ..Model::default() };
    let open = vec![(flow.source("numbers"), source)];
    let (sinks, dead, words) = (Vec::new(), Dead::new(), BTreeSet::new());
    let mut draw = Draw { rng, broker, open, sinks, dead, words, outlets: Outlets::new() };
    for operator in 0..3 + draw.rng.below(10) as usize {
        draw.operator(operator);
    }
    let Draw { open, mut sinks, dead, outlets, words, .. } = draw;
    for (stream, model) in open {
        stream.sink(format!("sink-{}", sinks.len()));
        sinks.push(Expected::Items(model.all()));
    }
    Plan { graph: flow.build().unwrap(), batches, sinks, dead, outlets, words: words.into_iter().collect() }
}

impl Draw<'_> {
    /// One more operator, at the end of some stream.
    fn operator(&mut self, operator: usize) {
        let Some((stream, model)) = self.take() else { return };
        let workers = 1 + self.rng.below(2) as usize;
        let stream = stream.tune(|stage: Tuning| stage.workers(workers));
        let (salt, big) = (self.rng.below(1_000), model.len() > BIG);
        match self.rng.below(18) {
            0 => self.map(operator, stream, model, salt),
            1 => self.filter(operator, stream, model, salt),
            2 if !big => self.explode(operator, stream, model, salt),
            3 if !big => self.copy(operator, stream, model),
            4 => self.split(operator, stream, model, salt),
            5 if !big => self.split_all(operator, stream, model),
            6 => self.poison(operator, stream, model, salt),
            7 => self.call(operator, stream, model, salt),
            8 | 9 if !model.mixed => self.join(operator, stream, model),
            10 | 11 => self.merge(operator, stream, model),
            12 | 16 | 17 => self.pair(operator, stream, model),
            13 => self.shard(operator, stream, model),
            14 => self.window(operator, stream, model),
            15 if self.sinks.len() < 2 => self.reduce(operator, stream, model),
            _ => self.open.push((stream, model)),
        }
    }

    fn take(&mut self) -> Option<(Edge<u64>, Model)> {
        let at = self.rng.below(self.open.len().max(1) as u64) as usize;
        (at < self.open.len()).then(|| self.open.swap_remove(at))
    }

    /// The name of a stage that does this.
    fn stage(&self, kind: &'static str, operator: usize) -> String {
        let name = format!("{kind}-{operator}");
        self.broker.operator(&name, kind);
        name
    }

    fn map(&mut self, operator: usize, stream: Edge<u64>, mut model: Model, salt: u64) {
        let throttled = salt.is_multiple_of(4);
        let stream = if throttled { stream.throttle(100 + salt as u32) } else { stream };
        model.step(operator, &mut self.dead, |n| Some(vec![n.wrapping_mul(31) ^ salt]));
        let map = stream.map(move |n| n.wrapping_mul(31) ^ salt).named(self.stage("map", operator));
        self.open.push((map.edge(), model));
    }

    fn filter(&mut self, operator: usize, stream: Edge<u64>, mut model: Model, salt: u64) {
        model.step(operator, &mut self.dead, |n| Some(if n % 3 == salt % 3 { vec![] } else { vec![n + 1] }));
        let filter = stream.filter(move |n| n % 3 != salt % 3).map(|n| n + 1);
        self.open.push((filter.named(self.stage("filter", operator)).edge(), model));
    }

    fn explode(&mut self, operator: usize, stream: Edge<u64>, mut model: Model, salt: u64) {
        let many = move |n: &u64| (0..(n ^ salt) % 4).map(|k| n.wrapping_mul(5).wrapping_add(k)).collect::<Vec<_>>();
        model.step(operator, &mut self.dead, |n| Some(many(&n)));
        self.open.push((stream.explode(many).named(self.stage("explode", operator)).edge(), model));
    }

    fn copy(&mut self, operator: usize, stream: Edge<u64>, mut model: Model) {
        let [one, two] = stream.named(self.stage("copy", operator)).copy();
        model.through.insert(operator);
        self.open.extend([(one, model.clone()), (two, model)]);
    }

    /// 0 goes one way, 1 the other, 2 nowhere, where there is no last port.
    fn split(&mut self, operator: usize, stream: Edge<u64>, mut model: Model, salt: u64) {
        let kind = move |n: &u64| (n ^ salt) % 7 % 3;
        let (mut two, before) = (model.clone(), self.dead.clone());
        model.step(operator, &mut self.dead, |n| (kind(&n) < 2).then(|| if kind(&n) == 0 { vec![n] } else { vec![] }));
        if self.dead != before {
            self.words.insert("item unmatched");
        }
        two.step(operator, &mut Dead::new(), |n| Some(if kind(&n) == 1 { vec![n] } else { vec![] }));
        let ports = [port("zero", move |n: &u64| kind(n) == 0), port("one", move |n: &u64| kind(n) == 1)];
        let [zero, one] = stream.named(self.stage("split", operator)).split(ports);
        self.open.extend([(zero, model), (one, two)]);
    }

    fn split_all(&mut self, operator: usize, stream: Edge<u64>, mut model: Model) {
        let mut two = model.clone();
        model.step(operator, &mut self.dead, |n| Some(if n % 3 < 2 { vec![n] } else { vec![] }));
        two.step(operator, &mut Dead::new(), |n| Some(if n % 3 > 0 { vec![n] } else { vec![] }));
        let ports = [port("low", |n: &u64| n % 3 < 2), port("high", |n: &u64| !n.is_multiple_of(3))];
        let [low, high] = stream.named(self.stage("split", operator)).split_all(ports);
        self.open.extend([(low, model), (high, two)]);
    }

    fn poison(&mut self, operator: usize, stream: Edge<u64>, mut model: Model, salt: u64) {
        let poison = move |n: &u64| (n ^ salt).is_multiple_of(11);
        let before = self.dead.clone();
        model.step(operator, &mut self.dead, |n| (!poison(&n)).then(|| vec![n ^ 1]));
        if self.dead != before {
            self.words.insert("poison given up");
        }
        let map = stream.map(move |n| match poison(n) {
            true => resume_unwind(Box::new("poison")), // without a word on the terminal
            false => n ^ 1,
        });
        self.open.push((map.named(self.stage("poison", operator)).edge(), model));
    }

    fn call(&mut self, operator: usize, stream: Edge<u64>, mut model: Model, salt: u64) {
        let broken = move |n: &u64| (n ^ salt).is_multiple_of(13);
        model.step(operator, &mut self.dead, |n| (!broken(&n)).then(|| vec![n + 2]));
        let broker = self.broker.clone();
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
        let concurrency = 1 + self.rng.below(4) as usize;
        let stream = stream.tune(|stage| stage.concurrency(concurrency)).named(self.stage("call", operator));
        self.open.push((stream.call(call), model));
    }

    fn join(&mut self, operator: usize, stream: Edge<u64>, model: Model) {
        self.words.insert("batch joined");
        let through = model.through;
        let failed = |batch: u64| through.iter().filter_map(|by| self.dead.get(&(*by, batch))).sum::<u64>();
        let one = |(batch, items): (&u64, &Vec<u64>)| {
            let sum: u64 = items.iter().fold(0, |sum, n| sum.wrapping_add(*n));
            (*batch, vec![said(sum, items.len() as u64, failed(*batch), false)])
        };
        let batches = model.batches.iter().map(one).collect();
        let stream = stream.named(self.stage("join", operator));
        let join = stream.join(Batch::of(Sum::of(|n: &u64| *n)), HOUR, OnFailed::Report);
        let map = join.map(|joined| said(joined.value as u64, joined.arrived, joined.failed, joined.timed_out));
        let map = map.named(self.stage("map", operator)).edge();
        self.open.push((map, Model { batches, through, mixed: false }));
    }

    fn merge(&mut self, operator: usize, stream: Edge<u64>, model: Model) {
        let Some((other, more)) = self.take() else { return self.open.push((stream, model)) };
        let merged = stream.weight(1 + self.rng.below(3) as u32).merge(other);
        let mut model = model.with(more);
        model.step(operator, &mut self.dead, |n| Some(vec![n ^ 2]));
        self.open.push((merged.map(|n| n ^ 2).named(self.stage("merge", operator)).edge(), model));
    }

    /// Each number with the same number of the other stream; those that stay alone are given up.
    fn pair(&mut self, operator: usize, stream: Edge<u64>, model: Model) {
        let Some((other, more)) = self.take() else { return self.open.push((stream, model)) };
        let key = |n: &u64| (n % 8).to_le_bytes();
        let count = |model: &Model, key: u64| model.all().iter().filter(|n| *n % 8 == key).count();
        let (mut paired, mut alone) = (Vec::new(), 0);
        for key in 0..8 {
            let (one, two) = (count(&model, key), count(&more, key));
            paired.extend(std::iter::repeat_n(key, one.min(two)));
            alone += one.abs_diff(two) as u64;
        }
        self.dead.insert((operator, u64::MAX), alone);
        let mut model = model.with(more).mixed();
        model.batches = BTreeMap::from([(u64::MAX, paired)]);
        let pairs = stream.named(self.stage("pair", operator)).pair(other, key, key, WITHIN);
        let map = pairs.map(|(one, two)| if one % 8 == two % 8 { one % 8 } else { u64::MAX });
        self.open.push((map.named(self.stage("map", operator)).edge(), model));
    }

    /// To one of two shards, of which one may be out for a while, and together again.
    fn shard(&mut self, operator: usize, stream: Edge<u64>, mut model: Model) {
        self.words.insert("shard out");
        model.through.insert(operator);
        let on_out = *self.rng.choose(&[OnOut::Wait, OnOut::Reroute]).unwrap_or(&OnOut::Wait);
        let stream = stream.named(self.stage("shard", operator));
        let [a, b] = stream.shard(["a", "b"], |n| n.to_le_bytes(), &self.outlets, on_out);
        self.open.push((a.merge(b), model));
    }

    fn window(&mut self, operator: usize, stream: Edge<u64>, model: Model) {
        let window = Window::new(1 + self.rng.below(5) as usize, SECOND);
        let lists = stream.named(self.stage("window", operator)).window(window);
        let again = lists.explode(|list| list.clone()).named(self.stage("explode", operator));
        self.open.push((again.edge(), model.mixed()));
    }

    fn reduce(&mut self, operator: usize, stream: Edge<u64>, model: Model) {
        let name = self.stage("reduce", operator);
        self.broker.operator(&format!("{name}-combine"), "reduce");
        let reduced = stream.named(name).reduce(Group::by(|n: &u64| n % 3, Sum::of(|n: &u64| *n)));
        reduced.sink(format!("sink-{}", self.sinks.len()));
        self.sinks.push(Expected::Sums(sums(&model.all())));
    }
}
