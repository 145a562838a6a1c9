//! Places for calls under way, and a line for those that wait for one: what the limits share.

use super::timer::Timer;
use crate::base::{
    Error, Kind,
    sync::{Arc, Lock},
    time::{self, Instant},
};
use pin_project_lite::pin_project;
use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

/// So many calls at a time, so many more in line, first come first served.
pub(crate) struct Gate {
    core: Lock<Core>,
    what: &'static str,
}

/// The decision. In line stands only who finds no place, and a place that comes free goes to the first in line at once,
/// so nobody who comes later overtakes.
#[derive(Debug)]
struct Core {
    limit: u32,
    line: u32,
    patience: Duration,
    in_flight: u32,
    waiting: BTreeMap<u64, Waker>,
    tickets: u64,
    refused: u64,
}

#[derive(Debug, PartialEq)]
enum Entry {
    /// A place, the so-manieth.
    Place(u32),
    /// This ticket. Its holder has a place once the ticket is no longer in line.
    Line(u64),
    Full,
}

impl Core {
    fn enter(&mut self, waker: &Waker) -> Entry {
        if self.in_flight < self.limit {
            self.in_flight += 1;
            return Entry::Place(self.in_flight);
        }
        if self.waiting.len() >= self.line as usize {
            self.refused += 1;
            return Entry::Full;
        }
        self.tickets += 1;
        self.waiting.insert(self.tickets, waker.clone());
        Entry::Line(self.tickets)
    }

    /// A place comes free; whom to wake for it.
    fn leave(&mut self) -> Option<Waker> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.admit()
    }

    fn admit(&mut self) -> Option<Waker> {
        if self.in_flight >= self.limit {
            return None;
        }
        let (_, waker) = self.waiting.pop_first()?;
        self.in_flight += 1;
        Some(waker)
    }
}

impl Gate {
    /// `what` is said to those who find no place, neither here nor in line.
    pub(crate) fn new(limit: u32, line: u32, what: &'static str) -> Self {
        let (waiting, patience) = (BTreeMap::new(), Duration::MAX);
        Gate { core: Lock::new(Core { limit, line, patience, in_flight: 0, waiting, tickets: 0, refused: 0 }), what }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.core.lock().limit
    }

    /// Changes the limit. Calls beyond a lower one end as they would; nobody is let in until they have.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.change_limit(limit).into_iter().for_each(Waker::wake);
    }

    /// As [`set_limit`](Self::set_limit), where the caller holds a lock: whom to wake once it holds none.
    #[must_use = "those who are let in must be woken"]
    pub(crate) fn change_limit(&self, limit: u32) -> Vec<Waker> {
        let mut core = self.core.lock();
        core.limit = limit;
        std::iter::from_fn(|| core.admit()).collect()
    }

    /// Changes how many may stand in line; who stands there stays.
    pub(crate) fn set_line(&self, line: u32) {
        self.core.lock().line = line;
    }

    /// Changes how long to stand in line, for who comes from now on.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.core.lock().patience = patience;
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.core.lock().in_flight
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.core.lock().waiting.len() as u32
    }

    pub(crate) fn refused(&self) -> u64 {
        self.core.lock().refused
    }

    fn leave(&self) {
        let woken = self.core.lock().leave();
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    #[cold]
    fn refuse(&self) -> Error {
        Error::new(Kind::Overloaded, self.what).unsent()
    }

    #[cold]
    fn give_up(&self) -> Error {
        self.core.lock().refused += 1;
        Error::new(Kind::Overloaded, "waited too long for a place").unsent()
    }
}

/// One call's place, or its ticket. Dropped, it gives back what it has.
struct Place {
    gate: Arc<Gate>,
    at: At,
}

enum At {
    Outside,
    Line(u64),
    /// With this many under way, itself included.
    Inside(u32),
}

