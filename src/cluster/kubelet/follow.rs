//! A running pod's changes, into its status and into events.

use super::{NAME, status};
use crate::{
    cluster::{
        object::{Object, PodStatus},
        plane::Plane,
    },
    pod::{ContainerStatus, Observer, State, Status},
};
use std::sync::Arc;

/// Tells the object how the pod is until it is over.
pub(super) async fn follow(plane: Arc<Plane>, object: Object, host_ip: String, mut pod: Observer) {
    let mut before: Option<Status> = None;
    loop {
        let seen = pod.changed().await;
        let deleting = || plane.get(object.key()).is_some_and(|entry| entry.value.metadata().is_deleting());
        let terminating = seen.stopping || deleting();
        // the object may be gone already; then there is nobody to tell
        let _ = plane.set_status::<PodStatus>(&object, |old| status::status(old, &seen, &host_ip, terminating)).await;
        for happening in happenings(before.as_ref(), &seen, &object) {
            match happening.warning {
                true => plane.warn(&object, happening.reason, &happening.message, NAME).await,
                false => plane.note(&object, happening.reason, &happening.message, NAME).await,
            }
        }
        if seen.phase.is_over() {
            return;
        }
        before = Some(seen);
    }
}

struct Happening {
    warning: bool,
    reason: &'static str,
    message: String,
}

/// What is worth an event between one status and the next.
fn happenings(before: Option<&Status>, now: &Status, object: &Object) -> Vec<Happening> {
    let mut found = Vec::new();
    for container in now.init.iter().chain(&now.containers) {
        let earlier = before.and_then(|before| before.container(&container.name));
        let mut add = |warning, reason, message| found.push(Happening { warning, reason, message });
        let same = earlier.is_some_and(|earlier| earlier.state == container.state);
        match &container.state {
            State::Running { .. } if !same => {
                add(false, "Started", format!("Started container {}", container.name));
            }
            State::Waiting { reason, message } if !same => waiting(container, reason, message, object, &mut add),
            _ => {}
        }
        if let Some(problem) = &container.unhealthy
            && earlier.is_none_or(|earlier| earlier.unhealthy.as_ref() != Some(problem))
        {
            add(true, container.unhealthy_reason, problem.to_string());
        }
    }
    found
}

fn waiting(
    container: &ContainerStatus,
    reason: &str,
    message: &str,
    object: &Object,
    add: &mut impl FnMut(bool, &'static str, String),
) {
    let image = &container.image;
    match reason {
        "ErrImagePull" => {
            add(true, "Failed", format!("Failed to pull image \"{image}\": {message}"));
            add(true, "Failed", "Error: ErrImagePull".into());
        }
        "ImagePullBackOff" => add(false, "BackOff", format!("Back-off pulling image \"{image}\"")),
        "CrashLoopBackOff" => {
            let (container, pod, namespace) = (&container.name, object.name(), object.namespace());
            add(true, "BackOff", format!("Back-off restarting failed container {container} in pod {pod}_{namespace}"));
        }
        _ => {}
    }
}
