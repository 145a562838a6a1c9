//! What a manifest says without effect: fields that are stored and not acted on.

use super::{
    limits,
    mistake::Placed,
    path::{Segment, Written},
    yaml::Tree,
};
use crate::cluster::object::{Json, Kind};
use std::{collections::BTreeSet, fmt};

/// A field of a manifest that is stored and not acted on, and where it stands: what Kubernetes' API warnings are for.
///
/// ```
/// use seedpod::cluster::manifest;
/// let text = "
/// apiVersion: v1
/// kind: Pod
/// metadata: {name: a}
/// spec:
///   dnsPolicy: ClusterFirst
///   containers:
///   - name: m
///     image: i
///     securityContext: {runAsNonRoot: true}
/// ";
/// let warnings = manifest::warnings(text)?;
/// assert_eq!(warnings.len(), 1, "what is said is the default, too: no warning");
/// assert_eq!(
///     warnings[0].to_string(),
///     "document 1, line 10: Pod a: spec.containers[0].securityContext: stored, not acted on"
/// );
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The document, counted from 1 without the empty ones; 0 where what was read was no text.
    pub document: usize,
    /// The line in the text, counted from 1; 0 where what was read was no text.
    pub line: usize,
    /// The object, by kind and name: `Deployment cart`.
    pub object: String,
    /// Where in the object: `spec.template.spec.containers[0].securityContext`.
    pub path: String,
    /// What is so: `stored, not acted on`, and perhaps what to do instead.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { document, line, object, path, message } = self;
        write!(f, "{}{path}: {message}", Placed { document: *document, line: *line, object })
    }
}

/// A field that is stored and not acted on: a row of [`INERT`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Inert {
    /// Whose field it is.
    pub of: Of,
    /// Where it stands: `[]` is every item, `*` any beginning of a name; what holds for containers holds for init
    /// containers.
    pub path: &'static str,
    /// The values that need no warning, since they are what is done anyway.
    pub unless: &'static [&'static str],
    /// What is so.
    pub message: &'static str,
}

/// Whose fields a row of [`INERT`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Every object.
    Object,
    /// The spec of a pod, or of a workload's template.
    Pod,
    /// A stateful set.
    StatefulSet,
    /// A service.
    Service,
    /// A service account.
    ServiceAccount,
    /// A node.
    Node,
}

/// What is said of a field that has no view and no row.
const STORED: &str = "stored, not acted on";

/// The table, and the same as text for its docs.
macro_rules! inert {
    ($($of:ident { $($path:literal $(unless $($value:literal)|+)? => $message:literal,)* })*) => {
        /// The fields that are stored and not acted on, and what is said of them where they are applied.
        ///
        /// Beside these, every field without a [view](crate::cluster::object::View) is stored and not acted on; a
        /// status is the cluster's to write and never warned of, nor is what is empty.
        ///
        /// | of | field | |
        /// | --- | --- | --- |
        #[doc = concat!($($(
            "| ", stringify!($of), " | `", $path, "`", $(" unless", $(" `", $value, "`",)+)? " | ", $message, " |\n",
        )*)*)]
        pub const INERT: &[Inert] = &[$($(
            Inert { of: Of::$of, path: $path, unless: &[$($($value),+)?], message: $message },
        )*)*];
    };
}

