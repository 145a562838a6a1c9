//! Source: where items come in.

use crate::base::Name;
use crate::flow::{
    Edge, Flow, Item,
    draft::{Begin, Place},
    stream::type_of,
};
use std::panic::Location;

impl Flow {
    /// Items that come in under this name: whoever has the run sends them by its [`input`](crate::flow::Run::input),
    /// and any publisher may, to the topic `<flow>.<name>`.
    ///
    /// What is sent together, under one id, is a batch: a [`join`](crate::flow::Stream::join) further down waits for all
    /// of it. The same id again within five minutes (SQS' window), or what the broker can do of it, is a duplicate.
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("shop");
    /// flow.source::<String>("orders").sink("done");
    /// assert!(flow.build().is_ok());
    /// ```
    #[track_caller]
    pub fn source<T: Item>(&mut self, name: impl Into<Name>) -> Edge<T> {
        let (name, at): (Name, Place) = (name.into(), Location::caller());
        let edge = {
            let mut draft = self.draft().lock();
            draft.check_name("source", name.as_str(), at);
            draft.edge(name.as_str(), Begin::Source(name.clone()), at, type_of::<T>())
        };
        Edge::at_edges(self.draft().clone(), vec![(edge, 1)])
    }
}
