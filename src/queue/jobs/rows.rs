//! Rows of the broker's state that belong to a message under way, and how they go again: with its settlement, or swept by
//! a message that comes when their time is over.

use crate::base::{Error, Kind, Name, Result};
use crate::queue::{Broker, Headers, Id, Publish, StateWrite, Step, Subscription, Topic, redrive::FIRST_ID};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What stands under a unique key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    #[serde(with = "text")]
    pub(crate) id: Id,
    /// In milliseconds since 1970; none: until it is settled.
    pub(crate) until: Option<u64>,
}

mod text {
    use crate::queue::Id;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &Id, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Claim {
    pub(crate) fn read(version: u64, row: &[u8]) -> Option<Claim> {
        if version == 0 { None } else { serde_json::from_slice(row).ok() }
    }

    pub(crate) fn is_live(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

pub(crate) fn unique_key(topic: &Topic, key: &Name) -> Name {
    Name::from(format!("unique/{topic}/{key}"))
}

pub(crate) fn cancel_key(subscription: &Subscription, id: Id) -> Name {
    Name::from(format!("cancel/{subscription}/{id}"))
}

pub(crate) fn result_key(subscription: &Subscription, id: Id) -> Name {
    Name::from(format!("result/{subscription}/{id}"))
}

/// Says in a message which row it holds: `<version> <key>`; it is forgotten when the message is settled.
const HOLDS: &str = "unique-row";
/// Says which row must still name the message when a worker comes to it.
const REPLACEABLE: &str = "unique-replaceable";

/// The message holds this row until it is settled.
pub(crate) fn holds(headers: &mut Headers, key: &Name, version: u64, replaceable: bool) {
    headers.insert(HOLDS, format!("{version} {key}"));
    if replaceable {
        shows(headers, key);
    }
}

/// The message is dropped where this row names another.
pub(crate) fn shows(headers: &mut Headers, key: &Name) {
    headers.insert(REPLACEABLE, key.as_str());
}

/// The row that a message holds, to be forgotten with its settlement: where it still names the message, since versions
/// begin anew, and by now another may hold a row of the same version.
pub(crate) async fn held(broker: &dyn Broker, headers: &Headers, id: Id) -> Result<Option<StateWrite>> {
    let Some((_, key)) = headers.get(HOLDS).and_then(|row| row.split_once(' ')) else { return Ok(None) };
    let key = Name::from(key);
    let (version, value) = broker.load(&key).await?;
    let own = Claim::read(version, &value).is_some_and(|claim| claim.id == id);
    Ok(own.then_some(StateWrite { key, expect: version, value: None }))
}

/// Whether another took this message's place. One that was given up and redriven has none to lose.
pub(crate) async fn is_replaced(broker: &dyn Broker, headers: &Headers, id: Id) -> Result<bool> {
    let Some(key) = headers.get(REPLACEABLE).filter(|_| headers.get(FIRST_ID).is_none()) else { return Ok(false) };
    let (version, value) = broker.load(&Name::from(key)).await?;
    Ok(match Claim::read(version, &value) {
        Some(claim) => claim.id != id,
        // held until it is settled, and gone: with another that had taken it and is done
        None => headers.get(HOLDS).is_some(),
    })
}

/// What a sweep forgets.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sweep {
    key: String,
    version: u64,
    /// Where it is a claim: whose. A sweep may come twice, and versions begin anew.
    #[serde(default)]
    id: Option<String>,
}

impl Sweep {
    /// A message that forgets this row when it comes.
    pub(crate) fn after(topic: &Topic, key: &Name, version: u64, wait: Duration) -> Result<Publish> {
        Sweep { key: key.to_string(), version, id: None }.publish(topic, wait)
    }

    /// A message that forgets the claim of this message when it comes.
    pub(crate) fn of_claim(topic: &Topic, key: &Name, version: u64, id: Id, wait: Duration) -> Result<Publish> {
        Sweep { key: key.to_string(), version, id: Some(id.to_string()) }.publish(topic, wait)
    }

    fn publish(&self, topic: &Topic, wait: Duration) -> Result<Publish> {
        let Sweep { key, version, id } = self;
        let whose = id.as_deref().unwrap_or_default();
        let sweep = serde_json::to_vec(self)?;
        Ok(Publish::new(topic, Id::of(format!("sweep {version} {key} {whose}")), sweep).delay(wait))
    }

    pub(crate) fn read(bytes: &Bytes) -> Result<Sweep> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Forgets the row, where it is still what it was.
    pub(crate) async fn carry_out(self, broker: &dyn Broker) -> Result {
        let key = Name::from(self.key);
        if let Some(id) = self.id {
            let (version, row) = broker.load(&key).await?;
            if Claim::read(version, &row).is_none_or(|claim| claim.id.to_string() != id) {
                return Ok(());
            }
        }
        let mut step = Step::new();
        step.state.push(StateWrite { key, expect: self.version, value: None });
        match broker.settle(step).await {
            Err(error) if error.kind() == Kind::Conflict => Ok(()), // it was written anew, or is gone
            done => done,
        }
    }
}

pub(crate) fn unsupported(what: &str, broker: &str) -> Error {
    Error::new(Kind::Unsupported, format!("the broker {broker} {what}"))
}
