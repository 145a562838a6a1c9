//! The cluster, as its owner holds it.

use super::{
    apply::{self, Applied},
    available::Available,
    builder::Builder,
    kubelet::{Kubelet, Running},
    object::{DeploymentSpec, Event, Kind, NodeSpec, Object, ReplicaSetSpec, StatefulSetSpec},
    plane::Plane,
    reference::{self, Reference},
    service::Services,
};
use crate::{
    base::{self, Error, Result},
    http,
    net::{Host, Net, Scope},
    pod::{Images, Line, Output, Pod},
    queue::Brokers,
    store::{Entry, Start, Store, Watch},
};
use std::{sync::Arc, time::Duration};

/// A Kubernetes-shaped cluster in this process; cheap to clone. When the last clone is dropped, everything in it is
/// killed.
///
/// 1. An image is a named async function; objects are Kubernetes' own YAML, [applied](Cluster::apply) all or none.
/// 2. Controllers make pods of Deployments, the scheduler gives them nodes, the kubelet runs them on the cluster's own
///    network, services and their names lead to those that are ready.
/// 3. Everything that is known stands in one [store](Cluster::store), which can be watched.
///
/// ```
/// use seedpod::cluster::Cluster;
/// use seedpod::{Result, http, pod::Context};
///
/// async fn hello(context: Context) -> Result {
///     let listener = context.listen(8080).await?;
///     let answer = |_| async { Ok::<_, seedpod::Error>(http::text(200, "hello")) };
///     http::serve(listener, tower::service_fn(answer)).until(context.stopped()).await
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
/// let cluster = Cluster::builder().nodes(3).image("shop/hello", hello).start().await?;
/// cluster.apply("
/// apiVersion: apps/v1
/// kind: Deployment
/// metadata: {name: hello}
/// spec:
///   replicas: 2
///   selector: {matchLabels: {app: hello}}
///   template:
///     metadata: {labels: {app: hello}}
///     spec: {containers: [{name: main, image: shop/hello, readinessProbe: {tcpSocket: {port: 8080}}}]}
/// ---
/// apiVersion: v1
/// kind: Service
/// metadata: {name: hello}
/// spec: {selector: {app: hello}, ports: [{port: 80, targetPort: 8080}]}
/// ").await?;
/// cluster.available("deployment/hello").await?;
/// assert_eq!(cluster.http().get("http://hello/").await?.into_body().text().await?, "hello");
/// # Ok::<_, seedpod::Error>(()) }).unwrap();
/// ```
///
/// To see everything that happens, observe the network that is given to the [builder](Builder::network), and watch the
/// store from its start under the prefix `""`.
///
/// # Guarantees
/// - Under paused time on one thread, in memory, everything repeats by the [seed](Builder::seed): names, addresses,
///   victims, every byte on the network and every change in the store.
/// - A pod that ends in order gets no new connection through a service once it has been told: its endpoint goes first
///   (`Ready` false, `terminating`), then its containers are told to stop, 100 ms later. The last endpoint of a service
///   is the exception: it serves to its end, for at most a second.
/// - A manifest that is refused leaves the store as it was.
///
/// # Not guaranteed
/// - Containers are tasks: one that never awaits cannot be stopped, and its memory and processor time are not limited.
/// - One control plane, in this process: it goes when the process goes.
#[derive(Clone)]
pub struct Cluster(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) plane: Arc<Plane>,
    pub(super) kubelet: Arc<Kubelet>,
    pub(super) control: Pod,
    pub(super) scope: Scope,
    pub(super) client: Host,
    pub(super) http: http::Client,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.control.kill();
        self.scope.kill();
        self.kubelet.kill_all();
        self.client.scope().kill();
    }
}

impl Cluster {
    /// Puts a cluster together.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Applies a manifest, one or many documents of YAML or JSON: creates what is not there, changes what is there and
    /// differs. All of it in one commit, or nothing.
    ///
    /// A field that an earlier apply set and this one leaves out is taken out; what others have set stays. Fields that are
    /// stored and not acted on come back as [warnings](Applied::warnings), each with its document, line and path.
    ///
    /// # Errors
    /// [`Invalid`](base::Kind::Invalid), listing all mistakes by document, path and line;
    /// [`NotFound`](base::Kind::NotFound) where a namespace is missing; a conflict where an address is taken.
    pub async fn apply(&self, manifest: &str) -> Result<Vec<Applied>> {
        apply::apply(&self.0.plane, manifest).await
    }

    /// Deletes an object: `deployment/cart`, `pod/shop/cart-x`. What it owns follows; pods end in order.
    ///
    /// Pods of a deleted node run on at first, as in Kubernetes: after 40 s without a node of its name (the quarantine of
    /// Kubernetes' pod garbage collector) they are marked as failed, deleted and killed without grace, and their owners
    /// make others elsewhere. To empty a node in order, [drain](Cluster::drain) it first.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none.
    pub async fn delete(&self, name: &str) -> Result {
        self.0.plane.delete(&Reference::read(name)?.key(), None).await
    }

