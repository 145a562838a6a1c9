//! Rolls a Deployment's pods from one template to the next.

use super::{
    controllers_of, own, owns,
    replica_set::{self, Availability, availability},
};
use crate::{
    base::Result,
    cluster::{
        object::{
            Condition, DeploymentSpec, DeploymentStatus, IntOrString, Json, Kind, Object, ReplicaSetSpec, StrategyType,
            Template, Timestamp,
        },
        plane::Plane,
        rollout::{self, Bound, Counts, Scale, Set, Strategy, Wanted},
    },
    control::Next,
    store::{Change, Entry, Key},
};
use std::{collections::BTreeMap, time::Duration};

const NAME: &str = "deployment-controller";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";

/// The deployments that a change concerns. A pod concerns the deployment of its set only where a rollout waits until
/// old pods have gone; the set's own status tells of all else.
pub(in crate::cluster) fn keys(change: &Change<Object>) -> Vec<Key> {
    match change.values().next().map(Object::kind) {
        Some(kind) if kind == Kind::DEPLOYMENT => own(change),
        Some(kind) if kind == Kind::REPLICA_SET => controllers_of(change, Kind::DEPLOYMENT),
        _ => Vec::new(),
    }
}

/// The deployment of a set, for pods that have gone.
pub(in crate::cluster) fn of_removed_pod(plane: &Plane, change: &Change<Object>) -> Vec<Key> {
    let Change::Remove(entry) = change else { return Vec::new() };
    let sets = controllers_of(change, Kind::REPLICA_SET);
    let set = sets.first().and_then(|key| plane.get(key));
    let owner = set.as_ref().and_then(|set| set.value.metadata().controller());
    owner.map(|owner| Key::from([Kind::DEPLOYMENT.plural, entry.value.namespace(), &owner.name])).into_iter().collect()
}

/// One step: a set for the present template, the sets scaled, the status told.
pub(in crate::cluster) async fn reconcile(plane: &Plane, key: &Key) -> Result<Next> {
    let Some(object) = plane.get(key).map(|entry| entry.value).filter(|it| !it.metadata().is_deleting()) else {
        return Ok(Next::Done);
    };
    let this = Deployment::read(plane, object)?;
    let sets = this.sets();
    let newest = sets.values().map(|entry| revision(&entry.value)).max().unwrap_or(0);
    let current = sets.get(&this.hash);
    let number = match current {
        Some(entry) if revision(&entry.value) == newest && newest > 0 => newest,
        _ => newest + 1,
    };
    let seen = this.seen(&sets);
    match current {
        None => this.create_set(number, rollout::opening(&this.wanted, &seen)).await?,
        Some(entry) => {
            this.annotate(&entry.value, &[(REVISION, number.to_string())]).await?;
            for scale in rollout::step(&this.wanted, &seen) {
                this.scale(&sets, &scale).await?;
            }
        }
    }
    this.annotate(&this.object, &[(REVISION, number.to_string())]).await?;
    this.forget(&sets, &seen).await?;
    this.tell().await
}

struct Deployment<'a> {
    plane: &'a Plane,
    object: Object,
    spec: DeploymentSpec,
    wanted: Wanted,
    template: Template,
    hash: String,
}

impl<'a> Deployment<'a> {
    fn read(plane: &'a Plane, object: Object) -> Result<Self> {
        let spec = object.view::<DeploymentSpec>()?.clone();
        let template = object.template()?;
        let strategy = match spec.strategy.type_ {
            StrategyType::Recreate => Strategy::Recreate,
            StrategyType::RollingUpdate => {
                let rolling = spec.strategy.rolling_update.clone().unwrap_or_default();
                let (surge, unavailable) = (bound(rolling.max_surge)?, bound(rolling.max_unavailable)?);
                Strategy::Rolling { surge, unavailable }
            }
        };
        let replicas = u32::try_from(spec.replicas()).unwrap_or(0);
        let wanted = Wanted { replicas, strategy, paused: spec.paused };
        let hash = template.hash();
        Ok(Deployment { plane, object, spec, wanted, template, hash })
    }

    /// Its sets, by the hash of their template.
    fn sets(&self) -> BTreeMap<String, Entry<Object>> {
        let all = self.plane.within(Kind::REPLICA_SET, self.object.namespace());
        let mine = all.into_iter().filter(|set| owns(&self.object, &set.value) && !set.value.metadata().is_deleting());
        mine.map(|set| (set.value.labels().get(HASH).unwrap_or_default().to_owned(), set)).collect()
    }

