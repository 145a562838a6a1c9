//! One request to many services, and one answer of theirs.

use super::Endpoints;
use crate::{base::BoxError, layer::Metadata};
use std::{fmt, ops::ControlFlow, sync::Arc, time::Duration};
use tower::Service;

mod answers;
mod asking;
mod call;
mod fan;
mod gather;
mod hedges;
mod leaves;
mod require;
mod scattering;
mod settings;
mod sink;
mod slab;
mod streaming;
mod wakers;

pub use answers::{Answer, Answers, Covered, Gathered, Reply, Shortfall, Tally};
pub use gather::{Collect, Fold, Gather, Together, Tree};
pub use hedges::{Hedging, Tied};
pub use leaves::{Leaf, Leaves, Parts};
pub use require::{Coverage, Require};
pub use scattering::Scattering;
pub use settings::ScatterHandle;
pub use streaming::Streaming;

use asking::Asking;
use scattering::leaves_of;
use settings::Seen;

/// Sends a request to many services at once, its leaves, and makes one answer of theirs.
///
/// Use it where each leaf has a part of the answer (a search over shards), where several must agree (a quorum), where any
/// will do (the first), or where work can be cut into [`Parts`]. Whom it goes to, [`Leaves`] say: the endpoints of a set,
/// as they are when the call is made, are the plainest.
///
/// ```text
///                ┌─► text-0 ─► 3 hits ─┐
/// Scatter ───────┼─► text-1 ─► 9 hits ─┼─► gather ─► the ten best, of 3 of 4 leaves
/// within 50 ms   ├─► text-2 ─► 0 hits ─┘
///                └─► text-3 ·········· late
/// ```
///
/// ```
/// use seedpod::{base::{Error, time}, layer::Request, serving::{Answers, Coverage, Endpoints, Scatter}};
/// use std::time::Duration;
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let shards = Endpoints::named("text");
/// for shard in 0..4_u64 {
///     shards.insert(format!("text-{shard}"), service_fn(move |word: Request<&'static str>| async move {
///         time::sleep(Duration::from_millis(30 * shard)).await; // the last one is too slow
///         Ok::<_, Error>(vec![shard * 100 + word.message().len() as u64])
///     }));
/// }
/// let mut search = Scatter::new(shards)
///     .require(Coverage::fraction(0.7)?)
///     .within(Duration::from_millis(75))
///     .gather(|answers: Answers<Vec<u64>>| answers.into_values().flatten().max());
/// let found = search.call(Request::new("seed")).await?;
/// assert_eq!((found.value, found.tally.to_string().as_str()), (Some(204), "3 of 4 answered, 1 late"));
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
///
/// 1. All leaves are asked at once, or so many [at once](Self::at_once); with a [canary](Self::canary), first one alone.
/// 2. Each answer is taken as it comes; after each it is decided whether the [requirement](Require) is met or cannot be met
///    any more. Either ends the request in the same poll.
/// 3. A leaf that is slow is [asked a second time](Self::hedge), at another replica where the leaf is
///    [`Replicas`](super::Replicas).
/// 4. At the deadline each leaf is polled once more, then it is decided with what has come.
///
/// | setting | default |
/// | --- | --- |
/// | [`require`](Self::require) | [`Require::All`] |
/// | [`within`](Self::within) | the request's own deadline |
/// | [`at_once`](Self::at_once), [`canary`](Self::canary), [`hedge`](Self::hedge) | all, none, none |
///
/// # Stragglers
///
/// Who asks a hundred leaves gets the slowest of a hundred answers: where one in a hundred takes a second, 63 % of such
/// requests do (Dean and Barroso, *The Tail at Scale*, 2013). Here a hundred leaves of three replicas each, every replica a
/// worker with a line, whose answers take 5 ms, one in two hundred a second; 600 requests, 30 a second, in virtual time:
///
/// ```text
#[doc = include_str!("scatter/stragglers.txt")]
/// ```
///
/// Their figures: reading a thousand keys of BigTable, the slowest in a thousand requests took 1,800 ms, with a hedge after
/// 10 ms 74 ms, for 2 % more requests.
///
/// **Guarantees**
/// - Exact coverage: each leaf is counted once, as answered, failed, late, dropped or never asked ([`Tally`]), and failures
///   stand there by name. [Trees](Self::tree) add up.
/// - Whoever is not needed any more is dropped in the poll that decides, second attempts too: services that honour that see
///   the cancellation at once, and [are told why](crate::layer::attempt::dropped).
/// - No request lasts longer than its deadline; every leaf is given it.
/// - A leaf is polled when it was woken, not whenever another one was (four leaves and fewer: at every wake).
/// - The load and the outcome of an endpoint are counted as [`Replicas`](super::Replicas) counts them, so that draining
///   and ejection know of it: in flight from the moment that the request begins, also while the leaf waits for its turn. One
///   that was never asked is to blame for nothing.
/// - Always ready: every leaf is cloned once per attempt and made ready inside the call. Dropping the call drops what is
///   under way.
///
/// **Not guaranteed**: that leaves that were given up do not go on, where they have handed the work on. Every error of a
/// leaf is a failure and every response an answer: turn responses that are none into errors in the leaf. A failure is not
/// tried again: put [`Retry`](crate::layer::Retry) into the leaf.
///
/// Needs a tokio runtime with time where there is a deadline, a canary or a hedge, unless all leaves answer at their first
/// poll.
///
/// # Errors
/// The kind of the failure that was one too many, or [`Kind::Timeout`](crate::base::Kind) where the deadline or a silent
/// canary ended it. The source is a [`Shortfall`]: what is covered, and each leaf's error by name. It
/// [is unsent](crate::base::Error::is_unsent) where no leaf was sent anything. What the [leaves](Leaves::leaves) say where
/// there are none: of a set, [`Kind::Unavailable`](crate::base::Kind).
pub struct Scatter<L, G = Collect> {
    leaves: L,
    gather: G,
    handle: ScatterHandle,
    seen: Seen,
}

