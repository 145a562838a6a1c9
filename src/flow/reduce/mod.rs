//! What is merged: partial results, in any order and in trees of any shape.

mod collect;
mod count;
mod distinct;
mod group;
mod histogram;
mod mean;
mod min_max;
mod sum;
mod top;

pub use collect::Collect;
pub use count::Count;
pub use distinct::Distinct;
pub use group::Group;
pub use histogram::{Buckets, Histogram};
pub use mean::Mean;
pub use min_max::MinMax;
pub use sum::Sum;
pub use top::TopK;

use super::Item;

/// How items are merged into one result, progressively.
///
/// [`merge`](Reduce::merge) must be associative and commutative: partial results are made in parallel and merged as they
/// come. Everything in this module is; so any tree and any order give the same result, to the last bit.
///
/// ```
/// use seedpod::flow::Reduce;
/// struct Longest;
/// impl Reduce<String> for Longest {
///     type Partial = usize;
///     type Out = usize;
///     fn one(&self, item: &String) -> usize {
///         item.len()
///     }
///     fn merge(&self, into: &mut usize, other: usize) {
///         *into = (*into).max(other);
///     }
///     fn finish(&self, partial: Option<&usize>) -> usize {
///         partial.copied().unwrap_or(0)
///     }
/// }
/// assert_eq!(Longest.all(&["a".to_string(), "bcd".to_string()]), 3);
/// ```
pub trait Reduce<T>: Send + Sync + 'static {
    /// A result of some of the items; it travels between stages.
    type Partial: Item;
    /// The result.
    type Out: Item;

    /// The partial result of one item.
    fn one(&self, item: &T) -> Self::Partial;

    /// Adds another partial result, of other items.
    fn merge(&self, into: &mut Self::Partial, other: Self::Partial);

    /// The result; none where there was no item.
    fn finish(&self, partial: Option<&Self::Partial>) -> Self::Out;

    /// Adds one more item. The same as merging what [`one`](Reduce::one) makes of it, and may be cheaper.
    fn add(&self, into: &mut Self::Partial, item: &T) {
        self.merge(into, self.one(item));
    }

    /// The result of these items, here and now.
    fn all(&self, items: &[T]) -> Self::Out {
        let mut partial = None;
        items.iter().for_each(|item| add(self, &mut partial, item));
        self.finish(partial.as_ref())
    }
}

/// Adds an item to what may be nothing yet.
pub(super) fn add<T, R: Reduce<T> + ?Sized>(reduce: &R, partial: &mut Option<R::Partial>, item: &T) {
    match partial {
        Some(partial) => reduce.add(partial, item),
        None => *partial = Some(reduce.one(item)),
    }
}

/// Keeps nothing.
impl<T> Reduce<T> for () {
    type Partial = ();
    type Out = ();

    fn one(&self, _: &T) {}

    fn merge(&self, (): &mut (), (): ()) {}

    fn finish(&self, _: Option<&()>) {}
}

#[cfg(test)]
mod tests;
