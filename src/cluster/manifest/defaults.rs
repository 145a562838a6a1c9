//! Defaults: what Kubernetes fills in where nothing is said, for the fields that are acted on here.

use crate::cluster::object::{Json, Kind, Members, Quantity};

/// Fills in the defaults of an object whose values have the right types.
pub(super) fn fill(kind: &'static Kind, object: &mut Json<'static>) {
    let Json::Object(object) = object else { return };
    if kind.namespaced
        && let Json::Object(metadata) = object.or_insert("metadata", Members::new())
    {
        metadata.or_insert("namespace", "default");
    }
    match kind {
        kind if kind == Kind::POD => within(object, "spec", pod),
        kind if kind == Kind::DEPLOYMENT => within(object, "spec", deployment),
        kind if kind == Kind::REPLICA_SET => within(object, "spec", replica_set),
        kind if kind == Kind::STATEFUL_SET => within(object, "spec", stateful_set),
        kind if kind == Kind::SERVICE => within(object, "spec", service),
        kind if kind == Kind::SECRET => secret(object),
        kind if kind == Kind::ENDPOINT_SLICE => each(object, "ports", |port| {
            port.or_insert("name", "");
            port.or_insert("protocol", "TCP");
        }),
        kind if kind == Kind::NODE => within(object, "status", |status| {
            canonical(status, "capacity");
            let capacity = status.get("capacity").cloned();
            if let Some(capacity) = capacity {
                status.or_insert("allocatable", capacity);
            }
            canonical(status, "allocatable");
        }),
        kind if kind == Kind::NAMESPACE => within(object, "metadata", |metadata| {
            let name = metadata.get("name").cloned().unwrap_or_default();
            if let Json::Object(labels) = metadata.or_insert("labels", Members::new()) {
                labels.insert("kubernetes.io/metadata.name", name);
            }
        }),
        _ => {}
    }
}

fn within(object: &mut Members<'static>, member: &str, fill: impl FnOnce(&mut Members<'static>)) {
    if let Some(Json::Object(members)) = object.get_mut(member) {
        fill(members);
    }
}

fn each(object: &mut Members<'static>, member: &str, fill: impl Fn(&mut Members<'static>)) {
    if let Some(Json::Array(items)) = object.get_mut(member) {
        items.iter_mut().filter_map(Json::as_object_mut).for_each(fill);
    }
}

fn deployment(spec: &mut Members<'static>) {
    spec.or_insert("revisionHistoryLimit", 10);
    spec.or_insert("progressDeadlineSeconds", 600);
    if let Json::Object(strategy) = spec.or_insert("strategy", Members::new())
        && strategy.or_insert("type", "RollingUpdate").as_str() == Some("RollingUpdate")
        && let Json::Object(rolling) = strategy.or_insert("rollingUpdate", Members::new())
    {
        rolling.or_insert("maxSurge", "25%");
        rolling.or_insert("maxUnavailable", "25%");
    }
    replica_set(spec);
}

fn replica_set(spec: &mut Members<'static>) {
    spec.or_insert("replicas", 1);
    within(spec, "template", |template| within(template, "spec", pod));
}

fn stateful_set(spec: &mut Members<'static>) {
    spec.or_insert("podManagementPolicy", "OrderedReady");
    spec.or_insert("revisionHistoryLimit", 10);
    if let Json::Object(strategy) = spec.or_insert("updateStrategy", Members::new())
        && strategy.or_insert("type", "RollingUpdate").as_str() == Some("RollingUpdate")
        && let Json::Object(rolling) = strategy.or_insert("rollingUpdate", Members::new())
    {
        rolling.or_insert("partition", 0);
    }
    replica_set(spec);
}

fn pod(spec: &mut Members<'static>) {
    spec.or_insert("restartPolicy", "Always");
    spec.or_insert("terminationGracePeriodSeconds", 30);
    each(spec, "volumes", volume);
    each(spec, "initContainers", container);
    each(spec, "containers", container);
}

fn volume(volume: &mut Members<'static>) {
    if volume.len() == usize::from(volume.get("name").is_some()) {
        volume.insert("emptyDir", Members::new());
    }
    for source in ["configMap", "secret"] {
        within(volume, source, |source| {
            source.or_insert("defaultMode", 0o644);
        });
    }
}

fn container(container: &mut Members<'static>) {
    let policy = match container.get("image").and_then(Json::as_str) {
        Some(image) if !image.contains('@') && (image.ends_with(":latest") || !has_tag(image)) => "Always",
        _ => "IfNotPresent",
    };
    container.or_insert("imagePullPolicy", policy);
    each(container, "ports", |port| {
        port.or_insert("protocol", "TCP");
    });
    within(container, "resources", resources);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for name in ["postStart", "preStop"] {
            within(lifecycle, name, |handler| within(handler, "httpGet", http_get));
        }
    });
}

/// Whether a tag stands behind the last slash, where a colon is no port.
fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|name| name.contains(':'))
}

/// What is limited but not asked for is asked for in full.
fn resources(resources: &mut Members<'static>) {
    canonical(resources, "limits");
    canonical(resources, "requests");
    let limits = resources.get("limits").and_then(Json::as_object).cloned().unwrap_or_default();
    if !limits.is_empty()
        && let Json::Object(requests) = resources.or_insert("requests", Members::new())
    {
        for (name, limit) in limits {
            if requests.get(&name).is_none() {
                requests.insert(name, limit);
            }
        }
    }
}

/// Amounts are kept in their canonical text, as Kubernetes keeps them.
fn canonical(object: &mut Members<'static>, member: &str) {
    within(object, member, |amounts| {
        for (_, amount) in amounts.iter_mut() {
            let text = match amount {
                Json::String(text) | Json::Number(text) => text.parse::<Quantity>(),
                _ => continue,
            };
            if let Ok(quantity) = text {
                *amount = quantity.to_string().into();
            }
        }
    });
}

/// As in Kubernetes, 0 counts as nothing said.
fn probe(probe: &mut Members<'static>) {
    for (name, default) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe.get(name).is_some_and(|value| *value == Json::from(0)) {
            probe.remove(name);
        }
        probe.or_insert(name, default);
    }
    within(probe, "httpGet", http_get);
    within(probe, "grpc", |grpc| {
        grpc.or_insert("service", "");
    });
}

fn http_get(action: &mut Members<'static>) {
    action.or_insert("path", "/");
    action.or_insert("scheme", "HTTP");
}

fn service(spec: &mut Members<'static>) {
    let kind = spec.or_insert("type", "ClusterIP").as_str().map(String::from);
    spec.or_insert("sessionAffinity", "None");
    each(spec, "ports", |port| {
        port.or_insert("protocol", "TCP");
        let number = port.get("port").cloned();
        if let (Some(number), true) = (number, kind.as_deref() != Some("ExternalName")) {
            port.or_insert("targetPort", number);
        }
    });
}

/// Texts join the bytes, in base64.
fn secret(object: &mut Members<'static>) {
    object.or_insert("type", "Opaque");
    if let Some(Json::Object(texts)) = object.remove("stringData")
        && let Json::Object(data) = object.or_insert("data", Members::new())
    {
        for (key, text) in texts {
            let text = text.as_str().map(crate::cluster::object::Sensitive::from).unwrap_or_default();
            data.insert(key, text.to_base64());
        }
    }
}
