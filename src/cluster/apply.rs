//! Applying a manifest: every object of it, or none.

use super::{
    controllers::replica_set::pending,
    manifest::{self, Warning},
    object::{DeploymentSpec, Json, Kind, Members, Object, ReplicaSetSpec, ServiceSpec, ServiceType, StatefulSetSpec},
    plane::Plane,
};
use crate::{
    base::{self, Error, Result},
    store::{Key, Write},
};
use std::{fmt, net::Ipv4Addr};

/// The annotation that holds what was applied last, by which the next time tells what was taken out.
const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How often an apply begins anew because others wrote in between.
const TRIES: usize = 16;

/// What became of one object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where it stands in the store.
    pub key: Key,
    /// Its kind.
    pub kind: &'static Kind,
    /// What was done.
    pub change: Change,
    /// What the manifest says of it without effect: fields that are stored and not acted on.
    pub warnings: Vec<Warning>,
}

/// What applying an object did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It was there, and is different now.
    Configured,
    /// It was there as it is in the manifest.
    Unchanged,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.kind.api_version.split_once('/').map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        let change = match self.change {
            Change::Created => "created",
            Change::Configured => "configured",
            Change::Unchanged => "unchanged",
        };
        write!(f, "{}{dot}{group}/{} {change}", self.kind.name.to_lowercase(), self.key.name())
    }
}

/// Applies all objects in one commit.
pub(super) async fn apply(plane: &Plane, text: &str) -> Result<Vec<Applied>> {
    let manifest = manifest::read(text)?;
    let mut conflict = None;
    for _ in 0..TRIES {
        let mut plan =
            Plan { plane, claims: Vec::new(), given_up: Vec::new(), writes: Vec::new(), applied: Vec::new() };
        for read in &manifest {
            plan.add(read, &manifest)?;
        }
        match plan.commit().await {
            Err(error) if error.is_conflict() => conflict = Some(error),
            done => return done,
        }
    }
    Err(conflict.unwrap_or_else(|| Error::new(base::Kind::Conflict, "")))
}

struct Plan<'a> {
    plane: &'a Plane,
    /// Addresses taken for it, given back unless it is committed.
    claims: Vec<Ipv4Addr>,
    /// Addresses that are free again once it is committed.
    given_up: Vec<Ipv4Addr>,
    writes: Vec<Write<Object>>,
    applied: Vec<Applied>,
}

impl Plan<'_> {
    fn add(&mut self, read: &manifest::Read, all: &[manifest::Read]) -> Result {
        let object = &read.object;
        self.check_namespace(object, all)?;
        let there = self.plane.get(object.key());
        let change = match &there {
            None => {
                let new = self.prepared(object)?;
                self.writes.push(Write::create(object.key(), new));
                Change::Created
            }
            Some(entry) => {
                let mut next = merged(&entry.value, object)?;
                manifest::check_update(&entry.value, &next)?;
                if next.kind() == Kind::SERVICE {
                    next = self.readdressed(&entry.value, next)?;
                }
                let configured = next != entry.value;
                if configured {
                    let next = match next.same_spec(&entry.value) {
                        true => next,
                        false => next.edit_metadata(|metadata| metadata.generation += 1)?,
                    };
                    self.writes.push(Write::replace(entry, next));
                }
                if configured { Change::Configured } else { Change::Unchanged }
            }
        };
        let warnings = read.warnings.clone();
        self.applied.push(Applied { key: object.key().clone(), kind: object.kind(), change, warnings });
        Ok(())
    }

    fn check_namespace(&self, object: &Object, all: &[manifest::Read]) -> Result {
        let namespace = object.namespace();
        let is_home = |it: &Object| it.kind() == Kind::NAMESPACE && it.name() == namespace;
        if namespace.is_empty() || all.iter().any(|it| is_home(&it.object)) {
            return Ok(());
        }
        let place = object.key().as_str();
        match self.plane.get(&Key::from([Kind::NAMESPACE.plural, namespace])) {
            None => Err(Error::new(base::Kind::NotFound, format!("there is no namespace {namespace:?}")).at(place)),
            Some(entry) if entry.value.metadata().is_deleting() => {
                let message = format!("the namespace {namespace:?} is being deleted");
                Err(Error::new(base::Kind::Rejected, message).at(place))
            }
            Some(_) => Ok(()),
        }
    }

    /// An object that is not there yet, with all that only the server gives it.
    fn prepared(&mut self, object: &Object) -> Result<Object> {
        let mut new = noted(object, object)?;
        if new.kind() == Kind::SERVICE {
            new = self.addressed(new)?;
        }
        if new.kind() == Kind::POD {
            if let Some(admission) = &self.plane.admission {
                new = admission(new)?;
            }
            new = pending(&new)?;
        }
        self.plane.stamped(&new)
    }

    /// A service with its cluster address: the one it asks for, or one that is free.
    fn addressed(&mut self, service: Object) -> Result<Object> {
        let spec = service.view::<ServiceSpec>()?;
        if spec.is_headless() || spec.type_ == ServiceType::ExternalName {
            return Ok(service);
        }
        let mut addresses = self.plane.addresses.lock();
        let ip = match spec.cluster_ip.parse::<Ipv4Addr>() {
            Ok(ip) => {
                addresses
                    .claim(ip, service.key())
                    .map_err(|error| error.at(format!("{}: spec.clusterIP", service.key())))?;
                ip
            }
            Err(_) => addresses.allocate(service.key())?,
        };
        drop(addresses);
        self.claims.push(ip);
        let text = ip.to_string();
        service.edit::<ServiceSpec>(|spec| {
            spec.cluster_ips = vec![text.clone()];
            spec.cluster_ip = text;
        })
    }

    /// A service that was there, with an address if its type has become one that needs it, without if it has not.
    fn readdressed(&mut self, there: &Object, next: Object) -> Result<Object> {
        let old = there.view::<ServiceSpec>()?.cluster_ip.parse::<Ipv4Addr>().ok();
        match (old, next.view::<ServiceSpec>()?.type_ == ServiceType::ExternalName) {
            (None, false) => self.addressed(next),
            (Some(old), true) => {
                self.given_up.push(old);
                Ok(next)
            }
            _ => Ok(next),
        }
    }

    async fn commit(mut self) -> Result<Vec<Applied>> {
        let writes = std::mem::take(&mut self.writes);
        if !writes.is_empty() {
            self.plane.store.commit(writes).await?;
        }
        self.claims = std::mem::take(&mut self.given_up); // what is dropped with the plan is free
        Ok(std::mem::take(&mut self.applied))
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        let mut addresses = self.plane.addresses.lock();
        self.claims.drain(..).for_each(|ip| addresses.release(ip));
    }
}

