//! The launcher that starts pods in this process.

use super::Launcher;
use crate::{
    base::{
        Deadline, Error, Kind, Result,
        sync::atomic::{AtomicU64, Ordering},
    },
    net::Net,
    pod::{ContainerSpec, Exit, Mount, Phase, Pod, PodSpec, RestartPolicy, State, Status, Terminated, Volume},
    queue::Message,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt, time::Duration};

/// Starts a pod of this template for each item.
///
/// The item enters by a volume of the pod's own, which each of its containers mounts under the name `item` at `/item`, and
/// by the environment:
///
/// | what | where |
/// | --- | --- |
/// | the payload | the file `input`; also in a variable, where [`payload_env`](PodLauncher::payload_env) names one |
/// | the result | the file `output`; where there is none when the pod ends well, the result is empty |
/// | the message's id: the idempotency key | `SEEDPOD_MESSAGE_ID` |
/// | topic, subscription | `SEEDPOD_MESSAGE_TOPIC`, `SEEDPOD_MESSAGE_SUBSCRIPTION` |
/// | how often it was tried before | `SEEDPOD_MESSAGE_ATTEMPT` |
///
/// The pod ends by itself, and how it ends is what becomes of the item:
///
/// | the pod | the item |
/// | --- | --- |
/// | ends well | is done |
/// | fails with exit code 65 (`EX_DATAERR`) | goes to the dead letters: trying again cannot help |
/// | fails with exit code 75 (`EX_TEMPFAIL`) | comes back after 30 s, or after the seconds in the file `retry-after`, uncharged |
/// | fails otherwise | comes back in a fresh pod, charged |
/// | takes longer than [`within`](PodLauncher::within) | likewise; the pod is killed |
/// | cannot be started, or lacks an image | comes back after 10 s, uncharged: it is not the item's fault |
///
/// A template that always restarts its containers, as pods do by default, counts as one that never does. With
/// [`RestartPolicy::OnFailure`] containers are run again in the same pod at first, up to
/// [`restarts`](PodLauncher::restarts).
///
/// **Cancel-safety**: a launch that is dropped kills its pod: requests under way see a reset, tasks stop at their next
/// await.
pub struct PodLauncher {
    template: PodSpec,
    net: Net,
    payload_env: Option<String>,
    bytes: u64,
    within: Option<Duration>,
    restarts: u32,
    launched: AtomicU64,
}

/// `EX_DATAERR` of BSD's sysexits.h: the input was wrong.
const WRONG_INPUT: i32 = 65;
/// `EX_TEMPFAIL` of the same: to be tried again later.
const LATER: i32 = 75;
const LATER_WAIT: Duration = Duration::from_secs(30);
/// What the kubelet waits first, too, where an image is missing.
const IMAGE_WAIT: Duration = Duration::from_secs(10);

impl PodLauncher {
    /// The name of the volume by which items enter.
    pub const VOLUME: &str = "item";

    /// A pod of this template per item, on this network.
    pub fn new(mut template: PodSpec, net: &Net) -> Self {
        if template.restart == RestartPolicy::Always {
            template.restart = RestartPolicy::Never;
        }
        let launched = AtomicU64::new(0);
        let bytes = crate::pod::VOLUME_BYTES_MAX;
        PodLauncher { template, net: net.clone(), payload_env: None, bytes, within: None, restarts: 6, launched }
    }

    /// Puts the payload into this variable as well. One that is no text goes to the dead letters.
    #[must_use]
    pub fn payload_env(mut self, variable: impl Into<String>) -> Self {
        self.payload_env = Some(variable.into());
        self
    }

    /// How many bytes an item, its result and whatever stands beside them in the volume may have together. Default 64 MiB.
    /// A larger item goes to the dead letters.
    #[must_use]
    pub fn volume_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a pod may take. Default: as long as it takes, as with Kubernetes' jobs.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// How often the containers of one pod may be run again before it is given up, where the template restarts them on
    /// failure. Default 6, as Kubernetes' jobs.
    #[must_use]
    pub fn restarts(mut self, most: u32) -> Self {
        self.restarts = most;
        self
    }

