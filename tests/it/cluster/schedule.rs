//! The scheduler's decision, by scenario.

use super::scenario::{Block, Scenario};
use seedpod::{
    base::{Labels, Seed, Selector},
    cluster::schedule::{Amount, Demand, Effect, Nodes, Shape, Spread, Taint, Toleration},
};
use std::{collections::BTreeMap, sync::Arc};

fn amount(block: &Block) -> Amount {
    let number = |key| block.value(key).map_or(0, |text| text.parse().unwrap());
    let mut amount = Amount::new(number("cpu"), number("memory") << 20);
    if let Some((name, count)) = block.value("other").and_then(|text| text.split_once(':')) {
        amount.others.insert(name.into(), count.parse().unwrap());
    }
    amount
}

fn labels(block: &Block, key: &str) -> Labels {
    block.values(key).map(|pair| pair.split_once(':').unwrap()).collect()
}

fn effect(text: &str) -> Effect {
    Effect::read(text).unwrap()
}

fn node(block: &Block) -> Shape {
    let mut found = labels(block, "label");
    if let Some(zone) = block.value("zone") {
        found.insert("topology.kubernetes.io/zone", zone);
    }
    let taints = block.values("taint").map(|text| {
        let parts: Vec<_> = text.split(':').collect();
        Taint { key: parts[0].into(), value: parts[1].into(), effect: effect(parts[2]) }
    });
    Shape {
        labels: found,
        taints: taints.collect(),
        unschedulable: block.words().contains(&"cordoned"),
        allocatable: amount(block),
        pods: block.value("pods").map_or(110, |text| text.parse().unwrap()),
    }
}

fn demand(block: &Block) -> Demand {
    let tolerations = block.values("tolerate").map(|text| {
        let parts: Vec<_> = text.split(':').collect();
        let effect = parts.get(2).map(|text| effect(text));
        Toleration { key: parts[0].into(), any_value: parts[1] == "*", value: parts[1].into(), effect }
    });
    let own = labels(block, "label");
    let spread = block.values("spread").map(|text| {
        let parts: Vec<_> = text.split(':').collect();
        let key = if parts[0] == "zone" { "topology.kubernetes.io/zone" } else { parts[0] };
        let selector = Selector::equal_to(&own);
        Spread { key: key.into(), max_skew: parts[1].parse().unwrap(), hard: parts[2] == "hard", selector }
    });
    Demand {
        namespace: "default".into(),
        owner: block.value("owner").map(Into::into),
        request: amount(block),
        node_selector: labels(block, "select"),
        tolerations: tolerations.collect(),
        spread: spread.collect(),
        labels: own,
    }
}

fn run(file: &str) {
    let mut scenario = Scenario::read(file);
    let mut nodes = Nodes::new(Seed::new(7));
    let mut placed = BTreeMap::new();
    for at in 0..scenario.blocks.len() {
        let block = &scenario.blocks[at];
        let words = block.words();
        let answer = match words[0] {
            "node" => {
                nodes.put(words[1], node(block));
                format!("{} nodes", nodes.len())
            }
            "remove" => {
                nodes.remove(words[1]);
                format!("{} nodes", nodes.len())
            }
            "pods" => {
                let demand = Arc::new(demand(block));
                let count: usize = words[2].parse().unwrap();
                let mut lines = String::new();
                for number in 1..=count {
                    let name = format!("{}-{number}", words[1]);
                    match nodes.pick(&demand) {
                        Ok(node) => {
                            nodes.place(&name, &node, &demand);
                            lines += &format!("{name} -> {node}\n");
                            placed.insert(name, node);
                        }
                        Err(why) => lines += &format!("{name}: {why}\n"),
                    }
                }
                lines
            }
            "release" => {
                let node = nodes.release(words[1]);
                placed.remove(words[1]);
                format!("{} from {}", words[1], node.as_deref().unwrap_or("nowhere"))
            }
            "count" => {
                let mut counts = BTreeMap::<&str, usize>::new();
                placed.values().for_each(|node| *counts.entry(node).or_default() += 1);
                counts.iter().map(|(node, count)| format!("{node} {count}\n")).collect()
            }
            other => panic!("no such command: {other}"),
        };
        scenario.answer(&answer);
    }
    scenario.finish();
}

#[test]
fn resources() {
    run("schedule_resources.txt");
}

#[test]
fn taints_and_selectors() {
    run("schedule_taints.txt");
}

#[test]
fn spread() {
    run("schedule_spread.txt");
}
