//! The snapshot of all nodes, kept up to date change by change, and the pick.

use super::{
    Amount, Demand, Effect, Shape, Unschedulable,
    score::{self, Load},
    spread::Counts,
};
use crate::base::{Rng, Seed};
use std::{collections::BTreeMap, sync::Arc};

mod filter;

use filter::{fits, selected};

const ZONE: &str = "topology.kubernetes.io/zone";

/// What the scheduler knows of nodes and the pods on them.
///
/// Feed it every node ([`put`](Nodes::put), [`remove`](Nodes::remove)) and every pod that has a node
/// ([`place`](Nodes::place), [`release`](Nodes::release)); [`pick`](Nodes::pick) then decides without looking at any
/// pod. Both are idempotent, so that a pod may be placed when it is decided and once more when the store tells.
///
/// ```
/// use seedpod::{base::Seed, cluster::schedule::{Amount, Demand, Nodes, Shape}};
///
/// let mut nodes = Nodes::new(Seed::new(1));
/// nodes.put("a", Shape { allocatable: Amount::new(1000, 1 << 30), pods: 110, ..Shape::default() });
/// let demand = std::sync::Arc::new(Demand { request: Amount::new(600, 0), ..Demand::default() });
/// assert_eq!(nodes.pick(&demand).as_deref(), Ok("a"));
/// nodes.place("default/web-1", "a", &demand);
/// assert_eq!(nodes.pick(&demand).unwrap_err().to_string(), "0/1 nodes are available: 1 Insufficient cpu.");
/// ```
pub struct Nodes {
    /// In the order visited: zones interleaved, as in Kubernetes' node tree, unless `stale`.
    nodes: Vec<Node>,
    index: BTreeMap<Arc<str>, usize>,
    stale: bool,
    zones: BTreeMap<Box<str>, u32>,
    pods: BTreeMap<Arc<str>, Placed>,
    counts: Counts,
    next_id: u32,
    /// Where the next pick begins to look.
    start: usize,
    rng: Rng,
}

struct Node {
    id: u32,
    name: Arc<str>,
    zone: u32,
    shape: Shape,
    used: Amount,
    nominal: Load,
    pods: u32,
}

struct Placed {
    node: Arc<str>,
    demand: Arc<Demand>,
}

impl Node {
    fn shift(&mut self, demand: &Demand, comes: bool) {
        let nominal = Load::nominal(&demand.request);
        if comes {
            self.used.add(&demand.request);
            self.nominal = self.nominal.plus(nominal);
            self.pods += 1;
        } else {
            self.used.subtract(&demand.request);
            self.nominal = self.nominal.minus(nominal);
            self.pods = self.pods.saturating_sub(1);
        }
    }
}

impl Nodes {
    /// No nodes; ties will be broken by chance from this seed.
    pub fn new(seed: Seed) -> Self {
        Nodes {
            nodes: Vec::new(),
            index: BTreeMap::new(),
            stale: false,
            zones: BTreeMap::new(),
            pods: BTreeMap::new(),
            counts: Counts::default(),
            next_id: 0,
            start: 0,
            rng: seed.rng(),
        }
    }

    /// Adds a node, or changes what it offers. Pods placed on it earlier keep counting.
    pub fn put(&mut self, name: &str, shape: Shape) {
        let next = self.zones.len() as u32;
        let zone = *self.zones.entry(shape.labels.get(ZONE).unwrap_or("").into()).or_insert(next);
        if let Some(node) = self.index.get(name).and_then(|at| self.nodes.get_mut(*at)) {
            if node.zone == zone {
                node.shape = shape;
                return;
            }
            self.remove(name);
        }
        let name: Arc<str> = name.into();
        let id = self.next_id;
        self.next_id += 1;
        let mut node =
            Node { id, name: name.clone(), zone, shape, used: Amount::default(), nominal: Load::default(), pods: 0 };
        for placed in self.pods.values().filter(|placed| placed.node == name) {
            node.shift(&placed.demand, true);
            self.counts.shift(&placed.demand, id, zone, true);
        }
        self.index.insert(name, self.nodes.len());
        self.nodes.push(node);
        self.stale = true;
    }

