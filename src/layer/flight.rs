//! One call for all who want the same: the single flight that coalescing, the cache and idempotency share.

use crate::base::{
    Error, Kind, Result,
    sync::{
        Arc, Lock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Wake, Waker},
};

/// The call under way.
pub(crate) type Call<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Calls under way, one per key. Whoever waits for one drives it; when the last of them is gone, it is dropped.
pub(crate) struct Flights<K, T> {
    held: Lock<Held<K, T>>,
}

struct Held<K, T> {
    flights: BTreeMap<K, Arc<Flight<T>>>,
    limits: Limits,
    counts: Counts,
}

/// How many may be under way and how many may wait for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) flights: usize,
    pub(crate) waiters: usize,
}

/// What has become of those who came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) led: u64,
    pub(crate) joined: u64,
    pub(crate) refused: u64,
}

/// One call and those who wait for it. Locks are taken in the order: all flights, the state, the waiters.
struct Flight<T> {
    aboard: Arc<Aboard>,
    waker: Waker,
    state: Lock<State<T>>,
}

enum State<T> {
    /// Being made, or polled by somebody right now.
    Busy,
    Idle(Call<T>),
    Over(Result<Arc<T>>),
    /// All have left before it was over.
    Gone,
}

/// Those who wait. As the waker of the call it wakes them all: one of them may be held by a task that will never poll it
/// again, and only who is polled can drive.
pub(crate) struct Aboard {
    waiting: Lock<Waiting>,
    recalled: AtomicBool,
}

struct Waiting {
    /// Whether the call has been woken since it was last polled.
    due: bool,
    wakers: BTreeMap<u64, Option<Waker>>,
    tickets: u64,
}

impl Waiting {
    fn enter(&mut self) -> u64 {
        self.tickets += 1;
        self.wakers.insert(self.tickets, None);
        self.tickets
    }

    fn woken(&mut self) -> Vec<Waker> {
        self.wakers.values_mut().filter_map(Option::take).collect()
    }
}

impl Aboard {
    /// Whether its answer is still wanted by those who come later.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled.load(SeqCst)
    }

    fn wake_all(&self, due: bool) {
        let woken = {
            let mut waiting = self.waiting.lock();
            waiting.due |= due;
            waiting.woken()
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Aboard {
    fn wake(self: Arc<Self>) {
        self.wake_all(true);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all(true);
    }
}

impl<T> Flight<T> {
    fn new() -> Self {
        let waiting = Waiting { due: true, wakers: BTreeMap::new(), tickets: 0 };
        let aboard = Arc::new(Aboard { waiting: Lock::new(waiting), recalled: AtomicBool::new(false) });
        Flight { waker: Waker::from(aboard.clone()), aboard, state: Lock::new(State::Busy) }
    }

    fn is_over(&self) -> bool {
        matches!(*self.state.lock(), State::Over(_) | State::Gone)
    }

    /// The outcome, where it is there; the call, where it is this one's turn to drive it.
    fn look(&self, ticket: u64, waker: &Waker) -> Look<T> {
        let mut state = self.state.lock();
        if let State::Over(outcome) = &*state {
            return Look::Over(outcome.clone());
        }
        let mut waiting = self.aboard.waiting.lock();
        if let Some(slot) = waiting.wakers.get_mut(&ticket) {
            match slot {
                Some(known) => known.clone_from(waker),
                None => *slot = Some(waker.clone()),
            }
        }
        if !waiting.due || !matches!(*state, State::Idle(_)) {
            return Look::Wait;
        }
        waiting.due = false;
        match std::mem::replace(&mut *state, State::Busy) {
            State::Idle(call) => Look::Drive(call),
            other => {
                *state = other;
                Look::Wait
            }
        }
    }

    fn land(&self, state: State<T>) {
        let over = matches!(state, State::Over(_));
        let left = {
            let mut held = self.state.lock();
            match &*held {
                State::Gone => Some(state),
                _ => {
                    *held = state;
                    None
                }
            }
        };
        drop(left);
        if over || self.aboard.waiting.lock().due {
            self.aboard.wake_all(false);
        }
    }
}

enum Look<T> {
    Over(Result<Arc<T>>),
    Drive(Call<T>),
    Wait,
}

/// Sees to it that a panic of the call ends the flight: those who wait must not wait for ever.
struct Busy<'a, T>(Option<&'a Flight<T>>);

impl<T> Busy<'_, T> {
    fn land(mut self, state: State<T>) {
        if let Some(flight) = self.0.take() {
            flight.land(state);
        }
    }
}

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        if let Some(flight) = self.0.take() {
            flight.land(State::Over(Err(Error::new(Kind::Panicked, "the call that was shared"))));
        }
    }
}

