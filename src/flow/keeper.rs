//! What keeps state between deliveries: rows in the broker, written in the step that settles what changed them.

use super::{live::Live, part::Part};
use crate::base::{Error, Kind, Name, Result, Rng};
use crate::queue::{Codec, Delivery, Id, Postcard, Step};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// From which kind of input a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Edge,
    /// What other stages tell a join.
    Account,
    /// Its own delayed messages.
    Timers,
}

/// How many batches a join has a timer for at once; beyond it the join waits.
pub(super) const TIMERS: usize = 1 << 20;

/// Work on deliveries of one input that keeps state. It decides, and the stage commits: on a conflict it is asked again.
pub(super) trait Keeper: Send + Sync + 'static {
    /// All that follows from these deliveries, in one step; with what each of them came to.
    fn keep<'a>(
        &'a self,
        live: &'a Live,
        input: &'a super::live::LiveInput,
        deliveries: &'a [Delivery],
        rng: &'a mut Rng,
    ) -> BoxFuture<'a, Result<(Vec<Part>, Step)>>;
}

/// The rows that a step reads and writes.
pub(super) struct Rows<'a, R> {
    live: &'a Live,
    rows: BTreeMap<Id, (u64, Option<R>)>,
    /// The versions of the guards, where it has them.
    guards: Option<BTreeMap<u64, u64>>,
}

/// How many guards there are.
const GUARDS: u64 = 16;

impl<'a, R: Serialize + DeserializeOwned + Send> Rows<'a, R> {
    pub(super) fn new(live: &'a Live) -> Self {
        Rows { live, rows: BTreeMap::new(), guards: None }
    }

    /// Rows that are forgotten and made again under the same id. What is made again has the versions of what was before: a
    /// guard, which is written by every step and never forgotten, tells a step that is late that it is.
    pub(super) fn guarded(live: &'a Live) -> Self {
        Rows { guards: Some(BTreeMap::new()), ..Rows::new(live) }
    }

    fn guard(&self, number: u64) -> Name {
        Name::from(format!("{}.{}/guard-{number}", self.live.plan.name, self.live.name()))
    }

    /// Looks at the guard of this row, before the row.
    async fn meet(&mut self, id: Id) -> Result {
        let number = id.as_u128() as u64 % GUARDS;
        if self.guards.as_ref().is_some_and(|guards| !guards.contains_key(&number)) {
            let (version, _) = self.live.broker.load(&self.guard(number)).await?;
            self.guards.get_or_insert_default().insert(number, version);
        }
        Ok(())
    }

    fn key(&self, id: Id) -> Name {
        Name::from(format!("{}.{}/{id}", self.live.plan.name, self.live.name()))
    }

    /// The row under this id; nothing where there is none.
    pub(super) async fn get(&mut self, id: Id) -> Result<&mut Option<R>> {
        if !self.rows.contains_key(&id) {
            self.meet(id).await?;
            let key = self.key(id);
            let (version, bytes) = self.live.broker.load(&key).await?;
            let row = match version {
                0 => None,
                _ => {
                    let bad = |error: Error| Error::new(Kind::Corrupt, "").because(error).at(format!("state {key}"));
                    Some(<Postcard as Codec<Option<R>>>::decode(&bytes).map_err(bad)?).flatten()
                }
            };
            self.rows.insert(id, (version, row));
        }
        self.rows.get_mut(&id).map(|(_, row)| row).ok_or_else(|| Kind::NotFound.into())
    }

    /// Those that were looked at.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut Option<R>)> {
        self.rows.iter_mut().map(|(id, (_, row))| (*id, row))
    }

    /// Writes them, or forgets them.
    pub(super) fn onto(self, mut step: Step) -> Result<Step>
    where
        Option<R>: Serialize + DeserializeOwned,
    {
        for (number, version) in self.guards.iter().flatten() {
            step = step.write(self.guard(*number), *version, Bytes::from_static(b"-"));
        }
        let keys: Vec<_> = self.rows.keys().map(|id| self.key(*id)).collect();
        for (key, (version, row)) in keys.into_iter().zip(self.rows.into_values()) {
            step = match row {
                Some(_) => step.write(key, version, <Postcard as Codec<Option<R>>>::encode(&row)?),
                None if version > 0 => step.forget(key, version),
                None => step,
            };
        }
        Ok(step)
    }
}
