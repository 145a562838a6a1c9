//! The cluster's DNS and service addresses, for its network.

use super::{Addresses, Name, Routes};
use crate::{
    base::{Answer, Error, Kind, Result},
    cluster::object::{self, Endpoint, EndpointSlice, Object, Protocol, ServiceSpec},
    net::{Directory, Origin, Route, Srv},
    store::{Entry, Store},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// How many times one name may stand for another.
const ALIASES_MAX: usize = 8;

/// What all SRV records of a name weigh together (CoreDNS's figure).
const WEIGHT: u16 = 100;

/// The label by which slices name their service.
pub(in crate::cluster) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Answers from the objects as they are at the moment of asking: there is no cache that could be out of date.
pub(in crate::cluster) struct Names {
    pub(in crate::cluster) store: Store<Object>,
    pub(in crate::cluster) routes: Arc<Routes>,
}

impl Names {
    fn find(&self, from: &Origin, name: &str, aliases: usize) -> Result<Vec<IpAddr>> {
        let unknown = || Error::new(Kind::NotFound, "no such host").at(name);
        for candidate in from.candidates(name) {
            let Some(asked) = Name::read(&candidate) else { continue };
            match asked {
                Name::Pod { ip, .. } => return Ok(vec![ip]),
                Name::Port { .. } => {} // it has places, not addresses
                Name::Host { namespace, service, host } => {
                    let found = self.endpoints(namespace, service, Some(host));
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                Name::Service { namespace, service } => {
                    let Some(entry) = self.store.get(&format!("services/{namespace}/{service}")) else { continue };
                    let spec = entry.value.view::<ServiceSpec>()?;
                    return match spec.cluster_ip.parse() {
                        _ if !spec.external_name.is_empty() && aliases == 0 => {
                            Err(Error::new(Kind::Invalid, "too many names stand for one another").at(name))
                        }
                        _ if !spec.external_name.is_empty() => self.find(from, &spec.external_name, aliases - 1),
                        Ok(ip) => Ok(vec![ip]),
                        Err(_) => {
                            let found = self.endpoints(namespace, service, None);
                            if found.is_empty() { Err(unknown()) } else { Ok(found) }
                        }
                    };
                }
            }
        }
        Err(unknown())
    }

    /// The addresses of a headless service's ready pods, or of the one of this host name.
    fn endpoints(&self, namespace: &str, service: &str, host: Option<&str>) -> Vec<IpAddr> {
        let slices = self.slices(namespace, service);
        let wanted = slices.iter().filter_map(slice).flat_map(|it| &it.endpoints).filter(|endpoint| match host {
            Some(host) => host_name(endpoint).as_deref() == Some(host),
            None => endpoint.conditions.ready != Some(false),
        });
        wanted.filter_map(address).collect()
    }

    /// The SRV records of a service's named port, as CoreDNS has them: of the service itself, or of each ready pod where it is
    /// headless.
    fn places(&self, from: &Origin, name: &str) -> Result<Vec<Srv>> {
        let unknown = || Error::new(Kind::NotFound, "no such service").at(name);
        let candidates: Vec<String> = from.candidates(name).collect();
        let ports = candidates.iter().filter_map(|candidate| match Name::read(candidate)? {
            Name::Port { namespace, service, port, protocol } => Some((namespace, service, port, protocol)),
            _ => None,
        });
        for (namespace, service, port, protocol) in ports {
            let Some(entry) = self.store.get(&format!("services/{namespace}/{service}")) else { continue };
            let spec = entry.value.view::<ServiceSpec>()?;
            let spoken = |by: &Option<Protocol>| by.unwrap_or_default().as_str().eq_ignore_ascii_case(protocol);
            let Some(offered) = spec.ports.iter().find(|it| it.name == port && spoken(&it.protocol)) else { continue };
            let below = format!("{service}.{namespace}.svc.cluster.local");
            if !spec.is_headless() {
                let port = u16::try_from(offered.port).map_err(|_| unknown())?;
                return Ok(vec![Srv { priority: 0, weight: WEIGHT, port, target: below }]);
            }
            let mut places = Vec::new();
            for slice in self.slices(namespace, service).iter().filter_map(slice) {
                let number = slice.ports.iter().find(|it| it.name.as_deref() == Some(port) && spoken(&it.protocol));
                let Some(port) = number.and_then(|it| u16::try_from(it.port?).ok()) else { continue };
                let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
                let target = |host: String| format!("{host}.{below}");
                let place = |host| Srv { priority: 0, weight: 0, port, target: target(host) };
                places.extend(ready.filter_map(host_name).map(place));
            }
            let weight = (usize::from(WEIGHT) / places.len().max(1)).max(1) as u16;
            places.iter_mut().for_each(|place| place.weight = weight);
            return if places.is_empty() { Err(unknown()) } else { Ok(places) };
        }
        Err(unknown())
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Entry<Object>> {
        let prefix = format!("{}/{namespace}/", object::Kind::ENDPOINT_SLICE.plural);
        let mut slices = self.store.list(&prefix, None, usize::MAX).entries;
        slices.retain(|entry| entry.value.labels().get(SERVICE_LABEL) == Some(service));
        slices
    }
}

fn slice(entry: &Entry<Object>) -> Option<&EndpointSlice> {
    entry.value.view().ok()
}

fn address(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

/// Its name below that of its service: its own, or its address with dashes.
fn host_name(endpoint: &Endpoint) -> Option<String> {
    let own = endpoint.hostname.clone().filter(|own| !own.is_empty());
    own.or_else(|| Some(address(endpoint)?.to_string().replace(['.', ':'], "-")))
}

impl Directory for Names {
    fn resolve<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<IpAddr>> {
        Answer::now(self.find(from, name, ALIASES_MAX))
    }

    fn services<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<Srv>> {
        Answer::now(self.places(from, name))
    }

    fn route(&self, _from: &Origin, to: SocketAddr) -> Result<Route> {
        if Addresses::contains(to.ip()) { self.routes.route(to) } else { Ok(Route::Direct) }
    }
}