    /// An object: `deployment/cart`, `pod/shop/cart-x`.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none.
    pub fn get(&self, name: &str) -> Result<Object> {
        self.entry(&Reference::read(name)?).map(|entry| entry.value)
    }

    /// All objects of a kind, in the order of namespaces and names: `pods`, or `pods/shop` for one namespace.
    ///
    /// # Errors
    /// [`Invalid`](base::Kind::Invalid) for an unknown kind.
    pub fn list(&self, kind: &str) -> Result<Vec<Object>> {
        let prefix = reference::prefix(kind)?;
        Ok(self.0.plane.all(&prefix).into_iter().map(|entry| entry.value).collect())
    }

    /// What changes under a kind: everything now, then every change. `pods`, `pods/shop`.
    ///
    /// # Errors
    /// [`Invalid`](base::Kind::Invalid) for an unknown kind.
    pub fn watch(&self, kind: &str) -> Result<Watch<Object>> {
        Ok(self.0.plane.store.watch(&reference::prefix(kind)?, Start))
    }

    /// All events that are kept (at most a thousand), the one that happened last at the end.
    pub fn events(&self) -> Vec<Event> {
        let entries = self.0.plane.all(&Kind::EVENT.prefix());
        let mut events: Vec<_> =
            entries.iter().filter_map(|it| Some((it.revision, it.value.view::<Event>().ok()?))).collect();
        events.sort_by_key(|(revision, _)| *revision);
        events.into_iter().map(|(_, event)| event.clone()).collect()
    }

    /// Waits until a workload is available: a Deployment with all pods of its newest template available and no old ones
    /// left, a ReplicaSet with all of its pods available, a StatefulSet with all of its pods available and of its newest
    /// template, a Pod that is ready (or has succeeded).
    ///
    /// Gives up after five minutes, or [as long as it is told](Available::within).
    ///
    /// # Errors
    /// [`Timeout`](base::Kind::Timeout), saying what is missing and why; [`NotFound`](base::Kind::NotFound).
    pub fn available(&self, name: &str) -> Available {
        Available::new(self.0.plane.clone(), name)
    }

    /// Asks for so many pods of a Deployment, ReplicaSet or StatefulSet: `deployment/cart`, or just `cart`.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none; [`Invalid`](base::Kind::Invalid) for another kind.
    pub async fn scale(&self, name: &str, replicas: u32) -> Result {
        let reference = workload(name)?;
        let key = reference.key();
        let wanted = Some(i32::try_from(replicas).unwrap_or(i32::MAX));
        let scaled = self.0.plane.edit(&key, |object| match object.kind() {
            kind if kind == Kind::DEPLOYMENT => object.edit::<DeploymentSpec>(|spec| spec.replicas = wanted).map(Some),
            kind if kind == Kind::REPLICA_SET => object.edit::<ReplicaSetSpec>(|spec| spec.replicas = wanted).map(Some),
            kind if kind == Kind::STATEFUL_SET => {
                object.edit::<StatefulSetSpec>(|spec| spec.replicas = wanted).map(Some)
            }
            kind => {
                Err(Error::new(base::Kind::Invalid, format!("a {kind} cannot be scaled")).at(object.key().as_str()))
            }
        });
        scaled.await?.map(|_| ()).ok_or_else(|| missing(&reference))
    }

    /// Replaces all pods of a Deployment, as a rollout of the same template: `deployment/cart`, or just `cart`.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none.
    pub async fn restart(&self, name: &str) -> Result {
        let reference = Reference::of(Kind::DEPLOYMENT, name)?;
        let key = reference.key();
        // a moment alone would not tell two restarts in one second apart
        let at = format!("{}.{}", self.0.plane.now(), self.0.plane.store.revision());
        let restarted = self.0.plane.edit(&key, |object| {
            let restart = |spec: &mut DeploymentSpec| {
                let annotations = &mut spec.template.metadata.annotations;
                annotations.insert("kubectl.kubernetes.io/restartedAt".into(), at.clone());
            };
            object.edit::<DeploymentSpec>(restart).map(Some)
        });
        restarted.await?.map(|_| ()).ok_or_else(|| missing(&reference))
    }

    /// Gives the containers of a Deployment's pods other images, by container name; a rollout follows.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is no such deployment or container.
    pub async fn set_image(&self, name: &str, container: &str, image: &str) -> Result {
        let reference = Reference::of(Kind::DEPLOYMENT, name)?;
        let key = reference.key();
        let changed = self.0.plane.edit(&key, |object| {
            let mut found = false;
            let set = |spec: &mut DeploymentSpec| {
                let pod = &mut spec.template.spec;
                for it in pod.containers.iter_mut().chain(&mut pod.init_containers).filter(|it| it.name == container) {
                    it.image = image.into();
                    found = true;
                }
            };
            let next = object.edit::<DeploymentSpec>(set)?;
            let unknown = || Error::new(base::Kind::NotFound, format!("it has no container {container:?}"));
            if found { Ok(Some(next)) } else { Err(unknown().at(object.key().as_str())) }
        });
        changed.await?.map(|_| ()).ok_or_else(|| missing(&reference))
    }

