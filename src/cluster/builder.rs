//! How a cluster is put together and started.

use super::{
    Cluster,
    controllers::{deployment, endpoints, garbage, replica_set, scheduler::Scheduler},
    handle::Inner,
    identity::Identities,
    kubelet::Kubelet,
    object::{
        Condition, Kind, Metadata, NamespaceStatus, NodeAddress, NodeSpec, NodeStatus, Object, Quantity, ResourceList,
        Taint, TaintEffect,
    },
    plane::{Admission, Plane},
    recorder::Recorder,
    schedule::{Amount, Effect, Shape},
    service::{self, Addresses, Names, Routes},
};
use crate::{
    base::{Error, Labels, Result, Seed, sync::Lock},
    control::{self, Next},
    http,
    net::{self, HostOptions, Net},
    pod::{ContainerSpec, Image, Images, Pod, PodSpec, Resources},
    queue::Brokers,
    store::{Key, Store, Write},
};
use std::{any::Any, collections::BTreeMap, future::Future, sync::Arc};

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
            admission: self.admission,
            net,
        });
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

/// The objects that are there from the beginning.
async fn furnish(plane: &Plane, nodes: Vec<(String, Shape)>) -> Result {
    let mut writes = Vec::new();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let namespace = Object::new(Kind::NAMESPACE, &Metadata::named("", name))?;
        let namespace = plane.stamped(&namespace.with(&NamespaceStatus { phase: "Active".into() })?)?;
        writes.push(Write::create(namespace.key(), namespace.clone()));
    }
    for (number, (name, shape)) in nodes.into_iter().enumerate() {
        let node = plane.stamped(&node(plane, number, &name, &shape)?)?;
        if writes.iter().any(|write| write.key == *node.key()) {
            return Err(Error::new(crate::base::Kind::Conflict, "two nodes have this name").at(node.key().as_str()));
        }
        writes.push(Write::create(node.key(), node.clone()));
    }
    plane.store.commit(writes).await?;
    Ok(())
}

fn node(plane: &Plane, number: usize, name: &str, shape: &Shape) -> Result<Object> {
    let mut labels = Labels::from([("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux")]);
    for (key, value) in shape.labels.iter() {
        labels.insert(key, value);
    }
    let quantity = |text: String| text.parse::<Quantity>();
    let mut resources = ResourceList::new();
    resources.insert("cpu".into(), quantity(format!("{}m", shape.allocatable.cpu))?);
    resources.insert("memory".into(), quantity(shape.allocatable.memory.to_string())?);
    resources.insert("pods".into(), quantity(shape.pods.to_string())?);
    for (other, amount) in &shape.allocatable.others {
        resources.insert(other.to_string(), quantity(amount.to_string())?);
    }
    let taints = shape.taints.iter().map(|taint| Taint {
        key: taint.key.to_string(),
        value: taint.value.to_string(),
        effect: match taint.effect {
            Effect::NoSchedule => TaintEffect::NoSchedule,
            Effect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
            Effect::NoExecute => TaintEffect::NoExecute,
        },
    });
    let spec = NodeSpec { taints: taints.collect(), unschedulable: shape.unschedulable, ..NodeSpec::default() };
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    let ready = Condition::new("Ready", true, "KubeletReady", "kubelet is posting ready status", plane.now());
    let status = NodeStatus {
        capacity: resources.clone(),
        allocatable: resources,
        conditions: vec![ready],
        addresses: vec![
            address("InternalIP", format!("10.128.{}.{}", number / 250, number % 250 + 2)),
            address("Hostname", name.into()),
        ],
    };
    Object::new(Kind::NODE, &Metadata { labels, ..Metadata::named("", name) })?.with(&spec)?.with(&status)
}

