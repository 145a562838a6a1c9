//! The filters, in Kubernetes' order: whether a pod may go to a node, and what stands in the way.

use super::{Node, Nodes};
use crate::cluster::schedule::{Demand, Effect, Reason, Unschedulable};
use std::collections::BTreeMap;

/// A hard spread, for one pod: what each domain has, and how many there is room for.
pub(super) struct Rule<'a> {
    key: &'a str,
    domains: BTreeMap<&'a str, u32>,
    room: u32,
    itself: u32,
}

#[inline]
pub(super) fn selected(demand: &Demand, node: &Node) -> bool {
    demand.node_selector.iter().all(|(key, value)| node.shape.labels.get(key) == Some(value))
}

/// The filters. The first that fails ends the node's chances, and names why.
#[inline]
pub(super) fn fits(demand: &Demand, node: &Node, rules: &[Rule<'_>], why: &mut Unschedulable) -> bool {
    let shape = &node.shape;
    if shape.unschedulable {
        why.count(Reason::Cordoned);
        return false;
    }
    if let Some(taint) = demand.repelled_by(&shape.taints, &[Effect::NoSchedule, Effect::NoExecute]) {
        why.count(Reason::Taint(taint.key.clone(), taint.value.clone()));
        return false;
    }
    if !selected(demand, node) {
        why.count(Reason::Selector);
        return false;
    }
    let mut fits = true;
    if node.pods >= shape.pods {
        why.count(Reason::TooManyPods);
        fits = false;
    }
    for resource in demand.request.lacking(&node.used, &shape.allocatable) {
        why.count(Reason::Insufficient(resource.into()));
        fits = false;
    }
    if !fits {
        return false;
    }
    for rule in rules {
        let Some(domain) = shape.labels.get(rule.key) else {
            why.count(Reason::SpreadLabel);
            return false;
        };
        if rule.domains.get(domain).copied().unwrap_or(0) + rule.itself > rule.room {
            why.count(Reason::Spread);
            return false;
        }
    }
    true
}

impl Nodes {
    /// The hard spreads, each with the count per domain and the smallest of them.
    pub(super) fn rules<'a>(&'a self, demand: &'a Demand) -> Vec<Rule<'a>> {
        let hard = demand.spread.iter().filter(|spread| spread.hard);
        hard.map(|spread| {
            let domains = self.domains(demand, spread);
            let room = domains.values().min().copied().unwrap_or(0) + spread.max_skew;
            let itself = u32::from(spread.selector.matches(&demand.labels));
            Rule { key: &spread.key, domains, room, itself }
        })
        .collect()
    }
}
