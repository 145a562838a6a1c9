//! A request on its way through its leaves: who is asked when, and when it is over.

use super::{
    answers::{Answer, Answers, Reply, Shortfall, Tally},
    call,
    fan::Fan,
    hedges::Hedges,
    leaves::Leaf,
    require::{Need, Require, Verdict},
    settings::Plan,
};
use crate::{
    base::{
        BoxError, Deadline, Error, Kind, Outcome,
        time::{self, Instant},
    },
    layer::{Metadata, attempt, timer::Timer},
    serving::Lease,
};
use std::{
    cell::Cell,
    ops::ControlFlow::{self, Break, Continue},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// Takes what comes, in the order in which it comes.
pub(super) trait Sink<T> {
    /// What is kept of an answer.
    type Kept;

    /// Whether an answer stands for more leaves than one.
    const DEEP: bool;
    /// Whether it wants to know of each leaf by name in the end, and not only of those that failed.
    const KEEPS: bool;

    /// An answer; how many leaves it covers. A break says that no more are needed.
    fn answered(&mut self, name: &Arc<str>, answer: T) -> (Tally, ControlFlow<Self::Kept, Self::Kept>);

    /// A failure; how many leaves are lost with it.
    fn failed(&mut self, name: &Arc<str>, error: &Error) -> Tally;
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With what was required.
    Done,
    /// The requirement cannot be reached any more.
    Short,
    /// Time is up.
    Late,
    /// The canary failed, or was silent for too long.
    Canary,
}

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
    /// Made when it has to wait: it is as large as all the rest.
    timer: Option<Pin<Box<Timer>>>,
}

