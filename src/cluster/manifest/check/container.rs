//! Containers: image, ports, environment, resources, mounts.

use super::{
    super::{mistake::Report, path::Path},
    names::{self, Once},
    probe,
};
use crate::cluster::object::{Container, EnvVar, EnvVarSource, Protocol, ResourceRequirements, RestartPolicy};
use std::collections::BTreeSet;

/// The fields of a pod that a variable can come from; labels and annotations apart.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn check(container: &Container, volumes: &BTreeSet<&str>, path: &Path<'_>, report: &mut Report<'_>) {
    let image = path.key("image");
    report.required(!container.image.is_empty(), &image);
    report.ensure(container.image.trim() == container.image, &image, "must not begin or end with a blank");
    ports(container, &path.key("ports"), report);
    let env = path.key("env");
    for (index, of) in container.env.iter().enumerate() {
        variable(of, &env.index(index), report);
    }
    let env_from = path.key("envFrom");
    for (index, of) in container.env_from.iter().enumerate() {
        let path = env_from.index(index);
        let sources = [("configMapRef", &of.config_map_ref), ("secretRef", &of.secret_ref)];
        one_of(&sources.each_ref().map(|(name, source)| (*name, source.is_some())), &path, report);
        for (name, source) in sources {
            if let Some(source) = source {
                report.required(!source.name.is_empty(), &path.key(name).key("name"));
            }
        }
    }
    resources(&container.resources, &path.key("resources"), report);
    mounts(container, volumes, &path.key("volumeMounts"), report);
    probe::all(container, path, report);
}

/// What holds for init containers alone.
pub(super) fn initial(container: &Container, path: &Path<'_>, report: &mut Report<'_>) {
    let policy = container.restart_policy;
    let always = policy.is_none_or(|policy| policy == RestartPolicy::Always);
    report.ensure(always, &path.key("restartPolicy"), "must be Always, which makes it a sidecar, or absent");
    if !container.is_sidecar() {
        for (field, there) in [
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ] {
            let message = "must not be set: an init container that is no sidecar runs to its end";
            report.ensure(!there, &path.key(field), message);
        }
    }
}

/// That exactly one of several members is there.
pub(super) fn one_of(members: &[(&str, bool)], path: &Path<'_>, report: &mut Report<'_>) {
    let there: Vec<&str> = members.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    let all: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    match there.as_slice() {
        [_] => {}
        [] => report.add(path, format!("must have one of {}", all.join(", "))),
        several => report.add(path, format!("must have only one of {}", several.join(", "))),
    }
}

fn ports(container: &Container, path: &Path<'_>, report: &mut Report<'_>) {
    let (mut names, mut numbers) = (Once::new(), Once::new());
    for (index, port) in container.ports.iter().enumerate() {
        let path = path.index(index);
        names::port(port.container_port, &path.key("containerPort"), report);
        if !port.name.is_empty() {
            report.check(&path.key("name"), names::port_name(&port.name));
            names.check(&port.name, &path.key("name"), report);
        }
        if port.container_port > 0 {
            let protocol = port.protocol.unwrap_or(Protocol::TCP);
            numbers.check(format!("{}/{protocol}", port.container_port), &path.key("containerPort"), report);
        }
        if port.host_port != 0 {
            names::port(port.host_port, &path.key("hostPort"), report);
        }
    }
}

fn variable(variable: &EnvVar, path: &Path<'_>, report: &mut Report<'_>) {
    let name = path.key("name");
    report.required(!variable.name.is_empty(), &name);
    report.check(&name, names::variable(&variable.name));
    let Some(from) = &variable.value_from else { return };
    let from_path = path.key("valueFrom");
    let also = variable.value.as_ref().is_some_and(|value| !value.is_empty());
    report.ensure(!also, &from_path, "must not be set beside value");
    source(from, &from_path, report);
}

fn source(from: &EnvVarSource, path: &Path<'_>, report: &mut Report<'_>) {
    let members = [
        ("configMapKeyRef", from.config_map_key_ref.is_some()),
        ("secretKeyRef", from.secret_key_ref.is_some()),
        ("fieldRef", from.field_ref.is_some()),
        ("resourceFieldRef", from.resource_field_ref.is_some()),
    ];
    one_of(&members, path, report);
    for (name, source) in [("configMapKeyRef", &from.config_map_key_ref), ("secretKeyRef", &from.secret_key_ref)] {
        if let Some(source) = source {
            let path = path.key(name);
            report.required(!source.name.is_empty(), &path.key("name"));
            report.required(!source.key.is_empty(), &path.key("key"));
        }
    }
    if let Some(field) = from.field_ref.as_ref().map(|field| field.field_path.as_str()) {
        let path = path.key("fieldRef");
        let path = path.key("fieldPath");
        let keyed = ["metadata.labels['", "metadata.annotations['"];
        let known = FIELDS.contains(&field)
            || keyed.iter().any(|start| field.strip_prefix(start).is_some_and(|rest| rest.ends_with("']")));
        report.required(!field.is_empty(), &path);
        let kinds = "metadata.labels['…'] and metadata.annotations['…']";
        report.ensure(
            known || field.is_empty(),
            &path,
            &format!("is {field:?}, which is not known; known are {}, {kinds}", FIELDS.join(", ")),
        );
    }
    if let Some(resource) = &from.resource_field_ref {
        let path = path.key("resourceFieldRef");
        let known = ["limits.", "requests."].iter().any(|start| resource.resource.starts_with(start));
        report.ensure(known, &path.key("resource"), "must be limits.… or requests.…");
    }
}

fn resources(resources: &ResourceRequirements, path: &Path<'_>, report: &mut Report<'_>) {
    let (limits, requests) = (path.key("limits"), path.key("requests"));
    for (path, amounts) in [(&limits, &resources.limits), (&requests, &resources.requests)] {
        for (name, amount) in amounts {
            let message = format!("must not be negative, it is {amount}");
            report.ensure(!amount.is_negative(), &path.key(name), &message);
        }
    }
    for (name, request) in &resources.requests {
        if let Some(limit) = resources.limits.get(name)
            && request > limit
        {
            report.add(&requests.key(name), format!("is {request}, more than its limit of {limit}"));
        }
    }
}

fn mounts(container: &Container, volumes: &BTreeSet<&str>, path: &Path<'_>, report: &mut Report<'_>) {
    let mut once = Once::new();
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let path = path.index(index);
        let name = path.key("name");
        report.required(!mount.name.is_empty(), &name);
        if !mount.name.is_empty() && !volumes.contains(mount.name.as_str()) {
            report.add(&name, format!("is {:?}, which is no volume of the pod", mount.name));
        }
        let at = path.key("mountPath");
        report.required(!mount.mount_path.is_empty(), &at);
        report.ensure(!mount.mount_path.contains(':'), &at, "must not have ':' in it");
        if !mount.mount_path.is_empty() {
            once.check(&mount.mount_path, &at, report);
        }
        report.check(&path.key("subPath"), names::inner_path(&mount.sub_path));
    }
}
