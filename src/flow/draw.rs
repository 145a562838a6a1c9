//! The graph as text that others draw: Mermaid and DOT.

use super::{
    Graph,
    draft::{Begin, Edge, End},
    graph::Plan,
};
use std::fmt::Write;

/// What is said of each edge and each stage, beside its name.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) edges: Vec<Option<String>>,
    pub(super) stages: Vec<Option<String>>,
}

/// Something with a name in the drawing.
struct Node {
    id: String,
    text: String,
    /// Not a stage.
    end: bool,
}

fn nodes(plan: &Plan, labels: &Labels) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (at, edge) in plan.edges.iter().enumerate() {
        if let Begin::Source(name) = &edge.begin {
            nodes.push(Node { id: format!("i{at}"), text: name.to_string(), end: true });
        }
    }
    for (at, stage) in plan.stages.iter().enumerate() {
        let mut operators = stage.operators.clone();
        if stage.inputs.len() > 1 && operators.first() != Some(&"merge") {
            operators.insert(0, "merge");
        }
        let mut text = stage.name.to_string();
        if operators.as_slice() != [stage.name.as_str()] {
            let _ = write!(text, ": {}", operators.join(", "));
        }
        if let Some(Some(more)) = labels.stages.get(at) {
            let _ = write!(text, "\n{more}");
        }
        nodes.push(Node { id: format!("s{at}"), text, end: false });
    }
    for (at, edge) in plan.edges.iter().enumerate() {
        if let End::Sink(name) = &edge.end {
            nodes.push(Node { id: format!("o{at}"), text: name.to_string(), end: true });
        }
    }
    nodes
}

/// From where, to where, and what is said of it.
fn arrow(plan: &Plan, labels: &Labels, at: usize, edge: &Edge) -> (String, String, String) {
    let (from, mut text) = match &edge.begin {
        Begin::Source(_) => (format!("i{at}"), String::new()),
        Begin::Port(stage, port) => {
            let several = plan.stages.get(*stage).is_some_and(|stage| stage.ports.len() > 1);
            (format!("s{stage}"), if several { port.clone() } else { String::new() })
        }
    };
    let to = match &edge.end {
        End::Stage(stage) => format!("s{stage}"),
        End::Sink(_) | End::Nowhere => format!("o{at}"),
    };
    if let Some(Some(more)) = labels.edges.get(at) {
        let _ = write!(text, "{}{more}", if text.is_empty() { "" } else { ": " });
    }
    (from, to, text)
}

pub(super) fn mermaid(plan: &Plan, labels: &Labels) -> String {
    let mut text = String::from("flowchart LR\n");
    for Node { id, text: name, end } in nodes(plan, labels) {
        let name = name.replace('"', "#quot;").replace('\n', "<br>");
        let (open, close) = if end { ("([\"", "\"])") } else { ("[\"", "\"]") };
        let _ = writeln!(text, "  {id}{open}{name}{close}");
    }
    for (at, edge) in plan.edges.iter().enumerate() {
        let (from, to, label) = arrow(plan, labels, at, edge);
        let _ = match label.is_empty() {
            true => writeln!(text, "  {from} --> {to}"),
            false => writeln!(text, "  {from} -- \"{}\" --> {to}", label.replace('"', "#quot;")),
        };
    }
    text.truncate(text.trim_end().len());
    text
}

pub(super) fn dot(plan: &Plan, labels: &Labels) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut text = format!("digraph \"{}\" {{\n  rankdir=LR;\n", escaped(plan.name.as_str()));
    for Node { id, text: name, end } in nodes(plan, labels) {
        let shape = if end { "oval" } else { "box" };
        let _ = writeln!(text, "  {id} [shape={shape}, label=\"{}\"];", escaped(&name));
    }
    for (at, edge) in plan.edges.iter().enumerate() {
        let (from, to, label) = arrow(plan, labels, at, edge);
        let _ = writeln!(text, "  {from} -> {to} [label=\"{}\"];", escaped(&label));
    }
    text.push('}');
    text
}

impl Graph {
    /// The graph as [Mermaid](https://mermaid.js.org). A running one with live counts:
    /// [`Watch::to_mermaid`](super::Watch::to_mermaid).
    ///
    /// ```
    /// use seedpod::flow::Flow;
    /// let mut flow = Flow::new("shop");
    /// let [mail, book] = flow.source::<u32>("orders").filter(|order| *order > 0).copy();
    /// mail.sink("mails");
    /// book.map(|order| order * 2).named("double").sink("books");
    /// assert_eq!(flow.build()?.to_mermaid(), r#"
    /// flowchart LR
    ///   i0(["orders"])
    ///   s0["copy: filter, copy"]
    ///   s1["double: map"]
    ///   o1(["mails"])
    ///   o3(["books"])
    ///   i0 --> s0
    ///   s0 -- "1" --> o1
    ///   s0 -- "2" --> s1
    ///   s1 --> o3
    /// "#.trim());
    /// # Ok::<(), seedpod::Error>(())
    /// ```
    pub fn to_mermaid(&self) -> String {
        mermaid(&self.0, &Labels::default())
    }

    /// The graph as [DOT](https://graphviz.org/doc/info/lang.html).
    pub fn to_dot(&self) -> String {
        dot(&self.0, &Labels::default())
    }
}
