//! Changes to a set of endpoints, applied in one step.

use super::{
    Attributes,
    cell::Cell,
    snapshot::{About, Endpoint, Snapshot},
};
use crate::base::{hash, sync::Counted as CellArc, time};
use std::{fmt, sync::Arc};

/// Changes to a set of endpoints, to be applied in one step: [`Endpoints::update`](super::Endpoints::update).
pub struct Changes<S> {
    list: Vec<Change<S>>,
    /// Of the insertions, in their order: they can still be set.
    attributes: Vec<Attributes>,
}

enum Change<S> {
    Insert(Arc<str>, S),
    Alter(Arc<str>, Box<dyn Fn(&mut Attributes)>),
    Drain(Arc<str>),
    Remove(Arc<str>),
    Clear,
}

impl<S> Changes<S> {
    /// Puts a service in under this key, or in the place of the one that is there, and gives its [`Attributes`] to be
    /// set. Those of an earlier service under the key do not stay.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, service: S) -> &mut Attributes {
        self.list.push(Change::Insert(key.into(), service));
        let place = self.attributes.len();
        self.attributes.push(Attributes::default());
        #[expect(clippy::indexing_slicing, reason = "it was pushed in the line above")]
        &mut self.attributes[place]
    }

    /// Changes what is known of the endpoint of this key.
    pub fn alter(&mut self, key: impl Into<Arc<str>>, alter: impl Fn(&mut Attributes) + 'static) {
        self.list.push(Change::Alter(key.into(), Box::new(alter)));
    }

    /// No new picks of the endpoint of this key.
    pub fn drain(&mut self, key: impl Into<Arc<str>>) {
        self.list.push(Change::Drain(key.into()));
    }

    /// Takes the endpoint of this key out.
    pub fn remove(&mut self, key: impl Into<Arc<str>>) {
        self.list.push(Change::Remove(key.into()));
    }

    /// Takes all out, so that what follows is the whole set. Endpoints that come back in the same step keep their place
    /// in the books.
    pub fn clear(&mut self) {
        self.list.push(Change::Clear);
    }
}

impl<S: Clone> Changes<S> {
    /// The set after the changes; none where they change nothing.
    pub(crate) fn apply(&self, old: &Snapshot<S>) -> Option<Snapshot<S>> {
        let (mut changed, mut attributes) = (false, self.attributes.iter());
        // one place per key, in the order of arrival; a gone endpoint keeps its place and its counts until the end
        let known = old.list.iter().zip(&old.about);
        let mut list: Vec<(CellArc<Cell>, Option<(&S, Arc<About>)>)> =
            known.map(|(endpoint, about)| (endpoint.cell.clone(), Some((&endpoint.service, about.clone())))).collect();
        let mut places: hash::Map<&str, usize> =
            old.list.iter().enumerate().map(|(place, endpoint)| (&**endpoint.cell.key(), place)).collect();
        for change in &self.list {
            match change {
                Change::Insert(key, service) => {
                    changed = true;
                    let attributes = attributes.next().cloned().unwrap_or_default();
                    let present = Some((service, Arc::new(About { attributes, draining: false })));
                    match places.get(&**key).and_then(|place| list.get_mut(*place)) {
                        Some(place) => place.1 = present,
                        None => {
                            places.insert(key, list.len());
                            list.push((fresh(key, old), present));
                        }
                    }
                }
                Change::Alter(key, alter) => {
                    if let Some((_, Some((_, about)))) = places.get(&**key).and_then(|place| list.get_mut(*place)) {
                        let mut attributes = about.attributes.clone();
                        alter(&mut attributes);
                        if attributes != about.attributes {
                            changed = true;
                            *about = Arc::new(About { attributes, draining: about.draining });
                        }
                    }
                }
                Change::Drain(key) => {
                    if let Some((_, Some((_, about)))) = places.get(&**key).and_then(|place| list.get_mut(*place))
                        && !about.draining
                    {
                        changed = true;
                        *about = Arc::new(About { draining: true, ..About::clone(about) });
                    }
                }
                Change::Remove(key) => {
                    if let Some((_, present)) = places.get(&**key).and_then(|place| list.get_mut(*place)) {
                        changed |= present.take().is_some();
                    }
                }
                Change::Clear => {
                    for (_, present) in &mut list {
                        changed |= present.take().is_some();
                    }
                }
            }
        }
        let endpoint = |(cell, present): (CellArc<Cell>, Option<(&S, Arc<About>)>)| {
            let (service, about) = present?;
            Some((Endpoint::new(cell, service.clone()), about))
        };
        changed.then(|| Snapshot::new(list.into_iter().filter_map(endpoint).collect(), old.warm, old.epoch))
    }
}

/// The counts of an endpoint that has just come.
fn fresh<S>(key: &Arc<str>, set: &Snapshot<S>) -> CellArc<Cell> {
    let cell = Cell::new(key.clone(), set.epoch);
    if set.warm.is_some() {
        cell.warm(time::now());
    }
    CellArc::new(cell)
}

impl<S> Default for Changes<S> {
    fn default() -> Self {
        Changes { list: Vec::new(), attributes: Vec::new() }
    }
}

impl<S> fmt::Debug for Changes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes({})", self.list.len())
    }
}
