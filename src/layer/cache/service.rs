//! The call through the cache: what is there, or one call for all who want it.

use super::{
    CacheLayer, OVERHEAD, Weigh,
    shared::{Kept, Shared, Use},
};
use crate::{
    base::{BoxError, Error, Kind, Outcome, Result, sync::Arc, time},
    layer::{
        Classify, Standard,
        flight::{Call, Waiter},
        on_call::OnCall,
    },
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

/// The service that [`CacheLayer`] makes.
pub struct Cache<S, K, T, F, C = Standard> {
    inner: Arc<S>,
    layer: CacheLayer<K, T, F, C>,
}

impl<S, K, T, F, C> Cache<S, K, T, F, C> {
    pub(super) fn new(inner: S, layer: CacheLayer<K, T, F, C>) -> Self {
        Cache { inner: Arc::new(inner), layer }
    }
}

impl<S, K, T, F: Clone, C: Clone> Clone for Cache<S, K, T, F, C> {
    fn clone(&self) -> Self {
        Cache { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K: Ord + Hash + Clone, T, F, C> fmt::Debug for Cache<S, K, T, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("inner", &self.inner).field("handle", &self.layer.handle).finish()
    }
}

impl<S, Req, K, F, C> Service<Req> for Cache<S, K, S::Response, F, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    F: Fn(&Req) -> Option<K>,
    K: Ord + Hash + Clone + Send + Sync + 'static,
    C: Classify<S::Response> + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Caching<S, Req, K, C>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Some(key) = (self.layer.key)(&request) else {
            return Caching { at: At::Alone { call: OnCall::new(S::clone(&self.inner), request) } };
        };
        let ask = Ask {
            service: self.inner.clone(),
            request,
            key,
            shared: self.layer.handle.0.clone(),
            weigh: self.layer.weigh.clone(),
            classify: self.layer.classify.clone(),
        };
        Caching { at: At::Start { ask: Some(ask) } }
    }
}

/// All that a call needs.
struct Ask<S, Req, K, T, C> {
    service: Arc<S>,
    request: Req,
    key: K,
    shared: Arc<Shared<K, T>>,
    weigh: Weigh<K, T>,
    classify: C,
}

pin_project! {
    /// The future of [`Cache`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Caching<S, Req, K, C>
    where
        S: Service<Req>,
        K: Ord,
        K: Clone,
    {
        #[pin]
        at: At<S, Req, K, C>,
    }
}

pin_project! {
    #[project = AtProjection]
    enum At<S, Req, K, C>
    where
        S: Service<Req>,
        K: Ord,
        K: Clone,
    {
        Start { ask: Option<Ask<S, Req, K, S::Response, C>> },
        Alone { #[pin] call: OnCall<S, Req> },
        Waiting { wait: Wait<K, S::Response, C> },
    }
}

/// Waiting for the call, with what can be given should it fail.
struct Wait<K: Ord + Clone, T, C> {
    waiter: Waiter<K, T>,
    shared: Arc<Shared<K, T>>,
    stale: Option<Arc<Kept<T>>>,
    classify: C,
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failure | Outcome::LocalOrigin | Outcome::Throttled(_))
}

fn is_answer(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Rejected)
}

impl<S, Req, K, C> Ask<S, Req, K, S::Response, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    K: Ord + Hash + Clone + Send + Sync + 'static,
    C: Classify<S::Response> + Clone + Send + 'static,
{
    /// Joins the call of this key, or makes it.
    fn join(self) -> Result<Waiter<K, S::Response>> {
        let Ask { service, request, key, shared, weigh, classify } = self;
        let flights = shared.flights.clone();
        flights.join(key.clone(), |aboard| {
            let (aboard, call) = (aboard.clone(), OnCall::new(S::clone(&service), request));
            let call: Call<S::Response> = Box::pin(async move {
                let result = call.await.map_err(|error| Error::adopt(error, Kind::Failed));
                let worth = match &result {
                    Ok(answer) => classify.outcome(Ok(answer)) == Outcome::Success,
                    Err(error) => is_answer(error) && !shared.state.lock().rules.negative.is_zero(),
                };
                if worth {
                    let weight = result.as_ref().map_or(size_of::<K>(), |answer| weigh(&key, answer));
                    let kept = Kept { result: result.clone(), at: time::now() };
                    shared.keep(key, kept, weight.saturating_add(OVERHEAD), &aboard);
                }
                result
            });
            call
        })
    }

    /// Lets one task refresh it, unless a call of the key is under way.
    fn refresh(self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.shared.flights.has(&self.key) {
            return;
        }
        let shared = self.shared.clone();
        if let Ok(waiter) = self.join()
            && waiter.led()
        {
            shared.state.lock().stats.refreshes += 1;
            runtime.spawn(waiter);
        }
    }
}

impl<K: Ord + Hash + Clone, T: Clone, C: Classify<T>> Wait<K, T, C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Poll::Ready(result) = Pin::new(&mut self.waiter).poll(cx) else { return Poll::Pending };
        if let Some(stale) = self.stale.take()
            && is_failure(self.classify.outcome(result.as_ref()))
            && self.shared.rescue(&stale)
        {
            return Poll::Ready(stale.result.clone());
        }
        Poll::Ready(result)
    }
}

impl<S, Req, K, C> Future for Caching<S, Req, K, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    Req: Send + 'static,
    K: Ord + Hash + Clone + Send + Sync + 'static,
    C: Classify<S::Response> + Clone + Send + 'static,
{
    type Output = Result<S::Response>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let wait = match this.at.as_mut().project() {
                AtProjection::Alone { call } => {
                    return call.poll(cx).map_err(|error| Error::adopt(error, Kind::Failed));
                }
                AtProjection::Waiting { wait } => return wait.poll(cx),
                AtProjection::Start { ask } => {
                    let Some(ask) = ask.take() else { return Poll::Pending };
                    let stale = match ask.shared.find(&ask.key) {
                        (Use::Fresh, Some(kept)) => return Poll::Ready(kept.result.clone()),
                        (Use::Stale, Some(kept)) => {
                            ask.refresh();
                            return Poll::Ready(kept.result.clone());
                        }
                        (_, stale) => stale,
                    };
                    let (shared, classify) = (ask.shared.clone(), ask.classify.clone());
                    let waiter = match ask.join() {
                        Ok(waiter) => waiter,
                        Err(_) if stale.as_ref().is_some_and(|stale| shared.rescue(stale)) => {
                            return stale.map_or(Poll::Pending, |stale| Poll::Ready(stale.result.clone()));
                        }
                        Err(refused) => return Poll::Ready(Err(refused)),
                    };
                    let stats = &mut shared.state.lock().stats;
                    *(if waiter.led() { &mut stats.misses } else { &mut stats.coalesced }) += 1;
                    Wait { waiter, shared: shared.clone(), stale, classify }
                }
            };
            this.at.set(At::Waiting { wait });
        }
    }
}
