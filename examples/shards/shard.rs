//! A shard: a key-value store in the memory of its pod, behind a fence.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /keys/ann` | the value |
//! | `PUT /keys/ann` | writes it here and to the other owners; answered when all have it |
//! | `PUT /copies/ann?stamp=7` | what the first owner writes to the others |
//! | `POST /moves/take` | fetches what moves here from its owner: all of it, or what has changed since |
//! | `POST /moves/give` | what has changed of it since |
//! | `POST /moves/seal` | serves it no more, until a map has decided |
//! | `POST /moves/drop` | forgets it |
//! | `GET /figures` | how many keys are here, and how many requests the fence has refused |
//!
//! Requests with a key pass a fence: this shard must own the key under the map that it knows, and must know the map under
//! which it was asked. Where not, it answers 421 and which map says where to ask.
//!
//! **Copies.** Each key has several owners. All writes go to the first, which numbers them and passes them on; a read may
//! go to any. A write is answered when every owner has it, so that whoever reads after the answer sees it, wherever he
//! reads. The price: while one of its owners is away, a key can be read and not written.

use super::{maps, refusal::refused};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{Method, Request, Response};
use seedpod::{
    Error, Result,
    base::{Deadline, Kind, sync::Lock, time},
    http::{Body, Client, json, serve, successful, text},
    pod::Context,
    serving::{Fence, FenceLayer, Moved, Moving, Route, Versioned},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tower::{Layer, ServiceExt, service_fn};

/// The port on which a shard listens.
pub(crate) const PORT: u16 = 8080;

/// The key of a request, as it stands in its path; none where the request has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InPath;

/// What router and fence go by.
pub(crate) const BY_KEY: Versioned<InPath> = Versioned(InPath);

fn key(path: &str) -> Option<&str> {
    let key = path.strip_prefix("/keys/").or_else(|| path.strip_prefix("/copies/"));
    key.filter(|key| !key.is_empty())
}

impl<B> Route<Request<B>> for InPath {
    fn with_key<T>(&self, request: &Request<B>, then: impl FnOnce(&[u8]) -> T) -> T {
        then(key(request.uri().path()).unwrap_or_default().as_bytes())
    }

    fn each_key(&self, request: &Request<B>, mut then: impl FnMut(&[u8])) {
        key(request.uri().path()).into_iter().for_each(|key| then(key.as_bytes()));
    }
}

/// Where the shard of this name answers: the name of its pod stays, whatever its address.
pub(crate) fn url(shard: &str, path: &str) -> String {
    format!("http://{shard}.db:{PORT}{path}")
}

/// What is to be moved, and of that what the old owner has written after it had written so much.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Since {
    pub(crate) moving: Moving,
    pub(crate) written: u64,
}

/// How many keys were taken, and how much their old owner had written by then.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) keys: usize,
    pub(crate) written: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) keys: usize,
    pub(crate) refused: u64,
}

/// What an old owner gives.
#[derive(Serialize, Deserialize)]
struct Given {
    rows: BTreeMap<String, (u64, String)>,
    written: u64,
}

struct Row {
    value: String,
    /// The number of this write among those of its key: of two, the higher one holds.
    stamp: u64,
    /// How much had been written here when it was.
    written: u64,
}

#[derive(Default)]
struct Rows {
    by_key: BTreeMap<String, Row>,
    written: u64,
}

impl Rows {
    fn write(&mut self, key: &str, stamp: u64, value: String) {
        if self.by_key.get(key).is_some_and(|row| row.stamp >= stamp) {
            return;
        }
        self.written += 1;
        self.by_key.insert(key.to_owned(), Row { value, stamp, written: self.written });
    }
}

#[derive(Clone)]
struct Shard {
    fence: Fence,
    rows: Arc<Lock<Rows>>,
    others: Client,
}

/// The image.
pub(crate) async fn shard(context: Context) -> Result {
    let fence = Fence::new(context.pod(), maps::follow(&context).await);
    let shard = Shard { fence: fence.clone(), rows: Arc::default(), others: context.http() };
    let answer = service_fn(move |request: Request<Body>| {
        let shard = shard.clone();
        async move { Ok::<_, Error>(shard.answer(request).await.unwrap_or_else(|error| refused(&error))) }
    });
    let fenced = FenceLayer::new(fence, BY_KEY).layer(answer).map_result(Moved::answer);
    serve(context.listen(PORT).await?, fenced).until(context.stopped()).await
}

