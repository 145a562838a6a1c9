//! Splitter: each item to one stream by a criterion, or to every stream whose criterion holds.

use crate::flow::{
    Chain, Edge, Item, Stream,
    draft::Place,
    fault::Fault,
    router::{Route, Router},
};
use std::{fmt, panic::Location, sync::Arc};

/// A name and a criterion; what [`port`] makes.
pub struct Port<T> {
    name: &'static str,
    criterion: Arc<dyn Fn(&T) -> bool + Send + Sync>,
}

/// A way out of a [splitter](Stream::split): of this name, for items of which this holds.
pub fn port<T>(name: &'static str, criterion: impl Fn(&T) -> bool + Send + Sync + 'static) -> Port<T> {
    Port { name, criterion: Arc::new(criterion) }
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Each item to exactly one stream: that of the first port whose criterion holds.
    ///
    /// ```text
    ///           ┌─ email ─▶ a c
    /// a b c ────┤
    ///           └─ text ──▶ b
    /// ```
    ///
    /// Where none holds, the item that the stage took goes to the dead letters, and nothing of it goes on. A last port
    /// that takes everything leaves none over.
    ///
    /// ```
    /// use seedpod::flow::{Flow, port};
    /// let mut flow = Flow::new("notices");
    /// let email = port("email", |to: &String| to.contains('@'));
    /// let text = port("text", |to: &String| to.starts_with('+'));
    /// let [email, text] = flow.source::<String>("notices").split([email, text]);
    /// email.sink("emails");
    /// text.sink("texts");
    /// assert!(flow.build().is_ok());
    /// ```
    #[track_caller]
    pub fn split<const N: usize>(self, ports: [Port<C::Out>; N]) -> [Edge<C::Out>; N] {
        self.apart(ports, false, "split", Location::caller())
    }

    /// Each item to every stream whose criterion holds: a copier and a splitter in one, for who wants both an e-mail and
    /// a text. It goes to all of them or to none, in one step; where no criterion holds, as with [`split`](Stream::split).
    #[track_caller]
    pub fn split_all<const N: usize>(self, ports: [Port<C::Out>; N]) -> [Edge<C::Out>; N] {
        self.apart(ports, true, "split_all", Location::caller())
    }

    fn apart<const N: usize>(
        self,
        ports: [Port<C::Out>; N],
        all: bool,
        operator: &'static str,
        at: Place,
    ) -> [Edge<C::Out>; N] {
        let names: Vec<_> = ports.iter().enumerate().map(|(list, port)| (port.name, list)).collect();
        let (draft, edges) = self.end(operator, at, Splitter { ports: ports.into(), all }, &names);
        std::array::from_fn(|port| {
            let edge = edges.get(port).copied().unwrap_or_default();
            Edge::at_edges(draft.clone(), vec![(edge, 1)])
        })
    }
}

struct Splitter<T> {
    ports: Vec<Port<T>>,
    all: bool,
}

impl<T: Item> Router<T> for Splitter<T> {
    fn lists(&self) -> usize {
        self.ports.len()
    }

    #[inline]
    fn route(&self, item: &T) -> Route {
        let mut hold = self.ports.iter().enumerate().filter(|(_, port)| (port.criterion)(item)).map(|(at, _)| at);
        if !self.all {
            return hold.next().map_or(Route::Nowhere, Route::To);
        }
        match hold.fold(0_u64, |mask, at| mask | 1_u64.checked_shl(at as u32).unwrap_or(0)) {
            0 => Route::Nowhere,
            mask => Route::Each(mask),
        }
    }

    fn lost(&self) -> Fault {
        let names: Vec<_> = self.ports.iter().map(|port| port.name).collect();
        Fault::Hopeless(format!("no port takes it: {}", names.join(", ")))
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.name).finish()
    }
}
