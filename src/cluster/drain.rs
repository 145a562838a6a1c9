//! Emptying a node.

use super::{
    Cluster,
    object::{Condition, Kind, Object, PodStatus},
    reference::Reference,
};
use crate::{
    base::{Deadline, Result},
    store::Start,
};
use std::{collections::BTreeMap, time::Duration};

/// How long an eviction waits for its owner's other pods before it goes ahead.
const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Cordons a node and ends its pods in order; returns when all have gone. Those that are owned come back elsewhere.
    ///
    /// Pods of one owner go one after the other, each once those that replace the ones before are ready (or a minute has
    /// passed), so that an owner with several pods keeps serving. A pod that is the only one of its owner goes at once.
    ///
    /// # Errors
    /// [`NotFound`](crate::base::Kind::NotFound) where there is no such node.
    ///
    /// **Cancel-safety**: dropped early, the node stays cordoned and pods that were told to go do go.
    pub async fn drain(&self, node: &str) -> Result {
        self.cordon(node).await?;
        let name = Reference::of(Kind::NODE, node)?.name;
        let mut owners: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for entry in self.0.plane.all(&Kind::POD.prefix()) {
            let pod = entry.value;
            if pod.node() == Some(&name) {
                let owner = pod.metadata().controller().map_or_else(|| pod.uid().to_owned(), |owner| owner.uid.clone());
                owners.entry(owner).or_default().push(pod);
            }
        }
        let evictions = owners.iter().map(|(owner, pods)| self.evict_in_turn(owner, pods));
        futures::future::try_join_all(evictions).await?;
        Ok(())
    }

    async fn evict_in_turn(&self, owner: &str, pods: &[Object]) -> Result {
        for (number, pod) in pods.iter().enumerate() {
            if number > 0 {
                self.until_whole(owner, pod).await;
            }
            match self.0.plane.delete(pod.key(), None).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        for pod in pods {
            let mut watch = self.0.plane.store.watch(pod.key(), Start);
            while self.0.plane.get(pod.key()).is_some_and(|entry| entry.value.uid() == pod.uid()) {
                if watch.next().await.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits until every pod of the owner that is not about to go is ready.
    async fn until_whole(&self, owner: &str, like: &Object) {
        let deadline = Deadline::within(PATIENCE);
        let prefix = format!("{}{}/", Kind::POD.prefix(), like.namespace());
        let wanted = like.metadata().controller().and_then(|owner| {
            let set = self.get(&format!("{}/{}/{}", owner.kind, like.namespace(), owner.name)).ok()?;
            super::apply::replicas(&set).ok()?
        });
        let mut watch = self.0.plane.store.watch(&prefix, Start);
        loop {
            let pods = self.0.plane.all(&prefix);
            let mine = pods.iter().map(|entry| &entry.value).filter(|pod| {
                let owned = pod.metadata().controller().is_some_and(|it| it.uid == owner);
                owned && !pod.metadata().is_deleting()
            });
            let ready =
                mine.filter(|pod| pod.view::<PodStatus>().is_ok_and(|it| Condition::holds(&it.conditions, "Ready")));
            let ready = i32::try_from(ready.count()).unwrap_or(i32::MAX);
            if wanted.is_none_or(|wanted| ready >= wanted) || !matches!(deadline.bound(watch.next()).await, Ok(Some(_)))
            {
                return;
            }
        }
    }
}
