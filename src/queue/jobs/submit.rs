//! Submitting: one job or many, under unique keys or not.

use super::{
    Job, Queue, Submitted, SubmittedAll, Taken, Unique,
    rows::{self, Claim, Sweep, unique_key},
};
use crate::base::{Error, Few, Kind, Result};
use crate::queue::{BrokerExt, Codec, Id, Payload, Publish, Receipt, Step, Trace, consume::TENANT};
use futures::future::BoxFuture;

/// Takes in jobs: what a client needs of a queue, and all it needs. A [`Queue`] is one; so is whatever stands before it, a
/// fake in a test or a client of a gateway.
pub trait Submit<T>: Send + Sync {
    /// Stores this job; once it has answered, the job is worked on until it is done or given up.
    ///
    /// **Cancel-safety**: dropped, whether it was stored is unknown; submit it again under the same id.
    ///
    /// # Errors
    /// Those of the queue behind it.
    fn submit(&self, job: Job<T>) -> BoxFuture<'_, Result<Submitted>>;
}

impl<T: Send + Sync + 'static, C: Codec<T>> Submit<T> for Queue<T, C> {
    fn submit(&self, job: Job<T>) -> BoxFuture<'_, Result<Submitted>> {
        Box::pin(Queue::submit(self, job))
    }
}

/// How often a submission starts over because others write the same unique key.
const TRIES: u32 = 16;

impl<T: Send + Sync + 'static, C: Codec<T>> Queue<T, C> {
    /// Stores this value or [`Job`]; once it has answered, it is worked on until it is done or given up.
    ///
    /// **Cancel-safety**: dropped, whether it was stored is unknown; submit it again under the same id.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] at the bound of a queue that refuses; [`Kind::Conflict`] for a unique key that is
    /// [refused](Taken::Refuse); [`Kind::Invalid`] for an id together with a unique key; [`Kind::Unsupported`], naming the
    /// broker, for what it cannot do; [`Kind::Invalid`] for a value that the codec cannot express, where it must.
    pub async fn submit(&self, job: impl Into<Job<T>>) -> Result<Submitted> {
        let job = job.into();
        if job.id.is_some() && job.unique.is_some() {
            let message = "a job has an id or a unique key: of one whose id was seen of late the key would stay taken";
            return Err(Error::new(Kind::Invalid, message).at(format!("queue {}", self.inner.topic)));
        }
        let (publish, unique) = self.publish_of(job);
        let id = publish.id;
        match unique {
            Some(unique) => self.submit_unique(publish, unique).await,
            None => {
                let receipt = self.inner.broker.send(publish).await?;
                Ok(Submitted::new(id, receipt.duplicates == 0))
            }
        }
    }

    fn publish_of(&self, job: Job<T>) -> (Publish, Option<Unique>) {
        let id = job.id.unwrap_or_else(|| self.inner.ids.next());
        let Job { value, priority, delay, key, mut headers, unique, .. } = job;
        self.inner.schema.write::<C>(&mut headers);
        if let Some(trace) = Trace::current() {
            trace.begin(&mut headers);
        }
        let (topic, priority) = self.inner.layout.place(priority, headers.get(TENANT));
        let mut publish = Publish::new(topic, id, Payload::value(value, By::<C>::new()));
        (publish.priority, publish.delay, publish.key, publish.headers) = (priority, delay, key, headers);
        (publish, unique)
    }

    /// The job under this id, to be published with something else.
    pub(in crate::queue) fn publish_under(&self, id: Id, job: Job<T>) -> Publish {
        self.publish_of(job.with_id(id)).0
    }

    /// Stores all of these jobs or none, each on its own terms and under its own id.
    ///
    /// **Cancel-safety**: dropped, whether they were stored is unknown; submit them again under the same ids.
    ///
    /// # Errors
    /// Those of [`submit`](Queue::submit); [`Kind::Invalid`] where one has a unique key, which is weighed alone.
    pub async fn submit_many(&self, jobs: impl IntoIterator<Item = Job<T>>) -> Result<SubmittedAll> {
        let mut batches = Few::new();
        for job in jobs {
            let (publish, unique) = self.publish_of(job);
            if let Some(unique) = unique {
                let place = format!("queue {}, unique key {}", self.inner.topic, unique.key);
                return Err(Error::new(Kind::Invalid, "a job with a unique key is submitted alone").at(place));
            }
            batches.push(publish);
        }
        let ids = batches.iter().map(|publish| publish.id).collect();
        if batches.is_empty() {
            return Ok(SubmittedAll::default());
        }
        let receipt = self.inner.broker.publish(batches).await?;
        Ok(SubmittedAll { ids, stored: receipt.stored, duplicates: receipt.duplicates })
    }

    /// Stores all of these or none, as one batch under one id; each item has an id of its own, derived from it.
    ///
    /// # Errors
    /// Those of [`submit`](Queue::submit).
    pub async fn submit_all(&self, id: Id, values: Vec<T>) -> Result<Receipt> {
        let mut publish = Publish::new(&self.inner.topic, id, Payload::values(values, By::<C>::new()));
        self.inner.schema.write::<C>(&mut publish.headers);
        self.inner.broker.send(publish).await
    }

    async fn submit_unique(&self, publish: Publish, unique: Unique) -> Result<Submitted> {
        self.needs_state("keeps no state, so it knows no unique keys")?;
        let inner = &self.inner;
        let key = unique_key(&inner.topic, &unique.key);
        let place = || format!("queue {}, unique key {}", inner.topic, unique.key);
        for _ in 0..TRIES {
            let (version, row) = inner.broker.load(&key).await?;
            let now = inner.wall.unix_millis();
            if let Some(claim) = Claim::read(version, &row).filter(|claim| claim.is_live(now)) {
                match unique.taken {
                    Taken::Keep => return Ok(Submitted::new(claim.id, false)),
                    Taken::Refuse => {
                        let message = format!("it is taken by message {}", claim.id);
                        return Err(Error::new(Kind::Conflict, message).at(place()));
                    }
                    Taken::Replace => {}
                }
            }
            let until = unique.within.map(|window| {
                let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
                now.saturating_add(window)
            });
            let claim = serde_json::to_vec(&Claim { id: publish.id, until })?;
            let (mut publish, next) = (publish.clone(), version.saturating_add(1));
            match unique.within {
                None => rows::holds(&mut publish.headers, &key, next, unique.taken == Taken::Replace),
                Some(_) if unique.taken == Taken::Replace => rows::shows(&mut publish.headers, &key),
                Some(_) => {}
            }
            let id = publish.id;
            let mut step = Step::new().write(&key, version, claim).publish(publish);
            if let Some(window) = unique.within {
                step = step.publish(Sweep::of_claim(&inner.sweep, &key, next, id, window)?);
            }
            match inner.broker.settle(step).await {
                Ok(()) => return Ok(Submitted::new(id, true)),
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Overloaded, format!("others took it {TRIES} times meanwhile")).at(place()))
    }
}

/// The codec as a value, which [`Payload`] asks for and does not look at.
struct By<C>(std::marker::PhantomData<fn() -> C>);

impl<C> By<C> {
    fn new() -> Self {
        By(std::marker::PhantomData)
    }
}

impl<T, C: Codec<T>> Codec<T> for By<C> {
    const CONTENT_TYPE: &'static str = C::CONTENT_TYPE;

    fn encode(value: &T) -> Result<bytes::Bytes> {
        C::encode(value)
    }

    fn decode(bytes: &[u8]) -> Result<T> {
        C::decode(bytes)
    }
}
