//! Map: a step of work that is a plain function.

use crate::flow::{Chain, Emit, Stream};
use std::fmt;

/// A function after others; what [`Stream::map`] makes.
#[derive(Clone, Copy)]
pub struct Map<C, F> {
    before: C,
    function: F,
}

impl<C, F> Map<C, F> {
    pub(in crate::flow) fn new(before: C, function: F) -> Map<C, F> {
        Map { before, function }
    }
}

impl<In, C: Chain<In>> Stream<In, C> {
    /// Puts what this function makes of an item in its place.
    ///
    /// It runs inside the stage: no edge, no box, no copy. What waits for something else is a [`call`](Stream::call). It
    /// may run again for the same item; a panic in it is charged to that item alone.
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("prices");
    /// flow.source::<u32>("cents").map(|cents| f64::from(*cents) / 100.0).sink("euros");
    /// assert!(flow.build().is_ok());
    /// ```
    pub fn map<U, F>(self, function: F) -> Stream<In, Map<C, F>>
    where
        F: Fn(&C::Out) -> U + Send + Sync + 'static,
    {
        self.fuse("map", |chain| Map::new(chain, function))
    }
}

impl<In, U, C, F> Chain<In> for Map<C, F>
where
    C: Chain<In>,
    F: Fn(&C::Out) -> U + Send + Sync + 'static,
{
    type Out = U;

    #[inline]
    fn each<E: Emit<U>>(&self, item: &In, emit: &mut E) {
        self.before.each(item, &mut Mapped { function: &self.function, emit });
    }
}

struct Mapped<'a, F, E> {
    function: &'a F,
    emit: &'a mut E,
}

impl<T, U, F: Fn(&T) -> U, E: Emit<U>> Emit<T> for Mapped<'_, F, E> {
    #[inline]
    fn owned(&mut self, item: T) {
        self.emit.owned((self.function)(&item));
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        self.emit.owned((self.function)(item));
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Map<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("before", &self.before).finish_non_exhaustive()
    }
}