inert! {
    Object {
        "metadata.finalizers" => "stored, not acted on: nobody is waited for",
        "metadata.ownerReferences[].blockOwnerDeletion" => "stored, not acted on",
    }
    Pod {
        "activeDeadlineSeconds" => "stored, not acted on",
        "affinity" => "stored, not acted on: nodeSelector and topologySpreadConstraints are",
        "automountServiceAccountToken" unless "false" => "stored, not acted on: there is no token",
        "dnsPolicy" unless "ClusterFirst" => "stored, not acted on",
        "enableServiceLinks" unless "true" => "stored, not acted on",
        "priorityClassName" => "stored, not acted on",
        "schedulerName" unless "default-scheduler" => "stored, not acted on: there is one scheduler",
        "securityContext" => "stored, not acted on",
        "serviceAccountName" => "stored, not acted on: containers read it through the downward API alone",
        "tolerations[].tolerationSeconds" => "stored, not acted on: no pod is evicted",
        "topologySpreadConstraints[].minDomains" => "stored, not acted on",
        "volumes[].emptyDir.medium" => "stored, not acted on: it is in memory anyway",
        "volumes[].*.defaultMode" => "stored, not acted on",
        "volumes[].*.items[].mode" => "stored, not acted on",
        "containers[].imagePullPolicy" => "stored, not acted on: images are functions of this process",
        "containers[].ports[].hostPort" => "stored, not acted on",
        "containers[].resources.limits" => "stored, not enforced: the default of requests alone",
        "containers[].securityContext" => "stored, not acted on",
        "containers[].terminationMessagePath" unless "/dev/termination-log" => "stored, not acted on",
        "containers[].terminationMessagePolicy" unless "File" => "stored, not acted on",
        "containers[].volumeMounts[].subPath" => "stored, not acted on: the whole volume is mounted",
        "containers[].workingDir" => "stored, not acted on",
        "containers[].*Probe.httpGet.host" => "stored, not acted on: the pod itself is asked",
        "containers[].*Probe.httpGet.scheme" unless "HTTP" => "stored, not acted on: it is asked in the clear",
        "containers[].*Probe.tcpSocket.host" => "stored, not acted on: the pod itself is asked",
        "containers[].*Probe.terminationGracePeriodSeconds" => "stored, not acted on: the pod's own counts",
        "containers[].lifecycle.*.httpGet.host" => "stored, not acted on: the pod itself is asked",
        "containers[].lifecycle.*.httpGet.scheme" unless "HTTP" => "stored, not acted on: it is asked in the clear",
        "containers[].lifecycle.*.httpGet.httpHeaders" => "stored, not acted on",
        "containers[].lifecycle.*.tcpSocket" => "stored, fails when it is run, as in Kubernetes",
    }
    StatefulSet {
        "spec.ordinals.start" unless "0" => "stored, not acted on: numbers begin at 0",
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted" unless "Retain" => "stored, not acted on: claims are kept until their namespace goes",
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled" unless "Retain" => "stored, not acted on: claims are kept until their namespace goes",
        "spec.revisionHistoryLimit" unless "10" => "stored, not acted on: no old templates are kept",
        "spec.updateStrategy.rollingUpdate.maxUnavailable" unless "1" => "stored, not acted on: one at a time",
        "spec.updateStrategy.rollingUpdate.partition" unless "0" => "stored, not acted on: all pods are replaced",
        "spec.volumeClaimTemplates[].metadata.labels" => "stored, not acted on: claims are no objects",
        "spec.volumeClaimTemplates[].metadata.annotations" => "stored, not acted on: claims are no objects",
        "spec.volumeClaimTemplates[].spec.resources.limits" => "stored, not acted on: a volume holds what is requested",
    }
    Service {
        "spec.type" unless "ClusterIP" | "ExternalName" => "stored, not acted on: it is reached inside the cluster, and where it is exposed",
        "spec.sessionAffinity" unless "None" => "stored, not acted on",
        "spec.ports[].appProtocol" => "stored, not acted on",
        "spec.ports[].nodePort" => "stored, not acted on",
    }
    ServiceAccount {
        "automountServiceAccountToken" unless "false" => "stored, not acted on: there is no token",
    }
    Node {
        "spec.podCIDR" => "stored, not acted on",
        "spec.providerID" => "stored, not acted on",
    }
}

impl Of {
    /// Where in an object of this kind its rows begin; nowhere where they are not about it.
    fn begins(self, kind: &Kind) -> Option<&'static [&'static str]> {
        match self {
            Of::Object => Some(&[]),
            Of::Pod if kind == Kind::POD => Some(&["spec"]),
            Of::Pod if kind == Kind::DEPLOYMENT || kind == Kind::REPLICA_SET || kind == Kind::STATEFUL_SET => {
                Some(&["spec", "template", "spec"])
            }
            Of::StatefulSet if kind == Kind::STATEFUL_SET => Some(&[]),
            Of::Service if kind == Kind::SERVICE => Some(&[]),
            Of::ServiceAccount if kind == Kind::SERVICE_ACCOUNT => Some(&[]),
            Of::Node if kind == Kind::NODE => Some(&[]),
            _ => None,
        }
    }
}

/// The fields of an object, as it was given, that are not acted on: those of the table, and those that no view has.
pub(super) fn find(
    kind: &'static Kind,
    given: &Json<'_>,
    unseen: &[Vec<Segment>],
) -> Vec<(Vec<Segment>, &'static str)> {
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    for row in INERT {
        let Some(begins) = row.of.begins(kind) else { continue };
        let steps: Vec<&str> = begins.iter().copied().chain(row.path.split('.')).collect();
        walk(given, &steps, &mut Vec::new(), &mut |path, value| {
            let expected = row.unless.iter().any(|expected| means(value, expected));
            if known.insert(Written(path).to_string()) && !expected && !is_empty(value) {
                found.push((path.to_vec(), row.message));
            }
            found.len() < limits::WARNINGS
        });
    }
    for path in unseen {
        let value = path.iter().try_fold(given, |json, segment| match segment {
            Segment::Key(key) => json.get(key),
            Segment::Index(index) => json.as_array()?.get(*index),
        });
        if !value.is_none_or(is_empty) && !known.contains(&Written(path).to_string()) {
            found.push((path.clone(), STORED));
        }
    }
    found.truncate(limits::WARNINGS);
    found
}

