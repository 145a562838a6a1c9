//! A repeated request gets the first answer.

use super::{
    Classify, Standard,
    flight::{Call, Flights, Limits, Waiter},
    on_call::OnCall,
};
use crate::base::{
    BoxError, Error, Kind, Outcome,
    sync::{Arc, Lock},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};

mod handle;
#[cfg(feature = "http")]
pub mod http;
mod store;

pub use handle::{IdempotencyHandle, IdempotencyStats};
pub use store::{Claim, Held, IdempotencyKey, IdempotencyMemory, IdempotencyStore};

/// Carries out a request once for each idempotency key: who sends it again gets the first answer. For requests that change
/// something, of callers who do not know whether the first has arrived.
///
/// ```text
/// charge 5 EUR, key order-7 ──► first?  ──► the service ──► the answer, kept for the window
/// charge 5 EUR, key order-7 ──► the same: waits for it, or gets what is kept
/// charge 9 EUR, key order-7 ──► another request: a conflict
/// ```
///
/// A request without a key (`None`) passes. All services of one layer, and all their clones, share what is kept; with a
/// [`store`](Self::store) of your own, so do processes.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`window`](Self::window) | 24 h | Stripe |
/// | [`classify`](IdempotencyLayer::classify) | every answer is kept, no error | |
/// | [`lease`](Self::lease) | 60 s, after which another process may claim a key | |
/// | [`carry_on`](Self::carry_on) | no: the call is dropped with the last who waits for it | |
/// | [`store`](Self::store) | [`IdempotencyMemory`]: 64 MiB, 100,000 answers | |
/// | [`calls`](Self::calls), [`waiters`](Self::waiters) | 10,000 each; any beyond are refused | linkerd's request queue |
///
/// **Guarantees**
/// - While an answer is kept, its request is not carried out again. Those who send it at the same time share one call;
///   whoever of them leaves, another drives it.
/// - A failure is given to all who wait and is not kept: the request may be tried again under its key.
/// - A request that differs from the one for which the key stands, by its fingerprint, gets nothing but a conflict.
/// - When the last who waits is dropped, so is the call, and the key is free again; with [`carry_on`](Self::carry_on) it goes
///   on in a task of the runtime, and its answer is kept.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call made, and made ready inside it.
///
/// **Not guaranteed**: that a call which failed, or was dropped, had no effect; pass the key on to whoever can tell. That
/// answers are kept for their window: the oldest go where there is no room.
///
/// # Errors
/// [`Kind::Conflict`], with [`Refused`] as its source, for another request under the key, and where another process is
/// carrying it out (with a time to come back). [`Kind::Overloaded`] at the bounds. Errors of the store refuse the request
/// before it is sent. Errors of the service are widened where they are foreign.
///
/// ```
/// use seedpod::{base::Kind, layer::{IdempotencyKey, IdempotencyLayer}};
/// use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
/// use tower::{Layer, Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// static CHARGED: AtomicU32 = AtomicU32::new(0);
/// let charge = service_fn(|(_, cents): (&'static str, u32)| async move {
///     Ok::<_, seedpod::Error>(CHARGED.fetch_add(cents, SeqCst) + cents)
/// });
/// let key = |(order, cents): &(&'static str, u32)| Some(IdempotencyKey::new(*order).of(cents));
/// let mut service = IdempotencyLayer::by(key).layer(charge);
/// assert_eq!(service.call(("order-7", 500)).await?, 500);
/// assert_eq!(service.call(("order-7", 500)).await?, 500);
/// assert_eq!(service.call(("order-7", 900)).await.unwrap_err().kind(), Kind::Conflict);
/// assert_eq!(CHARGED.load(SeqCst), 500);
/// # Ok::<(), seedpod::Error>(()) }).unwrap();
/// ```
pub struct IdempotencyLayer<T, F, C = Standard> {
    shared: Arc<Shared<T>>,
    key: F,
    classify: C,
}

struct Shared<T> {
    flights: Arc<Flights<IdempotencyKey, Arc<T>>>,
    state: Lock<State<T>>,
}

struct State<T> {
    store: Arc<dyn IdempotencyStore<T>>,
    settings: Settings,
    stats: IdempotencyStats,
}

#[derive(Clone, Copy)]
struct Settings {
    window: Duration,
    lease: Duration,
    carry_on: bool,
}

