//! Stateful sets: pods with names that stay.

use super::{LabelSelector, PodTemplate, ResourceRequirements, choice, view};

view! {
    /// What a stateful set wants.
    StatefulSetSpec {
        /// How many pods: by default 1.
        replicas: Option<i32>,
        /// The headless service that its pods' names in DNS stand under; never changes.
        service_name: String,
        /// Which pods are its own; never changes.
        selector: LabelSelector,
        /// What its pods are made from.
        template: PodTemplate,
        /// Whether pods wait for those before them; never changes.
        pod_management_policy: PodManagement,
        /// How old pods are replaced by new ones.
        update_strategy: StatefulUpdate,
        /// How many seconds a pod must be ready before it counts as available.
        min_ready_seconds: i32,
        /// How its pods are numbered; not acted on.
        ordinals: Option<Ordinals>,
        /// The volumes that each of its pods has for itself, and finds again when it comes back; never change.
        volume_claim_templates: Vec<ClaimTemplate>,
        /// When claims go; not acted on: with their namespace.
        persistent_volume_claim_retention_policy: Option<ClaimRetention>,
    }

    /// When a stateful set's claims go; not acted on.
    ClaimRetention {
        /// When the set is deleted: `Retain`, `Delete`.
        when_deleted: String,
        /// When the set is scaled down: `Retain`, `Delete`.
        when_scaled: String,
    }

    /// A volume that each pod of a stateful set has for itself.
    ClaimTemplate {
        /// Its name.
        metadata: ClaimMetadata,
        /// What it is to be.
        spec: ClaimSpec,
    }

    /// The name of a claim's volume.
    ClaimMetadata {
        /// What containers mount it by.
        name: String,
    }

    /// What a claim asks for.
    ClaimSpec {
        /// How large its volume is to be: `storage`.
        resources: ResourceRequirements,
    }

    /// How a stateful set's old pods are replaced by new ones.
    StatefulUpdate {
        /// One by one from the highest number, or as they are deleted.
        #[serde(rename = "type")]
        type_: StatefulUpdateType,
        /// The bounds of one by one; not acted on.
        rolling_update: Option<StatefulRolling>,
    }

    /// The bounds of replacing a stateful set's pods one by one; not acted on.
    StatefulRolling {
        /// Pods of a lower number keep the old template.
        partition: i32,
    }

    /// How a stateful set numbers its pods; not acted on.
    Ordinals {
        /// The first number.
        start: i32,
    }

    /// How a stateful set is.
    StatefulSetStatus {
        /// The generation that this speaks of.
        observed_generation: i64,
        /// How many pods it has.
        replicas: i32,
        /// How many of them are ready.
        ready_replicas: i32,
        /// How many of them are available.
        available_replicas: i32,
        /// How many of them are of the template that all were of last.
        current_replicas: i32,
        /// How many of them are of the newest template.
        updated_replicas: i32,
        /// The template that all were of last.
        current_revision: String,
        /// The newest template.
        update_revision: String,
    }
}

choice! {
    /// Whether pods wait for those before them.
    PodManagement {
        /// Each is created when all before it are available, and goes when all after it are gone.
        OrderedReady,
        /// All at once; an update still goes one by one.
        Parallel,
    }

    /// How old pods are replaced by new ones.
    StatefulUpdateType {
        /// One by one, from the highest number.
        RollingUpdate,
        /// Where somebody deletes them.
        OnDelete,
    }
}

impl StatefulSetSpec {
    /// How many pods are wanted: Kubernetes' default is 1.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }
}
