//! The lock and the atomics, named in this one place: a model checker such as loom replaces this file alone, and checks
//! the shipped ones above it. None is wired in yet.

use std::sync as imp;

#[expect(clippy::disallowed_types, reason = "this is the one place that wraps them")]
mod lock {
    use super::imp;
    use std::fmt;

    /// A lock that ignores poisoning: nothing in this crate runs foreign code while it holds one, so a panic elsewhere
    /// cannot leave what it guards half changed.
    #[derive(Default)]
    pub struct Lock<T>(imp::Mutex<T>);

    /// Access to what a [`Lock`] guards, until dropped. Never held across an await.
    pub type Guard<'a, T> = imp::MutexGuard<'a, T>;

    impl<T> Lock<T> {
        /// A lock around this value.
        pub const fn new(value: T) -> Self {
            Lock(imp::Mutex::new(value))
        }

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
}

pub use lock::{Guard, Lock};

/// The atomics, under the names of `std::sync::atomic`.
pub mod atomic {
    pub use super::imp::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

pub use imp::Arc;

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
