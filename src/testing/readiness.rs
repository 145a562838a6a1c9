//! Does a layer keep the rule of readiness?

use crate::base::{
    BoxError, Deadline, Error, Kind, Result,
    sync::{
        Lock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};
use tower::Service;

/// How long a call may take once nothing holds it back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts a layer, or a whole stack, through every way in which readiness can go wrong.
///
/// `layer` builds the service under test around the probe; it is called anew for each scenario, and clones that it makes
/// do not count. `request` makes requests, `answer` the probe's answers.
///
/// 1. The probe is ready and answers at once; several calls in a row on one handle.
/// 2. The probe becomes ready late; its answer comes late.
/// 3. It fails: while becoming ready, and in its answer, for good and retryably.
/// 4. The caller gives up: before the first poll, while the probe is not ready, while its answer is due.
///
/// **Checked**: no instance is called that has not become ready since its last call (so a layer must call the very
/// instance that it made ready); whoever polled last is woken; dropping the call drops what is under way, and nothing is
/// called later; each attempt clones the probe at most once; every call ends.
///
/// Run it with time paused, so that back-off and time-outs pass at once.
///
/// # Errors
/// [`Kind::Failed`] with every violation in its message.
///
/// ```
/// use seedpod::{layer::{DeadlineLayer, Request, RetryLayer}, testing::readiness};
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let request = || Request::new(1).idempotent();
/// let report = readiness::check(request, Request::into_message, |probe| {
///     let deadline = DeadlineLayer::new(Duration::from_secs(5));
///     ServiceBuilder::new().layer(deadline).layer(RetryLayer::new()).service(probe)
/// }).await?;
/// assert!(report.calls > report.clones);
/// # Ok::<(), seedpod::Error>(()) }).unwrap();
/// ```
pub async fn check<Req, Res, S>(
    request: impl Fn() -> Req,
    answer: impl Fn(Req) -> Res + Send + Sync + 'static,
    layer: impl Fn(Probe<Req, Res>) -> S,
) -> Result<Report>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    let (answer, mut report, mut violations) = (Arc::new(answer), Report::default(), Vec::new());
    for scenario in SCENARIOS {
        let answer = answer.clone();
        let shared = Arc::new(Shared { answer: Box::new(move |request| answer(request)), seen: Lock::default() });
        let service = layer(Probe { shared: shared.clone(), instance: 0, ready: false });
        shared.seen.lock().clones = 0;
        scenario.run(service, &request, &shared.seen).await;
        let seen = shared.seen.lock();
        violations.extend(seen.violations.iter().map(|what| format!("{}: {what}", scenario.name)));
        report.calls += seen.calls;
        report.clones += seen.clones;
        report.cancelled += seen.cancelled;
    }
    match violations.len() {
        0 => Ok(report),
        count => Err(Error::new(Kind::Failed, format!("{count} violations of readiness: {}", violations.join("; ")))),
    }
}

/// What a layer did to the probe, over all scenarios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Calls that reached the probe.
    pub calls: u64,
    /// Clones made of it after the layer was built.
    pub clones: u64,
    /// Calls that were dropped before they had ended.
    pub cancelled: u64,
}

struct Scenario {
    name: &'static str,
    ready: Gate,
    answer: Gate,
    then: Then,
}

/// What holds the probe back, if anything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Gate {
    #[default]
    Open,
    Shut,
    Fail(Kind),
}

enum Then {
    /// Opens what is shut and lets the call end; this many calls in a row.
    End { calls: u32 },
    /// Drops the call after this many polls.
    Drop { polls: u32 },
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "at once", ready: Gate::Open, answer: Gate::Open, then: Then::End { calls: 3 } },
    Scenario { name: "ready late", ready: Gate::Shut, answer: Gate::Open, then: Then::End { calls: 2 } },
    Scenario { name: "answered late", ready: Gate::Open, answer: Gate::Shut, then: Then::End { calls: 2 } },
    Scenario { name: "never ready", ready: Gate::Fail(Kind::Failed), answer: Gate::Open, then: Then::End { calls: 1 } },
    Scenario { name: "failed", ready: Gate::Open, answer: Gate::Fail(Kind::Failed), then: Then::End { calls: 2 } },
    Scenario {
        name: "failed for now",
        ready: Gate::Open,
        answer: Gate::Fail(Kind::Unavailable),
        then: Then::End { calls: 2 },
    },
    Scenario { name: "dropped unpolled", ready: Gate::Open, answer: Gate::Shut, then: Then::Drop { polls: 0 } },
    Scenario { name: "dropped before ready", ready: Gate::Shut, answer: Gate::Shut, then: Then::Drop { polls: 2 } },
    Scenario { name: "dropped in flight", ready: Gate::Open, answer: Gate::Shut, then: Then::Drop { polls: 2 } },
];

