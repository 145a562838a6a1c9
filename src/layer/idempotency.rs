//! A repeated request gets the first answer.

use super::{
    Classify, Standard,
    flight::{Flights, Limits},
};
use crate::base::sync::{Arc, Lock};
use std::{fmt, time::Duration};
use tower::Layer;

mod handle;
#[cfg(feature = "http")]
pub mod http;
mod once;
mod service;
mod store;

pub use handle::{IdempotencyHandle, IdempotencyStats};
pub use service::{Idempotency, Idempotent};
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
/// [`Kind::Conflict`](crate::base::Kind::Conflict), with [`Refused`] as its source, for another request under the key, and where another process is
/// carrying it out (with a time to come back). [`Kind::Overloaded`](crate::base::Kind::Overloaded) at the bounds. Errors of the store refuse the request
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
        Idempotency::new(inner, self.clone())
    }
}

#[cfg(test)]
mod tests;
