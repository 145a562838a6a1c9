//! Objects as the scheduler sees them.

use super::{
    object::{
        LabelSelector, Metadata, NodeSpec, NodeStatus, PodSpec, ResourceList, TaintEffect, TolerationOperator,
        WhenUnsatisfiable,
    },
    schedule::{Amount, Demand, Effect, Shape, Spread, Taint, Toleration},
};
use crate::base::{Selector, labels::Requirement};

/// How many pods a node takes that does not say (Kubernetes' kubelet).
pub(super) const PODS_MAX: u32 = 110;

/// What a pod asks for.
pub(super) fn demand(metadata: &Metadata, spec: &PodSpec) -> Demand {
    let tolerations = spec.tolerations.iter().map(|toleration| Toleration {
        key: toleration.key.as_str().into(),
        any_value: toleration.operator == Some(TolerationOperator::Exists),
        value: toleration.value.as_str().into(),
        effect: toleration.effect.map(effect),
    });
    let spread = spec.topology_spread_constraints.iter().map(|constraint| Spread {
        key: constraint.topology_key.as_str().into(),
        max_skew: u32::try_from(constraint.max_skew).unwrap_or(1).max(1),
        hard: constraint.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule,
        selector: constraint.label_selector.as_ref().map_or_else(nothing, selector),
    });
    Demand {
        namespace: metadata.namespace.as_str().into(),
        labels: metadata.labels.clone(),
        owner: metadata.controller().map(|owner| owner.uid.as_str().into()),
        request: amount(&spec.requests()),
        node_selector: spec.node_selector.clone(),
        tolerations: tolerations.collect(),
        spread: spread.collect(),
    }
}

/// What a node offers.
pub(super) fn shape(metadata: &Metadata, spec: &NodeSpec, status: &NodeStatus) -> Shape {
    let taints = spec.taints.iter().map(|taint| Taint {
        key: taint.key.as_str().into(),
        value: taint.value.as_str().into(),
        effect: effect(taint.effect),
    });
    let mut allocatable = amount(&status.allocatable);
    let pods = allocatable.others.remove("pods").map_or(PODS_MAX, |pods| u32::try_from(pods).unwrap_or(0));
    Shape {
        labels: metadata.labels.clone(),
        taints: taints.collect(),
        unschedulable: spec.unschedulable,
        allocatable,
        pods,
    }
}

/// A selector that is invalid matches nothing, as one that is absent does where Kubernetes says so.
pub(super) fn selector(selector: &LabelSelector) -> Selector {
    selector.selector().unwrap_or_else(|_| nothing())
}

/// The selector that nothing matches.
pub(super) fn nothing() -> Selector {
    [Requirement::In(String::new(), Vec::new())].into_iter().collect()
}

fn amount(list: &ResourceList) -> Amount {
    let mut amount = Amount::default();
    for (name, quantity) in list {
        match name.as_str() {
            "cpu" => amount.cpu = quantity.milli_value(),
            "memory" => amount.memory = quantity.value(),
            other => drop(amount.others.insert(other.into(), quantity.value())),
        }
    }
    amount
}

fn effect(effect: TaintEffect) -> Effect {
    match effect {
        TaintEffect::NoSchedule => Effect::NoSchedule,
        TaintEffect::PreferNoSchedule => Effect::PreferNoSchedule,
        TaintEffect::NoExecute => Effect::NoExecute,
    }
}
