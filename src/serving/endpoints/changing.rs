//! The set is changed: what one step makes of it is put in place whole, whoever else changes it meanwhile.

use super::{Endpoints, Snapshot};
use crate::{
    base::sync::atomic::Ordering::Release,
    serving::{Attributes, Changes, SlowStart},
};
use std::sync::Arc;

impl<S: Clone> Endpoints<S> {
    /// New endpoints get their share bit by bit; nobody does so before this is called. Also later, by any handle.
    #[must_use]
    pub fn slow_start(self, start: SlowStart) -> Self {
        self.swap(|old| {
            let mut next = old.copy();
            next.warm = Some(start);
            Some(next)
        });
        self
    }

    /// Puts a service in under this key. Under a key that is there already it takes the other's place: calls from now on
    /// go to it, and what is in flight under the key stays counted.
    pub fn insert(&self, key: impl Into<Arc<str>>, service: S) {
        self.update(|changes| {
            changes.insert(key, service);
        });
    }

    /// Takes this endpoint out. Calls under way in it go on. Where there is none, nothing changes.
    pub fn remove(&self, key: &str) {
        self.update(|changes| changes.remove(key));
    }

    /// Changes what is known of this endpoint, and leaves its service and what is counted as they are. Where there is
    /// none, nothing changes.
    ///
    /// ```
    /// # let endpoints = seedpod::serving::Endpoints::named("cart");
    /// # endpoints.insert("a", 'a');
    /// endpoints.alter("a", |about| {
    ///     about.weight(10).version("v2");
    /// });
    /// ```
    pub fn alter(&self, key: &str, alter: impl Fn(&mut Attributes) + 'static) {
        self.update(|changes| changes.alter(key, alter));
    }

    /// No new picks of this endpoint; what it has in flight ends, and [`drained`](Self::drained) tells when. Putting it
    /// in again ends the draining. Where there is none, nothing changes.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use seedpod::serving::Replicas;
    ///
    /// let replicas = Replicas::named("cart");
    /// replicas.endpoints().insert("a", "10.0.0.1:7070");
    /// let under_way = replicas.pick();
    /// replicas.endpoints().drain("a");
    /// assert!(replicas.pick().is_none());
    /// drop(under_way);
    /// replicas.endpoints().drained("a").await?;
    /// replicas.endpoints().remove("a");
    /// # Ok::<_, seedpod::Error>(()) }).unwrap();
    /// ```
    pub fn drain(&self, key: &str) {
        self.update(|changes| changes.drain(key));
    }

    /// Applies any number of changes in one step. They apply in order, when the closure has returned.
    pub fn update(&self, change: impl FnOnce(&mut Changes<S>)) {
        let mut changes = Changes::default();
        change(&mut changes);
        self.swap(|old| changes.apply(old));
    }
}

impl<S> Endpoints<S> {
    /// Puts in place what is made of the set that is there, until nobody came in between.
    fn swap(&self, next: impl Fn(&Snapshot<S>) -> Option<Snapshot<S>>) {
        let mut version = None;
        // no lock: services are foreign code, and cloning or dropping one may well use this set
        self.shared.current.rcu(|old| match next(old) {
            Some(mut next) => {
                next.version = old.version + 1;
                version = Some(next.version);
                Arc::new(next)
            }
            None => {
                version = None;
                old.clone()
            }
        });
        if let Some(version) = version {
            self.shared.version.0.fetch_max(version, Release);
            self.call_roll();
            self.shared.changed.notify_waiters();
        }
    }
}
