//! Which pods stand behind a service.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The most endpoints in one slice (Kubernetes' default).
pub const SLICE_MAX: usize = 100;

/// Where a service's port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this port of every pod.
    Number(u16),
    /// To the port that each pod calls by this name.
    Named(Box<str>),
}

/// A port of a service.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name; empty where there is but one.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Where it leads.
    pub target: Target,
}

/// A port of a service as it is at a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// The service's name for it.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// The pod's number for it.
    pub port: u16,
}

/// A pod that the service selects, has an address and is not over.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: Arc<str>,
    /// Its address.
    pub ip: IpAddr,
    /// Its node.
    pub node: Arc<str>,
    /// Its name in DNS, where it has one of its own under this service.
    pub hostname: Option<Box<str>>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it has been told to go.
    pub terminating: bool,
    /// Its containers' named ports.
    pub ports: Vec<(Box<str>, u16)>,
}

/// A pod behind a service, with Kubernetes' three conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's name.
    pub pod: Arc<str>,
    /// Its address.
    pub ip: IpAddr,
    /// Its node.
    pub node: Arc<str>,
    /// Its own name in DNS.
    pub hostname: Option<Box<str>>,
    /// It should get new connections.
    pub ready: bool,
    /// It would answer them.
    pub serving: bool,
    /// It is about to go.
    pub terminating: bool,
}

/// Endpoints that share their ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// What the service's ports are there.
    pub ports: Vec<Resolved>,
    /// At most [`SLICE_MAX`].
    pub endpoints: Vec<Endpoint>,
}

/// The slices of a service, in the order of ports, then pod names.
///
/// A pod is ready here if it is ready and not terminating, or always with `publish_unready`
/// (`publishNotReadyAddresses`). A pod without a port of the name that is asked for stands in a slice without that port.
pub fn slices(ports: &[Port], members: &[Member], publish_unready: bool) -> Vec<Slice> {
    let mut groups: BTreeMap<Vec<Resolved>, BTreeMap<Arc<str>, Endpoint>> = BTreeMap::new();
    for member in members {
        let endpoint = Endpoint {
            pod: member.name.clone(),
            ip: member.ip,
            node: member.node.clone(),
            hostname: member.hostname.clone(),
            ready: publish_unready || (member.ready && !member.terminating),
            serving: publish_unready || member.ready,
            terminating: member.terminating,
        };
        let resolved = ports.iter().filter_map(|port| resolve(port, member)).collect();
        groups.entry(resolved).or_default().insert(member.name.clone(), endpoint);
    }
    let mut slices = Vec::new();
    for (ports, endpoints) in groups {
        let mut endpoints = endpoints.into_values().peekable();
        while endpoints.peek().is_some() {
            let endpoints = endpoints.by_ref().take(SLICE_MAX).collect();
            slices.push(Slice { ports: ports.clone(), endpoints });
        }
    }
    slices
}

fn resolve(port: &Port, member: &Member) -> Option<Resolved> {
    let number = match &port.target {
        Target::Number(number) => *number,
        Target::Named(name) => member.ports.iter().find(|(known, _)| known == name)?.1,
    };
    Some(Resolved { name: port.name.clone(), protocol: port.protocol.clone(), port: number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, ready: bool, terminating: bool) -> Member {
        Member {
            name: name.into(),
            ip: [10, 244, 0, 1].into(),
            node: "node-0".into(),
            hostname: None,
            ready,
            terminating,
            ports: vec![("web".into(), if name == "odd" { 81 } else { 80 })],
        }
    }

    fn port(target: Target) -> Port {
        Port { name: "http".into(), protocol: "TCP".into(), target }
    }

    #[test]
    fn conditions_are_those_of_kubernetes() {
        let members = [member("a", true, false), member("b", true, true), member("c", false, false)];
        let conditions = |publish| {
            let slices = slices(&[port(Target::Number(80))], &members, publish);
            assert_eq!(slices.len(), 1);
            slices[0].endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect::<Vec<_>>()
        };
        assert_eq!(conditions(false), [(true, true, false), (false, true, true), (false, false, false)]);
        assert_eq!(conditions(true), [(true, true, false), (true, true, true), (true, true, false)]);
    }

    #[test]
    fn named_ports_split_and_a_hundred_is_full() {
        let mut members: Vec<_> = (0..150).map(|i| member(&format!("p{i:03}"), true, false)).collect();
        members.push(member("odd", true, false));
        let slices = slices(&[port(Target::Named("web".into()))], &members, false);
        let shape: Vec<_> = slices.iter().map(|slice| (slice.ports[0].port, slice.endpoints.len())).collect();
        assert_eq!(shape, [(80, 100), (80, 50), (81, 1)]);
        let none = super::slices(&[port(Target::Named("grpc".into()))], &members[..1], false);
        assert_eq!((none.len(), none[0].ports.len()), (1, 0));
    }
}