/// The controllers, as containers of a pod: each is restarted if it fails, and logs what goes wrong.
fn control_plane(plane: &Arc<Plane>, kubelet: &Arc<Kubelet>, seed: Seed) -> PodSpec {
    let store = &plane.store;
    let [pods, sets, deployments] = [Kind::POD, Kind::REPLICA_SET, Kind::DEPLOYMENT].map(Kind::prefix);
    let [nodes, services, slices] = [Kind::NODE, Kind::SERVICE, Kind::ENDPOINT_SLICE].map(Kind::prefix);
    let [maps, secrets] = [Kind::CONFIG_MAP, Kind::SECRET].map(Kind::prefix);

    let scheduler = Arc::new(Scheduler::new(plane.clone(), seed.fork("scheduler")));
    let (seen, also) = (scheduler.clone(), scheduler.clone());
    let scheduling =
        control::reconcile(store.clone(), step(scheduler, |it, key| async move { it.reconcile(&key).await }))
            .prefix(&nodes)
            .keys(move |change| seen.observe(change))
            .also(store.clone(), &pods, move |change| also.observe(change));

    let replicating = control::reconcile(
        store.clone(),
        step(plane.clone(), |plane, key| async move { replica_set::reconcile(&plane, &key).await }),
    )
    .prefix(&sets)
    .keys(replica_set::keys)
    .also(store.clone(), &pods, replica_set::keys);

    let of_pod = plane.clone();
    let deploying = control::reconcile(
        store.clone(),
        step(plane.clone(), |plane, key| async move { deployment::reconcile(&plane, &key).await }),
    )
    .prefix(&deployments)
    .keys(deployment::keys)
    .also(store.clone(), &sets, deployment::keys)
    .also(store.clone(), &pods, move |change| deployment::of_removed_pod(&of_pod, change));

    let [by_service, by_pod, by_slice] = [plane.clone(), plane.clone(), plane.clone()];
    let pointing = control::reconcile(
        store.clone(),
        step(plane.clone(), |plane, key| async move { endpoints::reconcile(&plane, &key).await }),
    )
    .prefix(&services)
    .keys(move |change| endpoints::keys(&by_service, change))
    .also(store.clone(), &pods, move |change| endpoints::keys(&by_pod, change))
    .also(store.clone(), &slices, move |change| endpoints::keys(&by_slice, change));

    let of_all = plane.clone();
    let collecting = control::reconcile(
        store.clone(),
        step(plane.clone(), |plane, key| async move { garbage::reconcile(&plane, &key).await }),
    )
    .keys(move |change| garbage::keys(&of_all, change));

    let [by_pod, by_map, by_secret] = [kubelet.clone(), kubelet.clone(), kubelet.clone()];
    let running = control::reconcile(
        store.clone(),
        step(kubelet.clone(), |kubelet, key| async move { kubelet.reconcile(&key).await }),
    )
    .prefix(&pods)
    .keys(move |change| by_pod.keys(change))
    .also(store.clone(), &maps, move |change| by_map.keys(change))
    .also(store.clone(), &secrets, move |change| by_secret.keys(change));

    let pod = PodSpec { namespace: "kube-system".into(), ..PodSpec::new("control-plane") };
    let pod = PodSpec { seed: Some(seed.fork("control-plane")), ..pod };
    pod.container(ContainerSpec::new("scheduler", Image::new(scheduling.named("scheduler"))))
        .container(ContainerSpec::new("replicaset-controller", Image::new(replicating.named("replicaset-controller"))))
        .container(ContainerSpec::new("deployment-controller", Image::new(deploying.named("deployment-controller"))))
        .container(ContainerSpec::new("endpoints-controller", Image::new(pointing.named("endpoints-controller"))))
        .container(ContainerSpec::new("garbage-collector", Image::new(collecting.named("garbage-collector"))))
        .container(ContainerSpec::new("kubelet", Image::new(running.named("kubelet"))))
}

/// A service that takes a key to a step of this controller.
fn step<T, F, Fut>(
    controller: Arc<T>,
    step: F,
) -> impl tower::Service<Key, Response = Next, Error = Error, Future = impl Future<Output = Result<Next>> + Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    T: Send + Sync + 'static,
    F: Fn(Arc<T>, Key) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Next>> + Send + 'static,
{
    tower::service_fn(move |key: Key| step(controller.clone(), key))
}
