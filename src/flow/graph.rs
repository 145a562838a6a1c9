//! A flow that is complete: checked, and ready to run on a broker.

use super::{
    Input, Item, Output, Run,
    draft::{Begin, Draft, Edge, End, Place, Shared, Stage},
    stream,
};
use crate::base::{Error, Kind, Name, Result};
use crate::queue::{Broker, Guarantees, Need, Subscription, Topic, TopicOptions};
use std::{any::TypeId, fmt, panic::Location, sync::Arc, time::Duration};

/// A graph of operators in the making: sources, what becomes of their items, sinks.
///
/// 1. [`source`](Flow::source) gives a [`Stream`](super::Stream); each operator takes a stream and gives the next.
/// 2. [`build`](Flow::build) checks all of it. Types are checked by the compiler, and a cycle cannot be written.
/// 3. [`Graph::on`] a broker runs it: all of it here, or some of its stages, while others run elsewhere.
///
/// Functions between two edges are one stage: they run over a whole batch, composed while compiling. Edges are topics
/// `<flow>.<stage>` or `<flow>.<stage>.<port>`.
///
/// # Guarantees
/// What a stage takes, what it makes and what it knows are one step: where the broker has
/// [atomic steps](crate::queue::Guarantees::atomic_step), each item leaves each stage exactly once, or goes to the dead
/// letters `<flow>.dead` with the reason. Elsewhere outputs are published under ids that say where they came from, then
/// the input is acknowledged: what is published again is a duplicate within the topic's window, and [`Graph::check`]
/// refuses a broker whose window is too short, unless an [`inbox`](super::Stream::inbox) stands at every end.
///
/// # Not guaranteed
/// That a function or a call runs once for an item. The order of items.
///
/// ```
/// use seedpod::{flow::Flow, queue::{Id, Memory}};
/// use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let mut flow = Flow::new("shop");
/// let paid = flow.source::<u32>("orders").filter(|cents| *cents > 0).map(|cents| cents / 100);
/// paid.sink("euros");
/// let graph = flow.build()?;
///
/// let run = graph.on(Arc::new(Memory::new()));
/// let orders = run.input::<u32>("orders").await?;
/// orders.batch(Id::of("monday"), vec![250, 0, 900]).await?;
/// run.until_drained().await?;
/// assert_eq!(run.output::<u32>("euros")?.ready().await?, [2, 9]);
/// # Ok(()) }
/// ```
pub struct Flow {
    draft: Shared,
}

impl Flow {
    /// An empty flow of this name.
    #[track_caller]
    pub fn new(name: impl Into<Name>) -> Flow {
        Flow { draft: stream::shared(Draft::new(name.into(), Location::caller())) }
    }

    /// Sets how the stages run that begin from now on.
    pub fn tune(&mut self, set: impl FnOnce(super::Tuning) -> super::Tuning) -> &mut Self {
        let mut draft = self.draft.lock();
        let tuning = draft.tuning;
        drop(draft);
        let tuning = set(tuning); // foreign code, so not under the lock
        draft = self.draft.lock();
        draft.tuning = tuning;
        drop(draft);
        self
    }

    pub(super) fn draft(&self) -> &Shared {
        &self.draft
    }

    /// Checks the graph.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with all mistakes at once, each at the line that made it: streams that lead nowhere, names that
    /// are there twice or cannot be part of a topic, streams of different flows, joins that cannot tell batches apart.
    pub fn build(self) -> Result<Graph> {
        let draft = self.draft.lock();
        let mut mistakes = draft.mistakes.clone();
        let (edges, stages) = (draft.edges.clone(), draft.stages.clone());
        mistakes.extend(unconnected(&edges, &stages));
        mistakes.extend(doubles(&edges, &draft));
        let reach = reach(&edges, &stages);
        mistakes.extend(mixed(&edges, &stages, &reach));
        if stages.is_empty() && edges.is_empty() {
            mistakes.push((draft.at, format!("the flow {:?} is empty", draft.name.as_str())));
        }
        mistakes.sort_by_key(|(at, _)| (at.file(), at.line(), at.column()));
        let name = draft.name.clone();
        if mistakes.is_empty() {
            let dead = draft.topic("dead");
            return Ok(Graph(Arc::new(Plan { name, dead, stages, edges, reach })));
        }
        let lines: Vec<_> = mistakes.iter().map(|(at, what)| format!("{}:{}: {what}", at.file(), at.line())).collect();
        let count = match lines.len() {
            1 => "1 mistake".to_string(),
            count => format!("{count} mistakes"),
        };
        Err(Error::new(Kind::Invalid, format!("{count}\n{}", lines.join("\n"))).at(format!("flow {name}")))
    }
}

fn name_of(edge: &Edge, stages: &[Stage]) -> String {
    match &edge.begin {
        Begin::Source(name) => format!("the source {:?}", name.as_str()),
        Begin::Port(stage, port) => {
            let (name, several) =
                stages.get(*stage).map_or(("", false), |stage| (stage.name.as_str(), stage.ports.len() > 1));
            if several { format!("the port {port:?} of {name:?}") } else { format!("the stage {name:?}") }
        }
    }
}

