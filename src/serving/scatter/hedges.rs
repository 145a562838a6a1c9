//! Second attempts: of the leaves that are slow, elsewhere.

use super::{
    call::{self, Call},
    leaves::Leaf,
};
use crate::{
    base::{BoxError, Error, Outcome, Result, time, time::Instant},
    layer::{
        Budget, HedgeLayer, Metadata,
        attempt::{self, Tried},
        hedge::paid::{self, Paid},
    },
};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// When a leaf is asked a second time: [`Scatter::hedge`](super::Scatter::hedge).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Hedging {
    /// When it takes longer than most.
    Slow(HedgeLayer),
    /// Always.
    Tied(Tied),
}

impl From<HedgeLayer> for Hedging {
    fn from(layer: HedgeLayer) -> Self {
        Hedging::Slow(layer)
    }
}

impl From<Tied> for Hedging {
    fn from(tied: Tied) -> Self {
        Hedging::Tied(tied)
    }
}

/// Every leaf is asked twice, and the one that answers first cancels the other: where requests wait in servers' lines, the
/// shorter line counts, and the place in the other one is given back.
#[derive(Clone, Debug, Default)]
pub struct Tied {
    after: Duration,
    budget: Option<Budget>,
}

impl Tied {
    /// Both at once, under no budget.
    pub fn new() -> Self {
        Tied::default()
    }

    /// The second one this much later: by twice the time that a message takes, so that one that finds no line has begun
    /// and answered (Google's choice).
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// A budget that second attempts draw on; beyond it, a leaf is asked once.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }
}

impl Hedging {
    /// Counts so many leaves that are asked now, and tells after how long to ask them again.
    fn arrive(&self, leaves: usize, now: Instant) -> Option<Duration> {
        match self {
            Hedging::Slow(layer) => layer.arrive(leaves as u64, now),
            Hedging::Tied(tied) => {
                if let Some(budget) = &tied.budget {
                    budget.deposit_many(leaves as u64, now);
                }
                Some(tied.after)
            }
        }
    }

    fn pay(&self, now: Instant) -> Option<Paid> {
        match self {
            Hedging::Slow(layer) => layer.pay(now),
            Hedging::Tied(tied) => Paid::by(tied.budget.as_ref(), now),
        }
    }
}

/// The second attempts of one request's leaves.
pub(super) struct Hedges<S: Service<R>, R> {
    hedging: Hedging,
    /// None while it is not known which are slow: then latencies are recorded, and nobody is asked again.
    delay: Option<Duration>,
    list: Vec<Spare<S, R>>,
    /// The first one whose time has not come.
    next: usize,
}

struct Spare<S: Service<R>, R> {
    start: Instant,
    request: Option<R>,
    tried: Tried,
    second: Option<Second<S, R>>,
    /// The error of the first attempt, while the second goes on.
    failed: Option<Error>,
    first_over: bool,
    over: bool,
}

struct Second<S: Service<R>, R> {
    call: Pin<Box<Call<S, R>>>,
    start: Instant,
    paid: Option<Paid>,
}

