//! One reading of the clock for layers that are called one inside the other.
//!
//! A reading costs as much as a layer. A layer that has just read the clock hands it to what it calls, and the first of
//! our layers there takes it; it is gone when the call returns, and whoever polls reads for itself. So a reading is older
//! than its use by no more than what code between two layers does inside `call`, and under paused time by nothing. How
//! long a call took is never told by a reading that was handed on.

use crate::base::time::{self, Instant};
use std::cell::Cell;

thread_local! {
    static HANDED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What the layer in front has just read, if it handed that on; else the clock. To be asked first thing in `call`.
#[inline]
pub(crate) fn now() -> Instant {
    HANDED.take().unwrap_or_else(time::now)
}

/// Has this reading at hand until what it gives is dropped: for the length of a call.
#[inline(always)]
pub(crate) fn hand(now: Instant) -> Handed {
    HANDED.set(Some(now));
    Handed
}

/// Takes back what nobody took, also when the call panics.
#[must_use = "dropped at once, it hands nothing on"]
pub(crate) struct Handed;

impl Drop for Handed {
    #[inline(always)]
    fn drop(&mut self) {
        HANDED.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_reading_is_taken_once_and_gone_when_the_call_returns() {
        let early = time::now();
        time::sleep(Duration::from_secs(1)).await;
        let late = time::now();
        let handed = hand(early);
        assert_eq!((now(), now()), (early, late), "the second one reads for itself");
        drop(handed);
        drop(hand(early));
        assert_eq!(now(), late, "nobody took it");
        let _outer = hand(early);
        drop(hand(late));
        assert_eq!(now(), late);
        let panics = || {
            let _handed = hand(early);
            panic!("in a call");
        };
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(now(), late, "also after a panic");
    }
}
