//! A run as it is now: what each stage did, and what waits on each edge.

use super::{
    Graph,
    draft::{End, Stage},
    draw,
    live::Live,
};
use crate::base::{
    Name, Result,
    sync::{Lock, atomic::Ordering},
    time::{self, Instant},
};
use crate::queue::{Broker, Topic, TopicStats};
use std::{fmt, sync::Arc, time::Duration};

/// What a stage did in this run, all of its workers together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StageStats {
    /// Its name.
    pub name: Name,
    /// Items that it is done with.
    pub taken: u64,
    /// Items that it made.
    pub made: u64,
    /// Times that an item was given back, to be tried again.
    pub retried: u64,
    /// Items that it gave up: dead letters.
    pub rejected: u64,
    /// Items whose lease was lost while it worked on them.
    pub lost: u64,
    /// Items that it was done with, per second since [`watch`](super::Run::watch) was called.
    pub rate: f64,
    /// How long its workers took for an item, with what it waited for room further down.
    pub service: Duration,
}

/// The live view of a [`Run`](super::Run).
#[derive(Clone)]
pub struct Watch {
    graph: Graph,
    broker: Arc<dyn Broker>,
    live: Arc<Lock<Vec<Arc<Live>>>>,
    since: Instant,
}

impl Watch {
    pub(super) fn new(graph: Graph, broker: Arc<dyn Broker>, live: Arc<Lock<Vec<Arc<Live>>>>) -> Watch {
        Watch { graph, broker, live, since: time::now() }
    }

    /// What each stage did that ran here, in the order of the graph.
    pub fn stages(&self) -> Vec<StageStats> {
        let live = self.live.lock().clone();
        let seconds = time::now().saturating_duration_since(self.since).as_secs_f64();
        let stages = self.graph.0.stages.iter().enumerate();
        stages
            .filter_map(|(number, stage)| stats(stage, live.iter().filter(|live| live.number == number), seconds))
            .collect()
    }

    /// What waits in the topic that leads to this stage or sink, by its topic.
    ///
    /// # Errors
    /// The broker's.
    pub async fn edges(&self) -> Result<Vec<(Topic, TopicStats)>> {
        let mut edges = Vec::with_capacity(self.graph.0.edges.len());
        for edge in &self.graph.0.edges {
            edges.push((edge.topic.clone(), self.broker.inspect(&edge.topic).await?));
        }
        Ok(edges)
    }

    /// The graph as Mermaid, with what waits on each edge, and what each stage did.
    ///
    /// # Errors
    /// The broker's.
    pub async fn to_mermaid(&self) -> Result<String> {
        Ok(draw::mermaid(&self.graph.0, &self.labels().await?))
    }

    /// The same as DOT.
    ///
    /// # Errors
    /// The broker's.
    pub async fn to_dot(&self) -> Result<String> {
        Ok(draw::dot(&self.graph.0, &self.labels().await?))
    }

    async fn labels(&self) -> Result<draw::Labels> {
        let edges = self.edges().await?;
        let on_edge = |(_, stats): &(Topic, TopicStats)| match stats.oldest {
            Some(oldest) => format!("{} waiting, oldest {:.1} s", stats.stored, oldest.as_secs_f64()),
            None => format!("{} waiting", stats.stored),
        };
        let stages = self.stages();
        let in_stage = |stage: &Stage| {
            let stats = stages.iter().find(|stats| stats.name == stage.name)?;
            let mut text = format!("{} in, {} out, {:.0}/s", stats.taken, stats.made, stats.rate);
            if !stats.service.is_zero() {
                text += &format!(", {:?} each", stats.service);
            }
            if stats.retried + stats.rejected > 0 {
                text += &format!(", {} again, {} dead", stats.retried, stats.rejected);
            }
            Some(text)
        };
        Ok(draw::Labels {
            edges: edges.iter().map(on_edge).map(Some).collect(),
            stages: self.graph.0.stages.iter().map(in_stage).collect(),
        })
    }
}

fn stats<'a>(stage: &Stage, live: impl Iterator<Item = &'a Arc<Live>>, seconds: f64) -> Option<StageStats> {
    let mut stats = StageStats {
        name: stage.name.clone(),
        taken: 0,
        made: 0,
        retried: 0,
        rejected: 0,
        lost: 0,
        rate: 0.0,
        service: Duration::ZERO,
    };
    let (mut busy, mut here) = (0, false);
    for live in live {
        here = true;
        let counts = &live.counts;
        stats.taken += counts.taken.load(Ordering::Relaxed);
        stats.made += counts.made.load(Ordering::Relaxed);
        stats.retried += counts.retried.load(Ordering::Relaxed);
        stats.rejected += counts.rejected.load(Ordering::Relaxed);
        stats.lost += counts.lost.load(Ordering::Relaxed);
        busy += counts.busy_nanos.load(Ordering::Relaxed);
    }
    if seconds > 0.0 {
        stats.rate = stats.taken as f64 / seconds;
    }
    stats.service = Duration::from_nanos(busy.checked_div(stats.taken).unwrap_or(0));
    here.then_some(stats)
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks = self.graph.0.edges.iter().filter(|edge| matches!(edge.end, End::Sink(_))).count();
        f.debug_struct("Watch").field("flow", self.graph.name()).field("sinks", &sinks).finish_non_exhaustive()
    }
}
