//! An endpoint as its source knows it.

use super::super::Attributes;
use crate::store::Entry;

/// An endpoint as its source knows it: where it is, what is known of it, and whether it is about to go.
///
/// ```
/// use seedpod::serving::Member;
/// let member = Member::new("10.0.0.1:7070").about(|it| {
///     it.weight(3).zone("eu-1a");
/// });
/// assert_eq!(member.attributes.weight, 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<A> {
    /// Where it is: what a service is made of. Who stays at the same address keeps its service.
    pub address: A,
    /// What is known of it.
    pub attributes: Attributes,
    /// Whether it is about to go: no new picks, and what it has in flight ends.
    pub draining: bool,
}

impl<A> Member<A> {
    /// At this address; of weight 1, ready, nowhere in particular.
    pub fn new(address: A) -> Self {
        Member { address, attributes: Attributes::default(), draining: false }
    }

    /// With more known of it.
    #[must_use]
    pub fn about(mut self, tell: impl FnOnce(&mut Attributes)) -> Self {
        tell(&mut self.attributes);
        self
    }

    /// Whether it is about to go.
    #[must_use]
    pub fn draining(self, draining: bool) -> Self {
        Member { draining, ..self }
    }
}

impl<A: Clone> Member<A> {
    /// Reads an entry whose value is a member already, as those of [`Dns`](super::Dns) are: for
    /// [`Endpoints::follow`](super::super::Endpoints::follow).
    pub fn of(entry: &Entry<Member<A>>) -> Option<Member<A>> {
        Some(entry.value.clone())
    }
}
