//! One endpoint as picks and outcomes see it: in or due by one word, its own counters, and what is shown of it.

use super::meter::{Counts, Rows, Window};
use crate::base::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

/// What [`Patient::word`] says of an endpoint that is in.
pub(super) const IN: u64 = 0;

/// One endpoint, as picks and outcomes see it.
pub(super) struct Patient {
    pub(super) key: std::sync::Arc<str>,
    /// [`IN`], or the nanosecond after the detector's start from which on a request may try it.
    pub(super) word: AtomicU64,
    pub(super) rows: Rows,
    /// Of the interval, for the comparison with the others.
    pub(super) counts: Counts,
    pub(super) window: Window,
}

/// What a pick gets to see of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It is in.
    In,
    /// It is in again, since now.
    Back(Instant),
    /// It is out.
    Out,
    /// It is out and used all the same.
    Used,
}

/// Where it is shown. Called under the lock at each change, so it only notes it.
pub(crate) type Sign = Box<dyn Fn(Shown) + Send + Sync>;

impl Patient {
    pub(super) fn new(key: std::sync::Arc<str>) -> Arc<Self> {
        let (rows, counts, window) = (Rows::default(), Counts::default(), Window::default());
        Arc::new(Patient { key, word: AtomicU64::new(IN), rows, counts, window })
    }

    pub(super) fn forget(&self) {
        self.rows.end();
        self.counts.take();
        self.window.clear();
    }
}
