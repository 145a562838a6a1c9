//! Reduce: partial results, merged as they come.

use crate::base::{Result, Rng};
use crate::flow::{
    Chain, Edge, Emit, Item, Reduce, Stream,
    cover::{Cover, Covered, Overlap},
    draft::{Job, Stage},
    fault::Fault,
    fused::{List, Made, Mode, Work, decode, read, words_of},
    keeper::{Keeper, Rows},
    live::{Live, LiveInput},
    part::Part,
    reduce::add,
    stream::{Begun, type_of},
};
use crate::queue::{Delivery, Id, Json, Need, Payload, Postcard, Publish, Step};
use futures::future::BoxFuture;
use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::Arc,
};

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// The result over all items so far, again and again as it changes.
    ///
    /// ```text
    /// a b ──▶ combine ─┐
    ///                  ├─▶ reduce ──▶ after a b, after a b c
    /// c ────▶ combine ─┘
    /// ```
    ///
    /// The functions before it run in a stage `<name>-combine`, with this stream's settings, which makes one partial
    /// result of each delivery; as many workers as you like do that in parallel. The stage `<name>` merges those into the
    /// state. It waits for nothing to be complete: for the result of a batch, [`join`](Stream::join) it.
    ///
    /// # Guarantees
    /// Each item counts once, whatever crashes: partial results carry which items of which batches are in them, and the
    /// state knows the last 128 runs of those. A partial result that comes again is passed over; one that covers in part
    /// what is counted already goes to the dead letters. One result goes out for each step that changed the state, in the same
    /// step; the last one is the result over all.
    ///
    /// # Errors
    /// [`Graph::check`](crate::flow::Graph::check) refuses a broker without atomic steps and state.
    ///
    /// ```
    /// use seedpod::{flow::{Flow, Sum}, queue::{Id, Memory}};
    /// use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let mut flow = Flow::new("till");
    /// flow.source::<u32>("cents").reduce(Sum::of(|cents: &u32| *cents)).sink("total");
    ///
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    /// run.input::<u32>("cents").await?.batch(Id::of("monday"), vec![250, 900]).await?;
    /// run.until_drained().await?;
    /// assert_eq!(run.output::<i128>("total")?.ready().await?.last(), Some(&1150));
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn reduce<R: Reduce<C::Out>>(self, reduce: R) -> Edge<R::Out> {
        let (at, reduce) = (Location::caller(), Arc::new(reduce));
        let mut begun = self.begun();
        let given = begun.name.take();
        let name = begun.draft.lock().name_of(given, "reduce");
        let (workers, tuning) = (begun.tuning.workers, begun.tuning);
        begun.name = Some((format!("{name}-combine").into(), at));
        let chain = Combine::<In, C, R> { chain: begun.chain, reduce: reduce.clone(), marker: PhantomData };
        let begun = Begun {
            draft: begun.draft,
            chain: (),
            operators: begun.operators,
            inputs: begun.inputs,
            name: begun.name,
            tuning: tuning.workers(workers),
        };
        let (draft, mut stage) = begun.stage("combine", at, Job::Now(Arc::new(chain)));
        stage.mixes = true;
        let inputs = draft.lock().stage(stage, &[("out", 0)], type_of::<Covered<R::Partial>>());
        let begun = Begun {
            draft,
            chain: (),
            operators: Vec::new(),
            inputs: inputs.into_iter().map(|edge| (edge, 1)).collect(),
            name: Some((name, at)),
            tuning: tuning.workers(1),
        };
        let keeper = Reducer::<C::Out, R> { reduce, marker: PhantomData };
        let (draft, stage) = begun.stage("reduce", at, Job::Keeps(Arc::new(keeper)));
        let stage = Stage { needs: vec![Need::AtomicStep, Need::State], mixes: true, ..stage };
        let edges = draft.lock().stage(stage, &[("out", 0)], type_of::<R::Out>());
        Edge::at_edges(draft, edges.into_iter().map(|edge| (edge, 1)).collect())
    }
}

/// A delivery to one partial result.
struct Combine<In, C, R> {
    chain: C,
    reduce: Arc<R>,
    marker: PhantomData<fn(&In)>,
}

/// Adds what a chain makes.
struct Adding<'a, T, R: Reduce<T>>(&'a R, &'a mut Option<R::Partial>);

impl<T, R: Reduce<T>> Emit<T> for Adding<'_, T, R> {
    #[inline]
    fn owned(&mut self, item: T) {
        add(self.0, self.1, &item);
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        add(self.0, self.1, item);
    }
}

