//! Hundreds of thousands of random steps against a naive model: nothing is lost, nothing is held twice at once, no
//! stale settlement is taken, keys and priorities are heeded, and the counts are right.

use super::*;
use crate::base::{Rng, Seed, time};
use crate::queue::{Charge, Id, Json, Payload, Publish, Reject, Retry, Step};
use std::{collections::BTreeMap, time::Duration};

/// Small: the model looks at everything, every time.
const CAPACITY: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Not to be leased before this.
    Due(Instant),
    Leased {
        epoch: u64,
        until: Instant,
    },
}

#[derive(Clone, Debug)]
struct Item {
    key: Option<Name>,
    priority: u8,
    state: State,
    attempts: Attempts,
}

/// What one subscription has not settled, by (batch, index): the order of publishing.
#[derive(Default)]
struct Model {
    items: BTreeMap<(u64, u32), Item>,
    held: Vec<Delivery>,
    /// Leases that are over.
    stale: Vec<Lease>,
}

impl Model {
    fn lapse(&mut self, now: Instant) {
        for item in self.items.values_mut() {
            if let State::Leased { until, .. } = item.state
                && until <= now
            {
                item.state = State::Due(now);
                item.attempts.lapses += 1;
            }
        }
        let (lapsed, held) = std::mem::take(&mut self.held).into_iter().partition(|held| held.lease.deadline <= now);
        self.held = held;
        self.stale.extend(Vec::<Delivery>::into_iter(lapsed).map(|delivery| delivery.lease));
    }

    fn available(&self, now: Instant, at: (u64, u32)) -> bool {
        let item = &self.items[&at];
        let first_of_key = |key: &Name| {
            let mut same = self.items.iter().filter(|(_, other)| other.key.as_ref() == Some(key));
            let first = same.clone().next().is_some_and(|(first, _)| *first == at);
            first && !same.any(|(_, other)| matches!(other.state, State::Leased { .. }))
        };
        matches!(item.state, State::Due(due) if due <= now) && item.key.as_ref().is_none_or(first_of_key)
    }

    fn leased(&mut self, now: Instant, delivery: &Delivery) -> u8 {
        let batch = delivery.batch.id.as_u128() as u64;
        let first = (batch, delivery.range.start);
        assert!(self.available(now, first), "{first:?} is not to be had: {:?}", self.items.get(&first));
        for index in delivery.range.clone() {
            let item = self.items.get_mut(&(batch, index)).expect("an item that was settled came back");
            assert!(matches!(item.state, State::Due(due) if due <= now), "{item:?} is held twice, or not due");
            assert_eq!(item.attempts, delivery.attempts);
            item.state = State::Leased { epoch: delivery.lease.epoch, until: delivery.lease.deadline };
        }
        self.held.push(delivery.clone());
        delivery.batch.priority
    }

    fn settled(&mut self, lease: Lease) -> Delivery {
        let at = self.held.iter().position(|held| held.lease == lease).expect("a lease that is not held was settled");
        self.stale.push(lease);
        self.held.swap_remove(at)
    }
}

