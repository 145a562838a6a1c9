//! The law of every reducer: any tree of merges over any order is the sequential fold.

use super::*;
use crate::base::{Rng, Seed};
use std::fmt::Debug;

/// Merges what may be nothing yet.
fn merge<T, R: Reduce<T> + ?Sized>(reduce: &R, partial: &mut Option<R::Partial>, other: R::Partial) {
    match partial {
        Some(partial) => reduce.merge(partial, other),
        None => *partial = Some(other),
    }
}

/// Cuts at random, and merges the parts in either order.
fn tree<T, R: Reduce<T>>(reduce: &R, items: &[T], rng: &mut Rng) -> Option<R::Partial> {
    if items.len() < 2 || rng.chance(0.1) {
        let mut partial = None;
        items.iter().for_each(|item| add(reduce, &mut partial, item));
        return partial;
    }
    let (left, right) = items.split_at(rng.below(items.len() as u64 + 1) as usize);
    let (mut left, mut right) = (tree(reduce, left, rng), tree(reduce, right, rng));
    if rng.chance(0.5) {
        std::mem::swap(&mut left, &mut right);
    }
    if let Some(right) = right {
        merge(reduce, &mut left, right);
    }
    left
}

fn law<R: Reduce<i64>>(reduce: R, name: &str)
where
    R::Out: PartialEq + Debug,
{
    let mut rng = Seed::new(21).fork(name).rng();
    for size in [0, 1, 2, 3, 10, 100, 300] {
        for _ in 0..40 {
            let mut items: Vec<i64> = (0..size).map(|_| rng.below(60) as i64 - 30).collect();
            // one by one, without the short cut
            let mut folded = None;
            items.iter().for_each(|item| merge(&reduce, &mut folded, reduce.one(item)));
            let folded = reduce.finish(folded.as_ref());
            assert_eq!(reduce.all(&items), folded, "{name} of {size}");
            rng.shuffle(&mut items);
            assert_eq!(reduce.finish(tree(&reduce, &items, &mut rng).as_ref()), folded, "{name} of {size}");
        }
    }
}

#[test]
fn any_tree_over_any_order_is_the_sequential_fold() {
    law(Count, "count");
    law(Sum::of(|n: &i64| *n), "sum");
    law(Mean::of(|n: &i64| *n), "mean");
    law(MinMax::of(|n: &i64| *n), "min and max");
    law(TopK::of(7, |n: &i64| (n % 10, *n)), "top");
    law(Distinct::of(|n: &i64| *n), "distinct");
    law(Histogram::of([0, 10, -10], |n: &i64| *n), "histogram");
    law(Collect, "collect");
    law(Group::by(|n: &i64| n % 5, Group::by(|n: &i64| n % 2 == 0, Sum::of(|n: &i64| *n))), "groups");
}

#[test]
fn they_say_what_they_should() {
    let items = [5, -3, 5, 12_i64];
    assert_eq!(Sum::of(|n: &i64| *n).all(&items), 19);
    assert_eq!(Mean::of(|n: &i64| *n).all(&items), Some(4.75));
    assert_eq!(MinMax::of(|n: &i64| *n).all(&items), Some((-3, 12)));
    assert_eq!(TopK::of(3, |n: &i64| *n).all(&items), [12, 5, 5]);
    assert_eq!(Distinct::of(|n: &i64| *n).all(&items), 3);
    assert_eq!(Histogram::of([0, 5], |n: &i64| *n).all(&items).counts, [1, 2, 1]);
    assert_eq!(Collect.all(&items), [-3, 5, 5, 12]);
    assert_eq!((Mean::of(|n: &i64| *n).all(&[]), MinMax::of(|n: &i64| *n).all(&[])), (None, None));
}
