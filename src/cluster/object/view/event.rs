//! Events: what happened to an object.

use super::view;
use crate::cluster::object::Timestamp;

view! {
    /// Something that happened to an object, once or many times.
    Event {
        /// The object.
        involved_object: ObjectReference,
        /// What, in one word: `Scheduled`, `Failed`, ….
        reason: String,
        /// What, in a sentence.
        message: String,
        /// Who says so.
        source: EventSource,
        /// When first.
        first_timestamp: Option<Timestamp>,
        /// When last.
        last_timestamp: Option<Timestamp>,
        /// How often.
        count: i32,
        /// `Normal` or `Warning`.
        #[serde(rename = "type")]
        type_: String,
        /// Who says so, by the newer name.
        reporting_component: String,
    }

    /// Who says that something happened.
    EventSource {
        /// The component.
        component: String,
        /// The node.
        host: String,
    }

    /// An object, by its names.
    ObjectReference {
        /// Its group and version.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its identity.
        uid: String,
        /// The part of it that is meant: `spec.containers{main}`.
        field_path: String,
    }
}
