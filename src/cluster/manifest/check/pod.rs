//! Pods: volumes, placement, time.

use super::{
    super::{mistake::Report, path::Path},
    container, metadata,
    names::{self, Once},
};
use crate::{
    base::name,
    cluster::object::{Json, KeyToPath, PodSpec, Toleration, TolerationOperator, TopologySpreadConstraint, Volume},
};
use std::collections::BTreeSet;

/// The volume types that are acted on.
const VOLUME_TYPES: [&str; 3] = ["emptyDir", "configMap", "secret"];

/// Containers may mount what is there besides the pod's own volumes, too.
pub(super) fn check<'a>(
    pod: &'a PodSpec,
    besides: impl IntoIterator<Item = &'a str>,
    path: &Path<'_>,
    report: &mut Report<'_>,
) {
    let mut volumes = volumes(pod, &path.key("volumes"), report);
    volumes.extend(besides);
    let (init, main) = (path.key("initContainers"), path.key("containers"));
    report.ensure(!pod.containers.is_empty(), &main, "must have at least one container");
    let mut once = Once::new();
    for (index, of) in pod.init_containers.iter().enumerate() {
        let path = init.index(index);
        container::check(of, &volumes, &path, report);
        container::initial(of, &path, report);
        container_name(&of.name, &path, &mut once, report);
    }
    for (index, of) in pod.containers.iter().enumerate() {
        let path = main.index(index);
        container::check(of, &volumes, &path, report);
        report.ensure(of.restart_policy.is_none(), &path.key("restartPolicy"), "is for init containers alone");
        container_name(&of.name, &path, &mut once, report);
    }
    let grace = path.key("terminationGracePeriodSeconds");
    names::not_negative(pod.termination_grace_period_seconds.unwrap_or(0), &grace, report);
    let active = path.key("activeDeadlineSeconds");
    report.ensure(pod.active_deadline_seconds.is_none_or(|seconds| seconds > 0), &active, "must be at least 1");
    metadata::labels(&pod.node_selector, &path.key("nodeSelector"), report);
    let tolerations = path.key("tolerations");
    for (index, of) in pod.tolerations.iter().enumerate() {
        toleration(of, &tolerations.index(index), report);
    }
    let spread = path.key("topologySpreadConstraints");
    let mut once = Once::new();
    for (index, of) in pod.topology_spread_constraints.iter().enumerate() {
        let path = spread.index(index);
        constraint(of, &path, report);
        once.check(format!("{} {}", of.topology_key, of.when_unsatisfiable), &path, report);
    }
    for (field, text) in [("hostname", &pod.hostname), ("subdomain", &pod.subdomain)] {
        if !text.is_empty() {
            report.check(&path.key(field), name::check_label(text));
        }
    }
    if !pod.service_account_name.is_empty() {
        report.check(&path.key("serviceAccountName"), name::check_subdomain(&pod.service_account_name));
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        let path = path.key(field);
        let asked = report.value(&path).is_some_and(|value| *value == Json::Bool(true));
        report.ensure(!asked, &path, "is not supported: pods share nothing with their node");
    }
}

fn container_name(name: &str, path: &Path<'_>, once: &mut Once<String>, report: &mut Report<'_>) {
    if name.is_empty() {
        report.required(false, &path.key("name"));
    } else {
        report.check(&path.key("name"), name::check_label(name));
        once.check(name.into(), &path.key("name"), report);
    }
}

fn volumes<'a>(pod: &'a PodSpec, path: &Path<'_>, report: &mut Report<'_>) -> BTreeSet<&'a str> {
    let mut once = Once::new();
    for (index, volume) in pod.volumes.iter().enumerate() {
        let path = path.index(index);
        if volume.name.is_empty() {
            report.required(false, &path.key("name"));
        } else {
            report.check(&path.key("name"), name::check_label(&volume.name));
            once.check(&volume.name, &path.key("name"), report);
        }
        source(volume, &path, report);
    }
    pod.volumes.iter().map(|volume| volume.name.as_str()).collect()
}

fn source(volume: &Volume, path: &Path<'_>, report: &mut Report<'_>) {
    let members = report.value(path).and_then(Json::as_object).into_iter().flat_map(|members| members.iter());
    let types: Vec<&str> = members.map(|(key, _)| key).filter(|key| *key != "name").collect();
    if types.len() > 1 {
        report.add(path, format!("must have one type, not {}: {}", types.len(), types.join(", ")));
    }
    for unknown in types.iter().filter(|known| !VOLUME_TYPES.contains(known)) {
        report.add(&path.key(unknown), format!("is not supported; supported are {}", VOLUME_TYPES.join(", ")));
    }
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit) {
        let path = path.key("emptyDir");
        report.ensure(!limit.is_negative(), &path.key("sizeLimit"), "must not be negative");
    }
    if let Some(source) = &volume.config_map {
        let path = path.key("configMap");
        report.required(!source.name.is_empty(), &path.key("name"));
        files(&source.items, source.default_mode, &path, report);
    }
    if let Some(source) = &volume.secret {
        let path = path.key("secret");
        report.required(!source.secret_name.is_empty(), &path.key("secretName"));
        files(&source.items, source.default_mode, &path, report);
    }
}

fn files(items: &[KeyToPath], mode: Option<i32>, path: &Path<'_>, report: &mut Report<'_>) {
    const MODE: &str = "must be between 0 and 0777";
    let good = |mode: Option<i32>| mode.is_none_or(|mode| (0..=0o777).contains(&mode));
    report.ensure(good(mode), &path.key("defaultMode"), MODE);
    let list = path.key("items");
    for (index, item) in items.iter().enumerate() {
        let path = list.index(index);
        report.required(!item.key.is_empty(), &path.key("key"));
        report.required(!item.path.is_empty(), &path.key("path"));
        report.check(&path.key("path"), names::inner_path(&item.path));
        report.ensure(good(item.mode), &path.key("mode"), MODE);
    }
}

fn toleration(toleration: &Toleration, path: &Path<'_>, report: &mut Report<'_>) {
    let exists = toleration.operator == Some(TolerationOperator::Exists);
    if toleration.key.is_empty() {
        report.ensure(exists, &path.key("operator"), "must be Exists where there is no key");
    } else {
        report.check(&path.key("key"), name::check_key(&toleration.key));
    }
    report.ensure(!exists || toleration.value.is_empty(), &path.key("value"), "must not be set with Exists");
    report.check(&path.key("value"), name::check_value(&toleration.value));
    let timed = toleration.toleration_seconds.is_some();
    let evicts = toleration.effect == Some(crate::cluster::object::TaintEffect::NoExecute);
    report.ensure(!timed || evicts, &path.key("effect"), "must be NoExecute where tolerationSeconds is set");
}

fn constraint(constraint: &TopologySpreadConstraint, path: &Path<'_>, report: &mut Report<'_>) {
    report.ensure(constraint.max_skew > 0, &path.key("maxSkew"), "must be at least 1");
    if constraint.topology_key.is_empty() {
        report.required(false, &path.key("topologyKey"));
    } else {
        report.check(&path.key("topologyKey"), name::check_key(&constraint.topology_key));
    }
    let unsatisfiable = path.key("whenUnsatisfiable");
    report.required(report.has(&unsatisfiable), &unsatisfiable);
    report.ensure(constraint.min_domains.is_none_or(|count| count > 0), &path.key("minDomains"), "must be at least 1");
    if let Some(of) = &constraint.label_selector {
        metadata::selector(of, &path.key("labelSelector"), report);
    }
}
