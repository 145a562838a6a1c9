//! A service whose calls are measured.

use super::{Meter, Work};
use crate::base::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// A service whose calls a [`Meter`] counts and times: what [`Meter::around`] makes.
///
/// ```
/// use seedpod::queue::{self, Memory, Message, Subscription, scale::Meter};
/// use std::sync::Arc;
/// let meter = Meter::default();
/// let service = tower::service_fn(|_: Message| async { Ok::<_, seedpod::Error>(()) });
/// let pump = queue::consume(Arc::new(Memory::new()), Subscription::new("jobs", "workers"), meter.around(service));
/// # drop(pump);
/// ```
#[derive(Clone, Debug)]
pub struct Measured<S> {
    meter: Meter,
    service: S,
    under_way: Arc<AtomicU32>,
}

impl<S> Measured<S> {
    /// Counts its calls, and its clones', that are under way.
    pub(super) fn new(meter: Meter, service: S, under_way: Arc<AtomicU32>) -> Self {
        Measured { meter, service, under_way }
    }
}

impl<S, R> Service<R> for Measured<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let busy = Busy::new(self.under_way.clone());
        let work = Some(self.meter.begin());
        Timed { call: self.service.call(request), work, _busy: busy }
    }
}

pin_project! {
    /// A call that is measured.
    pub struct Timed<F> {
        #[pin]
        call: F,
        work: Option<Work>,
        _busy: Busy,
    }
}

impl<F, T, E> Future for Timed<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ended = ready!(this.call.poll(cx));
        if let Some(work) = this.work.take() {
            match &ended {
                Ok(_) => work.done(),
                Err(_) => work.failed(),
            }
        }
        Poll::Ready(ended)
    }
}

/// Counts while it lives.
struct Busy(Arc<AtomicU32>);

impl Busy {
    fn new(count: Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(count)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