    /// Its sets as the rollout sees them, their pods counted now.
    fn seen(&self, sets: &BTreeMap<String, Entry<Object>>) -> Vec<Set> {
        let now = self.plane.now();
        let pods = self.plane.within(Kind::POD, self.object.namespace());
        let number = |set: &Object, name| set.metadata().annotations.get(name).and_then(|text| text.parse().ok());
        let mut found = Vec::new();
        for (hash, Entry { value: set, created, .. }) in sets {
            let mine = || pods.iter().filter(|pod| owns(set, &pod.value));
            let counted = |pod: &&Entry<Object>| {
                super::active(pod)
                    && availability(&pod.value, self.spec.min_ready_seconds, now) == Availability::Available
            };
            let replicas = set.view::<ReplicaSetSpec>().map_or(0, ReplicaSetSpec::replicas);
            found.push(Set {
                name: set.name().into(),
                current: *hash == self.hash,
                created: *created,
                replicas: u32::try_from(replicas).unwrap_or(0),
                pods: count(mine().count()),
                available: count(mine().filter(counted).count()),
                scaled_for: number(set, DESIRED).zip(number(set, MOST)),
            });
        }
        found
    }

    async fn create_set(&self, number: u64, replicas: u32) -> Result {
        let name = format!("{}-{}", self.object.name(), self.hash);
        let json = self.object.json()?;
        let mut selector = json.at(&["spec", "selector"]).cloned().unwrap_or(Json::Null);
        let labelled = Json::object([("matchLabels", Json::object([(HASH, self.hash.as_str())]))]);
        selector = selector.merge(labelled);
        let template = self.template.with_label(HASH, &self.hash)?;
        let mut spec =
            vec![("replicas", Json::from(i64::from(replicas))), ("selector", selector), ("template", template.json()?)];
        if self.spec.min_ready_seconds > 0 {
            spec.push(("minReadySeconds", Json::from(i64::from(self.spec.min_ready_seconds))));
        }
        let set = Object::from_json(Json::object([
            ("apiVersion", Json::from(Kind::REPLICA_SET.api_version)),
            ("kind", Json::from(Kind::REPLICA_SET.name)),
            ("metadata", Json::object([("name", name.as_str()), ("namespace", self.object.namespace())])),
            ("spec", Json::object(spec)),
        ]))?;
        let set = set.edit_metadata(|metadata| {
            metadata.labels = template.labels().clone();
            metadata.owner_references = vec![replica_set::owner(&self.object)];
            metadata.annotations =
                self.annotations(number).into_iter().map(|(key, value)| (key.into(), value)).collect();
        })?;
        match self.plane.create(&set).await {
            Ok(_) => {}
            // the store knew it before we did: the next change brings us back
            Err(error) if error.is_conflict() => return Ok(()),
            Err(error) => return Err(error),
        }
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.plane.note(&self.object, "ScalingReplicaSet", &message, NAME).await;
        }
        Ok(())
    }

    fn annotations(&self, number: u64) -> [(&'static str, String); 3] {
        let Wanted { replicas, .. } = self.wanted;
        [(REVISION, number.to_string()), (DESIRED, replicas.to_string()), (MOST, self.wanted.most().to_string())]
    }

    async fn annotate(&self, object: &Object, annotations: &[(&str, String)]) -> Result {
        let annotated = self.plane.edit(object.key(), |there| {
            if there.uid() != object.uid() {
                return Ok(None);
            }
            let set = |metadata: &mut crate::cluster::object::Metadata| {
                for (key, value) in annotations {
                    metadata.annotations.insert((*key).to_owned(), value.clone());
                }
            };
            there.edit_metadata(set).map(Some)
        });
        annotated.await.map(|_| ())
    }

    async fn scale(&self, sets: &BTreeMap<String, Entry<Object>>, scale: &Scale) -> Result {
        let Some(set) = sets.values().map(|entry| &entry.value).find(|set| set.name() == &*scale.name) else {
            return Ok(());
        };
        let before = set.view::<ReplicaSetSpec>()?.replicas();
        let after = i32::try_from(scale.replicas).unwrap_or(i32::MAX);
        let scaled = self.plane.edit(set.key(), |there| {
            if there.uid() != set.uid() {
                return Ok(None);
            }
            there.edit::<ReplicaSetSpec>(|spec| spec.replicas = Some(after)).map(Some)
        });
        scaled.await?;
        let [_, desired, most] = self.annotations(0);
        self.annotate(set, &[desired, most]).await?;
        let direction = if after > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {after}", scale.name);
        self.plane.note(&self.object, "ScalingReplicaSet", &message, NAME).await;
        Ok(())
    }

    /// Removes old sets beyond the history that is kept.
    async fn forget(&self, sets: &BTreeMap<String, Entry<Object>>, seen: &[Set]) -> Result {
        let limit = self.spec.revision_history_limit.map_or(10, |limit| usize::try_from(limit).unwrap_or(0));
        let empty = |set: &&Set| !set.current && set.replicas == 0 && set.pods == 0;
        let mut old: Vec<_> = seen.iter().filter(empty).collect();
        old.sort_by_key(|set| set.created);
        for set in old.iter().take(old.len().saturating_sub(limit)) {
            if let Some(entry) = sets.values().find(|entry| entry.value.name() == &*set.name) {
                self.plane.remove(&entry.value).await?;
            }
        }
        Ok(())
    }

    /// Writes the status.
    async fn tell(&self) -> Result<Next> {
        let (sets, now) = (self.sets(), self.plane.now());
        let pods = self.plane.within(Kind::POD, self.object.namespace());
        let mut counts = Counts::default();
        for (hash, set) in &sets {
            for pod in pods.iter().filter(|pod| owns(&set.value, &pod.value) && super::active(pod)) {
                let availability = availability(&pod.value, self.spec.min_ready_seconds, now);
                counts.replicas += 1;
                counts.updated += u32::from(*hash == self.hash);
                counts.ready += u32::from(availability != Availability::Unready);
                counts.available += u32::from(availability == Availability::Available);
            }
        }
        let name = format!("{}-{}", self.object.name(), self.hash);
        let deadline =
            Duration::from_secs(self.spec.progress_deadline_seconds.map_or(600, |it| it.max(0).unsigned_abs().into()));
        let mut left = None;
        let status = |old: &DeploymentStatus| {
            let (status, wait) =
                told(old, &self.wanted, &counts, &name, self.object.metadata().generation, now, deadline);
            left = wait;
            status
        };
        self.plane.set_status::<DeploymentStatus>(&self.object, status).await?;
        Ok(left.map_or(Next::Done, Next::After))
    }
}

