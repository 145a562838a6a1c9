//! Call: a stage of its own, which asks something else for each item.

use crate::base::{BoxError, Error, Kind, Result};
use crate::flow::{
    Chain, Edge, Emit, Item, Stream,
    draft::{Job, Place, Shared},
    fault::Fault,
    fused::{List, Made, Mode, read, words_of},
    stream::{Begun, type_of},
};
use crate::queue::{Delivery, Id, Json, Payload};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use std::{future::Future, marker::PhantomData, panic::AssertUnwindSafe, panic::Location, sync::Arc};
use tower::{Service, ServiceExt};

/// What a call gets: an item, and the id to do it under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Called<T> {
    /// The item.
    pub item: T,
    /// The same whenever this item is tried again: the idempotency key for whatever else learns of it.
    pub id: Id,
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Calls this for each item, and goes on with what it returns. The functions before it run in the same stage.
    ///
    /// [`concurrency`](crate::flow::Tuning::concurrency) says how many calls each worker has under way. By how a call ends:
    ///
    /// | the call | the item |
    /// | --- | --- |
    /// | returns `Ok` | what it returned goes on, in the step that acknowledges the item |
    /// | fails as [`Invalid`](Kind::Invalid) | goes to the dead letters: trying again cannot help |
    /// | fails with a [`retry_after`](Error::retry_after) | comes back then, uncharged |
    /// | fails otherwise | comes back after a back-off, until the attempts are spent; then dead letters |
    /// | panics | likewise, until the crashes are spent |
    ///
    /// # Guarantees
    /// Leases are renewed while calls run. Where one is lost, the calls for what it held are dropped.
    ///
    /// # Not guaranteed
    /// One call per item: it is called again when its worker dies, or when another item of its delivery had to wait for
    /// room. Do what you do under [`Called::id`], or record first what is to be done, by an [`outbox`](Stream::outbox).
    /// Where steps are not atomic, the first answer counts; but a call that went well, was not acknowledged, and fails for
    /// good when it is tried again, leaves a dead letter beside what it made.
    ///
    /// ```
    /// use seedpod::flow::{Called, Flow};
    /// let mut flow = Flow::new("films");
    /// let transcode = |film: Called<String>| async move { Ok::<_, seedpod::Error>(format!("{}.mp4", film.item)) };
    /// flow.source::<String>("uploads").tune(|stage| stage.workers(2).concurrency(8)).call(transcode).sink("films");
    /// assert!(flow.build().is_ok());
    /// ```
    #[track_caller]
    pub fn call<U, F, Fut, E>(self, function: F) -> Edge<U>
    where
        U: Item,
        F: Fn(Called<C::Out>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.serve(tower::service_fn(function))
    }

    /// [`call`](Stream::call)s a service, which is ready before it gets an item: layers go around it as anywhere.
    #[track_caller]
    pub fn serve<S, U>(self, service: S) -> Edge<U>
    where
        U: Item,
        S: Service<Called<C::Out>, Response = U> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send,
    {
        let at = Location::caller();
        let (draft, edges) = self.calls("call", at, service, &[("out", 0)]);
        Edge::at_edges(draft, edges.into_iter().map(|edge| (edge, 1)).collect())
    }

    /// A stage that calls a service for each item; the edges that leave it.
    pub(in crate::flow) fn calls<S, U>(
        self,
        operator: &'static str,
        at: Place,
        service: S,
        ports: &[(&str, usize)],
    ) -> (Shared, Vec<usize>)
    where
        U: Item,
        S: Service<Called<C::Out>, Response = U> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send,
    {
        let Begun { draft, chain, operators, inputs, name, tuning } = self.begun();
        let marker = PhantomData::<fn(&In)>;
        let job = Job::Later(Arc::new(Calls { chain, service, concurrency: tuning.concurrency, marker }));
        let begun = Begun { draft, chain: (), operators, inputs, name, tuning };
        let (draft, mut stage) = begun.stage(operator, at, job);
        // what is leased is worked on at once, so that no lease waits for its turn
        stage.tuning.batch = stage.tuning.batch.min(tuning.concurrency as u32);
        let edges = draft.lock().stage(stage, ports, type_of::<U>());
        (draft, edges)
    }
}

/// Work on a delivery that takes its time.
pub(in crate::flow) trait Caller: Send + Sync + 'static {
    fn run<'a>(&'a self, delivery: &'a Delivery, mode: Mode) -> BoxFuture<'a, Made>;
}

struct Calls<In, C, S> {
    chain: C,
    service: S,
    concurrency: usize,
    marker: PhantomData<fn(&In)>,
}

/// What an item became before it is called for.
struct Ready<T>(Vec<T>);

impl<T: Clone> Emit<T> for Ready<T> {
    fn owned(&mut self, item: T) {
        self.0.push(item);
    }

    fn shared(&mut self, item: &T) {
        self.0.push(item.clone());
    }
}

impl<In, C, S, U> Calls<In, C, S>
where
    In: Item,
    U: Item,
    C: Chain<In, Out: Item>,
    S: Service<Called<C::Out>, Response = U> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    async fn one(&self, delivery: &Delivery, at: u32) -> Result<Vec<U>, Fault> {
        let mut ready = Ready(Vec::new());
        match delivery.get::<In>(at) {
            Some(item) => self.chain.each(item, &mut ready),
            None => self.chain.each(&read::<In>(delivery, at).map_err(Fault::Hopeless)?, &mut ready),
        }
        let id = delivery.id(at);
        let alone = ready.0.len() == 1;
        let mut made = Vec::with_capacity(ready.0.len());
        for (index, item) in ready.0.into_iter().enumerate() {
            let failed = |error| Fault::Failed(Error::adopt(error, Kind::Failed));
            let id = if alone { id } else { id.item(index as u32) };
            let mut service = self.service.clone();
            let called = service.ready().await.map_err(failed)?.call(Called { item, id });
            made.push(called.await.map_err(failed)?);
        }
        Ok(made)
    }

    /// A panic is the item's.
    async fn guarded(&self, delivery: &Delivery, at: u32) -> Result<Vec<U>, Fault> {
        let ended = AssertUnwindSafe(self.one(delivery, at)).catch_unwind().await;
        ended.unwrap_or_else(|panic| Err(Fault::Panicked(words_of(&*panic))))
    }
}

impl<In, C, S, U> Caller for Calls<In, C, S>
where
    In: Item,
    U: Item,
    C: Chain<In, Out: Item>,
    S: Service<Called<C::Out>, Response = U> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    fn run<'a>(&'a self, delivery: &'a Delivery, mode: Mode) -> BoxFuture<'a, Made> {
        let calls: Vec<_> = (0..delivery.len()).map(|at| self.guarded(delivery, at).boxed()).collect();
        let mut calls = futures::stream::iter(calls).buffered(self.concurrency);
        Box::pin(async move {
            let (mut made, mut list, mut all, mut first, mut at) = (Made::default(), List::default(), vec![], None, 0);
            while let Some(ended) = calls.next().await {
                let count = ended.as_ref().map_or(0, Vec::len) as u32;
                if mode.counted {
                    list.counts.push(count);
                }
                match ended {
                    Ok(items) if mode.singly && count > 0 => list.batches.push((at, Payload::values(items, Json))),
                    Ok(items) => {
                        all.extend(items);
                        first.get_or_insert(at);
                    }
                    Err(fault) => made.faults.push((at, fault)),
                }
                at += 1;
            }
            if !all.is_empty() {
                list.batches.push((first.unwrap_or_default(), Payload::values(all, Json)));
            }
            made.lists.push(list);
            made
        })
    }
}
