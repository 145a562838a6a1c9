//! An endpoint chosen without being called: for what is more than one call.

use super::{Replicas, choose, tried_out};
use crate::{
    layer::attempt,
    serving::{Draw, Lease, Picker},
};

/// An endpoint that was chosen: [`Replicas::pick`].
#[derive(Debug)]
#[must_use = "dropping it ends the pick as cancelled"]
pub struct Picked<S> {
    /// The endpoint, cloned; not yet made ready.
    pub service: S,
    /// What counts it as loaded.
    pub lease: Lease,
}

impl<S> Picked<S> {
    /// The endpoint's key.
    pub fn key(&self) -> &str {
        self.lease.key()
    }
}

impl<S, C, P> Replicas<S, C, P> {
    /// Chooses an endpoint without calling it, for what is more than one call: a connection, a stream. None where the
    /// set is empty. The endpoint counts as loaded until the lease is completed or dropped.
    ///
    /// ```
    /// use seedpod::{base::Outcome, serving::Replicas};
    ///
    /// let addresses = Replicas::named("cart");
    /// assert!(addresses.pick().is_none());
    /// addresses.endpoints().insert("cart-a", "10.0.0.1:7070");
    /// let picked = addresses.pick().unwrap();
    /// assert_eq!((picked.key(), picked.service), ("cart-a", "10.0.0.1:7070"));
    /// assert_eq!(addresses.endpoints().pending("cart-a"), Some(1));
    /// picked.lease.complete(Outcome::Success);
    /// assert_eq!(addresses.endpoints().pending("cart-a"), Some(0));
    /// ```
    pub fn pick(&self) -> Option<Picked<S>>
    where
        S: Clone,
        P: Picker<()>,
    {
        self.pick_for(&())
    }

    /// As [`pick`](Self::pick), for pickers that look at the request.
    pub fn pick_for<Req: ?Sized>(&self, request: &Req) -> Option<Picked<S>>
    where
        S: Clone,
        P: Picker<Req>,
    {
        let (current, mut draw) = (self.endpoints.current(), Draw::new(self.endpoints.rng()));
        let (mut endpoint, mut choice) = choose(&self.picker, &current, request, &mut draw)?;
        if endpoint.cell.is_out() {
            (endpoint, choice) = tried_out(&self.picker, &current, request, &mut draw, choice)?;
        }
        attempt::note_tried(endpoint.cell.key());
        let lease = Lease::new(&endpoint.cell, choice.watch); // before foreign code runs: it may be a probe's place
        Some(Picked { service: endpoint.service.clone(), lease })
    }
}