/// Why a request was refused: the source of its error, and what HTTP answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The key stands for another request (HTTP: 422).
    Reused,
    /// Another process is carrying it out (HTTP: 409).
    UnderWay,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Reused => "the idempotency key stands for another request",
            Refused::UnderWay => "the first request with this idempotency key is under way",
        })
    }
}

impl std::error::Error for Refused {}

impl<T: Send + Sync + 'static, F> IdempotencyLayer<T, F> {
    /// Recognises requests by what this makes of them; `None` passes.
    pub fn by<Req>(key: F) -> Self
    where
        F: Fn(&Req) -> Option<IdempotencyKey>,
    {
        let (window, lease) = (Duration::from_secs(86_400), Duration::from_secs(60));
        let settings = Settings { window, lease, carry_on: false };
        let store = Arc::new(IdempotencyMemory::new());
        let flights = Arc::new(Flights::new(Limits { flights: 10_000, waiters: 10_000 }));
        let state = Lock::new(State { store, settings, stats: IdempotencyStats::default() });
        IdempotencyLayer { shared: Arc::new(Shared { flights, state }), key, classify: Standard }
    }
}

impl<T: 'static, F, C> IdempotencyLayer<T, F, C> {
    /// How long an answer is kept.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        self.handle().set_window(window);
        self
    }

    /// How long a claim of a key holds should this process end: longer than a call may take.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.shared.state.lock().settings.lease = lease;
        self
    }

    /// Carries a call on, as a task of the runtime, when all who waited for it have left: so what it does is known to who
    /// sends the request again.
    #[must_use]
    pub fn carry_on(self) -> Self {
        self.shared.state.lock().settings.carry_on = true;
        self
    }

    /// Keeps answers there.
    #[must_use]
    pub fn store(self, store: impl IdempotencyStore<T>) -> Self {
        self.shared.state.lock().store = Arc::new(store);
        self
    }

    /// How many different calls may be under way at a time.
    #[must_use]
    pub fn calls(self, most: usize) -> Self {
        self.handle().set_calls(most);
        self
    }

    /// How many may wait for one call, the first included.
    #[must_use]
    pub fn waiters(self, most: usize) -> Self {
        self.handle().set_waiters(most);
        self
    }

    /// Reads answers: only a success is kept.
    #[must_use]
    pub fn classify<D: Classify<T>>(self, classify: D) -> IdempotencyLayer<T, F, D> {
        IdempotencyLayer { shared: self.shared, key: self.key, classify }
    }

    /// Reads and changes this layer and all that it made.
    pub fn handle(&self) -> IdempotencyHandle<T> {
        IdempotencyHandle::new(self.shared.clone())
    }
}

impl<T, F: Clone, C: Clone> Clone for IdempotencyLayer<T, F, C> {
    fn clone(&self) -> Self {
        IdempotencyLayer { shared: self.shared.clone(), key: self.key.clone(), classify: self.classify.clone() }
    }
}

impl<T: 'static, F, C> fmt::Debug for IdempotencyLayer<T, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle().fmt(f)
    }
}

impl<S, T, F: Clone, C: Clone> Layer<S> for IdempotencyLayer<T, F, C> {
    type Service = Idempotency<S, T, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency { inner: Arc::new(inner), layer: self.clone() }
    }
}

/// The service that [`IdempotencyLayer`] makes.
pub struct Idempotency<S, T, F, C = Standard> {
    inner: Arc<S>,
    layer: IdempotencyLayer<T, F, C>,
}

impl<S, T, F: Clone, C: Clone> Clone for Idempotency<S, T, F, C> {
    fn clone(&self) -> Self {
        Idempotency { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, T: 'static, F, C> fmt::Debug for Idempotency<S, T, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, Req, F, C> Service<Req> for Idempotency<S, S::Response, F, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    F: Fn(&Req) -> Option<IdempotencyKey>,
    C: Classify<S::Response> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Idempotent<S, Req, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let at = match (self.layer.key)(&request) {
            None => At::Alone { call: OnCall::new(S::clone(&self.inner), request) },
            Some(key) => {
                let (service, shared, classify) =
                    (self.inner.clone(), self.layer.shared.clone(), self.layer.classify.clone());
                At::Start { once: Some(Once { service, request, shared, key, classify }) }
            }
        };
        Idempotent { at }
    }
}

/// All that a call needs.
struct Once<S, Req, T, C> {
    service: Arc<S>,
    request: Req,
    shared: Arc<Shared<T>>,
    key: IdempotencyKey,
    classify: C,
}

impl<S, Req, C> Once<S, Req, S::Response, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    C: Classify<S::Response> + Send + 'static,
{
    /// Joins the call under way for this key and request, or makes it.
    fn join(self) -> Result<Waiter<IdempotencyKey, Arc<S::Response>>, Error> {
        let (shared, key) = (self.shared.clone(), self.key.clone());
        let waiter = shared.flights.join(key, |_| {
            let call: Call<Arc<S::Response>> = Box::pin(self.run());
            call
        })?;
        let carry_on = {
            let mut state = shared.state.lock();
            state.stats.waited += u64::from(!waiter.led());
            state.settings.carry_on && waiter.led()
        };
        if carry_on && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(waiter.another());
        }
        Ok(waiter)
    }

