//! The services of a cluster, as sources of endpoints.

use super::{SERVICE_LABEL, members::members};
use crate::{
    base::{Error, Kind, Result},
    cluster::{
        object::{self, EndpointSlice, Object, ServiceSpec},
        plane::Plane,
    },
    pod::Context,
    serving::Member,
    store::{Change, Entry, Key, Since, Watch},
};
use futures::{Stream, stream};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

/// The services of a cluster, each a source of endpoints that follows its pods.
///
/// Use it where a client balances by itself, over the pods and not over the service's one address: by latency, by zone,
/// with sessions. Containers find it by [`Services::of`], whoever holds the cluster by
/// [`Cluster::services`](crate::cluster::Cluster::services).
///
/// ```no_run
/// use seedpod::{cluster::service::Services, http::Client, pod::Context, serving::{Endpoints, Member, Replicas}};
///
/// async fn front(context: Context) -> seedpod::Result {
///     let endpoints = Endpoints::named("cart");
///     let client = Client::new(context.host());
///     let connect = move |address: &std::net::SocketAddr| client.clone().base(&format!("http://{address}")).unwrap();
///     let pods = Services::of(&context)?.watch("cart:http")?;
///     context.spawn(endpoints.follow(pods, Member::of, connect).into_future());
///     let cart = Replicas::new(endpoints); // a service: one call after another, each to the better of two pods
/// #   use std::future::IntoFuture;
/// #   drop(cart);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Services {
    plane: Weak<Plane>,
    namespace: Arc<str>,
}

/// A port of a service: `cart`, `cart:http`, `cart.shop:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    namespace: String,
    name: String,
    port: Option<String>,
}

impl Asked {
    fn read(text: &str, namespace: &str) -> Result<Self> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (text, None),
        };
        let (name, namespace) = name.split_once('.').unwrap_or((name, namespace));
        let part = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        };
        if !part(name) || !part(namespace) || port.as_deref().is_some_and(|port| !part(port)) {
            return Err(Error::new(Kind::Invalid, "not service, service:port or service.namespace:port").at(text));
        }
        Ok(Asked { namespace: namespace.into(), name: name.into(), port })
    }

    fn key(&self) -> String {
        format!("{}/{}/{}", object::Kind::SERVICE.plural, self.namespace, self.name)
    }

    /// The name of the port that is meant.
    fn port(&self, spec: &ServiceSpec) -> Option<String> {
        let found = match &self.port {
            None => spec.ports.first().filter(|_| spec.ports.len() == 1),
            Some(port) => spec.ports.iter().find(|it| it.name == *port || it.port.to_string() == *port),
        };
        found.map(|port| port.name.clone())
    }
}

impl Services {
    /// The name under which a pod's resource map holds them.
    pub const RESOURCE: &str = "services";

    pub(in crate::cluster) fn new(plane: &Arc<Plane>) -> Self {
        Services { plane: Arc::downgrade(plane), namespace: "default".into() }
    }

    /// Those of the cluster that this container runs in; short names are of its namespace.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where it runs in none.
    pub fn of(context: &Context) -> Result<Self> {
        let found = context.resource::<Services>(Services::RESOURCE);
        let missing = || Error::new(Kind::NotFound, "this pod runs in no cluster that tells of its services");
        let services = found.ok_or_else(|| missing().at(context.pod()))?;
        Ok(Services { namespace: context.namespace().into(), ..Services::clone(&services) })
    }

