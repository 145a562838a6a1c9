//! The map that counts, and the next one.

use super::super::{ShardMap, endpoints::Apart};
use crate::base::{
    Error, Kind, Result,
    sync::{
        Lock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};
use arc_swap::{ArcSwap, Guard};
use futures::{Stream, StreamExt};
use std::{fmt, pin::pin, sync::Arc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The shard map that counts in this process: routers read it at every call, fences decide by it.
///
/// A handle: clones are the same. Versions only grow, so that whoever publishes late, or twice, changes nothing.
///
/// One process publishes what it decides; the others [follow](Self::follow) a stream of what it published. A process
/// that lags is safe: its requests are refused by the [`Fence`](super::Fence) of the old owner, and wait until the newer
/// map has come.
///
/// ```
/// use seedpod::serving::{ShardMap, ShardMaps};
///
/// let map = ShardMap::planned(["s0", "s1"]).build()?;
/// let maps = ShardMaps::new(map.clone());
/// let next = map.next(|shards| {
///     shards.add("s2");
/// })?;
/// maps.publish(next.clone())?;
/// assert_eq!(maps.current().version(), next.version());
/// assert!(maps.publish(map).unwrap_err().is_conflict());
/// # Ok::<(), seedpod::Error>(())
/// ```
pub struct ShardMaps {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<ShardMap>,
    /// Of `current`, or of the one before while it is replaced.
    version: Apart<AtomicU64>,
    /// Held by who replaces it.
    writing: Lock<()>,
    changed: Notify,
    /// One rebalance at a time.
    turn: Arc<Semaphore>,
}

impl ShardMaps {
    /// Begins with this map.
    pub fn new(map: ShardMap) -> Self {
        let version = Apart(AtomicU64::new(map.version()));
        let shared = Shared {
            current: ArcSwap::from_pointee(map),
            version,
            writing: Lock::new(()),
            changed: Notify::new(),
            turn: Arc::new(Semaphore::new(1)),
        };
        ShardMaps { shared: Arc::new(shared) }
    }

    /// The map that counts now.
    pub fn current(&self) -> ShardMap {
        ShardMap::clone(&self.look())
    }

    /// Makes this map count, if it is newer than the one that does.
    ///
    /// Whoever moves data publishes by [`rebalance`](super::Shards::rebalance): a map published before its data has moved
    /// is followed at once.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where a map of this version or a newer one counts already; [`Kind::Invalid`] where no map could
    /// follow it, since its version is the highest number that there is.
    pub fn publish(&self, map: ShardMap) -> Result {
        let version = map.version();
        if version == u64::MAX {
            return Err(Error::new(Kind::Invalid, "no map could follow this version").at(format!("map {version}")));
        }
        {
            let _writing = self.shared.writing.lock();
            let counts = self.look().version();
            if version <= counts {
                return Err(Error::new(Kind::Conflict, format!("map {counts} counts already, not map {version}")));
            }
            self.shared.current.store(Arc::new(map));
            self.shared.version.0.store(version, Release);
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Waits until a map of this version or a newer one counts, and gives it.
    ///
    /// **Cancel-safety**: safe.
    pub async fn at_least(&self, version: u64) -> ShardMap {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable(); // before looking, so that no map falls in between
            let current = self.current();
            if current.version() >= version {
                return current;
            }
            changed.await;
        }
    }

    /// Publishes what comes from this stream, for as long as it lasts; what is not newer is passed over.
    ///
    /// **Cancel-safety**: safe.
    pub async fn follow(&self, maps: impl Stream<Item = ShardMap>) {
        let mut maps = pin!(maps);
        while let Some(map) = maps.next().await {
            let _ = self.publish(map); // older: a newer one has come another way
        }
    }

    /// What came to count, from now on: first the map of now. One that lags gets the last.
    pub fn watch(&self) -> impl Stream<Item = ShardMap> + Send + 'static {
        let maps = self.clone();
        futures::stream::unfold(Some(0), move |version| {
            let maps = maps.clone();
            async move {
                let map = maps.at_least(version?).await;
                let next = map.version().checked_add(1);
                Some((map, next))
            }
        })
    }

    /// The map of now, for a short look.
    #[inline(always)]
    pub(super) fn look(&self) -> Guard<Arc<ShardMap>> {
        self.shared.current.load()
    }

    /// Whether the map of this version is still the one of now.
    #[inline(always)]
    pub(super) fn is_current(&self, version: u64) -> bool {
        self.shared.version.0.load(Acquire) == version
    }

    /// The right to rebalance, until dropped.
    pub(super) fn turn(&self) -> Result<OwnedSemaphorePermit> {
        let turn = self.shared.turn.clone().try_acquire_owned();
        turn.map_err(|_| Error::new(Kind::Conflict, "another rebalance is under way"))
    }
}

impl From<ShardMap> for ShardMaps {
    fn from(map: ShardMap) -> Self {
        ShardMaps::new(map)
    }
}

impl Clone for ShardMaps {
    fn clone(&self) -> Self {
        ShardMaps { shared: self.shared.clone() }
    }
}

impl fmt::Debug for ShardMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardMaps({:?})", self.look())
    }
}
