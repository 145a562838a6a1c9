//! The pump: changed keys of a store → Service.

use super::{
    WorkQueue,
    source::{Feed, Source},
    worker::Worker,
};
use crate::{
    base::{
        Backoff, BoxError, Error, Kind, Result, Seed,
        sync::{
            Lock,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    },
    store::{Change, Key, Store},
};
use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::task::{AbortHandle, JoinHandle};
use tower::Service;

/// What a handler says of a key when it has done its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more until something changes.
    Done,
    /// Again after this time, or sooner if something changes.
    After(Duration),
}

/// A pump that calls the service with each key that something changes for.
///
/// From all sources together it adds keys to one [`WorkQueue`]: at first those of everything that is there, then those
/// of each change. Workers take them and call the service, which looks up what is there now and does one step.
///
/// # Guarantees
/// - For one key the service is called once at a time; for different keys up to [`concurrency`](Reconcile::concurrency)
///   calls run at once.
/// - After the last change of a key the service is called for it at least once more, and sees at least that change.
/// - A call that fails or panics is counted and logged, and made again after the key's back-off; a call that succeeds
///   ends the back-off.
/// - Each worker calls a clone of its own, when that is ready.
/// - Told to stop, it takes no more changes, finishes what is queued, and ends.
///
/// # Not guaranteed
/// Each single change is not told: what is there counts. Keys may come again although nothing has changed.
///
/// # Bounds
/// One queue entry per key, and for each source one handle of each entry under its prefix, so that who wants to know
/// ([`keys`](Reconcile::keys)) is told what was there before. A handler that never ends keeps its worker: put a
/// deadline in front of it.
///
/// It is a [`Container`](crate::pod::Container): a pod runs it, again after a failure. Without a pod,
/// [`run_until`](Reconcile::run_until) does. Each run begins with everything that is there.
///
/// Clones are handles of the same pump, to read its [`stats`](Reconcile::stats).
pub struct Reconcile<V, S> {
    source: Source<V>,
    more: Vec<Arc<dyn Feed>>,
    service: S,
    settings: Settings,
    state: Arc<State>,
}

#[derive(Clone)]
struct Settings {
    name: Arc<str>,
    concurrency: usize,
    backoff: Backoff,
    resync: Option<Duration>,
    seed: Option<Seed>,
}

#[derive(Default)]
pub(super) struct State {
    /// Of the latest run.
    queue: Lock<Option<WorkQueue<Key>>>,
    pub(super) succeeded: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) panicked: AtomicU64,
}

/// A pump from this store to this service: without more being said, every key of the store, one at a time.
///
/// ```no_run
/// # use seedpod::{control::{self, Next}, store::{Key, Store}};
/// # use std::{convert::Infallible, sync::Arc, time::Duration};
/// # #[derive(Clone)] struct Pod { owner: String }
/// # async fn example(pods: Store<Pod>, sets: Store<u32>) {
/// let step = tower::service_fn(|set: Key| async move { Ok::<_, Infallible>(Next::After(Duration::from_secs(60))) });
/// let controller = control::reconcile(sets, step)
///     .named("replica sets")
///     .also(pods, "pods/", |change| change.values().map(|pod| Key::new(&pod.owner)).collect())
///     .concurrency(4);
/// controller.run_until(std::future::pending::<()>()).await.unwrap();
/// # }
/// ```
pub fn reconcile<V, S>(store: Store<V>, service: S) -> Reconcile<V, S>
where
    V: Clone + Send + Sync + 'static,
    S: Service<Key, Response = Next> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    let concerns = Arc::new(|change: &Change<V>| change.entries().iter().map(|entry| entry.key.clone()).collect());
    Reconcile {
        source: Source { store, prefix: "".into(), concerns },
        more: Vec::new(),
        service,
        settings: Settings {
            name: "reconcile".into(),
            concurrency: 1,
            backoff: WorkQueue::<Key>::BACKOFF,
            resync: None,
            seed: None,
        },
        state: Arc::default(),
    }
}