/// The object with a note of what was applied.
fn noted(object: &Object, applied: &Object) -> Result<Object> {
    let text = if applied.kind() == Kind::SECRET { without_values(applied)? } else { applied.write(0) };
    object.edit_metadata(|metadata| drop(metadata.annotations.insert(LAST.into(), text)))
}

/// A secret's text without its values: which keys it had is all that the next time needs.
fn without_values(secret: &Object) -> Result<String> {
    let mut json = secret.json()?;
    let data = json.as_object_mut().and_then(|members| members.get_mut("data")).and_then(Json::as_object_mut);
    for (_, value) in data.into_iter().flat_map(Members::iter_mut) {
        *value = "".into();
    }
    Ok(json.canonical())
}

/// What is there, with what this manifest says, and without what the last one said and this one does not.
///
/// What others have set stays, as in Kubernetes' three-way merge: addresses, a status, labels of controllers. So do
/// `replicas` that are 1 in this manifest and the last, since a manifest without them reads the same.
fn merged(there: &Object, applied: &Object) -> Result<Object> {
    let last = there.metadata().annotations.get(LAST).map(|text| Json::read(text)).transpose()?;
    let new = applied.json()?;
    let mut wanted = new.clone();
    if last.as_ref().is_some_and(|last| untold_replicas(last) && untold_replicas(&new))
        && let Some(spec) = wanted.as_object_mut().and_then(|it| it.get_mut("spec")).and_then(Json::as_object_mut)
    {
        spec.remove("replicas");
    }
    let mut next = there.clone();
    if let Some(removals) = last.and_then(|last| last.diff(&new)) {
        next = next.patch(removals_only(removals))?;
    }
    next = next.patch(wanted)?;
    if next.kind() == Kind::SERVICE {
        next = keep_address(there, next)?;
    }
    noted(&next, applied)
}

fn untold_replicas(object: &Json<'_>) -> bool {
    object.at(&["spec", "replicas"]).is_some_and(|replicas| *replicas == Json::from(1_i64))
}

/// Of a patch, what it takes out.
fn removals_only(patch: Json<'_>) -> Json<'_> {
    match patch {
        Json::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| matches!(value, Json::Null | Json::Object(_)));
            Json::Object(kept.map(|(key, value)| (key, removals_only(value))).collect())
        }
        other => other,
    }
}

fn keep_address(there: &Object, next: Object) -> Result<Object> {
    let old = there.view::<ServiceSpec>()?.clone();
    next.edit::<ServiceSpec>(|spec| {
        if spec.type_ == ServiceType::ExternalName {
            (spec.cluster_ip, spec.cluster_ips) = Default::default();
        } else if spec.cluster_ip.is_empty() {
            spec.cluster_ip = old.cluster_ip;
            spec.cluster_ips = old.cluster_ips;
        }
    })
}

/// How many pods a workload wants.
pub(super) fn replicas(object: &Object) -> Result<Option<i32>> {
    Ok(match object.kind() {
        kind if kind == Kind::DEPLOYMENT => Some(object.view::<DeploymentSpec>()?.replicas()),
        kind if kind == Kind::REPLICA_SET => Some(object.view::<ReplicaSetSpec>()?.replicas()),
        kind if kind == Kind::STATEFUL_SET => Some(object.view::<StatefulSetSpec>()?.replicas()),
        _ => None,
    })
}
