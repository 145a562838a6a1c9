//! Jobs of one key are done in the order in which they were submitted. Each writes its number under its key as it is done;
//! what went through quarantine or was redriven has left the order.

use crate::queue::record::Record;
use seedpod::{
    base::sync::Lock,
    queue::{Message, Step},
};
use std::collections::BTreeMap;

/// Of each key, the numbers by the version of the row under which they were committed.
#[derive(Default)]
pub(in super::super) struct Order(Lock<BTreeMap<String, BTreeMap<u64, u64>>>);

impl Order {
    /// Whether this message keeps its place.
    pub(in super::super) fn counts(&self, message: &Message) -> bool {
        message.topic().as_str() == "jobs" && message.headers().get("redriven-id").is_none()
    }

    /// The job of this number comes after what was done before it, or is it: one with a unique key may be stored twice by
    /// a client that did not hear of the first time.
    pub(super) fn committed(&self, record: &Record, step: &Step) {
        for write in &step.state {
            let number = write.value.as_ref().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
            let Some((key, number)) = write.key.as_str().strip_prefix("last/").zip(number) else { continue };
            let mut keys = self.0.lock();
            let numbers = keys.entry(key.to_string()).or_default();
            numbers.insert(write.expect, number);
            record
                .hold(numbers.values().is_sorted(), || format!("{number} of {key} is done out of order: {numbers:?}"));
        }
    }
}
