//! What stands in for `arc_swap` where loom checks: the same promises, by a lock.

use crate::base::sync::{Arc, Lock};

/// A pointer that is read and replaced as a whole.
pub(crate) struct ArcSwap<T>(Lock<Arc<T>>);

pub(crate) type Guard<T> = T;

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        ArcSwap(Lock::new(Arc::new(value)))
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.0.lock().clone()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load()
    }

    /// Replaces it by what is made of it, until nobody came in between.
    pub(crate) fn rcu(&self, mut next: impl FnMut(&Arc<T>) -> Arc<T>) {
        let mut old = self.load();
        loop {
            let new = next(&old);
            let mut current = self.0.lock();
            if Arc::ptr_eq(&current, &old) {
                let replaced = std::mem::replace(&mut *current, new);
                drop(current);
                return drop(replaced);
            }
            let seen = current.clone();
            drop(current);
            old = seen;
        }
    }
}