impl<K: Ord + Clone, T> Flights<K, T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Flights { held: Lock::new(Held { flights: BTreeMap::new(), limits, counts: Counts::default() }) }
    }

    /// Waits for this key's call; where there is none, makes it.
    ///
    /// # Errors
    /// [`Kind::Overloaded`] where too many are under way, or too many wait for this one.
    pub(crate) fn join(self: &Arc<Self>, key: K, make: impl FnOnce(&Arc<Aboard>) -> Call<T>) -> Result<Waiter<K, T>> {
        let mut held = self.held.lock();
        let limits = held.limits;
        if let Some(flight) = held.flights.get(&key)
            && !flight.is_over()
        {
            let flight = flight.clone();
            let ticket = {
                let mut waiting = flight.aboard.waiting.lock();
                (waiting.wakers.len() < limits.waiters).then(|| waiting.enter())
            };
            let Some(ticket) = ticket else { return Err(refuse(&mut held, "too many wait for the same call")) };
            held.counts.joined += 1;
            return Ok(Waiter { flights: self.clone(), flight, key, ticket: Some(ticket), led: false });
        }
        if held.flights.len() >= limits.flights {
            return Err(refuse(&mut held, "too many different calls are under way"));
        }
        held.counts.led += 1;
        let flight = Arc::new(Flight::new());
        let ticket = flight.aboard.waiting.lock().enter();
        held.flights.insert(key.clone(), flight.clone());
        drop(held);
        let waiter = Waiter { flights: self.clone(), flight, key, ticket: Some(ticket), led: true };
        let busy = Busy(Some(&*waiter.flight));
        let call = make(&waiter.flight.aboard);
        busy.land(State::Idle(call));
        Ok(waiter)
    }

    /// Whether a call of this key is under way.
    pub(crate) fn has(&self, key: &K) -> bool {
        self.held.lock().flights.get(key).is_some_and(|flight| !flight.is_over())
    }

    /// Lets nobody else join the calls under way: of this key, or all. Those who wait for them go on.
    pub(crate) fn recall(&self, key: Option<&K>) {
        if let Some(key) = key {
            return self.recall_from(key, |other| other == key);
        }
        let recalled = std::mem::take(&mut self.held.lock().flights);
        recalled.values().for_each(|flight| flight.aboard.recalled.store(true, SeqCst));
    }

    /// As [`recall`](Self::recall), of all keys from this one on that are alike.
    pub(crate) fn recall_from(&self, first: &K, alike: impl Fn(&K) -> bool) {
        let mut held = self.held.lock();
        let keys: Vec<K> =
            held.flights.range(first..).map(|(key, _)| key).take_while(|key| alike(key)).cloned().collect();
        let recalled: Vec<_> = keys.iter().filter_map(|key| held.flights.remove(key)).collect();
        recalled.iter().for_each(|flight| flight.aboard.recalled.store(true, SeqCst));
    }

    pub(crate) fn limits(&self) -> Limits {
        self.held.lock().limits
    }

    pub(crate) fn set_limits(&self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.held.lock().limits);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.held.lock().counts
    }

    /// How many calls are under way, and how many wait for them, their callers included.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        let held = self.held.lock();
        let waiting = held.flights.values().map(|flight| flight.aboard.waiting.lock().wakers.len()).sum();
        (held.flights.len(), waiting)
    }

    /// Removes this flight, unless another has taken its place.
    fn remove(held: &mut Held<K, T>, key: &K, flight: &Arc<Flight<T>>) {
        if held.flights.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            held.flights.remove(key);
        }
    }
}

#[cold]
fn refuse<K, T>(held: &mut Held<K, T>, what: &'static str) -> Error {
    held.counts.refused += 1;
    Error::new(Kind::Overloaded, what)
}

/// One who waits for a call, and drives it when polled.
pub(crate) struct Waiter<K: Ord + Clone, T> {
    flights: Arc<Flights<K, T>>,
    flight: Arc<Flight<T>>,
    key: K,
    /// None once it has the outcome.
    ticket: Option<u64>,
    led: bool,
}

impl<K: Ord + Clone, T> Unpin for Waiter<K, T> {}

impl<K: Ord + Clone, T> Waiter<K, T> {
    /// Whether it was the first.
    pub(crate) fn led(&self) -> bool {
        self.led
    }

    /// One more who waits for the same call, beyond the limit: it goes on when this one leaves.
    pub(crate) fn another(&self) -> Self {
        let ticket = Some(self.flight.aboard.waiting.lock().enter());
        let (flights, flight, key) = (self.flights.clone(), self.flight.clone(), self.key.clone());
        Waiter { flights, flight, key, ticket, led: false }
    }

    /// The outcome, shared by all.
    pub(crate) fn poll_shared(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<T>>> {
        let Some(ticket) = self.ticket else { return Poll::Pending }; // polled after it was over: no answer is owed
        let mut call = match self.flight.look(ticket, cx.waker()) {
            Look::Wait => return Poll::Pending,
            Look::Over(outcome) => {
                self.leave();
                return Poll::Ready(outcome);
            }
            Look::Drive(call) => call,
        };
        let busy = Busy(Some(&*self.flight));
        match call.as_mut().poll(&mut Context::from_waker(&self.flight.waker)) {
            Poll::Pending => {
                busy.land(State::Idle(call));
                Poll::Pending
            }
            Poll::Ready(outcome) => {
                drop(call);
                let outcome = outcome.map(Arc::new);
                Flights::remove(&mut self.flights.held.lock(), &self.key, &self.flight);
                busy.land(State::Over(outcome.clone()));
                self.leave();
                Poll::Ready(outcome)
            }
        }
    }

    fn leave(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut held = self.flights.held.lock();
        let mut state = self.flight.state.lock();
        let last = {
            let mut waiting = self.flight.aboard.waiting.lock();
            waiting.wakers.remove(&ticket);
            waiting.wakers.is_empty()
        };
        let over = matches!(*state, State::Over(_));
        let left = (last && !over).then(|| std::mem::replace(&mut *state, State::Gone));
        if last || over {
            Flights::remove(&mut held, &self.key, &self.flight);
        }
        drop((state, held));
        drop(left); // the call: foreign code, so not under a lock
    }
}

impl<K: Ord + Clone, T: Clone> Future for Waiter<K, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_shared(cx).map_ok(|shared| Arc::try_unwrap(shared).unwrap_or_else(|shared| T::clone(&shared)))
    }
}

impl<K: Ord + Clone, T> Drop for Waiter<K, T> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(all(test, seedpod_loom))]
mod loom_model;

#[cfg(test)]
mod tests;
