//! Keeps the slices of services, and the routes made from them.

use super::own;
use crate::{
    base::{Labels, Result, Selector},
    cluster::{
        identity,
        object::{
            self, Condition, EndpointConditions, EndpointPort, EndpointSlice, IntOrString, Kind, Metadata, Object,
            ObjectReference, PodSpec, PodStatus, Protocol, ServiceSpec,
        },
        plane::Plane,
        service::{self, Member, SERVICE_LABEL, Slice, Target},
    },
    control::Next,
    store::{Change, Entry, Key, Write},
};

/// The services that a change concerns.
pub(in crate::cluster) fn keys(plane: &Plane, change: &Change<Object>) -> Vec<Key> {
    match change.values().next().map(Object::kind) {
        Some(kind) if kind == Kind::SERVICE => own(change),
        Some(kind) if kind == Kind::ENDPOINT_SLICE => {
            let service =
                |it: &Object| Some(Key::from([Kind::SERVICE.plural, it.namespace(), it.labels().get(SERVICE_LABEL)?]));
            change.values().filter_map(service).collect()
        }
        Some(kind) if kind == Kind::POD => {
            let mut keys: Vec<Key> = change.values().flat_map(|pod| of_pod(plane, pod)).collect();
            keys.sort();
            keys.dedup();
            keys
        }
        _ => Vec::new(),
    }
}

fn of_pod(plane: &Plane, pod: &Object) -> Vec<Key> {
    let selects = |service: &Entry<Object>| selected(&service.value, pod.labels());
    plane.within(Kind::SERVICE, pod.namespace()).into_iter().filter(selects).map(|service| service.key).collect()
}

fn selected(service: &Object, labels: &Labels) -> bool {
    service
        .view::<ServiceSpec>()
        .is_ok_and(|spec| !spec.selector.is_empty() && Selector::equal_to(&spec.selector).matches(labels))
}

/// Writes the slices of a service that selects pods, then sets its routes.
pub(in crate::cluster) async fn reconcile(plane: &Plane, key: &Key) -> Result<Next> {
    let Some(object) = plane.get(key).map(|entry| entry.value) else {
        plane.routes.remove(key);
        return Ok(Next::Done);
    };
    let spec = object.view::<ServiceSpec>()?;
    if !spec.selector.is_empty() {
        let ports: Vec<_> = spec.ports.iter().map(port).collect();
        let members: Vec<_> = plane
            .within(Kind::POD, object.namespace())
            .iter()
            .filter(|pod| selected(&object, pod.value.labels()))
            .filter_map(|pod| member(&pod.value, object.name()))
            .collect();
        let wanted = service::slices(&ports, &members, spec.publish_not_ready_addresses);
        write(plane, &object, &wanted).await?;
    }
    let slices = of_service(plane, &object);
    let views: Vec<_> = slices.iter().filter_map(|slice| slice.value.view::<EndpointSlice>().ok()).collect();
    plane.routes.set(key, spec, &views);
    Ok(Next::Done)
}

fn of_service(plane: &Plane, service: &Object) -> Vec<Entry<Object>> {
    let mut slices = plane.within(Kind::ENDPOINT_SLICE, service.namespace());
    slices.retain(|slice| slice.value.labels().get(SERVICE_LABEL) == Some(service.name()));
    slices
}

fn port(declared: &object::ServicePort) -> service::Port {
    service::Port {
        name: declared.name.as_str().into(),
        protocol: declared.protocol.unwrap_or_default().as_str().into(),
        target: match declared.target() {
            IntOrString::Int(number) => Target::Number(u16::try_from(number).unwrap_or(0)),
            IntOrString::String(name) => Target::Named(name.into()),
        },
    }
}

/// The pod as its services see it; none before it has an address, and after its end.
fn member(pod: &Object, service: &str) -> Option<Member> {
    let (spec, status) = (pod.view::<PodSpec>().ok()?, pod.view::<PodStatus>().ok()?);
    if status.phase.is_over() {
        return None;
    }
    let named = !spec.hostname.is_empty() && spec.subdomain == service;
    let all = spec.init_containers.iter().filter(|it| it.is_sidecar()).chain(&spec.containers);
    let ports = all.flat_map(|container| &container.ports).filter(|port| !port.name.is_empty());
    Some(Member {
        name: pod.name().into(),
        ip: status.pod_ip.parse().ok()?,
        node: pod.node().unwrap_or_default().into(),
        hostname: named.then(|| spec.hostname.as_str().into()),
        ready: Condition::holds(&status.conditions, "Ready") || (pod.metadata().is_deleting() && serving(status)),
        terminating: pod.metadata().is_deleting(),
        ports: ports
            .filter_map(|port| Some((port.name.as_str().into(), u16::try_from(port.container_port).ok()?)))
            .collect(),
    })
}

/// A pod that is told to go is not ready any more, but answers as long as its containers do.
fn serving(status: &PodStatus) -> bool {
    Condition::holds(&status.conditions, "ContainersReady")
}

/// Makes the slices there are those wanted, writing only what differs.
async fn write(plane: &Plane, service: &Object, wanted: &[Slice]) -> Result {
    let mut there = of_service(plane, service).into_iter();
    let mut writes = Vec::new();
    for slice in wanted {
        let view = view(plane, service, slice);
        match there.next() {
            Some(old) => {
                let next = old.value.edit::<EndpointSlice>(|it| *it = view)?;
                if next != old.value {
                    writes.push(Write::replace(&old, next));
                }
            }
            None => {
                let name = identity::generated(&format!("{}-", service.name()), &plane.identities.suffix());
                let metadata = Metadata {
                    labels: Labels::from([
                        (SERVICE_LABEL, service.name()),
                        ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
                    ]),
                    owner_references: vec![super::replica_set::owner(service)],
                    ..Metadata::named(service.namespace(), name)
                };
                let new = plane.stamped(&Object::new(Kind::ENDPOINT_SLICE, &metadata)?.with(&view)?)?;
                writes.push(Write::create(new.key(), new.clone()));
            }
        }
    }
    writes.extend(there.map(|surplus| Write::remove(surplus.key)));
    if !writes.is_empty() {
        plane.store.commit(writes).await?;
    }
    Ok(())
}

fn view(plane: &Plane, service: &Object, slice: &Slice) -> EndpointSlice {
    let zone = |node: &str| {
        let node = plane.get(&format!("{}{node}", Kind::NODE.prefix()))?;
        node.value.labels().get("topology.kubernetes.io/zone").map(str::to_owned)
    };
    let endpoint = |it: &service::Endpoint| object::Endpoint {
        addresses: vec![it.ip.to_string()],
        conditions: EndpointConditions {
            ready: Some(it.ready),
            serving: Some(it.serving),
            terminating: Some(it.terminating),
        },
        hostname: it.hostname.as_deref().map(str::to_owned),
        node_name: (!it.node.is_empty()).then(|| it.node.to_string()),
        zone: zone(&it.node),
        target_ref: Some(ObjectReference {
            kind: Kind::POD.name.into(),
            name: it.pod.to_string(),
            namespace: service.namespace().into(),
            ..ObjectReference::default()
        }),
    };
    let port = |it: &service::Resolved| EndpointPort {
        name: Some(it.name.to_string()),
        protocol: Some(match &*it.protocol {
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            _ => Protocol::TCP,
        }),
        port: Some(it.port.into()),
        app_protocol: None,
    };
    EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: slice.endpoints.iter().map(endpoint).collect(),
        ports: slice.ports.iter().map(port).collect(),
    }
}
