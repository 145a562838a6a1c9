//! Volumes of a pod.

use super::view;
use crate::cluster::object::Quantity;

view! {
    /// A volume of a pod. One with no source that we know reads as none of these.
    Volume {
        /// Its name, unique in the pod.
        name: String,
        /// Empty at the pod's start, gone with the pod.
        empty_dir: Option<EmptyDirVolume>,
        /// The files of a config map.
        config_map: Option<ConfigMapVolume>,
        /// The files of a secret.
        secret: Option<SecretVolume>,
        /// A volume that stays while pods come and go.
        persistent_volume_claim: Option<ClaimVolume>,
    }

    /// A volume that begins empty.
    EmptyDirVolume {
        /// `Memory`, or the node's own medium.
        medium: String,
        /// What it may hold.
        size_limit: Option<Quantity>,
    }

    /// The pairs of a config map as files.
    ConfigMapVolume {
        /// The config map.
        name: String,
        /// Which keys become which files; by default each its own.
        items: Vec<KeyToPath>,
        /// Whether the pod starts without it.
        optional: Option<bool>,
        /// The files' permission bits.
        default_mode: Option<i32>,
    }

    /// The pairs of a secret as files.
    SecretVolume {
        /// The secret.
        secret_name: String,
        /// Which keys become which files; by default each its own.
        items: Vec<KeyToPath>,
        /// Whether the pod starts without it.
        optional: Option<bool>,
        /// The files' permission bits.
        default_mode: Option<i32>,
    }

    /// A volume that stays while pods come and go.
    ClaimVolume {
        /// The claim that it is found by.
        claim_name: String,
    }

    /// A key and its file.
    KeyToPath {
        /// The key.
        key: String,
        /// The file, relative to the volume.
        path: String,
        /// The file's permission bits.
        mode: Option<i32>,
    }
}
