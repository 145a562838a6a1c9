//! Filter: the stream without the items that do not match.

use crate::flow::{Chain, Emit, Stream};
use std::fmt;

/// A criterion after others; what [`Stream::filter`] makes.
#[derive(Clone, Copy)]
pub struct Filter<C, F> {
    before: C,
    criterion: F,
}

impl<C, F> Filter<C, F> {
    pub(in crate::flow) fn new(before: C, criterion: F) -> Filter<C, F> {
        Filter { before, criterion }
    }
}

impl<In, C: Chain<In>> Stream<In, C> {
    /// Hands on only those items for which this holds. The others are done with: a join further down is told so, and
    /// waits for them no longer.
    ///
    /// It runs inside the stage, as [`map`](Stream::map) does. In front of a plain queue, a flow of a source, a filter and
    /// a sink is the ambassador that keeps from it what its workers cannot use.
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("uploads");
    /// flow.source::<String>("files").filter(|path| path.ends_with(".mp4")).sink("videos");
    /// assert!(flow.build().is_ok());
    /// ```
    pub fn filter<F>(self, criterion: F) -> Stream<In, Filter<C, F>>
    where
        F: Fn(&C::Out) -> bool + Send + Sync + 'static,
    {
        self.fuse("filter", |chain| Filter::new(chain, criterion))
    }
}

impl<In, C, F> Chain<In> for Filter<C, F>
where
    C: Chain<In>,
    F: Fn(&C::Out) -> bool + Send + Sync + 'static,
{
    type Out = C::Out;

    #[inline]
    fn each<E: Emit<C::Out>>(&self, item: &In, emit: &mut E) {
        self.before.each(item, &mut Filtered { criterion: &self.criterion, emit });
    }
}

struct Filtered<'a, F, E> {
    criterion: &'a F,
    emit: &'a mut E,
}

impl<T, F: Fn(&T) -> bool, E: Emit<T>> Emit<T> for Filtered<'_, F, E> {
    #[inline]
    fn owned(&mut self, item: T) {
        if (self.criterion)(&item) {
            self.emit.owned(item);
        }
    }

    #[inline]
    fn shared(&mut self, item: &T) {
        if (self.criterion)(item) {
            self.emit.shared(item);
        }
    }
}

impl<C: fmt::Debug, F> fmt::Debug for Filter<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("before", &self.before).finish_non_exhaustive()
    }
}
