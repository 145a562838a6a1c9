//! Running a pump: its workers, until told to stop and until what runs has ended.

use super::{Consume, Done, Message, aside, quarantine, verdict::Policy, worker::Stopping};
use crate::{
    base::{BoxError, Error, Kind, Result, Seed, time},
    pod::{Container, Context},
    queue::{consume, lines::Lines},
};
use futures::{
    StreamExt,
    future::{BoxFuture, Either},
    stream::FuturesUnordered,
};
use std::{future::Future, pin::pin, sync::Arc};
use tower::Service;

impl<S> Consume<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// Runs in the caller's task until told to stop, then until what runs has ended.
    ///
    /// **Cancel-safety**: dropped, it takes its handlers along; their messages come back when their leases run out.
    ///
    /// # Errors
    /// Those of [`consume`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result {
        self.pump(stop, |worker| worker).await
    }

    /// Runs its workers where `spawn` puts them.
    async fn pump(
        self,
        stop: impl Future<Output = ()>,
        spawn: impl Fn(BoxFuture<'static, Result>) -> BoxFuture<'static, Result>,
    ) -> Result {
        if let Some(mut options) = self.declare.clone() {
            if !options.subscriptions.contains(&self.subscription.name) {
                options.subscriptions.push(self.subscription.name.clone());
            }
            self.broker.declare(&self.subscription.topic, options).await?;
        }
        if let Some(context) = &self.context {
            context.ready();
        }
        self.limits.check(&*self.broker)?;
        self.control.begins();
        let stopping = Stopping::default();
        let _stop_when_dropped = (stopping.soon.clone().drop_guard(), stopping.now.clone().drop_guard());
        let seed = self.seed.unwrap_or_else(Seed::ambient).fork("consume").fork(&self.subscription.to_string());
        let quarantined = self.in_quarantine().await?.map(Arc::new);
        let (drain, work) = (self.drain, Arc::new(self));
        if let Some(paused) = &work.paused {
            aside::heed_pause(&*work.broker, paused, &work.control).await?;
        }
        let start = |work: &Arc<Self>, number: usize, seed: Seed| {
            let rng = seed.fork_index(number as u64).rng();
            spawn(Box::pin(work.clone().work(number, stopping.clone(), rng)))
        };
        let mut workers: FuturesUnordered<_> = (0..work.concurrency).map(|number| start(&work, number, seed)).collect();
        if let Some(sweep) = &work.rows {
            let subscription = sweep.subscription(aside::WORKERS);
            let sweeper = consume(work.broker.clone(), subscription, aside::Sweeper(work.broker.clone()));
            let rng = seed.fork("sweep").rng();
            workers.push(spawn(Box::pin(Arc::new(sweeper).work(0, stopping.clone(), rng))));
        }
        if let Some(paused) = work.paused.clone() {
            let (work, soon) = (work.clone(), stopping.soon.clone());
            workers.push(spawn(Box::pin(async move { work.watch_pause(&paused, &soon).await })));
        }
        workers.extend(quarantined.iter().map(|work| start(work, 0, seed.fork("quarantine"))));
        let mut stop = pin!(Either::Left(stop));
        let mut patience = pin!(Either::Right(std::future::pending()));
        let mut ended = Ok(());
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    stopping.soon.cancel();
                    stop.set(Either::Right(std::future::pending()));
                    if let Some(drain) = drain {
                        patience.set(Either::Left(time::sleep(drain)));
                    }
                }
                () = &mut patience => {
                    stopping.now.cancel();
                    patience.set(Either::Right(std::future::pending()));
                }
                worker = workers.next() => match worker {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        stopping.soon.cancel();
                        ended = ended.and(Err(error));
                    }
                    None => break,
                },
            }
        }
        work.control.ends(work.topic_stats().await.ok());
        ended
    }

    /// The same pump for what is in quarantine, which it declares.
    async fn in_quarantine(&self) -> Result<Option<Self>> {
        let Some(quarantine) = &self.quarantine else { return Ok(None) };
        let name = &self.subscription.name;
        self.broker.declare(&quarantine.topic, quarantine.options(name)).await?;
        let policy = Policy {
            crashes: quarantine::CRASHES,
            lapses: quarantine::LAPSES,
            quarantine: None,
            ..self.policy.clone()
        };
        let subscription = Arc::new(quarantine.topic.subscription(name));
        let lines = Lines::one(subscription.clone());
        let alone =
            Consume { policy, subscription, lines, quarantine: None, concurrency: 1, adaptive: None, ..self.clone() };
        Ok(Some(alone))
    }
}

/// Its workers are tasks of the container: a kill ends them at their next await, and what they held comes back when its
/// leases have run out. Failures go to the container's log.
impl<S> Container for Consume<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let seed = self.seed.unwrap_or_else(|| context.seed());
        let pump = Consume { seed: Some(seed), context: Some(context.clone()), ..self.clone() };
        let stopped = context.stopped();
        Box::pin(pump.pump(stopped, move |worker| spawned(&context, worker)))
    }
}

/// A worker as a task of the container.
pub(crate) fn spawned(context: &Context, worker: BoxFuture<'static, Result>) -> BoxFuture<'static, Result> {
    let worker = context.spawn(worker);
    Box::pin(async move {
        let ended = worker.await;
        ended.unwrap_or_else(|error| Err(Error::new(Kind::Panicked, "a worker is gone").because(error)))
    })
}