    /// The pods behind a service's port, and every change of them: for
    /// [`Endpoints::follow`](crate::serving::Endpoints::follow). The port goes by name or number, and can be left out
    /// where the service has but one; `cart.shop:http` is a service of another namespace.
    ///
    /// Each pod is a member under its name, with its node's zone, its own labels, and as its version the label
    /// `app.kubernetes.io/version`, else `version`. A pod that is not ready is in and gets no calls; one that terminates
    /// drains; where no other is ready, those that serve to their end get calls, as with kube-proxy.
    ///
    /// **Not guaranteed**: that a label is told when it changes: a pod's labels are read when its endpoints change.
    ///
    /// A service that is not there yet has no pods until it is. The stream ends with the cluster.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is not such a name; [`Kind::NotFound`] where the service is there and has no such port,
    /// or several and none is named; [`Kind::Closed`] once the cluster is gone.
    pub fn watch(
        &self,
        service: &str,
    ) -> Result<impl Stream<Item = Vec<Change<Member<SocketAddr>>>> + Send + 'static + use<>> {
        let asked = Asked::read(service, &self.namespace)?;
        let plane = self.plane.upgrade().ok_or_else(|| Error::new(Kind::Closed, "the cluster is gone").at(service))?;
        if let Some(there) = plane.get(&asked.key()) {
            let spec = there.value.view::<ServiceSpec>()?;
            if asked.port(spec).is_none() {
                let ports: Vec<_> = spec.ports.iter().map(|it| format!("{} {}", it.port, it.name)).collect();
                return Err(Error::new(Kind::NotFound, format!("its ports are: {}", ports.join(", "))).at(service));
            }
        }
        let prefix = format!("{}/{}/", object::Kind::ENDPOINT_SLICE.plural, asked.namespace);
        let watch = plane.store.watch(&prefix, Since::Start);
        let following = Following { plane: self.plane.clone(), asked, watch, last: None, told: 0 };
        Ok(stream::unfold(following, |mut following| async move { Some((following.next().await?, following)) }))
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services({})", self.namespace)
    }
}

struct Following {
    plane: Weak<Plane>,
    asked: Asked,
    watch: Watch<Object>,
    last: Option<BTreeMap<String, Member<SocketAddr>>>,
    told: u64,
}

impl Following {
    async fn next(&mut self) -> Option<Vec<Change<Member<SocketAddr>>>> {
        loop {
            let batch = self.watch.next().await?;
            let mine = |object: &Object| object.labels().get(SERVICE_LABEL) == Some(&self.asked.name);
            let concerns =
                |change: &Change<Object>| matches!(change, Change::Reset { .. }) || change.values().any(mine);
            if !batch.iter().any(concerns) {
                continue;
            }
            let now = self.members(&*self.plane.upgrade()?);
            if self.last.as_ref() == Some(&now) {
                continue;
            }
            self.told += 1;
            let entry = |(name, member): (&String, &Member<SocketAddr>)| Entry {
                key: Key::new(name),
                created: self.told,
                revision: self.told,
                value: member.clone(),
            };
            let entries = now.iter().map(entry).collect();
            self.last = Some(now);
            return Some(vec![Change::Reset { entries, revision: self.told }]);
        }
    }

    /// As the store has them now: an old change does no harm.
    fn members(&self, plane: &Plane) -> BTreeMap<String, Member<SocketAddr>> {
        let Some(service) = plane.get(&self.asked.key()) else { return BTreeMap::new() };
        let Some(port) = service.value.view::<ServiceSpec>().ok().and_then(|spec| self.asked.port(spec)) else {
            return BTreeMap::new();
        };
        let entries = plane.within(object::Kind::ENDPOINT_SLICE, &self.asked.namespace);
        let mine = entries.iter().filter(|entry| entry.value.labels().get(SERVICE_LABEL) == Some(&self.asked.name));
        let slices: Vec<_> = mine.filter_map(|entry| entry.value.view::<EndpointSlice>().ok()).collect();
        let mut members = members(&port, &slices);
        for (name, member) in &mut members {
            let pod = plane.get(&format!("{}/{}/{name}", object::Kind::POD.plural, self.asked.namespace));
            let Some(pod) = pod else { continue };
            let labels = pod.value.labels();
            let version = labels.get("app.kubernetes.io/version").or_else(|| labels.get("version"));
            member.attributes.version = version.map(Into::into);
            member.attributes.labels = labels.clone();
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_a_service_is_read_or_refused() {
        let read = |text: &str| Asked::read(text, "shop").map(|it| (it.namespace, it.name, it.port));
        let asked = |namespace: &str, name: &str, port: Option<&str>| {
            Ok((namespace.to_string(), name.to_string(), port.map(str::to_string)))
        };
        assert_eq!(read("cart").map_err(drop), asked("shop", "cart", None));
        assert_eq!(read("cart:http").map_err(drop), asked("shop", "cart", Some("http")));
        assert_eq!(read("cart.other:80").map_err(drop), asked("other", "cart", Some("80")));
        let long = "x".repeat(64);
        for bad in ["", ":", "cart:", "a/b", "a.b.c", ".shop", "cart.", "Cart", "a b", "cart:80:80", &long] {
            assert_eq!(read(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
