//! Waiting for a workload, and saying what it waits for.

use super::{
    object::{
        Condition, ContainerStatus, DeploymentSpec, DeploymentStatus, Event, Kind, Object, PodStatus, ReplicaSetSpec,
        ReplicaSetStatus, StatefulSetSpec, StatefulSetStatus, StatefulUpdateType,
    },
    plane::Plane,
    reference::Reference,
};
use crate::{
    base::{self, Deadline, Error, Result},
    store::Start,
};
use futures::future::BoxFuture;
use std::{future::IntoFuture, sync::Arc, time::Duration};

/// How long is waited where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits for a workload to be available; made by [`Cluster::available`](super::Cluster::available), ends when awaited.
#[must_use = "it waits when it is awaited"]
pub struct Available {
    plane: Arc<Plane>,
    name: String,
    patience: Duration,
}

impl Available {
    pub(super) fn new(plane: Arc<Plane>, name: &str) -> Self {
        Available { plane, name: name.into(), patience: PATIENCE }
    }

    /// Gives up after this long. Five minutes by default.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn wait(self) -> Result {
        let reference = Reference::read(&self.name)?;
        let key = reference.key();
        let deadline = Deadline::within(self.patience);
        let mut watch = self.plane.store.watch(&key, Start);
        loop {
            let Some(entry) = self.plane.get(&key) else { return Err(super::handle::missing(&reference)) };
            let Some(missing) = missing(&entry.value)? else { return Ok(()) };
            match deadline.bound(watch.next()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::new(base::Kind::Closed, "the cluster has ended").at(key.as_str())),
                Err(_) => {
                    let message = format!("{missing}{}", self.reasons(&entry.value));
                    return Err(Error::new(base::Kind::Timeout, message).at(key.as_str()));
                }
            }
        }
    }

    /// Why it is not available: what its pods wait for, and what was said of it.
    fn reasons(&self, object: &Object) -> String {
        let namespace = object.namespace();
        let owned =
            |candidate: &Object, owner: &str| candidate.metadata().controller().is_some_and(|it| it.uid == owner);
        let sets = self.plane.within(Kind::REPLICA_SET, namespace);
        let sets: Vec<_> =
            sets.iter().filter(|set| owned(&set.value, object.uid())).map(|set| set.value.uid()).collect();
        let pods = self.plane.within(Kind::POD, namespace);
        let mine = pods.iter().map(|pod| &pod.value).filter(|pod| {
            pod.uid() == object.uid() || owned(pod, object.uid()) || sets.iter().any(|set| owned(pod, set))
        });
        let mut text = String::new();
        let mut uids = vec![object.uid().to_owned()];
        for pod in mine {
            if let Some(why) = unready(pod) {
                text += &format!("; pod {}: {why}", pod.name());
                uids.push(pod.uid().to_owned());
            }
        }
        let events = self.plane.within(Kind::EVENT, namespace);
        let mut warnings: Vec<_> = events
            .iter()
            .filter_map(|entry| Some((entry.revision, entry.value.view::<Event>().ok()?)))
            .filter(|(_, event)| event.type_ == "Warning")
            .filter(|(_, event)| {
                uids.contains(&event.involved_object.uid) || sets.contains(&&*event.involved_object.uid)
            })
            .collect();
        warnings.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
        for (_, event) in warnings.iter().take(3) {
            text += &format!("; event {} on {}: {}", event.reason, event.involved_object.name, event.message);
        }
        text
    }
}

