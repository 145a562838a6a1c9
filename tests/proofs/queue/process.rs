//! A process of a schedule: it can be killed, frozen and told to stop, and knows what it has in hand.

use super::features::Features;
use futures::future::BoxFuture;
use seedpod::{
    base::{
        sync::{
            Lock,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        time,
    },
    net::{Net, Scope},
};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::CancellationToken;

/// Tasks that die and freeze together, and what they have in hand. Clones share.
#[derive(Clone)]
pub(super) struct Process {
    scope: Scope,
    stop: CancellationToken,
    frozen: Arc<Lock<Option<time::Instant>>>,
    hands: Arc<Hands>,
}

#[derive(Default)]
struct Hands {
    next: AtomicU64,
    held: Lock<BTreeMap<u64, Features>>,
}

impl Process {
    pub(super) fn new(net: &Net) -> Process {
        Process { scope: net.scope(), stop: CancellationToken::new(), frozen: Arc::default(), hands: Arc::default() }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.scope.spawn(self.freezing(task)));
    }

    /// Ends it at its next await, wherever that is.
    pub(super) fn kill(&self) {
        self.scope.kill();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.scope.is_dead()
    }

    pub(super) fn is_over(&self) -> bool {
        self.scope.tasks() == 0
    }

    pub(super) fn panics(&self) -> usize {
        self.scope.panics()
    }

    pub(super) async fn gone(&self) {
        self.scope.gone().await;
    }

    /// Tells it to stop.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Nothing of it moves before this.
    pub(super) fn freeze(&self, until: time::Instant) {
        *self.frozen.lock() = Some(until);
    }

    /// Whether it stood still at any time since then.
    pub(super) fn was_frozen(&self, since: time::Instant) -> bool {
        self.frozen.lock().is_some_and(|until| until > since)
    }

    /// A future that stands still while the process is frozen.
    pub(super) fn freezing<F: Future + Send + 'static>(&self, inner: F) -> Freezing<F> {
        Freezing { inner: Box::pin(inner), frozen: self.frozen.clone(), nap: None }
    }

    /// Has something of these features in hand until the guard is dropped.
    pub(super) fn hand(&self, features: Features) -> Hand {
        let number = self.hands.next.fetch_add(1, Relaxed);
        self.hands.held.lock().insert(number, features);
        Hand { hands: self.hands.clone(), number }
    }

    /// What it has in hand.
    pub(super) fn holds(&self) -> Features {
        self.hands.held.lock().values().copied().collect()
    }
}

/// Something in hand.
pub(super) struct Hand {
    hands: Arc<Hands>,
    number: u64,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.hands.held.lock().remove(&self.number);
    }
}

/// Stands still while its process is frozen.
pub(super) struct Freezing<F> {
    inner: Pin<Box<F>>,
    frozen: Arc<Lock<Option<time::Instant>>>,
    nap: Option<BoxFuture<'static, ()>>,
}

impl<F: Future> Future for Freezing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let until = *self.frozen.lock();
        if let Some(until) = until.filter(|until| *until > time::now()) {
            let nap = self.nap.insert(Box::pin(time::sleep_until(until)));
            if nap.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.nap = None;
        self.inner.as_mut().poll(cx)
    }
}