fn unconnected<'a>(edges: &'a [Edge], stages: &'a [Stage]) -> impl Iterator<Item = (Place, String)> + 'a {
    let open = edges.iter().filter(|edge| matches!(edge.end, End::Nowhere));
    open.map(|edge| (edge.at, format!("{} leads nowhere: end it in a sink, or discard it", name_of(edge, stages))))
}

/// Topics that several would write to.
fn doubles<'a>(edges: &'a [Edge], draft: &'a Draft) -> impl Iterator<Item = (Place, String)> + 'a {
    edges.iter().enumerate().filter_map(move |(at, edge)| {
        let same = |other: &&Edge| other.topic == edge.topic;
        edges.iter().take(at).find(same)?;
        let what = match (&edge.begin, &edge.end) {
            (_, End::Sink(name)) => format!("there is a sink, a source or a stage {:?} already", name.as_str()),
            (Begin::Source(name), _) => format!("there is a source, a sink or a stage {:?} already", name.as_str()),
            _ => format!("{} has the topic of another", name_of(edge, &draft.stages)),
        };
        Some((edge.at, what))
    })
}

/// The joins that can be reached from each edge.
fn reach(edges: &[Edge], stages: &[Stage]) -> Vec<Vec<usize>> {
    let mut reach: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    // a stage is made after those that it reads from
    for (number, stage) in stages.iter().enumerate().rev() {
        let beyond = stage.ports.iter().flat_map(|port| reach.get(port.edge).cloned().unwrap_or_default());
        let mut joins: Vec<_> = beyond.chain(stage.barrier.is_some().then_some(number)).collect();
        joins.sort_unstable();
        joins.dedup();
        for (edge, _) in &stage.inputs {
            if let Some(reach) = reach.get_mut(*edge) {
                reach.clone_from(&joins);
            }
        }
    }
    reach
}

/// Joins behind what mixes batches.
fn mixed<'a>(
    edges: &'a [Edge],
    stages: &'a [Stage],
    reach: &'a [Vec<usize>],
) -> impl Iterator<Item = (Place, String)> + 'a {
    stages.iter().filter(|stage| stage.mixes).flat_map(move |stage| {
        let ports = stage.ports.iter().filter_map(|port| reach.get(port.edge));
        let joins = ports.flatten().filter_map(|join| stages.get(*join));
        let _ = edges;
        joins.map(move |join| {
            let (join, stage) = (join, stage.name.as_str());
            (join.at, format!("the join {:?} stands behind {stage:?}, which mixes batches", join.name.as_str()))
        })
    })
}

/// What a [`Graph`] holds.
pub(super) struct Plan {
    pub(super) name: Name,
    pub(super) dead: Topic,
    pub(super) stages: Vec<Stage>,
    pub(super) edges: Vec<Edge>,
    /// The joins that wait for what is on an edge.
    pub(super) reach: Vec<Vec<usize>>,
}

impl Plan {
    /// The sinks that lie behind this stage.
    fn sinks(&self, stage: &Stage) -> Vec<&Name> {
        let (mut sinks, mut next, mut seen) = (Vec::new(), vec![stage], vec![false; self.edges.len()]);
        while let Some(stage) = next.pop() {
            for port in &stage.ports {
                let (Some(edge), Some(seen)) = (self.edges.get(port.edge), seen.get_mut(port.edge)) else { continue };
                if std::mem::replace(seen, true) {
                    continue;
                }
                match &edge.end {
                    End::Sink(name) => sinks.push(name),
                    End::Stage(stage) => next.extend(self.stages.get(*stage)),
                    End::Nowhere => {}
                }
            }
        }
        sinks
    }
}

/// A [`Flow`] that was built; clones share.
#[derive(Clone)]
pub struct Graph(pub(super) Arc<Plan>);

/// For how long sources know ids, where the broker can: the window of SQS's queues without duplicates.
const SOURCE_WINDOW: Duration = Duration::from_secs(300);

impl Graph {
    /// The name of the subscription that the topic of each sink has.
    pub const READERS: &str = "readers";

    /// The flow's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The names of its stages, in the order in which they were made.
    pub fn stages(&self) -> impl Iterator<Item = &Name> {
        self.0.stages.iter().map(|stage| &stage.name)
    }

    /// Where what was given up goes, with the reason.
    pub fn dead_letters(&self) -> &Topic {
        &self.0.dead
    }

    /// Runs it on this broker, once it is told to.
    pub fn on(&self, broker: Arc<dyn Broker>) -> Run {
        Run::new(self.clone(), broker)
    }

    /// The subscription to this sink, to be read by [`consume`](crate::queue::consume) or by hand.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming the flow and the sink, where there is none of this name.
    pub fn subscription(&self, sink: &str) -> Result<Subscription> {
        self.sink(sink).map(|edge| edge.topic.subscription(Self::READERS))
    }

