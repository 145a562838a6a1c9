//! So many calls per time.

use super::{
    deadline::{nanos, until},
    on_call::OnCall,
    timer::Timer,
};
use crate::base::{
    BoxError, Error, Kind, Result,
    sync::{Arc, Lock},
    time::{self, Instant},
};
use pin_project_lite::pin_project;
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service};

mod keys;

pub use keys::Rate;
use keys::{Keys, Turn};

/// Lets only so many calls through per time: all together, or for each key of the request (caller, tenant, route). What
/// happens to more is said in the constructor: they are refused at once and told when to come back
/// ([`shed`](Self::shed)), or wait for their turn as long as that comes within their patience ([`wait`](Self::wait)).
///
/// One layer is one limit: all services that it makes, and all their clones, share it.
///
/// - burst: by default as many as the rate allows in its period, at once (as in the crate governor)
/// - 10,000 keys are told apart by default. A key is forgotten once it has its full burst again, which changes nothing;
///   where more are active at a time, those that come new share one limit among them
///
/// **Guarantees**
/// - In no stretch of time do more calls start than its length allows and the burst on top, whatever clones and threads
///   do; a change of the rate holds from the next call on.
/// - [`Error::retry_after`] of a refusal is exact: who is alone and comes back then is let through.
/// - A call takes its turn at its first poll. One that is dropped while it waits gives its turn back where nobody has come
///   after it; else the turn is lost.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call and made ready inside it, after the turn has come.
///
/// # Errors
/// [`Kind::Overloaded`] with [`Error::retry_after`] for who is refused. Errors of the service pass through, widened where
/// they are foreign.
///
/// ```
/// use seedpod::layer::{Rate, RateLimitLayer};
/// use std::time::Duration;
/// use tower::{Service, ServiceBuilder, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let rate = Rate::new(10, Duration::from_secs(1))?.burst(2);
/// let layer = RateLimitLayer::shed(rate).keyed(|(caller, _): &(&'static str, u32)| *caller);
/// let echo = service_fn(|(_, n): (&'static str, u32)| async move { Ok::<_, std::io::Error>(n) });
/// let mut service = ServiceBuilder::new().layer(layer).service(echo);
/// service.call(("ann", 1)).await?;
/// service.call(("ann", 2)).await?;
/// let refused = service.call(("ann", 3)).await.unwrap_err();
/// assert_eq!(refused.retry_after(), Some(Duration::from_millis(100)));
/// service.call(("bob", 1)).await?;
/// # Ok::<(), seedpod::Error>(()) }).unwrap();
/// ```
pub struct RateLimitLayer<K = (), F = Together> {
    handle: RateLimitHandle<K>,
    key: F,
}

/// No key: all requests share one rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Together;

/// Tells by which key a request is limited: any `Fn(&Req) -> K`, or [`Together`].
pub trait RateKey<Req, K> {
    /// The request's key.
    fn key(&self, request: &Req) -> K;
}

impl<Req> RateKey<Req, ()> for Together {
    fn key(&self, _: &Req) {}
}

impl<Req, K, F: Fn(&Req) -> K> RateKey<Req, K> for F {
    fn key(&self, request: &Req) -> K {
        self(request)
    }
}

impl RateLimitLayer {
    /// Refuses what exceeds the rate.
    pub fn shed(rate: Rate) -> Self {
        RateLimitLayer::wait(rate, Duration::ZERO)
    }

    /// Holds back what exceeds the rate; refuses what would have to wait longer than this.
    pub fn wait(rate: Rate, patience: Duration) -> Self {
        RateLimitLayer { handle: RateLimitHandle::new(rate, nanos(patience)), key: Together }
    }

    /// For each key a rate of its own. Keys may come from outside: they are kept in order, not hashed.
    pub fn keyed<K: Ord, F>(self, key: F) -> RateLimitLayer<K, F> {
        let state = self.handle.0.state.lock();
        RateLimitLayer { handle: RateLimitHandle::new(state.rate, state.patience), key }
    }
}

impl<K: Ord, F> RateLimitLayer<K, F> {
    /// How many keys are told apart at a time.
    #[must_use]
    pub fn keys(self, most: usize) -> Self {
        self.handle.0.state.lock().keys.most = most;
        self
    }

    /// Reads and changes the rate of this layer and of all that it made.
    pub fn handle(&self) -> RateLimitHandle<K> {
        self.handle.clone()
    }
}

impl<K, F: Clone> Clone for RateLimitLayer<K, F> {
    fn clone(&self) -> Self {
        RateLimitLayer { handle: self.handle.clone(), key: self.key.clone() }
    }
}

impl<K, F> fmt::Debug for RateLimitLayer<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The live side of [`RateLimitLayer`].
pub struct RateLimitHandle<K = ()>(Arc<Shared<K>>);

struct Shared<K> {
    start: Instant,
    state: Lock<State<K>>,
}

struct State<K> {
    rate: Rate,
    patience: u64,
    keys: Keys<K>,
    overrides: BTreeMap<K, Rate>,
    refused: u64,
}

