//! How crowded nodes and zones are: counts kept per owner and per selector, so that a pick counts no pods.

use super::{Demand, Spread};
use crate::base::{Selector, hash::Map};
use std::{collections::BTreeMap, sync::Arc};

/// How many selectors are followed at once. Beyond it the one used longest ago is forgotten, and counted anew by one
/// walk over all pods should it be asked for again.
const GROUPS_MAX: usize = 256;

/// Pods of one owner, by node and by zone.
#[derive(Default)]
pub(super) struct Owned {
    nodes: Map<u32, u32>,
    zones: Map<u32, u32>,
    total: u32,
}

impl Owned {
    pub(super) fn on_node(&self, node: u32) -> u32 {
        self.nodes.get(&node).copied().unwrap_or(0)
    }

    pub(super) fn in_zone(&self, zone: u32) -> u32 {
        self.zones.get(&zone).copied().unwrap_or(0)
    }
}

/// Pods of one namespace that a selector matches, by node.
struct Group {
    namespace: Box<str>,
    text: String,
    selector: Selector,
    nodes: Map<u32, u32>,
    used: u64,
}

/// All counts. Nodes and zones stand here as small numbers that are never given twice.
#[derive(Default)]
pub(super) struct Counts {
    owners: BTreeMap<Arc<str>, Owned>,
    groups: Vec<Group>,
    clock: u64,
}

impl Counts {
    /// A pod comes to this node, or leaves it.
    pub(super) fn shift(&mut self, demand: &Demand, node: u32, zone: u32, comes: bool) {
        if let Some(owner) = &demand.owner {
            let owned = self.owners.entry(owner.clone()).or_default();
            bump(&mut owned.nodes, node, comes);
            bump(&mut owned.zones, zone, comes);
            owned.total = if comes { owned.total + 1 } else { owned.total.saturating_sub(1) };
            if owned.total == 0 {
                self.owners.remove(owner);
            }
        }
        for group in &mut self.groups {
            if group.namespace == demand.namespace && group.selector.matches(&demand.labels) {
                bump(&mut group.nodes, node, comes);
            }
        }
    }

    pub(super) fn owned(&self, demand: &Demand) -> Option<&Owned> {
        self.owners.get(demand.owner.as_ref()?)
    }

    /// Makes sure that what this spread counts is counted; `pods` are walked over if it is new.
    pub(super) fn follow<'a>(
        &mut self,
        namespace: &str,
        spread: &Spread,
        pods: impl Iterator<Item = (u32, &'a Demand)>,
    ) {
        self.clock += 1;
        let text = spread.selector.to_string();
        if let Some(known) = self.groups.iter_mut().find(|group| group.text == text && *group.namespace == *namespace) {
            known.used = self.clock;
            return;
        }
        if self.groups.len() >= GROUPS_MAX
            && let Some(oldest) = (0..self.groups.len()).min_by_key(|at| self.groups.get(*at).map(|group| group.used))
        {
            self.groups.swap_remove(oldest);
        }
        let mut nodes = Map::default();
        for (node, demand) in pods {
            if *demand.namespace == *namespace && spread.selector.matches(&demand.labels) {
                bump(&mut nodes, node, true);
            }
        }
        let selector = spread.selector.clone();
        self.groups.push(Group { namespace: namespace.into(), text, selector, nodes, used: self.clock });
    }

    /// How many pods that this spread counts are on the node.
    pub(super) fn of_spread(&self, namespace: &str, spread: &Spread) -> impl Fn(u32) -> u32 {
        let text = spread.selector.to_string();
        let found = self.groups.iter().find(|group| group.text == text && *group.namespace == *namespace);
        move |node| found.and_then(|group| group.nodes.get(&node)).copied().unwrap_or(0)
    }
}

fn bump(counts: &mut Map<u32, u32>, at: u32, up: bool) {
    let count = counts.entry(at).or_insert(0);
    *count = if up { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        counts.remove(&at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Labels;

    #[test]
    fn what_came_and_left_counts_for_nothing_and_old_selectors_are_forgotten() {
        let labels = Labels::from([("app", "a")]);
        let demand = Demand { labels: labels.clone(), owner: Some("o".into()), ..Demand::default() };
        let spread = |value: String| Spread {
            key: "zone".into(),
            max_skew: 1,
            hard: true,
            selector: Selector::equal_to(&Labels::from([("app".to_string(), value)])),
        };
        let mut counts = Counts::default();
        counts.shift(&demand, 1, 0, true);
        counts.follow("", &spread("a".into()), [(1, &demand)].into_iter());
        counts.shift(&demand, 1, 0, true);
        assert_eq!(counts.of_spread("", &spread("a".into()))(1), 2);
        assert_eq!(counts.owned(&demand).map(|owned| (owned.on_node(1), owned.in_zone(0))), Some((2, 2)));
        (0..2).for_each(|_| counts.shift(&demand, 1, 0, false));
        assert_eq!(counts.of_spread("", &spread("a".into()))(1), 0);
        assert!(counts.owned(&demand).is_none());
        (0..2 * GROUPS_MAX).for_each(|n| counts.follow("", &spread(format!("v{n}")), std::iter::empty()));
        assert_eq!(counts.groups.len(), GROUPS_MAX);
    }
}
