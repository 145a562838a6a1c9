//! The live handle of a pump: pause, resume, how many workers, and what was done so far.

use crate::base::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use tokio::sync::watch;

/// What became of the messages of a pump since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Acknowledged.
    pub done: u64,
    /// Given back to be tried again, charged to a budget.
    pub retried: u64,
    /// Told to come back later, uncharged.
    pub postponed: u64,
    /// Given up: to the dead letters.
    pub rejected: u64,
    /// Moved to the quarantine.
    pub quarantined: u64,
    /// Called off, or replaced by another of the same unique key, before it was done.
    pub dropped: u64,
    /// Handed back unstarted or unfinished when the pump stopped, uncharged.
    pub handed_back: u64,
    /// Whose lease was lost while they were worked on.
    pub lost: u64,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    retried: AtomicU64,
    postponed: AtomicU64,
    rejected: AtomicU64,
    quarantined: AtomicU64,
    dropped: AtomicU64,
    handed_back: AtomicU64,
    lost: AtomicU64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Retried,
    Postponed,
    Rejected,
    Quarantined,
    Dropped,
    HandedBack,
    Lost,
}

/// The live handle of a pump; clones share, and the pump's own clones have the same.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many of the workers may lease; 0 while paused.
    admitted: watch::Sender<usize>,
    /// How many there may be once resumed.
    concurrency: AtomicU64,
    counts: Counts,
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counts").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(concurrency: usize) -> Control {
        Control(Arc::new(Inner {
            admitted: watch::Sender::new(concurrency),
            concurrency: AtomicU64::new(concurrency as u64),
            counts: Counts::default(),
        }))
    }

    /// Leases no more until [resumed](Control::resume); what runs goes on.
    pub fn pause(&self) {
        self.0.admitted.send_replace(0);
    }

    /// Leases again.
    pub fn resume(&self) {
        self.0.admitted.send_replace(self.concurrency());
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        *self.0.admitted.borrow() == 0
    }

    /// How many messages are worked on at once.
    pub fn concurrency(&self) -> usize {
        self.0.concurrency.load(Ordering::Relaxed) as usize
    }

    /// Works on this many at once from now on: at least 1, at most what
    /// [`Consume::concurrency`](crate::queue::Consume::concurrency) gave it when it began to run. Those that are too
    /// many end with the message that they have in hand.
    pub fn set_concurrency(&self, workers: usize) {
        let workers = workers.max(1);
        self.0.concurrency.store(workers as u64, Ordering::Relaxed);
        self.0.admitted.send_if_modified(|admitted| {
            let changes = *admitted != 0 && *admitted != workers;
            if changes {
                *admitted = workers;
            }
            changes
        });
    }

    /// What became of the messages so far.
    pub fn tally(&self) -> Tally {
        let (counts, read) = (&self.0.counts, |count: &AtomicU64| count.load(Ordering::Relaxed));
        Tally {
            done: read(&counts.done),
            retried: read(&counts.retried),
            postponed: read(&counts.postponed),
            rejected: read(&counts.rejected),
            quarantined: read(&counts.quarantined),
            dropped: read(&counts.dropped),
            handed_back: read(&counts.handed_back),
            lost: read(&counts.lost),
        }
    }

    pub(super) fn count(&self, fate: Fate) {
        let counts = &self.0.counts;
        let count = match fate {
            Fate::Done => &counts.done,
            Fate::Retried => &counts.retried,
            Fate::Postponed => &counts.postponed,
            Fate::Rejected => &counts.rejected,
            Fate::Quarantined => &counts.quarantined,
            Fate::Dropped => &counts.dropped,
            Fate::HandedBack => &counts.handed_back,
            Fate::Lost => &counts.lost,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the worker of this number may lease.
    pub(super) async fn admitted(&self, number: usize) {
        if *self.0.admitted.borrow() > number {
            return;
        }
        let mut admitted = self.0.admitted.subscribe();
        // the sender lives as long as this handle
        let _ = admitted.wait_for(|admitted| *admitted > number).await;
    }

    /// Resolves once the worker of this number may no longer lease.
    pub(super) async fn excluded(&self, number: usize) {
        let mut admitted = self.0.admitted.subscribe();
        let _ = admitted.wait_for(|admitted| *admitted <= number).await;
    }
}
