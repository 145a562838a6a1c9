//! The commit loop: on a thread of its own, or in a simulation as a task.

pub(crate) use super::rhythm::{Answered, Waiting};
use super::{
    Disk, Write,
    rhythm::{Next, Rhythm},
};
use crate::base::{
    Error, Kind, Result,
    sync::{
        Lock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle, Thread},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// How long a commit takes in a simulation, so that others come meanwhile.
const SIMULATED: Duration = Duration::from_millis(1);

/// What is committed together.
pub(crate) trait Group: Send + Sync + 'static {
    /// What there is to commit.
    fn waiting(&self) -> Waiting;

    /// Takes all of it; at the end also what says that it was an orderly one.
    fn collect(&self, last: bool) -> Vec<Write>;

    /// It is on the disk, or nothing more ever will be. Answers those who waited.
    fn committed(&self, outcome: Result) -> Answered;
}

/// Wakes the loop, when enough calls have come.
#[derive(Default)]
struct Bell {
    enough: AtomicUsize,
    /// The loop knows that something is unsaid, and has a timer for it.
    timed: AtomicBool,
    closing: AtomicBool,
    notify: Notify,
    thread: Lock<Option<Thread>>,
}

impl Bell {
    fn ring(&self) {
        match &*self.thread.lock() {
            Some(thread) => thread.unpark(),
            None => self.notify.notify_one(),
        }
    }
}

/// A group and its loop, until dropped: which commits what is left, in order.
pub(crate) struct Running<G: Group> {
    disk: Arc<Disk>,
    group: Arc<G>,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl<G: Group> Running<G> {
    /// Opens on the commit thread, where reading and checking a whole file holds up nobody.
    pub(crate) async fn on_thread(
        open: impl FnOnce() -> Result<(Arc<Disk>, Arc<G>)> + Send + 'static,
    ) -> Result<Running<G>> {
        let bell = Arc::new(Bell::default());
        let (opened, wait) = oneshot::channel();
        let theirs = bell.clone();
        // not `spawn_blocking`: it lives as long as the file is open; and never in a simulation
        let thread = thread::Builder::new().name("seedpod-disk".into()).spawn(move || {
            *theirs.thread.lock() = Some(thread::current());
            let (disk, group) = match open() {
                Ok(open) => open,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok((disk.clone(), group.clone()))).is_ok() {
                let ran = catch_unwind(AssertUnwindSafe(|| on_thread(&disk, &*group, &theirs)));
                if ran.is_err() {
                    // nobody is left to answer: say so, rather than let them wait
                    group.committed(Err(disk.give_up(Error::new(Kind::Panicked, "the commit thread panicked"))));
                }
            } else {
                disk.close(); // nobody waits for it any more
            }
        });
        let thread = thread.map_err(|error| Error::new(Kind::Unavailable, "no thread to commit on").because(error))?;
        let ended = || Error::new(Kind::Panicked, "the commit thread ended while opening");
        let (disk, group) = wait.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(Running { disk, group, bell, thread: Some(thread), task: None })
    }

    /// As a task of the simulation that runs here.
    pub(crate) fn in_simulation(open: impl FnOnce() -> Result<(Arc<Disk>, Arc<G>)>) -> Result<Running<G>> {
        let (disk, group) = open()?;
        let bell = Arc::new(Bell::default());
        let task = tokio::spawn(as_task(disk.clone(), group.clone(), bell.clone()));
        Ok(Running { disk, group, bell, thread: None, task: Some(task) })
    }

    pub(crate) fn group(&self) -> &Arc<G> {
        &self.group
    }

    /// A call has come, which waits for the next commit with so many in all.
    pub(crate) fn call(&self, calls: usize) {
        if calls >= self.bell.enough.load(Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// Something is to be written that nobody waits for.
    pub(crate) fn unsaid(&self) {
        if !self.bell.timed.swap(true, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    /// The disk has failed: the loop must tell all who wait.
    pub(crate) fn failed(&self) {
        self.bell.ring();
    }
}

/// Commits what there is; whether it goes on.
fn commit<G: Group>(disk: &Disk, group: &G, rhythm: &mut Rhythm, last: bool) -> bool {
    let began = time::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| disk.commit(group.collect(last))));
    let panicked = |_| Err(disk.give_up(Error::new(Kind::Panicked, "a commit panicked while it was put together")));
    let outcome = outcome.unwrap_or_else(panicked);
    let well = outcome.is_ok();
    let ended = time::now();
    rhythm.committed(began, ended, group.committed(outcome));
    well
}

/// What to do next. The threshold is set before the calls are counted again: none that comes in between is missed.
fn next<G: Group>(disk: &Disk, group: &G, bell: &Bell, rhythm: &mut Rhythm) -> Next {
    let closing = bell.closing.load(Ordering::SeqCst);
    bell.enough.store(rhythm.enough(group.waiting()), Ordering::SeqCst);
    let waiting = group.waiting();
    bell.timed.store(waiting.unsaid, Ordering::SeqCst);
    if let Some(failure) = disk.failure() {
        group.committed(Err(failure));
        return Next::End;
    }
    rhythm.next(time::now(), waiting, closing)
}

fn on_thread<G: Group>(disk: &Disk, group: &G, bell: &Bell) {
    let mut rhythm = Rhythm::default();
    loop {
        match next(disk, group, bell, &mut rhythm) {
            Next::Commit => {
                if !commit(disk, group, &mut rhythm, false) {
                    return;
                }
            }
            Next::Wait(None) => thread::park(),
            Next::Wait(Some(wait)) => thread::park_timeout(wait),
            Next::End => return,
        }
    }
}

async fn as_task<G: Group>(disk: Arc<Disk>, group: Arc<G>, bell: Arc<Bell>) {
    let mut rhythm = Rhythm::default();
    loop {
        let rung = bell.notify.notified();
        match next(&disk, &*group, &bell, &mut rhythm) {
            Next::Commit => {
                time::sleep(SIMULATED).await;
                if !commit(&disk, &*group, &mut rhythm, false) {
                    return;
                }
            }
            Next::Wait(None) => rung.await,
            Next::Wait(Some(wait)) => {
                tokio::select! {
                    biased;
                    () = rung => {}
                    () = time::sleep(wait) => {}
                }
            }
            Next::End => return,
        }
    }
}

impl<G: Group> Drop for Running<G> {
    /// Waits for the commit under way and one more: what was decided is kept, and the end was an orderly one.
    fn drop(&mut self) {
        self.bell.closing.store(true, Ordering::SeqCst);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if self.disk.failure().is_none() {
            commit(&self.disk, &*self.group, &mut Rhythm::default(), true);
        }
        self.disk.close();
    }
}
