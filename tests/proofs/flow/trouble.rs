//! A broker in front of the one in memory that loses, delays and refuses calls while there is trouble.

use bytes::Bytes;
use seedpod::{
    Error, Kind, Result,
    base::{Answer, Few, Name, Rng, sync::Lock, time},
    queue::{
        Broker, Delivery, Guarantees, Memory, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats,
        Want,
    },
};
use std::{future::Future, sync::Arc, time::Duration};

/// The words of faults.
pub(super) const CALL_DELAYED: &str = "call delayed";
pub(super) const CALL_FAILED: &str = "call failed";
pub(super) const ANSWER_LOST: &str = "answer lost";
pub(super) const LEASE_LOST: &str = "late settlement refused";

pub(super) struct Trouble {
    pub(super) inner: Arc<Memory>,
    rng: Lock<Rng>,
    /// How often a call goes wrong, in a thousand.
    pub(super) per_mille: Lock<u64>,
    pub(super) hits: Lock<Vec<&'static str>>,
}

enum Fault {
    None,
    Delayed(Duration),
    Failed,
    Lost,
}

impl Trouble {
    pub(super) fn new(rng: Rng) -> Trouble {
        Trouble { inner: Arc::new(Memory::new()), rng: Lock::new(rng), per_mille: Lock::new(0), hits: Lock::default() }
    }

    pub(super) fn hit(&self, fault: &'static str) {
        self.hits.lock().push(fault);
    }

    pub(super) fn draw(&self, limit: u64) -> u64 {
        self.rng.lock().below(limit)
    }

    fn fault(&self) -> Fault {
        let often = *self.per_mille.lock();
        let mut rng = self.rng.lock();
        if rng.below(1000) >= often {
            return Fault::None;
        }
        let (fault, word) = match rng.below(3) {
            0 => (Fault::Delayed(Duration::from_millis(rng.below(300))), CALL_DELAYED),
            1 => (Fault::Failed, CALL_FAILED),
            _ => (Fault::Lost, ANSWER_LOST),
        };
        drop(rng);
        self.hit(word);
        fault
    }

    /// The call, with what goes wrong.
    fn call<'a, T: Send + Unpin + 'a, F>(&'a self, call: impl FnOnce() -> F + Send + 'a) -> Answer<'a, T>
    where
        F: Future<Output = Result<T>> + Send + 'a,
    {
        let away = || Error::new(Kind::Unavailable, "the connection is gone");
        let fault = self.fault();
        Answer::later(async move {
            match fault {
                Fault::None => call().await,
                Fault::Delayed(wait) => {
                    time::sleep(wait).await;
                    call().await
                }
                Fault::Failed => Err(away()),
                Fault::Lost => {
                    call().await?;
                    Err(away())
                }
            }
        })
    }
}

impl Broker for Trouble {
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.inner.declare(topic, options)
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.call(|| self.inner.publish(batches))
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        if want.wait.is_zero() {
            return self.inner.lease(subscription, want);
        }
        self.call(move || self.inner.lease(subscription, want))
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        let settled = self.call(|| self.inner.settle(step));
        Answer::later(async move {
            let settled = settled.await;
            if matches!(&settled, Err(error) if error.kind() == Kind::LeaseLost) {
                self.hit(LEASE_LOST);
            }
            settled
        })
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        self.inner.load(key)
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.inner.inspect(topic)
    }
}
