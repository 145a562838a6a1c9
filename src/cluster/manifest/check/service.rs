//! Services and endpoint slices.

use super::{
    super::{mistake::Report, path::Path},
    metadata,
    names::{self, Once},
};
use crate::{
    base::name,
    cluster::object::{EndpointSlice, Protocol, ServiceSpec, ServiceType},
};
use std::net::IpAddr;

pub(super) fn check(spec: &ServiceSpec, path: &Path<'_>, report: &mut Report<'_>) {
    metadata::labels(&spec.selector, &path.key("selector"), report);
    let ports = path.key("ports");
    let external = spec.type_ == ServiceType::ExternalName;
    report.ensure(!spec.ports.is_empty() || external || spec.is_headless(), &ports, "must have at least one port");
    let (mut names, mut numbers) = (Once::new(), Once::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let path = ports.index(index);
        if !port.name.is_empty() {
            report.check(&path.key("name"), name::check_label(&port.name));
            names.check(&port.name, &path.key("name"), report);
        } else if spec.ports.len() > 1 {
            report.add(&path.key("name"), "is required where there are several ports");
        }
        names::port(port.port, &path.key("port"), report);
        if port.port > 0 {
            let protocol = port.protocol.unwrap_or(Protocol::TCP);
            numbers.check(format!("{}/{protocol}", port.port), &path.key("port"), report);
        }
        if port.target_port.is_some() && report.has(&path.key("targetPort")) {
            names::port_or_name(port.target_port.as_ref(), &path.key("targetPort"), report);
        }
        let outside = matches!(spec.type_, ServiceType::NodePort | ServiceType::LoadBalancer);
        let node_port = path.key("nodePort");
        let in_range = port.node_port == 0 || (30000..=32767).contains(&port.node_port);
        report.ensure(outside || port.node_port == 0, &node_port, "is for the types NodePort and LoadBalancer");
        report.ensure(in_range || !outside, &node_port, "must be between 30000 and 32767");
    }
    address(spec, path, report);
    let affinity = matches!(spec.session_affinity.as_str(), "None" | "ClientIP" | "");
    report.ensure(affinity, &path.key("sessionAffinity"), "must be None or ClientIP");
}

fn address(spec: &ServiceSpec, path: &Path<'_>, report: &mut Report<'_>) {
    let (cluster_ip, external_name) = (path.key("clusterIP"), path.key("externalName"));
    if spec.type_ == ServiceType::ExternalName {
        report.ensure(spec.cluster_ip.is_empty(), &cluster_ip, "must not be set with the type ExternalName");
        if spec.external_name.is_empty() {
            report.required(false, &external_name);
        } else {
            report.check(&external_name, name::check_subdomain(spec.external_name.trim_end_matches('.')));
        }
        return;
    }
    report.ensure(spec.external_name.is_empty(), &external_name, "is for the type ExternalName");
    if spec.is_headless() {
        let inside = spec.type_ == ServiceType::ClusterIP;
        report.ensure(inside, &cluster_ip, &format!("must not be None with the type {}", spec.type_));
    } else if !spec.cluster_ip.is_empty() {
        let good = spec.cluster_ip.parse::<IpAddr>().is_ok();
        report.ensure(good, &cluster_ip, &format!("must be an address or None, not {:?}", spec.cluster_ip));
    }
}

/// A slice may have this many endpoints.
const ENDPOINTS: usize = 1000;

pub(super) fn endpoints(slice: &EndpointSlice, report: &mut Report<'_>) {
    let root = Path::ROOT;
    let address_type = root.key("addressType");
    let known = matches!(slice.address_type.as_str(), "IPv4" | "IPv6" | "FQDN");
    report.required(!slice.address_type.is_empty(), &address_type);
    report.ensure(known || slice.address_type.is_empty(), &address_type, "must be IPv4, IPv6 or FQDN");
    let list = root.key("endpoints");
    let count = slice.endpoints.len();
    report.ensure(count <= ENDPOINTS, &list, &format!("has {count} endpoints, of at most {ENDPOINTS}"));
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let path = list.index(index);
        let addresses = path.key("addresses");
        report.ensure(!endpoint.addresses.is_empty(), &addresses, "must have at least one address");
        for (index, address) in endpoint.addresses.iter().enumerate() {
            let good = match (slice.address_type.as_str(), address.parse::<IpAddr>()) {
                ("IPv4", found) => matches!(found, Ok(IpAddr::V4(_))),
                ("IPv6", found) => matches!(found, Ok(IpAddr::V6(_))),
                ("FQDN", _) => name::check_subdomain(address).is_ok(),
                _ => true,
            };
            let message = format!("is {address:?}, which is no {} address", slice.address_type);
            report.ensure(good, &addresses.index(index), &message);
        }
    }
    let ports = root.key("ports");
    let mut once = Once::new();
    for (index, port) in slice.ports.iter().enumerate() {
        let path = ports.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        once.check(format!("{name:?}"), &path.key("name"), report);
        if let Some(number) = port.port {
            names::port(number, &path.key("port"), report);
        }
    }
}
