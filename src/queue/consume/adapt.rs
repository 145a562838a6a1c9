//! As many at once as the service takes without slowing down.

use crate::{
    base::{
        Error, Kind, Result,
        sync::{
            Lock,
            atomic::{AtomicU32, Ordering},
        },
        time::{self, Instant},
    },
    layer::adaptive::{Estimate, Gradient2, Sample},
};

/// What is learnt from the handlers of a pump.
pub(super) struct Adaptive {
    estimate: Lock<Estimate>,
    under_way: AtomicU32,
}

impl Adaptive {
    pub(super) fn new(settings: Gradient2) -> Result<Adaptive> {
        Ok(Adaptive { estimate: Lock::new(Estimate::new(settings)?), under_way: AtomicU32::new(0) })
    }

    /// How many at once, as far as is known.
    pub(super) fn limit(&self) -> usize {
        self.estimate.lock().limit() as usize
    }

    /// A handler begins.
    pub(super) fn begin(&self) -> Under<'_> {
        let beside = self.under_way.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Under { adaptive: self, began: time::now(), beside }
    }
}

/// A handler under way.
pub(super) struct Under<'a> {
    adaptive: &'a Adaptive,
    began: Instant,
    beside: u32,
}

impl Under<'_> {
    /// It has ended so; how many at once from now on. Failures say nothing of how fast it is, but for those that say it has
    /// too much to do.
    pub(super) fn end<T>(self, ended: &Result<T>) -> usize {
        let sample = match ended {
            Ok(_) => Sample::Answered,
            Err(error) if is_overload(error) => Sample::Dropped,
            Err(_) => return self.adaptive.limit(),
        };
        let now = time::now();
        let mut estimate = self.adaptive.estimate.lock();
        estimate.observe(now, now.saturating_duration_since(self.began), self.beside, sample);
        estimate.limit() as usize
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.adaptive.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_overload(error: &Error) -> bool {
    matches!(error.kind(), Kind::Overloaded | Kind::Timeout)
}