impl<S, R> Hedges<S, R>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    /// For so many leaves, asked from now on.
    pub(super) fn new(hedging: Hedging, leaves: usize) -> Self {
        let delay = hedging.arrive(leaves, time::now());
        Hedges { hedging, delay, list: Vec::with_capacity(leaves), next: 0 }
    }

    /// The next leaf is asked now. One that is not is passed over.
    pub(super) fn start(&mut self, request: Option<&R>) {
        let request = request.filter(|request| self.delay.is_some() && request.is_idempotent());
        self.list.push(Spare {
            start: time::now(),
            request: request.and_then(Metadata::repeat),
            tried: Tried::default(),
            second: None,
            failed: None,
            first_over: false,
            over: false,
        });
    }

    /// When the next leaf is asked again.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(time::after(self.list.get(self.next)?.start, self.delay?))
    }

    /// A leaf whose time has come; each once.
    pub(super) fn next(&mut self, now: Instant) -> Option<usize> {
        while self.due().is_some_and(|due| due <= now) {
            let place = self.next;
            self.next += 1;
            if self.list.get(place).is_some_and(|spare| !spare.over && spare.request.is_some()) {
                return Some(place);
            }
        }
        None
    }

    /// Asks this leaf again, if the budgets allow it. Whether it does.
    pub(super) fn again(&mut self, place: usize, leaf: &Leaf<S, R>, now: Instant) -> bool {
        let Some(spare) = self.list.get_mut(place) else { return false };
        let Some(request) = spare.request.take() else { return false };
        let Some(paid) = self.hedging.pay(now) else { return false };
        let Some(call) = Call::again(leaf, request).map(Box::pin) else { return false };
        spare.second = Some(Second { call, start: now, paid: Some(paid) });
        true
    }

    /// Polls both attempts at this leaf. What it answers is the first success, or the first attempt's failure where both
    /// fail.
    #[inline(never)]
    pub(super) fn poll(
        &mut self,
        place: usize,
        leaf: &mut Leaf<S, R>,
        mut slot: Pin<&mut Option<S::Future>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response>> {
        let Hedges { hedging, list, .. } = self;
        let Some(spare) = list.get_mut(place).filter(|spare| !spare.over) else { return Poll::Pending };
        if !spare.first_over
            && let Poll::Ready(result) = spare.tried.follow(|| call::first(leaf, slot.as_mut(), cx))
        {
            spare.first_over = true;
            let now = time::now();
            record(hedging, &result, spare.start, now);
            match (result, spare.second.is_some()) {
                (Err(error), true) => {
                    leaf.fail(Outcome::of(&error));
                    spare.failed = Some(error);
                }
                (result, _) => return Poll::Ready(spare.end(hedging, result, now)),
            }
        }
        let Some(second) = &mut spare.second else { return Poll::Pending };
        let call = second.call.as_mut();
        let Poll::Ready(result) = spare.tried.follow(|| call.poll(cx)) else {
            paid::has_left(&mut second.paid, !second.call.is_waiting());
            return Poll::Pending;
        };
        let now = time::now();
        record(hedging, &result, second.start, now);
        paid::has_left(&mut second.paid, !result.as_ref().is_err_and(Error::is_unsent));
        spare.second = None;
        let result = match result {
            Err(_) => match spare.failed.take() {
                Some(first) => Err(first),
                None => return Poll::Pending, // the first attempt goes on
            },
            Ok(response) => {
                if let Hedging::Slow(layer) = hedging {
                    layer.won();
                    if !spare.first_over {
                        layer.record(now.saturating_duration_since(spare.start), now);
                    }
                }
                attempt::supersede(|| call::give_up(leaf, slot));
                Ok(response)
            }
        };
        Poll::Ready(spare.end(hedging, result, now))
    }

    /// The request is over: those that are open took at least so long.
    pub(super) fn close(&mut self) {
        if let Hedging::Slow(layer) = &self.hedging {
            let now = time::now();
            for spare in self.list.iter().filter(|spare| !spare.over) {
                layer.record(now.saturating_duration_since(spare.start), now);
            }
        }
        for spare in &mut self.list {
            spare.over = true;
            spare.second = None;
        }
    }
}

impl<S: Service<R>, R> Spare<S, R> {
    /// This leaf is over: a second attempt that goes on has lost, and took at least so long.
    fn end(&mut self, hedging: &Hedging, result: Result<S::Response>, now: Instant) -> Result<S::Response> {
        self.over = true;
        self.request = None;
        if let Some(second) = self.second.take() {
            if let Hedging::Slow(layer) = hedging {
                layer.record(now.saturating_duration_since(second.start), now);
            }
            attempt::supersede(|| drop(second));
        }
        result
    }
}

/// Failures say nothing of how long answers take; a time-out says that it takes at least so long.
fn record<T>(hedging: &Hedging, result: &Result<T>, start: Instant, now: Instant) {
    if let Hedging::Slow(layer) = hedging
        && result.as_ref().map_or_else(Error::is_timeout, |_| true)
    {
        layer.record(now.saturating_duration_since(start), now);
    }
}
