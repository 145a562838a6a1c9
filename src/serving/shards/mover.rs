//! What moves the data.

use super::{super::ShardMap, Moving};
use crate::base::Result;
use async_trait::async_trait;
use futures::future::BoxFuture;

/// Moves data between shards, step by step, as [`rebalance`](super::Shards::rebalance) asks. Yours to write: it knows where
/// the data is and how it travels.
///
/// 1. [`copy`](Self::copy): the old owner goes on serving.
/// 2. [`seal`](Self::seal): the old owner's fence lets nobody in any more, and those inside are out.
/// 3. [`hand_over`](Self::hand_over): what has changed since the copy. Nobody serves the part in this time.
/// 4. [`commit`](Self::commit): the map counts by which the part arrives.
/// 5. [`clean`](Self::clean): the old owner drops the data.
///
/// Any of these may fail, or be dropped at any await: then the part stays where it is, or, from the commit on, has
/// arrived. The next try begins with `copy`.
///
/// **Required**: that each step can be repeated; that a copy replaces whatever the new owner has of these keys, since it
/// may be left over from a move that was given up; that nothing goes on in the background when a step has failed or was
/// dropped, or that the new owner [refuses](super::Fence::receive) what arrives late.
///
/// # Several copies
///
/// The keys come from the first owner, which is where [`Shards`](super::Shards) writes while it takes calls. Where others may
/// have newer data, since a write goes to [a quorum](super::Shards::copies) or the first was away, bring the newest of what
/// all [`Moving::owners`] have: those that leave are sealed before it is handed over.
///
/// # A shard that is lost for good
///
/// It is moved away from as any other: its mover answers for it. Let `copy` and `hand_over` take the keys from another of the
/// owners, or from a backup, and `seal` be content where it is certain that the lost one serves nobody any more.
///
/// # Example
///
/// ```
/// use seedpod::{Result, serving::{Fence, Mover, Moving}};
/// use std::{collections::BTreeMap, sync::{Arc, Mutex}};
///
/// #[derive(Clone)]
/// struct Shard { fence: Fence, rows: Arc<Mutex<BTreeMap<String, String>>> }
///
/// struct InMemory(BTreeMap<&'static str, Shard>);
///
/// impl InMemory {
///     fn ship(&self, moving: &Moving) -> Result {
///         let rows = self.0[&*moving.from].rows.lock().unwrap().clone();
///         let mut there = self.0[&*moving.to].rows.lock().unwrap();
///         self.0[&*moving.to].fence.receive(moving)?; // where data is written, so that nothing comes in between
///         there.retain(|key, _| !moving.contains(key));
///         there.extend(rows.into_iter().filter(|(key, _)| moving.contains(key)));
///         Ok(())
///     }
/// }
///
/// #[async_trait::async_trait]
/// impl Mover for InMemory {
///     async fn copy(&self, moving: &Moving) -> Result {
///         self.ship(moving)
///     }
///     async fn seal(&self, moving: &Moving) -> Result {
///         self.0[&*moving.from].fence.seal(moving).await
///     }
///     async fn hand_over(&self, moving: &Moving) -> Result {
///         self.ship(moving) // or only what has changed
///     }
///     async fn clean(&self, moving: &Moving) -> Result {
///         self.0[&*moving.from].rows.lock().unwrap().retain(|key, _| !moving.contains(key));
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Mover: Send + Sync {
    /// Copies these keys to the new owner, in place of what it has of them, while the old owner serves.
    async fn copy(&self, moving: &Moving) -> Result;

    /// Seals them at the old owner: [`Fence::seal`](super::Fence::seal) where it is.
    ///
    /// Of several copies those that answer are sealed before those that only leave, so that a write which is inside at the
    /// first owner still reaches the others.
    async fn seal(&self, moving: &Moving) -> Result;

    /// Brings to the new owner what has changed since the copy began.
    async fn hand_over(&self, moving: &Moving) -> Result;

    /// Drops them at the old owner. Not called where it goes on owning a copy.
    async fn clean(&self, moving: &Moving) -> Result;

    /// Makes this map the one that counts, where that is decided outside this process: in a store, by writing it if its
    /// version is higher than what is there, and content if this very map is there already, since it is asked again when an
    /// answer was lost. None, unless overridden: then it is decided by the [`ShardMaps`](super::ShardMaps) of this process.
    ///
    /// The future must do nothing before it is polled. An error of [`Kind::Conflict`](crate::base::Kind::Conflict) says that
    /// another map counts; any other leaves open whether this one does.
    fn commit<'a>(&'a self, map: &'a ShardMap) -> Option<BoxFuture<'a, Result>> {
        let _ = map;
        None
    }
}
