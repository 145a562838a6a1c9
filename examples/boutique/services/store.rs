//! The key-value store: the shop's only state, over HTTP, with all-or-nothing commits.
//!
//! `GET /records/{key}` · `GET /records?prefix=…` · `POST /commits`. It lives in the memory of its one pod and dies with
//! it, as a Redis without a disk would; so `shop.yaml` pins it to a node that is never drained.

use super::super::{call::Caller, form, refusal::Refusal};
use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    routing::{get, post},
};
use seedpod::{
    Error, Kind, Result,
    pod::Context,
    store::{Entry, Expect, Store, Write},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::sync::Arc;

type Table = Store<Arc<Value>>;

/// A value and the revision of its last change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<T = Arc<Value>> {
    pub(crate) key: String,
    pub(crate) revision: u64,
    pub(crate) value: T,
}

/// One write of a commit: it holds only if the key is as expected.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    key: String,
    expect: Expected,
    value: Option<Value>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    Absent,
    Revision(u64),
}

/// The image.
pub(super) async fn store(context: Context) -> Result {
    let router = Router::new()
        .route("/records", get(list))
        .route("/records/{*key}", get(read))
        .route("/commits", post(commit))
        .with_state(Table::new());
    super::serve(&context, router).await
}

async fn read(State(table): State<Table>, Path(key): Path<String>) -> Result<Json<Record>, Refusal> {
    match table.get(&key) {
        Some(entry) => Ok(Json(record(&entry))),
        None => Err(Error::new(Kind::NotFound, "").at(key).into()),
    }
}

async fn list(State(table): State<Table>, RawQuery(query): RawQuery) -> Json<Vec<Record>> {
    let query = form::parse(&query.unwrap_or_default());
    let prefix = query.get("prefix").map_or("", String::as_str);
    Json(table.list(prefix, None, usize::MAX).entries.iter().map(record).collect())
}

async fn commit(State(table): State<Table>, Json(changes): Json<Vec<Change>>) -> Result<Json<u64>, Refusal> {
    let writes = changes.into_iter().map(|change| Write {
        key: change.key.as_str().into(),
        expect: match change.expect {
            Expected::Absent => Expect::Absent,
            Expected::Revision(revision) => Expect::Revision(revision),
        },
        value: change.value.map(Arc::new),
    });
    Ok(Json(table.commit(writes.collect()).await?))
}

fn record(entry: &Entry<Arc<Value>>) -> Record {
    Record { key: entry.key.to_string(), revision: entry.revision, value: entry.value.clone() }
}

/// The store, as the other services use it.
#[derive(Clone)]
pub(crate) struct Records(Caller);

impl Records {
    pub(crate) fn new(caller: Caller) -> Self {
        Records(caller)
    }

    /// The record under this key, where there is one.
    pub(crate) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Record<T>>> {
        match self.0.get(format!("http://store/records/{key}")).await {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All or nothing; a conflict where a key is not as expected.
    ///
    /// A commit whose answer got lost may be sent again: what it expects no longer holds then, so that it cannot be
    /// done twice, and the caller sees a conflict with itself.
    pub(crate) async fn commit(&self, changes: &[Change]) -> Result<u64> {
        let keyed = self.0.clone().keyed(changes.first().map_or("", |change| &change.key));
        keyed.post("http://store/commits", &changes).await
    }
}

impl Change {
    /// A new record; a conflict where there is one already.
    pub(crate) fn create(key: impl Into<String>, value: &impl Serialize) -> Result<Self> {
        Ok(Change { key: key.into(), expect: Expected::Absent, value: Some(serde_json::to_value(value)?) })
    }

    /// The record that was last changed at this revision (0: that is not there) now says this.
    pub(crate) fn replace(key: impl Into<String>, revision: u64, value: &impl Serialize) -> Result<Self> {
        let expect = if revision == 0 { Expected::Absent } else { Expected::Revision(revision) };
        Ok(Change { key: key.into(), expect, value: Some(serde_json::to_value(value)?) })
    }

    /// The record that was last changed at this revision goes.
    pub(crate) fn remove(key: impl Into<String>, revision: u64) -> Self {
        Change { key: key.into(), expect: Expected::Revision(revision), value: None }
    }
}
