//! Keeps as many pods as a ReplicaSet asks for.

use super::{active, controllers_of, own, owns};
use crate::{
    base::Result,
    cluster::{
        demand, identity,
        object::{
            Condition, Kind, Metadata, Object, OwnerReference, PodPhase, PodSpec, PodStatus, ReplicaSetSpec,
            ReplicaSetStatus, ResourceList, Timestamp,
        },
        plane::Plane,
        rollout::replicate::{self, Phase, Plan},
    },
    control::Next,
    store::{Change, Entry, Key},
};
use std::{sync::Arc, time::Duration};

const NAME: &str = "replicaset-controller";

/// The sets that a change concerns.
pub(in crate::cluster) fn keys(change: &Change<Object>) -> Vec<Key> {
    match change.values().next().map(Object::kind) {
        Some(kind) if kind == Kind::REPLICA_SET => own(change),
        Some(kind) if kind == Kind::POD => controllers_of(change, Kind::REPLICA_SET),
        _ => Vec::new(),
    }
}

/// Creates or deletes pods, then tells how many there are.
pub(in crate::cluster) async fn reconcile(plane: &Plane, key: &Key) -> Result<Next> {
    let Some(set) = plane.get(key).map(|entry| entry.value).filter(|set| !set.metadata().is_deleting()) else {
        return Ok(Next::Done);
    };
    let spec = set.view::<ReplicaSetSpec>()?;
    let wanted = usize::try_from(spec.replicas()).unwrap_or(0);
    match replicate::plan(wanted, &ranked(plane, &set), &mut plane.identities.rng()) {
        Plan::Keep => {}
        Plan::Create(count) => create(plane, &set, count).await?,
        Plan::Delete(names) => delete(plane, &set, names).await?,
    }
    let pods = pods(plane, &set);
    let ready_seconds = spec.min_ready_seconds;
    let availability: Vec<_> = pods.iter().map(|pod| availability(&pod.value, ready_seconds, plane.now())).collect();
    let template = set.template()?;
    let labels = demand::selector(&crate::cluster::object::LabelSelector::equal_to(template.labels().clone()));
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let status = ReplicaSetStatus {
        replicas: count(pods.len()),
        fully_labeled_replicas: count(pods.iter().filter(|pod| labels.matches(pod.value.labels())).count()),
        ready_replicas: count(availability.iter().filter(|it| **it != Availability::Unready).count()),
        available_replicas: count(availability.iter().filter(|it| **it == Availability::Available).count()),
        observed_generation: set.metadata().generation,
        conditions: Vec::new(),
    };
    plane
        .set_status::<ReplicaSetStatus>(&set, |old| ReplicaSetStatus {
            conditions: old.conditions.clone(),
            ..status.clone()
        })
        .await?;
    let soonest = availability.iter().filter_map(|it| match it {
        Availability::ReadyFor(left) => Some(*left),
        _ => None,
    });
    Ok(soonest.min().map_or(Next::Done, Next::After))
}

fn pods(plane: &Plane, set: &Object) -> Vec<Entry<Object>> {
    let mut pods = plane.within(Kind::POD, set.namespace());
    pods.retain(|pod| owns(set, &pod.value) && active(pod));
    pods
}

