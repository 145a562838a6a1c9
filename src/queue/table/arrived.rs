//! Who waits for messages, and what is done once the lock is open again.

#[cfg(feature = "durable")]
mod everyone;

use crate::base::{
    sync::atomic::{AtomicU32, Ordering},
    time::{self, Instant},
};
use crate::queue::Batch;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::sync::Notify;

/// Wakes those who wait on a subscription, and costs one load where nobody does.
#[derive(Default)]
pub(in crate::queue) struct Arrived {
    notify: Notify,
    waiting: AtomicU32,
}

impl Arrived {
    /// Joins those who wait. Made under the lock, so that whoever publishes next sees it.
    pub(in crate::queue) fn waiter(self: &Arc<Self>) -> Waiter {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(self.clone())
    }
}

/// One who waits. Whoever leaves wakes another: only those who wait drive the timers, and it may have been the only
/// one with the next of them armed.
pub(in crate::queue) struct Waiter(Arc<Arrived>);

impl Waiter {
    pub(in crate::queue) async fn woken(&self) {
        self.0.notify.notified().await;
    }

    /// Until woken, or until then at the latest.
    pub(in crate::queue) async fn woken_by(&self, then: Option<Instant>) {
        let Some(then) = then else { return self.woken().await }; // no timer to arm
        tokio::select! {
            biased;
            () = time::sleep_until(then) => {}
            () = self.woken() => {}
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) > 1 {
            self.0.notify.notify_one();
        }
    }
}

/// What a decision leaves to be done outside of the lock: waking is foreign code, and so is dropping a user's value.
///
/// Nothing in it is allocated where nothing is left to be done, or a single batch is freed.
#[derive(Default)]
pub(in crate::queue) struct Effects {
    wakes: Vec<(Arc<Arrived>, u32)>,
    rooms: Vec<Arc<Notify>>,
    freed: SmallVec<[Arc<Batch>; 1]>,
}

impl Effects {
    /// Something came for one who waits here.
    #[inline]
    pub(super) fn wake(&mut self, arrived: &Arc<Arrived>) {
        let waiting = arrived.waiting.load(Ordering::Relaxed);
        if waiting > 0 {
            self.wake_one_of(arrived, waiting);
        }
    }

    #[cold]
    fn wake_one_of(&mut self, arrived: &Arc<Arrived>, waiting: u32) {
        match self.wakes.last_mut() {
            Some((last, count)) if Arc::ptr_eq(last, arrived) => *count = waiting.min(*count + 1),
            _ => self.wakes.push((arrived.clone(), 1)),
        }
    }

    /// There is room for those who wait for it.
    #[cold]
    pub(super) fn room(&mut self, room: &Arc<Notify>) {
        self.rooms.push(room.clone());
    }

    /// This batch is no longer needed here.
    #[inline]
    pub(super) fn free(&mut self, batch: Arc<Batch>) {
        self.freed.push(batch);
    }

    /// So many batches will be freed.
    #[inline]
    pub(super) fn reserve(&mut self, batches: usize) {
        self.freed.reserve(batches);
    }

    /// Does it. The lock is open.
    #[inline]
    pub(in crate::queue) fn perform(self) {
        if !self.wakes.is_empty() || !self.rooms.is_empty() {
            self.tell();
        }
    }

    #[cold]
    fn tell(&self) {
        for (arrived, count) in &self.wakes {
            for _ in 0..*count {
                arrived.notify.notify_one();
            }
        }
        for room in &self.rooms {
            room.notify_waiters();
        }
    }
}
