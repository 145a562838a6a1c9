//! Merger: the union of several streams.

use crate::flow::{Chain, Edge, Item, Stream};
use std::{panic::Location, sync::Arc};

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// The items of both, each once, as they come: whatever is put behind it reads from both.
    ///
    /// ```text
    /// a b ────┐
    ///         ├─▶ a c b
    /// c ──────┘
    /// ```
    ///
    /// It is fair: while both have something, each gets its share of the items, half and half unless
    /// [`weight`](Stream::weight) says otherwise; one that has nothing holds up nobody. No topic of its own: the next
    /// stage leases from all of its inputs. Unlike a [`join`](Stream::join), it waits for nothing to be complete.
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("news");
    /// let (urgent, usual) = (flow.source::<String>("urgent"), flow.source::<String>("usual"));
    /// urgent.weight(3).merge(usual).map(|news| news.to_uppercase()).sink("print");
    /// assert!(flow.build().is_ok());
    /// ```
    #[track_caller]
    pub fn merge<In2: Item, D: Chain<In2, Out = C::Out>>(self, other: Stream<In2, D>) -> Edge<C::Out> {
        let at = Location::caller();
        let same = Arc::ptr_eq(self.draft(), other.draft());
        let (draft, mut inputs) = self.into_edges(at);
        let (_, others) = other.into_edges(at);
        if same {
            inputs.extend(others);
        } else {
            draft.lock().mistake(at, "the two streams are of different flows");
        }
        Edge::at_edges(draft, inputs)
    }
}
