//! Keeps pods with names that stay: `db-0`, `db-1`, one after the other.

use super::{
    controllers_of, own, owns,
    replica_set::{Availability, availability, owner, pending},
};
use crate::{
    base::Result,
    cluster::{
        object::{
            ClaimTemplate, ClaimVolume, Kind, Metadata, Object, PodManagement, PodSpec, PodStatus, StatefulSetSpec,
            StatefulSetStatus, StatefulUpdateType, Template, Volume,
        },
        plane::Plane,
        rollout::ordered::{self, Pod, State, Step, Wanted},
    },
    control::Next,
    store::{Change, Key},
};
use std::{collections::BTreeMap, time::Duration};

const NAME: &str = "statefulset-controller";
/// The label that tells which template a pod is of.
const REVISION: &str = "controller-revision-hash";

/// The sets that a change concerns.
pub(in crate::cluster) fn keys(change: &Change<Object>) -> Vec<Key> {
    match change.values().next().map(Object::kind) {
        Some(kind) if kind == Kind::STATEFUL_SET => own(change),
        Some(kind) if kind == Kind::POD => controllers_of(change, Kind::STATEFUL_SET),
        _ => Vec::new(),
    }
}

/// Takes the next steps, then tells how many pods there are.
pub(in crate::cluster) async fn reconcile(plane: &Plane, key: &Key) -> Result<Next> {
    let Some(set) = plane.get(key).map(|entry| entry.value).filter(|set| !set.metadata().is_deleting()) else {
        return Ok(Next::Done);
    };
    let spec = set.view::<StatefulSetSpec>()?;
    let template = set.template()?;
    let newest = format!("{}-{}", set.name(), template.hash());
    let wanted = Wanted {
        replicas: u32::try_from(spec.replicas()).unwrap_or(0),
        ordered: spec.pod_management_policy == PodManagement::OrderedReady,
        rolling: spec.update_strategy.type_ == StatefulUpdateType::RollingUpdate,
    };
    let seen = pods(plane, &set, spec, &newest);
    let states = seen.iter().map(|(number, (_, pod, _))| (*number, *pod)).collect();
    for step in ordered::plan(wanted, &states) {
        match step {
            Step::Create(number) => create(plane, &set, spec, &template, &newest, number).await?,
            Step::Delete(number) => delete(plane, &set, number).await?,
        }
    }
    let seen = pods(plane, &set, spec, &newest);
    tell(plane, &set, wanted, &newest, &seen).await?;
    Ok(seen.values().filter_map(|(_, _, left)| *left).min().map_or(Next::Done, Next::After))
}

/// A pod, how the plan sees it, and after how long it counts as available.
type Seen = BTreeMap<u32, (Object, Pod, Option<Duration>)>;

/// The set's pods by number, also those that are leaving.
fn pods(plane: &Plane, set: &Object, spec: &StatefulSetSpec, newest: &str) -> Seen {
    let now = plane.now();
    let mut found = Seen::new();
    for pod in plane.within(Kind::POD, set.namespace()).into_iter().map(|entry| entry.value) {
        let Some(number) = number(&pod, set).filter(|_| owns(set, &pod)) else { continue };
        let over = pod.view::<PodStatus>().is_ok_and(|status| status.phase.is_over());
        let (state, left) = match availability(&pod, spec.min_ready_seconds, now) {
            _ if pod.metadata().is_deleting() => (State::Leaving, None),
            _ if over => (State::Over, None),
            Availability::Unready => (State::Starting, None),
            Availability::ReadyFor(left) => (State::Ready, Some(left)),
            Availability::Available => (State::Available, None),
        };
        let newest = pod.labels().get(REVISION) == Some(newest);
        found.insert(number, (pod, Pod { state, newest }, left));
    }
    found
}

/// The number in the pod's name.
fn number(pod: &Object, set: &Object) -> Option<u32> {
    pod.name().strip_prefix(set.name())?.strip_prefix('-')?.parse().ok()
}

