//! Binds pods to nodes.

use crate::{
    base::{Result, Seed, sync::Lock},
    cluster::{
        demand,
        object::{Condition, Kind, NodeSpec, NodeStatus, Object, PodSpec, PodStatus},
        plane::Plane,
        schedule::{Nodes, Unschedulable},
    },
    control::Next,
    store::{Change, Entry, Key},
};
use std::{collections::BTreeSet, sync::Arc};

const NAME: &str = "default-scheduler";

/// The snapshot that picks are made from, and the pods that fit nowhere.
pub(in crate::cluster) struct Scheduler {
    plane: Arc<Plane>,
    state: Lock<State>,
}

struct State {
    nodes: Nodes,
    /// Tried again whenever a node changes or room is made.
    waiting: BTreeSet<Key>,
}

impl Scheduler {
    pub(in crate::cluster) fn new(plane: Arc<Plane>, seed: Seed) -> Self {
        Scheduler { plane, state: Lock::new(State { nodes: Nodes::new(seed), waiting: BTreeSet::new() }) }
    }

    /// Takes a change into the snapshot; returns the pods to look at because of it.
    pub(in crate::cluster) fn observe(&self, change: &Change<Object>) -> Vec<Key> {
        let mut state = self.state.lock();
        let mut keys = Vec::new();
        match change {
            Change::Put { entry, .. } => state.put(entry, &mut keys),
            Change::Remove(entry) => state.remove(&entry.key, entry.value.kind(), &mut keys),
            // the pump tells of single changes only
            Change::Reset { entries, .. } => entries.iter().for_each(|entry| state.put(entry, &mut keys)),
        }
        keys
    }

    /// Gives a pod its node.
    pub(in crate::cluster) async fn reconcile(&self, key: &Key) -> Result<Next> {
        let Some(entry) = self.plane.get(key).filter(|entry| wanting(&entry.value)) else {
            self.state.lock().waiting.remove(key);
            return Ok(Next::Done);
        };
        let pod = entry.value;
        let demand = Arc::new(demand::demand(pod.metadata(), pod.view::<PodSpec>()?));
        let picked = {
            let mut state = self.state.lock();
            let picked = state.nodes.pick(&demand);
            match &picked {
                // taken into account before it is written, so that the next pod sees it
                Ok(node) => {
                    state.nodes.place(key, node, &demand);
                    state.waiting.remove(key);
                }
                Err(_) => drop(state.waiting.insert(key.clone())),
            }
            picked
        };
        match picked {
            Ok(node) => self.bind(&pod, &node).await?,
            Err(why) => self.explain(&pod, &why).await?,
        }
        Ok(Next::Done)
    }

    async fn bind(&self, pod: &Object, node: &Arc<str>) -> Result {
        let now = self.plane.now();
        let bound = self.plane.edit(pod.key(), |there| {
            if there.uid() != pod.uid() || !wanting(there) {
                return Ok(None);
            }
            let bound = there.bound(node.clone());
            let scheduled = Condition::new("PodScheduled", true, "", "", now);
            bound.edit::<PodStatus>(|status| scheduled.set(&mut status.conditions)).map(Some)
        });
        match bound.await {
            Ok(Some(_)) => {
                let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
                self.plane.note(pod, "Scheduled", &message, NAME).await;
                Ok(())
            }
            other => {
                self.state.lock().nodes.release(pod.key());
                other.map(|_| ())
            }
        }
    }

    async fn explain(&self, pod: &Object, why: &Unschedulable) -> Result {
        let (now, why) = (self.plane.now(), why.to_string());
        let status = self.plane.set_status::<PodStatus>(pod, |status| {
            let mut status = status.clone();
            Condition::new("PodScheduled", false, "Unschedulable", &why, now).set(&mut status.conditions);
            status
        });
        status.await?;
        self.plane.warn(pod, "FailedScheduling", &why, NAME).await;
        Ok(())
    }
}

impl State {
    fn put(&mut self, entry: &Entry<Object>, keys: &mut Vec<Key>) {
        let object = &entry.value;
        if object.kind() == Kind::NODE {
            let Ok(spec) = object.view::<NodeSpec>() else { return };
            let Ok(status) = object.view::<NodeStatus>() else { return };
            self.nodes.put(object.name(), demand::shape(object.metadata(), spec, status));
            keys.extend(self.waiting.iter().cloned());
            return;
        }
        let over = object.view::<PodStatus>().is_ok_and(|status| status.phase.is_over());
        match object.node() {
            Some(_) if over => self.release(&entry.key, keys),
            Some(node) => {
                let Ok(spec) = object.view::<PodSpec>() else { return };
                let demand = Arc::new(demand::demand(object.metadata(), spec));
                self.nodes.place(&entry.key, node, &demand);
            }
            // one that is written because it does not fit is not tried again for that
            None if self.waiting.contains(&entry.key) => {}
            None => keys.push(entry.key.clone()),
        }
    }

    fn remove(&mut self, key: &Key, kind: &Kind, keys: &mut Vec<Key>) {
        if kind == Kind::NODE {
            self.nodes.remove(key.name());
        } else {
            self.waiting.remove(key);
            self.release(key, keys);
        }
    }

    fn release(&mut self, key: &Key, keys: &mut Vec<Key>) {
        if self.nodes.release(key).is_some() {
            keys.extend(self.waiting.iter().cloned());
        }
    }
}

/// Whether a pod wants a node.
fn wanting(pod: &Object) -> bool {
    pod.kind() == Kind::POD && pod.node().is_none() && !pod.metadata().is_deleting()
}
