//! The typed views: ours, partial, in Kubernetes' own names.
//!
//! A view has the fields that this crate acts on. What a view lacks stays in the object's JSON, untouched by reading and
//! by [`edit`](super::Object::edit). Absent fields read as their type's default; such fields are not written.

mod config;
mod container;
mod event;
mod metadata;
mod node;
mod pod;
mod probe;
mod schedule;
mod service;
mod stateful;
mod volume;
mod workload;

pub use config::{ConfigMap, NamespaceStatus, Secret, ServiceAccount};
pub use container::{
    Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, FieldSelector, KeySelector, NameReference, Protocol,
    PullPolicy, ResourceFieldSelector, ResourceList, ResourceRequirements, VolumeMount,
};
pub use event::{Event, EventSource, ObjectReference};
pub use metadata::{
    Condition, ConditionStatus, LabelSelector, Metadata, OwnerReference, SelectorOperator, SelectorRequirement,
};
pub use node::{NodeAddress, NodeSpec, NodeStatus};
pub use pod::{
    ContainerState, ContainerStatus, PodIp, PodPhase, PodSpec, PodStatus, PodTemplate, RestartPolicy, Running,
    TemplateMetadata, Terminated, Waiting,
};
pub use probe::{
    ExecAction, GrpcAction, Handler, HttpGetAction, HttpHeader, Lifecycle, Probe, SleepAction, TcpSocketAction,
};
pub use schedule::{Taint, TaintEffect, Toleration, TolerationOperator, TopologySpreadConstraint, WhenUnsatisfiable};
pub use service::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, LoadBalancerIngress, LoadBalancerStatus, ServicePort,
    ServiceSpec, ServiceStatus, ServiceType,
};
pub use stateful::{
    ClaimMetadata, ClaimRetention, ClaimSpec, ClaimTemplate, Ordinals, PodManagement, StatefulRolling, StatefulSetSpec,
    StatefulSetStatus, StatefulUpdate, StatefulUpdateType,
};
pub use volume::{ClaimVolume, ConfigMapVolume, EmptyDirVolume, KeyToPath, SecretVolume, Volume};
pub use workload::{
    DeploymentSpec, DeploymentStatus, DeploymentStrategy, ReplicaSetSpec, ReplicaSetStatus, RollingUpdate, StrategyType,
};

use super::{Kind, part::Place};
use crate::base::Labels;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// A typed view of one part of the objects of one kind.
///
/// Sealed: a part keeps its parsed view, so there is one view type for each part.
pub trait View:
    Serialize + DeserializeOwned + Clone + Default + PartialEq + Send + Sync + sealed::Sealed + 'static
{
    /// The kind whose objects have it.
    const KIND: &'static Kind;
    #[doc(hidden)]
    const PLACE: Place;
    #[doc(hidden)]
    fn absent() -> &'static Self;
}

pub(crate) mod sealed {
    /// Keeps [`View`](super::View) closed.
    pub trait Sealed {}
}

/// Declares which part of which kind a type is the view of.
macro_rules! of_kind {
    ($($view:ident = $place:ident of $kind:ident;)*) => {
        $(
            impl sealed::Sealed for $view {}

            impl View for $view {
                const KIND: &'static Kind = Kind::$kind;
                const PLACE: Place = Place::$place;

                fn absent() -> &'static Self {
                    static ABSENT: std::sync::LazyLock<$view> = std::sync::LazyLock::new($view::default);
                    &ABSENT
                }
            }
        )*
    };
}

of_kind! {
    PodSpec = Spec of POD;
    PodStatus = Status of POD;
    NodeSpec = Spec of NODE;
    NodeStatus = Status of NODE;
    DeploymentSpec = Spec of DEPLOYMENT;
    DeploymentStatus = Status of DEPLOYMENT;
    ReplicaSetSpec = Spec of REPLICA_SET;
    ReplicaSetStatus = Status of REPLICA_SET;
    StatefulSetSpec = Spec of STATEFUL_SET;
    StatefulSetStatus = Status of STATEFUL_SET;
    ServiceSpec = Spec of SERVICE;
    ServiceStatus = Status of SERVICE;
    NamespaceStatus = Status of NAMESPACE;
    EndpointSlice = Rest of ENDPOINT_SLICE;
    ConfigMap = Rest of CONFIG_MAP;
    Secret = Rest of SECRET;
    ServiceAccount = Rest of SERVICE_ACCOUNT;
    Event = Rest of EVENT;
}

/// Declares a view: every field may be absent, and is written only where it says something.
macro_rules! view {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name {
                $(
                    $(#[$field_doc])*
                    #[serde(skip_serializing_if = "crate::cluster::object::view::unset")]
                    pub $field: $type,
                )*
            }

            impl crate::cluster::object::view::Unset for $name {
                fn is_unset(&self) -> bool {
                    *self == $name::default()
                }
            }
        )*
    };
}
pub(in crate::cluster::object) use view;

/// Declares a choice between words; the first is the default. A choice is always written: readers other than ours need
/// not know its default.
macro_rules! choice {
    ($($(#[$doc:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident, $($(#[$word_doc:meta])* $word:ident,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
            pub enum $name {
                $(#[$first_doc])*
                #[default]
                $first,
                $($(#[$word_doc])* $word,)*
            }

            impl $name {
                /// The word, as it stands in an object.
                pub fn as_str(self) -> &'static str {
                    match self {
                        $name::$first => stringify!($first),
                        $($name::$word => stringify!($word),)*
                    }
                }
            }

            impl crate::cluster::object::view::Unset for $name {
                fn is_unset(&self) -> bool {
                    false
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.pad(self.as_str())
                }
            }
        )*
    };
}
pub(in crate::cluster::object) use choice;

/// Whether a field says nothing, so that it need not be written.
trait Unset {
    fn is_unset(&self) -> bool;
}

fn unset<T: Unset>(value: &T) -> bool {
    value.is_unset()
}

macro_rules! unset_by {
    ($([$($parameter:ident),*] $type:ty: $unset:expr;)*) => {
        $(
            impl<$($parameter),*> Unset for $type {
                fn is_unset(&self) -> bool {
                    $unset(self)
                }
            }
        )*
    };
}

unset_by! {
    [] bool: |value: &bool| !value;
    [] i32: |value: &i32| *value == 0;
    [] i64: |value: &i64| *value == 0;
    [] String: String::is_empty;
    [] Labels: Labels::is_empty;
    [T] Option<T>: Option::is_none;
    [T] Vec<T>: Vec::is_empty;
    [V] BTreeMap<String, V>: BTreeMap::is_empty;
}
