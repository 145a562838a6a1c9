//! A stream in the making: where it comes from, and the functions since its last edge.

use super::{
    Chain, Item, Tuning, Whole,
    draft::{Draft, Job, Place, Shared, Stage},
    fused::Fused,
    router::{Router, Together},
};
use crate::base::{Name, sync::Lock};
use std::{any::TypeId, fmt, marker::PhantomData, panic::Location, sync::Arc};

/// Items on their way through a [`Flow`](super::Flow). Each operator takes the stream and gives the next one.
///
/// | | |
/// | --- | --- |
/// | inside the stage: plain functions | [`map`](Stream::map), [`filter`](Stream::filter), [`explode`](Stream::explode) |
/// | a call of something else | [`call`](Stream::call) |
/// | one stream to several | [`copy`](Stream::copy), [`split`](Stream::split), [`split_all`](Stream::split_all), [`shard`](Stream::shard) |
/// | several to one | [`merge`](Stream::merge) |
/// | a batch to one; two streams by key | [`join`](Stream::join), [`pair`](Stream::pair) |
/// | all to one, as it comes; lists | [`reduce`](Stream::reduce), [`window`](Stream::window) |
/// | what is done outside | [`outbox`](Stream::outbox) |
/// | the end | [`sink`](Stream::sink), [`inbox`](Stream::inbox), [`discard`](Stream::discard) |
///
/// `In` is what its stage takes from its edge, `C` the functions since then: a stage runs them over a whole batch, composed
/// while compiling. [`edge`](Stream::edge) ends the stage, so that the type is [`Edge`].
#[must_use = "a stream leads nowhere until it ends in a sink"]
pub struct Stream<In, C = Whole> {
    draft: Shared,
    inputs: Vec<(usize, u32)>,
    weight: u32,
    chain: C,
    operators: Vec<&'static str>,
    name: Option<(Name, Place)>,
    tuning: Tuning,
    marker: PhantomData<fn(&In)>,
}

/// A stream at the beginning of a stage.
pub type Edge<T> = Stream<T, Whole>;

pub(super) fn type_of<T: 'static>() -> (TypeId, &'static str) {
    (TypeId::of::<T>(), std::any::type_name::<T>())
}

impl<T: Item> Edge<T> {
    pub(super) fn at_edges(draft: Shared, inputs: Vec<(usize, u32)>) -> Edge<T> {
        let tuning = draft.lock().tuning;
        let (chain, operators) = (Whole, Vec::new());
        Stream { draft, inputs, weight: 1, chain, operators, name: None, tuning, marker: PhantomData }
    }
}

impl<In, C> Stream<In, C> {
    /// One more function in the stage.
    pub(super) fn fuse<D>(mut self, operator: &'static str, next: impl FnOnce(C) -> D) -> Stream<In, D> {
        self.operators.push(operator);
        let Stream { draft, inputs, weight, chain, operators, name, tuning, .. } = self;
        Stream { draft, inputs, weight, chain: next(chain), operators, name, tuning, marker: PhantomData }
    }

    /// Names the stage in the making. Topics and state are called by it, so it must stay the same while there are
    /// messages. Default: its last operator, with a number where that is taken.
    #[track_caller]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.name = Some((name.into(), Location::caller()));
        self
    }

    pub(super) fn named_at(mut self, name: Name, at: Place) -> Self {
        self.name = Some((name, at));
        self
    }

    /// Sets how the stage in the making runs.
    pub fn tune(mut self, set: impl FnOnce(Tuning) -> Tuning) -> Self {
        self.tuning = set(self.tuning);
        self
    }

    /// How big a share this stream has of a [`merge`](Stream::merge), beside others. Default 1; 0 counts as 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.max(1);
        self
    }

    pub(super) fn draft(&self) -> &Shared {
        &self.draft
    }
}

/// What a stage is made of, apart from what it does.
pub(super) struct Begun<C> {
    pub(super) draft: Shared,
    pub(super) chain: C,
    pub(super) operators: Vec<&'static str>,
    pub(super) inputs: Vec<(usize, u32)>,
    pub(super) name: Option<(Name, Place)>,
    pub(super) tuning: Tuning,
}

