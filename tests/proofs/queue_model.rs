//! Queues against a model: random operations with leases and time, on the broker in memory and on the one on disk, which
//! is closed, crashed and opened again in between.
//!
//! The model is a list of items. It says what may be leased, what must be, what is counted, and what is refused; where
//! time leaves two answers open, as at the very moment at which something is due, it takes either.

use crate::schedule::simulate;
use proptest::{prelude::*, test_runner::TestRunner};
use seedpod::{
    Kind,
    base::{Rng, Seed, time, time::Instant, time::WallClock},
    queue::{
        Attempts, Broker, BrokerExt, Charge, Delivery, Durable, Id, Json, Lease, Memory, Payload, Publish, Reject,
        Retry, Step, Subscription, Topic, TopicOptions, Want,
    },
    testing::disk::Platter,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const MILLI: Duration = Duration::from_millis(1);
const WINDOW: Duration = Duration::from_millis(400);

#[derive(Clone, Debug)]
enum Operation {
    Publish { items: u32, key: Option<u8>, priority: u8, delay: u64 },
    PublishAgain { which: usize },
    Lease { second: bool, items: u32, hold: u64 },
    Ack { which: usize },
    Retry { which: usize, after: u64, charge: u8 },
    Reject { which: usize },
    Extend { which: usize, hold: u64 },
    Stale { which: usize },
    Write { key: u8, wrong: bool },
    Wait { millis: u64 },
    Reopen { crash: bool },
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let which = 0..1000_usize;
    prop_oneof![
        6 => (1..4_u32, proptest::option::of(0..3_u8), 0..3_u8, prop_oneof![3 => Just(0), 1 => 1..100_u64])
            .prop_map(|(items, key, priority, delay)| Publish { items, key, priority, delay }),
        1 => which.clone().prop_map(|which| PublishAgain { which }),
        7 => (any::<bool>(), 1..6_u32, 1..150_u64).prop_map(|(second, items, hold)| Lease { second, items, hold }),
        6 => which.clone().prop_map(|which| Ack { which }),
        4 => (which.clone(), prop_oneof![Just(0), 1..80_u64], 0..3_u8)
            .prop_map(|(which, after, charge)| Retry { which, after, charge }),
        1 => which.clone().prop_map(|which| Reject { which }),
        1 => (which.clone(), 1..200_u64).prop_map(|(which, hold)| Extend { which, hold }),
        1 => which.prop_map(|which| Stale { which }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(key, wrong)| Write { key, wrong }),
        4 => (1..60_u64).prop_map(|millis| Wait { millis }),
        1 => any::<bool>().prop_map(|crash| Reopen { crash }),
    ]
}

#[derive(Clone, Debug)]
struct Item {
    key: Option<u8>,
    priority: u8,
    /// Not available before the first, certainly available from the second on.
    due: (Instant, Instant),
    attempts: Attempts,
    /// Crashes and lapses may be one more, or lapses forgotten: it was handed out, and the broker was opened again.
    unsure: bool,
    leased: Option<Lease>,
    /// Handed out since it was last settled.
    begun: bool,
    /// Never delayed, never handed out: first in is first out.
    fresh: bool,
}

type Place = (u64, u32);

/// What one subscription has, in the order of publishing.
type Items = BTreeMap<Place, Item>;

struct Model {
    subscriptions: [Subscription; 2],
    items: [Items; 2],
    held: Vec<(usize, Place, Lease)>,
    over: Vec<Lease>,
    seen: BTreeMap<u64, (Instant, Instant)>,
    published: u64,
    rejected: u64,
    state: BTreeMap<u8, (u64, u64)>,
}

/// Some(true): it is available; Some(false): it is not; none: it may be.
fn available(items: &Items, place: Place, now: Instant) -> Option<bool> {
    let item = &items[&place];
    if let Some(lease) = item.leased
        && lease.deadline > now
    {
        return Some(false);
    }
    if let Some(key) = item.key {
        let mut same = items.iter().filter(|(_, other)| other.key == Some(key));
        let out = |other: &Item| other.leased.is_some_and(|lease| lease.deadline > now);
        if same.clone().any(|(_, other)| out(other)) || same.next().is_some_and(|(first, _)| *first != place) {
            return Some(false);
        }
    }
    match item.due {
        (_, after) if after <= now => Some(true),
        (before, _) if before > now => Some(false),
        _ => None,
    }
}

impl Model {
    fn lapse(&mut self, now: Instant) {
        let over = &mut self.over;
        self.held.retain(|(.., lease)| {
            let holds = lease.deadline > now;
            if !holds {
                over.push(*lease);
            }
            holds
        });
        for item in self.items.iter_mut().flat_map(|items| items.values_mut()) {
            if item.leased.is_some_and(|lease| lease.deadline <= now) {
                item.leased = None;
                item.attempts.lapses += 1;
            }
        }
    }

    fn pick(&self, which: usize) -> Option<(usize, Place, Lease)> {
        (!self.held.is_empty()).then(|| self.held[which % self.held.len()])
    }

    fn settle(&mut self, lease: Lease) {
        self.held.retain(|(.., held)| held.epoch != lease.epoch);
        self.over.push(lease);
    }

    fn leased(&mut self, which: usize, now: Instant, delivery: &Delivery) {
        let place = (delivery.batch.id.as_u128() as u64, delivery.range.start);
        let items = &self.items[which];
        let item = items.get(&place).unwrap_or_else(|| panic!("{place:?} was settled, and came back"));
        assert_ne!(available(items, place, now), Some(false), "{place:?} was not to be had: {item:?}");
        let sure = |(other, _): &(&Place, &Item)| available(items, **other, now) == Some(true);
        let above = items.iter().filter(sure).find(|(_, other)| other.priority > item.priority);
        assert!(above.is_none(), "{place:?} came before {above:?}");
        let earlier = items.iter().filter(sure).find(|(at, other)| {
            item.fresh
                && other.fresh
                && other.key.is_none()
                && item.key.is_none()
                && other.priority == item.priority
                && **at < place
        });
        assert!(earlier.is_none(), "{place:?} came before {earlier:?}");
        let (known, told) = (item.attempts, delivery.attempts);
        assert_eq!(told.failures, known.failures, "{place:?}");
        if item.unsure {
            assert!((known.crashes..=known.crashes + 1).contains(&told.crashes), "{place:?}: {told:?}, not {known:?}");
            assert!(told.lapses <= known.lapses + 1, "{place:?}: {told:?}, not {known:?}");
        } else {
            assert_eq!(told, known, "{place:?}");
        }
        let item = self.items[which].get_mut(&place).unwrap();
        (item.attempts, item.unsure, item.begun, item.fresh) = (told, false, true, false);
        item.leased = Some(delivery.lease);
        self.held.push((which, place, delivery.lease));
    }

    fn reopened(&mut self) {
        for (.., lease) in self.held.drain(..) {
            self.over.push(lease);
        }
        for item in self.items.iter_mut().flat_map(|items| items.values_mut()) {
            item.unsure |= item.begun;
            item.leased = None;
        }
    }
}

enum Under {
    Memory(Memory),
    Disk { broker: Option<Durable>, platter: Platter, clock: WallClock, rng: Rng },
}

impl Under {
    fn broker(&self) -> &dyn Broker {
        match self {
            Under::Memory(memory) => memory,
            Under::Disk { broker, .. } => broker.as_ref().unwrap(),
        }
    }

    /// Whether anything was opened again.
    async fn reopen(&mut self, crash: bool) -> bool {
        let Under::Disk { broker, platter, clock, rng } = self else { return false };
        if crash {
            platter.cut();
            *platter = platter.after_power_cut(rng);
        }
        drop(broker.take());
        *broker = Some(Durable::on(Arc::new(platter.clone())).clock(*clock).opened().await.unwrap());
        true
    }
}

async fn run(under: impl Fn() -> Under, operations: Vec<Operation>) {
    let mut under = under();
    let (topic, dead) = (Topic::new("t"), Topic::new("dead"));
    let options = TopicOptions::new().subscription("a").subscription("b").dead_letters(&dead).dedup(WINDOW);
    under.broker().declare(&topic, options).await.unwrap();
    let mut model = Model {
        subscriptions: [topic.subscription("a"), topic.subscription("b")],
        items: Default::default(),
        held: Vec::new(),
        over: Vec::new(),
        seen: BTreeMap::new(),
        published: 0,
        rejected: 0,
        state: BTreeMap::new(),
    };
    for operation in operations {
        let now = time::now();
        model.lapse(now);
        let broker = under.broker();
        match operation {
            Operation::Publish { items, key, priority, delay } => {
                model.published += 1;
                let (number, delay) = (model.published, delay as u32 * MILLI);
                let payload = Payload::values((0..items).collect(), Json);
                let mut publish =
                    Publish::new(&topic, Id::from_u128(number.into()), payload).priority(priority).delay(delay);
                publish.key = key.map(|key| format!("key {key}").as_str().into());
                let receipt = broker.send(publish).await.unwrap();
                assert_eq!((receipt.stored, receipt.duplicates), (items, 0));
                let after = time::now();
                model.seen.insert(number, (now, after));
                let item = Item {
                    key,
                    priority,
                    due: (now + delay, after + delay),
                    attempts: Attempts::default(),
                    unsure: false,
                    leased: None,
                    begun: false,
                    fresh: delay.is_zero(),
                };
                for of in &mut model.items {
                    of.extend((0..items).map(|index| ((number, index), item.clone())));
                }
            }
            Operation::PublishAgain { which } => {
                let Some((number, (before, after))) = model.seen.iter().nth(which % model.seen.len().max(1)) else {
                    continue;
                };
                let (number, seen) = (*number, (*before, *after));
                // after the window it would be stored anew, under the id of what may still be there
                if now + MILLI < seen.0 + WINDOW {
                    let publish = Publish::new(&topic, Id::from_u128(number.into()), "again");
                    let receipt = broker.send(publish).await.unwrap();
                    assert_eq!((receipt.stored, receipt.duplicates), (0, 1), "{number} was forgotten");
                }
            }
            Operation::Lease { second, items, hold } => {
                let which = usize::from(second);
                let want = Want::items(items).chunk(1).hold(hold as u32 * MILLI).wait(Duration::ZERO);
                let got = broker.lease(&model.subscriptions[which], want).await.unwrap();
                assert!(got.len() <= items as usize);
                for delivery in &got {
                    assert_eq!((delivery.len(), delivery.json::<u32>(0).unwrap()), (1, delivery.range.start));
                    model.leased(which, now, delivery);
                }
                if got.len() < items as usize {
                    let left = &model.items[which];
                    let missed = left.keys().find(|place| available(left, **place, now) == Some(true));
                    assert!(missed.is_none(), "{missed:?} was left out: {:?}", missed.map(|place| &left[place]));
                }
            }
            Operation::Ack { which } => {
                let Some((of, place, lease)) = model.pick(which) else { continue };
                broker.ack(lease).await.unwrap();
                model.items[of].remove(&place).unwrap();
                model.settle(lease);
            }
            Operation::Retry { which, after, charge } => {
                let Some((of, place, lease)) = model.pick(which) else { continue };
                let charge = [Charge::Nothing, Charge::Failure, Charge::Crash][usize::from(charge)];
                let wait = after as u32 * MILLI;
                broker.settle(Step::new().retry(Retry::new(lease).after(wait).charge(charge))).await.unwrap();
                let item = model.items[of].get_mut(&place).unwrap();
                item.attempts.failures += u16::from(charge == Charge::Failure);
                item.attempts.crashes += u16::from(charge == Charge::Crash);
                (item.leased, item.begun, item.due) = (None, false, (now + wait, time::now() + wait));
                model.settle(lease);
            }
            Operation::Reject { which } => {
                let Some((of, place, lease)) = model.pick(which) else { continue };
                broker.settle(Step::new().reject(Reject::new(lease, "unwanted"))).await.unwrap();
                model.items[of].remove(&place).unwrap();
                model.rejected += 1;
                model.settle(lease);
            }
            Operation::Extend { which, hold } => {
                let Some((of, place, lease)) = model.pick(which) else { continue };
                broker.settle(Step::new().extend(lease, hold as u32 * MILLI)).await.unwrap();
                let longer = Lease::new(lease.place, lease.owner, lease.epoch, now + hold as u32 * MILLI);
                model.held.iter_mut().filter(|(.., held)| held.epoch == lease.epoch).for_each(|held| held.2 = longer);
                model.items[of].get_mut(&place).unwrap().leased = Some(longer);
            }
            Operation::Stale { which } => {
                let Some(lease) = model.over.get(which % model.over.len().max(1)).copied() else { continue };
                let error = broker.ack(lease).await.expect_err("a lease that is over was taken");
                assert_eq!(error.kind(), Kind::LeaseLost, "{error}");
            }
            Operation::Write { key, wrong } => {
                let (version, value) = model.state.get(&key).copied().unwrap_or_default();
                let name = format!("state {key}");
                let (there, bytes) = broker.load(&name.as_str().into()).await.unwrap();
                let there = (there, bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)));
                assert_eq!(there, (version, value));
                let forget = value % 5 == 4;
                let step = match forget {
                    true => Step::new().forget(name, version + u64::from(wrong)),
                    false => Step::new().write(name, version + u64::from(wrong), (value + 1).to_be_bytes().to_vec()),
                };
                match broker.settle(step).await {
                    Ok(()) if forget => drop(model.state.remove(&key)),
                    Ok(()) => drop(model.state.insert(key, (version + 1, value + 1))),
                    Err(error) => assert!(wrong && error.kind() == Kind::Conflict, "{error}"),
                }
                assert!(!wrong || model.state.get(&key).copied().unwrap_or_default() == (version, value));
            }
            Operation::Wait { millis } => time::sleep(millis as u32 * MILLI).await,
            Operation::Reopen { crash } => {
                if under.reopen(crash).await {
                    model.reopened();
                }
            }
        }
        let now = time::now();
        model.lapse(now);
        let stats = under.broker().inspect(&topic).await.unwrap();
        let all = || model.items.iter().flat_map(|items| items.values());
        assert_eq!(stats.stored, all().count());
        assert_eq!(stats.leased, all().filter(|item| item.leased.is_some()).count());
        assert_eq!(stats.stored, stats.ready + stats.leased + stats.delayed + stats.blocked, "{stats:?}");
        assert_eq!(stats.rejected, model.rejected);
        assert_eq!(under.broker().inspect(&dead).await.unwrap().stored as u64, model.rejected);
    }
    // all is due, and all is there
    let now = time::now() + Duration::from_secs(10);
    time::sleep_until(now).await;
    model.lapse(now);
    for which in 0..2 {
        loop {
            let (now, want) = (time::now(), Want::items(9).chunk(1).wait(Duration::ZERO));
            let got = under.broker().lease(&model.subscriptions[which], want).await.unwrap();
            if got.is_empty() {
                break;
            }
            for delivery in &got {
                model.leased(which, now, delivery);
            }
            for delivery in got {
                under.broker().ack(delivery.lease).await.unwrap();
                model.items[which].remove(&(delivery.batch.id.as_u128() as u64, delivery.range.start)).unwrap();
                model.settle(delivery.lease);
            }
        }
        assert!(model.items[which].is_empty(), "lost: {:?}", model.items[which]);
    }
}

fn cases(count: u32) -> u32 {
    let asked = std::env::var("SEEDPOD_SCHEDULES").ok().and_then(|text| text.parse::<u32>().ok());
    asked.map_or(count, |asked| (asked / 10).max(count))
}

fn against(under: impl Fn() -> Under, count: u32) {
    let settings = ProptestConfig { cases: cases(count), failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(settings).run(&prop::collection::vec(operation(), 1..120), |operations| {
        simulate(Seed::new(1), run(&under, operations));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} random runs as the model has them", cases(count));
}

#[test]
fn memory_is_as_the_model_has_it_schedules() {
    against(|| Under::Memory(Memory::new()), 256);
}

#[test]
fn the_disk_is_as_the_model_has_it_schedules() {
    against(
        || {
            let platter = Platter::new();
            let clock = WallClock::ambient();
            let broker = Some(Durable::on(Arc::new(platter.clone())).clock(clock));
            Under::Disk { broker, platter, clock, rng: Seed::new(2).rng() }
        },
        128,
    );
}
