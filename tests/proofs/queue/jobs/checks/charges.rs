//! A job is charged for what its handlers did, and for nothing else.

use crate::queue::record::Record;
use seedpod::{
    base::sync::{
        Lock,
        atomic::{AtomicU64, Ordering},
    },
    queue::Message,
};
use std::collections::BTreeMap;

/// How often handlers of each job failed and panicked.
#[derive(Default)]
pub(in super::super) struct Charges {
    counts: Lock<BTreeMap<String, (u32, u32)>>,
    /// How often the broker itself failed: who held a message then is charged a crash.
    failed: AtomicU64,
}

impl Charges {
    pub(in super::super) fn fails(&self, id: &str) {
        self.counts.lock().entry(id.to_string()).or_default().0 += 1;
    }

    pub(in super::super) fn panics(&self, id: &str) {
        self.counts.lock().entry(id.to_string()).or_default().1 += 1;
    }

    pub(in super::super) fn broker_fails(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begins(&self, record: &Record, message: &Message) {
        let (failed, panicked) = self.counts.lock().get(&message.id().to_string()).copied().unwrap_or_default();
        let panicked = panicked + self.failed.load(Ordering::Relaxed) as u32;
        let charged = message.attempts();
        let fair = u32::from(charged.failures) <= failed && u32::from(charged.crashes) <= panicked;
        record.hold(fair, || {
            format!("{} is charged {charged:?}, and failed {failed} times, panicked {panicked} times", message.id())
        });
    }
}
