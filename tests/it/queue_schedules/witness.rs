//! A broker in front of the one in memory: it loses and delays calls, and holds every answer to a model of its own.

use bytes::Bytes;
use seedpod::{
    Error, Kind, Result,
    base::{Answer, Few, Name, Rng, hash, sync::Lock, time},
    queue::{
        Attempts, Broker, Charge, Delivery, Guarantees, Id, Lease, Memory, Publish, Receipt, Step, Subscription, Topic,
        TopicOptions, TopicStats, Want,
    },
};
use std::{collections::BTreeMap, ops::Range, time::Duration};

/// How an item is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Acknowledged,
    Rejected,
}

/// One item in the eyes of one subscription.
#[derive(Debug)]
struct Item {
    order: u64,
    key: Option<Name>,
    due: time::Instant,
    attempts: Attempts,
    lease: Option<u64>,
    over: Option<Over>,
}

struct Held {
    subscription: Subscription,
    items: Vec<Id>,
    deadline: time::Instant,
}

#[derive(Default)]
struct Model {
    subscriptions: BTreeMap<Topic, Vec<Subscription>>,
    items: BTreeMap<(Subscription, Id), Item>,
    /// Leases that were given and not settled; those that have run out stay until their item is leased again.
    held: BTreeMap<u64, Held>,
    versions: BTreeMap<Name, u64>,
    published: u64,
}

/// The words of faults.
pub(super) const CALL_DELAYED: &str = "call delayed";
pub(super) const CALL_FAILED: &str = "call failed";
pub(super) const NO_ROOM: &str = "waited for room";
pub(super) const ANSWER_LOST: &str = "answer lost";

/// The broker under test and its model.
pub(super) struct Witness {
    pub(super) inner: Memory,
    model: Lock<Model>,
    rng: Lock<Rng>,
    /// How often a call fails, loses its answer, or is late, in a hundred.
    pub(super) trouble: Lock<u64>,
    pub(super) hits: Lock<Vec<&'static str>>,
    /// Panics of worker tasks are contained; what is found is told at the end.
    pub(super) violations: Lock<Vec<String>>,
    pub(super) course: Lock<u64>,
    start: time::Instant,
}

impl Witness {
    pub(super) fn new(rng: Rng) -> Self {
        Witness {
            inner: Memory::new(),
            model: Lock::default(),
            rng: Lock::new(rng),
            trouble: Lock::new(0),
            hits: Lock::default(),
            violations: Lock::default(),
            course: Lock::new(0),
            start: time::now(),
        }
    }

    pub(super) fn hit(&self, fault: &'static str) {
        self.hits.lock().push(fault);
    }

