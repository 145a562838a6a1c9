//! The application: it writes and reads at a port of localhost, and knows of no shards.

use futures::future::join_all;
use http::Request;
use seedpod::{
    Error, Result,
    base::{Kind, Rng, sync::Lock, time},
    http::{Client, successful},
    pod::Context,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch;

/// How many keys there are.
pub(crate) const KEYS: usize = 400;
const WRITERS: usize = 8;
const READERS: usize = 4;

/// Between two requests of one writer or reader.
const THINKS: Duration = Duration::from_millis(20);

/// What the application has done, and what it was answered: the books by which the store is judged.
#[derive(Default)]
pub(crate) struct Books {
    /// What was acknowledged last, by key.
    pub(crate) written: Lock<BTreeMap<String, u64>>,
    pub(crate) requests: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Reads that did not see a write that had been acknowledged before.
    pub(crate) stale: AtomicU64,
    /// The first that went wrong.
    pub(crate) first: Lock<Option<String>>,
    closing: AtomicBool,
    closed: watch::Sender<bool>,
}

impl Books {
    pub(crate) const RESOURCE: &str = "books";

    /// Lets each writer and reader finish what it does; returns when all have.
    pub(crate) async fn close(&self) {
        self.closing.store(true, Relaxed);
        let closed = self.closed.subscribe().wait_for(|closed| *closed).await.is_ok();
        debug_assert!(closed, "the sender is here");
    }

    fn wrong(&self, count: &AtomicU64, what: String) {
        count.fetch_add(1, Relaxed);
        self.first.lock().get_or_insert(what);
    }
}

/// The image.
pub(crate) async fn application(context: Context) -> Result {
    let missing = |what: &'static str| Error::new(Kind::NotFound, what);
    let books = context.resource::<Arc<Books>>(Books::RESOURCE).ok_or_else(|| missing("no books to keep"))?;
    let store = context.env("STORE").ok_or_else(|| missing("STORE is not set"))?;
    let store = Store { client: context.http().base(store)?, books: Arc::clone(&books) };
    let writers = (0..WRITERS).map(|number| context.spawn(write(store.clone(), number)));
    let readers =
        (0..READERS).map(|number| context.spawn(read(store.clone(), context.rng(&format!("reader {number}")))));
    join_all(writers.chain(readers).collect::<Vec<_>>()).await;
    books.closed.send_replace(true);
    context.stopped().await;
    Ok(())
}

#[derive(Clone)]
struct Store {
    client: Client,
    books: Arc<Books>,
}

fn name(key: usize) -> String {
    format!("key-{key:03}")
}

/// Writes its keys in turn, each with the next number, and reads each back.
async fn write(store: Store, number: usize) {
    for value in 1.. {
        for key in (number..KEYS).step_by(WRITERS).map(name) {
            if store.books.closing.load(Relaxed) && value > 1 {
                return;
            }
            if store.put(&key, value).await {
                store.check(&key, value).await;
            }
            time::sleep(THINKS).await;
        }
    }
}

/// Reads any keys: it must see what had been acknowledged before it asked.
async fn read(store: Store, mut rng: Rng) {
    while !store.books.closing.load(Relaxed) {
        let key = name(rng.below(KEYS as u64) as usize);
        let acknowledged = store.books.written.lock().get(&key).copied();
        if let Some(value) = acknowledged {
            store.check(&key, value).await;
        }
        time::sleep(THINKS).await;
    }
}

impl Store {
    async fn put(&self, key: &str, value: u64) -> bool {
        self.books.requests.fetch_add(1, Relaxed);
        let put = async {
            let request = Request::put(format!("/keys/{key}")).body(value.to_string().into())?;
            answered(self.client.request(request).await?).await
        };
        match put.await {
            Ok(_) => {
                self.books.written.lock().insert(key.to_owned(), value);
                true
            }
            Err(error) => {
                self.books.wrong(&self.books.failed, format!("PUT {key}: {}", error.chain()));
                false
            }
        }
    }

    /// Reads the key: it must have this value, or a later one.
    async fn check(&self, key: &str, least: u64) {
        self.books.requests.fetch_add(1, Relaxed);
        let get = async { answered(self.client.get(&format!("/keys/{key}")).await?).await };
        match get.await.map(|text| text.parse::<u64>()) {
            Ok(Ok(value)) if value >= least => {}
            Ok(value) => self.books.wrong(&self.books.stale, format!("GET {key}: {value:?}, and {least} was written")),
            Err(error) => self.books.wrong(&self.books.failed, format!("GET {key}: {}", error.chain())),
        }
    }
}

/// What a response says; where it tells of a failure, that with the server's words.
async fn answered(response: http::Response<seedpod::http::Body>) -> Result<String> {
    let (head, body) = response.into_parts();
    let said = body.text().await?;
    let told = successful(http::Response::from_parts(head, ())).map_err(|error| error.at(said.clone()));
    told.map(|_| said)
}
