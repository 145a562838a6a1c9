//! Who fits where, spread by rule, and sums that hold over a million changes.

use super::*;
use crate::{
    base::{Labels, Selector},
    cluster::schedule::{Spread, Taint, Toleration},
};

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
