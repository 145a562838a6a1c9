//! Starts, follows and stops.

use super::{
    NAME, Problem,
    addresses::Pool,
    follow,
    site::{self, mentions},
    status, translate,
    volumes::{self, Filled},
};
use crate::{
    base::{Deadline, Result, sync::Lock, time},
    cluster::{
        controllers,
        object::{Container, ContainerStatus, Kind, Object, PodSpec, PodStatus},
        plane::Plane,
    },
    control::Next,
    net::Scope,
    pod::{self, Pod},
    store::{Change, Key},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// How soon a pod that cannot be started is tried again; a change of what it lacks tries at once.
const RETRY: Duration = Duration::from_secs(10);

/// How long a pod that is told to go waits at most for services to send new connections elsewhere. The last one that
/// serves gets them to its end, and must not wait for that.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// How long it then waits for connections that were on their way to it.
const SETTLE: Duration = Duration::from_millis(100);

/// A pod that runs, or ran and is still there.
pub(in crate::cluster) struct Running {
    uid: String,
    pub(in crate::cluster) pod: Pod,
    volumes: Lock<BTreeMap<String, Filled>>,
    stopping: AtomicBool,
}

pub(in crate::cluster) struct Kubelet {
    plane: Arc<Plane>,
    pods: Lock<BTreeMap<Key, Arc<Running>>>,
    addresses: Lock<Pool>,
    /// What follows and stops pods; it dies with the cluster.
    scope: Scope,
}

impl Kubelet {
    pub(in crate::cluster) fn new(plane: Arc<Plane>, scope: Scope) -> Self {
        let addresses = Lock::new(Pool::new(plane.net.is_tcp()));
        Kubelet { plane, pods: Lock::default(), addresses, scope }
    }

    /// The running pod under this key.
    pub(in crate::cluster) fn running(&self, key: &Key) -> Option<Arc<Running>> {
        self.pods.lock().get(key).cloned()
    }

    /// Kills all pods, now.
    pub(in crate::cluster) fn kill_all(&self) {
        let pods = std::mem::take(&mut *self.pods.lock());
        drop(pods); // each is killed as it is dropped, not under the lock
    }

    /// Ends all pods in order, each within its grace.
    pub(in crate::cluster) async fn stop_all(&self) {
        let pods: Vec<_> = self.pods.lock().values().cloned().collect();
        futures::future::join_all(pods.iter().map(|running| running.pod.stop(running.pod.grace()))).await;
        self.kill_all();
    }

    /// The pods to look at because of a change.
    pub(in crate::cluster) fn keys(&self, change: &Change<Object>) -> Vec<Key> {
        let Some(object) = change.values().next() else { return Vec::new() };
        match object.kind() {
            kind if kind == Kind::POD => {
                let here = matches!(change, Change::Remove(_)) || change.values().any(|pod| pod.node().is_some());
                if here { controllers::own(change) } else { Vec::new() }
            }
            kind if kind == Kind::CONFIG_MAP || kind == Kind::SECRET => {
                let pods = self.plane.within(Kind::POD, object.namespace());
                let concerned =
                    pods.into_iter().filter(|pod| pod.value.node().is_some() && mentions(&pod.value, object));
                concerned.map(|pod| pod.key).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Makes what runs under this key what the objects say.
    pub(in crate::cluster) async fn reconcile(self: &Arc<Self>, key: &Key) -> Result<Next> {
        let running = self.running(key);
        let object = self.plane.get(key).map(|entry| entry.value);
        match (object, running) {
            (None, None) => {}
            (None, Some(running)) => self.kill(key, &running),
            (Some(object), Some(running)) if running.uid != object.uid() => {
                self.kill(key, &running);
                return Ok(Next::After(Duration::ZERO));
            }
            (Some(object), None) if object.metadata().is_deleting() => self.plane.remove(&object).await?,
            (Some(object), None) => return self.start(key, object).await,
            (Some(object), Some(running)) if object.metadata().is_deleting() => self.stop(key, object, running),
            (Some(object), Some(running)) => self.refresh(&object, &running).await?,
        }
        Ok(Next::Done)
    }

    fn kill(&self, key: &Key, running: &Running) {
        running.pod.kill();
        self.forget(key, running);
    }

    /// Forgets this very pod. Another may have its name by now, and its address: that one stays.
    fn forget(&self, key: &Key, running: &Running) {
        let gone = {
            let mut pods = self.pods.lock();
            if pods.get(key).is_none_or(|there| there.uid != running.uid) {
                return;
            }
            pods.remove(key)
        };
        drop(gone); // not under the lock
        self.addresses.lock().release(running.pod.ip());
    }

    async fn start(self: &Arc<Self>, key: &Key, object: Object) -> Result<Next> {
        let status = object.view::<PodStatus>()?;
        let Some(node) = object.node().filter(|_| !status.phase.is_over()) else { return Ok(Next::Done) };
        let host_ip = site::host_ip(&self.plane, node);
        let Some(ip) = self.addresses.lock().allocate(node) else {
            let message = "failed to allocate for range: no IP addresses available in range set";
            self.plane.warn(&object, "FailedCreatePodSandBox", message, NAME).await;
            return Ok(Next::After(RETRY));
        };
        match self.prepare(&object, node, &host_ip, ip) {
            Ok((spec, volumes)) => match Pod::start(spec, &self.plane.net) {
                Ok(pod) => {
                    let uid = object.uid().to_owned();
                    let (volumes, stopping) = (Lock::new(volumes), AtomicBool::new(false));
                    let observer = pod.observe();
                    let running = Arc::new(Running { uid, pod, volumes, stopping });
                    self.pods.lock().insert(key.clone(), running);
                    let follow = follow::follow(self.plane.clone(), object, host_ip, observer);
                    self.scope.spawn(follow);
                    return Ok(Next::Done);
                }
                Err(error) => self.plane.warn(&object, "FailedCreatePodSandBox", &error.to_string(), NAME).await,
            },
            Err(problem) => self.explain(&object, &host_ip, &problem).await?,
        }
        self.addresses.lock().release(ip);
        Ok(Next::After(RETRY))
    }

    fn prepare(
        &self,
        object: &Object,
        node: &str,
        host_ip: &str,
        ip: IpAddr,
    ) -> Result<(pod::PodSpec, BTreeMap<String, Filled>), Problem> {
        let spec = object.view::<PodSpec>().map_err(|error| Problem::config(error.to_string()))?;
        let pod_ip = ip.to_string();
        site::with(&self.plane, object, spec, node, host_ip, &pod_ip, |site| {
            let volumes = volumes::volumes(site)?;
            let resources = self.plane.resources.lock().clone();
            let common = translate::Common {
                ip,
                images: &self.plane.images,
                resources: &resources,
                env: &self.plane.env,
                seed: self.plane.seed,
            };
            Ok((translate::pod(site, &common, &site::services(&self.plane, object.namespace()), &volumes)?, volumes))
        })
    }

    /// Says on the pod why it cannot be started yet.
    async fn explain(&self, object: &Object, host_ip: &str, problem: &Problem) -> Result {
        // a volume holds up the whole pod; anything else is told of its containers
        let (reason, message) = match problem.reason {
            "FailedMount" => ("ContainerCreating", ""),
            reason => (reason, problem.message.as_str()),
        };
        let waiting = |container: &Container| ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone(),
            state: status::waiting(reason, message),
            started: Some(false),
            ..ContainerStatus::default()
        };
        let spec = object.view::<PodSpec>()?;
        let told = self.plane.set_status::<PodStatus>(object, |old| PodStatus {
            host_ip: host_ip.into(),
            init_container_statuses: spec.init_containers.iter().map(waiting).collect(),
            container_statuses: spec.containers.iter().map(waiting).collect(),
            ..old.clone()
        });
        told.await?;
        let (reason, message) = match problem.reason {
            "FailedMount" => ("FailedMount", problem.message.clone()),
            _ => ("Failed", format!("Error: {}", problem.message)),
        };
        self.plane.warn(object, reason, &message, NAME).await;
        Ok(())
    }

    /// Ends a pod in order: services turn away from it, then its containers are told, then its object goes.
    fn stop(self: &Arc<Self>, key: &Key, object: Object, running: Arc<Running>) {
        let grace = grace(&object);
        if running.stopping.swap(true, Relaxed) {
            // told once more, with less grace perhaps: it never gets longer
            if running.pod.status().stopping {
                running.pod.begin_stop(grace);
            }
            return;
        }
        let (kubelet, key) = (self.clone(), key.clone());
        self.scope.spawn(async move {
            let until = Deadline::within(grace);
            kubelet.leave(&object, &running).await;
            // less grace may have been given in the meantime
            let until = kubelet.grace(&key, &running).map_or(until, |grace| until.sooner(grace));
            for container in &running.pod.status().containers {
                if container.state.is_running() {
                    let message = format!("Stopping container {}", container.name);
                    kubelet.plane.note(&object, "Killing", &message, NAME).await;
                }
            }
            running.pod.stop(until.remaining()).await;
            kubelet.forget(&key, &running);
            // an error here would be the store's end
            let _ = kubelet.plane.remove(&object).await;
        });
    }

    /// How long the object gives this pod to go, while it is there.
    fn grace(&self, key: &Key, running: &Running) -> Option<Duration> {
        let object = self.plane.get(key)?.value;
        (object.uid() == running.uid).then(|| grace(&object))
    }

    /// Waits until nobody sends anything new to the pod.
    async fn leave(&self, object: &Object, running: &Running) {
        let status = running.pod.status();
        let host_ip = object.view::<PodStatus>().map(|status| status.host_ip.clone()).unwrap_or_default();
        // not ready from now on, whatever its containers say
        let told = self.plane.set_status::<PodStatus>(object, |old| status::status(old, &status, &host_ip, true));
        let _ = told.await;
        if status.ready.holds {
            // whoever is the last to serve waits no longer than this
            let _ = Deadline::within(LEAVE_MAX).bound(self.plane.routes.left(running.pod.ip())).await;
            time::sleep(SETTLE).await;
        }
    }

    /// Brings changed config maps and secrets into the volumes of a running pod.
    async fn refresh(&self, object: &Object, running: &Running) -> Result {
        let spec = object.view::<PodSpec>()?;
        let pod_ip = running.pod.ip().to_string();
        let problems = site::with(&self.plane, object, spec, object.node().unwrap_or_default(), "", &pod_ip, |site| {
            let mut volumes = running.volumes.lock();
            let mut problems = Vec::new();
            for declared in &spec.volumes {
                let Some(filled) = volumes.get_mut(&declared.name).filter(|filled| filled.projected.is_some()) else {
                    continue;
                };
                // what is gone from under a running pod stays in it, as in Kubernetes
                match volumes::files(site, declared).map(|files| filled.update(files)) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => problems.push(error.to_string()),
                    Err(problem) => problems.push(problem.message),
                }
            }
            problems
        });
        for message in problems {
            self.plane.warn(object, "FailedMount", &message, NAME).await;
        }
        Ok(())
    }
}

/// How long a pod that is told to go may take.
fn grace(object: &Object) -> Duration {
    Duration::from_secs(object.metadata().deletion_grace_period_seconds.unwrap_or(0).max(0).unsigned_abs())
}
