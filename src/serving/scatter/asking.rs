//! A request on its way through its leaves: who is asked when, and when it is over.

use super::{
    answers::{Answer, Reply, Tally},
    call,
    fan::Fan,
    hedges::Hedges,
    leaves::Leaf,
    require::{Need, Require, Verdict},
    settings::Plan,
    sink::{End, Sink},
};
use crate::{
    base::{
        BoxError, Deadline, Error, Outcome,
        time::{self, Instant},
    },
    layer::{Metadata, timer::Timer},
};
use std::{
    ops::{
        ControlFlow::{self, Break, Continue},
        Range,
    },
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

mod closing;
mod moments;

/// Whether the rest waits for one leaf.
#[derive(Clone, Copy, PartialEq)]
enum Canary {
    Off,
    /// It is asked first, and may be silent for this long.
    First(Duration),
    /// It has been asked, and is waited for until then.
    Asked(Instant),
}

/// A request on its way through its leaves.
pub(super) struct Asking<S: Service<R>, R, K> {
    fan: Fan<S::Future>,
    leaves: Vec<Leaf<S, R>>,
    /// Of each leaf, where they are kept.
    replies: Vec<Reply<K>>,
    /// Those that failed, where others are not kept.
    told: Vec<Answer<K>>,
    asked: usize,
    hedges: Option<Box<Hedges<S, R>>>,
    tally: Tally,
    need: Need,
    answered: usize,
    failed: usize,
    /// The last failure.
    cause: Option<Error>,
    /// Time is up.
    over: bool,
    require: Require,
    until: Option<Instant>,
    at_once: usize,
    canary: Canary,
    /// Whether anything may happen by itself.
    timed: bool,
    /// Made when it has to wait: it is as large as all the rest.
    timer: Option<Pin<Box<Timer>>>,
}

impl<S: Service<R>, R, K> Asking<S, R, K> {
    /// Whoever was never asked is to blame for nothing, however this ends.
    #[inline]
    fn spare_the_unasked(&mut self) {
        for leaf in self.leaves.iter_mut().skip(self.asked) {
            leaf.fail(Outcome::Cancelled);
        }
    }
}

impl<S: Service<R>, R, K> Drop for Asking<S, R, K> {
    #[inline]
    fn drop(&mut self) {
        self.spare_the_unasked();
    }
}

impl<S, R, K> Asking<S, R, K>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    /// Of these leaves, none of them asked yet.
    #[inline(always)]
    pub(super) fn new(leaves: Vec<Leaf<S, R>>, plan: &Plan, until: Option<Instant>, keeps: bool) -> Self {
        let count = leaves.len();
        let hedges = plan.hedging.as_ref().map(|hedging| Box::new(Hedges::new(hedging.clone(), count)));
        Asking {
            fan: Fan::new(count),
            replies: (0..if keeps { count } else { 0 }).map(|_| Reply::Unsent).collect(),
            told: Vec::new(),
            asked: 0,
            hedges,
            tally: Tally::default(),
            need: plan.require.need(count),
            leaves,
            answered: 0,
            failed: 0,
            cause: None,
            over: false,
            require: plan.require,
            until,
            at_once: plan.at_once,
            timed: until.is_some() || plan.hedging.is_some() || plan.canary.is_some(),
            canary: plan.canary.map_or(Canary::Off, Canary::First),
            timer: None,
        }
    }

    /// Until it is over.
    #[inline]
    pub(super) fn poll<T: Sink<S::Response, Kept = K>>(&mut self, cx: &mut Context<'_>, sink: &mut T) -> Poll<End> {
        match self.turn(cx, sink) {
            Break(end) => Poll::Ready(end),
            Continue(()) => Poll::Pending,
        }
    }

    #[inline(always)]
    fn turn<T: Sink<S::Response, Kept = K>>(&mut self, cx: &mut Context<'_>, sink: &mut T) -> ControlFlow<End> {
        self.fan.register(cx);
        let mut words = 0..self.fan.words();
        loop {
            while let Some((word, mut due)) = self.fan.due(&mut words) {
                while due != 0 {
                    self.visit(word * 64 + due.trailing_zeros() as usize, cx, sink)?;
                    due &= due - 1;
                }
            }
            words = match self.asked < self.need.leaves {
                true => self.ask(),
                false => 0..0,
            };
            if words.is_empty() && (!self.timed || self.moment(cx, sink)?) {
                return Continue(());
            }
        }
    }

    /// Asks as many as may be asked now, which are due in these words.
    #[inline(never)]
    fn ask(&mut self) -> Range<usize> {
        let open = self.asked - self.answered - self.failed;
        let mut now = (self.need.leaves - self.asked).min(self.at_once.saturating_sub(open));
        match self.canary {
            Canary::Off => {}
            Canary::Asked(_) if open > 0 => now = 0,
            Canary::Asked(_) => now = now.min(1),
            Canary::First(within) => {
                now = 1;
                self.canary = Canary::Asked(time::after(time::now(), within));
            }
        }
        if now == 0 {
            return 0..0;
        }
        if self.until.is_some() || self.hedges.is_some() {
            self.prepare(now);
        }
        self.asked += now;
        self.fan.put(now)
    }

    /// Tells so many leaves when they must have answered, and what else is kept of them.
    #[inline(never)]
    fn prepare(&mut self, count: usize) {
        for leaf in self.leaves.iter_mut().skip(self.asked).take(count) {
            if let Some((until, request)) = self.until.zip(leaf.request.as_mut()) {
                request.set_deadline(Deadline::at(until));
            }
            if let Some(hedges) = &mut self.hedges {
                hedges.start(leaf.request.as_ref());
            }
        }
    }

    /// Polls the leaf at this place.
    #[inline(always)]
    fn visit<T: Sink<S::Response, Kept = K>>(
        &mut self,
        place: usize,
        cx: &mut Context<'_>,
        sink: &mut T,
    ) -> ControlFlow<End> {
        let Some(leaf) = self.leaves.get_mut(place) else { return Continue(()) };
        let polled = self.fan.visit(place, cx, |slot, cx| match &mut self.hedges {
            None => call::first(leaf, slot, cx),
            Some(hedges) => hedges.poll(place, leaf, slot, cx),
        });
        let response = match polled {
            Some(Poll::Ready(Ok(response))) => response,
            Some(Poll::Ready(Err(error))) => return self.fail(place, error, sink),
            _ => return Continue(()),
        };
        let (tally, kept) = match leaf.shared_name() {
            Some(name) => sink.answered(name, response),
            None => return Continue(()), // it has ended: it is not asked again
        };
        leaf.succeed(T::KEEPS);
        self.fan.end(place);
        self.answered += 1;
        if T::DEEP {
            self.tally = self.tally + tally;
        }
        self.canary = Canary::Off;
        let (kept, enough) = match kept {
            Continue(kept) => (kept, false),
            Break(kept) => (kept, true),
        };
        if T::KEEPS
            && let Some(reply) = self.replies.get_mut(place)
        {
            *reply = Reply::Answered(kept);
        }
        match enough {
            true => Break(End::Done),
            false if self.need.may_be_met(self.answered, self.failed) => self.judge::<T>(false),
            false => Continue(()),
        }
    }

    /// The same, where it is rare.
    #[inline(never)]
    fn visit_apart<T: Sink<S::Response, Kept = K>>(
        &mut self,
        place: usize,
        cx: &mut Context<'_>,
        sink: &mut T,
    ) -> ControlFlow<End> {
        self.visit(place, cx, sink)
    }

    #[cold]
    fn fail<T: Sink<S::Response, Kept = K>>(&mut self, place: usize, error: Error, sink: &mut T) -> ControlFlow<End> {
        let Some(leaf) = self.leaves.get_mut(place) else { return Continue(()) };
        self.fan.end(place);
        leaf.fail(Outcome::of(&error));
        let name = leaf.shared_name().cloned().unwrap_or_else(|| Arc::from(""));
        let error = error.at(name.clone());
        let tally = sink.failed(&name, &error);
        if T::DEEP {
            self.tally = self.tally + tally;
        }
        self.failed += 1;
        self.cause = Some(error.clone());
        let unsent = error.is_unsent();
        match self.replies.get_mut(place) {
            Some(reply) => *reply = Reply::Failed(error),
            None => self.told.push(Answer { name, reply: Reply::Failed(error) }),
        }
        self.judge::<T>(false)?;
        // what never left says nothing of the request: the next leaf is the canary
        if !unsent && matches!(self.canary, Canary::Asked(_)) { Break(End::Canary) } else { Continue(()) }
    }

    /// Whether it is over; `over`: time is up.
    #[inline(always)]
    fn judge<T: Sink<S::Response, Kept = K>>(&mut self, over: bool) -> ControlFlow<End> {
        if T::DEEP
            && let Require::Coverage(coverage) = self.require
        {
            // how many leaves there are is known when the last branch has said so
            if !over && self.answered + self.failed < self.need.leaves {
                return Continue(());
            }
            let (tally, open) = (self.tally, self.need.leaves - self.answered - self.failed);
            let enough = tally.answered >= coverage.of(tally.leaves().saturating_add(open));
            return Break(if enough { End::Done } else { self.short(over) });
        }
        match self.need.judge(self.answered, self.failed, over) {
            Verdict::Open => Continue(()),
            Verdict::Done => Break(End::Done),
            Verdict::Short => Break(self.short(over)),
        }
    }

    fn short(&self, over: bool) -> End {
        if over { End::Late } else { End::Short }
    }
}
