//! One worker of a pump: keys → calls.

use super::{
    Next, WorkQueue,
    pump::{Report, State},
};
use crate::{
    base::{BoxError, Error, Kind, sync::atomic::Ordering::Relaxed},
    store::Key,
};
use futures::FutureExt;
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};
use tower::{Service, ServiceExt};

/// Takes keys until the queue is shut down and empty.
pub(super) struct Worker<S> {
    pub(super) queue: WorkQueue<Key>,
    pub(super) service: S,
    pub(super) name: Arc<str>,
    pub(super) state: Arc<State>,
    pub(super) report: Report,
}

impl<S> Worker<S>
where
    S: Service<Key, Response = Next> + Clone + Send + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    pub(super) async fn run(self) {
        let mut service = self.service.clone();
        while let Some(job) = self.queue.get().await {
            let call = async {
                let ready = service.ready().await.map_err(adopt)?;
                ready.call(job.key().clone()).await.map_err(adopt)
            };
            let error = match AssertUnwindSafe(call).catch_unwind().await {
                Ok(Ok(next)) => {
                    self.state.succeeded.fetch_add(1, Relaxed);
                    self.queue.forget(&job);
                    if let Next::After(delay) = next {
                        self.queue.add_after(job.key().clone(), delay);
                    }
                    job.done();
                    continue;
                }
                Ok(Err(error)) => error,
                Err(panic) => {
                    self.state.panicked.fetch_add(1, Relaxed);
                    Error::new(Kind::Panicked, message(&*panic))
                }
            };
            service = self.service.clone(); // neither a panic nor a failed readiness leaves one to go on with
            self.state.failed.fetch_add(1, Relaxed);
            let key = job.key().clone();
            let delay = job.retry();
            let error = error.chain();
            tracing::warn!(name = %self.name, %key, error, again_in = ?delay, "reconcile failed");
            (self.report)(&format!("{}: {key}: {error}; again in {delay:?}", self.name));
        }
    }
}

fn adopt(error: impl Into<BoxError> + 'static) -> Error {
    Error::adopt(error, Kind::Failed)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message").to_string()
}