impl<C> Begun<C> {
    /// Ends the stage with this job.
    pub(super) fn stage(mut self, operator: &'static str, at: Place, job: Job) -> (Shared, Stage) {
        if !operator.is_empty() {
            self.operators.push(operator);
        }
        let last = self.operators.last().copied().unwrap_or("pass");
        let name = self.draft.lock().name_of(self.name, last);
        let (needs, barrier, timers) = (Vec::new(), None, None);
        let Begun { draft, operators, inputs, tuning, .. } = self;
        let ports = Vec::new();
        (
            draft,
            Stage { name, operators, at, inputs, ports, job, tuning, needs, barrier, mixes: false, timers, outs: None },
        )
    }
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Ends the stage here: from here on, another one goes on with what this one made, from a topic. Where no function
    /// stands since the last edge, this changes nothing.
    #[track_caller]
    pub fn edge(self) -> Edge<C::Out> {
        let at = Location::caller();
        let (draft, inputs) = self.into_edges(at);
        Edge::at_edges(draft, inputs)
    }

    /// Its edges with their shares in a merge.
    pub(super) fn into_edges(self, at: Place) -> (Shared, Vec<(usize, u32)>) {
        if C::WHOLE {
            let share = |(edge, weight): (usize, u32)| (edge, weight.saturating_mul(self.weight));
            return (self.draft, self.inputs.into_iter().map(share).collect());
        }
        let weight = self.weight;
        let (draft, edges) = self.end("", at, Together, &[("out", 0)]);
        (draft, edges.into_iter().map(|edge| (edge, weight)).collect())
    }

    /// One edge, which no other stage reads.
    pub(super) fn into_edge(self, at: Place) -> (Shared, usize) {
        if C::WHOLE
            && let [(edge, _)] = *self.inputs
        {
            return (self.draft, edge);
        }
        let (draft, edges) = self.end("merge", at, Together, &[("out", 0)]);
        (draft, edges.first().copied().unwrap_or_default())
    }

    /// The stage that follows: the name and the settings are its own, and what stands here ends before it.
    pub(super) fn after_edge(mut self, at: Place) -> Begun<()> {
        let (name, tuning) = (self.name.take(), self.tuning);
        let (draft, inputs) = self.into_edges(at);
        Begun { draft, chain: (), operators: Vec::new(), inputs, name, tuning }
    }

    /// The same, as a stream.
    pub(super) fn recorded(self, at: Place) -> Edge<C::Out> {
        let Begun { draft, operators, inputs, name, tuning, .. } = self.after_edge(at);
        Stream { draft, inputs, weight: 1, chain: Whole, operators, name, tuning, marker: PhantomData }
    }

    pub(super) fn begun(self) -> Begun<C> {
        let Stream { draft, chain, operators, inputs, name, tuning, .. } = self;
        Begun { draft, chain, operators, inputs, name, tuning }
    }

    /// Ends the stage with this router; the edges that leave it.
    pub(super) fn end<R: Router<C::Out>>(
        self,
        operator: &'static str,
        at: Place,
        router: R,
        ports: &[(&str, usize)],
    ) -> (Shared, Vec<usize>) {
        let operator = if operator == "merge" && !C::WHOLE { "" } else { operator };
        let Begun { draft, chain, operators, inputs, name, tuning } = self.begun();
        let job = Job::Now(Arc::new(Fused::new(chain, router)));
        let begun = Begun { draft, chain: (), operators, inputs, name, tuning };
        let (draft, stage) = begun.stage(operator, at, job);
        let edges = draft.lock().stage(stage, ports, type_of::<C::Out>());
        (draft, edges)
    }
}

impl<In, C> fmt::Debug for Stream<In, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("operators", &self.operators).finish_non_exhaustive()
    }
}

pub(super) fn shared(draft: Draft) -> Shared {
    Arc::new(Lock::new(draft))
}
