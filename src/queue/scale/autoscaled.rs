//! A pump that scales itself: its pool of workers, and the autoscaler that sets how many they are.

use super::{Autoscaler, Policy, Workers};
use crate::{
    base::{BoxError, Result},
    pod::{Container, Context},
    queue::{Consume, Done, Message},
};
use futures::future::{BoxFuture, join, try_join};
use std::{fmt, future::Future};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Workers that scale themselves: what [`Consume::autoscale`] makes. They are a container; clones are one pool.
///
/// ```
/// use seedpod::queue::{Memory, Queue};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let jobs: Queue<u32> = Queue::open(Arc::new(Memory::new()), "jobs").await?;
/// for job in 0..600 {
///     jobs.submit(job).await?;
/// }
/// let worker = jobs.worker(|_: u32| async {
///     tokio::time::sleep(Duration::from_secs(1)).await;
///     Ok::<_, seedpod::Error>(())
/// });
/// let workers = worker.autoscale(1..=32);
/// workers.run_until(tokio::time::sleep(Duration::from_secs(120))).await?; // one alone would take ten minutes
/// assert_eq!(jobs.inspect().await?.stored, 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Autoscaled<S> {
    workers: Workers<S>,
    scaler: Autoscaler,
}

impl<S> Consume<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// As many workers as this policy wants, of which each is such a pump: see [`Workers`] and [`Autoscaler`]. A range of
    /// numbers is a policy with the defaults.
    pub fn autoscale(self, policy: impl Into<Policy>) -> Autoscaled<S> {
        let (broker, subscription, topics) = (self.broker(), self.subscription().clone(), self.topics());
        let workers = Workers::new(self);
        let scaler = Autoscaler::new(broker, subscription, workers.clone(), policy.into()).topics(topics);
        Autoscaled { workers, scaler }
    }
}

impl<S> Autoscaled<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// The pool: how many there are, and what they measure.
    pub fn workers(&self) -> &Workers<S> {
        &self.workers
    }

    /// What decides: its decisions can be followed.
    pub fn scaler(&self) -> &Autoscaler {
        &self.scaler
    }

    /// Changes what decides: how often, and who is told.
    #[must_use]
    pub fn with_scaler(mut self, change: impl FnOnce(Autoscaler) -> Autoscaler) -> Self {
        self.scaler = change(self.scaler);
        self
    }

    /// Runs in the caller's task until told to stop, then until what runs has ended.
    ///
    /// **Cancel-safety**: dropped, it takes its workers along; their messages come back when their leases run out.
    ///
    /// # Errors
    /// Those of [`Workers::run_until`] and of [`Autoscaler::run_until`]; where one of them ends, the other does.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result {
        let over = CancellationToken::new();
        let told = async {
            tokio::select! {
                biased;
                () = stop => {}
                () = over.cancelled() => {}
            }
        };
        let workers = async {
            let ended = self.workers.run_until(told).await;
            over.cancel();
            ended
        };
        let scaler = async {
            let ended = self.scaler.run_until(over.cancelled()).await;
            over.cancel();
            ended
        };
        let (workers, scaler) = join(workers, scaler).await;
        workers.and(scaler)
    }
}

impl<S> Container for Autoscaled<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let (workers, scaler) = (self.workers.run(context.clone()), self.scaler.run(context));
        Box::pin(async move { try_join(workers, scaler).await.map(drop) })
    }
}

impl<S> fmt::Debug for Autoscaled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autoscaled").field("scaler", &self.scaler).finish_non_exhaustive()
    }
}
