//! Sink: where items come out, or end.

use crate::base::Name;
use crate::flow::{Chain, Item, Stream, draft::End, router::Together};
use std::panic::Location;

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Ends the stream in the topic `<flow>.<name>`, for others to read: by the run's
    /// [`output`](crate::flow::Run::output), or by [`consume`](crate::queue::consume) on its
    /// [`subscription`](crate::flow::Graph::subscription). While nobody reads and the topic is full, the flow waits.
    #[track_caller]
    pub fn sink(self, name: impl Into<Name>) {
        let (name, at): (Name, _) = (name.into(), Location::caller());
        let (draft, edge) = self.into_edge(at);
        let mut draft = draft.lock();
        draft.check_name("sink", name.as_str(), at);
        let topic = draft.topic(name.as_str());
        if let Some(edge) = draft.edges.get_mut(edge) {
            (edge.topic, edge.end, edge.at) = (topic, End::Sink(name), at);
        }
    }

    /// Ends the stream in nothing: for what was done by the way, in a [`call`](Stream::call). A join that waits for these
    /// items is told that they are done with.
    ///
    /// ```
    /// use seedpod::flow::{Called, Flow};
    /// let mut flow = Flow::new("mails");
    /// let send = |mail: Called<String>| async move {
    ///     println!("{} under {}", mail.item, mail.id);
    ///     Ok::<_, seedpod::Error>(())
    /// };
    /// flow.source::<String>("outbox").call(send).discard();
    /// assert!(flow.build().is_ok());
    /// ```
    #[track_caller]
    pub fn discard(self) {
        let at = Location::caller();
        drop(self.end("discard", at, Together, &[]));
    }
}
