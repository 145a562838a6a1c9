//! Deletes pods whose node is gone, as Kubernetes' pod garbage collector does.

use crate::{
    base::{
        Result,
        sync::Lock,
        time::{self, Instant},
    },
    cluster::{
        object::{Condition, Kind, Object, PodPhase, PodStatus},
        plane::Plane,
    },
    control::Next,
    store::{Change, Key},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a node may be missing before its pods are deleted: Kubernetes' `quarantineTime`. A node of the same name that
/// comes back in time keeps them.
const QUARANTINE: Duration = Duration::from_secs(40);

/// The nodes that pods are bound to and that are not there, each with the moment it was first missed.
pub(in crate::cluster) struct Orphans {
    plane: Arc<Plane>,
    missing: Lock<BTreeMap<Key, Instant>>,
}

impl Orphans {
    pub(in crate::cluster) fn new(plane: Arc<Plane>) -> Self {
        Orphans { plane, missing: Lock::default() }
    }

    /// The nodes that a change puts in doubt: one that was removed or came back, one that a pod is bound to without its
    /// being there.
    pub(in crate::cluster) fn keys(&self, change: &Change<Object>) -> Vec<Key> {
        let node = |object: &Object| match object.kind() {
            kind if kind == Kind::NODE => Some(Key::from([kind.plural, object.name()])),
            _ => {
                let key = Key::from([Kind::NODE.plural, object.node()?]);
                self.plane.get(&key).is_none().then_some(key)
            }
        };
        match change {
            Change::Remove(entry) if entry.value.kind() != Kind::NODE => Vec::new(),
            change => change.entries().iter().filter_map(|entry| node(&entry.value)).collect(),
        }
    }

    /// Deletes the pods of a node that has been missing for long enough: without grace, since nobody is there to grant it.
    pub(in crate::cluster) async fn reconcile(&self, node: &Key) -> Result<Next> {
        let bound = |pod: &Object| pod.node() == Some(node.name());
        let mut pods = match self.plane.get(node) {
            Some(_) => Vec::new(),
            None => self.plane.all(&Kind::POD.prefix()),
        };
        pods.retain(|pod| bound(&pod.value));
        if pods.is_empty() {
            self.missing.lock().remove(node);
            return Ok(Next::Done);
        }
        let now = time::now();
        let missed = now.saturating_duration_since(*self.missing.lock().entry(node.clone()).or_insert(now));
        if missed < QUARANTINE {
            return Ok(Next::After(QUARANTINE - missed));
        }
        for pod in &pods {
            self.delete(&pod.value).await?;
        }
        self.missing.lock().remove(node);
        Ok(Next::Done)
    }

    /// Whoever watches sees why it failed before it goes.
    async fn delete(&self, pod: &Object) -> Result {
        let now = self.plane.now();
        let failed = self.plane.set_status::<PodStatus>(pod, |old| {
            let mut status = old.clone();
            if !status.phase.is_over() {
                status.phase = PodPhase::Failed;
            }
            let why = Condition::new("DisruptionTarget", true, "DeletionByPodGC", "PodGC: node no longer exists", now);
            why.set(&mut status.conditions);
            status
        });
        failed.await?;
        self.plane.remove(pod).await
    }
}
