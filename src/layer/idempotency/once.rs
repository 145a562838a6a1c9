//! One call for its key: the claim, the service, what is kept of its answer.

use super::{Claim, IdempotencyKey, IdempotencyStore, Refused, Shared};
use crate::{
    base::{BoxError, Error, Kind, Outcome, sync::Arc},
    layer::{
        Classify,
        flight::{Call, Waiter},
        on_call::OnCall,
    },
};
use std::time::Duration;
use tower::Service;

/// All that a call needs.
pub(super) struct Once<S, Req, T, C> {
    pub(super) service: Arc<S>,
    pub(super) request: Req,
    pub(super) shared: Arc<Shared<T>>,
    pub(super) key: IdempotencyKey,
    pub(super) classify: C,
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
    pub(super) fn join(self) -> Result<Waiter<IdempotencyKey, Arc<S::Response>>, Error> {
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
