//! What was seen before the broker was opened.

use super::Dedup;
use crate::base::time::Instant;
use crate::queue::Id;

impl Dedup {
    /// What was seen at this time, in the order of times, before the broker was opened.
    pub(in crate::queue::table) fn recall(&mut self, seen: Instant, id: Id) {
        if self.seen.insert(id) {
            self.order.push_back((seen, id));
        }
    }
}
