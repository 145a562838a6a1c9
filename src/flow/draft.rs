//! A flow while it is being described: stages, the edges between them, and what is wrong with it so far.

use super::{
    Tuning,
    fused::Work,
    join::Barrier,
    keeper::Keeper,
    operator::{Caller, Outlets},
};
use crate::base::{
    Name,
    sync::{Lock, atomic::AtomicU64},
};
use crate::queue::{Need, Topic};
use std::{any::TypeId, panic::Location, sync::Arc};

pub(super) type Place = &'static Location<'static>;
pub(super) type Shared = Arc<Lock<Draft>>;

/// Between two stages, or at an end: a topic.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) topic: Topic,
    pub(super) begin: Begin,
    pub(super) end: End,
    pub(super) at: Place,
    pub(super) item: (TypeId, &'static str),
    pub(super) capacity: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Begin {
    Source(Name),
    /// The port of this name of the stage of this number.
    Port(usize, String),
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Nowhere,
    Stage(usize),
    Sink(Name),
}

/// What a stage does with a delivery.
#[derive(Clone)]
pub(super) enum Job {
    /// Plain functions.
    Now(Arc<dyn Work>),
    /// A call per item.
    Later(Arc<dyn Caller>),
    /// It keeps state between deliveries.
    Keeps(Arc<dyn Keeper>),
}

#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) edge: usize,
    /// Which of the lists that the stage makes leaves by it.
    pub(super) list: usize,
}

#[derive(Clone)]
pub(super) struct Stage {
    pub(super) name: Name,
    /// The operators in it, in order.
    pub(super) operators: Vec<&'static str>,
    pub(super) at: Place,
    /// Edges with their weights.
    pub(super) inputs: Vec<(usize, u32)>,
    pub(super) ports: Vec<Port>,
    pub(super) job: Job,
    pub(super) tuning: Tuning,
    /// What it needs of the broker.
    pub(super) needs: Vec<Need>,
    /// What it waits for, where it is a join.
    pub(super) barrier: Option<Barrier>,
    /// It mixes what came of different submissions, so that no join can stand behind it.
    pub(super) mixes: bool,
    /// Where its own delayed messages wait.
    pub(super) timers: Option<Topic>,
    /// Which of its ports are out, where it looks for that.
    pub(super) outs: Option<Arc<Outs>>,
}

/// Which shards are out.
pub(super) struct Outs {
    pub(super) closed: Outlets,
    /// Of the ports.
    pub(super) names: Vec<Name>,
    /// A bit for each port.
    pub(super) mask: AtomicU64,
    /// A port whose topic is full is out, too.
    pub(super) full_is_out: bool,
}

pub(super) struct Draft {
    pub(super) name: Name,
    pub(super) at: Place,
    pub(super) edges: Vec<Edge>,
    pub(super) stages: Vec<Stage>,
    pub(super) tuning: Tuning,
    pub(super) mistakes: Vec<(Place, String)>,
}

impl Draft {
    pub(super) fn new(name: Name, at: Place) -> Draft {
        let mut draft =
            Draft { edges: Vec::new(), stages: Vec::new(), tuning: Tuning::default(), mistakes: Vec::new(), name, at };
        draft.check_name("flow", draft.name.clone().as_str(), at);
        draft
    }

    pub(super) fn mistake(&mut self, at: Place, what: impl Into<String>) {
        self.mistakes.push((at, what.into()));
    }

    /// Names become parts of topics, on any broker.
    pub(super) fn check_name(&mut self, what: &str, name: &str, at: Place) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            self.mistake(at, format!("the name {name:?} of a {what}: letters, digits, '-' and '_' only"));
        }
        if what != "flow" && name == "dead" {
            self.mistake(at, format!("the name \"dead\" of a {what} is that of the flow's dead letters"));
        }
    }

    pub(super) fn topic(&self, name: &str) -> Topic {
        Topic::new(format!("{}.{name}", self.name))
    }

    pub(super) fn edge(&mut self, name: &str, begin: Begin, at: Place, item: (TypeId, &'static str)) -> usize {
        let capacity = match &begin {
            Begin::Source(_) => self.tuning.capacity,
            Begin::Port(stage, _) => self.stages.get(*stage).map_or(self.tuning.capacity, |own| own.tuning.capacity),
        };
        self.edges.push(Edge { topic: self.topic(name), begin, end: End::Nowhere, at, item, capacity });
        self.edges.len() - 1
    }

    /// The name that was given, or one made of what the stage does.
    pub(super) fn name_of(&mut self, given: Option<(Name, Place)>, operator: &str) -> Name {
        let taken = |draft: &Draft, name: &str| draft.stages.iter().any(|stage| stage.name.as_str() == name);
        if let Some((name, at)) = given {
            self.check_name("stage", name.as_str(), at);
            if taken(self, name.as_str()) {
                self.mistake(at, format!("there is a stage {name:?} already"));
            }
            return name;
        }
        let mut name = operator.to_string();
        let mut number = 1;
        while taken(self, &name) {
            number += 1;
            name = format!("{operator}-{number}");
        }
        Name::from(name)
    }

    /// Takes the stage in, and makes the edges that leave it: one for each of these ports, with its list.
    pub(super) fn stage(&mut self, stage: Stage, ports: &[(&str, usize)], item: (TypeId, &'static str)) -> Vec<usize> {
        let number = self.stages.len();
        for (edge, _) in &stage.inputs {
            if let Some(edge) = self.edges.get_mut(*edge) {
                edge.end = End::Stage(number);
            }
        }
        let (name, at) = (stage.name.clone(), stage.at);
        if ports.len() > super::router::PORTS {
            self.mistake(at, format!("{} ports: a stage has at most {}", ports.len(), super::router::PORTS));
        }
        self.stages.push(stage);
        let mut edges = Vec::with_capacity(ports.len());
        for (index, (port, list)) in ports.iter().enumerate() {
            if ports.len() > 1 {
                self.check_name("port", port, at);
            }
            if ports.iter().take(index).any(|(other, _)| other == port) {
                self.mistake(at, format!("the stage {name:?} has two ports {port:?}"));
            }
            let text = if ports.len() > 1 { format!("{name}.{port}") } else { name.to_string() };
            let edge = self.edge(&text, Begin::Port(number, (*port).to_string()), at, item);
            edges.push(edge);
            if let Some(stage) = self.stages.get_mut(number) {
                stage.ports.push(Port { edge, list: *list });
            }
        }
        edges
    }
}
