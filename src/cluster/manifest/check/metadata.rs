//! Metadata: labels, annotations, owners; selectors.

use super::{
    super::{mistake::Report, path::Path},
    names::Once,
};
use crate::{
    base::{Labels, name},
    cluster::object::{LabelSelector, Metadata},
};
use std::collections::BTreeMap;

/// All annotations of an object together may have this many bytes.
const ANNOTATION_BYTES: usize = 256 << 10;

pub(super) fn check(metadata: &Metadata, path: &Path<'_>, report: &mut Report<'_>) {
    labels(&metadata.labels, &path.key("labels"), report);
    annotations(&metadata.annotations, &path.key("annotations"), report);
    let owners = path.key("ownerReferences");
    let mut once = Once::new();
    for (index, owner) in metadata.owner_references.iter().enumerate() {
        let path = owners.index(index);
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            report.required(!value.is_empty(), &path.key(field));
        }
        once.check(&owner.uid, &path.key("uid"), report);
    }
    let controllers = metadata.owner_references.iter().filter(|owner| owner.controller == Some(true)).count();
    report.ensure(controllers < 2, &owners, "must name no more than one controller");
}

pub(super) fn labels(labels: &Labels, path: &Path<'_>, report: &mut Report<'_>) {
    for (key, value) in labels.iter() {
        let path = path.key(key);
        report.check(&path, name::check_key(key));
        report.check(&path, name::check_value(value));
    }
}

pub(super) fn annotations(annotations: &BTreeMap<String, String>, path: &Path<'_>, report: &mut Report<'_>) {
    for key in annotations.keys() {
        // prefixes of annotations may have capitals
        report.check(&path.key(key), name::check_key(&key.to_ascii_lowercase()));
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    report.ensure(
        bytes <= ANNOTATION_BYTES,
        path,
        &format!("have {bytes} bytes together, of at most {ANNOTATION_BYTES}"),
    );
}

pub(super) fn selector(selector: &LabelSelector, path: &Path<'_>, report: &mut Report<'_>) {
    labels(&selector.match_labels, &path.key("matchLabels"), report);
    let expressions = path.key("matchExpressions");
    for (index, asked) in selector.match_expressions.iter().enumerate() {
        let path = expressions.index(index);
        let operator = path.key("operator");
        if asked.key.is_empty() {
            report.required(false, &path.key("key"));
        } else {
            report.check(&path.key("key"), name::check_key(&asked.key));
        }
        report.required(report.has(&operator), &operator);
        if report.has(&operator) {
            let alone = LabelSelector { match_expressions: vec![asked.clone()], ..LabelSelector::default() };
            report.check(&path.key("values"), alone.selector().map(drop));
        }
        let values = path.key("values");
        for (index, value) in asked.values.iter().enumerate() {
            report.check(&values.index(index), name::check_value(value));
        }
    }
}
