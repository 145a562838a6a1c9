//! What a broker must hold, step by step: a model of topics, leases, attempts, keys, priorities, delays, dead letters and
//! states, which judges every answer.

use super::{features::Features, record::Record};
use seedpod::{
    base::{Name, time},
    queue::{
        Attempts, Charge, DEAD_LETTERS, DeadLetter, Delivery, Id, Lease, Publish, Receipt, Step, Subscription, Topic,
        TopicOptions,
    },
};
use std::{collections::BTreeMap, ops::Range, time::Duration};

/// How an item is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Acknowledged,
    Rejected,
}

/// One item in the eyes of one subscription, until it is over.
#[derive(Debug)]
struct Item {
    order: u64,
    key: Option<Name>,
    priority: u8,
    due: time::Instant,
    attempts: Attempts,
    lease: Option<u64>,
    features: Features,
}

/// One subscription.
#[derive(Default)]
struct Line {
    open: BTreeMap<Id, Item>,
    over: BTreeMap<Id, Over>,
}

struct Held {
    subscription: Subscription,
    items: Vec<Id>,
    deadline: time::Instant,
    /// The batch, how many items it has in all, and the first of those that are held.
    batch: (Id, u32, u32),
}

#[derive(Default)]
struct TopicModel {
    subscriptions: Vec<Name>,
    dead: Option<Topic>,
    dedup: bool,
}

/// What goes to a topic: by how it was published, or as a letter.
struct Arrival<'a> {
    topic: &'a Topic,
    ids: Vec<Id>,
    key: Option<Name>,
    priority: u8,
    due: time::Instant,
    features: Features,
}

#[derive(Default)]
pub(super) struct Model {
    topics: BTreeMap<Topic, TopicModel>,
    lines: BTreeMap<Subscription, Line>,
    /// Leases that were given and not settled; those that have run out stay until their item is leased again.
    held: BTreeMap<u64, Held>,
    versions: BTreeMap<Name, u64>,
    published: u64,
}

/// Whose ids may come again: they name a row and its version, and those begin anew when it is forgotten.
fn is_untold(topic: &Topic) -> bool {
    topic.as_str().ends_with(".sweep")
}

impl Model {
    pub(super) fn declared(&mut self, topic: &Topic, options: &TopicOptions) {
        let of = self.topics.entry(topic.clone()).or_default();
        of.subscriptions.extend(options.subscriptions.iter().cloned());
        of.subscriptions.sort();
        of.subscriptions.dedup();
        of.dedup |= options.dedup.is_some();
        if let Some(dead) = &options.dead_letters {
            of.dead = Some(dead.clone());
            self.declared(dead, &TopicOptions::new().subscription(DEAD_LETTERS));
        }
    }

    pub(super) fn version(&self, key: &Name) -> u64 {
        self.versions.get(key).copied().unwrap_or_default()
    }

    pub(super) fn is_valid(&self, lease: &Lease) -> bool {
        self.held.get(&lease.epoch).is_some_and(|held| held.deadline > time::now())
    }

    /// What is held under this lease.
    pub(super) fn features(&self, lease: &Lease) -> Features {
        let Some(held) = self.held.get(&lease.epoch) else { return Features::NONE };
        let line = self.lines.get(&held.subscription);
        let own = line.into_iter().flat_map(|line| held.items.iter().filter_map(|id| line.open.get(id)));
        own.map(|item| item.features).collect::<Features>() | Features::of_topic(&held.subscription.topic)
    }

    /// Whether this item was published and is not over.
    pub(super) fn is_open(&self, subscription: &Subscription, id: Id) -> bool {
        self.lines.get(subscription).is_some_and(|line| line.open.contains_key(&id))
    }

    /// How this item is over; none where it is not, or was never there.
    pub(super) fn over(&self, subscription: &Subscription, id: Id) -> Option<Over> {
        self.lines.get(subscription)?.over.get(&id).copied()
    }

    /// All items of this subscription, and how each is over.
    pub(super) fn overs(&self, subscription: &Subscription) -> Vec<(Id, Option<Over>)> {
        let Some(line) = self.lines.get(subscription) else { return Vec::new() };
        let open = line.open.keys().map(|id| (*id, None));
        open.chain(line.over.iter().map(|(id, over)| (*id, Some(*over)))).collect()
    }

    pub(super) fn published(&mut self, record: &Record, publish: &Publish, receipt: Option<&Receipt>) {
        let of = |index| if publish.payload.len() == 1 { publish.id } else { publish.id.item(index) };
        let arrival = Arrival {
            topic: &publish.topic,
            ids: (0..publish.payload.len()).map(of).collect(),
            key: publish.key.clone(),
            priority: publish.priority,
            due: time::now() + publish.delay,
            features: Features::of(&publish.topic, &publish.headers),
        };
        self.arrived(record, arrival, receipt.map(|receipt| receipt.duplicates > 0));
    }

    fn arrived(&mut self, record: &Record, arrival: Arrival<'_>, duplicate: Option<bool>) {
        if is_untold(arrival.topic) {
            return;
        }
        let Some(topic) = self.topics.get(arrival.topic) else {
            return record.hold(false, || format!("{} was never declared", arrival.topic));
        };
        self.published += 1;
        for name in &topic.subscriptions {
            let line = self.lines.entry(arrival.topic.subscription(name.clone())).or_default();
            for id in &arrival.ids {
                let there = line.open.contains_key(id) || line.over.contains_key(id);
                let allowed = duplicate.is_none_or(|duplicate| duplicate == there) && (topic.dedup || !there);
                record.hold(allowed, || format!("{id} of {}: there {there}, told {duplicate:?}", arrival.topic));
                if !there {
                    let item = Item {
                        order: self.published,
                        key: arrival.key.clone(),
                        priority: arrival.priority,
                        due: arrival.due,
                        attempts: Attempts::default(),
                        lease: None,
                        features: arrival.features,
                    };
                    line.open.insert(*id, item);
                }
            }
        }
    }

