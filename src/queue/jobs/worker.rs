//! Workers of a queue: the pump `consume`, with values decoded and the queue's own rows kept.

use super::{Inner, Queue, Task, pause::paused_key};
use crate::base::{BoxError, Error, Kind, Name, Result};
use crate::queue::{Codec, Consume, Done, Message, Quarantine, consume};
use futures::{
    TryFutureExt,
    future::{Either, MapErr, MapOk, Ready, ready},
};
use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

impl<T: Clone + Send + Sync + 'static, C: Codec<T>> Queue<T, C> {
    /// Works on the queue with this closure, one job at a time unless told [otherwise](Consume::concurrency). What it
    /// returns says what becomes of the job: see [`consume`]. It may return what it [made](Done).
    pub fn worker<F, Fut, R, E>(&self, work: F) -> Consume<Worker<Each<F>, T, C>>
    where
        F: Fn(T) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Done> + 'static,
        E: Into<BoxError> + 'static,
    {
        self.tasks(Each(work))
    }

    /// Works on the queue with this service, which gets a [`Task`]: the value with its id, its attempts, its headers.
    pub fn tasks<S>(&self, service: S) -> Consume<Worker<S, T, C>>
    where
        S: Service<Task<T>> + Clone + Send + Sync + 'static,
        S::Response: Into<Done>,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        self.tasks_of(self.inner.workers.name.clone(), service)
    }

    /// The same for another of its subscriptions, which the [builder](super::QueueBuilder::subscription) named.
    pub fn tasks_of<S>(&self, subscription: impl Into<Name>, service: S) -> Consume<Worker<S, T, C>>
    where
        S: Service<Task<T>> + Clone + Send + Sync + 'static,
        S::Response: Into<Done>,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        let inner = &self.inner;
        let worker = Worker { service, queue: inner.clone(), codec: PhantomData };
        let subscription = inner.topic.subscription(subscription);
        let lines = inner.layout.lines(&Arc::new(subscription.clone()));
        let pump = consume(inner.broker.clone(), subscription, worker).lines(lines);
        let keeps = inner.broker.guarantees().keeps_rows();
        let (sweep, paused) = (keeps.then(|| inner.sweep.clone()), keeps.then(|| paused_key(&inner.topic)));
        pump.quarantine(Quarantine::new(&inner.quarantine).dead_letters(&inner.dead)).rows(sweep, paused)
    }
}

/// The service of a queue's worker: a message in, decoded for the service within.
pub struct Worker<S, T, C> {
    service: S,
    queue: Arc<Inner<T>>,
    codec: PhantomData<fn() -> C>,
}

impl<S: Clone, T, C> Clone for Worker<S, T, C> {
    fn clone(&self) -> Self {
        Worker { service: self.service.clone(), queue: self.queue.clone(), codec: PhantomData }
    }
}

/// What a service answers, as ours.
type Adopted<Fut, R, E> = MapOk<MapErr<Fut, fn(E) -> Error>, fn(R) -> Done>;

impl<S, T, C> Service<Message> for Worker<S, T, C>
where
    S: Service<Task<T>>,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    T: Clone + Send + Sync + 'static,
    C: Codec<T>,
{
    type Response = Done;
    type Error = Error;
    type Future = Either<Ready<Result<Done>>, Adopted<S::Future, S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.service.poll_ready(cx).map_err(adopt)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        match Task::read::<C>(message, &self.queue.schema) {
            Ok(task) => Either::Right(
                self.service
                    .call(task)
                    .map_err(adopt as fn(S::Error) -> Error)
                    .map_ok(Into::into as fn(S::Response) -> Done),
            ),
            Err(error) => Either::Left(ready(Err(error))),
        }
    }
}

fn adopt<E: Into<BoxError> + 'static>(error: E) -> Error {
    Error::adopt(error, Kind::Failed)
}

impl<S, T, C> fmt::Debug for Worker<S, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("topic", &self.queue.topic).finish_non_exhaustive()
    }
}

/// A closure over values, as a service.
#[derive(Clone)]
pub struct Each<F>(F);

impl<F, T, Fut, R, E> Service<Task<T>> for Each<F>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: 'static,
    E: 'static,
{
    type Response = R;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<T>) -> Fut {
        (self.0)(task.value)
    }
}

impl<F> fmt::Debug for Each<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Each")
    }
}
