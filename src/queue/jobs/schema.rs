//! Versions of a payload's type: what is older is brought up to date, what is unknown is a dead letter.

use crate::base::{Error, Kind, Result};
use crate::queue::{Codec, Headers, Payload};
use std::{collections::BTreeMap, fmt, sync::Arc};

type Upcast<T> = Arc<dyn Fn(&[u8]) -> Result<T> + Send + Sync>;

/// Which version of its payload a queue speaks, and how older ones become it.
///
/// The version travels in the header `schema-version`; a message without one is of version 1. One of a version that is
/// not known here is [invalid](Kind::Invalid), which a worker turns into a dead letter: it is there to be
/// [redriven](crate::queue::Redrive) once a worker knows it.
///
/// ```
/// use seedpod::queue::{Job, Json, Memory, Queue, Schema, Work};
/// use serde::{Deserialize, Serialize};
/// use std::sync::Arc;
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Resize { path: String, width: u32 }
/// #[derive(Serialize, Deserialize)]
/// struct ResizeV1 { path: String }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// let broker = Arc::new(Memory::new());
/// let old: Queue<ResizeV1> = Queue::open(broker.clone(), "resize").await?;
/// old.submit(ResizeV1 { path: "a.png".into() }).await?;
///
/// let schema = Schema::version(2).upcast::<ResizeV1, Json>(1, |old| Resize { path: old.path, width: 800 });
/// let queue = Queue::builder(broker, "resize").schema(schema).open().await?;
/// let task = queue.take().await?.expect("one is there");
/// assert_eq!(task.value, Resize { path: "a.png".into(), width: 800 });
/// # Ok(()) }
/// ```
pub struct Schema<T> {
    version: u32,
    older: BTreeMap<u32, Upcast<T>>,
}

pub(super) const VERSION: &str = "schema-version";
pub(super) const CONTENT_TYPE: &str = "content-type";

impl<T: 'static> Schema<T> {
    /// Speaks this version, and no other yet.
    pub fn version(version: u32) -> Schema<T> {
        Schema { version, older: BTreeMap::new() }
    }

    /// Takes in what an older version was, read by the codec that it was written with.
    #[must_use]
    pub fn upcast<Old: 'static, C: Codec<Old>>(
        mut self,
        version: u32,
        into: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Self {
        self.older.insert(version, Arc::new(move |bytes| C::decode(bytes).map(&into)));
        self
    }

    /// Says in the headers what the payload is, where it is not the usual.
    pub(super) fn write<C: Codec<T>>(&self, headers: &mut Headers) {
        if self.version != 1 {
            headers.insert(VERSION, self.version.to_string());
        }
        if C::CONTENT_TYPE != JSON {
            headers.insert(CONTENT_TYPE, C::CONTENT_TYPE);
        }
    }

    /// The value of an item, whatever version known here it is of.
    pub(super) fn read<C: Codec<T>>(&self, headers: &Headers, payload: &Payload, item: u32) -> Result<T>
    where
        T: Clone,
    {
        if let Some(value) = payload.get::<T>(item) {
            return Ok(value.clone());
        }
        let version = match headers.get(VERSION) {
            Some(text) => {
                let bad = || Error::new(Kind::Invalid, format!("{VERSION}: {text:?} is no version"));
                text.parse().map_err(|_| bad())?
            }
            None => 1,
        };
        let bytes = payload.bytes(item)?;
        if version != self.version {
            let Some(upcast) = self.older.get(&version) else {
                let known: Vec<_> = self.older.keys().chain([&self.version]).map(u32::to_string).collect();
                let message = format!("{VERSION} {version} is not known here, only {}", known.join(", "));
                return Err(Error::new(Kind::Invalid, message));
            };
            return upcast(&bytes);
        }
        let given = headers.get(CONTENT_TYPE).unwrap_or(JSON);
        if given != C::CONTENT_TYPE {
            let message = format!("{CONTENT_TYPE} {given} is not the queue's, {}", C::CONTENT_TYPE);
            return Err(Error::new(Kind::Invalid, message));
        }
        C::decode(&bytes)
    }
}

const JSON: &str = "application/json";

impl<T: 'static> Default for Schema<T> {
    fn default() -> Self {
        Schema::version(1)
    }
}

impl<T> fmt::Debug for Schema<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("version", &self.version).field("older", &self.older.keys()).finish()
    }
}
