//! Checks: what Kubernetes' API server refuses, for the fields that are acted on here.

mod config;
mod container;
mod metadata;
mod names;
mod pod;
mod probe;
mod service;
mod update;
mod workload;

pub use update::check_update;

use super::{mistake::Report, path::Path};
use crate::cluster::object::{Kind, Object, PodSpec, View};

/// The kinds that mean nothing without a spec.
const NEED_SPEC: [&Kind; 5] = [Kind::POD, Kind::DEPLOYMENT, Kind::REPLICA_SET, Kind::STATEFUL_SET, Kind::SERVICE];

/// Checks an object whose values have the right types and whose defaults are filled in.
pub(super) fn object(object: &Object, report: &mut Report<'_>) {
    metadata::check(object.metadata(), &Path::ROOT.key("metadata"), report);
    let spec = Path::ROOT.key("spec");
    if NEED_SPEC.contains(&object.kind()) && !report.has(&spec) {
        return report.required(false, &spec);
    }
    match object.kind() {
        kind if kind == Kind::POD => {
            view(object, report, |of: &PodSpec, report| pod::check(of, [], &spec, report));
        }
        kind if kind == Kind::DEPLOYMENT => {
            view(object, report, |of, report| workload::deployment(of, &spec, report));
        }
        kind if kind == Kind::REPLICA_SET => {
            view(object, report, |of, report| workload::replica_set(of, &spec, report));
        }
        kind if kind == Kind::STATEFUL_SET => {
            view(object, report, |of, report| workload::stateful_set(of, &spec, report));
        }
        kind if kind == Kind::SERVICE => {
            view(object, report, |of, report| service::check(of, &spec, report));
        }
        kind if kind == Kind::ENDPOINT_SLICE => view(object, report, service::endpoints),
        kind if kind == Kind::CONFIG_MAP => view(object, report, config::config_map),
        kind if kind == Kind::SECRET => view(object, report, config::secret),
        kind if kind == Kind::NODE => {
            view(object, report, |of, report| config::node(of, &spec, report));
            view(object, report, |of, report| config::node_status(of, &Path::ROOT.key("status"), report));
        }
        kind if kind == Kind::EVENT => view(object, report, |of, report| config::event(of, object, report)),
        _ => {}
    }
}

/// Checks a view; one that does not read has been reported when its types were settled.
fn view<T: View>(object: &Object, report: &mut Report<'_>, check: impl FnOnce(&T, &mut Report<'_>)) {
    if let Ok(view) = object.view::<T>() {
        check(view, report);
    }
}
