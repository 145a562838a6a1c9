//! A graph on a broker: all of its stages here, or some of them, until told to stop.

use super::{
    Graph, Input, Item, Output,
    draft::{Begin, End},
    live::Live,
    watch::Watch,
};
use crate::base::{Error, Few, Kind, Name, Result, Seed, sync::Lock, time};
use crate::pod::{Container, Context};
use crate::queue::{Broker, spawned};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A [`Graph`] on a broker. It is a [`Container`]; or it runs in the caller's task until told to stop.
///
/// Several may run the same graph on the same broker, in as many processes as you like; the workers of a stage share its
/// items. [`only`](Run::only) runs some of the stages: a program that is given the names by its environment is each of
/// them in a pod of its own.
///
/// # Cancel-safety
/// Dropped, it takes its workers along; what they held comes back when its leases have run out.
#[derive(Clone)]
#[must_use = "it does nothing until it is run"]
pub struct Run {
    graph: Graph,
    broker: Arc<dyn Broker>,
    only: Option<Vec<Name>>,
    seed: Option<Seed>,
    live: Arc<Lock<Vec<Arc<Live>>>>,
}

/// How often a drain looks whether anything is left.
const LOOK: Duration = Duration::from_millis(5);

impl Run {
    pub(super) fn new(graph: Graph, broker: Arc<dyn Broker>) -> Run {
        Run { graph, broker, only: None, seed: None, live: Arc::default() }
    }

    /// Runs these stages, and no others.
    pub fn only<N: Into<Name>>(mut self, stages: impl IntoIterator<Item = N>) -> Self {
        self.only = Some(stages.into_iter().map(Into::into).collect());
        self
    }

    /// What the jitter comes from. Default: the container's seed, else the simulation's, else the system's.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sends to this source.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none of this name; [`Kind::Invalid`] where it carries another type;
    /// [`Kind::Unsupported`] as from [`Graph::check`]; else the broker's.
    pub async fn input<T: Item>(&self, source: &str) -> Result<Input<T>> {
        let input = self.graph.input(&self.broker, source)?;
        self.ready().await?;
        Ok(input)
    }

    /// Takes from this sink.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none of this name; [`Kind::Invalid`] where it carries another type.
    pub fn output<T: Item>(&self, sink: &str) -> Result<Output<T>> {
        self.graph.output(&self.broker, sink)
    }

    /// What it does and what waits, live: for all clones of this run.
    pub fn watch(&self) -> Watch {
        Watch::new(self.graph.clone(), self.broker.clone(), self.live.clone())
    }

    /// Checks the broker, and declares all topics.
    async fn ready(&self) -> Result {
        self.graph.check(&self.broker.guarantees())?;
        self.graph.declare(&*self.broker).await
    }

