//! How a cluster is put together and started.

use super::{
    Cluster,
    claims::Claims,
    control_plane::control_plane,
    furnish::furnish,
    handle::Inner,
    identity::Identities,
    kubelet::Kubelet,
    object::Object,
    plane::{Admission, Plane},
    recorder::Recorder,
    schedule::{Amount, Shape},
    service::{self, Addresses, Names, Routes, Services},
};
use crate::{
    base::{Result, Seed, sync::Lock},
    http,
    net::{self, HostOptions, Net},
    pod::{Image, Images, Pod, Resources},
    queue::Brokers,
    store::Store,
};
use std::{any::Any, collections::BTreeMap, sync::Arc};

/// Puts a cluster together; see [`Cluster::builder`].
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    nodes: Vec<(String, Shape)>,
    seed: Option<Seed>,
    images: Images,
    network: Option<net::Builder>,
    env: BTreeMap<String, String>,
    resources: Resources,
    admission: Option<Admission>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Builder {
            nodes: Vec::new(),
            seed: None,
            images: Images::default(),
            network: None,
            env: BTreeMap::new(),
            resources: Resources::default(),
            admission: None,
        }
        .brokers(Brokers::default())
    }

    /// So many equal nodes more, `node-0` and on: 4 cores, 16 GiB, 110 pods each. Without any node there is one.
    pub fn nodes(mut self, count: usize) -> Self {
        for _ in 0..count {
            let name = format!("node-{}", self.nodes.len());
            self.nodes.push((name, Builder::shape()));
        }
        self
    }

    /// One more node, of this name and shape.
    ///
    /// ```
    /// use seedpod::{base::Labels, cluster::{Builder, Cluster}};
    /// let fast = Labels::from([("disk", "ssd")]);
    /// let builder = Cluster::builder().nodes(2).node("fast", seedpod::cluster::schedule::Shape { labels: fast, ..Builder::shape() });
    /// ```
    pub fn node(mut self, name: impl Into<String>, shape: Shape) -> Self {
        self.nodes.push((name.into(), shape));
        self
    }

    /// The shape of a node that is not described further: 4 cores, 16 GiB, 110 pods.
    pub fn shape() -> Shape {
        Shape { allocatable: Amount::new(4000, 16 << 30), pods: 110, ..Shape::default() }
    }

    /// Where all chance comes from: uids, names, addresses, victims, ties. The running simulation's, or the system's, by
    /// default.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What an image's name stands for; see [`Images`] for how names are looked up. More can be registered later.
    pub fn image(self, name: impl Into<String>, image: impl Into<Image>) -> Self {
        self.images.register(name, image);
        self
    }

    /// The network to run on: [`Net::memory`] by default, [`Net::tcp`] for real sockets. Its directory and seed are
    /// the cluster's, whatever was set.
    pub fn network(mut self, network: net::Builder) -> Self {
        self.network = Some(network);
        self
    }

    /// Sets a variable in all containers, unless they set it themselves: where brokers are, for example.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Puts a thing into the resource map that all containers see.
    pub fn resource<T: Any + Send + Sync>(mut self, name: impl Into<String>, thing: T) -> Self {
        self.resources.insert(name, thing);
        self
    }

    /// The brokers that the containers of all pods find (`context.broker("orders")`), so that queues outlive pods. By
    /// default there is one in memory.
    pub fn brokers(self, brokers: Brokers) -> Self {
        self.resource(Brokers::RESOURCE, brokers)
    }

    /// Changes pods before they are created, or refuses them: the seam for what is injected into pods.
    pub fn admit(mut self, admission: impl Fn(Object) -> Result<Object> + Send + Sync + 'static) -> Self {
        self.admission = Some(Arc::new(admission));
        self
    }

    /// Starts it: nodes are ready, controllers run.
    ///
    /// # Errors
    /// Where two nodes have one name, or the network gives no address.
    pub async fn start(mut self) -> Result<Cluster> {
        if self.nodes.is_empty() {
            self = self.nodes(1);
        }
        let seed = self.seed.unwrap_or_else(Seed::ambient).fork("cluster");
        let store = Store::new();
        let routes = Arc::new(Routes::new(seed.fork("routes")));
        let names = Names { store: store.clone(), routes: routes.clone() };
        let network = self.network.unwrap_or_else(Net::memory).seed(seed.fork("network")).directory(names);
        let net = network.build();
        let plane = Arc::new(Plane {
            store,
            wall: net.wall_clock(),
            seed: seed.fork("pods"),
            identities: Identities::new(seed.fork("identities")),
            recorder: Recorder::default(),
            images: self.images,
            resources: Lock::new(self.resources),
            env: self.env,
            routes,
            addresses: Lock::new(Addresses::new(seed.fork("addresses"))),
            claims: Claims::default(),
            admission: self.admission,
            net,
        });
        plane.resources.lock().insert(Services::RESOURCE, Services::new(&plane));
        furnish(&plane, self.nodes).await?;
        let scope = plane.net.scope();
        let kubelet = Arc::new(Kubelet::new(plane.clone(), scope.clone()));
        let control = Pod::start(control_plane(&plane, &kubelet, seed), &plane.net)?;
        let search = service::search("default");
        let client = plane.net.host(HostOptions { search, name: "client".into(), ..HostOptions::default() })?;
        let http = http::Client::new(&client);
        Ok(Cluster(Arc::new(Inner { plane, kubelet, control, scope, client, http })))
    }
}
