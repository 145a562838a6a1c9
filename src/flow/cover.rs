//! What a partial result covers: which items of which batches are in it, so that none is counted twice.
//!
//! It knows no broker and no reducer. A cover is exact; one that is kept for long is [trimmed](Cover::trim), and then
//! knows the last of what it covered.

use super::reduce::Reduce;
use crate::queue::Id;
use serde::{Deserialize, Serialize};

/// Items of one batch, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    batch: (u64, u64),
    start: u32,
    end: u32,
}

impl Run {
    /// How many items both have.
    fn common(&self, other: &Run) -> u64 {
        let both = self.end.min(other.end).saturating_sub(self.start.max(other.start));
        if self.batch == other.batch { both.into() } else { 0 }
    }

    fn items(&self) -> u64 {
        self.end.saturating_sub(self.start).into()
    }
}

/// Which items: runs that have none in common, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cover(Vec<Run>);

/// How much of one cover another has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    Nothing,
    Part,
    Whole,
}

impl Cover {
    /// These items of a batch, in order.
    pub(super) fn of(batch: Id, items: impl IntoIterator<Item = u32>) -> Cover {
        let bits = batch.as_u128();
        let batch = ((bits >> 64) as u64, bits as u64);
        let mut cover = Cover::default();
        for item in items {
            cover.insert(Run { batch, start: item, end: item.saturating_add(1) });
        }
        cover
    }

    /// How much of the other is in this one.
    pub(super) fn overlap(&self, other: &Cover) -> Overlap {
        let pairs = other.0.iter().flat_map(|theirs| self.0.iter().map(|own| own.common(theirs)));
        let (common, all): (u64, u64) = (pairs.sum(), other.0.iter().map(Run::items).sum());
        match common {
            0 => Overlap::Nothing,
            _ if common == all => Overlap::Whole,
            _ => Overlap::Part,
        }
    }

    /// Takes in another, which has nothing in common with it.
    pub(super) fn add(&mut self, other: Cover) {
        other.0.into_iter().for_each(|run| self.insert(run));
    }

    /// Forgets all but the last so many runs.
    pub(super) fn trim(&mut self, runs: usize) {
        self.0.drain(..self.0.len().saturating_sub(runs));
    }

    /// Runs that adjoin become one, which is the last.
    fn insert(&mut self, mut run: Run) {
        self.0.retain(|own| {
            let adjoins = own.batch == run.batch && (own.end == run.start || run.end == own.start);
            if adjoins {
                (run.start, run.end) = (run.start.min(own.start), run.end.max(own.end));
            }
            !adjoins
        });
        self.0.push(run);
    }
}

/// A partial result, with what it covers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Covered<P> {
    pub(super) cover: Cover,
    pub(super) value: P,
}

impl<P> Covered<P> {
    /// Takes in another where it covers nothing that is in already; else it stays as it is. How much of the other was in.
    pub(super) fn merge<T, R: Reduce<T, Partial = P>>(&mut self, reduce: &R, other: Covered<P>) -> Overlap {
        let overlap = self.cover.overlap(&other.cover);
        if overlap == Overlap::Nothing {
            reduce.merge(&mut self.value, other.value);
            self.cover.add(other.cover);
        }
        overlap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Seed};
    use crate::flow::reduce::{Collect, Group, MinMax, Sum, TopK};
    use std::{collections::BTreeSet, fmt::Debug};

    fn partial<R: Reduce<i64>>(reduce: &R, (batch, items): &(Id, Vec<i64>), at: &[u32]) -> Option<Covered<R::Partial>> {
        let mut value = None;
        at.iter().for_each(|at| crate::flow::reduce::add(reduce, &mut value, &items[*at as usize]));
        value.map(|value| Covered { cover: Cover::of(*batch, at.iter().copied()), value })
    }

    /// The items of a batch in random portions: runs, some with holes that come by themselves, as what is tried again does.
    fn portions<R: Reduce<i64>>(reduce: &R, batch: &(Id, Vec<i64>), rng: &mut Rng) -> Vec<Covered<R::Partial>> {
        let (mut all, mut next) = (Vec::new(), 0);
        while next < batch.1.len() as u32 {
            let end = (next + 1 + rng.below(8) as u32).min(batch.1.len() as u32);
            let (kept, holes): (Vec<u32>, Vec<u32>) = (next..end).partition(|_| rng.chance(0.8));
            all.extend(partial(reduce, batch, &kept));
            all.extend(holes.iter().filter_map(|hole| partial(reduce, batch, &[*hole])));
            next = end;
        }
        all
    }

