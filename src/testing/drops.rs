//! Does a call that is dropped leave anything behind?

use crate::base::{
    Error, Kind, Result,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::sleep,
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// Up to how many times a call is polled before it is dropped.
pub const POLLS: usize = 200;

/// What [`Slow`] takes: so many polls until it is ready, so many more until it answers.
const READY: u32 = 20;
const ANSWER: u32 = 80;

/// Drops a call after any number of polls, 0 to [`POLLS`], and compares what is left with what was there before.
///
/// `call` makes a call, anew for each number; `left` says what a call may leak, as far as one can see it: permits, leases,
/// lengths of queues, counts. A millisecond passes before each poll, so that timers fire on the way; a call that ends
/// earlier is dropped then. Whatever is given back must be so at once: only what was woken may run before `left` is asked.
///
/// Run it with time paused.
///
/// # Errors
/// [`Kind::Failed`] with the number of polls and what was left. [`Kind::Invalid`] where less than a tenth of the calls were
/// dropped unfinished, or less than a tenth ended: then it proves nothing.
///
/// ```
/// use seedpod::{layer::{ConcurrencyLimitLayer, Request}, testing::drops};
/// use tower::{Layer, ServiceExt};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let (slow, layer) = (drops::Slow::new(Request::<u32>::into_message), ConcurrencyLimitLayer::shed(1));
/// let (service, handle) = (layer.layer(slow.clone()), layer.handle());
/// let call = || service.clone().oneshot(Request::new(1));
/// let report = drops::check(call, || (slow.under_way(), handle.in_flight())).await?;
/// assert_eq!(report.dropped + report.ended, 201);
/// # Ok::<(), seedpod::Error>(()) }).unwrap();
/// ```
pub async fn check<F, L>(mut call: impl FnMut() -> F, mut left: impl FnMut() -> L) -> Result<Report>
where
    F: Future,
    L: PartialEq + fmt::Debug,
{
    let (before, mut report) = (left(), Report::default());
    for polls in 0..=POLLS {
        let mut call = Box::pin(call());
        let mut over = false;
        for _ in 0..polls {
            sleep(Duration::from_millis(1)).await;
            over = futures::poll!(call.as_mut()).is_ready();
            if over {
                break;
            }
        }
        drop(call);
        tokio::task::yield_now().await;
        *(if over { &mut report.ended } else { &mut report.dropped }) += 1;
        let after = left();
        if after != before {
            let what = if over { "ended" } else { "dropped" };
            let message = format!("{what} after {polls} polls, a call leaves {after:?} where {before:?} was before");
            return Err(Error::new(Kind::Failed, message));
        }
    }
    let Report { dropped, ended } = report;
    if dropped.min(ended) <= POLLS / 10 {
        let message = format!("{dropped} calls were dropped and {ended} ended: too few of one to prove anything");
        return Err(Error::new(Kind::Invalid, message));
    }
    Ok(report)
}

/// What became of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Dropped before they had ended.
    pub dropped: usize,
    /// Ended within the polls they were given.
    pub ended: usize,
}

/// A service to drop calls of: each instance is ready at its 20th poll, and an answer comes at the 80th after that. It
/// counts the calls under way in it.
pub struct Slow<Req, Res> {
    answer: Arc<dyn Fn(Req) -> Res + Send + Sync>,
    under_way: Arc<AtomicU32>,
    polls: u32,
}

impl<Req, Res> Slow<Req, Res> {
    /// Answers like this.
    pub fn new(answer: impl Fn(Req) -> Res + Send + Sync + 'static) -> Self {
        Slow { answer: Arc::new(answer), under_way: Arc::default(), polls: 0 }
    }

    /// How many calls are under way, in all its clones.
    pub fn under_way(&self) -> u32 {
        self.under_way.load(SeqCst)
    }
}

impl<Req, Res> Clone for Slow<Req, Res> {
    fn clone(&self) -> Self {
        Slow { answer: self.answer.clone(), under_way: self.under_way.clone(), polls: 0 }
    }
}

