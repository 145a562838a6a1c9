//! The snapshot of all nodes, kept up to date change by change, and the pick.

use super::{
    Amount, Demand, Effect, Reason, Shape, Unschedulable,
    score::{self, Load},
    spread::Counts,
};
use crate::base::{Rng, Seed};
use std::{collections::BTreeMap, sync::Arc};

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

    /// The hard spreads, each with the count per domain and the smallest of them.
    fn rules<'a>(&'a self, demand: &'a Demand) -> Vec<Rule<'a>> {
        let hard = demand.spread.iter().filter(|spread| spread.hard);
        hard.map(|spread| {
            let domains = self.domains(demand, spread);
            let room = domains.values().min().copied().unwrap_or(0) + spread.max_skew;
            let itself = u32::from(spread.selector.matches(&demand.labels));
            Rule { key: &spread.key, domains, room, itself }
        })
        .collect()
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

struct Rule<'a> {
    key: &'a str,
    domains: BTreeMap<&'a str, u32>,
    room: u32,
    itself: u32,
}

fn selected(demand: &Demand, node: &Node) -> bool {
    demand.node_selector.iter().all(|(key, value)| node.shape.labels.get(key) == Some(value))
}

/// The filters. The first that fails ends the node's chances, and names why.
fn fits(demand: &Demand, node: &Node, rules: &[Rule<'_>], why: &mut Unschedulable) -> bool {
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

#[cfg(test)]
mod tests {
    use super::super::{Spread, Taint, Toleration};
    use super::*;
    use crate::base::{Labels, Selector};

    fn shape(zone: &str, disk: &str) -> Shape {
        let labels = Labels::from([("disk", disk), (ZONE, zone)]);
        Shape { labels, allocatable: Amount::new(1000, 1 << 30), pods: 110, ..Shape::default() }
    }

    fn six() -> Nodes {
        let mut nodes = Nodes::new(Seed::new(1));
        for i in 0..6 {
            let mut shape = shape(["a", "b", "c"][i % 3], if i < 3 { "ssd" } else { "hdd" });
            if i == 5 {
                shape.taints = vec![Taint { key: "gpu".into(), value: "".into(), effect: Effect::NoSchedule }];
            }
            nodes.put(&format!("n{i}"), shape);
        }
        nodes
    }

    fn place_some(nodes: &mut Nodes, demand: &Arc<Demand>, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let node = nodes.pick(demand).unwrap();
                nodes.place(&format!("p{}", nodes.pods.len()), &node, demand);
                node.to_string()
            })
            .collect()
    }

    #[test]
    fn fits_selects_tolerates_and_spreads() {
        let mut nodes = six();
        let base = Demand { request: Amount::new(500, 1 << 20), owner: Some("o".into()), ..Demand::default() };
        let mut first = place_some(&mut nodes, &Arc::new(base.clone()), 5);
        first.sort();
        assert_eq!(first, ["n0", "n1", "n2", "n3", "n4"], "one each before any second");
        let ssd = Arc::new(Demand { node_selector: Labels::from([("disk", "ssd")]), ..base.clone() });
        place_some(&mut nodes, &ssd, 3);
        assert_eq!(
            nodes.pick(&ssd).unwrap_err().to_string(),
            "0/6 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 node(s) didn't match Pod's node \
             affinity/selector, 3 Insufficient cpu."
        );
        let tolerations = vec![Toleration { any_value: true, ..Toleration::default() }];
        assert_eq!(place_some(&mut nodes, &Arc::new(Demand { tolerations, ..base }), 1), ["n5"]);
    }

    #[test]
    fn hard_spread_counts_what_it_selects() {
        let mut nodes = six();
        let labels = Labels::from([("app", "web")]);
        let spread = vec![Spread { key: ZONE.into(), max_skew: 1, hard: true, selector: Selector::equal_to(&labels) }];
        let demand = Arc::new(Demand { labels, spread, request: Amount::new(500, 0), ..Demand::default() });
        let cordon = |nodes: &mut Nodes, name: &str, zone| {
            nodes.put(name, Shape { unschedulable: true, ..shape(zone, "hdd") });
        };
        cordon(&mut nodes, "n1", "b");
        cordon(&mut nodes, "n4", "b");
        place_some(&mut nodes, &demand, 2);
        // zone b still counts as an empty domain, so nobody may come a second time elsewhere
        assert_eq!(
            nodes.pick(&demand).unwrap_err().to_string(),
            "0/6 nodes are available: 1 node(s) had untolerated taint {gpu: }, 2 node(s) were unschedulable, 3 node(s) \
             didn't match pod topology spread constraints."
        );
        nodes.put("n4", shape("b", "hdd"));
        assert_eq!(place_some(&mut nodes, &demand, 1), ["n4"]);
        nodes.put("n6", Shape { labels: Labels::new(), ..shape("", "") });
        nodes.release("p0");
        nodes.release("p1");
        nodes.release("p2");
        assert_eq!(nodes.pick(&demand).map(|_| ()), Ok(()));
    }

    #[test]
    fn a_million_steps_keep_the_sums() {
        let mut rng = Seed::new(4).rng();
        let mut nodes = six();
        let demands: Vec<_> = (0..8)
            .map(|i| {
                let owner = Some(Arc::from(format!("o{}", i % 3)));
                Arc::new(Demand { request: Amount::new(10 * i, i << 20), owner, ..Demand::default() })
            })
            .collect();
        for _ in 0..1_000_000 {
            let pod = format!("p{}", rng.below(200));
            let demand = &demands[rng.below(8) as usize];
            let node = format!("n{}", rng.below(6));
            match rng.below(200) {
                0 => nodes.remove(&node),
                1..=4 => nodes.put(&node, shape(["a", "b", "c"][rng.below(3) as usize], "ssd")),
                5..=60 => drop(nodes.release(&pod)),
                61..=70 => {
                    if let Ok(node) = nodes.pick(demand) {
                        nodes.place(&pod, &node, demand);
                    }
                }
                _ => nodes.place(&pod, &node, demand),
            }
        }
        for node in &nodes.nodes {
            let on = || nodes.pods.values().filter(|placed| placed.node == node.name);
            let mut used = Amount::default();
            on().for_each(|placed| used.add(&placed.demand.request));
            assert_eq!((&node.used, node.pods as usize), (&used, on().count()));
            for demand in &demands {
                let mine = on().filter(|placed| placed.demand.owner == demand.owner).count() as u32;
                assert_eq!(nodes.counts.owned(demand).map_or(0, |owned| owned.on_node(node.id)), mine);
            }
        }
    }

    #[test]
    fn the_same_seed_picks_the_same() {
        let run = |seed: u64| {
            let mut nodes = Nodes::new(Seed::new(seed));
            (0..50).for_each(|i| nodes.put(&format!("n{i}"), shape("a", "ssd")));
            place_some(&mut nodes, &Arc::new(Demand::default()), 40)
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_eq!((Nodes::enough(50), Nodes::enough(1000), Nodes::enough(15_000)), (50, 420, 750));
    }
}