    /// A tree of random shape over portions of which some come twice. What overlaps in part is refused, and taken apart: its
    /// portions come again. A crash at any merge leaves both sides as they were.
    fn tree<R: Reduce<i64>>(reduce: &R, leaves: &[Covered<R::Partial>], rng: &mut Rng) -> Option<Covered<R::Partial>> {
        let mut pool: Vec<(Covered<R::Partial>, Vec<usize>)> =
            leaves.iter().cloned().enumerate().map(|(leaf, covered)| (covered, vec![leaf])).collect();
        for _ in 0..rng.below(10).min(leaves.len() as u64) {
            pool.push(rng.choose(&pool)?.clone());
        }
        while pool.len() > 1 {
            let two = pool.swap_remove(rng.below(pool.len() as u64) as usize);
            let at = rng.below(pool.len() as u64) as usize;
            let mut into = pool[at].clone();
            let overlap = into.0.merge(reduce, two.0.clone());
            if rng.chance(0.2) {
                pool.push(two); // the power is cut: nothing of it was kept
                continue;
            }
            match overlap {
                Overlap::Nothing => into.1.extend(two.1),
                Overlap::Whole => {}
                Overlap::Part => pool.extend(two.1.iter().map(|leaf| (leaves[*leaf].clone(), vec![*leaf]))),
            }
            pool[at] = into;
        }
        pool.pop().map(|(covered, _)| covered)
    }

    fn law<R: Reduce<i64>>(reduce: R, name: &str)
    where
        R::Out: PartialEq + Debug,
    {
        let mut rng = Seed::new(5).fork(name).rng();
        for round in 0..200 {
            let one = |batch: u64, rng: &mut Rng| {
                let items = (0..1 + rng.below(30)).map(|_| rng.below(60) as i64 - 30).collect();
                (Id::of(batch.to_le_bytes()), items)
            };
            let batches: Vec<(Id, Vec<i64>)> = (0..1 + rng.below(6)).map(|batch| one(batch, &mut rng)).collect();
            let fold = reduce.all(&batches.iter().flat_map(|(_, items)| items.clone()).collect::<Vec<_>>());
            let leaves: Vec<_> = batches.iter().flat_map(|batch| portions(&reduce, batch, &mut rng)).collect();
            let root = tree(&reduce, &leaves, &mut rng);
            assert_eq!(reduce.finish(root.as_ref().map(|root| &root.value)), fold, "{name}, round {round}");
        }
    }

    #[test]
    fn any_tree_in_any_order_with_duplicates_and_crashes_is_the_sequential_fold() {
        law(Sum::of(|n: &i64| *n), "sum");
        law(MinMax::of(|n: &i64| *n), "min and max");
        law(TopK::of(7, |n: &i64| (n % 10, *n)), "top");
        law(Collect, "collect");
        law(Group::by(|n: &i64| n % 5, Sum::of(|n: &i64| *n)), "groups");
    }

    #[test]
    fn what_is_common_is_known_to_the_item() {
        let mut rng = Seed::new(3).rng();
        for _ in 0..500 {
            let mut some = || (0..40_u32).filter(|_| rng.chance(0.3)).collect::<BTreeSet<_>>();
            let (one, two) = (some(), some());
            let batch = Id::of("batch");
            let cover = |items: &BTreeSet<u32>| Cover::of(batch, items.iter().copied());
            let common = one.intersection(&two).count();
            let due = match common {
                0 => Overlap::Nothing,
                all if all == two.len() => Overlap::Whole,
                _ => Overlap::Part,
            };
            assert_eq!(cover(&one).overlap(&cover(&two)), due, "{one:?} {two:?}");
            assert_eq!(cover(&one).overlap(&Cover::of(Id::of("other"), two.iter().copied())), Overlap::Nothing);
        }
    }

    #[test]
    fn what_adjoins_is_one_run_and_the_oldest_are_forgotten_first() {
        let (old, new) = (Id::of("old"), Id::of("new"));
        let mut cover = Cover::of(old, 0..10);
        for portion in [20..30, 0..10, 10..20] {
            cover.add(Cover::of(new, portion));
        }
        assert_eq!(cover.0.len(), 2, "{cover:?}");
        assert_eq!(cover.overlap(&Cover::of(new, 5..25)), Overlap::Whole);
        cover.trim(1);
        assert_eq!(cover.overlap(&Cover::of(old, 3..4)), Overlap::Nothing);
        assert_eq!(cover.overlap(&Cover::of(new, 29..31)), Overlap::Part);
    }
}