impl<S, R, K> Asking<S, R, K>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    /// Of these leaves, none of them asked yet.
    #[inline]
    pub(super) fn new(leaves: Vec<Leaf<S, R>>, plan: &Plan, until: Option<Instant>, keeps: bool) -> Self {
        let count = leaves.len();
        let hedges = plan.hedging.clone().map(|hedging| Box::new(Hedges::new(hedging, count)));
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
        for word in 0..self.fan.words() {
            let mut woken = self.fan.woken(word);
            while woken != 0 {
                self.visit(word * 64 + woken.trailing_zeros() as usize, cx, sink)?;
                woken &= woken - 1;
            }
        }
        if self.asked < self.need.leaves {
            self.start(cx, sink)?;
        }
        while let Some(at) = self.next_moment() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(Timer::default()));
            if timer.as_mut().poll_until(at, cx).is_pending() && !is_last_call(at) {
                return Continue(());
            }
            if self.until == Some(at) {
                return self.last_call(cx, sink);
            }
            if self.canary == Canary::Asked(at) {
                return Break(End::Canary);
            }
            let now = time::now().max(at);
            while let Some(place) = self.hedges.as_mut().and_then(|hedges| hedges.next(now)) {
                let (Some(hedges), Some(leaf)) = (&mut self.hedges, self.leaves.get(place)) else { continue };
                if hedges.again(place, leaf, now) {
                    self.visit(place, cx, sink)?;
                }
            }
            self.start(cx, sink)?;
        }
        Continue(())
    }

    /// Asks those whose turn it is, and sees what they say at once.
    #[inline]
    fn start<T: Sink<S::Response, Kept = K>>(&mut self, cx: &mut Context<'_>, sink: &mut T) -> ControlFlow<End> {
        loop {
            self.ask();
            let Some(place) = self.fan.fresh() else { return Continue(()) };
            self.visit(place, cx, sink)?;
        }
    }

    /// Asks as many as may be asked now.
    #[inline(always)]
    fn ask(&mut self) {
        let open = self.asked - self.answered - self.failed;
        let mut now = (self.need.leaves - self.asked).min(self.at_once.saturating_sub(open));
        match self.canary {
            Canary::Off => {}
            Canary::Asked(_) if open > 0 => return,
            Canary::Asked(_) => now = now.min(1),
            Canary::First(within) => {
                now = 1;
                self.canary = Canary::Asked(time::after(time::now(), within));
            }
        }
        if self.until.is_some() || self.hedges.is_some() {
            self.prepare(now);
        }
        self.fan.put(now);
        self.asked += now;
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
            None => sink.answered(&Arc::from(""), response),
        };
        if T::KEEPS {
            leaf.keep_name();
        }
        leaf.lease.settle(Outcome::Success);
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

    #[cold]
    fn fail<T: Sink<S::Response, Kept = K>>(&mut self, place: usize, error: Error, sink: &mut T) -> ControlFlow<End> {
        let Some(leaf) = self.leaves.get_mut(place) else { return Continue(()) };
        self.fan.end(place);
        call::settle(leaf, &error);
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
            let enough = tally.answered >= coverage.of(tally.leaves() + open);
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

    /// Time is up: what has an answer by now gives it, then it is decided.
    #[cold]
    fn last_call<T: Sink<S::Response, Kept = K>>(&mut self, cx: &mut Context<'_>, sink: &mut T) -> ControlFlow<End> {
        self.over = true;
        let _last = LastCall::begin();
        for place in 0..self.asked {
            self.visit(place, cx, sink)?;
        }
        self.judge::<T>(true)?;
        Break(End::Late)
    }

    /// The next moment at which something happens by itself.
    #[inline(always)]
    fn next_moment(&self) -> Option<Instant> {
        let canary = match self.canary {
            Canary::Asked(until) => Some(until),
            _ => None,
        };
        let hedge = self.hedges.as_ref().and_then(|hedges| hedges.due());
        if canary.is_none() && hedge.is_none() {
            return self.until;
        }
        [self.until, canary, hedge].into_iter().flatten().min()
    }

    /// Gives up all that is open, and tells what became of each leaf.
    pub(super) fn close<T: Sink<S::Response, Kept = K>>(&mut self, end: End) -> Answers<K> {
        let late = self.over || end == End::Canary;
        let open = self.asked - self.answered - self.failed;
        if !T::DEEP {
            (self.tally.answered, self.tally.failed) = (self.answered, self.failed);
        }
        let unsent = self.need.leaves - self.asked;
        self.tally.unsent += unsent;
        if open > 0 {
            *(if late { &mut self.tally.late } else { &mut self.tally.dropped }) += open;
            let given_up = || if late { Reply::Late } else { Reply::Dropped };
            let unanswered = self.replies.iter_mut().take(self.asked).filter(|reply| matches!(reply, Reply::Unsent));
            unanswered.for_each(|reply| *reply = given_up());
        }
        if T::KEEPS {
            self.leaves.iter_mut().for_each(Leaf::keep_name);
        }
        if open > 0 || unsent > 0 {
            let mut over = || {
                if let Some(hedges) = &mut self.hedges {
                    hedges.close();
                }
                self.fan.clear();
                self.leaves.iter_mut().for_each(|leaf| leaf.lease = Lease::none());
            };
            match end {
                _ if late => attempt::time_out(over),
                End::Done => attempt::supersede(over),
                _ => over(),
            }
        }
        let mut list = std::mem::take(&mut self.told);
        if T::KEEPS {
            let (leaves, replies) = (std::mem::take(&mut self.leaves), std::mem::take(&mut self.replies));
            let named = |(leaf, reply): (Leaf<S, R>, Reply<K>)| Some(Answer { name: leaf.name?, reply });
            list = leaves.into_iter().zip(replies).filter_map(named).collect();
        }
        Answers { list, tally: self.tally }
    }

    /// Why it was not reached.
    #[cold]
    pub(super) fn error<T: Sink<S::Response, Kept = K>>(&self, end: End, answers: &Answers<K>) -> Error {
        let tally = answers.tally;
        let needed = match self.require {
            Require::Coverage(coverage) if T::DEEP => coverage.of(tally.leaves()),
            _ => self.need.answers,
        };
        let (kind, message) = match (end, &self.cause) {
            (End::Canary, Some(error)) => (error.kind(), "the canary failed, and the others were not asked".into()),
            (End::Canary, None) => (Kind::Timeout, "the canary was silent, and the others were not asked".into()),
            (End::Late, _) | (_, None) => (Kind::Timeout, format!("{needed} leaves were needed by the deadline")),
            (_, Some(error)) => (error.kind(), format!("{needed} leaves were needed")),
        };
        let mut error = Error::new(kind, format!("scatter: {message}: {tally}"));
        if let Some(wait) = self.cause.as_ref().filter(|_| end != End::Late).and_then(Error::retry_after) {
            error = error.after(wait);
        }
        if tally.answered + tally.late + tally.dropped == 0 && answers.failed().all(|(_, error)| error.is_unsent()) {
            error = error.unsent();
        }
        error.because(Shortfall { tally, needed, failed: answers.failures() })
    }
}

thread_local! {
    /// Whether leaves are polled for the last time, since time is up.
    static LAST_CALL: Cell<bool> = const { Cell::new(false) };
}

/// A branch's time is up at the same moment as the tree's. It must say what it has when the tree asks for the last time,
/// whether its own timer has fired by then or not.
fn is_last_call(at: Instant) -> bool {
    LAST_CALL.get() && time::now() >= at
}

struct LastCall(bool);

impl LastCall {
    fn begin() -> Self {
        LastCall(LAST_CALL.replace(true))
    }
}

impl Drop for LastCall {
    fn drop(&mut self) {
        LAST_CALL.set(self.0);
    }
}
