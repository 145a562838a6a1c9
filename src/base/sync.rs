//! The lock, the atomics and the pointer that counts, named in this one place: built with `--cfg seedpod_loom` they are
//! loom's, which runs the shipped files above through every interleaving.

#[cfg(seedpod_loom)]
use loom::sync as imp;
#[cfg(not(seedpod_loom))]
use std::sync as imp;

#[expect(clippy::disallowed_types, reason = "this is the one place that wraps them")]
mod lock {
    use super::imp;
    use std::fmt;

    /// A lock that ignores poisoning: nothing in this crate runs foreign code while it holds one, so a panic elsewhere
    /// cannot leave what it guards half changed.
    #[derive(Default)]
    pub struct Lock<T>(pub(super) imp::Mutex<T>);

    /// Access to what a [`Lock`] guards, until dropped. Never held across an await.
    pub type Guard<'a, T> = imp::MutexGuard<'a, T>;

    impl<T> Lock<T> {
        /// Waits for the lock.
        pub fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    impl<T: fmt::Debug> fmt::Debug for Lock<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("Lock").field(&*self.lock()).finish()
        }
    }

    /// What many may look at or one may change, and nobody waits for: who finds it taken is told so. So foreign code may run
    /// while it is looked at.
    pub struct TryLock<T>(pub(super) imp::RwLock<T>);

    impl<T> TryLock<T> {
        /// To look at; none while it is being changed.
        #[inline]
        pub fn look(&self) -> Option<imp::RwLockReadGuard<'_, T>> {
            self.0.try_read().ok()
        }

        /// To change; none while anybody else looks at it or changes it, and for ever after a panic in a change.
        #[inline]
        pub fn change(&self) -> Option<imp::RwLockWriteGuard<'_, T>> {
            self.0.try_write().ok()
        }
    }
}

pub use lock::{Guard, Lock, TryLock};

#[cfg(not(seedpod_loom))]
#[expect(clippy::disallowed_types, reason = "it belongs to the wrapper")]
mod new {
    use super::{Lock, TryLock, imp};

    impl<T> Lock<T> {
        /// A lock around this value.
        pub const fn new(value: T) -> Self {
            Lock(imp::Mutex::new(value))
        }
    }

    impl<T> TryLock<T> {
        /// This value, which nobody looks at yet.
        pub const fn new(value: T) -> Self {
            TryLock(imp::RwLock::new(value))
        }
    }
}

#[cfg(seedpod_loom)]
mod new {
    use super::{Lock, TryLock, imp};

    impl<T> Lock<T> {
        /// A lock around this value. Not constant: loom counts it among the objects of a run.
        pub fn new(value: T) -> Self {
            Lock(imp::Mutex::new(value))
        }
    }

    impl<T> TryLock<T> {
        /// This value, which nobody looks at yet. Not constant, as above.
        pub fn new(value: T) -> Self {
            TryLock(imp::RwLock::new(value))
        }
    }
}

/// The atomics, under the names of `std::sync::atomic`.
pub mod atomic {
    pub use super::imp::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

pub use std::sync::Arc;

/// An `Arc` whose count is itself a datum: loom's where it checks, unlike [`Arc`].
pub use imp::Arc as Counted;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_elsewhere_does_not_poison() {
        let lock = Arc::new(Lock::new(1));
        let other = lock.clone();
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut value = other.lock();
            *value = 2;
            panic!("while it is held");
        }));
        assert!(end.is_err());
        assert_eq!(*lock.lock(), 2);
    }
}
