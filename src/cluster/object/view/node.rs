//! Nodes: what pods run on.

use super::{Condition, ResourceList, Taint, view};

view! {
    /// What is wanted of a node.
    NodeSpec {
        /// What keeps pods off it.
        taints: Vec<Taint>,
        /// Whether no new pods should come: it is cordoned.
        unschedulable: bool,
        /// The addresses that its pods get.
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        /// What it is to whoever provides it.
        #[serde(rename = "providerID")]
        provider_id: String,
    }

    /// How a node is.
    NodeStatus {
        /// What it has.
        capacity: ResourceList,
        /// What of that is for pods.
        allocatable: ResourceList,
        /// What is true of it: `Ready`, ….
        conditions: Vec<Condition>,
        /// Where it is reached.
        addresses: Vec<NodeAddress>,
    }

    /// Where a node is reached.
    NodeAddress {
        /// Which address it is: `InternalIP`, `Hostname`, ….
        #[serde(rename = "type")]
        type_: String,
        /// The address.
        address: String,
    }
}