impl<L> Scatter<L> {
    /// To these leaves.
    pub fn new(leaves: L) -> Self {
        Scatter { leaves, gather: Collect, handle: ScatterHandle::default(), seen: Seen::default() }
    }

    /// Makes one value of all answers, when the last one is in. What is covered comes along with it.
    #[must_use]
    pub fn gather<T, U, F: Fn(Answers<T>) -> U>(self, together: F) -> Scatter<L, Together<F>> {
        Scatter { leaves: self.leaves, gather: Together(together), handle: self.handle, seen: self.seen }
    }

    /// Makes one value of the answers as they come, and keeps none of them: from `init`, by a step for each, which is told
    /// the leaf's name. A step that breaks says that no more answers are needed, whatever is required.
    ///
    /// ```
    /// use seedpod::{base::Error, layer::Request, serving::{Endpoints, Scatter}};
    /// use std::ops::ControlFlow::Continue;
    /// use tower::{Service, service_fn};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let shards = Endpoints::named("counts");
    /// for count in [3, 4, 5_u64] {
    ///     shards.insert(count.to_string(), service_fn(move |_: Request<()>| async move { Ok::<_, Error>(count) }));
    /// }
    /// let mut sum = Scatter::new(shards).fold(|| 0, |sum, _, count| {
    ///     *sum += count;
    ///     Continue(())
    /// });
    /// assert_eq!(sum.call(Request::new(())).await?.value, 12);
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn fold<T, A, I, F>(self, init: I, step: F) -> Scatter<L, Fold<I, F>>
    where
        I: Fn() -> A,
        F: Fn(&mut A, &str, T) -> ControlFlow<()>,
    {
        Scatter { leaves: self.leaves, gather: Fold { init, step }, handle: self.handle, seen: self.seen }
    }
}

impl<L, G> Scatter<L, G> {
    /// What a request needs, to be answered.
    #[must_use]
    pub fn require(self, require: impl Into<Require>) -> Self {
        self.handle.set_require(require);
        self
    }