impl<Req, Res> fmt::Debug for Slow<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slow({} under way)", self.under_way())
    }
}

/// Counts a poll; ready at this one.
fn count(polls: &mut u32, until: u32, cx: &mut Context<'_>) -> Poll<()> {
    *polls += 1;
    if *polls >= until {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl<Req, Res> Service<Req> for Slow<Req, Res> {
    type Response = Res;
    type Error = Error;
    type Future = Slowly<Req, Res>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        count(&mut self.polls, READY, cx).map(Ok)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.polls = 0;
        self.under_way.fetch_add(1, SeqCst);
        Slowly { service: self.clone(), request: Some(request), polls: 0 }
    }
}

/// The future of [`Slow`].
pub struct Slowly<Req, Res> {
    service: Slow<Req, Res>,
    request: Option<Req>,
    polls: u32,
}

impl<Req, Res> Unpin for Slowly<Req, Res> {}

impl<Req, Res> Future for Slowly<Req, Res> {
    type Output = Result<Res>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.request.is_none() || count(&mut self.polls, ANSWER, cx).is_pending() {
            return Poll::Pending;
        }
        match self.request.take() {
            Some(request) => Poll::Ready(Ok((self.service.answer)(request))),
            None => Poll::Pending,
        }
    }
}

impl<Req, Res> Drop for Slowly<Req, Res> {
    fn drop(&mut self) {
        self.service.under_way.fetch_sub(1, SeqCst);
    }
}

impl<Req, Res> fmt::Debug for Slowly<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slowly({} polls)", self.polls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    /// A permit is taken while a call is under way, and given back in one of these ways.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Back {
        AtOnce,
        InATask,
        WhenItEnds,
        OnlyWhereItWasNotReady,
    }

    async fn permits(back: Back) -> Result<Report> {
        let (slow, taken) = (Slow::new(|n: u32| n), Arc::new(AtomicU32::new(0)));
        struct Permit(Arc<AtomicU32>, Back, bool);
        impl Drop for Permit {
            fn drop(&mut self) {
                let (taken, over) = (self.0.clone(), self.2);
                match self.1 {
                    Back::AtOnce => drop(taken.fetch_sub(1, SeqCst)),
                    Back::InATask => drop(tokio::spawn(async move {
                        sleep(Duration::from_millis(1)).await;
                        taken.fetch_sub(1, SeqCst);
                    })),
                    Back::WhenItEnds if !over => {}
                    Back::OnlyWhereItWasNotReady if over => {}
                    _ => drop(taken.fetch_sub(1, SeqCst)),
                }
            }
        }
        let call = || {
            let (service, taken) = (slow.clone(), taken.clone());
            async move {
                taken.fetch_add(1, SeqCst);
                let mut permit = Permit(taken, back, false);
                let answer = service.oneshot(1).await;
                permit.2 = true;
                answer
            }
        };
        check(call, || (taken.load(SeqCst), slow.under_way())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_that_does_not_come_back_is_found_at_its_poll() {
        let report = permits(Back::AtOnce).await.unwrap();
        assert_eq!((report.dropped, report.ended), (99, 102), "the 99th poll ends it: it is ready and called in one");
        for (back, message) in [
            (Back::InATask, "dropped after 1 polls, a call leaves (1, 0) where (0, 0) was before"),
            (Back::WhenItEnds, "dropped after 1 polls, a call leaves (1, 0) where (0, 0) was before"),
            (Back::OnlyWhereItWasNotReady, "ended after 99 polls, a call leaves (1, 0) where (0, 0) was before"),
        ] {
            assert_eq!(permits(back).await.unwrap_err().message(), message, "{back:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_never_end_or_end_at_once_prove_nothing() {
        let never = check(std::future::pending::<()>, || ()).await.unwrap_err();
        assert_eq!(never.message(), "201 calls were dropped and 0 ended: too few of one to prove anything");
        assert_eq!(check(|| std::future::ready(()), || ()).await.unwrap_err().kind(), Kind::Invalid);
    }
}
