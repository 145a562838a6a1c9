//! What a pod's declarations are resolved against.

use super::variables::{self, Site};
use crate::{
    cluster::{
        object::{ConfigMap, Kind, NodeStatus, Object, PodSpec, Secret, ServiceSpec, View},
        plane::Plane,
    },
    store::Key,
};
use std::{collections::BTreeMap, net::IpAddr};

/// Works on a pod's declarations with all at hand that they may refer to.
pub(super) fn with<T>(
    plane: &Plane,
    object: &Object,
    spec: &PodSpec,
    node: &str,
    host_ip: &str,
    pod_ip: &str,
    work: impl FnOnce(&Site<'_>) -> T,
) -> T {
    let namespace = object.namespace();
    work(&Site {
        metadata: object.metadata(),
        spec,
        node,
        host_ip,
        pod_ip,
        config_map: &|name| lookup::<ConfigMap>(plane, namespace, name),
        secret: &|name| lookup::<Secret>(plane, namespace, name),
        claim: &|name| plane.claims.get(namespace, name),
    })
}

fn lookup<V: View>(plane: &Plane, namespace: &str, name: &str) -> Option<V> {
    let entry = plane.get(&Key::from([V::KIND.plural, namespace, name]))?;
    entry.value.view::<V>().ok().cloned()
}

/// A node's address, as pods are told; empty where it has none.
pub(super) fn host_ip(plane: &Plane, node: &str) -> String {
    let status = lookup::<NodeStatus>(plane, "", node).unwrap_or_default();
    let internal = status.addresses.iter().find(|address| address.type_ == "InternalIP");
    internal.map(|address| address.address.clone()).unwrap_or_default()
}

/// The variables by which containers of a namespace find its services.
pub(super) fn services(plane: &Plane, namespace: &str) -> BTreeMap<String, String> {
    let entries = plane.within(Kind::SERVICE, namespace);
    let with_address = entries.iter().filter_map(|entry| {
        let spec = entry.value.view::<ServiceSpec>().ok()?;
        spec.cluster_ip.parse::<IpAddr>().ok()?;
        Some(variables::of_service(entry.value.name(), &spec.cluster_ip, &spec.ports))
    });
    with_address.flatten().collect()
}

/// Whether a pod uses this config map or secret.
pub(super) fn mentions(pod: &Object, object: &Object) -> bool {
    let Ok(spec) = pod.view::<PodSpec>() else { return false };
    let name = object.name();
    let map = object.kind() == Kind::CONFIG_MAP;
    let by_volume = spec.volumes.iter().any(|volume| match map {
        true => volume.config_map.as_ref().is_some_and(|source| source.name == name),
        false => volume.secret.as_ref().is_some_and(|source| source.secret_name == name),
    });
    let by_variable = spec.containers.iter().chain(&spec.init_containers).any(|container| {
        let from = container.env_from.iter().any(|source| {
            let reference = if map { &source.config_map_ref } else { &source.secret_ref };
            reference.as_ref().is_some_and(|reference| reference.name == name)
        });
        let sources = container.env.iter().filter_map(|variable| variable.value_from.as_ref());
        let mut keys =
            sources.filter_map(|it| if map { it.config_map_key_ref.as_ref() } else { it.secret_key_ref.as_ref() });
        from || keys.any(|reference| reference.name == name)
    });
    by_volume || by_variable
}
