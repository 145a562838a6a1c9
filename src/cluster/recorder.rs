//! Events: what happened to objects, counted where it happened again, and bounded.

use super::{
    object::{Event, EventSource, Kind, Metadata, Object, ObjectReference},
    plane::Plane,
};
use crate::{
    base::sync::Lock,
    store::{Key, Write},
};
use std::collections::{BTreeMap, VecDeque};

/// How many events are kept. Beyond it the ones that happened first are forgotten.
pub(super) const EVENTS_MAX: usize = 1000;

/// What makes two events one: the object, the reason, the message.
type Same = (String, String, String);

#[derive(Default)]
pub(super) struct Recorder(Lock<Book>);

#[derive(Default)]
struct Book {
    keys: BTreeMap<Same, Key>,
    order: VecDeque<Same>,
}

impl Recorder {
    /// Writes an event, or counts up the one that says the same. What cannot be written is dropped: events are an aid.
    pub(super) async fn record(
        &self,
        plane: &Plane,
        object: &Object,
        severity: &str,
        reason: &str,
        message: &str,
        who: &str,
    ) {
        let same = (object.uid().to_owned(), reason.to_owned(), message.to_owned());
        let known = self.0.lock().keys.get(&same).cloned();
        if let Some(key) = known {
            let counted = plane.edit(&key, |event| {
                let now = Some(plane.now());
                event.edit::<Event>(|event| (event.count, event.last_timestamp) = (event.count + 1, now)).map(Some)
            });
            if matches!(counted.await, Ok(Some(_))) {
                return;
            }
        }
        let Ok(event) = event(plane, object, severity, reason, message, who) else { return };
        let Ok(event) = plane.create(&event).await else { return };
        let forgotten = {
            let mut book = self.0.lock();
            match book.keys.insert(same.clone(), Key::new(event.key())) {
                // another was faster with the same, or it was deleted: one place in the book, one event
                Some(earlier) => Some(earlier),
                None => {
                    book.order.push_back(same);
                    let over = book.order.len() > EVENTS_MAX;
                    let oldest = if over { book.order.pop_front() } else { None };
                    oldest.and_then(|oldest| book.keys.remove(&oldest))
                }
            }
        };
        if let Some(key) = forgotten {
            // whether it is there does not matter
            let _ = plane.store.commit(vec![Write::remove(key)]).await;
        }
    }
}

fn event(
    plane: &Plane,
    object: &Object,
    severity: &str,
    reason: &str,
    message: &str,
    who: &str,
) -> crate::base::Result<Object> {
    let namespace = if object.namespace().is_empty() { "default" } else { object.namespace() };
    let name = format!("{}.{:016x}", object.name(), plane.identities.rng().next_u64());
    let now = Some(plane.now());
    Object::new(Kind::EVENT, &Metadata::named(namespace, name))?.with(&Event {
        involved_object: ObjectReference {
            api_version: object.kind().api_version.into(),
            kind: object.kind().name.into(),
            namespace: object.namespace().into(),
            name: object.name().into(),
            uid: object.uid().into(),
            ..ObjectReference::default()
        },
        reason: reason.into(),
        message: message.into(),
        source: EventSource { component: who.into(), host: String::new() },
        first_timestamp: now,
        last_timestamp: now,
        count: 1,
        type_: severity.into(),
        reporting_component: who.into(),
    })
}