impl<K: Ord> RateLimitHandle<K> {
    fn new(rate: Rate, patience: u64) -> Self {
        let state = State { rate, patience, keys: Keys::default(), overrides: BTreeMap::new(), refused: 0 };
        RateLimitHandle(Arc::new(Shared { start: time::now(), state: Lock::new(state) }))
    }

    /// The rate, of all keys that have none of their own.
    pub fn rate(&self) -> Rate {
        self.0.state.lock().rate
    }

    /// Changes the rate of all keys that have none of their own.
    pub fn set_rate(&self, rate: Rate) {
        self.0.state.lock().rate = rate;
    }

    /// Gives a key a rate of its own, or with `None` takes that away. These are kept until taken away.
    pub fn set_rate_of(&self, key: K, rate: Option<Rate>) {
        let mut state = self.0.state.lock();
        match rate {
            Some(rate) => state.overrides.insert(key, rate),
            None => state.overrides.remove(&key),
        };
    }

    /// How many have been refused.
    pub fn refused(&self) -> u64 {
        self.0.state.lock().refused
    }

    /// How many keys are known at the moment.
    pub fn keys(&self) -> usize {
        self.0.state.lock().keys.len()
    }

    fn take(&self, key: K, now: Instant) -> Result<Turn, Duration> {
        let now = nanos(now.saturating_duration_since(self.0.start));
        let mut state = self.0.state.lock();
        let rate = if state.overrides.is_empty() { None } else { state.overrides.get(&key).copied() };
        let (rate, patience) = (rate.unwrap_or(state.rate), state.patience);
        let turn = state.keys.take(key, rate, now, patience);
        state.refused += u64::from(turn.is_err());
        turn.map_err(Duration::from_nanos)
    }
}

impl<K> Clone for RateLimitHandle<K> {
    fn clone(&self) -> Self {
        RateLimitHandle(self.0.clone())
    }
}

impl<K> fmt::Debug for RateLimitHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        write!(f, "RateLimit({:?}; {} refused)", state.rate, state.refused)
    }
}

impl<S, K, F: Clone> Layer<S> for RateLimitLayer<K, F> {
    type Service = RateLimit<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner: Arc::new(inner), handle: self.handle.clone(), key: self.key.clone() }
    }
}

/// The service that [`RateLimitLayer`] makes.
pub struct RateLimit<S, K = (), F = Together> {
    inner: Arc<S>,
    handle: RateLimitHandle<K>,
    key: F,
}

impl<S, K, F: Clone> Clone for RateLimit<S, K, F> {
    fn clone(&self) -> Self {
        RateLimit { inner: self.inner.clone(), handle: self.handle.clone(), key: self.key.clone() }
    }
}

impl<S: fmt::Debug, K, F> fmt::Debug for RateLimit<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("inner", &self.inner).field("handle", &self.handle).finish()
    }
}

impl<S, Req, K, F> Service<Req> for RateLimit<S, K, F>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    F: RateKey<Req, K>,
    K: Ord + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Paced<S, Req, K>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let (handle, key) = (self.handle.clone(), self.key.key(&request));
        let pace = Pace { handle, key, turn: None, step: Step::New };
        Paced { call: OnCall::new(S::clone(&self.inner), request), pace, timer: Timer::default() }
    }
}

pin_project! {
    /// The future of [`RateLimit`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Paced<S: Service<Req>, Req, K: Ord> {
        #[pin]
        call: OnCall<S, Req>,
        pace: Pace<K>,
        #[pin]
        timer: Timer,
    }
}

/// One call's turn. Dropped before the turn has come, it gives it back.
struct Pace<K: Ord> {
    handle: RateLimitHandle<K>,
    key: K,
    turn: Option<Turn>,
    step: Step,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    New,
    Wait(Instant),
    Go,
}

impl<K: Ord + Clone> Pace<K> {
    fn begin(&mut self) -> Result {
        let now = time::now();
        let turn = self.handle.take(self.key.clone(), now).map_err(refuse)?;
        let start = until(self.handle.0.start, Duration::from_nanos(turn.start), None);
        if start > now {
            (self.turn, self.step) = (Some(turn), Step::Wait(start));
        } else {
            self.step = Step::Go;
        }
        Ok(())
    }
}

#[cold]
fn refuse(wait: Duration) -> Error {
    Error::new(Kind::Overloaded, "too many in this time").after(wait).unsent()
}

impl<K: Ord> Drop for Pace<K> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn {
            self.handle.0.state.lock().keys.put_back(&self.key, turn);
        }
    }
}

impl<S, Req, K> Future for Paced<S, Req, K>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
    K: Ord + Clone,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.pace.step == Step::New
            && let Err(error) = this.pace.begin()
        {
            this.pace.step = Step::Go;
            this.call.stop();
            return Poll::Ready(Err(error));
        }
        if let Step::Wait(start) = this.pace.step {
            ready!(this.timer.poll_until(start, cx));
            (this.pace.turn, this.pace.step) = (None, Step::Go);
        }
        let result = ready!(this.call.as_mut().poll(cx));
        this.call.stop();
        Poll::Ready(result.map_err(|error| Error::adopt(error, Kind::Failed)))
    }
}

impl<S: Service<Req>, Req, K: Ord> fmt::Debug for Paced<S, Req, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paced").field("handle", &self.pace.handle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
