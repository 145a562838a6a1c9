//! The broker's clock as the disk has it: microseconds since 1970, which never run backwards.

use crate::base::time::{Instant, WallClock, now};
use std::time::{Duration, SystemTime};

/// Between the moments of this process and the microseconds on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    micros: u64,
}

impl Clock {
    /// Goes on where the wall clock stands, or where this clock was when it last wrote, whichever is later.
    pub(super) fn new(wall: &WallClock, last: u64) -> Clock {
        let since = wall.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { start: now(), micros: last.max(since.as_micros() as u64) }
    }

    pub(super) fn micros(&self, moment: Instant) -> u64 {
        match moment.checked_duration_since(self.start) {
            Some(since) => self.micros.saturating_add(since.as_micros() as u64),
            None => self.micros.saturating_sub(self.start.duration_since(moment).as_micros() as u64),
        }
    }

    /// The first microsecond that is not before this moment.
    pub(super) fn not_before(&self, moment: Instant) -> u64 {
        self.micros(moment + Duration::from_nanos(999))
    }

    pub(super) fn moment(&self, micros: u64) -> Instant {
        match micros.checked_sub(self.micros) {
            Some(since) => crate::base::time::after(self.start, Duration::from_micros(since)),
            None => {
                let before = Duration::from_micros(self.micros - micros);
                self.start.checked_sub(before).unwrap_or(self.start)
            }
        }
    }
}