    fn pod_of(&self, item: &Message, payload: &Bytes, volume: &Volume) -> Result<PodSpec> {
        let mut spec = self.template.clone();
        let (id, number) = (item.id().to_string(), self.launched.fetch_add(1, Ordering::Relaxed));
        spec.name = format!("{}-{}-{number}", spec.name, id.get(..8).unwrap_or(&id)).into();
        spec.seed = spec.seed.map(|seed| seed.fork(&id).fork_index(number));
        if let Some(variable) = &self.payload_env {
            let text = String::from_utf8(payload.to_vec()).map_err(|error| {
                Error::new(Kind::Invalid, format!("it is no text, and cannot stand in {variable}")).because(error)
            })?;
            spec.env.insert(variable.clone(), text);
        }
        spec.env.insert("SEEDPOD_MESSAGE_ID".into(), id);
        spec.env.insert("SEEDPOD_MESSAGE_TOPIC".into(), item.topic().to_string());
        spec.env.insert("SEEDPOD_MESSAGE_SUBSCRIPTION".into(), item.subscription().name.to_string());
        spec.env.insert("SEEDPOD_MESSAGE_ATTEMPT".into(), item.attempts().total().to_string());
        spec.volumes.insert(Self::VOLUME.into(), volume.clone());
        for container in spec.init.iter_mut().chain(&mut spec.containers) {
            mount(container);
        }
        Ok(spec)
    }

    /// Waits until the pod is over, or nothing can come of it any more.
    async fn end_of(&self, pod: &Pod, volume: &Volume) -> Result<Bytes> {
        let status = pod.until(|status| missing(status).is_some() || status.restarts() > self.restarts).await;
        if let Some((container, message)) = missing(&status) {
            let message = format!("container {container}: {message}");
            return Err(Error::new(Kind::Unavailable, message).after(IMAGE_WAIT));
        }
        if status.phase == Phase::Succeeded {
            return match volume.read("output") {
                Err(error) if error.is_not_found() => Ok(Bytes::new()),
                output => output,
            };
        }
        Err(failed(&status, volume))
    }
}

fn mount(container: &mut ContainerSpec) {
    let path = format!("/{}", PodLauncher::VOLUME);
    container.mounts.retain(|mount| mount.volume != PodLauncher::VOLUME);
    container.mounts.push(Mount { volume: PodLauncher::VOLUME.into(), path, read_only: false });
}

/// The first container whose image is not there.
fn missing(status: &Status) -> Option<(&str, &str)> {
    status.init.iter().chain(&status.containers).find_map(|container| match &container.state {
        State::Waiting { reason: "ErrImagePull" | "ImagePullBackOff", message } => Some((&*container.name, &**message)),
        _ => None,
    })
}

/// What the first container that failed says of it.
fn failed(status: &Status, volume: &Volume) -> Error {
    let all = status.containers.iter().chain(&status.init);
    let ended =
        all.filter_map(|container| Some((container, container.state.terminated().or(container.last.as_ref())?)));
    let Some((container, Terminated { exit_code, message, .. })) = { ended }.find(|(_, end)| end.exit_code != 0) else {
        return Error::new(Kind::Failed, "it was killed");
    };
    // an `Exit` says its code itself
    let code = Exit::new(*exit_code, "").to_string();
    let text = match message.contains(&code) {
        true => format!("container {}: {message}", container.name),
        false => format!("container {}: {code}: {message}", container.name),
    };
    match *exit_code {
        WRONG_INPUT => Error::new(Kind::Invalid, text),
        LATER => {
            let seconds =
                volume.read("retry-after").ok().and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
            Error::new(Kind::Overloaded, text).after(seconds.map_or(LATER_WAIT, Duration::from_secs))
        }
        Exit::PANICKED => Error::new(Kind::Panicked, text),
        _ => Error::new(Kind::Failed, text),
    }
}

#[async_trait]
impl Launcher for PodLauncher {
    async fn launch(&self, item: &Message) -> Result<Bytes> {
        let (payload, volume) = (item.bytes()?, Volume::bounded(self.bytes));
        let too_large = |error| Error::new(Kind::Invalid, "it does not fit").because(error);
        volume.write("input", payload.clone()).map_err(too_large)?;
        let spec = self.pod_of(item, &payload, &volume)?;
        let place = format!("pod {}/{}", spec.namespace, spec.name);
        let pod = Pod::start(spec, &self.net)
            .map_err(|error| Error::new(Kind::Unavailable, "it cannot be started").because(error).after(IMAGE_WAIT))
            .map_err(|error| error.at(place.as_str()))?;
        let end = self.end_of(&pod, &volume);
        let ended = match self.within {
            Some(time) => Deadline::within(time)
                .bound(end)
                .await
                .unwrap_or_else(|_| Err(Error::new(Kind::Timeout, format!("it was not over after {time:?}")))),
            None => end.await,
        };
        ended.map_err(|error| error.at(place))
    }
}

impl fmt::Debug for PodLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodLauncher").field("template", &self.template).finish_non_exhaustive()
    }
}
