//! What every object has: names, labels, owners; and what many have: conditions, selectors.

use super::{choice, view};
use crate::{
    base::{Error, Kind, Labels, Result, Selector, labels::Requirement},
    cluster::object::Timestamp,
};
use std::collections::BTreeMap;

view! {
    /// An object's metadata.
    Metadata {
        /// Its name, unique among its kind in its namespace.
        name: String,
        /// What its name began with, before the generated ending.
        generate_name: String,
        /// The namespace it stands in; empty where its kind has none.
        namespace: String,
        /// Its identity over all time: an object of the same name made later has another.
        uid: String,
        /// How often its spec was changed, the creation included.
        generation: i64,
        /// When it was created.
        creation_timestamp: Option<Timestamp>,
        /// When it is to be gone; set once it is being deleted.
        deletion_timestamp: Option<Timestamp>,
        /// How many seconds it has to end in order, once it is being deleted.
        deletion_grace_period_seconds: Option<i64>,
        /// What selectors find it by.
        labels: Labels,
        /// What tools keep with it.
        annotations: BTreeMap<String, String>,
        /// The objects that it goes with.
        owner_references: Vec<OwnerReference>,
        /// Who must agree before it is gone.
        finalizers: Vec<String>,
    }

    /// An object that another belongs to.
    OwnerReference {
        /// The owner's group and version.
        api_version: String,
        /// The owner's kind.
        kind: String,
        /// The owner's name.
        name: String,
        /// The owner's identity.
        uid: String,
        /// Whether the owner is the one that manages it; at most one is.
        controller: Option<bool>,
        /// Whether the owner's deletion in the foreground waits for it.
        block_owner_deletion: Option<bool>,
    }

    /// Which objects are meant, by their labels.
    LabelSelector {
        /// Labels that they must carry.
        match_labels: Labels,
        /// What else must hold.
        match_expressions: Vec<SelectorRequirement>,
    }

    /// What a selector asks of one label.
    SelectorRequirement {
        /// The label.
        key: String,
        /// How its value relates to the values given.
        operator: SelectorOperator,
        /// The values; none for `Exists` and `DoesNotExist`.
        values: Vec<String>,
    }

    /// One thing that is true of an object, or not, or not known.
    Condition {
        /// Which thing: `Ready`, `Available`, …
        #[serde(rename = "type")]
        type_: String,
        /// Whether it is.
        status: ConditionStatus,
        /// Why, in one word for programs.
        reason: String,
        /// Why, in a sentence for people.
        message: String,
        /// Since when.
        last_transition_time: Option<Timestamp>,
        /// When it was last written.
        last_update_time: Option<Timestamp>,
        /// When it was last heard of.
        last_heartbeat_time: Option<Timestamp>,
    }
}

choice! {
    /// How a label relates to values.
    SelectorOperator {
        /// It has one of them.
        In,
        /// It has none of them, or is absent.
        NotIn,
        /// It is there.
        Exists,
        /// It is not there.
        DoesNotExist,
    }

    /// Whether a condition holds.
    ConditionStatus {
        /// Nobody knows.
        Unknown,
        /// It holds.
        True,
        /// It does not hold.
        False,
    }
}

impl Metadata {
    /// The metadata of an object of this name in this namespace; empty for kinds that have none.
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() }
    }

    /// The owner that manages it.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

impl LabelSelector {
    /// The selector for things that carry all of these labels.
    pub fn equal_to(labels: Labels) -> Self {
        LabelSelector { match_labels: labels, match_expressions: Vec::new() }
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// The selector, ready to match.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where a requirement has values that its operator does not take, or lacks those that it does.
    pub fn selector(&self) -> Result<Selector> {
        let equal = self.match_labels.iter().map(|(key, value)| Ok(Requirement::Equals(key.into(), value.into())));
        let other = self.match_expressions.iter().map(|asked| {
            let (key, values) = (asked.key.clone(), asked.values.clone());
            match (asked.operator, values.is_empty()) {
                (SelectorOperator::In, false) => Ok(Requirement::In(key, values)),
                (SelectorOperator::NotIn, false) => Ok(Requirement::NotIn(key, values)),
                (SelectorOperator::Exists, true) => Ok(Requirement::Exists(key)),
                (SelectorOperator::DoesNotExist, true) => Ok(Requirement::Absent(key)),
                (operator, true) => Err(Error::new(Kind::Invalid, format!("{operator} needs values"))),
                (operator, false) => Err(Error::new(Kind::Invalid, format!("{operator} takes no values"))),
            }
        });
        equal.chain(other).collect()
    }
}

impl Condition {
    /// A condition as of now.
    pub fn new(type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) -> Self {
        Condition {
            type_: type_.into(),
            status: if holds { ConditionStatus::True } else { ConditionStatus::False },
            reason: reason.into(),
            message: message.into(),
            last_transition_time: Some(now),
            ..Condition::default()
        }
    }

    /// Whether the condition of this type is among these and holds.
    pub fn holds(conditions: &[Condition], type_: &str) -> bool {
        conditions.iter().any(|condition| condition.type_ == type_ && condition.status == ConditionStatus::True)
    }

    /// Puts it among these in the place of the one of its type; as long as the status stays, so does the transition time.
    pub fn set(mut self, conditions: &mut Vec<Condition>) {
        match conditions.iter_mut().find(|old| old.type_ == self.type_) {
            Some(old) => {
                if old.status == self.status {
                    self.last_transition_time = old.last_transition_time;
                }
                *old = self;
            }
            None => conditions.push(self),
        }
    }
}
