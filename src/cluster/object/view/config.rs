//! Settings: config maps, secrets; and the kinds with little in them.

use super::view;
use crate::cluster::object::Sensitive;
use std::collections::BTreeMap;

view! {
    /// What a config map holds.
    ConfigMap {
        /// Texts by their keys.
        data: BTreeMap<String, String>,
        /// Bytes by their keys.
        binary_data: BTreeMap<String, Sensitive>,
        /// Whether it never changes.
        immutable: Option<bool>,
    }

    /// What a secret holds. Texts given as `stringData` join the others when its defaults are filled in.
    Secret {
        /// What it is for; by default `Opaque`.
        #[serde(rename = "type")]
        type_: String,
        /// Bytes by their keys.
        data: BTreeMap<String, Sensitive>,
        /// Whether it never changes.
        immutable: Option<bool>,
    }

    /// Who a pod is to the cluster.
    ServiceAccount {
        /// Whether pods get its token; kept, not acted on.
        automount_service_account_token: Option<bool>,
    }

    /// How a namespace is.
    NamespaceStatus {
        /// `Active`, or `Terminating`.
        phase: String,
    }
}