/// The status, and how long until the rollout counts as stuck unless something moves.
fn told(
    old: &DeploymentStatus,
    wanted: &Wanted,
    counts: &Counts,
    set: &str,
    generation: i64,
    now: Timestamp,
    deadline: Duration,
) -> (DeploymentStatus, Option<Duration>) {
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let mut status = DeploymentStatus {
        observed_generation: generation,
        replicas: number(counts.replicas),
        updated_replicas: number(counts.updated),
        ready_replicas: number(counts.ready),
        available_replicas: number(counts.available),
        unavailable_replicas: number(wanted.replicas.max(counts.replicas).saturating_sub(counts.available)),
        ..old.clone()
    };
    let figures = |it: &DeploymentStatus| (it.replicas, it.updated_replicas, it.ready_replicas, it.available_replicas);
    let before = old.conditions.iter().find(|condition| condition.type_ == "Progressing");
    let moved = before.and_then(|condition| condition.last_update_time);
    let moved = match moved {
        Some(then) if figures(old) == figures(&status) && old.observed_generation == generation => then,
        _ => now,
    };
    let stalled = Duration::from_secs(now.as_unix_seconds().saturating_sub(moved.as_unix_seconds()));
    let available = rollout::available(wanted, counts);
    let progress = rollout::progress(wanted, counts, set, stalled, deadline);
    let complete = progress.reason == "NewReplicaSetAvailable";
    let left = (!complete && progress.holds && !wanted.paused).then(|| deadline.saturating_sub(stalled));
    for (name, verdict, updated) in [("Available", available, now), ("Progressing", progress, moved)] {
        let known = status.conditions.iter().find(|condition| condition.type_ == name);
        let mut next = Condition::new(name, verdict.holds, verdict.reason, &verdict.message, now);
        let same =
            known.is_some_and(|it| it.status == next.status && it.reason == next.reason && it.message == next.message);
        next.last_update_time = match known {
            Some(known) if same && name == "Available" => known.last_update_time,
            _ => Some(updated),
        };
        next.set(&mut status.conditions);
    }
    (status, left)
}

fn bound(declared: Option<IntOrString>) -> Result<Bound> {
    match declared {
        None => Ok(Bound::default()),
        Some(IntOrString::Int(count)) => Ok(Bound::Count(u32::try_from(count).unwrap_or(0))),
        Some(IntOrString::String(text)) => text.parse(),
    }
}

fn revision(set: &Object) -> u64 {
    set.metadata().annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
