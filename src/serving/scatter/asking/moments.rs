//! What happens by itself as time passes: the deadline, the canary's silence, second attempts.

use super::{
    super::sink::{End, Sink},
    Asking, Canary,
};
use crate::{
    base::{
        BoxError,
        time::{self, Instant},
    },
    layer::{Metadata, timer::Timer},
};
use std::{
    cell::Cell,
    ops::ControlFlow::{self, Break, Continue},
    task::Context,
};
use tower::Service;

impl<S, R, K> Asking<S, R, K>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    /// Does what is to be done by now. True when it waits: for the next moment, or for nothing but the leaves.
    #[inline(never)]
    pub(super) fn moment<T: Sink<S::Response, Kept = K>>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut T,
    ) -> ControlFlow<End, bool> {
        let Some(at) = self.next_moment() else { return Continue(true) };
        let timer = self.timer.get_or_insert_with(|| Box::pin(Timer::default()));
        if timer.as_mut().poll_until(at, cx).is_pending() && !is_last_call(at) {
            return Continue(true);
        }
        if self.until == Some(at) {
            return Break(self.last_call(cx, sink));
        }
        if self.canary == Canary::Asked(at) {
            return Break(End::Canary);
        }
        let now = time::now().max(at);
        while let Some(place) = self.hedges.as_mut().and_then(|hedges| hedges.next(now)) {
            let (Some(hedges), Some(leaf)) = (&mut self.hedges, self.leaves.get(place)) else { continue };
            if hedges.again(place, leaf, now) {
                self.visit_apart(place, cx, sink)?;
            }
        }
        Continue(false)
    }

    /// Time is up: what has an answer by now gives it, then it is decided.
    #[cold]
    fn last_call<T: Sink<S::Response, Kept = K>>(&mut self, cx: &mut Context<'_>, sink: &mut T) -> End {
        self.over = true;
        let _last = LastCall::begin();
        for place in 0..self.asked {
            if let Break(end) = self.visit_apart(place, cx, sink) {
                return end;
            }
        }
        match self.judge::<T>(true) {
            Break(end) => end,
            Continue(()) => End::Late,
        }
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
