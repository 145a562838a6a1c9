//! The live handle of a pump: pause, resume, how many workers, and what was done so far.

use crate::base::sync::{
    Lock,
    atomic::{AtomicU64, Ordering},
};
use crate::base::time::Instant;
use crate::queue::{Id, TopicStats};
use std::{sync::Arc, time::Duration};
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
    /// Told to come back later by a [limit](crate::queue::Limit), uncharged and not begun.
    pub limited: u64,
    /// Told to come back though their tries are spent, since they [hold their key](crate::queue::Consume::hold_key).
    pub blocking: u64,
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
    limited: AtomicU64,
    blocking: AtomicU64,
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
    Limited,
    Blocking,
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
    setting: Lock<Setting>,
    counts: Counts,
    left: Lock<Left>,
}

#[derive(Debug)]
struct Setting {
    /// How many there may be unless paused.
    concurrency: usize,
    /// By this handle.
    paused: bool,
    /// By the queue, for all processes.
    held: bool,
    /// When it was last looked whether it is.
    looked: Option<Instant>,
}

/// What was left when a pump stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// Those that it had in hand and gave back, uncharged: the first 1,000 of them.
    pub handed_back: Vec<Id>,
    /// What its topic held in the end, for it and for others; none where it has not stopped yet, or the broker could not
    /// tell.
    pub topic: Option<TopicStats>,
}

/// So many ids of what was handed back are kept.
const LEFT: usize = 1_000;

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counts").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(concurrency: usize) -> Control {
        Control(Arc::new(Inner {
            admitted: watch::Sender::new(concurrency),
            setting: Lock::new(Setting { concurrency, paused: false, held: false, looked: None }),
            counts: Counts::default(),
            left: Lock::default(),
        }))
    }

    fn set(&self, change: impl FnOnce(&mut Setting)) {
        let mut setting = self.0.setting.lock();
        change(&mut setting);
        let admits = if setting.paused || setting.held { 0 } else { setting.concurrency };
        self.0.admitted.send_if_modified(|admitted| std::mem::replace(admitted, admits) != admits);
    }

    /// Leases no more until [resumed](Control::resume); what runs goes on. For all processes:
    /// [`Queue::pause`](crate::queue::Queue::pause).
    pub fn pause(&self) {
        self.set(|setting| setting.paused = true);
    }

    /// Leases again, unless its queue is paused.
    pub fn resume(&self) {
        self.set(|setting| setting.paused = false);
    }

    /// Whether it is paused, by this handle or with its queue.
    pub fn is_paused(&self) -> bool {
        *self.0.admitted.borrow() == 0
    }

    /// The queue is paused for all processes, or is not.
    pub(super) fn hold(&self, held: bool) {
        self.set(|setting| setting.held = held);
    }

    /// Whether nobody has looked for this long whether the queue is paused; whoever asks looks now.
    pub(super) fn must_look(&self, now: Instant, every: Duration) -> bool {
        let mut setting = self.0.setting.lock();
        let due = setting.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= every);
        if due {
            setting.looked = Some(now);
        }
        due
    }

    /// Whether the queue is paused, as far as anybody has looked.
    pub(super) fn is_held(&self) -> bool {
        self.0.setting.lock().held
    }

    /// How many messages are worked on at once.
    pub fn concurrency(&self) -> usize {
        self.0.setting.lock().concurrency
    }

    /// Works on this many at once from now on: at least 1, at most what
    /// [`Consume::concurrency`](crate::queue::Consume::concurrency) gave it when it began to run. Those that are too
    /// many end with the message that they have in hand.
    pub fn set_concurrency(&self, workers: usize) {
        self.set(|setting| setting.concurrency = workers.max(1));
    }

    /// What was left when it stopped: told once its run has ended.
    pub fn left(&self) -> Left {
        self.0.left.lock().clone()
    }

    pub(super) fn begins(&self) {
        *self.0.left.lock() = Left::default();
    }

    pub(super) fn handed_back(&self, id: Id) {
        self.count(Fate::HandedBack);
        let mut left = self.0.left.lock();
        if left.handed_back.len() < LEFT {
            left.handed_back.push(id);
        }
    }

    pub(super) fn ends(&self, topic: Option<TopicStats>) {
        self.0.left.lock().topic = topic;
    }

    /// What became of the messages so far.
    pub fn tally(&self) -> Tally {
        let (counts, read) = (&self.0.counts, |count: &AtomicU64| count.load(Ordering::Relaxed));
        Tally {
            done: read(&counts.done),
            retried: read(&counts.retried),
            postponed: read(&counts.postponed),
            limited: read(&counts.limited),
            blocking: read(&counts.blocking),
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
            Fate::Limited => &counts.limited,
            Fate::Blocking => &counts.blocking,
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
