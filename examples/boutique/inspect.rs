//! Deployments and pods as `kubectl get` shows them.

use seedpod::{
    Result,
    cluster::object::{ContainerStatus, DeploymentSpec, DeploymentStatus, Object, PodSpec, PodStatus},
};

/// How many pods a deployment wants, and how many of its newest are available.
pub(crate) fn available(deployment: &Object) -> Result<(u32, u32)> {
    let wanted = deployment.view::<DeploymentSpec>()?.replicas();
    let status = deployment.view::<DeploymentStatus>()?;
    let known = status.observed_generation >= deployment.metadata().generation;
    // pods of the old template may be available, too, or on their way out
    let newest = status.updated_replicas.min(status.available_replicas);
    let available = if known && status.replicas == status.updated_replicas { newest } else { newest.min(wanted - 1) };
    Ok((wanted.max(0).unsigned_abs(), available.max(0).unsigned_abs()))
}

/// Whether a deployment has become what it wants to be.
pub(crate) fn is_available(deployment: &Object) -> Result<bool> {
    let (wanted, available) = available(deployment)?;
    Ok(available >= wanted)
}

/// The pods that belong to a deployment.
pub(crate) fn pods<'a>(deployment: &Object, pods: &'a [Object]) -> Result<Vec<&'a Object>> {
    let selector = deployment.view::<DeploymentSpec>()?.selector.selector()?;
    let of = |pod: &&Object| pod.namespace() == deployment.namespace() && selector.matches(pod.labels());
    Ok(pods.iter().filter(of).collect())
}

/// Whether a pod may get traffic.
pub(crate) fn is_ready(pod: &Object) -> Result<bool> {
    let containers = &pod.view::<PodStatus>()?.container_statuses;
    let ready = !containers.is_empty() && containers.iter().all(|container| container.ready);
    Ok(ready && !pod.metadata().is_deleting())
}

/// How often the containers of a pod were started again.
pub(crate) fn restarts(pod: &Object) -> Result<u64> {
    let status = pod.view::<PodStatus>()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses);
    Ok(all.map(|container| u64::from(container.restart_count.max(0).unsigned_abs())).sum())
}

/// How a pod is in one word, as in the column STATUS: `Running`, `Init:0/1`, `ImagePullBackOff`.
pub(crate) fn word(pod: &Object) -> Result<String> {
    let (spec, status) = (pod.view::<PodSpec>()?, pod.view::<PodStatus>()?);
    if pod.metadata().is_deleting() {
        return Ok("Terminating".to_string());
    }
    let init = &status.init_container_statuses;
    let done = |init: &ContainerStatus| init.state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
    if let Some(number) = init.iter().position(|init| !done(init)).filter(|_| !spec.init_containers.is_empty()) {
        let said = init.get(number).and_then(reason).filter(|reason| reason != "PodInitializing");
        return Ok(format!("Init:{}", said.unwrap_or_else(|| format!("{number}/{}", spec.init_containers.len()))));
    }
    let said = status.container_statuses.iter().rev().find_map(reason);
    let phase = || if status.reason.is_empty() { format!("{:?}", status.phase) } else { status.reason.clone() };
    Ok(said.unwrap_or_else(phase))
}

/// Why a container does not run, in one word.
fn reason(container: &ContainerStatus) -> Option<String> {
    let (waiting, terminated) = (&container.state.waiting, &container.state.terminated);
    let said = waiting.as_ref().map(|waiting| &waiting.reason).or(terminated.as_ref().map(|ended| &ended.reason));
    said.filter(|reason| !reason.is_empty()).cloned()
}
