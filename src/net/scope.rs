//! What dies together: the tasks and sockets of one container instance.

use super::socket::Socket;
use crate::base::{Error, Kind, Result, Rng, Seed, sync::Lock};
use pin_project_lite::pin_project;
use slab::Slab;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};

/// The tasks and sockets of one container instance: they end together.
///
/// A cheap handle. It is also the executor that is handed to hyper and tonic, so that what they spawn is tracked too.
///
/// # Kill
///
/// [`kill`](Scope::kill) does, in this order:
///
/// 1. marks the scope dead: nothing new starts in it, and whatever is dropped from now on resets instead of closing;
/// 2. aborts its tasks: each stops at its next await and never resumes;
/// 3. resets its streams and closes its listeners: peers see a reset, and so does any task that still holds an end.
///
/// ```
/// use seedpod::net::Scope;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let scope = Scope::default();
/// let task = scope.spawn(std::future::pending::<()>());
/// assert_eq!(scope.tasks(), 1);
/// scope.kill();
/// scope.gone().await;
/// assert!(task.await.unwrap_err().is_cancelled());
/// # });
/// ```
///
/// # Not guaranteed
///
/// A bare `tokio::spawn` is not tracked: it outlives a kill until it touches a stream of the scope. A task that never
/// awaits cannot be stopped. Counting panics needs unwinding: with `panic = "abort"` the first one ends the process.
#[derive(Clone, Default)]
pub struct Scope(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Lock<State>,
    empty: Notify,
    perturb: Option<Seed>,
}

#[derive(Default)]
struct State {
    dead: bool,
    panics: u32,
    spawned: u64,
    /// The number tells a task from a later one under the same key.
    tasks: Slab<(u64, Option<AbortHandle>)>,
    sockets: Slab<Socket>,
}

impl Scope {
    /// A scope whose tasks skip one poll in eight, by a coin seeded per task: other interleavings, each of them
    /// repeatable by its seed.
    pub fn perturbed(mut rng: Rng) -> Self {
        Scope(Arc::new(Inner { perturb: Some(Seed::new(rng.next_u64())), ..Inner::default() }))
    }

    /// Spawns a task that [`kill`](Scope::kill) aborts. In a dead scope the future is dropped unpolled, and the handle
    /// says cancelled.
    ///
    /// The task's panic ends that task alone and is counted; the handle tells it, if anybody asks.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut state = self.0.state.lock();
        if state.dead {
            drop(state); // before the future, whose drop is foreign code
            drop(future);
            let handle = tokio::spawn(std::future::pending());
            handle.abort();
            return handle;
        }
        state.spawned += 1;
        let number = state.spawned;
        let key = insert(&mut state.tasks, (number, None));
        drop(state);
        let coin = self.0.perturb.map(|seed| seed.fork_index(number).rng());
        let handle = tokio::spawn(Tracked { future, coin, entry: TaskEntry { scope: self.clone(), key } });
        let mut state = self.0.state.lock();
        if state.dead {
            handle.abort(); // killed in between, when there was no handle to abort by
        } else if let Some((owner, slot)) = state.tasks.get_mut(key)
            && *owner == number
        {
            *slot = Some(handle.abort_handle());
        }
        drop(state);
        handle
    }

    /// Ends everything in it, at once and for good; see the order above. Doing it again does nothing.
    pub fn kill(&self) {
        let (tasks, sockets) = {
            let mut state = self.0.state.lock();
            state.dead = true;
            let tasks: Vec<_> = state.tasks.iter_mut().filter_map(|(_, (_, handle))| handle.take()).collect();
            (tasks, std::mem::take(&mut state.sockets))
        };
        for task in tasks {
            task.abort();
        }
        for (_, socket) in &sockets {
            socket.cut();
        }
        if self.tasks() == 0 {
            self.0.empty.notify_waiters();
        }
    }

    /// Waits until it has no task. After a kill that is soon; before, it waits for all to end by themselves.
    ///
    /// **Cancel-safety**: may be dropped at any time.
    pub async fn gone(&self) {
        loop {
            let empty = self.0.empty.notified(); // before the look, so that no end is missed
            if self.tasks() == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.0.state.lock().dead
    }

    /// How many tasks have not ended.
    pub fn tasks(&self) -> usize {
        self.0.state.lock().tasks.len()
    }

    /// How many streams and listeners are open.
    pub fn sockets(&self) -> usize {
        self.0.state.lock().sockets.len()
    }

    /// How many tasks ended by a panic.
    pub fn panics(&self) -> usize {
        self.0.state.lock().panics as usize
    }

    /// Takes in a socket. Refused once dead.
    pub(super) fn register(&self, socket: Socket) -> Result<SocketEntry> {
        let mut state = self.0.state.lock();
        if state.dead {
            return Err(Error::new(Kind::Closed, "the container was killed"));
        }
        Ok(SocketEntry { key: insert(&mut state.sockets, socket), scope: self.clone() })
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("Scope")
            .field("dead", &state.dead)
            .field("tasks", &state.tasks.len())
            .field("sockets", &state.sockets.len())
            .field("panics", &state.panics)
            .finish()
    }
}

