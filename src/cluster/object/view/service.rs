//! Services, and the endpoints behind them.

use super::{ObjectReference, Protocol, choice, view};
use crate::{base::Labels, cluster::object::IntOrString};

view! {
    /// What a service wants.
    ServiceSpec {
        /// Who can reach it.
        #[serde(rename = "type")]
        type_: ServiceType,
        /// The labels of the pods behind it; with none, its endpoints come from elsewhere.
        selector: Labels,
        /// The ports it offers.
        ports: Vec<ServicePort>,
        /// Its address; `None` for a service without one, whose name leads to its pods.
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        /// All its addresses.
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        /// The name that an `ExternalName` service stands for.
        external_name: String,
        /// Whether pods that are not ready are found too.
        publish_not_ready_addresses: bool,
        /// `ClientIP` to stay with one pod, or `None`.
        session_affinity: String,
    }

    /// A port that a service offers.
    ServicePort {
        /// Its name; needed where there are several.
        name: String,
        /// What is spoken on it.
        protocol: Option<Protocol>,
        /// Its number.
        port: i32,
        /// The pods' port, or its name; by default the same number.
        target_port: Option<IntOrString>,
        /// The port on every node.
        node_port: i32,
        /// What is spoken above the protocol.
        app_protocol: Option<String>,
    }

    /// How a service is.
    ServiceStatus {
        /// Where it is reached from outside.
        load_balancer: LoadBalancerStatus,
    }

    /// Where a service is reached from outside.
    LoadBalancerStatus {
        /// The addresses.
        ingress: Vec<LoadBalancerIngress>,
    }

    /// An address at which a service is reached from outside.
    LoadBalancerIngress {
        /// The address.
        ip: String,
        /// The name.
        hostname: String,
    }

    /// Addresses behind a service, all with the same ports.
    EndpointSlice {
        /// `IPv4` or `IPv6`.
        address_type: String,
        /// The endpoints.
        endpoints: Vec<Endpoint>,
        /// Their ports.
        ports: Vec<EndpointPort>,
    }

    /// A place behind a service.
    Endpoint {
        /// Its addresses.
        addresses: Vec<String>,
        /// Whether it can be used.
        conditions: EndpointConditions,
        /// Its host name.
        hostname: Option<String>,
        /// The node it is on.
        node_name: Option<String>,
        /// The zone it is in.
        zone: Option<String>,
        /// The pod that it is.
        target_ref: Option<ObjectReference>,
    }

    /// Whether an endpoint can be used.
    EndpointConditions {
        /// It takes new traffic; absent counts as true.
        ready: Option<bool>,
        /// It answers, be it about to end.
        serving: Option<bool>,
        /// It is about to end.
        terminating: Option<bool>,
    }

    /// A port of endpoints.
    EndpointPort {
        /// The name of the service's port.
        name: Option<String>,
        /// What is spoken on it.
        protocol: Option<Protocol>,
        /// Its number; absent means every port.
        port: Option<i32>,
        /// What is spoken above the protocol.
        app_protocol: Option<String>,
    }
}

choice! {
    /// Who can reach a service.
    ServiceType {
        /// The cluster, at an address of its own.
        ClusterIP,
        /// Also who reaches a node, at a port.
        NodePort,
        /// Also who reaches a balancer outside.
        LoadBalancer,
        /// Nobody: its name stands for another name.
        ExternalName,
    }
}

impl ServiceSpec {
    /// Whether it has no address, so that its name leads to its pods.
    pub fn is_headless(&self) -> bool {
        self.cluster_ip == "None"
    }
}

impl ServicePort {
    /// The pods' port, or its name: Kubernetes' default is the service's own.
    pub fn target(&self) -> IntOrString {
        self.target_port.clone().unwrap_or(IntOrString::Int(self.port))
    }
}
