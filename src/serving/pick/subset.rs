//! A few of many.

use super::{Choice, LeastPending, Picker};
use crate::serving::{
    Among, Draw, Replicas,
    part::{Memo, Part},
    rendezvous,
};
use std::{cmp::Reverse, sync::Arc};

/// A few of many: each client uses its own few endpoints of a large fleet, so that a thousand clients of a thousand
/// servers do not hold a million connections.
///
/// Another picker chooses among the few. Which they are depends on the client's name and theirs alone: the highest by
/// rendezvous hashing, as in gRPC's random subsetting (A68).
///
/// ```
/// use seedpod::serving::Replicas;
///
/// let replicas = Replicas::named("cart").subset(3, "web-7c9f"); // the pod's own name
/// replicas.endpoints().update(|changes| {
///     (0..100).for_each(|number| {
///         changes.insert(format!("cart-{number}"), ());
///     });
/// });
/// let mut used: Vec<_> = (0..1_000).map(|_| replicas.pick().unwrap().key().to_owned()).collect();
/// used.sort();
/// used.dedup();
/// assert_eq!(used.len(), 3);
/// ```
///
/// **Guarantees**
/// - An endpoint that comes takes the place of one of the few, or of none; one that goes or drains is replaced by one.
///   Nothing else moves, whatever the order in which they came. Readiness by a probe and ejection move nothing.
/// - Each endpoint is used by about equally many clients: as even as chance, so with a thousand clients at each the most
///   used has about a tenth more than the mean. Names of clients differ, or they all use the same.
/// - The few are found anew when the set changes, by the first pick after it.
/// - Where none of the few can be picked, the choice is that of the whole set. Where they are out since they are
///   ejected, they get the calls that decide whether that ends.
///
/// **Not guaranteed**: that weights give endpoints more clients: they count among the few.
#[derive(Clone, Debug)]
pub struct Subset<P = LeastPending> {
    size: usize,
    client: u64,
    few: Memo<Few>,
    picker: P,
}

/// The few; none where that is all.
#[derive(Debug)]
struct Few {
    part: Option<Arc<Part>>,
    /// Whether any takes calls as a matter of course.
    pickable: bool,
}

impl Subset {
    /// So many for the client of this name; 0 counts as 1.
    pub fn new(size: usize, client: impl AsRef<[u8]>) -> Self {
        Subset { size: size.max(1), client: rendezvous::of(client.as_ref()), few: Memo::new(), picker: LeastPending }
    }
}

impl<P> Subset<P> {
    /// Chooses among the few by this picker.
    #[must_use]
    pub fn by<Q>(self, picker: Q) -> Subset<Q> {
        Subset { size: self.size, client: self.client, few: self.few, picker }
    }

    fn few<S>(&self, among: &Among<'_, S>, before: Option<&Few>) -> Few {
        let part = match before {
            Some(few) => few.part.clone(),
            None => self.part(among),
        };
        let pickable = match &part {
            Some(part) => part.sampling.places().any(|place| among.takes(place)),
            None => true,
        };
        Few { part, pickable }
    }

    fn part<S>(&self, among: &Among<'_, S>) -> Option<Arc<Part>> {
        let names = among.snapshot.names();
        let score = |place: usize| names.get(place).map_or(0, |name| rendezvous::score(self.client, *name));
        let mut scored: Vec<_> =
            among.sampling.places().map(|place| (Reverse(score(place)), among.key(place), place)).collect();
        if scored.len() <= self.size {
            return None;
        }
        scored.select_nth_unstable(self.size - 1);
        let mut weights = vec![0; among.len()];
        for (.., place) in scored.iter().take(self.size) {
            if let Some(weight) = weights.get_mut(*place) {
                *weight = among.weight(*place);
            }
        }
        Some(Arc::new(Part::new(&weights)))
    }
}

impl<Req: ?Sized, P: Picker<Req>> Picker<Req> for Subset<P> {
    #[inline]
    fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice> {
        self.few.with(
            among.known_as(),
            |before| self.few(among, before),
            |few| {
                let usable = |part: &Among<'_, S>| few.pickable || part.has_due();
                let few = few.part.as_ref().map(|part| among.within(part)).filter(usable);
                // whom an earlier attempt tried is out for this one
                let few = few.filter(|few| !few.is_narrowed() || few.has_pickable());
                few.and_then(|few| self.picker.choose(&few, request, draw))
                    .or_else(|| self.picker.choose(among, request, draw))
            },
        )
    }

    fn fixed<S>(&self, among: &Among<'_, S>, place: usize) -> Choice {
        Picker::<Req>::fixed(&self.picker, among, place)
    }
}

impl<S, C, P: Clone> Replicas<S, C, P> {
    /// Uses only so many endpoints, this client's own: [`Subset`] around the picker that it has.
    #[must_use]
    pub fn subset(self, size: usize, client: impl AsRef<[u8]>) -> Replicas<S, C, Subset<P>> {
        let picker = self.picker.clone();
        self.pick_by(Subset::new(size, client).by(picker))
    }
}

#[cfg(test)]
mod tests;
