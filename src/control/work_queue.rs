//! Keys to be worked on: the shell around the decision.

use super::keys::Keys;
use crate::base::{
    Backoff, Deadline, Rng, Seed,
    sync::{Arc, Lock},
    time,
};
use std::{fmt, marker::PhantomData, ops::Deref, pin::pin, time::Duration};
use tokio::sync::Notify;

/// Keys to be worked on, shared by those who add and those who work; cheap to clone.
///
/// # Guarantees
/// - A key is in work at most once at any time, however many workers there are.
/// - A key that is added is worked on after that: at once, or where it is being worked on, once more when that is done.
///   However often it is added meanwhile, it is once.
/// - Keys are handed out in the order they were added.
/// - A [`Job`] that is dropped unfinished, as by a panic or a cancelled task, comes back after the back-off.
///
/// # Bounds
/// Whatever is added, it holds one entry per key that is queued, delayed, in work, or remembered for its failures;
/// [`forget`](WorkQueue::forget) ends the last. Nothing is ever refused or shed.
///
/// The rules are those of client-go's `workqueue`, and so are the defaults: failures come back after 5 ms, doubling up to
/// 1,000 s, without jitter (there is no second limit over all keys).
///
/// ```
/// use seedpod::control::WorkQueue;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let queue = WorkQueue::new();
/// queue.add("cart");
/// queue.add("cart");
/// let job = queue.get().await.unwrap();
/// assert_eq!((*job, queue.len()), ("cart", 0));
/// queue.add("cart"); // while it is in work: not handed out to another
/// assert_eq!(queue.len(), 0);
/// job.done();
/// assert_eq!(queue.len(), 1);
/// # });
/// ```
pub struct WorkQueue<K: Ord + Clone>(Arc<Shared<K>>);

struct Shared<K> {
    keys: Lock<Keys<K>>,
    backoff: Backoff,
    rng: Lock<Rng>,
    /// One waiter per key that can be taken; all of them when the earliest delay changes, since each sleeps until that.
    changed: Notify,
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// client-go's: 5 ms, doubling up to 1,000 s, exact.
    pub const BACKOFF: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1000)).exact();

    /// An empty queue with the default back-off.
    pub fn new() -> Self {
        Builder::default().build()
    }

    /// A queue with another back-off.
    pub fn builder() -> Builder<K> {
        Builder::default()
    }

    /// Adds a key: it will be worked on, once, after this.
    pub fn add(&self, key: K) {
        let one_more = self.0.keys.lock().add(key);
        if one_more {
            self.0.changed.notify_one();
        }
    }

    /// Adds a key when this time has passed. Of several delays for one key the one that ends first stands.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Deadline::within(delay).instant();
        let earliest = self.0.keys.lock().add_at(key, at);
        if earliest {
            self.0.changed.notify_waiters();
        }
    }

    /// Adds a key that has failed, after its back-off, which grows with each failure until it is
    /// [forgotten](WorkQueue::forget). Returns how long that is.
    pub fn add_rate_limited(&self, key: K) -> Duration {
        let failures = self.0.keys.lock().failed(&key);
        let delay = self.0.backoff.wait(failures, &mut self.0.rng.lock());
        self.add_after(key, delay);
        delay
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &K) {
        self.0.keys.lock().forget(key);
    }

    /// How often a key has failed since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.0.keys.lock().failures(key)
    }

    /// The next key to work on; waits for one. `None` once the queue is [shut down](WorkQueue::shut_down) and empty.
    ///
    /// **Cancel-safety**: safe; what it does not return stays queued.
    pub async fn get(&self) -> Option<Job<K>> {
        tokio::task::coop::consume_budget().await; // a queue that is never empty must not keep its worker from yielding
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable(); // before looking, so that nothing comes in between
            let due = {
                let mut keys = self.0.keys.lock();
                keys.advance(time::now());
                if let Some(key) = keys.take() {
                    drop(keys);
                    return Some(Job { queue: self.clone(), key, over: false });
                }
                if keys.is_closed() {
                    return None;
                }
                keys.next_due()
            };
            match due {
                None => changed.await,
                Some(due) => tokio::select! {
                    biased;
                    () = time::sleep_until(due) => {}
                    () = changed => {}
                },
            }
        }
    }

    /// Takes no more keys: adding does nothing from now on, and what waits for its time is dropped. What is queued is
    /// still handed out, and so are keys that were added while they were in work.
    pub fn shut_down(&self) {
        self.0.keys.lock().close();
        self.0.changed.notify_waiters();
    }

    /// How many keys can be taken now.
    pub fn len(&self) -> usize {
        self.0.keys.lock().queued()
    }

    /// Whether none can be taken now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys wait for their time.
    pub fn delayed(&self) -> usize {
        self.0.keys.lock().delayed()
    }

    /// How many keys are in work.
    pub fn in_work(&self) -> usize {
        self.0.keys.lock().busy()
    }
}

impl<K: Ord + Clone> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue(self.0.clone())
    }
}

impl<K: Ord + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        WorkQueue::new()
    }
}

impl<K: Ord + Clone> fmt::Debug for WorkQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.keys.lock();
        f.debug_struct("WorkQueue")
            .field("queued", &keys.queued())
            .field("delayed", &keys.delayed())
            .field("in_work", &keys.busy())
            .finish()
    }
}

/// A key in work: nobody else is given it until this is [done](Job::done).
///
/// Dropped before that it counts as failed, and comes back after its back-off.
#[must_use = "dropped unfinished, it comes back"]
pub struct Job<K: Ord + Clone> {
    queue: WorkQueue<K>,
    key: K,
    over: bool,
}

impl<K: Ord + Clone> Job<K> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The work is done. Where the key was added meanwhile, it is handed out again.
    pub fn done(mut self) {
        self.finish();
    }

    /// The work has failed: the key comes back after its back-off. Returns how long that is.
    pub fn retry(mut self) -> Duration {
        let delay = self.queue.add_rate_limited(self.key.clone());
        self.finish();
        delay
    }

    fn finish(&mut self) {
        self.over = true;
        let again = self.queue.0.keys.lock().done(&self.key);
        if again {
            self.queue.0.changed.notify_one();
        }
    }
}

impl<K: Ord + Clone> Drop for Job<K> {
    fn drop(&mut self) {
        if !self.over {
            self.queue.add_rate_limited(self.key.clone());
            self.finish();
        }
    }
}

impl<K: Ord + Clone> Deref for Job<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Ord + Clone + fmt::Debug> fmt::Debug for Job<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Job").field(&self.key).finish()
    }
}

/// The settings of a [`WorkQueue`].
#[derive(Debug)]
pub struct Builder<K> {
    backoff: Option<Backoff>,
    seed: Option<Seed>,
    keys: PhantomData<fn() -> K>,
}

impl<K: Ord + Clone> Builder<K> {
    /// How long a key waits after each failure.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// What the back-off's jitter is drawn from, where it has one.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The queue.
    pub fn build(self) -> WorkQueue<K> {
        let seed = self.seed.unwrap_or_else(Seed::ambient);
        WorkQueue(Arc::new(Shared {
            keys: Lock::new(Keys::new()),
            backoff: self.backoff.unwrap_or(WorkQueue::<K>::BACKOFF),
            rng: Lock::new(seed.fork("work queue").rng()),
            changed: Notify::new(),
        }))
    }
}

impl<K> Default for Builder<K> {
    fn default() -> Self {
        Builder { backoff: None, seed: None, keys: PhantomData }
    }
}
