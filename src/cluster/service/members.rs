//! The pods behind a service's port, as endpoints: pure.

use crate::{cluster::object::EndpointSlice, serving::Member};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// The pods that a port of this name leads to, by name, each with its zone and the conditions that its slice tells.
///
/// Those that terminate are draining; unless no other is ready: then those that serve to their end are all there is, as
/// kube-proxy has it.
pub(super) fn members(port: &str, slices: &[&EndpointSlice]) -> BTreeMap<String, Member<SocketAddr>> {
    let (mut members, mut serving) = (BTreeMap::new(), Vec::new());
    for slice in slices {
        let number = slice.ports.iter().find(|known| known.name.as_deref().unwrap_or_default() == port);
        let Some(number) = number.and_then(|known| u16::try_from(known.port?).ok()) else { continue };
        for endpoint in &slice.endpoints {
            let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
            let name = endpoint.target_ref.as_ref().map_or_else(|| ip.to_string(), |pod| pod.name.clone());
            let conditions = &endpoint.conditions;
            let ready = conditions.ready != Some(false);
            let terminating = !ready && conditions.terminating == Some(true);
            if terminating && conditions.serving == Some(true) {
                serving.push(name.clone());
            }
            let member = Member::new(SocketAddr::new(ip, number)).draining(terminating).about(|it| {
                it.ready(ready || terminating);
                it.zone = endpoint.zone.as_deref().map(Into::into);
            });
            members.insert(name, member);
        }
    }
    if !members.values().any(takes) {
        for name in serving {
            members.entry(name).and_modify(|member| member.draining = false);
        }
    }
    members
}

/// Whether it is to get new connections.
pub(super) fn takes(member: &Member<SocketAddr>) -> bool {
    member.attributes.ready && !member.draining
}
