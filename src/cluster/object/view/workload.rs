//! Workloads of pods that are alike.

use super::{Condition, LabelSelector, PodTemplate, choice, unset, view};
use crate::base::Result;
use crate::cluster::object::IntOrString;
use serde::{Deserialize, Serialize};

view! {
    /// What a deployment wants.
    DeploymentSpec {
        /// How many pods: by default 1.
        replicas: Option<i32>,
        /// Which pods are its own; never changes.
        selector: LabelSelector,
        /// What its pods are made from.
        template: PodTemplate,
        /// How old pods are replaced by new ones.
        strategy: DeploymentStrategy,
        /// How many seconds a pod must be ready before it counts as available.
        min_ready_seconds: i32,
        /// How many old replica sets are kept: by default 10.
        revision_history_limit: Option<i32>,
        /// After how many seconds without progress a rollout counts as failed: by default 600.
        progress_deadline_seconds: Option<i32>,
        /// Whether changes of the template wait.
        paused: bool,
    }

    /// How old pods are replaced by new ones.
    DeploymentStrategy {
        /// One by one, or all at once.
        #[serde(rename = "type")]
        type_: StrategyType,
        /// The bounds of replacing one by one.
        rolling_update: Option<RollingUpdate>,
    }

    /// The bounds of replacing pods one by one. They are best read by the methods of [`DeploymentSpec`].
    RollingUpdate {
        /// How many pods there may be beyond those wanted.
        max_surge: Option<IntOrString>,
        /// How many of the pods wanted may be missing.
        max_unavailable: Option<IntOrString>,
    }

    /// How a deployment is.
    DeploymentStatus {
        /// The generation that this speaks of.
        observed_generation: i64,
        /// How many pods it has.
        replicas: i32,
        /// How many of them are of the newest template.
        updated_replicas: i32,
        /// How many of them are ready.
        ready_replicas: i32,
        /// How many of them are available.
        available_replicas: i32,
        /// How many are missing.
        unavailable_replicas: i32,
        /// How often the hash of a template met another's.
        collision_count: Option<i32>,
        /// What is true of it: `Available`, `Progressing`.
        conditions: Vec<Condition>,
    }

    /// What a replica set wants.
    ReplicaSetSpec {
        /// How many pods: by default 1.
        replicas: Option<i32>,
        /// Which pods are its own; never changes.
        selector: LabelSelector,
        /// What its pods are made from.
        template: PodTemplate,
        /// How many seconds a pod must be ready before it counts as available.
        min_ready_seconds: i32,
    }
}

/// How a replica set is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetStatus {
    /// How many pods it has.
    pub replicas: i32,
    /// How many of them carry all labels of the template.
    #[serde(skip_serializing_if = "unset")]
    pub fully_labeled_replicas: i32,
    /// How many of them are ready.
    #[serde(skip_serializing_if = "unset")]
    pub ready_replicas: i32,
    /// How many of them are available.
    #[serde(skip_serializing_if = "unset")]
    pub available_replicas: i32,
    /// The generation that this speaks of.
    #[serde(skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// What is true of it.
    #[serde(skip_serializing_if = "unset")]
    pub conditions: Vec<Condition>,
}

choice! {
    /// How old pods are replaced by new ones.
    StrategyType {
        /// One by one.
        RollingUpdate,
        /// All old ones go before the first new one comes.
        Recreate,
    }
}

impl DeploymentSpec {
    /// How many pods are wanted: Kubernetes' default is 1.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    /// How many pods there may be beyond those wanted: Kubernetes' default is 25 %, rounded up.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) for a text that is no share in per cent.
    pub fn max_surge(&self) -> Result<i32> {
        self.bound(|rolling| rolling.max_surge.as_ref(), true)
    }

    /// How many of the pods wanted may be missing: Kubernetes' default is 25 %, rounded down; 1 where both bounds come to
    /// nothing, so that a rollout can move.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) for a text that is no share in per cent.
    pub fn max_unavailable(&self) -> Result<i32> {
        let missing = self.bound(|rolling| rolling.max_unavailable.as_ref(), false)?;
        let stuck = missing == 0 && self.max_surge()? == 0;
        Ok(if stuck { 1 } else { missing.min(self.replicas()) })
    }

    fn bound(&self, of: impl Fn(&RollingUpdate) -> Option<&IntOrString>, round_up: bool) -> Result<i32> {
        match self.strategy.rolling_update.as_ref().and_then(of) {
            Some(bound) => bound.of(self.replicas(), round_up),
            None => IntOrString::from("25%").of(self.replicas(), round_up),
        }
    }
}

impl ReplicaSetSpec {
    /// How many pods are wanted: Kubernetes' default is 1.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollout_bounds() {
        for (replicas, rolling, surge, missing) in [
            (4, "{}", 1, 1),
            (10, "{}", 3, 2),
            (1, "{}", 1, 0),
            (3, r#"{"maxSurge":0,"maxUnavailable":"10%"}"#, 0, 1),
            (2, r#"{"maxSurge":1,"maxUnavailable":0}"#, 1, 0),
            (2, r#"{"maxUnavailable":5}"#, 1, 2),
        ] {
            let text = format!(r#"{{"replicas":{replicas},"strategy":{{"rollingUpdate":{rolling}}}}}"#);
            let spec: DeploymentSpec = serde_json::from_str(&text).unwrap();
            assert_eq!((spec.max_surge().unwrap(), spec.max_unavailable().unwrap()), (surge, missing), "{text}");
        }
    }
}