async fn create(
    plane: &Plane,
    set: &Object,
    spec: &StatefulSetSpec,
    template: &Template,
    newest: &str,
    number: u32,
) -> Result {
    let name = format!("{}-{number}", set.name());
    let mut metadata = Metadata { owner_references: vec![owner(set)], ..Metadata::named(set.namespace(), &*name) };
    let number = number.to_string();
    metadata.labels = crate::base::Labels::from([
        ("apps.kubernetes.io/pod-index", number.as_str()),
        (REVISION, newest),
        ("statefulset.kubernetes.io/pod-name", &name),
    ]);
    let pod = template.pod(&metadata)?.edit::<PodSpec>(|pod| {
        pod.hostname.clone_from(&name);
        pod.subdomain.clone_from(&spec.service_name);
        let claims = spec.volume_claim_templates.iter().map(|template| claimed(template, &name));
        pod.volumes.retain(|volume| !spec.volume_claim_templates.iter().any(|it| it.metadata.name == volume.name));
        pod.volumes.extend(claims);
    })?;
    for template in &spec.volume_claim_templates {
        let size = template.spec.resources.requests.get("storage").map(|size| size.value());
        let size = size.and_then(|size| u64::try_from(size).ok());
        plane.claims.keep(set.namespace(), &claim(template, &name), size);
    }
    match plane.create(&pending(&pod)?).await {
        Ok(_) => {
            let message = format!("create Pod {name} in StatefulSet {} successful", set.name());
            plane.note(set, "SuccessfulCreate", &message, NAME).await;
        }
        // somebody else's pod has the name: it is tried again, and told each time, until that one is gone
        Err(error) => {
            let message = format!("create Pod {name} in StatefulSet {} failed error: {error}", set.name());
            plane.warn(set, "FailedCreate", &message, NAME).await;
            return Err(error);
        }
    }
    Ok(())
}

/// The claim of a pod: it stays when the pod goes, so that the next pod of the name finds it.
fn claim(template: &ClaimTemplate, pod: &str) -> String {
    format!("{}-{pod}", template.metadata.name)
}

fn claimed(template: &ClaimTemplate, pod: &str) -> Volume {
    let claim = ClaimVolume { claim_name: claim(template, pod) };
    Volume { name: template.metadata.name.clone(), persistent_volume_claim: Some(claim), ..Volume::default() }
}

async fn delete(plane: &Plane, set: &Object, number: u32) -> Result {
    let name = format!("{}-{number}", set.name());
    let key = Key::from([Kind::POD.plural, set.namespace(), &name]);
    match plane.delete(&key, None).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => {
            let message = format!("delete Pod {name} in StatefulSet {} successful", set.name());
            plane.note(set, "SuccessfulDelete", &message, NAME).await;
            Ok(())
        }
    }
}

async fn tell(plane: &Plane, set: &Object, wanted: Wanted, newest: &str, seen: &Seen) -> Result {
    let count = |which: &dyn Fn(&Object, &Pod) -> bool| {
        i32::try_from(seen.values().filter(|(object, pod, _)| which(object, pod)).count()).unwrap_or(i32::MAX)
    };
    let stays = |pod: &Pod| pod.state > State::Leaving;
    let updated = count(&|_, pod| pod.newest && stays(pod));
    let done = i64::from(updated) == i64::from(wanted.replicas)
        && seen.values().all(|(_, pod, _)| pod.newest && pod.state == State::Available);
    let status = plane.set_status::<StatefulSetStatus>(set, |old| {
        let current = if done || old.current_revision.is_empty() { newest } else { &old.current_revision };
        StatefulSetStatus {
            observed_generation: set.metadata().generation,
            replicas: count(&|_, _| true),
            ready_replicas: count(&|_, pod| pod.state >= State::Ready),
            available_replicas: count(&|_, pod| pod.state == State::Available),
            current_replicas: count(&|object, pod| object.labels().get(REVISION) == Some(current) && stays(pod)),
            updated_replicas: updated,
            current_revision: current.into(),
            update_revision: newest.into(),
        }
    });
    status.await.map(|_| ())
}