impl Place {
    fn poll_enter(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32, Error>> {
        match self.at {
            At::Inside(beside) => return Poll::Ready(Ok(beside)),
            At::Outside => {
                let entry = self.gate.core.lock().enter(cx.waker());
                match entry {
                    Entry::Place(beside) => self.at = At::Inside(beside),
                    Entry::Full => return Poll::Ready(Err(self.gate.refuse())),
                    Entry::Line(ticket) => {
                        self.at = At::Line(ticket);
                        return Poll::Pending;
                    }
                }
            }
            At::Line(ticket) => {
                let mut core = self.gate.core.lock();
                if let Some(waker) = core.waiting.get_mut(&ticket) {
                    waker.clone_from(cx.waker());
                    return Poll::Pending;
                }
                self.at = At::Inside(core.in_flight);
            }
        }
        self.poll_enter(cx)
    }

    fn leave(&mut self) {
        match std::mem::replace(&mut self.at, At::Outside) {
            At::Outside => {}
            At::Inside(_) => self.gate.leave(),
            At::Line(ticket) => {
                let waited = self.gate.core.lock().waiting.remove(&ticket);
                if waited.is_none() {
                    self.gate.leave(); // let in, and gone before it knew
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

pin_project! {
    /// The way in for one call: nothing is held before the first poll.
    pub(crate) struct Entrance {
        place: Place,
        until: Option<Instant>,
        #[pin]
        timer: Timer,
    }
}

impl Entrance {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Entrance { place: Place { gate, at: At::Outside }, until: None, timer: Timer::default() }
    }

    /// Ready with a place, which is held until [`leave`](Self::leave) or drop, and how many are under way with it.
    pub(crate) fn poll_enter(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<u32, Error>> {
        let this = self.project();
        if let Poll::Ready(entered) = this.place.poll_enter(cx) {
            return Poll::Ready(entered);
        }
        let gate = &this.place.gate;
        let until = *this.until.get_or_insert_with(|| {
            let patience = gate.core.lock().patience;
            super::deadline::until(time::now(), patience, None)
        });
        ready!(this.timer.poll_until(until, cx));
        this.place.leave();
        Poll::Ready(Err(this.place.gate.give_up()))
    }

    /// Gives the place back.
    pub(crate) fn leave(self: Pin<&mut Self>) {
        self.project().place.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;
    use std::collections::VecDeque;

    #[test]
    fn two_hundred_thousand_steps_keep_limit_line_and_order() {
        let mut rng = Seed::new(3).rng();
        let gate = Gate::new(3, 5, "");
        let mut core = gate.core.lock();
        // the model: how many are in, and the tickets in line in their order
        let (mut inside, mut line) = (0_u32, VecDeque::new());
        let (mut queued, mut full, mut admitted) = (0, 0, 0);
        for step in 0..200_000 {
            match rng.below(7) {
                0..3 => match core.enter(Waker::noop()) {
                    Entry::Place(beside) => {
                        assert!(line.is_empty(), "step {step}: it overtook");
                        inside += 1;
                        assert_eq!(beside, inside);
                    }
                    Entry::Line(ticket) => {
                        queued += 1;
                        line.push_back(ticket);
                    }
                    Entry::Full => {
                        full += 1;
                        assert!(inside >= core.limit && line.len() >= core.line as usize, "step {step}");
                    }
                },
                3..5 if inside > 0 => {
                    inside -= 1;
                    if core.leave().is_some() {
                        admitted += 1;
                        inside += 1;
                        line.pop_front().unwrap();
                    }
                }
                5 if !line.is_empty() => {
                    let gone = line.remove(rng.below(line.len() as u64) as usize).unwrap();
                    assert!(core.waiting.remove(&gone).is_some());
                }
                6 if rng.chance(0.1) => {
                    core.limit = rng.range(1..6) as u32;
                    core.line = rng.below(8) as u32;
                    while core.admit().is_some() {
                        inside += 1;
                        line.pop_front().unwrap();
                    }
                }
                _ => {}
            }
            assert_eq!(core.in_flight, inside, "step {step}");
            assert!(core.waiting.keys().eq(line.iter()), "step {step}");
            assert!(line.is_empty() || inside >= core.limit, "step {step}: a place is free and somebody waits");
        }
        assert!(queued > 10_000 && full > 10_000 && admitted > 10_000, "{queued} {full} {admitted}");
        assert_eq!(core.refused, full);
    }

    #[test]
    fn threads_that_race_never_exceed_the_limit_and_leave_nothing_behind() {
        use crate::base::sync::atomic::{AtomicU32, Ordering::SeqCst};
        let (gate, inside, most) = (Arc::new(Gate::new(3, 2, "")), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for _ in 0..2_000 {
                        let mut place = Place { gate: gate.clone(), at: At::Outside };
                        if runtime.block_on(std::future::poll_fn(|cx| place.poll_enter(cx))).is_ok() {
                            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            std::hint::spin_loop();
                            inside.fetch_sub(1, SeqCst);
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(SeqCst)), "{most:?}");
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}
