//! Pods' addresses: a /24 per node, as kubeadm and flannel deal them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

/// Addresses per node: the first and the last of a /24 are left out.
const PER_NODE: u8 = 254;

/// How many nodes can have pods at once: the /24s of a /10.
const NETWORKS: usize = 64 * 256;

/// The addresses of all nodes. Each node deals out its own in turn, so that one comes back as late as possible.
pub(super) struct Pool {
    first: u8,
    numbers: BTreeMap<String, usize>,
    networks: Vec<Network>,
}

struct Network {
    node: String,
    last: u8,
    taken: BTreeSet<u8>,
}

/// A node's network, by its number: 10.244.0.0/24 and on, up to 10.255.255.0/24 and then from 10.192.0.0/24, which is the
/// whole of 10.192.0.0/10. The first 256 are Kubernetes' usual 10.244.0.0/16; nodes (10.128.0.0/10), services
/// (10.96.0.0/12) and other hosts (from 10.0.0.1) stay apart.
fn network(number: usize) -> Option<[u8; 2]> {
    let (high, low) = (number / 256, number % 256);
    let second = 192 + (244 - 192 + high) % 64;
    (number < NETWORKS).then_some([u8::try_from(second).ok()?, u8::try_from(low).ok()?])
}

/// The number of the network that an address is in.
fn number(ip: IpAddr) -> Option<(usize, u8)> {
    let IpAddr::V4(ip) = ip else { return None };
    let [_, second, third, host] = ip.octets();
    let high = (usize::from(second) + 64).checked_sub(244)? % 64;
    Some((high * 256 + usize::from(third), host))
}

impl Pool {
    /// In memory as Kubernetes has it; over TCP the same on the loopback network.
    pub(super) fn new(tcp: bool) -> Self {
        Pool { first: if tcp { 127 } else { 10 }, numbers: BTreeMap::new(), networks: Vec::new() }
    }

    /// The next free address of a node; none where all are taken, or all networks are in use by other nodes.
    pub(super) fn allocate(&mut self, node: &str) -> Option<IpAddr> {
        let number = match self.numbers.get(node) {
            Some(number) => *number,
            None => self.admit(node)?,
        };
        let [second, third] = network(number)?;
        let network = self.networks.get_mut(number)?;
        let after = (network.last + 1..=PER_NODE).chain(1..=network.last);
        let host = after.into_iter().find(|host| !network.taken.contains(host))?;
        network.last = host;
        network.taken.insert(host);
        Some(Ipv4Addr::new(self.first, second, third, host).into())
    }

    /// A network for a node that had none: a new one, or one whose node has no pod any more.
    fn admit(&mut self, node: &str) -> Option<usize> {
        let fresh = Network { node: node.into(), last: 0, taken: BTreeSet::new() };
        let number = if self.networks.len() < NETWORKS {
            self.networks.push(fresh);
            self.networks.len() - 1
        } else {
            let number = self.networks.iter().position(|network| network.taken.is_empty())?;
            let old = std::mem::replace(self.networks.get_mut(number)?, fresh);
            self.numbers.remove(&old.node);
            number
        };
        self.numbers.insert(node.into(), number);
        Some(number)
    }

    /// The address is free again.
    pub(super) fn release(&mut self, ip: IpAddr) {
        if let Some((number, host)) = number(ip)
            && let Some(network) = self.networks.get_mut(number)
        {
            network.taken.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turn_and_none_twice() {
        let mut pool = Pool::new(false);
        let ip = |a, b| Some(IpAddr::from([10, 244, a, b]));
        assert_eq!((pool.allocate("a"), pool.allocate("b"), pool.allocate("a")), (ip(0, 1), ip(1, 1), ip(0, 2)));
        pool.release([10, 244, 0, 1].into());
        assert_eq!(pool.allocate("a"), ip(0, 3), "one comes back late");
        let rest = std::iter::from_fn(|| pool.allocate("a")).count();
        assert_eq!(rest, 252);
        pool.release([10, 244, 0, 9].into());
        assert_eq!((pool.allocate("a"), pool.allocate("a")), (ip(0, 9), None));
        assert_eq!(Pool::new(true).allocate("x"), Some([127, 244, 0, 1].into()));
    }

    #[test]
    fn sixteen_thousand_nodes_have_networks_of_their_own() {
        let mut pool = Pool::new(false);
        let mut seen = BTreeSet::new();
        for node in 0..NETWORKS {
            let ip = pool.allocate(&format!("node-{node}")).unwrap();
            assert!(seen.insert(ip), "{ip} of node {node}");
            assert_eq!(number(ip), Some((node, 1)));
            let IpAddr::V4(ip) = ip else { panic!() };
            assert_eq!(ip.to_bits() >> 22, u32::from(Ipv4Addr::new(10, 192, 0, 0)) >> 22, "{ip}");
        }
        let of = |node: usize| network(node).unwrap();
        assert_eq!(
            [of(255), of(256), of(3071), of(3072), of(4999)],
            [[244, 255], [245, 0], [255, 255], [192, 0], [199, 135]]
        );
        assert_eq!(pool.allocate("one more"), None);
        pool.release([10, 245, 0, 1].into());
        assert_eq!(pool.allocate("one more"), Some([10, 245, 0, 1].into()), "of a node that has no pod any more");
        assert_eq!(pool.allocate("node-256"), None);
    }
}
