//! Removes what nobody owns any more, and empties namespaces that are deleted.

use super::own;
use crate::{
    base::Result,
    cluster::{
        object::{Kind, Object, OwnerReference},
        plane::Plane,
    },
    control::Next,
    store::{Change, Key},
};

/// The objects to look at: one with owners when it is written, and those that a removed one owned.
pub(in crate::cluster) fn keys(plane: &Plane, change: &Change<Object>) -> Vec<Key> {
    let Change::Remove(gone) = change else {
        let mut keys = own(change);
        keys.retain(|key| match plane.get(key) {
            Some(entry) if entry.value.kind() == Kind::NAMESPACE => entry.value.metadata().is_deleting(),
            Some(entry) => !entry.value.metadata().owner_references.is_empty(),
            None => false,
        });
        return keys;
    };
    let namespace = gone.value.namespace();
    let mut keys: Vec<Key> = owned_kinds(gone.value.kind())
        .flat_map(|kind| plane.within(kind, namespace))
        .filter(|entry| entry.value.metadata().owner_references.iter().any(|owner| owner.uid == gone.value.uid()))
        .map(|entry| entry.key)
        .collect();
    // a namespace goes with the last that was in it
    let home = Key::from([Kind::NAMESPACE.plural, namespace]);
    if plane.get(&home).is_some_and(|entry| entry.value.metadata().is_deleting()) {
        keys.push(home);
    }
    keys
}

/// The kinds that can have owners, where this one goes: events and nodes own nothing.
fn owned_kinds(gone: &'static Kind) -> impl Iterator<Item = &'static Kind> {
    let owning = gone != Kind::EVENT && gone != Kind::NODE && gone != Kind::ENDPOINT_SLICE;
    Kind::all().iter().filter(move |kind| owning && kind.namespaced && *kind != Kind::EVENT)
}

/// Deletes an object whose owners are all gone; empties a namespace that is being deleted.
pub(in crate::cluster) async fn reconcile(plane: &Plane, key: &Key) -> Result<Next> {
    let Some(object) = plane.get(key).map(|entry| entry.value) else { return Ok(Next::Done) };
    if object.kind() == Kind::NAMESPACE {
        return empty(plane, &object).await;
    }
    let owners = &object.metadata().owner_references;
    if !owners.is_empty()
        && !owners.iter().any(|owner| exists(plane, &object, owner))
        && !object.metadata().is_deleting()
    {
        match plane.delete(key, None).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(Next::Done)
}

fn exists(plane: &Plane, object: &Object, owner: &OwnerReference) -> bool {
    let Some(kind) = Kind::named(&owner.kind) else { return true }; // of a kind that we do not know: left alone
    let key = match kind.namespaced {
        true => Key::from([kind.plural, object.namespace(), &owner.name]),
        false => Key::from([kind.plural, &owner.name]),
    };
    plane.get(&key).is_some_and(|entry| entry.value.uid() == owner.uid)
}

async fn empty(plane: &Plane, namespace: &Object) -> Result<Next> {
    if !namespace.metadata().is_deleting() {
        return Ok(Next::Done);
    }
    let mut left = 0;
    // owners first: else controllers would replace what is deleted
    for kind in Kind::all().iter().rev().filter(|kind| kind.namespaced) {
        for entry in plane.within(kind, namespace.name()) {
            left += 1;
            if !entry.value.metadata().is_deleting() {
                match plane.delete(&entry.key, None).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
    }
    if left == 0 {
        plane.remove(namespace).await?;
        plane.claims.forget(namespace.name());
    }
    Ok(Next::Done)
}
