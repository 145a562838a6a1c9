//! When nothing will come any more, everybody is told.

use super::{Arrived, Effects};
use crate::base::sync::{Arc, atomic::Ordering};

impl Effects {
    /// All who wait here look again.
    pub(in crate::queue::table) fn wake_everyone(&mut self, arrived: &Arc<Arrived>) {
        let waiting = arrived.waiting.load(Ordering::Relaxed);
        if waiting > 0 {
            self.wakes.push((arrived.clone(), waiting));
        }
    }
}