    /// Lets no new pod come to a node.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none.
    pub async fn cordon(&self, node: &str) -> Result {
        self.set_unschedulable(node, true).await
    }

    /// Lets pods come to a node again.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none.
    pub async fn uncordon(&self, node: &str) -> Result {
        self.set_unschedulable(node, false).await
    }

    async fn set_unschedulable(&self, node: &str, unschedulable: bool) -> Result {
        let reference = Reference::of(Kind::NODE, node)?;
        let edit = |object: &Object| object.edit::<NodeSpec>(|spec| spec.unschedulable = unschedulable).map(Some);
        self.0.plane.edit(&reference.key(), edit).await?.map(|_| ()).ok_or_else(|| missing(&reference))
    }

    /// Kills a pod without grace, as a crash of its node would: connections are reset, handlers stop where they are, and
    /// its object is gone. Whoever owns it makes another.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where there is none.
    pub async fn kill_pod(&self, name: &str) -> Result {
        let key = Reference::of(Kind::POD, name)?.key();
        if let Some(running) = self.0.kubelet.running(&key) {
            running.pod.kill();
        }
        self.0.plane.delete(&key, Some(Duration::ZERO)).await
    }

    /// What a container of a pod has logged, oldest first; bounded, see [`Line`].
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where no such pod runs.
    pub fn logs(&self, pod: &str, container: &str) -> Result<Vec<Line>> {
        Ok(self.running(pod)?.pod.logs(container))
    }

    /// Runs a command in a container of a pod.
    ///
    /// # Errors
    /// [`NotFound`](base::Kind::NotFound) where no such pod runs; what [`Pod::exec`] says.
    pub async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Output> {
        self.running(pod)?.pod.exec(container, command).await
    }

    fn running(&self, pod: &str) -> Result<Arc<Running>> {
        let reference = Reference::of(Kind::POD, pod)?;
        let message = "it does not run";
        let running = self.0.kubelet.running(&reference.key());
        running.ok_or_else(|| Error::new(base::Kind::NotFound, message).at(reference.key().as_str()))
    }

    fn entry(&self, reference: &Reference) -> Result<Entry<Object>> {
        self.0.plane.get(&reference.key()).ok_or_else(|| missing(reference))
    }

    /// An HTTP client that stands in the cluster's network: `http://cart/` is the service `cart` of the namespace
    /// `default`, `http://cart.shop/` the one of `shop`.
    pub fn http(&self) -> http::Client {
        self.0.http.clone()
    }

    /// A place in the cluster's network outside of any pod; names are resolved as in the namespace `default`.
    pub fn host(&self) -> &Host {
        &self.0.client
    }

    /// Its services, each a source of endpoints; short names are of the namespace `default`. Containers find them by
    /// [`Services::of`].
    pub fn services(&self) -> Services {
        Services::new(&self.0.plane)
    }

    /// The cluster's network.
    pub fn network(&self) -> &Net {
        &self.0.plane.net
    }

    /// All objects, and every change of them.
    pub fn store(&self) -> &Store<Object> {
        &self.0.plane.store
    }

    /// The images that pods can run; more can be registered at any time.
    pub fn images(&self) -> &Images {
        &self.0.plane.images
    }

    /// Puts a thing into the resource map that the containers of all pods started from now on see.
    pub fn resource<T: std::any::Any + Send + Sync>(&self, name: impl Into<String>, thing: T) {
        self.0.plane.resources.lock().insert(name, thing);
    }

    /// The brokers that the containers of all pods find: what is queued there outlives pods.
    pub fn brokers(&self) -> Brokers {
        let found = self.0.plane.resources.lock().get::<Brokers>(Brokers::RESOURCE);
        found.map(|brokers| (*brokers).clone()).unwrap_or_default()
    }

    /// The pod in which the controllers run: its logs tell what went wrong in them.
    pub fn control_plane(&self) -> &Pod {
        &self.0.control
    }

    /// Ends everything in order: the controllers first, so that nothing is replaced; then all pods at once, each within
    /// its grace.
    ///
    /// **Cancel-safety**: dropped early, the end goes on; what is left is killed with the last clone of the cluster.
    pub async fn shutdown(&self) {
        self.0.control.kill();
        self.0.kubelet.stop_all().await;
        self.0.scope.kill();
        self.0.client.scope().kill();
    }
}

fn workload(name: &str) -> Result<Reference> {
    if name.split('/').next().and_then(Kind::find).is_some() && name.contains('/') {
        return Reference::read(name);
    }
    Reference::of(Kind::DEPLOYMENT, name)
}

pub(super) fn missing(reference: &Reference) -> Error {
    Error::new(base::Kind::NotFound, "").at(reference.key().as_str())
}
