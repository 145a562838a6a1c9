//! The kinds of objects there are.

use std::fmt;

/// A kind of object: how it is named on the wire, in paths and on the command line.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The group and version, as it stands in an object: `apps/v1`.
    pub api_version: &'static str,
    /// The name, as it stands in an object: `Deployment`.
    pub name: &'static str,
    /// The plural in lower case, as it stands in keys and paths: `deployments`.
    pub plural: &'static str,
    /// Whether its objects stand in a namespace.
    pub namespaced: bool,
    /// What may be written for it on a command line: `deploy`.
    pub short: &'static [&'static str],
    pub(super) index: usize,
}

/// Every kind, in the order in which a manifest's objects should be created.
static KINDS: [Kind; 12] = [
    kind(0, "v1", "Namespace", "namespaces", false, &["ns"]),
    kind(1, "v1", "Node", "nodes", false, &["no"]),
    kind(2, "v1", "ServiceAccount", "serviceaccounts", true, &["sa"]),
    kind(3, "v1", "ConfigMap", "configmaps", true, &["cm"]),
    kind(4, "v1", "Secret", "secrets", true, &[]),
    kind(5, "v1", "Service", "services", true, &["svc"]),
    kind(6, "discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true, &[]),
    kind(7, "v1", "Pod", "pods", true, &["po"]),
    kind(8, "apps/v1", "ReplicaSet", "replicasets", true, &["rs"]),
    kind(9, "apps/v1", "Deployment", "deployments", true, &["deploy"]),
    kind(10, "apps/v1", "StatefulSet", "statefulsets", true, &["sts"]),
    kind(11, "v1", "Event", "events", true, &["ev"]),
];

/// How many kinds there are.
pub(super) const COUNT: usize = KINDS.len();

const fn kind(
    index: usize,
    api_version: &'static str,
    name: &'static str,
    plural: &'static str,
    namespaced: bool,
    short: &'static [&'static str],
) -> Kind {
    Kind { api_version, name, plural, namespaced, short, index }
}

impl Kind {
    /// A part of the cluster that names do not reach across.
    pub const NAMESPACE: &'static Kind = &KINDS[0];
    /// What pods run on.
    pub const NODE: &'static Kind = &KINDS[1];
    /// Who a pod is to the cluster.
    pub const SERVICE_ACCOUNT: &'static Kind = &KINDS[2];
    /// Settings that containers read.
    pub const CONFIG_MAP: &'static Kind = &KINDS[3];
    /// Settings that nobody else should read.
    pub const SECRET: &'static Kind = &KINDS[4];
    /// One address in front of pods.
    pub const SERVICE: &'static Kind = &KINDS[5];
    /// The addresses behind a service.
    pub const ENDPOINT_SLICE: &'static Kind = &KINDS[6];
    /// Containers that share an address and fate.
    pub const POD: &'static Kind = &KINDS[7];
    /// As many equal pods as wanted.
    pub const REPLICA_SET: &'static Kind = &KINDS[8];
    /// Replica sets, one rolling into the next.
    pub const DEPLOYMENT: &'static Kind = &KINDS[9];
    /// Pods with names that stay, one by one.
    pub const STATEFUL_SET: &'static Kind = &KINDS[10];
    /// Something that happened to an object.
    pub const EVENT: &'static Kind = &KINDS[11];

    /// Every kind, in the order in which a manifest's objects should be created.
    pub fn all() -> &'static [Kind] {
        &KINDS
    }

    /// The kind of this name, as it stands in an object: `Deployment`.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// The kind that a person means by a word: name, plural or short name, in any case.
    ///
    /// ```
    /// use seedpod::cluster::object::Kind;
    /// for word in ["deploy", "deployments", "Deployment", "deployment"] {
    ///     assert_eq!(Kind::find(word), Some(Kind::DEPLOYMENT));
    /// }
    /// ```
    pub fn find(word: &str) -> Option<&'static Kind> {
        let means = |name: &str| name.eq_ignore_ascii_case(word);
        KINDS.iter().find(|kind| means(kind.name) || means(kind.plural) || kind.short.iter().any(|short| means(short)))
    }

    /// The prefix of its objects' keys: `pods/`.
    pub fn prefix(&self) -> String {
        format!("{}/", self.plural)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Eq for Kind {}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_names_are_unique() {
        let mut words = std::collections::BTreeSet::new();
        for (index, kind) in Kind::all().iter().enumerate() {
            assert_eq!(kind.index, index);
            assert_eq!(Kind::named(kind.name), Some(kind));
            assert!(words.insert(kind.plural), "{kind}");
            assert!(kind.short.iter().all(|short| words.insert(short)), "{kind}");
        }
        assert_eq!(Kind::find("gadget"), None);
    }
}