    /// Runs until told to stop, then until each worker has settled what it has in hand.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a stage that is not there; [`Kind::Unsupported`], as from [`Graph::check`]; what the
    /// broker refuses for good. While it is overloaded or out of reach, workers wait and try again.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result {
        self.pump(stop, None, |worker| worker).await
    }

    /// Runs until nothing is left but what waits in sinks, or for a time to pass. What is sent meanwhile may be left.
    ///
    /// # Errors
    /// Those of [`run_until`](Run::run_until).
    pub async fn until_drained(&self) -> Result {
        let drained = Lock::new(Ok(()));
        self.run_until(async {
            loop {
                match self.is_drained().await {
                    Ok(false) => time::sleep(LOOK).await,
                    Err(error) if error.is_retryable() => time::sleep(LOOK).await,
                    Ok(true) => return,
                    Err(error) => {
                        *drained.lock() = Err(error);
                        return;
                    }
                }
            }
        })
        .await?;
        drained.lock().clone()
    }

    /// Whether nothing is on its way. Items only move on, so it looks from the sources down.
    async fn is_drained(&self) -> Result<bool> {
        let plan = &self.graph.0;
        let sources = plan.edges.iter().filter(|edge| matches!(edge.begin, Begin::Source(_)));
        let mut topics: Few<_> =
            sources.filter(|edge| !matches!(edge.end, End::Sink(_))).map(|edge| &edge.topic).collect();
        for stage in &plan.stages {
            topics.extend(stage.barrier.iter().map(|barrier| &barrier.account));
            let edges = stage.ports.iter().filter_map(|port| plan.edges.get(port.edge));
            topics.extend(edges.filter(|edge| !matches!(edge.end, End::Sink(_))).map(|edge| &edge.topic));
            if stage.barrier.is_none() {
                topics.extend(&stage.timers); // of a join, only batches whose time is over anyway
            }
        }
        for topic in topics {
            match self.broker.inspect(topic).await {
                Ok(stats) if stats.stored == 0 => {}
                Err(error) if error.is_not_found() => return Ok(false), // it is about to be declared
                Err(error) => return Err(error),
                Ok(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn stages(&self, context: Option<&Context>, stopping: &CancellationToken) -> Result<Vec<Arc<Live>>> {
        let plan = &self.graph.0;
        if let Some(missing) = self.only.iter().flatten().find(|name| !self.graph.stages().any(|own| own == *name)) {
            let own: Vec<_> = self.graph.stages().map(Name::as_str).collect();
            let message = format!("it has no stage {missing:?}, only {}", own.join(", "));
            return Err(Error::new(Kind::NotFound, message).at(format!("flow {}", plan.name)));
        }
        let here = |number: &usize| {
            let stage = plan.stages.get(*number);
            self.only.as_ref().is_none_or(|only| stage.is_some_and(|stage| only.contains(&stage.name)))
        };
        let numbers = (0..plan.stages.len()).filter(here);
        let aside = Arc::default();
        Ok(numbers
            .filter_map(|number| Live::new(plan, number, &self.broker, context.cloned(), stopping, &aside))
            .map(Arc::new)
            .collect())
    }

    async fn pump(
        &self,
        stop: impl Future<Output = ()>,
        context: Option<Context>,
        spawn: impl Fn(BoxFuture<'static, Result>) -> BoxFuture<'static, Result>,
    ) -> Result {
        let stopping = CancellationToken::new();
        let stages = self.stages(context.as_ref(), &stopping)?;
        self.ready().await?;
        if let Some(context) = &context {
            context.ready();
        }
        self.live.lock().extend(stages.iter().cloned());
        let _stop_when_dropped = stopping.clone().drop_guard();
        let seed = self.seed.unwrap_or_else(Seed::ambient).fork("flow").fork(self.graph.name().as_str());
        let mut workers = FuturesUnordered::new();
        for stage in stages {
            for worker in 0..stage.stage.tuning.workers {
                let rng = seed.fork(stage.name().as_str()).fork_index(worker as u64).rng();
                workers.push(spawn(Box::pin(stage.clone().work(rng))));
            }
        }
        let (mut stop, mut ended, mut told) = (pin!(stop), Ok(()), false);
        loop {
            tokio::select! {
                biased;
                () = &mut stop, if !told => {
                    told = true;
                    stopping.cancel();
                }
                worker = workers.next() => match worker {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        stopping.cancel();
                        ended = ended.and(Err(error));
                    }
                    None if told || ended.is_err() => return ended,
                    None => {
                        stop.await; // it has no stages: what it does not do, it does until told to stop
                        return Ok(());
                    }
                },
            }
        }
    }
}

/// Its workers are tasks of the container: a kill ends them at their next await, and what they held comes back when its
/// leases have run out. What is given up goes to the container's log.
impl Container for Run {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let run = Run { seed: Some(self.seed.unwrap_or_else(|| context.seed())), ..self.clone() };
        let stopped = context.stopped();
        Box::pin(async move {
            let own = context.clone();
            run.pump(stopped, Some(context), move |worker| spawned(&own, worker)).await
        })
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("flow", self.graph.name()).field("only", &self.only).finish_non_exhaustive()
    }
}
