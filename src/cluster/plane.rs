//! What all parts of the control plane share: the objects, and the rules by which they are created, changed and deleted.

use super::{
    claims::Claims,
    identity::Identities,
    object::{Metadata, NamespaceStatus, Object, PodStatus, Timestamp, View},
    recorder::Recorder,
    service::{Addresses, Routes},
};
use crate::{
    base::{self, Error, Result, Seed, sync::Lock, time::WallClock},
    cluster::object::Kind,
    net::Net,
    pod::{Images, Resources},
    store::{Entry, Store, Write},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How a pod is changed before it is created: the seam for what is injected into pods.
pub(super) type Admission = Arc<dyn Fn(Object) -> Result<Object> + Send + Sync>;

pub(super) struct Plane {
    pub(super) store: Store<Object>,
    pub(super) wall: WallClock,
    pub(super) seed: Seed,
    pub(super) identities: Identities,
    pub(super) recorder: Recorder,
    pub(super) net: Net,
    pub(super) images: Images,
    /// What the containers of all pods find by name: brokers above all, so that queues outlive pods.
    pub(super) resources: Lock<Resources>,
    /// Environment of all containers, below their own.
    pub(super) env: BTreeMap<String, String>,
    pub(super) routes: Arc<Routes>,
    pub(super) addresses: Lock<Addresses>,
    /// The volumes of stateful sets' pods, which outlive pods too.
    pub(super) claims: Claims,
    pub(super) admission: Option<Admission>,
}

impl Plane {
    /// Now, as objects have it.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from(self.wall.now())
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry<Object>> {
        self.store.get(key)
    }

    /// All objects under this prefix.
    pub(super) fn all(&self, prefix: &str) -> Vec<Entry<Object>> {
        self.store.list(prefix, None, usize::MAX).entries
    }

    /// The objects of this kind in this namespace.
    pub(super) fn within(&self, kind: &Kind, namespace: &str) -> Vec<Entry<Object>> {
        self.all(&format!("{}/{namespace}/", kind.plural))
    }

    /// A new object with what only the server gives it: identity, time of creation, first generation.
    pub(super) fn stamped(&self, object: &Object) -> Result<Object> {
        object.edit_metadata(|metadata| {
            metadata.uid = self.identities.uid();
            metadata.creation_timestamp = Some(self.now());
            metadata.generation = 1;
        })
    }

    /// Creates an object.
    ///
    /// # Errors
    /// A conflict where there is one of its name; what admission says of a pod.
    pub(super) async fn create(&self, object: &Object) -> Result<Object> {
        let admitted = match &self.admission {
            Some(admission) if object.kind() == Kind::POD => admission(object.clone())?,
            _ => object.clone(),
        };
        let object = self.stamped(&admitted)?;
        self.store.commit(vec![Write::create(object.key(), object.clone())]).await.map_err(|error| {
            match error.is_conflict() {
                true => Error::new(base::Kind::Conflict, "it already exists").at(object.key().as_str()),
                false => error,
            }
        })?;
        Ok(object)
    }

    /// Changes an object, as often as others get in between. What the closure leaves as it is, is not written; a
    /// change of the spec counts up the generation.
    ///
    /// Returns what is there now; `None` where the object does not exist, or the closure wants nothing of it.
    pub(super) async fn edit(
        &self,
        key: &str,
        mut change: impl FnMut(&Object) -> Result<Option<Object>> + Send,
    ) -> Result<Option<Object>> {
        loop {
            let Some(entry) = self.get(key) else { return Ok(None) };
            let Some(next) = change(&entry.value)? else { return Ok(None) };
            if next == entry.value {
                return Ok(Some(next));
            }
            let next = match next.same_spec(&entry.value) {
                true => next,
                false => next.edit_metadata(|metadata| metadata.generation += 1)?,
            };
            match self.store.commit(vec![Write::replace(&entry, next.clone())]).await {
                Ok(_) => return Ok(Some(next)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes the status of this very object; nothing where it is gone or another.
    pub(super) async fn set_status<V: View>(
        &self,
        object: &Object,
        mut change: impl FnMut(&V) -> V + Send,
    ) -> Result<Option<Object>> {
        self.edit(object.key(), |now| {
            if now.uid() != object.uid() {
                return Ok(None);
            }
            let old = now.view::<V>()?;
            let new = change(old);
            if new == *old { Ok(Some(now.clone())) } else { now.edit::<V>(|status| *status = new.clone()).map(Some) }
        })
        .await
    }

    /// Begins to delete an object, or removes it at once where nothing has to end first.
    ///
    /// A pod that has a node gets its grace (its own, or this one; none removes it at once); a namespace is emptied
    /// first. Asking again can only shorten the grace.
    ///
    /// # Errors
    /// Not found, where there is none.
    pub(super) async fn delete(&self, key: &str, grace: Option<Duration>) -> Result {
        let missing = || Error::new(base::Kind::NotFound, "").at(key);
        let object = self.get(key).ok_or_else(missing)?.value;
        let grace = match object.kind() {
            kind if kind == Kind::POD => {
                let own = object.view::<super::object::PodSpec>()?.grace();
                let over = object.view::<PodStatus>()?.phase.is_over();
                if object.node().is_none() || over { Duration::ZERO } else { grace.unwrap_or(own) }
            }
            kind if kind == Kind::NAMESPACE => {
                let terminating = NamespaceStatus { phase: "Terminating".into() };
                let marked =
                    self.edit(key, |now| now.with(&terminating)?.edit_metadata(|it| self.mark(it, 0)).map(Some));
                return marked.await?.map(|_| ()).ok_or_else(missing);
            }
            _ => Duration::ZERO,
        };
        if grace.is_zero() {
            return self.remove(&object).await;
        }
        let seconds = i64::try_from(grace.as_secs().max(1)).unwrap_or(i64::MAX);
        self.edit(key, |now| now.edit_metadata(|metadata| self.mark(metadata, seconds)).map(Some)).await?;
        Ok(())
    }

    fn mark(&self, metadata: &mut Metadata, seconds: i64) {
        if metadata.deletion_grace_period_seconds.is_some_and(|earlier| earlier <= seconds) {
            return;
        }
        metadata.deletion_grace_period_seconds = Some(seconds);
        let end = self.now().as_unix_seconds().saturating_add(seconds.unsigned_abs());
        metadata.deletion_timestamp = Some(Timestamp::unix_seconds(end));
    }

    /// Removes this very object; nothing where it is gone already, or another has its name.
    pub(super) async fn remove(&self, object: &Object) -> Result {
        loop {
            let Some(entry) = self.get(object.key()) else { return Ok(()) };
            if entry.value.uid() != object.uid() {
                return Ok(());
            }
            let write = Write { key: entry.key, expect: crate::store::Expect::Revision(entry.revision), value: None };
            match self.store.commit(vec![write]).await {
                Ok(_) => break,
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        if object.kind() == Kind::SERVICE
            && let Some(ip) =
                object.view::<super::object::ServiceSpec>().ok().and_then(|spec| spec.cluster_ip.parse().ok())
        {
            self.addresses.lock().release(ip);
        }
        Ok(())
    }

    /// Notes that something ordinary happened to an object.
    pub(super) async fn note(&self, object: &Object, reason: &str, message: &str, who: &str) {
        self.recorder.record(self, object, "Normal", reason, message, who).await;
    }

    /// Notes that something went wrong with an object.
    pub(super) async fn warn(&self, object: &Object, reason: &str, message: &str, who: &str) {
        self.recorder.record(self, object, "Warning", reason, message, who).await;
    }
}
