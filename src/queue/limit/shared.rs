//! A limit that all processes keep together: rows of the broker's state, written where their version is still the one read.

use super::places::{Place, What, whole};
use crate::base::{Error, Kind, Name, Result, Rng, time};
use crate::queue::{Broker, Id, Step};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Over how many rows the keys of a limit are spread: each row holds those of its keys that are active.
const ROWS: u64 = 64;
/// How often a row is read again because another wrote it meanwhile.
const TRIES: u32 = 8;

/// What a row says of a key. Times are in milliseconds since 1970, except the arrival: nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "is_zero")]
    arrival: u64,
    /// Who runs, by message, and until when that is believed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    running: BTreeMap<String, u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

type Row = BTreeMap<String, Entry>;

/// A key of a limit, in the broker's state.
pub(super) struct Shared<'a> {
    pub(super) broker: &'a dyn Broker,
    pub(super) name: &'a Name,
    pub(super) key: &'a Name,
    /// The wall clock, in milliseconds since 1970.
    pub(super) now: u64,
}

impl Shared<'_> {
    /// Enters the message as one that runs, for this long; else how long it must wait, where that is known.
    pub(super) async fn enter(
        &self,
        what: What,
        id: Id,
        hold: Duration,
        rng: &mut Rng,
    ) -> Result<Result<(), Option<Duration>>> {
        self.change(rng, |entry| match what {
            What::Rate(_) => {
                let mut place = Place::arriving(entry.arrival);
                let entered = place.enter(what, self.now.saturating_mul(1_000_000));
                entry.arrival = place.arrival();
                entered
            }
            What::AtOnce(most) => {
                let id = id.to_string();
                if entry.running.len() >= most as usize && !entry.running.contains_key(&id) {
                    return Err(None);
                }
                entry.running.insert(id, self.now.saturating_add(whole(hold) / 1_000_000));
                Ok(())
            }
        })
        .await
    }

    /// The message runs no more.
    pub(super) async fn leave(&self, id: Id, rng: &mut Rng) -> Result {
        let leave = |entry: &mut Entry| {
            entry.running.remove(&id.to_string());
            Ok(())
        };
        self.change(rng, leave).await.map(drop)
    }

    /// Reads the row, changes the entry, and writes the row where nobody else has meanwhile.
    async fn change(
        &self,
        rng: &mut Rng,
        change: impl Fn(&mut Entry) -> Result<(), Option<Duration>>,
    ) -> Result<Result<(), Option<Duration>>> {
        let at = Name::from(format!("limit/{}/{}", self.name, self.key.hash64() % ROWS));
        for tries in 0..TRIES {
            let (version, bytes) = self.broker.load(&at).await?;
            let mut row: Row =
                if version == 0 { Row::new() } else { serde_json::from_slice(&bytes).unwrap_or_default() };
            self.forget_what_is_over(&mut row);
            let mut entry = row.remove(self.key.as_str()).unwrap_or_default();
            let changed = change(&mut entry);
            if changed.is_err() {
                return Ok(changed);
            }
            if entry.arrival > 0 || !entry.running.is_empty() {
                row.insert(self.key.to_string(), entry);
            }
            let step = match (row.is_empty(), version) {
                (true, 0) => return Ok(changed),
                (true, _) => Step::new().forget(&at, version),
                (false, _) => Step::new().write(&at, version, serde_json::to_vec(&row)?),
            };
            match self.broker.settle(step).await {
                Ok(()) => return Ok(changed),
                Err(error) if error.kind() == Kind::Conflict => {
                    let most = 2_u64.saturating_pow(tries).max(1);
                    time::sleep(Duration::from_millis(1 + rng.below(most))).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Err(None)) // so many want it at this moment that it is as good as taken
    }

    fn forget_what_is_over(&self, row: &mut Row) {
        row.retain(|_, entry| {
            entry.running.retain(|_, until| *until > self.now);
            entry.arrival > self.now.saturating_mul(1_000_000) || !entry.running.is_empty()
        });
    }
}

pub(super) fn refuse(broker: &dyn Broker, name: &Name) -> Result {
    let guarantees = broker.guarantees();
    if guarantees.state {
        return Ok(());
    }
    let message = format!("the broker {} keeps no state, so processes cannot keep a limit together", guarantees.name);
    Err(Error::new(Kind::Unsupported, message).at(format!("limit {name}")))
}
