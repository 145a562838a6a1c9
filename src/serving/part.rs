//! A part of a set that choices are made within, and what a picker keeps of a set until it changes.

use super::sample::Sampling;
use arc_swap::ArcSwap;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Some of a set's endpoints, to be drawn from as if they were all.
#[derive(Debug)]
pub(crate) struct Part {
    /// As a snapshot's: whoever keeps something of it keeps it under this.
    pub(crate) id: u64,
    pub(crate) sampling: Sampling,
}

impl Part {
    /// The places that have a weight here.
    pub(crate) fn new(weights: &[u32]) -> Self {
        Part { id: fresh(), sampling: Sampling::new(weights) }
    }
}

/// A number that no other snapshot and no other part has.
pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Counts up whenever any endpoint becomes ready or not, or is ejected or taken back: for all sets together, since that
/// is rare, and a look at one number that is hardly ever written costs next to nothing.
static FLAPS: AtomicU64 = AtomicU64::new(0);

/// Says that an endpoint can be picked now that could not, or the other way round.
pub(crate) fn flapped() {
    FLAPS.fetch_add(1, Ordering::Release);
}

/// The same number as before: no endpoint has become pickable or ceased to be so.
#[inline(always)]
pub(crate) fn flaps() -> u64 {
    FLAPS.load(Ordering::Acquire)
}

/// Of how many sets and parts a picker keeps something at a time: it stands in front of one, or of one per zone.
const KEPT: usize = 8;

/// What a picker has made of a set, kept until the set changes. Clones share it; readers never wait.
pub(crate) struct Memo<T>(Arc<ArcSwap<Vec<Kept<T>>>>);

struct Kept<T> {
    of: u64,
    flaps: u64,
    made: Arc<T>,
}

impl<T> Memo<T> {
    pub(crate) fn new() -> Self {
        Memo(Arc::new(ArcSwap::from_pointee(Vec::new())))
    }

    /// Uses what is made of this set or part at this count of [`flaps`]. To make it, there may be what was made of the
    /// same one at another count.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        (of, flaps): (u64, u64),
        make: impl FnOnce(Option<&T>) -> T,
        then: impl FnOnce(&T) -> R,
    ) -> R {
        let kept = self.0.load();
        match kept.iter().find(|kept| kept.of == of) {
            Some(found) if found.flaps == flaps => then(&found.made),
            other => then(&self.keep(of, flaps, make(other.map(|other| &*other.made)))),
        }
    }

    #[cold]
    fn keep(&self, of: u64, flaps: u64, made: T) -> Arc<T> {
        let mut made = Arc::new(made);
        self.0.rcu(|old| {
            // whoever was first stays, so that all go on with one
            match old.iter().find(|kept| kept.of == of && kept.flaps == flaps) {
                Some(found) => {
                    made = found.made.clone();
                    old.clone()
                }
                None => {
                    let others = old.iter().filter(|kept| kept.of != of).take(KEPT - 1).cloned();
                    Arc::new(std::iter::once(Kept { of, flaps, made: made.clone() }).chain(others).collect())
                }
            }
        });
        made
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Kept { of: self.of, flaps: self.flaps, made: self.made.clone() }
    }
}

impl<T> Clone for Memo<T> {
    fn clone(&self) -> Self {
        Memo(self.0.clone())
    }
}

impl<T> fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memo({})", self.0.load().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn each_set_is_looked_at_once_per_change_and_the_list_is_bounded() {
        let (memo, made) = (Memo::new(), Cell::new(0));
        let look = |of: u64, flaps: u64| {
            let make = |before: Option<&(u64, Option<u64>)>| {
                made.set(made.get() + 1);
                (flaps, before.map(|before| before.0))
            };
            memo.with((of, flaps), make, |kept| *kept)
        };
        assert_eq!((look(1, 0), look(1, 0), made.get()), ((0, None), (0, None), 1));
        assert_eq!((look(2, 0), look(1, 0), made.get()), ((0, None), (0, None), 2), "two sets in turn");
        assert_eq!((look(1, 5), look(1, 5), made.get()), ((5, Some(0)), (5, Some(0)), 3), "and what was before");
        for of in 0..100 {
            look(of, 5);
        }
        assert_eq!(memo.0.load().len(), KEPT);
    }

    #[test]
    fn threads_that_race_go_on_with_one() {
        let memo = Memo::new();
        let seen: Vec<u64> = std::thread::scope(|scope| {
            let look = || memo.with((1, 1), |_| Part::new(&[1]), |part| part.id);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|id| *id == seen[0]), "{seen:?}");
    }
}
