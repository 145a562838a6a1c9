//! Pods' addresses: 10.244.0.0/16, a /24 per node, as kubeadm and flannel deal them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

/// Addresses per node: the first and the last of a /24 are left out.
const PER_NODE: u8 = 254;

/// The addresses of all nodes. Each node deals out its own in turn, so that one comes back as late as possible.
pub(super) struct Pool {
    first: [u8; 2],
    nodes: BTreeMap<String, Node>,
}

struct Node {
    number: u8,
    last: u8,
    taken: BTreeSet<u8>,
}

impl Pool {
    /// In memory as Kubernetes has it; over TCP on the loopback network.
    pub(super) fn new(tcp: bool) -> Self {
        Pool { first: if tcp { [127, 80] } else { [10, 244] }, nodes: BTreeMap::new() }
    }

    /// The next free address of a node; none where all are taken, or there are more nodes than networks.
    pub(super) fn allocate(&mut self, node: &str) -> Option<IpAddr> {
        let next = u8::try_from(self.nodes.len()).ok();
        if !self.nodes.contains_key(node) {
            self.nodes.insert(node.into(), Node { number: next?, last: 0, taken: BTreeSet::new() });
        }
        let node = self.nodes.get_mut(node)?;
        let after = (node.last + 1..=PER_NODE).chain(1..=node.last);
        let host = after.into_iter().find(|host| !node.taken.contains(host))?;
        node.last = host;
        node.taken.insert(host);
        let [a, b] = self.first;
        Some(Ipv4Addr::new(a, b, node.number, host).into())
    }

    /// The address is free again.
    pub(super) fn release(&mut self, ip: IpAddr) {
        let IpAddr::V4(ip) = ip else { return };
        let [.., number, host] = ip.octets();
        if let Some(node) = self.nodes.values_mut().find(|node| node.number == number) {
            node.taken.remove(&host);
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
        assert_eq!(Pool::new(true).allocate("x"), Some([127, 80, 0, 1].into()));
    }
}
