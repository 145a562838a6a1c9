//! The objects that are there from the beginning.

use super::{
    object::{
        Condition, Kind, Metadata, NamespaceStatus, NodeAddress, NodeSpec, NodeStatus, Object, Quantity, ResourceList,
        Taint, TaintEffect,
    },
    plane::Plane,
    schedule::{Effect, Shape},
};
use crate::{
    base::{self, Error, Labels, Result},
    store::Write,
};

/// Creates the namespaces that Kubernetes has, and the nodes.
pub(super) async fn furnish(plane: &Plane, nodes: Vec<(String, Shape)>) -> Result {
    let mut writes = Vec::new();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let namespace = Object::new(Kind::NAMESPACE, &Metadata::named("", name))?;
        let namespace = plane.stamped(&namespace.with(&NamespaceStatus { phase: "Active".into() })?)?;
        writes.push(Write::create(namespace.key(), namespace.clone()));
    }
    for (number, (name, shape)) in nodes.into_iter().enumerate() {
        let node = plane.stamped(&node(plane, number, &name, &shape)?)?;
        if writes.iter().any(|write| write.key == *node.key()) {
            return Err(Error::new(base::Kind::Conflict, "two nodes have this name").at(node.key().as_str()));
        }
        writes.push(Write::create(node.key(), node.clone()));
    }
    plane.store.commit(writes).await?;
    Ok(())
}

fn node(plane: &Plane, number: usize, name: &str, shape: &Shape) -> Result<Object> {
    let mut labels = Labels::from([("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux")]);
    for (key, value) in shape.labels.iter() {
        labels.insert(key, value);
    }
    let quantity = |text: String| text.parse::<Quantity>();
    let mut resources = ResourceList::new();
    resources.insert("cpu".into(), quantity(format!("{}m", shape.allocatable.cpu))?);
    resources.insert("memory".into(), quantity(shape.allocatable.memory.to_string())?);
    resources.insert("pods".into(), quantity(shape.pods.to_string())?);
    for (other, amount) in &shape.allocatable.others {
        resources.insert(other.to_string(), quantity(amount.to_string())?);
    }
    let taints = shape.taints.iter().map(|taint| Taint {
        key: taint.key.to_string(),
        value: taint.value.to_string(),
        effect: match taint.effect {
            Effect::NoSchedule => TaintEffect::NoSchedule,
            Effect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
            Effect::NoExecute => TaintEffect::NoExecute,
        },
    });
    let spec = NodeSpec { taints: taints.collect(), unschedulable: shape.unschedulable, ..NodeSpec::default() };
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    let ready = Condition::new("Ready", true, "KubeletReady", "kubelet is posting ready status", plane.now());
    let status = NodeStatus {
        capacity: resources.clone(),
        allocatable: resources,
        conditions: vec![ready],
        addresses: vec![
            address(
                "InternalIP",
                format!("10.{}.{}.{}", 128 + number / 62_500 % 64, number / 250 % 250, number % 250 + 2),
            ),
            address("Hostname", name.into()),
        ],
    };
    Object::new(Kind::NODE, &Metadata { labels, ..Metadata::named("", name) })?.with(&spec)?.with(&status)
}
