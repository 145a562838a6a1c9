//! Between the wires and the broker under test: sees what it is really asked, in which order, and what it answers, and
//! holds every answer to the model.

use super::{
    features::Features,
    model::{Model, Over},
    record::Record,
};
use bytes::Bytes;
use seedpod::{
    Kind, Result,
    base::{Answer, Few, Name, sync::Lock},
    queue::{
        Broker, Delivery, Guarantees, Id, Lease, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats,
        Want,
    },
};
use std::sync::Arc;

/// Only a full topic makes a publish or a settlement wait.
pub(super) const NO_ROOM: &str = "waited for room";

/// Who else looks at the steps that took effect, before the model has them.
pub(super) type Watch = Box<dyn Fn(&Model, &Step) + Send + Sync>;

/// The broker under test and its model.
pub(super) struct Witness {
    inner: Arc<dyn Broker>,
    model: Lock<Model>,
    pub(super) record: Arc<Record>,
    watch: Watch,
    /// Where what the model says goes, if it is not to judge.
    deaf: Option<Record>,
}

impl Witness {
    pub(super) fn new(inner: Arc<dyn Broker>, record: Arc<Record>, watch: Watch) -> Self {
        Witness { inner, model: Lock::default(), record, watch, deaf: None }
    }

    /// The same, which only looks: of a broker that decides before it answers, and forgets what it had not answered for,
    /// the model would have to guess.
    pub(super) fn looking_on(inner: Arc<dyn Broker>, record: Arc<Record>, watch: Watch) -> Self {
        Witness { deaf: Some(Record::new(false)), ..Witness::new(inner, record, watch) }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.deaf.is_none()
    }

    fn judge(&self) -> &Record {
        self.deaf.as_ref().unwrap_or(&self.record)
    }

    /// Whether this lease is neither settled nor run out.
    pub(super) fn is_valid(&self, lease: &Lease) -> bool {
        self.model.lock().is_valid(lease)
    }

    pub(super) fn overs(&self, subscription: &Subscription) -> Vec<(Id, Option<Over>)> {
        self.model.lock().overs(subscription)
    }

    pub(super) fn over(&self, subscription: &Subscription, id: Id) -> Option<Over> {
        self.model.lock().over(subscription, id)
    }

    pub(super) fn is_open(&self, subscription: &Subscription, id: Id) -> bool {
        self.model.lock().is_open(subscription, id)
    }

    /// What a step would touch.
    pub(super) fn features(&self, step: &Step) -> Features {
        let model = self.model.lock();
        leases(step).map(|lease| model.features(lease)).collect::<Features>()
            | step.publishes.iter().map(|publish| Features::of(&publish.topic, &publish.headers)).collect()
            | step.state.iter().map(|write| Features::of_row(write.key.as_str())).collect()
    }

    fn published(&self, batches: &[Publish], result: &Result<Receipt>) {
        let Ok(receipt) = result else { return };
        let mut model = self.model.lock();
        for publish in batches {
            self.record.note(|| format!("publish {} {} {}", publish.topic, publish.id, receipt.duplicates));
            model.published(self.judge(), publish, Some(receipt));
        }
    }

    fn leased(&self, subscription: &Subscription, result: &Result<Few<Delivery>>) {
        let Ok(deliveries) = result else { return };
        for delivery in deliveries {
            let (id, epoch) = (delivery.batch.id, delivery.lease.epoch);
            self.record.note(|| format!("lease {epoch} of {subscription}: {id} {:?}", delivery.range));
        }
        self.model.lock().leased(self.judge(), subscription, deliveries);
    }

    fn settled(&self, step: &Step, result: &Result) {
        let record = &self.record;
        record.note(|| {
            let Step { acks, retries, rejects, extensions, publishes, state, .. } = step;
            let counts = [acks.len(), retries.len(), rejects.len(), extensions.len(), publishes.len(), state.len()];
            let epochs: Vec<_> = leases(step).map(|lease| lease.epoch).collect();
            format!("settle {counts:?} of {epochs:?}: {:?}", result.as_ref().map_err(|error| error.kind()))
        });
        step.state.iter().for_each(|write| record.row(&write.key));
        let (mut model, record) = (self.model.lock(), self.judge());
        let valid = leases(step).all(|lease| model.is_valid(lease));
        let known = step.state.iter().all(|write| model.version(&write.key) == write.expect);
        match result {
            Ok(()) => {
                record.hold(valid, || format!("a lease that is over was taken: {step:?}"));
                record.hold(known, || format!("a state of another version was overwritten: {step:?}"));
                (self.watch)(&model, step);
                model.settled(record, step);
            }
            Err(error) => match error.kind() {
                Kind::LeaseLost => record.hold(!valid, || format!("a lease that holds was refused: {step:?}")),
                Kind::Conflict => record.hold(!known, || format!("the version was right: {step:?}")),
                kind => record.hold(false, || format!("{kind} for {step:?}")),
            },
        }
    }

    /// The same answer, seen when it comes.
    fn seen<'a, T: Send + Unpin + 'a>(
        answer: Answer<'a, T>,
        see: impl FnOnce(&Result<T>) + Send + 'a,
    ) -> Answer<'a, T> {
        match answer {
            Answer::Now(Some(result)) => {
                see(&result);
                Answer::now(result)
            }
            later => Answer::later(async move {
                let result = later.await;
                see(&result);
                result
            }),
        }
    }

    fn roomy<'a, T>(&self, answer: Answer<'a, T>, features: impl FnOnce() -> Features) -> Answer<'a, T> {
        if matches!(answer, Answer::Later(_)) {
            self.record.met(NO_ROOM, features());
        }
        answer
    }
}

pub(super) fn leases(step: &Step) -> impl Iterator<Item = &Lease> {
    let retries = step.retries.iter().map(|retry| &retry.lease);
    let rejects = step.rejects.iter().map(|reject| &reject.lease);
    step.acks.iter().chain(retries).chain(rejects).chain(step.extensions.iter().map(|(lease, _)| lease))
}

impl Broker for Witness {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        let copy = options.clone();
        Witness::seen(self.inner.declare(topic, options), move |declared| {
            if declared.is_ok() {
                self.model.lock().declared(topic, &copy);
            }
        })
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        let copy = batches.clone();
        let features = || copy.iter().map(|publish| Features::of(&publish.topic, &publish.headers)).collect();
        let answer = self.roomy(self.inner.publish(batches), features);
        Witness::seen(answer, move |result| self.published(&copy, result))
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        Witness::seen(self.inner.lease(subscription, want), move |result| self.leased(subscription, result))
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        let copy = step.clone();
        let answer = self.roomy(self.inner.settle(step), || self.features(&copy));
        Witness::seen(answer, move |result| self.settled(&copy, result))
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        self.inner.load(key)
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.inner.inspect(topic)
    }
}