impl<In: Item, C: Chain<In>, R: Reduce<C::Out>> Combine<In, C, R> {
    fn one(&self, delivery: &Delivery, at: u32, partial: &mut Option<R::Partial>) -> Result<(), String> {
        let mut adding = Adding(&*self.reduce, partial);
        match delivery.get::<In>(at) {
            Some(item) => self.chain.each(item, &mut adding),
            None => self.chain.each(&read::<In>(delivery, at)?, &mut adding),
        }
        Ok(())
    }

    /// The items that are not among these.
    fn over(&self, delivery: &Delivery, without: &[(u32, Fault)]) -> Result<Option<R::Partial>, (u32, Fault)> {
        let (mut partial, mut at) = (None, 0);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while at < delivery.len() {
                if !without.iter().any(|(bad, _)| *bad == at) {
                    self.one(delivery, at, &mut partial).map_err(|words| (at, Fault::Hopeless(words)))?;
                }
                at += 1;
            }
            Ok(())
        }));
        match ended {
            Ok(Ok(())) => Ok(partial),
            Ok(Err(fault)) => Err(fault),
            Err(panic) => Err((at, Fault::Panicked(words_of(&*panic)))),
        }
    }
}

impl<In: Item, C: Chain<In, Out: Item>, R: Reduce<C::Out>> Work for Combine<In, C, R> {
    /// A partial result that a panic came into is thrown away, and made anew without the culprit.
    fn run(&self, delivery: &Delivery, mode: Mode) -> Made {
        let mut made = Made::default();
        loop {
            match self.over(delivery, &made.faults) {
                Ok(partial) => {
                    let mut well = (0..delivery.len()).filter(|at| !made.faults.iter().any(|(bad, _)| bad == at));
                    // what came by different inputs may have been sent under one id
                    let batch = delivery.batch.id.item(mode.input as u32);
                    let cover = Cover::of(batch, well.clone().map(|at| delivery.range.start + at));
                    let covered = partial.map(|value| Covered { cover, value });
                    let first = well.next().unwrap_or(0);
                    let batches = covered.map(|covered| (first, Payload::value(covered, Postcard)));
                    made.lists.push(List { batches: batches.into_iter().collect(), counts: Vec::new() });
                    return made;
                }
                Err(fault) => {
                    made.faults.push(fault);
                    made.faults.sort_by_key(|(at, _)| *at);
                }
            }
        }
    }
}

/// How many runs of items the state knows to be counted, at most.
const KNOWN: usize = 128;

/// Partial results to one.
struct Reducer<T, R> {
    reduce: Arc<R>,
    marker: PhantomData<fn(&T)>,
}

impl<T: Item, R: Reduce<T>> Keeper for Reducer<T, R> {
    fn keep<'a>(
        &'a self,
        live: &'a Live,
        _: &'a LiveInput,
        deliveries: &'a [Delivery],
        rng: &'a mut Rng,
    ) -> BoxFuture<'a, Result<(Vec<Part>, Step)>> {
        Box::pin(async move {
            let (mut step, mut parts) = (Step::new(), Vec::new());
            let mut rows = Rows::<Covered<R::Partial>>::new(live);
            let row = rows.get(Id::of("all")).await?;
            let mut changed = None;
            for delivery in deliveries {
                let mut part = Part::new(delivery);
                for at in 0..delivery.len() {
                    let other = match delivery.get::<Covered<R::Partial>>(at) {
                        Some(other) => Ok(other.clone()),
                        None => decode::<Covered<R::Partial>, Postcard>(delivery, at),
                    };
                    let overlap = other.map(|other| match row {
                        Some(row) => row.merge(&*self.reduce, other),
                        None => {
                            *row = Some(other);
                            Overlap::Nothing
                        }
                    });
                    let refused = match overlap {
                        Ok(Overlap::Nothing) => {
                            changed.get_or_insert(delivery.id(at));
                            continue;
                        }
                        Ok(Overlap::Whole) => continue,
                        Ok(Overlap::Part) => "some of what it covers is counted already".to_string(),
                        Err(words) => words,
                    };
                    part.add(at, Fault::Hopeless(refused).fate(&live.stage.tuning, delivery.attempts, rng));
                }
                if let Some(row) = row {
                    row.cover.trim(KNOWN);
                }
                step = part.settle(step);
                parts.push(part);
            }
            if let (Some(first), Some(topic)) = (changed, live.ports.first()) {
                let id = Id::derive(live.name(), first, 0, 0);
                step.publishes.push(Publish::new(
                    topic,
                    id,
                    Payload::value(self.reduce.finish(row.as_ref().map(|row| &row.value)), Json),
                ));
                if let Some(part) = parts.first_mut() {
                    part.made = 1;
                }
            }
            Ok((parts, rows.onto(step)?))
        })
    }
}
