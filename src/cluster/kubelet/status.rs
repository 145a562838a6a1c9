//! From a pod that runs to the status of its object.

use crate::{
    cluster::object::{
        Condition, ContainerState, ContainerStatus, PodIp, PodPhase, PodStatus, Running, Terminated, Timestamp, Waiting,
    },
    pod::{self, Phase, State, Status},
};

/// The object's status, made from what was there (`old`) and what the pod says.
///
/// `terminating`: it has been told to go, so that it is not ready whatever its containers say, and endpoints drop it
/// before they are told.
pub(super) fn status(old: &PodStatus, seen: &Status, host_ip: &str, terminating: bool) -> PodStatus {
    let mut status = old.clone();
    status.phase = match seen.phase {
        Phase::Pending => PodPhase::Pending,
        Phase::Running => PodPhase::Running,
        Phase::Succeeded => PodPhase::Succeeded,
        Phase::Failed => PodPhase::Failed,
    };
    status.host_ip = host_ip.into();
    status.pod_ip = seen.ip.to_string();
    status.pod_ips = vec![PodIp { ip: seen.ip.to_string() }];
    status.start_time = Some(Timestamp::from(seen.started));
    status.init_container_statuses = seen.init.iter().map(container).collect();
    status.container_statuses = seen.containers.iter().map(container).collect();
    let (reason, message) = seen.unready().unwrap_or_default();
    for (name, condition, why) in [
        ("Initialized", seen.initialized, (reason == "ContainersNotInitialized").then(|| (reason, message.clone()))),
        ("ContainersReady", seen.containers_ready, Some((reason, message.clone()))),
        ("Ready", seen.ready, Some((reason, message.clone()))),
    ] {
        let holds = condition.holds && !(terminating && name == "Ready");
        let (reason, message) = if holds { Default::default() } else { why.unwrap_or_default() };
        Condition::new(name, holds, reason, &message, condition.since.into()).set(&mut status.conditions);
    }
    status
}

fn container(seen: &pod::ContainerStatus) -> ContainerStatus {
    ContainerStatus {
        name: seen.name.to_string(),
        state: state(&seen.state),
        last_state: ContainerState { terminated: seen.last.as_ref().map(terminated), ..ContainerState::default() },
        ready: seen.ready,
        restart_count: i32::try_from(seen.restarts).unwrap_or(i32::MAX),
        image: seen.image.to_string(),
        image_id: if seen.state.is_running() { format!("seedpod://{}", seen.image) } else { String::new() },
        started: Some(seen.started),
        ..ContainerStatus::default()
    }
}

fn state(seen: &State) -> ContainerState {
    match seen {
        State::Waiting { reason, message } => waiting(reason, message),
        State::Running { started } => {
            let running = Running { started_at: Some(Timestamp::from(*started)) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        State::Terminated(seen) => ContainerState { terminated: Some(terminated(seen)), ..ContainerState::default() },
    }
}

/// A container that does not run yet, and why.
pub(super) fn waiting(reason: &str, message: &str) -> ContainerState {
    let waiting = Waiting { reason: reason.into(), message: message.into() };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(seen: &pod::Terminated) -> Terminated {
    Terminated {
        exit_code: seen.exit_code,
        reason: seen.reason.into(),
        message: seen.message.to_string(),
        started_at: Some(seen.started.into()),
        finished_at: Some(seen.finished.into()),
    }
}
