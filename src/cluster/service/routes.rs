//! Where connections to a service's address really go, kept up to date by the endpoints controller.

use super::members::{members, takes};
use crate::{
    base::{Error, Kind, Outcome, Result, Seed, sync::Lock},
    cluster::object::{EndpointSlice, Protocol, ServiceSpec},
    net::Route,
    serving::{Endpoints, Lease, Replicas},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::sync::Notify;

/// The routes of all services.
///
/// A connection goes to one of two ready endpoints drawn by chance, the one with fewer connections; it counts there for
/// as long as it lives. Where none is ready, endpoints that still serve while they terminate are used, as kube-proxy
/// does.
pub(in crate::cluster) struct Routes {
    table: Lock<Table>,
    changed: Notify,
    seed: Seed,
}

#[derive(Default)]
struct Table {
    services: BTreeMap<Arc<str>, Service>,
    by_ip: BTreeMap<IpAddr, Arc<str>>,
}

struct Service {
    ip: IpAddr,
    ports: BTreeMap<u16, Replicas<SocketAddr>>,
    /// Pods that get new connections.
    targets: BTreeSet<IpAddr>,
}

impl Routes {
    pub(in crate::cluster) fn new(seed: Seed) -> Self {
        Routes { table: Lock::default(), changed: Notify::new(), seed }
    }

    /// The service is like this now, and these are its slices. Without an address it has no routes.
    pub(in crate::cluster) fn set(&self, key: &str, spec: &ServiceSpec, slices: &[&EndpointSlice]) {
        let Ok(ip) = spec.cluster_ip.parse::<IpAddr>() else { return self.remove(key) };
        let mut table = self.table.lock();
        let name: Arc<str> = key.into();
        if table.services.get(key).is_some_and(|service| service.ip != ip) {
            table.services.remove(key);
            table.by_ip.retain(|_, service| **service != *key);
        }
        table.by_ip.insert(ip, name.clone());
        let fresh = || Service { ip, ports: BTreeMap::new(), targets: BTreeSet::new() };
        let service = table.services.entry(name).or_insert_with(fresh);
        service.targets.clear();
        let mut ports = BTreeSet::new();
        for port in &spec.ports {
            let Ok(number) = u16::try_from(port.port) else { continue };
            if port.protocol.unwrap_or_default() != Protocol::TCP {
                continue; // the same number may be another protocol's, too; connections are TCP's alone
            }
            ports.insert(number);
            let mut targets = members(&port.name, slices);
            targets.retain(|_, member| takes(member));
            service.targets.extend(targets.values().map(|member| member.address.ip()));
            let replicas = service.ports.entry(number).or_insert_with(|| {
                let seed = self.seed.fork(key).fork_index(u64::from(number));
                Replicas::new(Endpoints::named(format!("{key}:{number}")).seed(seed))
            });
            replicas.endpoints().update(|changes| {
                changes.clear();
                for (pod, member) in targets {
                    *changes.insert(pod, member.address) = member.attributes;
                }
            });
        }
        service.ports.retain(|number, _| ports.contains(number));
        drop(table);
        self.changed.notify_waiters();
    }

    /// The service is gone.
    pub(in crate::cluster) fn remove(&self, key: &str) {
        let mut table = self.table.lock();
        if table.services.remove(key).is_some() {
            table.by_ip.retain(|_, service| **service != *key);
            drop(table);
            self.changed.notify_waiters();
        }
    }

    /// Where a connection to this service address goes.
    pub(in crate::cluster) fn route(&self, to: SocketAddr) -> Result<Route> {
        let refused = |message: String, place: String| Err(Error::new(Kind::Unavailable, message).at(place));
        let table = self.table.lock();
        let Some((key, service)) = table.by_ip.get(&to.ip()).and_then(|key| table.services.get_key_value(key)) else {
            return refused("connection refused: no service has this address".into(), to.to_string());
        };
        let Some(replicas) = service.ports.get(&to.port()) else {
            return refused(format!("connection refused: the service has no port {}", to.port()), key.to_string());
        };
        match replicas.pick() {
            Some(picked) => {
                let guard: Box<dyn std::any::Any + Send + Sync> = Box::new(Held(Some(picked.lease)));
                Ok(Route::To { address: picked.service, guard: Some(guard) })
            }
            None => refused("connection refused: no endpoint is ready".into(), key.to_string()),
        }
    }

    /// Waits until no service sends new connections to this pod.
    ///
    /// Where it is the last that serves, it gets connections to its end: whoever waits sets a bound.
    pub(in crate::cluster) async fn left(&self, pod: IpAddr) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable(); // before looking, so that no change falls in between
            if !self.table.lock().services.values().any(|service| service.targets.contains(&pod)) {
                return;
            }
            changed.await;
        }
    }
}

/// Counts a connection at its endpoint until it is dropped.
struct Held(Option<Lease>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.0.take() {
            lease.complete(Outcome::Success);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(endpoints: &str) -> EndpointSlice {
        serde_json::from_str(&format!(r#"{{"ports":[{{"name":"http","port":80}}],"endpoints":[{endpoints}]}}"#))
            .unwrap()
    }

    fn endpoint(pod: &str, ip: &str, ready: bool, terminating: bool) -> String {
        format!(
            r#"{{"addresses":["{ip}"],"conditions":{{"ready":{ready},"serving":true,"terminating":{terminating}}},"targetRef":{{"name":"{pod}"}}}}"#
        )
    }

    #[tokio::test(start_paused = true)]
    async fn ready_ones_first_and_the_last_to_its_end() {
        let routes = Routes::new(Seed::new(1));
        let spec: ServiceSpec =
            serde_json::from_str(r#"{"clusterIP":"10.96.1.1","ports":[{"name":"http","port":8080}]}"#).unwrap();
        let to: SocketAddr = "10.96.1.1:8080".parse().unwrap();
        let text = |routes: &Routes, to: SocketAddr| match routes.route(to) {
            Ok(Route::To { address, .. }) => address.to_string(),
            other => other.unwrap_err().to_string(),
        };
        assert_eq!(text(&routes, to), "10.96.1.1:8080: unavailable: connection refused: no service has this address");
        let (a, b) = (endpoint("a", "10.244.0.1", false, true), endpoint("b", "10.244.0.2", true, false));
        let both = slice(&[a.clone(), b].join(","));
        routes.set("services/default/web", &spec, &[&both]);
        assert!((0..20).all(|_| text(&routes, to) == "10.244.0.2:80"));
        routes.left([10, 244, 0, 1].into()).await;
        let last = slice(&a);
        routes.set("services/default/web", &spec, &[&last]);
        assert_eq!(text(&routes, to), "10.244.0.1:80");
        let port = "10.96.1.1:81".parse().unwrap();
        assert_eq!(
            text(&routes, port),
            "services/default/web: unavailable: connection refused: the service has no port 81"
        );
        let wait = std::pin::pin!(routes.left([10, 244, 0, 1].into()));
        assert!(futures::FutureExt::now_or_never(wait).is_none(), "it still gets connections");
        routes.set("services/default/web", &spec, &[]);
        assert_eq!(text(&routes, to), "services/default/web: unavailable: connection refused: no endpoint is ready");
        routes.remove("services/default/web");
        assert!(text(&routes, to).contains("no service"));
    }
}
