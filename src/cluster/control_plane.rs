//! The controllers and the kubelet, wired to what they watch.

use super::{
    controllers::{deployment, endpoints, garbage, orphans::Orphans, replica_set, scheduler::Scheduler, stateful_set},
    kubelet::Kubelet,
    object::Kind,
    plane::Plane,
};
use crate::{
    base::{Error, Result, Seed},
    control::{self, Next},
    pod::{ContainerSpec, Image, PodSpec},
    store::Key,
};
use std::{future::Future, sync::Arc};

/// The controllers, as containers of a pod: each is restarted if it fails, and logs what goes wrong.
pub(super) fn control_plane(plane: &Arc<Plane>, kubelet: &Arc<Kubelet>, seed: Seed) -> PodSpec {
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

    let numbering = control::reconcile(
        store.clone(),
        step(plane.clone(), |plane, key| async move { stateful_set::reconcile(&plane, &key).await }),
    )
    .prefix(&Kind::STATEFUL_SET.prefix())
    .keys(stateful_set::keys)
    .also(store.clone(), &pods, stateful_set::keys);

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

    let orphans = Arc::new(Orphans::new(plane.clone()));
    let [by_node, by_pod] = [orphans.clone(), orphans.clone()];
    let clearing =
        control::reconcile(store.clone(), step(orphans, |orphans, key| async move { orphans.reconcile(&key).await }))
            .prefix(&nodes)
            .keys(move |change| by_node.keys(change))
            .also(store.clone(), &pods, move |change| by_pod.keys(change));

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
        .container(ContainerSpec::new("statefulset-controller", Image::new(numbering.named("statefulset-controller"))))
        .container(ContainerSpec::new("endpoints-controller", Image::new(pointing.named("endpoints-controller"))))
        .container(ContainerSpec::new("garbage-collector", Image::new(collecting.named("garbage-collector"))))
        .container(ContainerSpec::new("pod-garbage-collector", Image::new(clearing.named("pod-garbage-collector"))))
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