/// Most scopes have one task and one socket for all their life: the first takes no room for more.
fn insert<T>(slab: &mut Slab<T>, value: T) -> usize {
    if slab.capacity() == 0 {
        slab.reserve_exact(1);
    }
    slab.insert(value)
}

/// A socket's place in its scope.
pub(super) struct SocketEntry {
    scope: Scope,
    key: usize,
}

impl SocketEntry {
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Gives up the place; tells whether the scope was killed.
    pub(super) fn remove(&self) -> bool {
        let mut state = self.scope.0.state.lock();
        if state.dead {
            return true; // the kill took all of them
        }
        let socket = state.sockets.try_remove(self.key);
        drop(state);
        drop(socket);
        false
    }
}

struct TaskEntry {
    scope: Scope,
    key: usize,
}

impl Drop for TaskEntry {
    fn drop(&mut self) {
        let mut state = self.scope.0.state.lock();
        if std::thread::panicking() {
            state.panics += 1;
        }
        let task = state.tasks.try_remove(self.key);
        let empty = state.tasks.is_empty();
        drop(state);
        drop(task); // after the lock: dropping a handle may free the task
        if empty {
            self.scope.0.empty.notify_waiters();
        }
    }
}

pin_project! {
    // fields drop in order: the entry goes last, so that "no tasks" means "no futures"
    struct Tracked<F> {
        #[pin]
        future: F,
        coin: Option<Rng>,
        entry: TaskEntry,
    }
}

impl<F: Future> Future for Tracked<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(coin) = this.coin
            && coin.below(8) == 0
        {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_scope_starts_nothing() {
        let scope = Scope::default();
        scope.kill();
        let dropped = Arc::new(());
        let held = dropped.clone();
        let end = scope.spawn(async move { drop(held) }).await;
        assert!(end.unwrap_err().is_cancelled());
        assert_eq!((Arc::strong_count(&dropped), scope.tasks()), (1, 0));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone_and_is_counted() {
        let scope = Scope::default();
        let other = scope.spawn(std::future::pending::<()>());
        assert!(scope.spawn(async { panic!("on purpose") }).await.unwrap_err().is_panic());
        assert_eq!((scope.panics(), scope.tasks(), other.is_finished()), (1, 1, false));
        scope.kill();
        scope.gone().await;
        assert_eq!(scope.panics(), 1);
    }

    #[tokio::test]
    async fn a_task_may_kill_its_own_scope() {
        let scope = Scope::default();
        let own = scope.clone();
        let end = scope.spawn(async move {
            own.kill();
            tokio::task::yield_now().await;
            unreachable!("it stops at its next await");
        });
        assert!(end.await.unwrap_err().is_cancelled());
        scope.gone().await;
    }

    /// Two tasks count up; in which order they take turns depends on the coin, and on nothing else.
    async fn order(seed: u64) -> Vec<u8> {
        let scope = Scope::perturbed(Seed::new(seed).rng());
        let log = Arc::new(Lock::new(Vec::new()));
        for name in 0..3 {
            let log = log.clone();
            scope.spawn(async move {
                for _ in 0..20 {
                    log.lock().push(name);
                    tokio::task::yield_now().await;
                }
            });
        }
        scope.gone().await;
        let log = log.lock();
        log.clone()
    }

    #[tokio::test]
    async fn perturbed_turns_repeat_by_seed() {
        assert_eq!(order(1).await, order(1).await);
        assert_ne!(order(1).await, order(2).await);
    }
}