struct World {
    table: Table,
    topic: Topic,
    dead: Topic,
    subscriptions: [Subscription; 2],
    models: [Model; 2],
    now: Instant,
    rng: Rng,
    batches: u64,
    rejected: usize,
    hits: BTreeMap<&'static str, u32>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut table = Table::default();
        let (topic, dead) = (Topic::new("in"), Topic::new("dead"));
        let options = TopicOptions::new().subscription("a").subscription("b").dead_letters(&dead).capacity(CAPACITY);
        table.declare(time::now(), &topic, options, &mut Effects::default()).unwrap();
        table.declare(time::now(), &dead, TopicOptions::new().capacity(usize::MAX), &mut Effects::default()).unwrap();
        World {
            table,
            subscriptions: [topic.subscription("a"), topic.subscription("b")],
            topic,
            dead,
            models: Default::default(),
            now: time::now(),
            rng: Seed::new(seed).rng(),
            batches: 0,
            rejected: 0,
            hits: BTreeMap::new(),
        }
    }

    fn hit(&mut self, what: &'static str) {
        *self.hits.entry(what).or_default() += 1;
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.rng.below(most))
    }

    fn new_batch(&mut self) -> Publish {
        self.batches += 1;
        let items = 1 + self.rng.below(6) as u32;
        let payload = Payload::values((0..items).collect(), Json);
        let mut publish = Publish::new(&self.topic, Id::from_u128(self.batches.into()), payload);
        if self.rng.chance(0.3) {
            publish = publish.key(format!("key {}", self.rng.below(4)));
        }
        if self.rng.chance(0.2) {
            publish = publish.priority(self.rng.below(3) as u8);
        }
        if self.rng.chance(0.2) {
            let delay = self.millis(200);
            publish = publish.delay(delay);
        }
        publish
    }

    fn published(&mut self, publish: &Publish) {
        let due = State::Due(self.now + publish.delay);
        for index in 0..publish.payload.len() {
            let item = Item {
                key: publish.key.clone(),
                priority: publish.priority,
                state: due,
                attempts: Attempts::default(),
            };
            for model in &mut self.models {
                model.items.insert((publish.id.as_u128() as u64, index), item.clone());
            }
        }
    }

    fn publish(&mut self) {
        let publish = self.new_batch();
        let stored = self.models.iter().map(|model| model.items.len()).sum::<usize>();
        let fits = stored == 0 || stored + 2 * publish.payload.len() as usize <= CAPACITY;
        match self.table.publish(self.now, &mut Few::from([publish.clone()]), &mut Effects::default()) {
            Ok(receipt) => {
                assert!(fits, "{stored} are there");
                assert_eq!(receipt.stored, publish.payload.len());
                self.published(&publish);
                self.hit("published");
            }
            Err(Refused::Full(_)) => {
                assert!(!fits, "only {stored} are there");
                self.hit("full");
            }
            Err(Refused::Error(error)) => panic!("{error}"),
        }
    }

    fn lease(&mut self) {
        let which = self.rng.below(2) as usize;
        let hold = Duration::from_millis(1 + self.rng.below(100));
        let want = Want::items(1 + self.rng.below(8) as u32).chunk(1 + self.rng.below(4) as u32).hold(hold);
        let subscription = self.subscriptions[which].clone();
        let got = self.table.lease(self.now, &subscription, &want, &mut Effects::default()).unwrap();
        let (model, now) = (&mut self.models[which], self.now);
        model.lapse(now);
        let lowest = got.iter().map(|delivery| model.leased(now, delivery)).min();
        let items = got.iter().map(Delivery::len).sum::<u32>();
        assert!(items <= want.items && got.iter().all(|delivery| (1..=want.chunk).contains(&delivery.len())));
        let left = model.items.iter().filter(|(at, _)| model.available(now, **at)).map(|(_, item)| item.priority);
        match left.max() {
            Some(left) if items < want.items => panic!("of priority {left}, some were left out"),
            Some(left) => assert!(lowest.is_none_or(|lowest| lowest >= left), "{left} was left for {lowest:?}"),
            None => {}
        }
        let redelivered = got.iter().any(|delivery| delivery.attempts.total() > 0);
        self.hit(if redelivered { "redelivered" } else { "leased" });
    }

    /// A step over some of what is held; perhaps with a lease that is over.
    fn settle(&mut self) {
        let mut step = Step::new();
        let mut outcome: Vec<(usize, Lease, Vec<(Range<u32>, Option<Attempts>)>, State)> = Vec::new();
        for which in 0..2 {
            let now = self.now;
            self.models[which].lapse(now);
            let subscription = self.subscriptions[which].clone();
            // what has run out is taken back by whoever looks next
            self.table.subscription(&subscription).unwrap();
            self.table.inspect(now, &subscription.topic, &mut Effects::default()).unwrap();
            for _ in 0..self.rng.below(3) {
                let held = self.models[which].held.len() as u64;
                if held == 0 {
                    continue;
                }
                let delivery = self.models[which].held[self.rng.below(held) as usize].clone();
                if outcome.iter().any(|(_, lease, ..)| *lease == delivery.lease) {
                    continue;
                }
                let (lease, len) = (delivery.lease, delivery.len());
                let wait = if self.rng.chance(0.5) { Duration::ZERO } else { self.millis(100) };
                let cut = self.rng.below(len.into()) as u32;
                let mut attempts = delivery.attempts;
                let due = State::Due(now + wait);
                match self.rng.below(6) {
                    0 | 1 => {
                        step.acks.push(lease);
                        outcome.push((which, lease, vec![(0..len, None)], due));
                    }
                    2 => {
                        attempts.failures += 1;
                        step.retries.push(Retry::new(lease).after(wait));
                        outcome.push((which, lease, vec![(0..len, Some(attempts))], due));
                    }
                    3 if cut > 0 => {
                        step.retries.push(Retry::new(lease).items(cut..len).after(wait).charge(Charge::Nothing));
                        outcome.push((which, lease, vec![(0..cut, None), (cut..len, Some(attempts))], due));
                    }
                    4 if cut > 0 => {
                        attempts.crashes += 1;
                        step.rejects.push(Reject::new(lease, "unwanted").items(cut..len));
                        step.retries.push(Retry::new(lease).items(0..cut).after(wait).charge(Charge::Crash));
                        outcome.push((which, lease, vec![(0..cut, Some(attempts)), (cut..len, None)], due));
                    }
                    _ => {
                        step.rejects.push(Reject::new(lease, "unwanted"));
                        outcome.push((which, lease, vec![(0..len, None)], due));
                    }
                }
            }
        }
        let publish = self.rng.chance(0.2).then(|| self.new_batch());
        step.publishes.extend(publish.clone());
        let rejected: usize = {
            let whole = |reject: &Reject| {
                self.models
                    .iter()
                    .flat_map(|model| &model.held)
                    .find(|held| held.lease == reject.lease)
                    .map_or(0, Delivery::len)
            };
            step.rejects
                .iter()
                .map(|reject| reject.items.clone().map_or(whole(reject) as usize, |items| items.len()))
                .sum()
        };
        let old: Vec<Lease> = self.models.iter().flat_map(|model| &model.stale).copied().collect();
        let stale = self.rng.chance(0.2).then(|| self.rng.choose(&old).copied()).flatten();
        if let Some(lease) = stale {
            match self.rng.below(4) {
                0 => step.acks.push(lease),
                1 => step.retries.push(Retry::new(lease)),
                2 => step.rejects.push(Reject::new(lease, "")),
                _ => step.extensions.push((lease, Duration::from_secs(1))),
            }
        }
        match self.table.settle(self.now, &mut step, &mut Effects::default()) {
            Err(Refused::Error(error)) => {
                assert!(stale.is_some() && error.kind() == Kind::LeaseLost, "{error}");
                return self.hit("stale");
            }
            Err(Refused::Full(_)) => {
                assert!(stale.is_none() && publish.is_some());
                return self.hit("full step");
            }
            Ok(()) => assert_eq!(stale, None, "a stale lease was taken"),
        }
        self.rejected += rejected;
        for (which, lease, parts, due) in outcome {
            let model = &mut self.models[which];
            let delivery = model.settled(lease);
            for (range, again) in parts {
                for item in range {
                    let at = (delivery.batch.id.as_u128() as u64, delivery.range.start + item);
                    match again {
                        Some(attempts) => {
                            let item = model.items.get_mut(&at).unwrap();
                            (item.attempts, item.state) = (attempts, due);
                        }
                        None => drop(model.items.remove(&at).unwrap()),
                    }
                }
            }
        }
        if let Some(publish) = publish {
            self.published(&publish);
        }
        self.hit("settled");
    }

    fn extend(&mut self) {
        let which = self.rng.below(2) as usize;
        let (now, hold) = (self.now, Duration::from_millis(1 + self.rng.below(200)));
        self.models[which].lapse(now);
        self.table.inspect(now, &self.topic.clone(), &mut Effects::default()).unwrap();
        let held = self.models[which].held.len() as u64;
        if held == 0 {
            return;
        }
        let at = self.rng.below(held) as usize;
        let lease = self.models[which].held[at].lease;
        let settled = self.table.settle(now, &mut Step::new().extend(lease, hold), &mut Effects::default());
        assert!(settled.is_ok());
        self.models[which].held[at].lease.deadline = now + hold;
        for item in self.models[which].items.values_mut() {
            if let State::Leased { epoch, until } = &mut item.state
                && *epoch == lease.epoch
            {
                *until = now + hold;
            }
        }
        self.hit("extended");
    }

    fn check(&mut self) {
        let stats = self.table.inspect(self.now, &self.topic.clone(), &mut Effects::default()).unwrap();
        let now = self.now;
        self.models.iter_mut().for_each(|model| model.lapse(now));
        let all = || self.models.iter().flat_map(|model| model.items.values());
        assert_eq!(stats.stored, all().count());
        assert_eq!(stats.leased, all().filter(|item| matches!(item.state, State::Leased { .. })).count());
        assert_eq!(stats.stored, stats.ready + stats.leased + stats.delayed + stats.blocked);
        assert_eq!(stats.rejected as usize, self.rejected);
        let dead = self.table.inspect(self.now, &self.dead.clone(), &mut Effects::default()).unwrap();
        assert_eq!(dead.stored, self.rejected);
        for (model, subscription) in self.models.iter_mut().zip(&self.subscriptions) {
            let due = self.table.next_due(subscription);
            let until = model.held.iter().map(|held| held.lease.deadline).min();
            assert!(until.is_none_or(|until| due.is_some_and(|due| due <= until)), "nobody would be woken");
            model.stale.truncate(1000);
        }
    }

    /// Everything becomes due and is acknowledged: what is stored is what the model has.
    fn drain(&mut self) {
        self.now += Duration::from_secs(10);
        for which in 0..2 {
            let subscription = self.subscriptions[which].clone();
            loop {
                let got = self.table.lease(self.now, &subscription, &Want::items(50), &mut Effects::default()).unwrap();
                self.models[which].lapse(self.now);
                if got.is_empty() {
                    break;
                }
                let mut step = Step::new();
                for delivery in got {
                    self.models[which].leased(self.now, &delivery);
                    for index in delivery.range.clone() {
                        self.models[which].items.remove(&(delivery.batch.id.as_u128() as u64, index)).unwrap();
                    }
                    self.models[which].settled(delivery.lease);
                    step.acks.push(delivery.lease);
                }
                assert!(self.table.settle(self.now, &mut step, &mut Effects::default()).is_ok());
            }
            assert!(self.models[which].items.is_empty(), "lost: {:?}", self.models[which].items);
        }
        self.check();
    }
}

#[test]
fn two_hundred_thousand_steps_as_the_model_has_them() {
    let mut hits = BTreeMap::new();
    for seed in 0..10 {
        let mut world = World::new(seed);
        for step in 0..20_000 {
            match world.rng.below(100) {
                0..22 => world.publish(),
                22..50 => world.lease(),
                50..90 => world.settle(),
                90..95 => world.extend(),
                _ => world.now += Duration::from_millis(world.rng.below(30)),
            }
            if step % 50 == 0 {
                world.check();
            }
            if step % 2000 == 1999 {
                world.drain();
            }
        }
        for (what, count) in world.hits {
            *hits.entry(what).or_insert(0) += count;
        }
    }
    let expected = ["extended", "full", "full step", "leased", "published", "redelivered", "settled", "stale"];
    for what in expected {
        assert!(hits.get(what).is_some_and(|count| *count > 500), "{what} was hardly tried: {hits:?}");
    }
}
