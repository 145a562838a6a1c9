//! A broker in front of another that loses, delays and refuses calls while there is trouble, and knows what each of them
//! met: which operator made the call, and which have something in hand.

use bytes::Bytes;
use futures::future::BoxFuture;
use seedpod::{
    Error, Kind, Result,
    base::{Answer, Few, Name, Rng, sync::Lock, time},
    queue::{
        Broker, Delivery, Guarantees, Lease, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats,
        Want,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The words of faults.
pub(super) const CALL_DELAYED: &str = "call delayed";
pub(super) const CALL_FAILED: &str = "call failed";
pub(super) const ANSWER_LOST: &str = "answer lost";
pub(super) const LEASE_LOST: &str = "late settlement refused";
pub(super) const KILLED: &str = "run killed";

/// A fault, and the operators that it met.
type Met = (&'static str, BTreeSet<&'static str>);

pub(super) struct Trouble {
    inner: Lock<Arc<dyn Broker>>,
    rng: Lock<Rng>,
    /// How often a call goes wrong, in a thousand.
    per_mille: Lock<u64>,
    met: Lock<Vec<Met>>,
    /// The operators by the hashes of their stages' names, which are the owners of leases.
    operators: Lock<BTreeMap<u64, &'static str>>,
    /// What is leased: by whom, and until when.
    in_hand: Lock<BTreeMap<(u64, u64), (u64, time::Instant)>>,
    closed: Lock<bool>,
    /// Ends with the broker below: whoever waits for its answer then waits in vain.
    life: Lock<CancellationToken>,
}

enum Fault {
    None,
    Delayed(Duration),
    Failed,
    Lost,
}

/// The leases that a step settles.
fn settled(step: &Step) -> impl Iterator<Item = Lease> {
    let retries = step.retries.iter().map(|retry| retry.lease);
    step.acks.iter().copied().chain(retries).chain(step.rejects.iter().map(|reject| reject.lease))
}

impl Trouble {
    pub(super) fn new(inner: Arc<dyn Broker>, rng: Rng) -> Trouble {
        Trouble {
            inner: Lock::new(inner),
            rng: Lock::new(rng),
            per_mille: Lock::new(0),
            met: Lock::default(),
            operators: Lock::default(),
            in_hand: Lock::default(),
            closed: Lock::new(false),
            life: Lock::default(),
        }
    }

    pub(super) fn per_mille(&self, often: u64) {
        *self.per_mille.lock() = often;
    }

    /// The stage of this name does that.
    pub(super) fn operator(&self, stage: &str, operator: &'static str) {
        self.operators.lock().insert(Name::from(stage).hash64(), operator);
    }

    pub(super) fn hit(&self, fault: &'static str) {
        self.met.lock().push((fault, BTreeSet::new()));
    }

    /// All that was hit.
    pub(super) fn met(&self) -> Vec<Met> {
        std::mem::take(&mut self.met.lock())
    }

    /// The run is killed now.
    pub(super) fn killed(&self) {
        self.meets_what_is_in_hand(KILLED);
    }

    /// The broker below has closed, for this reason.
    pub(super) fn closed(&self, fault: &'static str) {
        *self.closed.lock() = true;
        self.meets_what_is_in_hand(fault);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.lock()
    }

    pub(super) fn current(&self) -> Arc<dyn Broker> {
        self.inner.lock().clone()
    }

    pub(super) fn goes_on_with(&self, inner: Arc<dyn Broker>) {
        std::mem::take(&mut *self.life.lock()).cancel();
        *self.inner.lock() = inner;
        *self.closed.lock() = false;
        self.in_hand.lock().clear();
    }

    pub(super) fn draw(&self, limit: u64) -> u64 {
        self.rng.lock().below(limit)
    }

    fn meets_what_is_in_hand(&self, fault: &'static str) {
        let now = time::now();
        let in_hand = self.in_hand.lock();
        let owners = in_hand.values().filter(|(_, until)| *until > now).map(|(owner, _)| owner);
        let operators = self.operators.lock();
        let met: BTreeSet<_> = owners.filter_map(|owner| operators.get(owner).copied()).collect();
        if !met.is_empty() {
            self.met.lock().push((fault, met));
        }
    }

    fn meets(&self, fault: &'static str, owner: Option<u64>) {
        let operators = self.operators.lock();
        let met = owner.and_then(|owner| operators.get(&owner).copied());
        self.met.lock().push((fault, met.into_iter().collect()));
    }

    fn fault(&self, owner: Option<u64>) -> Fault {
        let often = *self.per_mille.lock();
        let mut rng = self.rng.lock();
        if rng.below(1000) >= often {
            return Fault::None;
        }
        let (fault, word) = match rng.below(3) {
            0 => (Fault::Delayed(Duration::from_millis(rng.below(600))), CALL_DELAYED),
            1 => (Fault::Failed, CALL_FAILED),
            _ => (Fault::Lost, ANSWER_LOST),
        };
        drop(rng);
        self.meets(word, owner);
        fault
    }

    /// The call, with what goes wrong.
    fn call<'a, T: Send + Unpin + 'a>(
        &'a self,
        owner: Option<u64>,
        call: impl FnOnce(Arc<dyn Broker>) -> BoxFuture<'a, Result<T>> + Send + 'a,
    ) -> Answer<'a, T> {
        let away = || Error::new(Kind::Unavailable, "the connection is gone");
        let fault = self.fault(owner);
        let one = move || async move {
            let (life, inner) = (self.life.lock().clone(), self.current());
            tokio::select! {
                biased;
                () = life.cancelled() => Err(away()),
                answer = call(inner) => answer,
            }
        };
        Answer::later(async move {
            match fault {
                Fault::None => one().await,
                Fault::Delayed(wait) => {
                    time::sleep(wait).await;
                    one().await
                }
                Fault::Failed => Err(away()),
                Fault::Lost => {
                    one().await?;
                    Err(away())
                }
            }
        })
    }

    fn taken(&self, deliveries: &[Delivery], hold: Duration) {
        let until = time::now() + hold;
        let mut in_hand = self.in_hand.lock();
        for Delivery { lease, .. } in deliveries {
            in_hand.insert((lease.place, lease.epoch), (lease.owner, until));
        }
    }

    fn given(&self, step: &Step) {
        let mut in_hand = self.in_hand.lock();
        for lease in settled(step) {
            in_hand.remove(&(lease.place, lease.epoch));
        }
        for (lease, hold) in &step.extensions {
            if let Some((_, until)) = in_hand.get_mut(&(lease.place, lease.epoch)) {
                *until = time::now() + *hold;
            }
        }
    }
}

impl Broker for Trouble {
    fn guarantees(&self) -> Guarantees {
        self.current().guarantees()
    }

    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        Answer::later(async move { self.current().declare(topic, options).await })
    }

    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.call(None, |inner| Box::pin(async move { inner.publish(batches).await }))
    }

    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        let lease = move |inner: Arc<dyn Broker>| -> BoxFuture<'a, Result<Few<Delivery>>> {
            Box::pin(async move {
                let deliveries = inner.lease(subscription, want).await?;
                self.taken(&deliveries, want.hold);
                Ok(deliveries)
            })
        };
        if want.wait.is_zero() {
            return Answer::later(async move { lease(self.current()).await });
        }
        self.call(Some(want.owner), lease)
    }

    fn settle(&self, step: Step) -> Answer<'_, ()> {
        let owner = settled(&step).chain(step.extensions.iter().map(|(lease, _)| *lease)).next();
        let owner = owner.map(|lease| lease.owner);
        self.call(owner, move |inner| {
            Box::pin(async move {
                let settled = inner.settle(step.clone()).await;
                match &settled {
                    Ok(()) => self.given(&step),
                    Err(error) if error.kind() == Kind::LeaseLost => self.meets(LEASE_LOST, owner),
                    Err(_) => {}
                }
                settled
            })
        })
    }

    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        Answer::later(async move { self.current().load(key).await })
    }

    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        Answer::later(async move { self.current().inspect(topic).await })
    }
}
