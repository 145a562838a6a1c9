//! The pump as a container.

use super::{Next, Reconcile, pump::Surroundings};
use crate::{
    base::{BoxError, Result},
    pod::{Container, Context},
    store::Key,
};
use futures::future::BoxFuture;
use tower::Service;

/// Runs until the pod is told to stop, and finishes then what is queued, for which the pod's grace is the time. Its
/// workers are tasks of the container and die with it; what fails is in the container's log, too.
impl<V, S> Container for Reconcile<V, S>
where
    V: Clone + Send + Sync + 'static,
    S: Service<Key, Response = Next> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let pump = self.clone();
        Box::pin(async move {
            context.ready();
            let log = context.clone();
            let surroundings = Surroundings {
                spawn: &|worker| context.spawn(worker),
                report: std::sync::Arc::new(move |line| log.log(line)),
                seed: context.seed(),
            };
            pump.pump(surroundings, context.stopped()).await
        })
    }
}
