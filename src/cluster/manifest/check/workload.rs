//! Deployments, replica sets and stateful sets.

use super::{
    super::{mistake::Report, path::Path},
    metadata,
    names::{Once, not_negative},
    pod,
};
use crate::{
    base::name,
    cluster::object::{
        ClaimTemplate, DeploymentSpec, IntOrString, LabelSelector, PodTemplate, ReplicaSetSpec, RestartPolicy,
        StatefulSetSpec, StrategyType,
    },
};

pub(super) fn deployment(spec: &DeploymentSpec, path: &Path<'_>, report: &mut Report<'_>) {
    common(spec.replicas(), spec.min_ready_seconds, &spec.selector, &spec.template, &[], path, report);
    not_negative(spec.revision_history_limit.unwrap_or(0), &path.key("revisionHistoryLimit"), report);
    let deadline = path.key("progressDeadlineSeconds");
    let later = spec.progress_deadline_seconds.is_none_or(|seconds| seconds > spec.min_ready_seconds);
    report.ensure(later, &deadline, "must be greater than minReadySeconds");
    let strategy = path.key("strategy");
    let rolling = strategy.key("rollingUpdate");
    if spec.strategy.type_ == StrategyType::Recreate {
        report.ensure(spec.strategy.rolling_update.is_none(), &rolling, "must not be set with the type Recreate");
    } else if let Some(bounds) = &spec.strategy.rolling_update {
        let surge = bound(bounds.max_surge.as_ref(), i32::MAX, &rolling.key("maxSurge"), report);
        let missing = bound(bounds.max_unavailable.as_ref(), 100, &rolling.key("maxUnavailable"), report);
        let stuck = surge == Some(0) && missing == Some(0);
        report.ensure(!stuck, &rolling, "must not have both maxSurge and maxUnavailable 0: nothing could move");
    }
}

pub(super) fn replica_set(spec: &ReplicaSetSpec, path: &Path<'_>, report: &mut Report<'_>) {
    common(spec.replicas(), spec.min_ready_seconds, &spec.selector, &spec.template, &[], path, report);
}

pub(super) fn stateful_set(spec: &StatefulSetSpec, path: &Path<'_>, report: &mut Report<'_>) {
    let claims = &spec.volume_claim_templates;
    common(spec.replicas(), spec.min_ready_seconds, &spec.selector, &spec.template, claims, path, report);
    let (claims_path, mut once) = (path.key("volumeClaimTemplates"), Once::new());
    for (index, claim) in claims.iter().enumerate() {
        self::claim(claim, &claims_path.index(index), &mut once, report);
    }
    if !spec.service_name.is_empty() {
        report.check(&path.key("serviceName"), name::check_label(&spec.service_name));
    }
}

fn claim<'a>(claim: &'a ClaimTemplate, path: &Path<'_>, once: &mut Once<&'a str>, report: &mut Report<'_>) {
    let (metadata, spec) = (path.key("metadata"), path.key("spec"));
    let (resources, name) = (spec.key("resources"), metadata.key("name"));
    if claim.metadata.name.is_empty() {
        report.required(false, &name);
    } else {
        report.check(&name, name::check_label(&claim.metadata.name));
        once.check(&claim.metadata.name, &name, report);
    }
    if let Some(size) = claim.spec.resources.requests.get("storage") {
        let message = format!("must not be negative, it is {size}");
        report.ensure(!size.is_negative(), &resources.key("requests").key("storage"), &message);
    }
}

/// A bound of a rollout, as a number or as per cent; `None` where it is wrong.
fn bound(bound: Option<&IntOrString>, most_percent: i32, path: &Path<'_>, report: &mut Report<'_>) -> Option<i32> {
    let number = match bound? {
        IntOrString::Int(number) => {
            not_negative(*number, path, report);
            *number
        }
        // of a hundred, the share is the per cent
        share => match share.of(100, true) {
            Ok(percent) => {
                report.ensure(percent <= most_percent, path, &format!("must be at most {most_percent}%"));
                percent
            }
            Err(error) => {
                report.check(path, Err(error));
                return None;
            }
        },
    };
    Some(number)
}

fn common(
    replicas: i32,
    min_ready: i32,
    selector: &LabelSelector,
    template: &PodTemplate,
    claims: &[ClaimTemplate],
    path: &Path<'_>,
    report: &mut Report<'_>,
) {
    not_negative(replicas, &path.key("replicas"), report);
    not_negative(min_ready, &path.key("minReadySeconds"), report);
    let (selector_path, template_path) = (path.key("selector"), path.key("template"));
    let metadata_path = template_path.key("metadata");
    if selector.is_empty() {
        report.required(false, &selector_path);
    } else {
        metadata::selector(selector, &selector_path, report);
        if let Ok(matcher) = selector.selector()
            && report.has(&template_path)
            && !matcher.matches(&template.metadata.labels)
        {
            let labels = match template.metadata.labels.to_string() {
                none if none.is_empty() => "the template has none".to_string(),
                some => format!("the template has {some}"),
            };
            report.add(&metadata_path.key("labels"), format!("must match the selector {matcher}, but {labels}"));
        }
    }
    if !report.has(&template_path) {
        return report.required(false, &template_path);
    }
    metadata::labels(&template.metadata.labels, &metadata_path.key("labels"), report);
    metadata::annotations(&template.metadata.annotations, &metadata_path.key("annotations"), report);
    let spec_path = template_path.key("spec");
    if !report.has(&spec_path) {
        return report.required(false, &spec_path);
    }
    pod::check(&template.spec, claims.iter().map(|claim| &*claim.metadata.name), &spec_path, report);
    let always = template.spec.restart_policy.is_none_or(|policy| policy == RestartPolicy::Always);
    report.ensure(always, &spec_path.key("restartPolicy"), "must be Always: a workload keeps its pods running");
}
