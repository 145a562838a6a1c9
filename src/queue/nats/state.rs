//! State: a key-value bucket, where every value carries its version.

use super::{core::Core, link::WRONG_LAST, link::refused};
use crate::base::{Error, Kind, Name, Result};
use crate::queue::StateWrite;
use async_nats::HeaderMap;
use bytes::Bytes;
use std::sync::Arc;

/// The version, which counts from 1 per key; JetStream's revisions count per bucket.
const VERSION: &str = "Seedpod-Version";
/// Which call wrote it.
const WRITER: &str = "Seedpod-Writer";
/// How the tools of NATS tell that a value is gone.
const OPERATION: &str = "KV-Operation";

/// What stands under a key.
#[derive(Default)]
struct Entry {
    version: u64,
    value: Bytes,
    /// The sequence of its message; 0 where there never was one.
    sequence: u64,
    writer: Option<String>,
}

/// A write whose version was right a moment ago.
pub(super) struct Checked {
    write: StateWrite,
    sequence: u64,
}

impl Core {
    pub(super) async fn load(self: &Arc<Self>, key: &Name) -> Result<(u64, Bytes)> {
        let entry = self.entry(key).await?;
        Ok((entry.version, entry.value))
    }

    async fn entry(self: &Arc<Self>, key: &Name) -> Result<Entry> {
        self.bucket().await?;
        let found = self.last(self.names().bucket(), &self.names().state(key)).await;
        let Some(message) = found.map_err(|error| error.at(self.at(format!("state {key}"))))? else {
            return Ok(Entry::default());
        };
        let header = |name| message.headers.get(name).map(|value| value.as_str().to_string());
        let gone = header(OPERATION).is_some_and(|operation| operation != "PUT");
        // a value that another tool has put there is a first version
        let version = header(VERSION).and_then(|version| version.parse().ok()).unwrap_or(1);
        Ok(Entry {
            version: if gone { 0 } else { version },
            value: if gone { Bytes::new() } else { message.payload.clone() },
            sequence: message.sequence,
            writer: header(WRITER),
        })
    }

    /// Each of these versions is there now, and no key is written twice.
    pub(super) async fn check_state(self: &Arc<Self>, writes: &[StateWrite]) -> Result<Vec<Checked>> {
        let mut checked = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            if writes.iter().take(index).any(|other| other.key == write.key) {
                let place = self.at(format!("state {}", write.key));
                return Err(Error::new(Kind::Invalid, "written twice in one step").at(place));
            }
        }
        for write in writes {
            let entry = self.entry(&write.key).await?;
            if entry.version != write.expect {
                return Err(self.conflict(write, entry.version));
            }
            checked.push(Checked { write: write.clone(), sequence: entry.sequence });
        }
        Ok(checked)
    }

    #[cold]
    fn conflict(&self, write: &StateWrite, version: u64) -> Error {
        let message = format!("version {version} is there, not {}", write.expect);
        Error::new(Kind::Conflict, message).at(self.at(format!("state {}", write.key)))
    }

    /// Writes them one after the other: each takes effect whole or not at all, all together they do not.
    pub(super) async fn write_state(self: &Arc<Self>, writes: Vec<Checked>) -> Result {
        for checked in writes {
            self.write_one(&checked).await?;
        }
        Ok(())
    }

    async fn write_one(self: &Arc<Self>, Checked { write, sequence }: &Checked) -> Result {
        let link = self.link().await?;
        let place = || self.at(format!("state {}", write.key));
        let writer = self.unique();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", sequence.to_string());
        headers.insert(WRITER, writer.as_str());
        match &write.value {
            Some(_) => headers.insert(VERSION, write.expect.saturating_add(1).to_string()),
            None => {
                headers.insert(OPERATION, "PURGE");
                headers.insert("Nats-Rollup", "sub");
            }
        }
        let body = write.value.clone().unwrap_or_default();
        let subject = self.names().state(&write.key);
        let mut tried_before = false;
        loop {
            let answer = match link.ask(subject.clone(), Some(headers.clone()), body.clone()).await {
                Ok(answer) => answer,
                Err(error) if error.is_retryable() && !tried_before => {
                    tried_before = true;
                    continue;
                }
                Err(error) => return Err(error.at(place())),
            };
            let Err(refusal) = refused(serde_json::from_slice(&answer.payload)?) else { return Ok(()) };
            if refusal.code != WRONG_LAST {
                return Err(link.failed("a write", &refusal).at(place()));
            }
            let there = self.entry(&write.key).await?;
            if tried_before && there.writer.as_deref() == Some(&writer) {
                return Ok(()); // the first try had done it, and its answer was lost
            }
            return Err(self.conflict(write, there.version));
        }
    }
}