impl Shard {
    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        match (head.method, path) {
            (Method::GET, "/healthz") => Ok(text(200, "ok")),
            (Method::GET, "/figures") => {
                let keys = self.rows.lock().by_key.len();
                Ok(json(200, &Figures { keys, refused: self.fence.refused() }))
            }
            (Method::POST, "/moves/take") => Ok(json(200, &self.take(&body.json().await?).await?)),
            (Method::POST, "/moves/give") => Ok(json(200, &self.give(&body.json().await?))),
            (Method::POST, "/moves/seal") => {
                self.fence.seal(&body.json().await?).await?;
                Ok(text(204, ""))
            }
            (Method::POST, "/moves/drop") => {
                self.forget(&body.json().await?).await?;
                Ok(text(204, ""))
            }
            (method, path) => match (method, key(path)) {
                (Method::GET, Some(key)) => self.get(key),
                (Method::PUT, Some(key)) if path.starts_with("/keys/") => self.put(key, body.text().await?).await,
                (Method::PUT, Some(key)) => {
                    let stamp = query.strip_prefix("stamp=").and_then(|stamp| stamp.parse().ok());
                    let stamp = stamp.ok_or_else(|| Error::new(Kind::Invalid, "a copy has a stamp").at(key))?;
                    let value = body.text().await?;
                    self.rows.lock().write(key, stamp, value);
                    Ok(text(204, ""))
                }
                _ => Err(Kind::NotFound.into()),
            },
        }
    }

    fn get(&self, key: &str) -> Result<Response<Body>> {
        let rows = self.rows.lock();
        let row = rows.by_key.get(key).ok_or_else(|| Error::new(Kind::NotFound, "nobody has written it").at(key))?;
        Ok(text(200, row.value.clone()))
    }

    /// The fence is passed, so that whose the key is does not change until this is over.
    async fn put(&self, key: &str, value: String) -> Result<Response<Body>> {
        let map = self.fence.maps().current();
        let mut owners = map.owners(key).iter().map(|owner| map.name(*owner));
        let first = owners.next().unwrap_or_default();
        if first != self.fence.shard() {
            return Err(Error::new(Kind::Unavailable, format!("{first} takes the writes of this key")).at(key));
        }
        let stamp = {
            let mut rows = self.rows.lock();
            let stamp = rows.by_key.get(key).map_or(0, |row| row.stamp) + 1;
            rows.write(key, stamp, value.clone());
            stamp
        };
        let value = Bytes::from(value);
        try_join_all(owners.map(|owner| self.pass_on(owner, key, stamp, value.clone()))).await?;
        Ok(text(204, ""))
    }

    /// Writes to another owner, until it knows the map that this shard knows: whose the key is does not change meanwhile.
    async fn pass_on(&self, owner: &str, key: &str, stamp: u64, value: Bytes) -> Result {
        let copied = async {
            loop {
                let mut request = Request::put(url(owner, &format!("/copies/{key}?stamp={stamp}")))
                    .body(Body::from(value.clone()))?;
                BY_KEY.stamp(&mut request, self.fence.maps().current().version());
                match Moved::read(self.others.request(request).await) {
                    Err(error) if Moved::of(&error).is_some() => time::sleep(Duration::from_millis(2)).await,
                    answer => return successful(answer?).map(drop),
                }
            }
        };
        let copied = Deadline::within(Duration::from_secs(2)).bound(copied).await;
        copied.flatten().map_err(|error| error.at(owner))
    }

    /// Fetches what moves here.
    async fn take(&self, since: &Since) -> Result<Taken> {
        let url = url(&since.moving.from, "/moves/give");
        let given: Given = successful(self.others.post_json(&url, since).await?)?.into_body().json().await?;
        let mut rows = self.rows.lock();
        self.fence.receive(&since.moving)?; // it may have been given up meanwhile
        let keys = given.rows.len();
        given.rows.into_iter().for_each(|(key, (stamp, value))| rows.write(&key, stamp, value));
        Ok(Taken { keys, written: given.written })
    }

    fn give(&self, since: &Since) -> Given {
        let rows = self.rows.lock();
        let moves = rows.by_key.iter();
        let moves = moves.filter(|(key, row)| row.written > since.written && since.moving.contains(key.as_str()));
        Given {
            rows: moves.map(|(key, row)| (key.clone(), (row.stamp, row.value.clone()))).collect(),
            written: rows.written,
        }
    }

    /// Forgets what has moved away, once this shard knows that it has.
    async fn forget(&self, moving: &Moving) -> Result {
        Deadline::within(Duration::from_secs(2)).bound(self.fence.maps().at_least(moving.version)).await?;
        self.rows.lock().by_key.retain(|key, _| !moving.contains(key.as_str()) || self.fence.owns(key.as_str()));
        Ok(())
    }
}
