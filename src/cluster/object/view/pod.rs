//! Pods: what they want, and how they are.

use super::{Condition, Container, ResourceList, Toleration, TopologySpreadConstraint, Volume, choice, unset, view};
use crate::{
    base::Labels,
    cluster::object::{Quantity, Timestamp},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

view! {
    /// What a pod wants. The node that it is bound to stands beside it: [`Object::node`](crate::cluster::object::Object::node).
    PodSpec {
        /// Containers that run one after the other before the others start; sidecars among them stay.
        init_containers: Vec<Container>,
        /// The containers.
        containers: Vec<Container>,
        /// The volumes that they can mount.
        volumes: Vec<Volume>,
        /// What happens when a container ends.
        restart_policy: Option<RestartPolicy>,
        /// See [`grace`](PodSpec::grace).
        termination_grace_period_seconds: Option<i64>,
        /// How long it may run.
        active_deadline_seconds: Option<i64>,
        /// Labels that its node must carry.
        node_selector: Labels,
        /// Taints that it can live with.
        tolerations: Vec<Toleration>,
        /// How evenly it and its like should be spread.
        topology_spread_constraints: Vec<TopologySpreadConstraint>,
        /// Who it is to the cluster.
        service_account_name: String,
        /// Its host name; by default its name.
        hostname: String,
        /// The headless service under which its host name can be looked up.
        subdomain: String,
        /// Whether it uses its node's network; refused.
        host_network: bool,
    }

    /// What pods are made from.
    PodTemplate {
        /// Their labels and annotations.
        metadata: TemplateMetadata,
        /// What they want.
        spec: PodSpec,
    }

    /// The metadata of pods that are made from a template.
    TemplateMetadata {
        /// Their labels.
        labels: Labels,
        /// Their annotations.
        annotations: BTreeMap<String, String>,
    }

    /// How a pod is.
    PodStatus {
        /// How far it is, in one word.
        phase: PodPhase,
        /// What is true of it: `PodScheduled`, `Initialized`, `ContainersReady`, `Ready`.
        conditions: Vec<Condition>,
        /// Why it is so, in a sentence.
        message: String,
        /// Why it is so, in one word.
        reason: String,
        /// Its node's address.
        #[serde(rename = "hostIP")]
        host_ip: String,
        /// Its address.
        #[serde(rename = "podIP")]
        pod_ip: String,
        /// All its addresses.
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        /// When its node took it up.
        start_time: Option<Timestamp>,
        /// How its init containers are.
        init_container_statuses: Vec<ContainerStatus>,
        /// How its containers are.
        container_statuses: Vec<ContainerStatus>,
        /// What its resources say about who goes first.
        qos_class: String,
    }

    /// An address of a pod.
    PodIp {
        /// The address.
        ip: String,
    }

    /// What a container is doing: exactly one of these.
    ContainerState {
        /// It is not running yet, or not yet again.
        waiting: Option<Waiting>,
        /// It is running.
        running: Option<Running>,
        /// It has ended.
        terminated: Option<Terminated>,
    }

    /// A container that is not running.
    Waiting {
        /// Why, in one word: `ContainerCreating`, `ImagePullBackOff`, `CrashLoopBackOff`, ….
        reason: String,
        /// Why, in a sentence.
        message: String,
    }

    /// A container that is running.
    Running {
        /// Since when.
        started_at: Option<Timestamp>,
    }
}

/// A container that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// The code it ended with; 0 is success.
    pub exit_code: i32,
    /// Why, in one word: `Completed`, `Error`, ….
    #[serde(skip_serializing_if = "unset")]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "unset")]
    pub message: String,
    /// When it had started.
    #[serde(skip_serializing_if = "unset")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "unset")]
    pub finished_at: Option<Timestamp>,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// The container.
    pub name: String,
    /// What it is doing.
    #[serde(skip_serializing_if = "unset")]
    pub state: ContainerState,
    /// How it ended the last time.
    #[serde(skip_serializing_if = "unset")]
    pub last_state: ContainerState,
    /// Whether it should be sent traffic.
    pub ready: bool,
    /// How often it was started again.
    pub restart_count: i32,
    /// The image it runs.
    pub image: String,
    /// What that image turned out to be.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// Which run of it this is.
    #[serde(rename = "containerID", skip_serializing_if = "unset")]
    pub container_id: String,
    /// Whether it has started: its startup probe has passed, where it has one.
    #[serde(skip_serializing_if = "unset")]
    pub started: Option<bool>,
}

choice! {
    /// What happens when a container ends.
    RestartPolicy {
        /// It is started again.
        Always,
        /// It is started again if it failed.
        OnFailure,
        /// It stays ended.
        Never,
    }

    /// How far a pod is.
    PodPhase {
        /// Accepted; not every container has been started.
        Pending,
        /// Bound, and at least one container is running or about to run.
        Running,
        /// All containers have ended well and stay so.
        Succeeded,
        /// All containers have ended, at least one not well.
        Failed,
        /// Its node cannot be asked.
        Unknown,
    }
}

impl PodPhase {
    /// Whether the pod has ended and stays so.
    pub fn is_over(self) -> bool {
        matches!(self, PodPhase::Succeeded | PodPhase::Failed)
    }
}

impl Container {
    /// Whether this init container is a sidecar: started before the containers, stopped after them.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }
}

impl PodSpec {
    /// How long it has to end in order: Kubernetes' default is 30 s.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.termination_grace_period_seconds.map_or(30, |seconds| seconds.max(0).unsigned_abs()))
    }

    /// What a node must have free for it: the most that is ever asked for at once.
    ///
    /// Sidecars and containers count together; each other init container counts with the sidecars started before it.
    pub fn requests(&self) -> ResourceList {
        let mut running = ResourceList::new();
        let mut most = ResourceList::new();
        for container in &self.init_containers {
            let mut now = running.clone();
            add(&mut now, &container.resources.requests);
            if container.is_sidecar() {
                running.clone_from(&now);
            }
            for (name, amount) in now {
                let peak = most.entry(name).or_default();
                *peak = (*peak).max(amount);
            }
        }
        for container in &self.containers {
            add(&mut running, &container.resources.requests);
        }
        for (name, amount) in running {
            let peak = most.entry(name).or_default();
            *peak = (*peak).max(amount);
        }
        most
    }
}

fn add(sum: &mut ResourceList, amounts: &ResourceList) {
    for (name, amount) in amounts {
        let total = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *total = *total + *amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_most_asked_for_at_once() {
        let container = |cpu: &str, sidecar: bool| {
            let policy = if sidecar { r#","restartPolicy":"Always""# } else { "" };
            format!(r#"{{"resources":{{"requests":{{"cpu":"{cpu}"}}}}{policy}}}"#)
        };
        for (init, main, cpu) in [
            (vec![], vec![("1", false), ("500m", false)], "1500m"),
            (vec![("2", false)], vec![("1", false)], "2"),
            (vec![("1", true), ("2", false)], vec![("1500m", false)], "3"),
            (vec![("2", false), ("1", true)], vec![("1500m", false)], "2500m"),
        ] {
            let list = |of: &[(&str, bool)]| {
                of.iter().map(|(cpu, sidecar)| container(cpu, *sidecar)).collect::<Vec<_>>().join(",")
            };
            let text = format!(r#"{{"initContainers":[{}],"containers":[{}]}}"#, list(&init), list(&main));
            let spec: PodSpec = serde_json::from_str(&text).unwrap();
            assert_eq!(spec.requests()["cpu"].to_string(), cpu, "{text}");
        }
    }
}