    /// A request may last this long, or less where it carries a sooner deadline.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        self.handle.set_within(Some(within));
        self
    }

    /// So many leaves are asked at once, second attempts not counted; the next when one of them has ended. 0 counts as 1.
    #[must_use]
    pub fn at_once(self, leaves: usize) -> Self {
        self.handle.set_at_once(leaves);
        self
    }

    /// One leaf is asked first, and the others only when that has answered: a request that brings down whoever gets it
    /// brings down one. It has failed where the canary is silent for this long. A canary that was never sent says nothing
    /// of the request, and the next leaf takes its place.
    #[must_use]
    pub fn canary(self, silent: Duration) -> Self {
        self.handle.set_canary(Some(silent));
        self
    }

    /// Leaves are asked a second time: when they are slow, by a [`HedgeLayer`](crate::layer::HedgeLayer) with its delay and
    /// its budgets, or always, by [`Tied`]. The first success wins and cancels the other, a failure waits for it. Only
    /// requests that are idempotent are made twice.
    ///
    /// The layer learns from all leaves together: 0.05 asks those again that are slower than 95 % of all. Where a leaf is
    /// [`Replicas`](super::Replicas), the second attempt goes to another replica; any other leaf gets both.
    #[must_use]
    pub fn hedge(self, hedging: impl Into<Hedging>) -> Self {
        self.handle.set_hedging(Some(hedging.into()));
        self
    }

    /// Answers of leaves that were put together themselves count as the leaves that they cover, failures with a
    /// [`Shortfall`] too, so that the [`Tally`] is that of the whole tree. A [`Coverage`] is then a part of all leaves and is
    /// decided when all branches have ended. A branch that is late without a word counts as one.
    ///
    /// ```
    /// use seedpod::{base::Error, layer::Request, serving::{Answers, Endpoints, Gathered, Scatter}};
    /// use tower::{Service, service_fn};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let branches = Endpoints::named("branches");
    /// for branch in ["left", "right"] {
    ///     let leaves = Endpoints::named(branch);
    ///     for leaf in ["a", "b", "c"] {
    ///         leaves.insert(leaf, service_fn(|_: Request<()>| async { Ok::<_, Error>(1) }));
    ///     }
    ///     branches.insert(branch, Scatter::new(leaves).gather(|ones: Answers<u32>| ones.into_values().sum::<u32>()));
    /// }
    /// let add = |sums: Answers<Gathered<u32>>| sums.into_values().map(|sum| sum.value).sum::<u32>();
    /// let mut tree = Scatter::new(branches).gather(add).tree();
    /// let sum = tree.call(Request::new(())).await?;
    /// assert_eq!((sum.value, sum.tally.to_string().as_str()), (6, "6 of 6 answered"));
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn tree(self) -> Scatter<L, Tree<G>> {
        Scatter { leaves: self.leaves, gather: Tree(self.gather), handle: self.handle, seen: self.seen }
    }

    /// Reads and changes the settings of this one and of all its clones.
    pub fn handle(&self) -> ScatterHandle {
        self.handle.clone()
    }

    /// The answers as they come, instead of one answer: each leaf once, those that failed or were not waited for too. Leaves
    /// count as one each, whatever stands behind them.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use seedpod::{base::{Error, time}, layer::Request, serving::{Endpoints, Reply, Scatter}};
    /// use std::time::Duration;
    /// use tower::service_fn;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let shards = Endpoints::named("text");
    /// for shard in [2, 1, 3] {
    ///     shards.insert(shard.to_string(), service_fn(move |_: Request<()>| async move {
    ///         Ok::<_, Error>(time::sleep(Duration::from_millis(shard)).await)
    ///     }));
    /// }
    /// let mut answers = Scatter::new(shards).stream(Request::new(()));
    /// let mut order = Vec::new();
    /// while let Some(answer) = answers.next().await {
    ///     order.push(answer.name.to_string());
    /// }
    /// assert_eq!((order.join(" "), answers.result().unwrap()?.answered), ("1 2 3".into(), 3));
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub fn stream<Req>(&mut self, request: Req) -> Streaming<L::Service, L::Request>
    where
        Req: Metadata,
        L: Leaves<Req>,
        L::Service: Clone,
        <L::Service as Service<L::Request>>::Error: Into<BoxError> + 'static,
        L::Request: Metadata,
    {
        let plan = self.handle.plan(&mut self.seen);
        let leaves = leaves_of(&mut self.leaves, plan, request, false);
        Streaming::new(leaves.map(|(leaves, until)| Asking::new(leaves, plan, until, true)))
    }
}

impl<S> Scatter<Endpoints<S>> {
    /// To all endpoints of a set of its own, empty and of this name: fill it by [`endpoints`](Scatter::endpoints).
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Scatter::new(Endpoints::named(name))
    }
}

impl<S, G> Scatter<Endpoints<S>, G> {
    /// The set whose endpoints are the leaves.
    pub fn endpoints(&self) -> &Endpoints<S> {
        &self.leaves
    }
}

impl<L: Clone, G: Clone> Clone for Scatter<L, G> {
    fn clone(&self) -> Self {
        Scatter {
            leaves: self.leaves.clone(),
            gather: self.gather.clone(),
            handle: self.handle.clone(),
            seen: self.seen.clone(),
        }
    }
}

impl<L, G> fmt::Debug for Scatter<L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

#[cfg(test)]
mod tests;
