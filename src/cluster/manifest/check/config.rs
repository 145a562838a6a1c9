//! Config maps, secrets, nodes, events.

use super::{
    super::{mistake::Report, path::Path},
    names::{self, Once},
};
use crate::{
    base::name,
    cluster::object::{ConfigMap, Event, Json, NodeSpec, NodeStatus, Object, Secret},
};

/// All values of one object together may have this many bytes.
const DATA_BYTES: usize = 1 << 20;

pub(super) fn config_map(map: &ConfigMap, report: &mut Report<'_>) {
    let (data, binary) = (Path::ROOT.key("data"), Path::ROOT.key("binaryData"));
    map.data.keys().for_each(|key| report.check(&data.key(key), names::data_key(key)));
    for key in map.binary_data.keys() {
        report.check(&binary.key(key), names::data_key(key));
        report.ensure(!map.data.contains_key(key), &binary.key(key), "stands in data, too");
    }
    let texts: usize = map.data.values().map(String::len).sum();
    size(texts + map.binary_data.values().map(|bytes| bytes.len()).sum::<usize>(), report);
}

pub(super) fn secret(secret: &Secret, report: &mut Report<'_>) {
    let (data, texts) = (Path::ROOT.key("data"), Path::ROOT.key("stringData"));
    for key in secret.data.keys() {
        let given_as_text = report.has(&texts.key(key));
        let path = if given_as_text { texts.key(key) } else { data.key(key) };
        report.check(&path, names::data_key(key));
    }
    let needed: &[&str] = match secret.type_.as_str() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in needed {
        report.ensure(
            secret.data.contains_key(*key),
            &data.key(key),
            &format!("is required by the type {}", secret.type_),
        );
    }
    size(secret.data.values().map(|bytes| bytes.len()).sum(), report);
}

fn size(bytes: usize, report: &mut Report<'_>) {
    let message = format!("the values have {bytes} bytes together, of at most {DATA_BYTES}");
    report.ensure(bytes <= DATA_BYTES, &Path::ROOT, &message);
}

pub(super) fn node(spec: &NodeSpec, path: &Path<'_>, report: &mut Report<'_>) {
    let taints = path.key("taints");
    let mut once = Once::new();
    for (index, taint) in spec.taints.iter().enumerate() {
        let path = taints.index(index);
        if taint.key.is_empty() {
            report.required(false, &path.key("key"));
        } else {
            report.check(&path.key("key"), name::check_key(&taint.key));
        }
        report.check(&path.key("value"), name::check_value(&taint.value));
        report.required(report.has(&path.key("effect")), &path.key("effect"));
        once.check(format!("{} {}", taint.key, taint.effect), &path, report);
    }
}

pub(super) fn node_status(status: &NodeStatus, path: &Path<'_>, report: &mut Report<'_>) {
    for (member, amounts) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        let path = path.key(member);
        for (name, amount) in amounts {
            let message = format!("must not be negative, it is {amount}");
            report.ensure(!amount.is_negative(), &path.key(name), &message);
        }
    }
    for (name, amount) in &status.allocatable {
        if let Some(capacity) = status.capacity.get(name)
            && amount > capacity
        {
            let path = path.key("allocatable");
            report.add(&path.key(name), format!("is {amount}, more than the capacity of {capacity}"));
        }
    }
}

pub(super) fn event(event: &Event, object: &Object, report: &mut Report<'_>) {
    let path = Path::ROOT.key("involvedObject");
    report.required(report.value(&path).and_then(Json::as_object).is_some(), &path);
    let elsewhere =
        !event.involved_object.namespace.is_empty() && event.involved_object.namespace != object.namespace();
    report.ensure(!elsewhere, &path.key("namespace"), "must be the event's own namespace");
}