async fn create(plane: &Plane, set: &Object, count: usize) -> Result {
    let template = set.template()?;
    for batch in replicate::batches(count) {
        for _ in 0..batch {
            let name = identity::generated(&format!("{}-", set.name()), &plane.identities.suffix());
            let metadata = Metadata {
                generate_name: format!("{}-", set.name()),
                owner_references: vec![owner(set)],
                ..Metadata::named(set.namespace(), name)
            };
            let pod = pending(&template.pod(&metadata)?)?;
            match plane.create(&pod).await {
                Ok(pod) => {
                    plane.note(set, "SuccessfulCreate", &format!("Created pod: {}", pod.name()), NAME).await;
                }
                Err(error) if error.is_conflict() => {} // the name was drawn before: the next round draws another
                Err(error) => {
                    plane.warn(set, "FailedCreate", &format!("Error creating: {error}"), NAME).await;
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

async fn delete(plane: &Plane, set: &Object, names: Vec<Arc<str>>) -> Result {
    for name in names {
        let key = Key::from([Kind::POD.plural, set.namespace(), &name]);
        match plane.delete(&key, None).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => plane.note(set, "SuccessfulDelete", &format!("Deleted pod: {name}"), NAME).await,
        }
    }
    Ok(())
}

/// The set's pods as the choice of victims sees them.
fn ranked(plane: &Plane, set: &Object) -> Vec<replicate::Pod> {
    let now = plane.now();
    let since =
        |then: Option<Timestamp>| then.map_or(0, |then| now.as_unix_seconds().saturating_sub(then.as_unix_seconds()));
    let pod = |entry: Entry<Object>| {
        let (metadata, status) = (entry.value.metadata(), entry.value.view::<PodStatus>().ok()?);
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let ready = ready.filter(|_| Condition::holds(&status.conditions, "Ready"));
        let cost = metadata.annotations.get("controller.kubernetes.io/pod-deletion-cost");
        Some(replicate::Pod {
            name: entry.value.name().into(),
            node: entry.value.node().map(Into::into),
            phase: match status.phase {
                PodPhase::Pending => Phase::Pending,
                PodPhase::Running => Phase::Running,
                _ => Phase::Unknown,
            },
            ready_for: ready.map(|ready| since(ready.last_transition_time)),
            deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
            restarts: status.container_statuses.iter().map(|it| it.restart_count.unsigned_abs()).max().unwrap_or(0),
            age: since(metadata.creation_timestamp),
        })
    };
    pods(plane, set).into_iter().filter_map(pod).collect()
}

/// Whether a pod can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Availability {
    /// It is not ready.
    Unready,
    /// It is ready, but must stay so for this long yet.
    ReadyFor(Duration),
    /// It has been ready for long enough.
    Available,
}

/// Whether a pod can be counted on, when it must have been ready for so many seconds.
pub(in crate::cluster) fn availability(pod: &Object, ready_seconds: i32, now: Timestamp) -> Availability {
    let Ok(status) = pod.view::<PodStatus>() else { return Availability::Unready };
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let Some(ready) = ready.filter(|_| Condition::holds(&status.conditions, "Ready")) else {
        return Availability::Unready;
    };
    let since = ready.last_transition_time.map_or(0, Timestamp::as_unix_seconds);
    let needed = u64::try_from(ready_seconds).unwrap_or(0);
    match (since + needed).saturating_sub(now.as_unix_seconds()) {
        0 => Availability::Available,
        left => Availability::ReadyFor(Duration::from_secs(left)),
    }
}

/// That this object manages another.
pub(in crate::cluster) fn owner(object: &Object) -> OwnerReference {
    OwnerReference {
        api_version: object.kind().api_version.into(),
        kind: object.kind().name.into(),
        name: object.name().into(),
        uid: object.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A new pod's first status: pending, with its quality of service.
pub(in crate::cluster) fn pending(pod: &Object) -> Result<Object> {
    let class = quality(pod.view::<PodSpec>()?);
    pod.with(&PodStatus { qos_class: class.into(), ..PodStatus::default() })
}

/// `Guaranteed`: all containers limit CPU and memory and ask for just that. `BestEffort`: none asks for or limits
/// anything. `Burstable`: the rest.
fn quality(spec: &PodSpec) -> &'static str {
    let mut containers = spec.containers.iter().chain(&spec.init_containers).map(|it| &it.resources).peekable();
    let counts = |list: &ResourceList| ["cpu", "memory"].map(|name| list.get(name).copied().filter(|it| !it.is_zero()));
    let (mut any, mut all) = (false, containers.peek().is_some());
    for resources in containers {
        let (requests, limits) = (counts(&resources.requests), counts(&resources.limits));
        any |= requests.iter().chain(&limits).any(Option::is_some);
        let same = requests.iter().zip(&limits).all(|(request, limit)| request.is_none() || request == limit);
        all &= limits.iter().all(Option::is_some) && same;
    }
    match (all, any) {
        (true, _) => "Guaranteed",
        (false, true) => "Burstable",
        (false, false) => "BestEffort",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_read_as_in_kubernetes() {
        for (resources, class) in [
            ("{}", "BestEffort"),
            (r#"{"requests":{"cpu":"1"}}"#, "Burstable"),
            (r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#, "Guaranteed"),
            (r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1","memory":"1Gi"}}"#, "Guaranteed"),
            (r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m"}}"#, "Burstable"),
        ] {
            let text = format!(r#"{{"containers":[{{"resources":{resources}}}]}}"#);
            assert_eq!(quality(&serde_json::from_str(&text).unwrap()), class, "{resources}");
        }
    }
}
