//! A handler that gives no sign of life is gone soon after its silence is over.

use super::super::world::{HOLD, SILENCE};
use crate::queue::{jobs::course::PAUSE_MAX, record::Record};
use seedpod::base::time;
use std::sync::Arc;

pub(in super::super) struct Hang(Arc<Record>);

impl Hang {
    pub(super) fn new(record: Arc<Record>) -> Hang {
        Hang(record)
    }

    /// It hangs from now on, until what this returns is dropped.
    pub(in super::super) fn begins(&self) -> Hanging {
        Hanging { record: self.0.clone(), since: time::now() }
    }
}

pub(in super::super) struct Hanging {
    record: Arc<Record>,
    since: time::Instant,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let (took, most) = (self.since.elapsed(), SILENCE + 2 * HOLD + PAUSE_MAX);
        self.record.hold(took <= most, || format!("a handler hung for {took:?}, and {most:?} would do"));
    }
}
