//! Volumes that stay while pods come and go.

use crate::{
    base::{hash, sync::Lock},
    pod::Volume,
};

/// The volumes of stateful sets' pods, by namespace and claim: each lasts until its namespace goes, as claims do that
/// are retained.
#[derive(Default)]
pub(super) struct Claims(Lock<hash::Map<Box<str>, hash::Map<Box<str>, Volume>>>);

impl Claims {
    /// From now on the claim has a volume: that which it had, or a new one that may hold this much, in bytes.
    pub(super) fn keep(&self, namespace: &str, name: &str, size: Option<u64>) {
        let mut all = self.0.lock();
        let volumes = all.entry(namespace.into()).or_default();
        volumes.entry(name.into()).or_insert_with(|| size.map_or_else(Volume::memory, Volume::bounded));
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Volume> {
        self.0.lock().get(namespace)?.get(name).cloned()
    }

    /// All claims of a namespace are gone, with what they hold.
    pub(super) fn forget(&self, namespace: &str) {
        self.0.lock().remove(namespace);
    }
}
