//! The controllers: each a pure decision between reading objects and writing them.
//!
//! Each is asked about one key at a time and reads everything anew, so that an old change does no harm; each says which
//! keys a change concerns. None knows another: they meet in the store.

pub(super) mod deployment;
pub(super) mod endpoints;
pub(super) mod garbage;
pub(super) mod orphans;
pub(super) mod replica_set;
pub(super) mod scheduler;
pub(super) mod stateful_set;

use super::object::{Object, PodStatus};
use crate::store::{Change, Entry, Key};

/// The keys that a change is about.
pub(super) fn own(change: &Change<Object>) -> Vec<Key> {
    change.entries().iter().map(|entry| entry.key.clone()).collect()
}

/// The keys of the controllers, of this kind, that the objects a change is about belong to.
pub(super) fn controllers_of(change: &Change<Object>, kind: &super::object::Kind) -> Vec<Key> {
    let owner = |object: &Object| {
        let owner = object.metadata().controller().filter(|owner| owner.kind == kind.name)?;
        Some(Key::from([kind.plural, object.namespace(), &owner.name]))
    };
    let mut keys: Vec<Key> = change.values().filter_map(owner).collect();
    keys.dedup();
    keys
}

/// Whether this object manages that one.
pub(super) fn owns(owner: &Object, owned: &Object) -> bool {
    owned.metadata().controller().is_some_and(|controller| controller.uid == owner.uid())
}

/// Whether a pod counts: it is neither over nor about to go.
pub(super) fn active(pod: &Entry<Object>) -> bool {
    let over = pod.value.view::<PodStatus>().is_ok_and(|status| status.phase.is_over());
    !over && !pod.value.metadata().is_deleting()
}