/// Visits what stands at these steps, until the visitor has enough; whether it has not.
fn walk(
    json: &Json<'_>,
    steps: &[&str],
    path: &mut Vec<Segment>,
    visit: &mut impl FnMut(&[Segment], &Json<'_>) -> bool,
) -> bool {
    let Some((step, rest)) = steps.split_first() else { return visit(path, json) };
    let (name, each) = step.strip_suffix("[]").map_or((*step, false), |name| (name, true));
    for (key, value) in json.as_object().into_iter().flat_map(|members| members.iter()) {
        let matches = match name.strip_prefix('*') {
            Some(end) => key.ends_with(end),
            None => *key == *name || (name == "containers" && *key == *"initContainers"),
        };
        if !matches {
            continue;
        }
        path.push(Segment::Key(key.to_string()));
        let mut more = each || walk(value, rest, path, visit);
        for (index, item) in value.as_array().into_iter().flatten().enumerate().take_while(|_| each) {
            path.push(Segment::Index(index));
            more = more && walk(item, rest, path, visit);
            path.pop();
        }
        path.pop();
        if !more {
            return false;
        }
    }
    true
}

fn means(value: &Json<'_>, expected: &str) -> bool {
    match value {
        Json::String(text) | Json::Number(text) => text == expected,
        Json::Bool(value) => expected == if *value { "true" } else { "false" },
        _ => false,
    }
}

fn is_empty(value: &Json<'_>) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// The warnings for what was found, in the order of their lines.
pub(super) fn warnings(
    found: Vec<(Vec<Segment>, &'static str)>,
    document: usize,
    within: &[Segment],
    tree: &Tree,
    object: &str,
) -> Vec<Warning> {
    let mut warnings: Vec<_> = (found.into_iter())
        .map(|(path, message)| Warning {
            document,
            line: tree.line_of(&path),
            object: object.into(),
            path: Written(&[within, &path].concat()).to_string(),
            message: message.into(),
        })
        .collect();
    warnings.sort_by_key(|warning| warning.line);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: &'static Kind, json: &str, unseen: &[Vec<Segment>]) -> Vec<String> {
        let found = find(kind, &Json::read(json).unwrap(), unseen);
        found.into_iter().map(|(path, _)| Written(&path).to_string()).collect()
    }

    #[test]
    fn rows_match_items_wildcards_and_init_containers() {
        let pod = r#"{"initContainers":[{"workingDir":"/"}],"containers":[{},{"livenessProbe":{"httpGet":{"host":"h","scheme":"HTTP"}},
            "readinessProbe":{"httpGet":{"scheme":"HTTPS"}},"lifecycle":{"preStop":{"httpGet":{"httpHeaders":[]}}}}]}"#;
        let expected = |prefix: &str| {
            [
                "initContainers[0].workingDir",
                "containers[1].livenessProbe.httpGet.host",
                "containers[1].readinessProbe.httpGet.scheme",
            ]
            .map(|path| format!("{prefix}{path}"))
        };
        assert_eq!(found(Kind::POD, &format!(r#"{{"spec":{pod}}}"#), &[]), expected("spec."));
        let deployment = format!(r#"{{"spec":{{"template":{{"spec":{pod}}}}}}}"#);
        assert_eq!(found(Kind::DEPLOYMENT, &deployment, &[]), expected("spec.template.spec."));
        assert_eq!(found(Kind::SERVICE, &deployment, &[]), [""; 0]);
    }

    #[test]
    fn what_no_view_has_is_found_once() {
        let key = |key: &str| Segment::Key(key.into());
        let unseen =
            [vec![key("spec"), key("affinity")], vec![key("spec"), key("odd")], vec![key("spec"), key("dnsPolicy")]];
        let pod = r#"{"spec":{"affinity":{"a":1},"odd":1,"dnsPolicy":"ClusterFirst"}}"#;
        assert_eq!(found(Kind::POD, pod, &unseen), ["spec.affinity", "spec.odd"]);
        assert_eq!(found(Kind::POD, r#"{"spec":{"affinity":{},"odd":[]}}"#, &unseen), [""; 0]);
        let ports: Vec<_> = (0..1000).map(|port| format!(r#"{{"nodePort":{port}}}"#)).collect();
        let service = format!(r#"{{"spec":{{"ports":[{}]}}}}"#, ports.join(","));
        assert_eq!(found(Kind::SERVICE, &service, &[]).len(), limits::WARNINGS);
    }
}
