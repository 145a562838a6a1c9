//! The ends of flows on a broker that has no atomic steps and knows no ids: calls fail, answers are lost, steps are cut
//! off between their parts, workers are killed. What comes twice counts once at the inboxes, and what cannot be right is
//! refused.

use crate::simulated::simulate;
use seedpod::{
    Error, Kind, Result,
    base::{Answer, Backoff, BoxError, Few, Name, Rng, Seed, sync::Lock, time},
    flow::{Applied, Called, Count, Edge, Flow, Graph, Inbox, OnOut, Outlets, TopicInbox},
    queue::{
        Broker, DEAD_LETTERS, Delivery, Guarantees, Id, Memory, Publish, Receipt, Step, Subscription, Topic,
        TopicOptions, TopicStats, Want,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A broker elsewhere: a step is done in parts, and may be cut off between any of them.
struct Remote {
    inner: Memory,
    /// It keeps state, and knows ids again.
    able: bool,
    rng: Lock<Rng>,
    /// How often a part goes wrong, in a thousand.
    per_mille: Lock<u64>,
    hits: Lock<BTreeMap<&'static str, u64>>,
}

impl Remote {
    fn new(able: bool, rng: Rng) -> Arc<Remote> {
        let (per_mille, hits) = (Lock::new(0), Lock::default());
        Arc::new(Remote { inner: Memory::new(), able, rng: Lock::new(rng), per_mille, hits })
    }

    fn away() -> Error {
        Error::new(Kind::Unavailable, "the connection is gone")
    }

    /// One part of a call.
    async fn part<T, F: Future<Output = Result<T>>>(&self, what: &'static str, call: impl FnOnce() -> F) -> Result<T> {
        let (goes_wrong, how, wait) = {
            let mut rng = self.rng.lock();
            (rng.below(1000) < *self.per_mille.lock(), rng.below(3), rng.below(300))
        };
        if !goes_wrong {
            time::sleep(Duration::from_millis(wait / 100)).await;
            return call().await;
        }
        *self.hits.lock().entry(what).or_default() += 1;
        match how {
            0 => Err(Remote::away()),
            1 => {
                call().await?;
                Err(Remote::away())
            }
            _ => {
                time::sleep(Duration::from_millis(wait)).await;
                call().await
            }
        }
    }
}

impl Broker for Remote {
    fn guarantees(&self) -> Guarantees {
        let mut guarantees = self.inner.guarantees();
        (guarantees.name, guarantees.atomic_step) = ("remote", false);
        if !self.able {
            (guarantees.state, guarantees.dedup) = (false, None);
        }
        guarantees
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        assert!(self.able || options.dedup.is_none());
        self.inner.declare(topic, options)
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        Answer::later(async move {
            for publish in batches {
                self.part("publish", || self.inner.publish(Few::from([publish]))).await?;
            }
            Ok(Receipt::default())
        })
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.inner.lease(subscription, want)
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        Answer::later(async move {
            if !step.publishes.is_empty() {
                self.publish(step.publishes.clone()).await?;
            }
            if !step.state.is_empty() {
                let mut held = Step::new();
                held.extensions.clone_from(&step.extensions);
                self.part("settle", || self.inner.settle(held)).await?;
            }
            for write in &step.state {
                assert!(self.able);
                let mut one = Step::new();
                one.state.push(write.clone());
                self.part("state", || self.inner.settle(one)).await?;
            }
            let mut rest = Step::new();
            (rest.acks, rest.retries, rest.rejects) = (step.acks, step.retries, step.rejects);
            rest.extensions = step.extensions;
            self.part("settle", || self.inner.settle(rest)).await
        })
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, bytes::Bytes)> {
        Answer::later(self.part("load", move || self.inner.load(key)))
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.inner.inspect(topic)
    }
}

fn tuned(name: &str, rng: &mut Rng) -> Flow {
    let mut flow = Flow::new(name);
    let (batch, workers) = (1 + rng.below(8) as u32, 1 + rng.below(2) as usize);
    flow.tune(|stage| {
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
        let stage = stage.batch(batch).workers(workers).hold(Duration::from_millis(200)).backoff(backoff);
        stage.crashes(2).lapses(400).attempts(100)
    });
    flow
}

/// How many schedules: more of them by `SEEDPOD_SCHEDULES`.
fn seeds() -> u64 {
    std::env::var("SEEDPOD_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn is_poison(number: u64) -> bool {
    number.is_multiple_of(11)
}

/// Sends all batches while runs come and go and calls fail; then drains.
async fn in_trouble(graph: &Graph, broker: &Arc<Remote>, batches: &[Vec<u64>], rng: &mut Rng) {
    let sender = graph.on(broker.clone()).input::<u64>("numbers").await.unwrap();
    *broker.per_mille.lock() = *rng.choose(&[20, 60, 150]).unwrap();
    let begin = || {
        let run = graph.on(broker.clone());
        tokio::spawn(async move { run.run_until(std::future::pending()).await.unwrap() })
    };
    let mut runs = vec![begin(), begin()];
    for (number, batch) in batches.iter().enumerate() {
        while sender.batch(Id::of(number.to_le_bytes()), batch.clone()).await.is_err() {}
        if !broker.able {
            time::sleep(Duration::from_millis(rng.below(200))).await;
        }
        time::sleep(Duration::from_millis(rng.below(200))).await;
        let at = rng.below(2) as usize;
        runs[at].abort();
        runs[at] = begin();
    }
    for run in runs {
        time::sleep(Duration::from_millis(rng.below(400))).await;
        run.abort();
        assert!(run.await.is_err_and(|error| error.is_cancelled()), "a run has ended");
    }
    *broker.per_mille.lock() = 0;
    let run = graph.on(broker.clone());
    let drained = tokio::time::timeout(100 * HOUR, run.until_drained()).await;
    drained.unwrap_or_else(|_| panic!("it is not drained")).unwrap();
}

fn batches(rng: &mut Rng) -> Vec<Vec<u64>> {
    let count = 2 + rng.below(4);
    (0..count).map(|batch| (0..1 + rng.below(12)).map(|item| 100 * batch + item).collect()).collect()
}

/// The ids of all dead letters, each as often as it is there.
async fn letters(broker: &Remote, graph: &Graph) -> Vec<Id> {
    let letters = graph.dead_letters().subscription(DEAD_LETTERS);
    let letters = broker.inner.lease(&letters, Want::items(10_000).wait(Duration::ZERO)).await.unwrap();
    letters.iter().flat_map(|letter| (0..letter.len()).map(|item| letter.id(item)).collect::<Vec<_>>()).collect()
}

/// A table of a database whose transactions may fail, or be committed and not answered for.
#[derive(Clone, Default)]
struct Table(Arc<Lock<Rows>>);

#[derive(Default)]
struct Rows {
    ids: BTreeSet<Id>,
    numbers: Vec<u64>,
    calls: u64,
}

impl Inbox<u64> for Table {
    async fn apply(&self, item: Called<u64>) -> Result<Applied, BoxError> {
        let mut rows = self.0.lock();
        rows.calls += 1;
        if rows.calls % 5 == 1 {
            return Err("deadlock, transaction rolled back".into());
        }
        if !rows.ids.insert(item.id) {
            return Ok(Applied::Before);
        }
        rows.numbers.push(item.item);
        match rows.calls % 5 {
            3 => Err("committed, and the answer lost".into()),
            _ => Ok(Applied::Now),
        }
    }
}

#[test]
fn without_ids_and_state_everything_counts_once_at_the_inboxes() {
    let (mut doubled, mut again) = (0, 0);
    for seed in 0..seeds() {
        let mut rng = Seed::new(seed).rng();
        let broker = Remote::new(false, rng.fork());
        let counted = simulate(Seed::new(seed), at_inboxes(broker, rng));
        (doubled, again) = (doubled + counted.0, again + counted.1);
    }
    assert!(doubled > 0 && again > 50, "hardly anything came twice: {doubled} dead letters, {again} calls");
}

/// How many dead letters were there twice, and how many calls were made of the inbox beyond those needed.
async fn at_inboxes(broker: Arc<Remote>, mut rng: Rng) -> (usize, usize) {
    let mut flow = tuned("bare", &mut rng);
    let batches = batches(&mut rng);
    let here: Arc<dyn Broker> = Arc::new(Memory::new());
    let options = TopicOptions::new().subscription("reports").dedup(HOUR);
    let (table, topic) = (Table::default(), TopicInbox::new(here.clone(), "books", options).await.unwrap());
    let map = |n: &u64| if is_poison(*n) { resume_unwind(Box::new("poison")) } else { *n };
    let [one, two] = flow.source::<u64>("numbers").map(map).copy();
    let many = one.filter(|n| n % 3 != 0).explode(|n| vec![*n; (n % 4) as usize]).edge();
    let [x, y] = many.shard(["x", "y"], |n| n.to_le_bytes(), &Outlets::new(), OnOut::Wait);
    x.map(|n| n + 1).merge(y.map(|n| n + 1)).inbox("table", table.clone());
    let call = |called: Called<u64>| async move { Ok::<_, Error>(called.item * 2) };
    two.call(call).inbox("books", topic);
    let graph = flow.build().unwrap();
    in_trouble(&graph, &broker, &batches, &mut rng).await;

    let all: Vec<u64> = batches.concat().into_iter().filter(|n| !is_poison(*n)).collect();
    let (mut numbers, calls) = {
        let rows = table.0.lock();
        (rows.numbers.clone(), rows.calls as usize)
    };
    numbers.sort_unstable();
    let due = all.iter().filter(|n| *n % 3 != 0);
    let due: Vec<u64> = due.flat_map(|n| vec![n + 1; (n % 4) as usize]).collect();
    assert_eq!(numbers, due);
    let mut books = Vec::new();
    for delivery in here.lease(&Topic::new("books").subscription("reports"), Want::items(1000)).await.unwrap() {
        books.extend((0..delivery.len()).map(|item| delivery.json::<u64>(item).unwrap()));
    }
    books.sort_unstable();
    assert_eq!(books, all.iter().map(|n| n * 2).collect::<Vec<_>>());
    let dead = letters(&broker, &graph).await;
    let apart: BTreeSet<_> = dead.iter().copied().collect();
    assert_eq!(apart.len(), batches.concat().into_iter().filter(|n| is_poison(*n)).count());
    (dead.len() - apart.len(), calls - due.len())
}

#[test]
fn what_a_broker_cannot_carry_is_refused_by_operator_broker_and_reason() {
    let build = |end: fn(Edge<u64>)| {
        let mut flow = Flow::new("needy");
        end(flow.source::<u64>("numbers").map(|n| *n).edge());
        flow.build().unwrap()
    };
    let (able, bare) = (Remote::new(true, Seed::new(1).rng()), Remote::new(false, Seed::new(1).rng()));
    let refused = |graph: &Graph, broker: &Remote| {
        let error = graph.check(&broker.guarantees()).unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::Unsupported, Some("flow needy")));
        error.to_string()
    };
    let sink = build(|numbers| numbers.sink("out"));
    sink.check(&able.guarantees()).unwrap();
    let text = refused(&sink, &bare);
    assert!(text.contains("map \"map\": the broker remote has no atomic steps"), "{text}");
    assert!(text.contains("known for that long (none), or an inbox at its end instead of the sink \"out\""), "{text}");
    build(|numbers| numbers.inbox("table", Table::default())).check(&bare.guarantees()).unwrap();
    build(|numbers| numbers.call(|_| async { Ok::<_, Error>(()) }).discard()).check(&bare.guarantees()).unwrap();
    let graph = build(|numbers| numbers.reduce(Count).inbox("table", Table::default()));
    assert!(refused(&graph, &bare).contains("reduce \"reduce\": the broker remote has no"));
}

/// What is decided is decided once, though it is delivered until it is taken.
#[tokio::test(start_paused = true)]
async fn an_outbox_says_the_same_words_under_the_same_id_until_it_is_heard() {
    for able in [true, false] {
        let broker = Remote::new(able, Seed::new(3).rng());
        let (price, heard) = (Arc::new(Lock::new(0_u64)), Arc::new(Lock::new(Vec::<(Id, u64)>::new())));
        let (prices, posts) = (price.clone(), heard.clone());
        let relay = move |offer: Called<u64>| {
            let mut heard = posts.lock();
            heard.push((offer.id, offer.item));
            let tries = heard.len();
            async move { if tries < 4 { Err(Error::new(Kind::Unavailable, "no route")) } else { Ok(()) } }
        };
        let mut flow = tuned("offers", &mut Seed::new(3).rng());
        let now = move |_: &u64| {
            *prices.lock() += 1; // another at each look
            *prices.lock()
        };
        flow.source::<u64>("goods").map(now).outbox("offers", relay).discard();
        let graph = flow.build().unwrap();
        assert_eq!(graph.stages().last().map(Name::as_str), Some("discard"));
        let run = graph.on(broker.clone());
        run.input("goods").await.unwrap().send(Id::of("book"), 17_u64).await.unwrap();
        run.until_drained().await.unwrap();
        let heard = heard.lock().clone();
        assert_eq!((heard.len(), *price.lock()), (4, 1));
        assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_inbox_cannot_apply_is_a_dead_letter_with_its_words() {
    struct Full;
    impl Inbox<u64> for Full {
        async fn apply(&self, _: Called<u64>) -> Result<Applied, BoxError> {
            Err("the disk is full".into())
        }
    }
    let broker = Remote::new(false, Seed::new(3).rng());
    let mut flow = tuned("full", &mut Seed::new(3).rng());
    flow.source::<u64>("numbers").tune(|stage| stage.attempts(2)).inbox("table", Full);
    let graph = flow.build().unwrap();
    let run = graph.on(broker.clone());
    run.input("numbers").await.unwrap().send(Id::of("one"), 17_u64).await.unwrap();
    run.until_drained().await.unwrap();
    assert_eq!(letters(&broker, &graph).await.len(), 1);
    let nobody = TopicInbox::new(broker.clone(), "books", TopicOptions::new().dedup(HOUR)).await.unwrap_err();
    let forgets = TopicInbox::new(broker.clone(), "books", TopicOptions::new().subscription("s")).await.unwrap_err();
    for error in [nobody, forgets] {
        assert_eq!((error.kind(), error.place()), (Kind::Invalid, Some("topic books")), "{error}");
    }
}