impl<V: Clone + Send + Sync + 'static, S> Reconcile<V, S> {
    /// Only what is under this [prefix](Key). Everything by default.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.source.prefix = prefix.into();
        self
    }

    /// Which keys are to be worked on because of a change. By default the changed entry's own.
    ///
    /// It is told [`Put`](Change::Put)s and [`Remove`](Change::Remove)s only, one by one, and a `Put` always with the
    /// value before where there was one, however much the watch had to skip: [`Change::values`] gives both, so that
    /// both the owner before and the owner now can be named.
    #[must_use]
    pub fn keys(mut self, concerns: impl Fn(&Change<V>) -> Vec<Key> + Send + Sync + 'static) -> Self {
        self.source.concerns = Arc::new(concerns);
        self
    }

    /// Watches another prefix, of this or another store, for changes that concern keys of the same queue.
    #[must_use]
    pub fn also<W: Clone + Send + Sync + 'static>(
        mut self,
        store: Store<W>,
        prefix: &str,
        concerns: impl Fn(&Change<W>) -> Vec<Key> + Send + Sync + 'static,
    ) -> Self {
        self.more.push(Arc::new(Source { store, prefix: prefix.into(), concerns: Arc::new(concerns) }));
        self
    }

    /// How many keys may be in work at once. 1 by default, as in controller-runtime; 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls.max(1);
        self
    }

    /// How long a key waits after each failure. 5 ms, doubling up to 1,000 s, exact by default, as in client-go.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Works on every key again each time this has passed: for what changes without the store being told. Never by
    /// default.
    #[must_use]
    pub fn resync(mut self, period: Duration) -> Self {
        self.settings.resync = Some(period.max(Duration::from_millis(1)));
        self
    }

    /// What the back-off's jitter is drawn from, where it has one.
    #[must_use]
    pub fn seed(mut self, seed: Seed) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// What it is called in the log. `reconcile` by default.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// What it has done so far, in all its runs, and what it has before it.
    pub fn stats(&self) -> Stats {
        let queue = self.state.queue.lock().clone();
        Stats {
            succeeded: self.state.succeeded.load(Relaxed),
            failed: self.state.failed.load(Relaxed),
            panicked: self.state.panicked.load(Relaxed),
            queued: queue.as_ref().map_or(0, WorkQueue::len),
            delayed: queue.as_ref().map_or(0, WorkQueue::delayed),
            in_work: queue.as_ref().map_or(0, WorkQueue::in_work),
        }
    }
}

impl<V, S> Reconcile<V, S>
where
    V: Clone + Send + Sync + 'static,
    S: Service<Key, Response = Next> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// Pumps until the future ends, then finishes what is queued. Its workers are tasks; they end with it.
    ///
    /// # Errors
    /// [`Panicked`](Kind::Panicked) when a worker is lost, which a panic of the service's calls does not do.
    ///
    /// **Cancel-safety**: dropped, it ends at once; calls under way stop at their next await.
    pub async fn run_until(&self, stop: impl Future) -> Result {
        let spawn = |worker| tokio::spawn(worker);
        self.pump(Surroundings { spawn: &spawn, report: Arc::new(|_| ()), seed: Seed::ambient() }, stop).await
    }

    pub(super) async fn pump(&self, around: Surroundings<'_>, stop: impl Future) -> Result {
        let seed = self.settings.seed.unwrap_or(around.seed);
        let queue: WorkQueue<Key> = WorkQueue::builder().backoff(self.settings.backoff).seed(seed).build();
        *self.state.queue.lock() = Some(queue.clone());
        let workers = (0..self.settings.concurrency).map(|_| {
            let worker = Worker {
                queue: queue.clone(),
                service: self.service.clone(),
                name: self.settings.name.clone(),
                state: self.state.clone(),
                report: around.report.clone(),
            };
            (around.spawn)(Box::pin(worker.run()))
        });
        let mut workers: FuturesUnordered<_> = workers.collect();
        let _aborts = Aborts(workers.iter().map(JoinHandle::abort_handle).collect());
        {
            let first = std::iter::once(self.source.feed(queue.clone(), self.settings.resync));
            let more = self.more.iter().map(|source| source.feed(queue.clone(), self.settings.resync));
            let sources = join_all(first.chain(more));
            tokio::select! {
                biased;
                _ = pin!(stop) => {}
                _ = workers.next() => return Err(Error::new(Kind::Panicked, "a worker is lost").at(&*self.settings.name)),
                _ = sources => {}
            }
        }
        queue.shut_down();
        while let Some(end) = workers.next().await {
            end.map_err(|_| Error::new(Kind::Panicked, "a worker is lost").at(&*self.settings.name))?;
        }
        Ok(())
    }
}

/// What a run stands in.
pub(super) struct Surroundings<'a> {
    pub(super) spawn: &'a (dyn Fn(BoxFuture<'static, ()>) -> JoinHandle<()> + Send + Sync),
    /// Told what fails, beside the log of the process.
    pub(super) report: Report,
    /// Where no other was given.
    pub(super) seed: Seed,
}

pub(super) type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// Ends the workers with the pump.
struct Aborts(Vec<AbortHandle>);

impl Drop for Aborts {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl<V, S: Clone> Clone for Reconcile<V, S> {
    fn clone(&self) -> Self {
        Reconcile {
            source: self.source.clone(),
            more: self.more.clone(),
            service: self.service.clone(),
            settings: self.settings.clone(),
            state: self.state.clone(),
        }
    }
}

impl<V, S> fmt::Debug for Reconcile<V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconcile")
            .field("name", &self.settings.name)
            .field("prefix", &self.source.prefix)
            .field("concurrency", &self.settings.concurrency)
            .finish_non_exhaustive()
    }
}

/// What a [`Reconcile`] has done and has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that ended well.
    pub succeeded: u64,
    /// Calls that failed, those that panicked among them.
    pub failed: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// Keys that wait for a worker.
    pub queued: usize,
    /// Keys that wait for their time.
    pub delayed: usize,
    /// Keys in work.
    pub in_work: usize,
}