    pub(super) fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.lock().push(format!("{:?}: {}", self.start.elapsed(), what()));
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        let mut course = self.course.lock();
        *course = hash::of(format!("{course} {:?} {}", self.start.elapsed(), what()).as_bytes());
    }

    /// Whether this lease is neither settled nor run out.
    pub(super) fn is_valid(&self, lease: &Lease) -> bool {
        self.model.lock().is_valid(lease)
    }

    /// How each item of this subscription is over; nothing for one that is not.
    pub(super) fn overs(&self, subscription: &Subscription) -> Vec<(Id, Option<Over>)> {
        let model = self.model.lock();
        let own = model.items.iter().filter(|((of, _), _)| of == subscription);
        own.map(|((_, id), item)| (*id, item.over)).collect()
    }

    fn published(&self, publish: &Publish, at: time::Instant, receipt: Option<&Receipt>) {
        let mut model = self.model.lock();
        let subscriptions = model.subscriptions.get(&publish.topic).cloned().unwrap_or_default();
        let duplicate = receipt.is_some_and(|receipt| receipt.duplicates > 0);
        model.published += 1;
        let order = model.published;
        for subscription in subscriptions {
            for index in 0..publish.payload.len() {
                let id = if publish.payload.len() == 1 { publish.id } else { publish.id.item(index) };
                let there = model.items.contains_key(&(subscription.clone(), id));
                self.hold(there == duplicate, || format!("{id} there: {there}, a duplicate: {duplicate}"));
                let item = Item {
                    order,
                    key: publish.key.clone(),
                    due: at + publish.delay,
                    attempts: Attempts::default(),
                    lease: None,
                    over: None,
                };
                if !there {
                    model.items.insert((subscription.clone(), id), item);
                }
            }
        }
        drop(model);
        self.note(|| format!("publish {} {duplicate}", publish.id));
    }

    fn leased(&self, subscription: &Subscription, deliveries: &[Delivery]) {
        let now = time::now();
        let mut model = self.model.lock();
        for delivery in deliveries {
            let items: Vec<_> = (0..delivery.len()).map(|item| delivery.id(item)).collect();
            self.note(|| format!("lease {subscription} {items:?}"));
            for id in &items {
                model.lease(self, subscription, *id, delivery, now);
            }
            let held = Held { subscription: subscription.clone(), items, deadline: delivery.lease.deadline };
            model.held.insert(delivery.lease.epoch, held);
        }
    }

    fn settled(&self, step: &Step, result: &Result) {
        self.note(|| {
            let Step { acks, retries, rejects, extensions, publishes, state, .. } = step;
            let counts = [acks.len(), retries.len(), rejects.len(), extensions.len(), publishes.len(), state.len()];
            format!("settle {counts:?} {}", result.is_ok())
        });
        let mut model = self.model.lock();
        let leases = step.acks.iter().chain(step.retries.iter().map(|retry| &retry.lease));
        let leases = leases.chain(step.rejects.iter().map(|reject| &reject.lease));
        let leases: Vec<_> = leases.chain(step.extensions.iter().map(|(lease, _)| lease)).copied().collect();
        let valid = leases.iter().all(|lease| model.is_valid(lease));
        let known = step.state.iter().all(|write| model.version(&write.key) == write.expect);
        match result {
            Ok(()) => {
                self.hold(valid, || format!("a lease that is over was taken: {step:?}"));
                self.hold(known, || format!("a state of another version was overwritten: {step:?}"));
                model.settle(step);
                drop(model);
                step.publishes.iter().for_each(|publish| self.published(publish, time::now(), None));
            }
            Err(error) => match error.kind() {
                Kind::LeaseLost => self.hold(!valid, || format!("a lease that holds was refused: {step:?}")),
                Kind::Conflict => self.hold(!known, || format!("the version was right: {step:?}")),
                kind => self.hold(false, || format!("{kind} for {step:?}")),
            },
        }
    }

    /// What befalls a call: a wait before it, whether it is made at all, a wait after it, whether its answer arrives.
    fn draw(&self) -> Option<(Duration, bool, Duration, bool)> {
        let trouble = *self.trouble.lock();
        let mut rng = self.rng.lock();
        (trouble > 0 && rng.below(100) < trouble).then(|| {
            let wait = |rng: &mut Rng| Duration::from_millis(if rng.chance(0.4) { rng.below(50) } else { 0 });
            (wait(&mut rng), rng.chance(0.5), wait(&mut rng), rng.chance(0.5))
        })
    }

    /// Only a full topic makes a publish or a settlement wait.
    fn roomy<'a, T>(&self, answer: Answer<'a, T>) -> Answer<'a, T> {
        if matches!(answer, Answer::Later(_)) {
            self.hit(NO_ROOM);
        }
        answer
    }

    /// Makes a call under trouble, or plainly.
    fn call<'a, T: Send + Unpin + 'a>(
        &'a self,
        make: impl FnOnce() -> Answer<'a, T> + Send + 'a,
        witness: impl FnOnce(&Result<T>) + Send + 'a,
    ) -> Answer<'a, T> {
        let Some((before, made, after, arrives)) = self.draw() else {
            return match make() {
                Answer::Now(result) => {
                    if let Some(result) = &result {
                        witness(result);
                    }
                    Answer::Now(result)
                }
                later => Answer::later(async move {
                    let result = later.await;
                    witness(&result);
                    result
                }),
            };
        };
        Answer::later(async move {
            if !before.is_zero() || !after.is_zero() {
                self.hit(CALL_DELAYED);
            }
            time::sleep(before).await;
            if !made {
                self.hit(CALL_FAILED);
                return Err(Error::new(Kind::Unavailable, "out of reach"));
            }
            let result = make().await;
            witness(&result);
            time::sleep(after).await;
            if !arrives {
                self.hit(ANSWER_LOST);
                return Err(Error::new(Kind::Unavailable, "no answer"));
            }
            result
        })
    }
}

impl Model {
    fn version(&self, key: &Name) -> u64 {
        self.versions.get(key).copied().unwrap_or_default()
    }