    pub(super) fn leased(&mut self, record: &Record, subscription: &Subscription, deliveries: &[Delivery]) {
        let mut lowest = u8::MAX;
        for delivery in deliveries {
            let items: Vec<_> = (0..delivery.len()).map(|item| delivery.id(item)).collect();
            if !is_untold(&subscription.topic) {
                for id in &items {
                    self.lease(record, subscription, *id, delivery);
                }
            }
            lowest = lowest.min(delivery.batch.priority);
            let batch = (delivery.batch.id, delivery.batch.payload.len(), delivery.range.start);
            let deadline = delivery.lease.deadline;
            let held = Held { subscription: subscription.clone(), items, deadline, batch };
            self.held.insert(delivery.lease.epoch, held);
        }
        let left = self.best_left(subscription);
        record.hold(deliveries.is_empty() || left.is_none_or(|left| left <= lowest), || {
            format!("{subscription}: {left:?} was left for one of priority {lowest}")
        });
    }

    /// The highest priority of what could be leased now.
    fn best_left(&self, subscription: &Subscription) -> Option<u8> {
        let (line, now) = (self.lines.get(subscription)?, time::now());
        let is_held =
            |item: &Item| item.lease.is_some_and(|epoch| self.held.get(&epoch).is_some_and(|held| held.deadline > now));
        let is_first = |item: &Item| {
            let same = |other: &&Item| item.key.is_some() && other.key == item.key;
            !line.open.values().filter(same).any(|other| other.order < item.order || is_held(other))
        };
        let ready = line.open.values().filter(|item| item.due <= now && !is_held(item) && is_first(item));
        ready.map(|item| item.priority).max()
    }

    fn lease(&mut self, record: &Record, of: &Subscription, id: Id, delivery: &Delivery) {
        let (now, line) = (time::now(), self.lines.entry(of.clone()).or_default());
        let Some(item) = line.open.get(&id) else {
            let over = line.over.get(&id);
            return record.hold(false, || format!("{id} of {of} is leased, which is over as {over:?}, or never was"));
        };
        record.hold(item.due <= now, || format!("{id} of {of} comes before it is due"));
        let mut attempts = item.attempts;
        if let Some(epoch) = item.lease {
            let before = self.held.get(&epoch).map(|held| held.deadline);
            record.hold(before.is_none_or(|deadline| deadline <= now), || {
                format!("{id} of {of} is leased twice at once")
            });
            attempts.lapses += 1;
        }
        record.hold(attempts == delivery.attempts, || format!("{id}: {:?}, not {attempts:?}", delivery.attempts));
        if let Some(key) = &item.key {
            let same = line.open.values().filter(|other| other.key.as_ref() == Some(key));
            let earlier = same.filter(|other| other.order < item.order).count();
            record.hold(earlier == 0, || format!("{id} of {of} overtakes {earlier} of its key {key}"));
        }
        if let Some(item) = line.open.get_mut(&id) {
            if let Some(epoch) = item.lease.replace(delivery.lease.epoch) {
                self.held.remove(&epoch);
            }
            item.attempts = attempts;
        }
    }

    pub(super) fn settled(&mut self, record: &Record, step: &Step) {
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
            if let Some(held) = self.held.remove(&epoch) {
                self.ended(record, held, &parts, now);
            }
        }
        for (lease, hold) in &step.extensions {
            if let Some(held) = self.held.get_mut(&lease.epoch) {
                held.deadline = now + *hold;
            }
        }
        for publish in &step.publishes {
            self.published(record, publish, None);
        }
        for write in &step.state {
            match write.value {
                Some(_) => drop(self.versions.insert(write.key.clone(), write.expect + 1)),
                None => drop(self.versions.remove(&write.key)),
            }
        }
    }

    fn ended(
        &mut self,
        record: &Record,
        held: Held,
        parts: &[(Range<u32>, Option<(Duration, Charge)>)],
        now: time::Instant,
    ) {
        let dead = self.topics.get(&held.subscription.topic).and_then(|topic| topic.dead.clone());
        let (batch, len, start) = held.batch;
        let mut letters = Vec::new();
        let Some(line) = self.lines.get_mut(&held.subscription) else { return };
        for (index, id) in held.items.into_iter().enumerate() {
            let part = parts.iter().find(|(range, _)| range.contains(&(index as u32)));
            let over = match part {
                Some((_, Some((after, charge)))) => {
                    let Some(item) = line.open.get_mut(&id) else { continue };
                    (item.lease, item.due) = (None, now + *after);
                    match charge {
                        Charge::Failure => item.attempts.failures += 1,
                        Charge::Crash => item.attempts.crashes += 1,
                        _ => {}
                    }
                    continue;
                }
                Some((_, None)) => Over::Rejected,
                None => Over::Acknowledged,
            };
            let Some(item) = line.open.remove(&id) else { continue };
            line.over.insert(id, over);
            if over == Over::Rejected && dead.is_some() {
                let first = start + part.map_or(0, |(range, _)| range.start);
                let letter = Id::derive(&held.subscription.name, batch, DeadLetter::PORT, first);
                let letter = if len == 1 { letter } else { letter.item(start + index as u32) };
                letters.push((letter, item));
            }
        }
        for (id, Item { key, priority, features, .. }) in letters {
            let Some(topic) = &dead else { continue };
            let features = features | Features::of_topic(topic);
            self.arrived(record, Arrival { topic, ids: vec![id], key, priority, due: now, features }, None);
        }
    }
}