    async fn run(self) -> Result<Arc<S::Response>, Error> {
        let Once { service, request, shared, key, classify } = self;
        let (store, settings) = {
            let state = shared.state.lock();
            (state.store.clone(), state.settings)
        };
        let refused = |why| Err(Error::new(Kind::Conflict, "").because(why).at(key.name()));
        let mut claim = store.claim(&key, settings.lease).await?;
        if matches!(claim, Claim::UnderWay) {
            // perhaps by a call of this process that has been left and is being dropped right now
            tokio::task::yield_now().await;
            claim = store.claim(&key, settings.lease).await?;
        }
        let ticket = match claim {
            Claim::Known(answer) => {
                shared.state.lock().stats.replayed += 1;
                return Ok(answer);
            }
            Claim::Other => {
                shared.state.lock().stats.conflicts += 1;
                return refused(Refused::Reused);
            }
            Claim::UnderWay => {
                shared.state.lock().stats.conflicts += 1;
                return refused(Refused::UnderWay).map_err(|error: Error| error.after(Duration::from_secs(1)));
            }
            Claim::Mine(ticket) => ticket,
        };
        let mut hold = Hold { store, key: &key, ticket: Some(ticket) };
        shared.state.lock().stats.calls += 1;
        let answer = OnCall::new(S::clone(&service), request).await;
        let answer = Arc::new(answer.map_err(|error| Error::adopt(error, Kind::Failed))?);
        if classify.outcome(Ok(&answer)) == Outcome::Success {
            let window = shared.state.lock().settings.window;
            hold.ticket = None; // what is being kept is not given back
            // it has been carried out: whoever waits is told so, kept or not
            let kept = hold.store.keep(&key, ticket, answer.clone(), window).await;
            shared.state.lock().stats.lost += u64::from(kept.is_err());
        }
        Ok(answer)
    }
}

/// A key that is claimed; given back where no answer is kept.
struct Hold<'a, T: 'static> {
    store: Arc<dyn IdempotencyStore<T>>,
    key: &'a IdempotencyKey,
    ticket: Option<u64>,
}

impl<T: 'static> Drop for Hold<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.store.release(self.key, ticket);
        }
    }
}

pin_project! {
    /// The future of [`Idempotency`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Idempotent<S, Req, C>
    where
        S: Service<Req>,
    {
        #[pin]
        at: At<S, Req, C>,
    }
}

pin_project! {
    #[project = AtProjection]
    enum At<S, Req, C>
    where
        S: Service<Req>,
    {
        Start { once: Option<Once<S, Req, S::Response, C>> },
        Alone { #[pin] call: OnCall<S, Req> },
        Waiting { waiter: Waiter<IdempotencyKey, Arc<S::Response>> },
    }
}

impl<S, Req, C> Future for Idempotent<S, Req, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    C: Classify<S::Response> + Send + 'static,
{
    type Output = Result<S::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let waiter = match this.at.as_mut().project() {
                AtProjection::Alone { call } => {
                    return call.poll(cx).map_err(|error| Error::adopt(error, Kind::Failed));
                }
                AtProjection::Waiting { waiter } => {
                    return Pin::new(waiter)
                        .poll(cx)
                        .map_ok(|answer| Arc::try_unwrap(answer).unwrap_or_else(|answer| S::Response::clone(&answer)));
                }
                AtProjection::Start { once } => {
                    let Some(once) = once.take() else { return Poll::Pending };
                    match once.join() {
                        Ok(waiter) => waiter,
                        Err(refused) => return Poll::Ready(Err(refused)),
                    }
                }
            };
            this.at.set(At::Waiting { waiter });
        }
    }
}

#[cfg(test)]
mod tests;
