//! Plain functions, composed while compiling: no box, no channel and no buffer between them.

use super::operator::{Explode, Filter, Map};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, marker::PhantomData};

/// What may stand on an edge: by reference in this process, as bytes between two. Whatever fits is one.
pub trait Item: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Item for T {}

/// Takes what a [`Chain`] makes of an item, in order.
pub trait Emit<T> {
    /// Something that was made.
    fn owned(&mut self, item: T);

    /// Something that was there before, and stays.
    fn shared(&mut self, item: &T);
}

/// Functions in a row: what an item becomes, which may be one thing, none or many.
pub trait Chain<In>: Send + Sync + 'static {
    /// What comes out.
    type Out;

    /// Whether it hands on every item as it is.
    const WHOLE: bool = false;

    /// Hands on what this item becomes.
    fn each<E: Emit<Self::Out>>(&self, item: &In, emit: &mut E);
}

/// No function yet: every item as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whole;

impl<T> Chain<T> for Whole {
    type Out = T;
    const WHOLE: bool = true;

    #[inline]
    fn each<E: Emit<T>>(&self, item: &T, emit: &mut E) {
        emit.shared(item);
    }
}

/// A row of functions by itself, without a flow: the same operators that a [`Stream`](super::Stream) has, run over
/// whatever is at hand.
///
/// ```
/// let pipe = seedpod::flow::pipe::<u64>().map(|n| n + 1).filter(|n| n % 3 != 0).explode(|n| [*n, 10 * n]);
/// assert_eq!(pipe.apply(&[1, 2, 3]), [2, 20, 4, 40]);
/// ```
#[must_use = "it does nothing until it is run"]
pub struct Pipe<In, C = Whole> {
    chain: C,
    marker: PhantomData<fn(&In)>,
}

/// An empty [`Pipe`] of items of this type.
pub fn pipe<In>() -> Pipe<In> {
    Pipe { chain: Whole, marker: PhantomData }
}

impl<In, C: Chain<In>> Pipe<In, C> {
    /// Puts this in its place.
    pub fn map<U, F>(self, function: F) -> Pipe<In, Map<C, F>>
    where
        F: Fn(&C::Out) -> U + Send + Sync + 'static,
    {
        self.then(|chain| Map::new(chain, function))
    }

    /// Hands on only those for which this holds.
    pub fn filter<F>(self, criterion: F) -> Pipe<In, Filter<C, F>>
    where
        F: Fn(&C::Out) -> bool + Send + Sync + 'static,
    {
        self.then(|chain| Filter::new(chain, criterion))
    }

    /// Hands on all of these in its place, which may be none.
    pub fn explode<I, F>(self, function: F) -> Pipe<In, Explode<C, F>>
    where
        I: IntoIterator,
        F: Fn(&C::Out) -> I + Send + Sync + 'static,
    {
        self.then(|chain| Explode::new(chain, function))
    }

    fn then<D>(self, next: impl FnOnce(C) -> D) -> Pipe<In, D> {
        Pipe { chain: next(self.chain), marker: PhantomData }
    }

    /// Takes the items one by one, and gives the sink what they become.
    #[inline]
    pub fn run(&self, items: impl IntoIterator<Item = In>, sink: impl FnMut(C::Out))
    where
        C::Out: Clone,
    {
        let mut sink = To(sink);
        items.into_iter().for_each(|item| self.chain.each(&item, &mut sink));
    }

    /// What these items become.
    pub fn apply(&self, items: &[In]) -> Vec<C::Out>
    where
        C::Out: Clone,
    {
        let mut out = Vec::with_capacity(items.len());
        self.extend(items, &mut out);
        out
    }

    /// Adds what these items become.
    #[inline]
    pub fn extend(&self, items: &[In], out: &mut Vec<C::Out>)
    where
        C::Out: Clone,
    {
        let mut out = Onto(out);
        items.iter().for_each(|item| self.chain.each(item, &mut out));
    }
}

impl<In, C: fmt::Debug> fmt::Debug for Pipe<In, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.chain).finish()
    }
}

/// To a closure.
struct To<F>(F);

impl<T: Clone, F: FnMut(T)> Emit<T> for To<F> {
    #[inline]
    fn owned(&mut self, item: T) {
        (self.0)(item);
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        (self.0)(item.clone());
    }
}

/// To the end of a list.
struct Onto<'a, T>(&'a mut Vec<T>);

impl<T: Clone> Emit<T> for Onto<'_, T> {
    #[inline]
    fn owned(&mut self, item: T) {
        self.0.push(item);
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        self.0.push(item.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_does_what_a_loop_does() {
        let pipe = pipe::<u64>().map(|n| n + 1).filter(|n| n % 3 != 0).map(|n| n * 3).filter(|n| n % 5 != 0);
        let mut by_hand = Vec::new();
        for n in 0..1000_u64 {
            let n = n + 1;
            if n % 3 != 0 && (n * 3) % 5 != 0 {
                by_hand.push(n * 3);
            }
        }
        let numbers: Vec<_> = (0..1000).collect();
        assert_eq!(pipe.apply(&numbers), by_hand);
        let mut one_by_one = Vec::new();
        pipe.run(0..1000, |n| one_by_one.push(n));
        assert_eq!(one_by_one, by_hand);
    }

    #[test]
    fn what_is_only_filtered_is_cloned_once_and_what_is_made_is_moved() {
        #[derive(Debug)]
        struct Counted(std::sync::Arc<()>);
        impl Clone for Counted {
            fn clone(&self) -> Self {
                Counted(self.0.clone())
            }
        }
        let one = Counted(std::sync::Arc::new(()));
        let kept = pipe::<Counted>().filter(|_| true).filter(|_| true).apply(std::slice::from_ref(&one));
        assert_eq!((kept.len(), std::sync::Arc::strong_count(&one.0)), (1, 2));
        let made = pipe::<Counted>().map(|one| one.clone()).filter(|_| true).apply(std::slice::from_ref(&one));
        assert_eq!((made.len(), std::sync::Arc::strong_count(&one.0)), (1, 3));
    }
}