impl IntoFuture for Available {
    type Output = Result;
    type IntoFuture = BoxFuture<'static, Result>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

/// What is missing; nothing once it is available.
pub(super) fn missing(object: &Object) -> Result<Option<String>> {
    let of = |there: i32, wanted: i32, what: &str| format!("{there} of {wanted} pods are {what}");
    Ok(match object.kind() {
        kind if kind == Kind::DEPLOYMENT => {
            let wanted = object.view::<DeploymentSpec>()?.replicas();
            let status = object.view::<DeploymentStatus>()?;
            let old = status.replicas - status.updated_replicas;
            match () {
                () if status.observed_generation < object.metadata().generation => {
                    Some("its newest spec was not looked at yet".into())
                }
                () if status.updated_replicas < wanted => {
                    Some(of(status.updated_replicas, wanted, "of the newest template"))
                }
                () if status.available_replicas < wanted => Some(of(status.available_replicas, wanted, "available")),
                () if old > 0 => Some(format!("{old} pods of an old template are left")),
                () if status.replicas > wanted => Some(format!("{} pods too many are left", status.replicas - wanted)),
                () => None,
            }
        }
        kind if kind == Kind::REPLICA_SET => {
            let wanted = object.view::<ReplicaSetSpec>()?.replicas();
            let status = object.view::<ReplicaSetStatus>()?;
            match () {
                () if status.observed_generation < object.metadata().generation => {
                    Some("its newest spec was not looked at yet".into())
                }
                () if status.available_replicas < wanted => Some(of(status.available_replicas, wanted, "available")),
                () if status.replicas > wanted => Some(format!("{} pods too many are left", status.replicas - wanted)),
                () => None,
            }
        }
        kind if kind == Kind::STATEFUL_SET => {
            let spec = object.view::<StatefulSetSpec>()?;
            let (wanted, status) = (spec.replicas(), object.view::<StatefulSetStatus>()?);
            let rolls = spec.update_strategy.type_ == StatefulUpdateType::RollingUpdate;
            match () {
                () if status.observed_generation < object.metadata().generation => {
                    Some("its newest spec was not looked at yet".into())
                }
                () if status.replicas > wanted => Some(format!("{} pods too many are left", status.replicas - wanted)),
                () if rolls && status.updated_replicas < wanted => {
                    Some(of(status.updated_replicas, wanted, "of the newest template"))
                }
                () if status.available_replicas < wanted => Some(of(status.available_replicas, wanted, "available")),
                () => None,
            }
        }
        kind if kind == Kind::POD => {
            let status = object.view::<PodStatus>()?;
            let done = status.phase == super::object::PodPhase::Succeeded;
            let ready = Condition::holds(&status.conditions, "Ready");
            (!done && !ready).then(|| format!("it is {}, and not ready", status.phase))
        }
        kind => {
            let message = format!("a {kind} is not waited for: a Deployment, a ReplicaSet, a StatefulSet or a Pod is");
            return Err(Error::new(base::Kind::Invalid, message).at(object.key().as_str()));
        }
    })
}

/// Why a pod is not ready: the container that waits or has ended, else the condition that does not hold.
fn unready(pod: &Object) -> Option<String> {
    let status = pod.view::<PodStatus>().ok()?;
    if Condition::holds(&status.conditions, "Ready") {
        return None;
    }
    let waiting = |container: &ContainerStatus| {
        let name = &container.name;
        let (reason, message) = match (&container.state.waiting, &container.state.terminated) {
            (Some(waiting), _) if waiting.reason != "PodInitializing" => {
                (waiting.reason.clone(), waiting.message.clone())
            }
            (_, Some(ended)) if ended.exit_code != 0 => {
                (ended.reason.clone(), format!("exit code {}", ended.exit_code))
            }
            (None, None) if !container.ready => ("running, and not ready".into(), String::new()),
            _ => return None,
        };
        let colon = if message.is_empty() { "" } else { ": " };
        // what the container itself said, now or the time before
        let ended = container.state.terminated.as_ref().or(container.last_state.terminated.as_ref());
        let said = ended.filter(|ended| ended.exit_code != 0 && !ended.message.is_empty());
        let said = said.map_or_else(String::new, |ended| format!(", it ended with \"{}\"", ended.message));
        Some(format!("container {name}: {reason}{colon}{message}{said}"))
    };
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let unmet = || {
        let unmet = status.conditions.iter().find(|it| it.status != super::object::ConditionStatus::True)?;
        Some(format!("{} {}", unmet.reason, unmet.message).trim().to_owned())
    };
    containers.find_map(waiting).or_else(unmet).or_else(|| Some(format!("{}", status.phase)))
}
