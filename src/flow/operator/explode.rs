//! Explode: one item to many, possibly none.

use crate::flow::{Chain, Emit, Stream};
use std::fmt;

/// A function to many after others; what [`Stream::explode`] makes.
#[derive(Clone, Copy)]
pub struct Explode<C, F> {
    before: C,
    function: F,
}

impl<C, F> Explode<C, F> {
    pub(in crate::flow) fn new(before: C, function: F) -> Explode<C, F> {
        Explode { before, function }
    }
}

impl<In, C: Chain<In>> Stream<In, C> {
    /// Puts all that this makes of an item in its place, in order; that may be nothing.
    ///
    /// It must make the same of the same item, so that doing it again makes the same ids. A join further down waits for
    /// all that came of an item, however often it is exploded again.
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("texts");
    /// flow.source::<String>("lines")
    ///     .explode(|line| line.split_whitespace().map(str::to_string).collect::<Vec<_>>())
    ///     .sink("words");
    /// assert!(flow.build().is_ok());
    /// ```
    pub fn explode<I, F>(self, function: F) -> Stream<In, Explode<C, F>>
    where
        I: IntoIterator,
        F: Fn(&C::Out) -> I + Send + Sync + 'static,
    {
        self.fuse("explode", |chain| Explode::new(chain, function))
    }
}

impl<In, I, C, F> Chain<In> for Explode<C, F>
where
    I: IntoIterator,
    C: Chain<In>,
    F: Fn(&C::Out) -> I + Send + Sync + 'static,
{
    type Out = I::Item;

    #[inline]
    fn each<E: Emit<I::Item>>(&self, item: &In, emit: &mut E) {
        self.before.each(item, &mut Exploded { function: &self.function, emit });
    }
}

struct Exploded<'a, F, E> {
    function: &'a F,
    emit: &'a mut E,
}

impl<T, I: IntoIterator, F: Fn(&T) -> I, E: Emit<I::Item>> Emit<T> for Exploded<'_, F, E> {
    #[inline]
    fn owned(&mut self, item: T) {
        (self.function)(&item).into_iter().for_each(|made| self.emit.owned(made));
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        (self.function)(item).into_iter().for_each(|made| self.emit.owned(made));
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Explode<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explode").field("before", &self.before).finish_non_exhaustive()
    }
}