    /// Takes a node away. Its pods are remembered, should it come back before they are released.
    pub fn remove(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
        for placed in self.pods.values().filter(|placed| placed.node == node.name) {
            self.counts.shift(&placed.demand, node.id, node.zone, false);
        }
        self.stale = true;
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A pod has this node, known or not. A pod that is there already moves.
    pub fn place(&mut self, pod: &str, node: &str, demand: &Arc<Demand>) {
        if self.pods.get(pod).is_some_and(|placed| &*placed.node == node) {
            return;
        }
        self.release(pod);
        let placed = Placed { node: node.into(), demand: demand.clone() };
        self.shift(&placed, true);
        self.pods.insert(pod.into(), placed);
    }

    /// A pod has gone, or has come to its end. Returns its node.
    pub fn release(&mut self, pod: &str) -> Option<Arc<str>> {
        let placed = self.pods.remove(pod)?;
        self.shift(&placed, false);
        Some(placed.node)
    }

    fn shift(&mut self, placed: &Placed, comes: bool) {
        if let Some(node) = self.index.get(&placed.node).and_then(|at| self.nodes.get_mut(*at)) {
            node.shift(&placed.demand, comes);
            self.counts.shift(&placed.demand, node.id, node.zone, comes);
        }
    }

    /// The node for this pod, which is not placed by that.
    ///
    /// Filters in Kubernetes' order (cordon, taints, node selector, resources, hard spread), then scores those left:
    /// spread × 2, soft taints × 3, least allocated × 1, balanced × 1; the best wins, ties by chance. With more than
    /// a hundred nodes it stops looking once it has found [enough](Nodes::enough).
    ///
    /// # Errors
    /// [`Unschedulable`], with what stood in the way on every node.
    pub fn pick(&mut self, demand: &Demand) -> Result<Arc<str>, Unschedulable> {
        self.arrange();
        for spread in &demand.spread {
            let (index, nodes) = (&self.index, &self.nodes);
            let id = |name: &Arc<str>| index.get(name).and_then(|at| nodes.get(*at)).map(|node| node.id);
            let pods = self.pods.values().filter_map(|placed| Some((id(&placed.node)?, &*placed.demand)));
            self.counts.follow(&demand.namespace, spread, pods);
        }
        let rules = self.rules(demand);
        let crowds = self.crowds(demand);
        let (total, enough) = (self.nodes.len(), Self::enough(self.nodes.len()));
        let mut why = Unschedulable { nodes: total, reasons: Vec::new() };
        let mut feasible: Vec<Candidate<'_>> = Vec::new();
        let (mut seen, mut least, mut most, mut softest) = (0, f64::MAX, 0.0_f64, 0);
        for node in self.nodes.iter().cycle().skip(self.start).take(total) {
            seen += 1;
            if !fits(demand, node, &rules, &mut why) {
                continue;
            }
            let crowd = crowds.iter().map(|crowd| crowd(node)).sum();
            let soft = |taint: &&super::Taint| taint.effect == Effect::PreferNoSchedule && !demand.tolerates(taint);
            let taints = node.shape.taints.iter().filter(soft).count();
            (least, most, softest) = (f64::min(least, crowd), f64::max(most, crowd), softest.max(taints));
            feasible.push(Candidate { node, crowd, taints });
            if feasible.len() == enough {
                break;
            }
        }
        let (nominal, exact) = (Load::nominal(&demand.request), Load::exact(&demand.request));
        let (mut best, mut chosen, mut ties, mut rng) = (-1, None, 0, self.rng.clone());
        for Candidate { node, crowd, taints } in feasible {
            let there = &node.shape.allocatable;
            let score = 2 * score::spread(crowd, least, most)
                + 3 * score::untainted(taints, softest)
                + score::least_allocated(node.nominal.plus(nominal), there)
                + score::balanced(Load::exact(&node.used).plus(exact), there);
            if score > best {
                (best, chosen, ties) = (score, Some(node), 1);
            } else if score == best {
                // each of n ties stays with chance 1/n, without a list of them
                ties += 1;
                if rng.below(ties) == 0 {
                    chosen = Some(node);
                }
            }
        }
        let chosen = chosen.map(|node| node.name.clone());
        drop((rules, crowds));
        self.rng = rng;
        self.start = (self.start + seen) % total.max(1);
        chosen.ok_or(why)
    }

    /// How many feasible nodes are enough among so many: half, less one percent per 125 nodes, but at least 5 % and
    /// at least 100 (Kubernetes' `percentageOfNodesToScore`).
    pub fn enough(nodes: usize) -> usize {
        let percent = 50_usize.saturating_sub(nodes / 125).max(5);
        (nodes * percent / 100).max(100).min(nodes)
    }

    /// How many pods a spread counts in each domain, over the nodes that the pod selects.
    fn domains<'a>(&'a self, demand: &Demand, spread: &super::Spread) -> BTreeMap<&'a str, u32> {
        let count = self.counts.of_spread(&demand.namespace, spread);
        let mut domains = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| selected(demand, node)) {
            if let Some(domain) = node.shape.labels.get(&spread.key) {
                *domains.entry(domain).or_insert(0) += count(node.id);
            }
        }
        domains
    }

    /// How crowded a node is, for each soft spread; by owner over nodes and zones where the pod names none.
    fn crowds<'a>(&'a self, demand: &'a Demand) -> Vec<Box<dyn Fn(&Node) -> f64 + 'a>> {
        if demand.spread.is_empty() {
            let Some(owned) = self.counts.owned(demand) else { return Vec::new() };
            let (per_node, per_zone) = (score::weight(self.nodes.len()), score::weight(self.zones.len()));
            return vec![Box::new(move |node| {
                f64::from(owned.on_node(node.id)) * per_node + f64::from(owned.in_zone(node.zone)) * per_zone
            })];
        }
        let soft = demand.spread.iter().filter(|spread| !spread.hard);
        soft.map(|spread| -> Box<dyn Fn(&Node) -> f64 + 'a> {
            let domains = self.domains(demand, spread);
            let weight = score::weight(domains.len());
            Box::new(move |node| {
                let domain = node.shape.labels.get(&spread.key);
                f64::from(domain.and_then(|domain| domains.get(domain)).copied().unwrap_or(0)) * weight
            })
        })
        .collect()
    }

    /// Interleaves the zones, so that looking at a part of the nodes sees all zones alike.
    fn arrange(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut by_zone: BTreeMap<u32, BTreeMap<Arc<str>, Node>> = BTreeMap::new();
        for node in self.nodes.drain(..) {
            by_zone.entry(node.zone).or_default().insert(node.name.clone(), node);
        }
        let mut zones: Vec<_> = by_zone.into_values().map(BTreeMap::into_values).collect();
        while !zones.is_empty() {
            zones.retain_mut(|zone| zone.next().map(|node| self.nodes.push(node)).is_some());
        }
        self.index = self.nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), at)).collect();
        self.start = 0;
    }
}

struct Candidate<'a> {
    node: &'a Node,
    crowd: f64,
    taints: usize,
}

#[cfg(test)]
mod tests;
