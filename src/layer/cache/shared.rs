//! What a layer and all that it made share: what is kept, and for how long it is good.

use super::{CacheStats, Store};
use crate::{
    base::{
        Result,
        sync::{Arc, Lock},
        time::{self, Instant},
    },
    layer::flight::{Aboard, Flights},
};
use std::{hash::Hash, time::Duration};

pub(super) struct Shared<K, T> {
    pub(super) flights: Arc<Flights<K, T>>,
    pub(super) state: Lock<State<K, T>>,
}

pub(super) struct State<K, T> {
    pub(super) store: Store<K, Arc<Kept<T>>>,
    pub(super) rules: Rules,
    pub(super) stats: CacheStats,
}

/// An answer, or an error that is one, and when it came.
pub(super) struct Kept<T> {
    pub(super) result: Result<T>,
    pub(super) at: Instant,
}

#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) ttl: Duration,
    pub(super) revalidate: Duration,
    pub(super) if_error: Duration,
    pub(super) negative: Duration,
}

/// What a kept answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Fresh,
    /// Given, and refreshed.
    Stale,
    /// Given in place of a failure.
    IfError,
    Nothing,
}

impl Rules {
    pub(super) fn judge(&self, answer: bool, age: Duration) -> Use {
        match answer {
            true if age < self.ttl => Use::Fresh,
            true if age < self.ttl.saturating_add(self.revalidate) => Use::Stale,
            true if age < self.ttl.saturating_add(self.if_error) => Use::IfError,
            false if age < self.negative => Use::Fresh,
            _ => Use::Nothing,
        }
    }
}

impl<K: Ord + Hash + Clone, T> Shared<K, T> {
    /// What there is for this key now; counts what is given.
    pub(super) fn find(&self, key: &K) -> (Use, Option<Arc<Kept<T>>>) {
        let now = time::now();
        let mut state = self.state.lock();
        let Some(kept) = state.store.get(key).cloned() else { return (Use::Nothing, None) };
        let good = state.rules.judge(kept.result.is_ok(), now.saturating_duration_since(kept.at));
        let gone = match good {
            Use::Fresh => {
                state.stats.hits += 1;
                None
            }
            Use::Stale => {
                state.stats.stale += 1;
                None
            }
            Use::IfError => None,
            Use::Nothing => state.store.remove(key),
        };
        drop(state);
        drop(gone);
        (good, (good != Use::Nothing).then_some(kept))
    }

    /// Whether this may still be given in place of a failure; counts that it is.
    pub(super) fn rescue(&self, kept: &Kept<T>) -> bool {
        let age = time::now().saturating_duration_since(kept.at);
        let mut state = self.state.lock();
        let good = kept.result.is_ok() && state.rules.judge(true, age) != Use::Nothing;
        state.stats.stale_if_error += u64::from(good);
        good
    }

    /// Keeps a result that is worth it, unless it was recalled.
    pub(super) fn keep(&self, key: K, kept: Kept<T>, bytes: usize, aboard: &Aboard) {
        let mut state = self.state.lock();
        if !aboard.is_recalled() {
            let out = state.store.insert(key, Arc::new(kept), bytes);
            drop(state);
            drop(out);
        }
    }
}
