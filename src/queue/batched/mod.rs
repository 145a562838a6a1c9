//! Messages that are worked on together, each with an end of its own.

mod group;

use super::{Codec, Consume, Done, Message, Queue, Task};
use crate::base::{BoxError, Error, Kind, Result};
use futures::{FutureExt, future::BoxFuture};
use group::{Groups, Joined};
use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// How large a batch becomes, and how long the first message of it waits for others.
///
/// ```
/// use seedpod::queue::BatchBy;
/// use std::time::Duration;
/// let batches = BatchBy::size(100).within(Duration::from_millis(250)).bytes(1 << 20);
/// # drop(batches);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchBy {
    size: usize,
    within: Duration,
    bytes: usize,
}

impl BatchBy {
    /// At most so many messages; 0 counts as 1.
    pub const fn size(messages: usize) -> BatchBy {
        let size = if messages == 0 { 1 } else { messages };
        BatchBy { size, within: Duration::from_millis(100), bytes: usize::MAX }
    }

    /// The first message waits at most this long for the others. Default 100 ms.
    #[must_use]
    pub const fn within(mut self, wait: Duration) -> Self {
        self.within = wait;
        self
    }

    /// No more are added once they have this many bytes, where they are bytes. Default: no limit.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }
}

/// What became of each message of a batch, in their order. Where there are fewer ends than messages, the others have
/// failed.
pub type Ends<E = Error> = Vec<Result<Done, E>>;

/// A service of batches as a service of messages, for [`consume`](super::consume): calls that come close together are
/// one call of the service within, and each gets its own end.
///
/// Every message keeps its own lease, its own budgets, its limits: one that fails comes back alone, and the others are
/// done. So many messages must be worked on at once as a batch is large: set the pump's
/// [`concurrency`](Consume::concurrency) to that, or to a multiple of it for several batches at a time. Where a lease is
/// lost while the batch is worked on, its message is no longer settled here, and the batch goes on.
///
/// # Errors
/// An error of the whole call is each message's.
///
/// ```
/// use seedpod::{Error, Kind};
/// use seedpod::queue::{BatchBy, Memory, Queue};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let rows: Queue<u32> = Queue::open(Arc::new(Memory::new()), "rows").await?;
/// for row in 0..250 {
///     rows.submit(row).await?;
/// }
/// let worker = rows.batches(BatchBy::size(100), |rows: Vec<u32>| async move {
///     // one INSERT of all of them; what a row ends with is its own
///     let end = |row: &u32| if row % 100 == 13 { Err(Error::new(Kind::Invalid, "no such thing")) } else { Ok(()) };
///     Ok::<_, Error>(rows.iter().map(end).collect())
/// });
/// let control = worker.control();
/// worker.run_until(tokio::time::sleep(Duration::from_secs(1))).await?;
/// assert_eq!((control.tally().done, control.tally().rejected), (247, 3));
/// # Ok(()) }
/// ```
pub struct Batched<S, M = Message>(Arc<Groups<S, M>>);

impl<S, M: Send + 'static> Batched<S, M>
where
    S: Service<Vec<M>, Response = Ends> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// Batches of this size, for this service.
    pub fn new(by: BatchBy, service: S) -> Self {
        Batched(Arc::new(Groups::new(by, service)))
    }
}

/// What can be a member of a batch: a [`Message`] or a [`Task`].
pub trait Weighed {
    /// Its bytes, where it is bytes already; 0 for a value.
    fn weight(&self) -> usize;
}

impl Weighed for Message {
    fn weight(&self) -> usize {
        let delivery = self.delivery();
        delivery.batch.payload.size(delivery.range.start)
    }
}

impl<T> Weighed for Task<T> {
    fn weight(&self) -> usize {
        self.message().weight()
    }
}

impl<S, M> Service<M> for Batched<S, M>
where
    M: Weighed + Send + 'static,
    S: Service<Vec<M>, Response = Ends> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    type Response = Done;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Done>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(())) // the service is made ready for the batch
    }

    fn call(&mut self, message: M) -> Self::Future {
        let groups = self.0.clone();
        async move { Joined::new(groups, message).end().await }.boxed()
    }
}

impl<T: Clone + Send + Sync + 'static, C: Codec<T>> Queue<T, C> {
    /// Works on the queue with this closure, a batch at a time: see [`Batched`]. It answers with an end for each value, in
    /// their order.
    pub fn batches<F, Fut, R, E>(
        &self,
        by: BatchBy,
        work: F,
    ) -> Consume<super::Worker<Batched<Values<F>, Task<T>>, T, C>>
    where
        F: Fn(Vec<T>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<Result<R, E>>, E>> + Send + 'static,
        R: Into<Done> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        self.tasks(Batched::new(by, Values(work))).concurrency(by.size)
    }
}

/// A closure over batches of values, as a service.
#[derive(Clone)]
pub struct Values<F>(F);

impl<F, T, Fut, R, E> Service<Vec<Task<T>>> for Values<F>
where
    F: Fn(Vec<T>) -> Fut,
    Fut: Future<Output = Result<Vec<Result<R, E>>, E>> + Send + 'static,
    R: Into<Done> + Send + 'static,
    E: Into<BoxError> + Send + 'static,
{
    type Response = Ends;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Ends>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, tasks: Vec<Task<T>>) -> Self::Future {
        let work = (self.0)(tasks.into_iter().map(|task| task.value).collect());
        Box::pin(async move {
            let ends = work.await.map_err(adopt)?;
            Ok(ends.into_iter().map(|end| end.map(Into::into).map_err(adopt)).collect())
        })
    }
}

fn adopt<E: Into<BoxError> + 'static>(error: E) -> Error {
    Error::adopt(error, Kind::Failed)
}

impl<S, M> Clone for Batched<S, M> {
    fn clone(&self) -> Self {
        Batched(self.0.clone())
    }
}

impl<S, M> fmt::Debug for Batched<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batched").field(&self.0.by()).finish()
    }
}

impl<F> fmt::Debug for Values<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values")
    }
}