impl Scenario {
    async fn run<Req, S>(&self, mut service: S, request: impl Fn() -> Req, seen: &Lock<Seen>)
    where
        S: Service<Req>,
        S::Error: Into<BoxError> + 'static,
    {
        match self.then {
            Then::End { calls } => {
                for _ in 0..calls {
                    set(seen, self.ready, self.answer);
                    let before = seen.lock().counts();
                    let ready = match hold(seen, |cx| service.poll_ready(cx)).await {
                        Some(ready) => Some(ready),
                        None => patiently(seen, poll_fn(|cx| service.poll_ready(cx))).await,
                    };
                    if !matches!(ready, Some(Ok(()))) {
                        continue; // passed on from the probe, which will not become ready
                    }
                    let mut call = Box::pin(service.call(request()));
                    if hold(seen, |cx| call.as_mut().poll(cx)).await.is_none() {
                        drop(patiently(seen, call).await);
                    }
                    self.judge(before, &mut seen.lock());
                }
            }
            Then::Drop { polls } => {
                set(seen, self.ready, self.answer);
                if !matches!(service.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(()))) {
                    return; // the call has not begun
                }
                let mut call = Box::pin(service.call(request()));
                for _ in 0..polls {
                    let ended = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                    if ended {
                        return seen.lock().violation("it ended without the probe");
                    }
                }
                drop(call);
                settle().await;
                let calls = seen.lock().calls;
                if seen.lock().in_flight > 0 {
                    seen.lock().violation("dropping the call did not drop what was under way");
                }
                set(seen, Gate::Open, Gate::Open);
                settle().await;
                if seen.lock().calls > calls {
                    seen.lock().violation("it was called after the caller had given up");
                }
            }
        }
    }

    /// Counts what one call did, from these counts of calls and clones to those of now.
    fn judge(&self, before: (u64, u64), seen: &mut Seen) {
        let (calls, clones) = (seen.calls - before.0, seen.clones - before.1);
        match self.ready {
            Gate::Fail(_) if calls > 0 => seen.violation("it was called although it had failed to become ready"),
            Gate::Fail(_) => {}
            _ if calls == 0 => seen.violation("the call never reached it"),
            _ if clones > calls => seen.violation(format!("{clones} clones for {calls} attempts")),
            _ => {}
        }
    }
}

/// While the probe holds back: polls twice, each time with another waker, lets the probe go on, and sees to it that the
/// last waker is woken. The output, where it came in spite of that; none where it is still to come.
async fn hold<T>(seen: &Lock<Seen>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    if !seen.lock().holds_back() {
        return None;
    }
    let wakers = [Arc::new(Flag::default()), Arc::new(Flag::default())];
    for flag in &wakers {
        if let Poll::Ready(output) = poll(&mut Context::from_waker(&Waker::from(flag.clone()))) {
            return Some(output);
        }
    }
    open(seen);
    settle().await;
    let [_, last] = wakers;
    if !last.0.load(SeqCst) {
        seen.lock().violation("whoever polled last was not woken");
    }
    None
}

/// Waits for what nothing holds back any more.
async fn patiently<F: Future>(seen: &Lock<Seen>, future: F) -> Option<F::Output> {
    let output = Deadline::within(PATIENCE).bound(future).await.ok();
    if output.is_none() {
        seen.lock().violation("it never ended");
    }
    output
}

