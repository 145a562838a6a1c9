//! Copier: the same items on several streams.

use crate::flow::{Chain, Edge, Item, Stream, router::Together};
use std::panic::Location;

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// The same items on each of `N` streams, for tasks that are independent of each other.
    ///
    /// ```text
    ///           ┌─▶ a b c
    /// a b c ────┤
    ///           └─▶ a b c
    /// ```
    ///
    /// An item goes to all of them or to none, in one step. In this process the copies share one payload: copying costs
    /// the same whatever the items' size. Each has an id of its own. A stream that is full holds up the others.
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("films");
    /// let [small, large] = flow.source::<String>("uploads").copy();
    /// small.map(|film| format!("{film} at 480p")).sink("small");
    /// large.map(|film| format!("{film} at 2160p")).sink("large");
    /// assert!(flow.build().is_ok());
    /// ```
    #[track_caller]
    pub fn copy<const N: usize>(self) -> [Edge<C::Out>; N] {
        let at = Location::caller();
        let names: [String; N] = std::array::from_fn(|copy| (copy + 1).to_string());
        let ports: Vec<_> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let (draft, edges) = self.end("copy", at, Together, &ports);
        std::array::from_fn(|copy| {
            let edge = edges.get(copy).copied().unwrap_or_default();
            Edge::at_edges(draft.clone(), vec![(edge, 1)])
        })
    }
}
