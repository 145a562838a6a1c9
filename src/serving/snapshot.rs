//! A set of endpoints at one moment.

use super::{
    Attributes, Description, SlowStart, Status,
    affinity::Homes,
    cell::{Cell, state},
    part,
    pick::Circle,
    rendezvous,
    sample::Sampling,
};
use crate::base::{sync::Counted as CellArc, time::Instant};
use std::sync::{Arc, OnceLock};

/// The set at one moment. Flat, so that a pick follows as few pointers as can be.
pub(crate) struct Snapshot<S> {
    pub(crate) version: u64,
    /// No other snapshot has it, of this set or another.
    pub(crate) id: u64,
    pub(crate) list: Box<[Endpoint<S>]>,
    /// By attributes and draining alone; what comes and goes faster is on the cells.
    pub(crate) sampling: Sampling,
    /// Of each in the list, at the same place.
    pub(crate) about: Box<[Arc<About>]>,
    /// All may be used: none drains, is not ready by its attributes or has no weight.
    pub(crate) whole: bool,
    pub(crate) warm: Option<SlowStart>,
    /// When the set began: what its cells count time from.
    pub(crate) epoch: Instant,
    /// The ring of hashes, once somebody asks for it.
    pub(crate) circle: OnceLock<Circle>,
    names: OnceLock<Box<[u64]>>,
    /// Where sessions belong, as far as it was asked for.
    pub(super) homes: Homes,
}

/// What is known of an endpoint, as far as only a change of the set changes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct About {
    pub(crate) attributes: Attributes,
    pub(crate) draining: bool,
}

impl About {
    /// Its weight in the draw: none where it is not to be drawn.
    pub(crate) fn weight(&self) -> u32 {
        if self.draining || !self.attributes.ready { 0 } else { self.attributes.weight }
    }
}

pub(crate) struct Endpoint<S> {
    pub(crate) cell: CellArc<Cell>,
    pub(crate) service: S,
}

impl<S> Endpoint<S> {
    pub(crate) fn new(cell: CellArc<Cell>, service: S) -> Self {
        cell.snapshots(1);
        Endpoint { cell, service }
    }

    /// Its counts, to look at while it may be taken out.
    pub(crate) fn witness(&self) -> Endpoint<()> {
        Endpoint::new(self.cell.clone(), ())
    }
}

impl<S: Clone> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Endpoint::new(self.cell.clone(), self.service.clone())
    }
}

impl<S> Drop for Endpoint<S> {
    fn drop(&mut self) {
        self.cell.snapshots(-1);
    }
}

impl<S> Snapshot<S> {
    pub(crate) fn empty(epoch: Instant) -> Self {
        Snapshot::new(Vec::new(), None, epoch)
    }

    /// Of these endpoints. Its version is given to it by whoever puts it in place.
    pub(crate) fn new(list: Vec<(Endpoint<S>, Arc<About>)>, warm: Option<SlowStart>, epoch: Instant) -> Self {
        let (list, about): (Vec<_>, Vec<Arc<About>>) = list.into_iter().unzip();
        let weights: Vec<u32> = about.iter().map(|about| about.weight()).collect();
        Snapshot {
            version: 0,
            id: part::fresh(),
            list: list.into(),
            whole: weights.iter().all(|weight| *weight > 0),
            sampling: Sampling::new(&weights),
            about: about.into(),
            warm,
            epoch,
            circle: OnceLock::new(),
            names: OnceLock::new(),
            homes: Homes::default(),
        }
    }

    /// The keys, hashed once for all [`rendezvous`] with them.
    #[inline]
    pub(crate) fn names(&self) -> &[u64] {
        self.names
            .get_or_init(|| self.list.iter().map(|endpoint| rendezvous::name(endpoint.cell.key().as_bytes())).collect())
    }

    pub(crate) fn find(&self, key: &str) -> Option<&Endpoint<S>> {
        self.list.iter().find(|endpoint| **endpoint.cell.key() == *key)
    }

    pub(crate) fn about(&self, key: &str) -> Option<&About> {
        let place = self.list.iter().position(|endpoint| **endpoint.cell.key() == *key)?;
        self.about.get(place).map(|about| &**about)
    }

    pub(crate) fn describe(&self, place: usize, now: Instant) -> Option<Description> {
        let (endpoint, about) = (self.list.get(place)?, self.about.get(place)?);
        Some(Description {
            key: endpoint.cell.key().clone(),
            attributes: about.attributes.clone(),
            status: self.status(endpoint, about, now),
            pending: Cell::pending(&endpoint.cell),
        })
    }

    fn status(&self, endpoint: &Endpoint<S>, about: &About, now: Instant) -> Status {
        let state = endpoint.cell.state();
        if about.draining || about.attributes.weight == 0 {
            Status::Draining
        } else if !about.attributes.ready || state & state::UNREADY != 0 {
            Status::Unready
        } else if state & state::EJECTED != 0 {
            Status::Ejected
        } else if state & state::USED != 0 {
            Status::Panic
        } else if state & state::WARMING != 0 {
            match endpoint.cell.share(self.warm, now) {
                share if share < 1.0 => Status::Warming(share),
                _ => Status::Ready,
            }
        } else {
            Status::Ready
        }
    }
}

impl<S: Clone> Snapshot<S> {
    /// The same set once more.
    pub(crate) fn copy(&self) -> Self {
        let list = self.list.iter().cloned().zip(self.about.iter().cloned()).collect();
        Snapshot::new(list, self.warm, self.epoch)
    }
}