    fn sink(&self, sink: &str) -> Result<&Edge> {
        let found = self.0.edges.iter().find(|edge| matches!(&edge.end, End::Sink(name) if name.as_str() == sink));
        found.ok_or_else(|| self.unknown("sink", sink))
    }

    #[cold]
    fn unknown(&self, what: &str, name: &str) -> Error {
        Error::new(Kind::NotFound, format!("it has no {what} {name:?}")).at(format!("flow {}", self.0.name))
    }

    fn typed<T: Item>(&self, edge: &Edge, name: &str) -> Result {
        if edge.item.0 == TypeId::of::<T>() {
            return Ok(());
        }
        let message = format!("{name:?} carries {}, not {}", edge.item.1, std::any::type_name::<T>());
        Err(Error::new(Kind::Invalid, message).at(format!("flow {}", self.0.name)))
    }

    pub(super) fn output<T: Item>(&self, broker: &Arc<dyn Broker>, sink: &str) -> Result<Output<T>> {
        let edge = self.sink(sink)?;
        self.typed::<T>(edge, sink)?;
        Ok(Output::new(broker.clone(), edge.topic.subscription(Self::READERS)))
    }

    pub(super) fn input<T: Item>(&self, broker: &Arc<dyn Broker>, source: &str) -> Result<Input<T>> {
        let mine = |edge: &&Edge| matches!(&edge.begin, Begin::Source(name) if name.as_str() == source);
        let number = self.0.edges.iter().position(|edge| mine(&edge)).ok_or_else(|| self.unknown("source", source))?;
        let edge = self.0.edges.get(number).ok_or_else(|| self.unknown("source", source))?;
        self.typed::<T>(edge, source)?;
        let joined = self.0.reach.get(number).is_some_and(|joins| !joins.is_empty());
        Ok(Input::new(broker.clone(), edge.topic.clone(), joined))
    }

    /// Whether a broker with these guarantees can run it.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] with all that is lacking: which operator of which stage needs what, and the broker's name.
    pub fn check(&self, guarantees: &Guarantees) -> Result {
        let mut lacks = Vec::new();
        for stage in &self.0.stages {
            let operator = stage.operators.last().copied().unwrap_or("pass");
            let place = || format!("{operator} {:?}", stage.name.as_str());
            if let Err(error) = guarantees.require(&stage.needs) {
                lacks.push(format!("{}: {}", place(), error.message()));
            }
            let horizon = stage.tuning.horizon();
            if guarantees.atomic_step || guarantees.has(Need::Dedup(horizon)) {
                continue;
            }
            let window = guarantees.dedup.map_or("none".into(), |most| format!("at most {} s", most.as_secs()));
            let sinks: Vec<_> = self.0.sinks(stage).into_iter().map(|name| format!("{:?}", name.as_str())).collect();
            if !sinks.is_empty() {
                lacks.push(format!(
                    "{}: the broker {} has no atomic steps, and what this publishes may be published again for {} s: it \
                     needs ids to be known for that long ({window}), or an inbox at its end instead of the sink {}",
                    place(),
                    guarantees.name,
                    horizon.as_secs(),
                    sinks.join(", ")
                ));
            }
        }
        if lacks.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Unsupported, lacks.join("\n")).at(format!("flow {}", self.0.name)))
    }

    /// Declares all topics. Doing it again changes nothing.
    pub(super) async fn declare(&self, broker: &dyn Broker) -> Result {
        let (guarantees, plan) = (broker.guarantees(), &self.0);
        for edge in &plan.edges {
            let reader = match &edge.end {
                End::Stage(stage) => plan.stages.get(*stage).map(|stage| stage.name.clone()),
                End::Sink(_) | End::Nowhere => Some(Name::from(Self::READERS)),
            };
            let mut options = TopicOptions::new().capacity(edge.capacity).dead_letters(&plan.dead);
            options.subscriptions.extend(reader);
            options.dedup = match &edge.begin {
                Begin::Source(_) => guarantees.dedup.map(|most| most.min(SOURCE_WINDOW)),
                Begin::Port(..) if guarantees.atomic_step => None,
                Begin::Port(stage, _) => {
                    let horizon = plan.stages.get(*stage).map(|stage| stage.tuning.horizon());
                    horizon.filter(|horizon| guarantees.has(Need::Dedup(*horizon)))
                }
            };
            broker.declare(&edge.topic, options).await?;
        }
        for stage in &plan.stages {
            for topic in stage.barrier.iter().map(|barrier| &barrier.account) {
                let options = TopicOptions::new().subscription(&stage.name).capacity(stage.tuning.capacity.max(4096));
                broker.declare(topic, options).await?;
            }
            for topic in stage.timers.iter() {
                let options = TopicOptions::new().subscription(&stage.name).capacity(super::keeper::TIMERS);
                broker.declare(topic, options).await?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("name", &self.draft.lock().name).finish_non_exhaustive()
    }
}