/// Lets tasks run that a layer may have spawned.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// The service inside the layer under test: each instance becomes ready for one call of its own.
pub struct Probe<Req, Res> {
    shared: Arc<Shared<Req, Res>>,
    instance: u64,
    ready: bool,
}

struct Shared<Req, Res> {
    answer: Box<dyn Fn(Req) -> Res + Send + Sync>,
    seen: Lock<Seen>,
}

#[derive(Default)]
struct Seen {
    ready: Gate,
    answer: Gate,
    instances: u64,
    calls: u64,
    clones: u64,
    in_flight: u64,
    cancelled: u64,
    /// Who waits, by instance or by call; only the last waker of each counts.
    waiting: BTreeMap<(bool, u64), Waker>,
    violations: Vec<String>,
}

/// Sets both gates and wakes whoever waits, not under the lock: it is the layer's code that runs then.
fn set(seen: &Lock<Seen>, ready: Gate, answer: Gate) {
    let waiting = {
        let mut seen = seen.lock();
        (seen.ready, seen.answer) = (ready, answer);
        std::mem::take(&mut seen.waiting)
    };
    waiting.into_values().for_each(Waker::wake);
}

/// Opens what is shut.
fn open(seen: &Lock<Seen>) {
    let opened = |gate| if gate == Gate::Shut { Gate::Open } else { gate };
    let (ready, answer) = seen.lock().gates();
    set(seen, opened(ready), opened(answer));
}

impl Seen {
    fn gates(&self) -> (Gate, Gate) {
        (self.ready, self.answer)
    }

    fn holds_back(&self) -> bool {
        self.ready == Gate::Shut || self.answer == Gate::Shut
    }

    fn counts(&self) -> (u64, u64) {
        (self.calls, self.clones)
    }

    fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Whether this gate lets this one through; it waits there if not.
    fn pass(&mut self, answer: bool, who: u64, cx: &mut Context<'_>) -> Poll<Result> {
        match if answer { self.answer } else { self.ready } {
            Gate::Open => Poll::Ready(Ok(())),
            Gate::Fail(kind) => Poll::Ready(Err(Error::new(kind, "the probe fails"))),
            Gate::Shut => {
                self.waiting.insert((answer, who), cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<Req, Res> Clone for Probe<Req, Res> {
    fn clone(&self) -> Self {
        let mut seen = self.shared.seen.lock();
        seen.clones += 1;
        seen.instances += 1;
        Probe { shared: self.shared.clone(), instance: seen.instances, ready: false }
    }
}

impl<Req, Res> Service<Req> for Probe<Req, Res> {
    type Response = Res;
    type Error = Error;
    type Future = Probing<Req, Res>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        let passed = self.shared.seen.lock().pass(false, self.instance, cx);
        self.ready = matches!(passed, Poll::Ready(Ok(())));
        passed
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let mut seen = self.shared.seen.lock();
        seen.calls += 1;
        seen.in_flight += 1;
        if !std::mem::take(&mut self.ready) {
            seen.violation("an instance was called that had not become ready");
        }
        Probing { shared: self.shared.clone(), call: seen.calls, request: Some(request) }
    }
}

impl<Req, Res> fmt::Debug for Probe<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", self.instance)
    }
}

/// The future of [`Probe`].
pub struct Probing<Req, Res> {
    shared: Arc<Shared<Req, Res>>,
    call: u64,
    /// Taken when it is over.
    request: Option<Req>,
}

impl<Req, Res> Unpin for Probing<Req, Res> {}

impl<Req, Res> Future for Probing<Req, Res> {
    type Output = Result<Res>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let passed = ready!(this.shared.seen.lock().pass(true, this.call, cx));
        let Some(request) = this.request.take() else { return Poll::Pending };
        this.shared.seen.lock().in_flight -= 1;
        Poll::Ready(passed.map(|()| (this.shared.answer)(request)))
    }
}

impl<Req, Res> Drop for Probing<Req, Res> {
    fn drop(&mut self) {
        if self.request.is_some() {
            let mut seen = self.shared.seen.lock();
            seen.in_flight -= 1;
            seen.cancelled += 1;
        }
    }
}

impl<Req, Res> fmt::Debug for Probing<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probing({})", self.call)
    }
}
