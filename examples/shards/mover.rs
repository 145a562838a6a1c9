//! What moves the data: it tells the shards what to do, and the new owner fetches it from the old one.

use super::{
    maps,
    shard::{Since, Taken, url},
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use seedpod::{
    Result,
    base::{
        sync::Lock,
        time::{self, Instant},
    },
    http::{Client, successful},
    serving::{Mover, Moving, ShardMap},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// From which shard to which, whose the keys are until then, and whether the former keeps a copy: of one map no two moves have
/// these in common.
type Way = (Arc<str>, Arc<str>, Arc<[Arc<str>]>, bool);

pub(crate) struct OverHttp {
    client: Client,
    step: Lock<Step>,
    tell: Box<dyn Fn(String) + Send + Sync>,
}

/// What has been done of the step under way.
#[derive(Default)]
struct Step {
    /// Of each copy, what the old owner had written by then.
    written: BTreeMap<Way, u64>,
    slots: f64,
    keys: usize,
    again: usize,
    sealed: Option<Instant>,
}

/// What stands above the lines of the steps.
pub(crate) const HEAD: &str = "     at     map   slots   keys   again   pause   from and to";

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(sealed) = self.sealed else { return f.write_str("the same owners") };
        let (slots, keys, again, pause) = (self.slots, self.keys, self.again, sealed.elapsed().as_millis());
        write!(f, "{slots:>6}   {keys:>4}   {again:>5}   {pause:>2} ms   ")?;
        let mut ways: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to, ..) in self.written.keys() {
            ways.entry(from).or_default().insert(to);
        }
        for (number, (from, to)) in ways.into_iter().enumerate() {
            let (comma, to) = (if number > 0 { "; " } else { "" }, Vec::from_iter(to).join(", "));
            write!(f, "{comma}{from} to {to}")?;
        }
        Ok(())
    }
}

fn way(moving: &Moving) -> Way {
    (moving.from.clone(), moving.to.clone(), moving.owners.clone(), moving.stays)
}

impl OverHttp {
    /// Tells by this function of each step that is done.
    pub(crate) fn new(client: Client, tell: impl Fn(String) + Send + Sync + 'static) -> Self {
        OverHttp { client, step: Lock::default(), tell: Box::new(tell) }
    }

    async fn ask(
        &self,
        shard: &str,
        path: &str,
        what: &(impl Serialize + Sync),
    ) -> Result<http::Response<seedpod::http::Body>> {
        successful(self.client.post_json(&url(shard, path), what).await?)
    }

    async fn take(&self, moving: &Moving, written: u64) -> Result<Taken> {
        let since = Since { moving: moving.clone(), written };
        self.ask(&moving.to, "/moves/take", &since).await?.into_body().json().await
    }
}

#[async_trait]
impl Mover for OverHttp {
    async fn copy(&self, moving: &Moving) -> Result {
        let taken = self.take(moving, 0).await?;
        let mut step = self.step.lock();
        step.written.insert(way(moving), taken.written);
        step.keys += taken.keys;
        step.slots += moving.width();
        Ok(())
    }

    async fn seal(&self, moving: &Moving) -> Result {
        self.step.lock().sealed.get_or_insert_with(time::now);
        self.ask(&moving.from, "/moves/seal", moving).await.map(drop)
    }

    async fn hand_over(&self, moving: &Moving) -> Result {
        let written = self.step.lock().written.get(&way(moving)).copied().unwrap_or(0);
        let taken = self.take(moving, written).await?;
        self.step.lock().again += taken.keys;
        Ok(())
    }

    async fn clean(&self, moving: &Moving) -> Result {
        self.ask(&moving.from, "/moves/drop", moving).await.map(drop)
    }

    /// Which map counts is decided where all can ask for it.
    fn commit<'a>(&'a self, map: &'a ShardMap) -> Option<BoxFuture<'a, Result>> {
        Some(Box::pin(async move {
            maps::publish(&self.client, map).await?;
            let step = std::mem::take(&mut *self.step.lock());
            (self.tell)(format!("{:>3}  {step}", map.version()));
            Ok(())
        }))
    }
}
