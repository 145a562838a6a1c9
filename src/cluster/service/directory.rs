//! The cluster's DNS and service addresses, for its network.

use super::{Addresses, Name, Routes};
use crate::{
    base::{Answer, Error, Kind, Result},
    cluster::object::{self, EndpointSlice, Object, ServiceSpec},
    net::{Directory, Origin, Route},
    store::Store,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// How many times one name may stand for another.
const ALIASES_MAX: usize = 8;

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
        let prefix = format!("{}/{namespace}/", object::Kind::ENDPOINT_SLICE.plural);
        let entries = self.store.list(&prefix, None, usize::MAX).entries;
        let mine = entries.iter().filter(|entry| entry.value.labels().get(SERVICE_LABEL) == Some(service));
        let endpoints = mine.filter_map(|entry| entry.value.view::<EndpointSlice>().ok()).flat_map(|it| &it.endpoints);
        let wanted = endpoints.filter(|endpoint| match host {
            Some(host) => endpoint.hostname.as_deref() == Some(host),
            None => endpoint.conditions.ready != Some(false),
        });
        wanted.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok()).collect()
    }
}

impl Directory for Names {
    fn resolve<'a>(&'a self, from: &'a Origin, name: &'a str) -> Answer<'a, Vec<IpAddr>> {
        Answer::now(self.find(from, name, ALIASES_MAX))
    }

    fn route(&self, _from: &Origin, to: SocketAddr) -> Result<Route> {
        if Addresses::contains(to.ip()) { self.routes.route(to) } else { Ok(Route::Direct) }
    }
}
