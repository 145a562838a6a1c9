//! What must not change when an object is applied again.

use super::super::{
    mistake::{Mistakes, Report},
    path::Path,
    yaml::Tree,
};
use crate::{
    base::Result,
    cluster::object::{Json, Kind, Object},
};

/// Checks that an object may take the place of another of its key: what Kubernetes holds to be immutable is unchanged.
///
/// That is the selector of a Deployment or ReplicaSet; a pod's spec, its images, deadline and tolerations apart; a
/// service's address once it has one; a secret's type; an endpoint slice's address type; and the data of a ConfigMap or
/// Secret that says `immutable: true`.
///
/// ```
/// use seedpod::cluster::{manifest, object::{Json, Object}};
/// let old = Object::read(r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "Opaque"}"#)?;
/// let new = old.patch(Json::read(r#"{"type": "kubernetes.io/tls"}"#)?)?;
/// let error = manifest::check_update(&old, &new).unwrap_err();
/// assert_eq!(error.to_string(), "invalid: 1 mistake\nSecret a: type cannot change");
/// # Ok::<(), seedpod::Error>(())
/// ```
///
/// # Errors
/// [`Invalid`](crate::base::Kind::Invalid), listing all that changed and must not; [`Mistakes`] is its source.
pub fn check_update(old: &Object, new: &Object) -> Result {
    let (before, after) = (old.json()?, new.json()?);
    let mut report = Report::new(&after);
    let root = Path::ROOT;
    let spec = root.key("spec");
    let mut fixed = |path: &Path<'_>, members: &[&str], set_once: bool| {
        let (one, other) = (before.at(members), after.at(members));
        let first = set_once && one.is_none_or(|value| value.as_str() == Some(""));
        report.ensure(first || one == other, path, "cannot change");
    };
    match new.kind() {
        kind if kind == Kind::DEPLOYMENT || kind == Kind::REPLICA_SET => {
            fixed(&spec.key("selector"), &["spec", "selector"], false);
        }
        kind if kind == Kind::STATEFUL_SET => {
            for member in ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"] {
                fixed(&spec.key(member), &["spec", member], false);
            }
        }
        kind if kind == Kind::SERVICE && !given_up(&after) => {
            fixed(&spec.key("clusterIP"), &["spec", "clusterIP"], true);
        }
        kind if kind == Kind::SECRET => fixed(&root.key("type"), &["type"], false),
        kind if kind == Kind::ENDPOINT_SLICE => fixed(&root.key("addressType"), &["addressType"], false),
        kind if kind == Kind::POD && !same_pod(&before, &after) => {
            let message =
                "cannot change, but for images, activeDeadlineSeconds, terminationGracePeriodSeconds and tolerations";
            report.add(&spec, message);
        }
        _ => {}
    }
    if before.get("immutable") == Some(&Json::Bool(true)) {
        for member in ["immutable", "data", "binaryData"] {
            report.ensure(before.get(member) == after.get(member), &root.key(member), "cannot change: it is immutable");
        }
    }
    let mut mistakes = Mistakes::default();
    report.end(0, &[], &Tree::without_lines(), &format!("{} {}", new.kind(), new.name()), &mut mistakes);
    mistakes.end()
}

/// Whether a service becomes another name for something outside, and so gives up its address.
fn given_up(service: &Json<'_>) -> bool {
    service.at(&["spec", "type"]).and_then(Json::as_str) == Some("ExternalName")
}

fn same_pod(before: &Json<'static>, after: &Json<'static>) -> bool {
    let fixed = |pod: &Json<'static>| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        if let Json::Object(members) = &mut spec {
            for free in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations"] {
                members.remove(free);
            }
            for list in ["containers", "initContainers"] {
                for container in members.get_mut(list).and_then(Json::as_array_mut).into_iter().flatten() {
                    container.as_object_mut().map(|container| container.remove("image"));
                }
            }
            // a binding sets the node once
            if before.at(&["spec", "nodeName"]).is_none() {
                members.remove("nodeName");
            }
        }
        spec
    };
    fixed(before) == fixed(after)
}
