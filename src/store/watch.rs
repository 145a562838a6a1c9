//! The stream of changes under a prefix.

use super::{
    Change,
    ring::{Found, Ring},
    store::Inner,
};
use crate::base::sync::{Arc, Lock};
use futures::Stream;
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Everything under a prefix, then every change, in batches; made by [`Store::watch`](super::Store::watch).
///
/// # Guarantees
/// - Changes come in the order of revisions, and all changes that a commit made under the prefix come in one batch.
/// - A watcher that keeps up sees each change. One that falls behind further than the ring reaches is given each changed
///   key once, in the order of revisions, as it is by then: steps in between are skipped, a key that came and went
///   meanwhile is not mentioned. Only if removals it has not seen are forgotten it is given a
///   [`Reset`](Change::Reset) again. Applying what it is given, its view is what the store held under the prefix at
///   [`revision`](Watch::revision), always.
/// - Watchers of other prefixes cost it nothing: a quiet prefix never falls behind because of a busy one.
/// - Dropping it frees its place.
///
/// # Not guaranteed
/// Two watches, even of one prefix, are not told at the same moment, and may skip different steps.
#[must_use = "a watch takes a place in the store until it is dropped"]
pub struct Watch<V> {
    pub(super) inner: Arc<Inner<V>>,
    pub(super) prefix: Arc<str>,
    pub(super) ring: Arc<Lock<Ring<V>>>,
    pub(super) seat: usize,
    pub(super) revision: u64,
    /// What comes before the ring, and up to where it reaches.
    pub(super) first: Option<(Vec<Change<V>>, u64)>,
}

impl<V> Watch<V> {
    /// The prefix, in normal form.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Up to here all changes under the prefix have been told; 0 before the first batch of a watch from the start.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl<V: Clone> Watch<V> {
    /// The next changes, at least one; waits until there are. `None` once no handle of the store is left and all was
    /// told.
    ///
    /// **Cancel-safety**: safe; what it does not return stays for the next call.
    pub async fn next(&mut self) -> Option<Vec<Change<V>>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Change<V>>>> {
        // A store that changes all the time must not keep its reader from yielding to others.
        let turn = ready!(tokio::task::coop::poll_proceed(context));
        if let Some((first, revision)) = self.first.take() {
            self.revision = revision;
            turn.made_progress();
            return Poll::Ready(Some(first));
        }
        loop {
            let (found, _spent_waker) = self.ring.lock().read(self.seat, context.waker());
            let batch = match found {
                Found::Nothing => return Poll::Pending,
                Found::Closed => return Poll::Ready(None),
                Found::Batch(batch) => {
                    self.revision = batch.last().map_or(self.revision, Change::revision);
                    batch
                }
                Found::Lagging(seen) => self.catch_up(seen),
            };
            if !batch.is_empty() {
                turn.made_progress();
                return Poll::Ready(Some(batch));
            }
        }
    }

    fn catch_up(&mut self, seen: u64) -> Vec<Change<V>> {
        let state = self.inner.state.lock(); // before the ring's lock, as commits take them
        self.ring.lock().skip(self.seat);
        self.revision = state.table.revision;
        state.table.since(&self.prefix, seen).unwrap_or_else(|| vec![state.table.reset(&self.prefix)])
    }
}

/// The batches as a stream.
impl<V: Clone> Stream for Watch<V> {
    type Item = Vec<Change<V>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl<V> Unpin for Watch<V> {}

impl<V> Drop for Watch<V> {
    fn drop(&mut self) {
        let _spent = {
            let mut state = self.inner.state.lock();
            let mut ring = self.ring.lock();
            let waker = ring.leave(self.seat);
            let unused = if ring.taken() == 0 { state.rings.remove(&*self.prefix) } else { None };
            (waker, unused)
        };
    }
}

impl<V> fmt::Debug for Watch<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("prefix", &self.prefix).field("revision", &self.revision).finish()
    }
}
