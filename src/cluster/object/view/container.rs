//! Containers: what they run, with which settings, ports and resources.

use super::{Lifecycle, Probe, RestartPolicy, choice, view};
use crate::cluster::object::Quantity;
use std::collections::BTreeMap;

/// Amounts of resources by name: `cpu`, `memory`, `pods`, ….
pub type ResourceList = BTreeMap<String, Quantity>;

view! {
    /// One container of a pod.
    Container {
        /// Its name, unique in the pod.
        name: String,
        /// The image it runs.
        image: String,
        /// What is run, in the place of the image's own entry point.
        command: Vec<String>,
        /// The arguments to that.
        args: Vec<String>,
        /// Where it is run.
        working_dir: String,
        /// The ports it listens on, for people and for names.
        ports: Vec<ContainerPort>,
        /// Objects whose every pair becomes a variable.
        env_from: Vec<EnvFromSource>,
        /// Its environment variables.
        env: Vec<EnvVar>,
        /// What it needs, and what it may use.
        resources: ResourceRequirements,
        /// Where it sees which volume.
        volume_mounts: Vec<VolumeMount>,
        /// Whether it must be restarted.
        liveness_probe: Option<Probe>,
        /// Whether it should be sent traffic.
        readiness_probe: Option<Probe>,
        /// Whether it has started; until then the other two wait.
        startup_probe: Option<Probe>,
        /// What is done after its start and before its stop.
        lifecycle: Option<Lifecycle>,
        /// When its image is fetched.
        image_pull_policy: Option<PullPolicy>,
        /// `Always` makes an init container a sidecar; others have none of their own.
        restart_policy: Option<RestartPolicy>,
    }

    /// A port that a container listens on.
    ContainerPort {
        /// Its name, unique in the pod, by which services and probes may call it.
        name: String,
        /// Its number.
        container_port: i32,
        /// The same port on the node; kept, not acted on.
        host_port: i32,
        /// What is spoken on it.
        protocol: Option<Protocol>,
    }

    /// An environment variable.
    EnvVar {
        /// Its name.
        name: String,
        /// Its value; `$(NAME)` in it stands for the value of an earlier variable.
        value: Option<String>,
        /// Where its value comes from, if not from `value`.
        value_from: Option<EnvVarSource>,
    }

    /// Where the value of a variable comes from: exactly one of these.
    EnvVarSource {
        /// A value of a config map.
        config_map_key_ref: Option<KeySelector>,
        /// A value of a secret.
        secret_key_ref: Option<KeySelector>,
        /// A field of the pod.
        field_ref: Option<FieldSelector>,
        /// A resource of a container.
        resource_field_ref: Option<ResourceFieldSelector>,
    }

    /// A value in a config map or secret.
    KeySelector {
        /// The object's name.
        name: String,
        /// The key in it.
        key: String,
        /// Whether the container starts without it.
        optional: Option<bool>,
    }

    /// A field of the pod: `metadata.name`, `status.podIP`, ….
    FieldSelector {
        /// The path to the field.
        field_path: String,
    }

    /// A resource of a container: `limits.cpu`, ….
    ResourceFieldSelector {
        /// The container; by default the one that asks.
        container_name: String,
        /// The resource.
        resource: String,
        /// What it is counted in; by default whole units.
        divisor: Option<Quantity>,
    }

    /// An object whose every pair becomes a variable: exactly one of the two.
    EnvFromSource {
        /// What the variables' names begin with, before the keys.
        prefix: String,
        /// A config map.
        config_map_ref: Option<NameReference>,
        /// A secret.
        secret_ref: Option<NameReference>,
    }

    /// An object in the same namespace.
    NameReference {
        /// Its name.
        name: String,
        /// Whether the container starts without it.
        optional: Option<bool>,
    }

    /// What a container needs and what it may use.
    ResourceRequirements {
        /// What it is sure to get.
        requests: ResourceList,
        /// What it gets no more of.
        limits: ResourceList,
    }

    /// Where a container sees a volume.
    VolumeMount {
        /// The volume.
        name: String,
        /// The path to it.
        mount_path: String,
        /// The part of the volume that is seen; by default all.
        sub_path: String,
        /// Whether it cannot be written.
        read_only: bool,
    }
}

choice! {
    /// What is spoken on a port.
    Protocol {
        /// A byte stream.
        TCP,
        /// Datagrams.
        UDP,
        /// Messages.
        SCTP,
    }

    /// When an image is fetched.
    PullPolicy {
        /// Where it is not there yet.
        IfNotPresent,
        /// At each start.
        Always,
        /// Never; it must be there.
        Never,
    }
}
