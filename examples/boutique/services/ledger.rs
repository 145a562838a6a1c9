//! Effects that must happen once: a payment, an e-mail, a parcel.
//!
//! The ledger is what the outside world saw: the bank's statement, the mailbox, the carrier's log. Every effect adds a
//! line of its own to it, so that a doubled one shows. What keeps it from doubling is the claim beside it: effect and
//! claim are one commit, and a claim can be made only once.

use super::{
    super::call::Caller,
    store::{Change, Record, Records},
};
use seedpod::{
    Result,
    base::{Rng, sync::Lock},
    pod::Context,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};

/// One kind of effect, as carried out by one pod.
#[derive(Clone)]
pub(crate) struct Ledger {
    effect: &'static str,
    pod: String,
    rng: Arc<Lock<Rng>>,
}

impl Ledger {
    pub(crate) fn new(context: &Context, effect: &'static str) -> Self {
        Ledger { effect, pod: context.pod().to_string(), rng: Arc::new(Lock::new(context.rng("ledger"))) }
    }

    /// Carries out the effect for an order, once per claim, and returns what was answered the first time.
    pub(crate) async fn once<T>(&self, caller: &Caller, claim: &str, order: &str, answer: T) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let (records, effect) = (Records::new(caller.clone()), self.effect);
        let claimed = format!("claims/{effect}/{claim}");
        let line = format!("ledger/{effect}/{order}/{}-{:08x}", self.pod, self.rng.lock().next_u64() >> 32);
        let done = records.commit(&[Change::create(&claimed, &answer)?, Change::create(line, &self.pod)?]).await;
        match done {
            Ok(_) => Ok(answer),
            Err(conflict) if conflict.is_conflict() => match records.get(&claimed).await? {
                Some(Record { value, .. }) => Ok(value),
                None => Err(conflict),
            },
            Err(error) => Err(error),
        }
    }

    /// How often the effect has been seen, by order.
    pub(crate) async fn count(caller: &Caller, effect: &str) -> Result<BTreeMap<String, u64>> {
        let lines: Vec<Record> = caller.get(format!("http://store/records?prefix=ledger/{effect}/")).await?;
        let mut counts = BTreeMap::new();
        for order in lines.iter().filter_map(|line| line.key.split('/').nth(2)) {
            *counts.entry(order.to_string()).or_default() += 1;
        }
        Ok(counts)
    }
}
