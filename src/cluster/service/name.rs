//! What a DNS name means inside the cluster.

use std::net::{IpAddr, Ipv4Addr};

/// A name below `cluster.local`, taken apart. Whether there is such a thing the store knows.
///
/// ```
/// use seedpod::cluster::service::Name;
/// assert_eq!(Name::read("cart.shop.svc.cluster.local"), Some(Name::Service { namespace: "shop", service: "cart" }));
/// assert_eq!(Name::read("example.com"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// `service.namespace.svc.cluster.local`: the service's address; the ready pods' addresses where it is headless.
    Service {
        /// The namespace.
        namespace: &'a str,
        /// The service.
        service: &'a str,
    },
    /// `host.service.namespace.svc.cluster.local`: one pod behind a headless service.
    Host {
        /// The namespace.
        namespace: &'a str,
        /// The service: the pod's `subdomain`.
        service: &'a str,
        /// The pod's `hostname`.
        host: &'a str,
    },
    /// `_port._protocol.service.namespace.svc.cluster.local`: where a named port of a service is, by SRV records.
    Port {
        /// The namespace.
        namespace: &'a str,
        /// The service.
        service: &'a str,
        /// The port's name in the service.
        port: &'a str,
        /// `tcp`, `udp` or `sctp`.
        protocol: &'a str,
    },
    /// `10-244-0-7.namespace.pod.cluster.local`: the address in the name itself.
    Pod {
        /// The namespace.
        namespace: &'a str,
        /// The address.
        ip: IpAddr,
    },
}

impl<'a> Name<'a> {
    /// Takes a full name apart; none where it is not one of the cluster's.
    pub fn read(name: &'a str) -> Option<Name<'a>> {
        let rest = name.strip_suffix(".cluster.local")?;
        if let Some(rest) = rest.strip_suffix(".pod") {
            let (address, namespace) = rest.split_once('.')?;
            let ip: Ipv4Addr = address.replace('-', ".").parse().ok()?;
            return (!namespace.contains('.')).then_some(Name::Pod { namespace, ip: ip.into() });
        }
        let mut parts = rest.strip_suffix(".svc")?.rsplit('.');
        let (namespace, service, host) = (parts.next()?, parts.next()?, parts.next());
        match (host, parts.next(), parts.next()) {
            (None, ..) => Some(Name::Service { namespace, service }),
            (Some(host), None, _) => Some(Name::Host { namespace, service, host }),
            (Some(protocol), Some(port), None) => {
                let (protocol, port) = (protocol.strip_prefix('_')?, port.strip_prefix('_')?);
                Some(Name::Port { namespace, service, port, protocol })
            }
            _ => None,
        }
    }
}

/// The suffixes that pods of a namespace try for a short name, in order.
pub fn search(namespace: &str) -> Vec<String> {
    vec![format!("{namespace}.svc.cluster.local"), "svc.cluster.local".into(), "cluster.local".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let host = Name::Host { namespace: "shop", service: "db", host: "db-0" };
        assert_eq!(Name::read("db-0.db.shop.svc.cluster.local"), Some(host));
        let pod = Name::Pod { namespace: "shop", ip: [10, 244, 0, 7].into() };
        assert_eq!(Name::read("10-244-0-7.shop.pod.cluster.local"), Some(pod));
        let port = Name::Port { namespace: "shop", service: "db", port: "web", protocol: "tcp" };
        assert_eq!(Name::read("_web._tcp.db.shop.svc.cluster.local"), Some(port));
        for other in [
            "a.b.c.shop.svc.cluster.local",
            "_a.b.c.shop.svc.cluster.local",
            "_a._b.c.d.shop.svc.cluster.local",
            "shop.svc.cluster.local.",
            "svc.cluster.local",
            "10-1.a.pod.cluster.local",
        ] {
            assert_eq!(Name::read(other), None, "{other}");
        }
        assert_eq!(search("shop")[0], "shop.svc.cluster.local");
    }
}