    fn is_valid(&self, lease: &Lease) -> bool {
        self.held.get(&lease.epoch).is_some_and(|held| held.deadline > time::now())
    }

    fn lease(&mut self, own: &Witness, of: &Subscription, id: Id, delivery: &Delivery, now: time::Instant) {
        let Some(item) = self.items.get(&(of.clone(), id)) else {
            return own.hold(false, || format!("{id} was never published to {of}"));
        };
        own.hold(item.over.is_none(), || format!("{id} of {of} comes again after its end"));
        own.hold(item.due <= now, || format!("{id} of {of} comes before it is due"));
        let mut attempts = item.attempts;
        if let Some(epoch) = item.lease {
            let before = self.held.get(&epoch).map(|held| held.deadline);
            own.hold(before.is_none_or(|deadline| deadline <= now), || format!("{id} of {of} is leased twice at once"));
            attempts.lapses += 1;
        }
        own.hold(attempts == delivery.attempts, || format!("{id}: {:?}, not {attempts:?}", delivery.attempts));
        if let Some(key) = &item.key {
            let (order, key) = (item.order, key.clone());
            let others = self.items.iter().filter(|((other, _), item)| other == of && item.key.as_ref() == Some(&key));
            let earlier = others.filter(|(_, other)| other.order < order && other.over.is_none()).count();
            own.hold(earlier == 0, || format!("{id} of {of} overtakes {earlier} of its key {key}"));
        }
        if let Some(item) = self.items.get_mut(&(of.clone(), id)) {
            if let Some(epoch) = item.lease.replace(delivery.lease.epoch) {
                self.held.remove(&epoch);
            }
            item.attempts = attempts;
        }
    }

    fn settle(&mut self, step: &Step) {
        let now = time::now();
        let mut parts: BTreeMap<u64, Vec<(Range<u32>, Option<(Duration, Charge)>)>> = BTreeMap::new();
        for retry in &step.retries {
            let items = retry.items.clone().unwrap_or(0..u32::MAX);
            parts.entry(retry.lease.epoch).or_default().push((items, Some((retry.after, retry.charge))));
        }
        for reject in &step.rejects {
            let items = reject.items.clone().unwrap_or(0..u32::MAX);
            parts.entry(reject.lease.epoch).or_default().push((items, None));
        }
        for ack in &step.acks {
            parts.entry(ack.epoch).or_default();
        }
        for (epoch, parts) in parts {
            let Some(held) = self.held.remove(&epoch) else { continue };
            for (index, id) in held.items.into_iter().enumerate() {
                let Some(item) = self.items.get_mut(&(held.subscription.clone(), id)) else { continue };
                item.lease = None;
                match parts.iter().find(|(range, _)| range.contains(&(index as u32))) {
                    None => item.over = Some(Over::Acknowledged),
                    Some((_, None)) => item.over = Some(Over::Rejected),
                    Some((_, Some((after, charge)))) => {
                        item.due = now + *after;
                        match charge {
                            Charge::Failure => item.attempts.failures += 1,
                            Charge::Crash => item.attempts.crashes += 1,
                            _ => {}
                        }
                    }
                }
            }
        }
        for (lease, hold) in &step.extensions {
            if let Some(held) = self.held.get_mut(&lease.epoch) {
                held.deadline = now + *hold;
            }
        }
        for write in &step.state {
            self.versions.insert(write.key.clone(), write.expect + 1);
        }
    }
}

impl Broker for Witness {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        let mut model = self.model.lock();
        let own = options.subscriptions.iter().map(|name| topic.subscription(name.clone())).collect();
        model.subscriptions.insert(topic.clone(), own);
        self.inner.declare(topic, options)
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        let copy = batches.clone();
        self.call(
            move || self.roomy(self.inner.publish(batches)),
            move |result| {
                if let Ok(receipt) = result {
                    copy.iter().for_each(|publish| self.published(publish, time::now(), Some(receipt)));
                }
            },
        )
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.call(
            move || self.inner.lease(subscription, want),
            move |result| {
                if let Ok(deliveries) = result {
                    self.leased(subscription, deliveries);
                }
            },
        )
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        let copy = step.clone();
        self.call(move || self.roomy(self.inner.settle(step)), move |result| self.settled(&copy, result))
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        self.inner.load(key)
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.inner.inspect(topic)
    }
}
