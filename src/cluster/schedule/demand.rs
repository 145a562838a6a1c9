//! What pods ask for and nodes offer, as the scheduler sees it.

use super::Amount;
use crate::base::{Labels, Selector};
use std::sync::Arc;

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Keeps them away.
    NoSchedule,
    /// Keeps them away while there is room elsewhere.
    PreferNoSchedule,
    /// Keeps them away, and drives away those that run there.
    NoExecute,
}

impl Effect {
    /// Reads Kubernetes' word for it.
    pub fn read(text: &str) -> Option<Effect> {
        match text {
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => None,
        }
    }
}

/// A mark on a node that keeps pods away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// Its key.
    pub key: Box<str>,
    /// Its value, often empty.
    pub value: Box<str>,
    /// What it does.
    pub effect: Effect,
}

/// A pod's leave to ignore taints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; empty, together with [`any_value`](Self::any_value), tolerates every key.
    pub key: Box<str>,
    /// The operator `Exists`: the value does not matter.
    pub any_value: bool,
    /// The taint's value, for the operator `Equal`.
    pub value: Box<str>,
    /// Only taints of this effect; all, where none is given.
    pub effect: Option<Effect>,
}

impl Toleration {
    /// Whether it covers this taint.
    pub fn covers(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.any_value || self.value == taint.value)
    }
}

/// How pods spread over the values of a node label (`topologySpreadConstraints`).
#[derive(Clone, Debug)]
pub struct Spread {
    /// The node label whose values are the domains.
    pub key: Box<str>,
    /// By how many pods the fullest domain may exceed the emptiest.
    pub max_skew: u32,
    /// `DoNotSchedule` rather than `ScheduleAnyway`.
    pub hard: bool,
    /// Which pods of the namespace count.
    pub selector: Selector,
}

/// What a pod asks for; worked out once per pod, shared afterwards.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// The pod's namespace.
    pub namespace: Box<str>,
    /// The pod's labels, which other pods' spreads count.
    pub labels: Labels,
    /// Who owns it (a uid): pods of one owner are spread over nodes and zones.
    pub owner: Option<Arc<str>>,
    /// What it requests.
    pub request: Amount,
    /// Labels that the node must carry.
    pub node_selector: Labels,
    /// Taints that it tolerates.
    pub tolerations: Vec<Toleration>,
    /// How it wants to be spread; where it says nothing, softly over nodes and zones, as Kubernetes does by default.
    pub spread: Vec<Spread>,
}

impl Demand {
    /// The first taint with one of these effects that it does not tolerate.
    pub fn repelled_by<'a>(&self, taints: &'a [Taint], effects: &[Effect]) -> Option<&'a Taint> {
        taints.iter().find(|taint| effects.contains(&taint.effect) && !self.tolerates(taint))
    }

    pub(super) fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.covers(taint))
    }
}

/// What a node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Cordoned: nothing new comes.
    pub unschedulable: bool,
    /// What pods may use of it.
    pub allocatable: Amount,
    /// How many pods it takes at most. Kubernetes' kubelet: 110.
    pub pods: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_cover_as_in_kubernetes() {
        let taint = Taint { key: "gpu".into(), value: "a".into(), effect: Effect::NoSchedule };
        let all = Toleration { any_value: true, ..Toleration::default() };
        let equal = Toleration { key: "gpu".into(), value: "a".into(), ..Toleration::default() };
        assert!(all.covers(&taint) && equal.covers(&taint));
        for other in [
            Toleration { value: "b".into(), ..equal.clone() },
            Toleration { key: "cpu".into(), ..equal.clone() },
            Toleration { effect: Some(Effect::NoExecute), ..equal.clone() },
        ] {
            assert!(!other.covers(&taint), "{other:?}");
        }
        let demand = Demand { tolerations: vec![equal], ..Demand::default() };
        assert!(demand.repelled_by(std::slice::from_ref(&taint), &[Effect::NoSchedule]).is_none());
    }
}
