//! From a pod as an object to a pod that runs.

use super::{
    Problem,
    variables::{self, Site},
    volumes::Filled,
};
use crate::{
    base::{Error, Kind, Seed},
    cluster::{
        object::{Container, Handler, IntOrString, Probe as Declared, RestartPolicy as Policy},
        service,
    },
    pod::{Check, ContainerSpec, Hook, Images, Mount, PodSpec, Port, Probe, Resources, RestartPolicy},
};
use std::{collections::BTreeMap, net::IpAddr};

/// What every pod of a cluster gets.
pub(super) struct Common<'a> {
    pub(super) ip: IpAddr,
    pub(super) images: &'a Images,
    pub(super) resources: &'a Resources,
    /// For all containers, below their own.
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) seed: Seed,
}

/// The pod to start.
pub(super) fn pod(
    site: &Site<'_>,
    common: &Common<'_>,
    services: &BTreeMap<String, String>,
    volumes: &BTreeMap<String, Filled>,
) -> Result<PodSpec, Problem> {
    let metadata = site.metadata;
    let mut pod = PodSpec::new(metadata.name.as_str());
    pod.namespace = metadata.namespace.as_str().into();
    pod.labels = metadata.labels.clone();
    pod.ip = Some(common.ip);
    pod.search = service::search(&metadata.namespace);
    pod.env = common.env.clone();
    pod.restart = match site.spec.restart_policy.unwrap_or_default() {
        Policy::Always => RestartPolicy::Always,
        Policy::OnFailure => RestartPolicy::OnFailure,
        Policy::Never => RestartPolicy::Never,
    };
    pod.grace = site.spec.grace();
    pod.resources = common.resources.clone();
    pod.seed = Some(common.seed.fork(&format!("{}/{}", metadata.namespace, metadata.name)));
    for (name, filled) in volumes {
        let volume = if filled.projected.is_some() { filled.volume.read_only() } else { filled.volume.clone() };
        pod.volumes.insert(name.clone(), volume);
    }
    let read = |declared: &Container| container(site, common.images, services, declared);
    for declared in &site.spec.init_containers {
        pod.init.push(ContainerSpec { sidecar: declared.is_sidecar(), ..read(declared)? });
    }
    for declared in &site.spec.containers {
        pod.containers.push(read(declared)?);
    }
    Ok(pod)
}

fn container(
    site: &Site<'_>,
    images: &Images,
    services: &BTreeMap<String, String>,
    declared: &Container,
) -> Result<ContainerSpec, Problem> {
    let mut container = ContainerSpec::new(declared.name.as_str(), images.image(&declared.image));
    container.env = variables::environment(site, services, declared)?;
    let expand = |texts: &[String]| texts.iter().map(|text| variables::expand(text, &container.env)).collect();
    (container.command, container.args) = (expand(&declared.command), expand(&declared.args));
    container.ports = declared.ports.iter().filter_map(port).collect();
    container.mounts = (declared.volume_mounts.iter())
        .map(|mount| Mount { volume: mount.name.clone(), path: mount.mount_path.clone(), read_only: mount.read_only })
        .collect();
    let probe = |declared: &Option<Declared>| declared.as_ref().and_then(|declared| probe(declared, &container.ports));
    let hook = |declared: Option<&Handler>| declared.and_then(|declared| hook(declared, &container.ports));
    let lifecycle = declared.lifecycle.as_ref();
    let startup = probe(&declared.startup_probe);
    let liveness = probe(&declared.liveness_probe);
    let readiness = probe(&declared.readiness_probe);
    let post_start = hook(lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()));
    let pre_stop = hook(lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()));
    Ok(ContainerSpec { startup, liveness, readiness, post_start, pre_stop, ..container })
}

fn port(declared: &crate::cluster::object::ContainerPort) -> Option<Port> {
    let name = (!declared.name.is_empty()).then(|| declared.name.as_str().into());
    Some(Port { name, number: u16::try_from(declared.container_port).ok()? })
}

/// A port's number, be it given by number or by name.
fn number(port: Option<&IntOrString>, ports: &[Port]) -> Option<u16> {
    match port? {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.number).or_else(|| name.parse().ok())
        }
    }
}

/// Why a check or hook cannot be made: it names a port that its container does not have.
fn no_port(port: Option<&IntOrString>) -> Error {
    let port = port.map_or_else(String::new, ToString::to_string);
    Error::new(Kind::Invalid, format!("couldn't find port: {port}"))
}

/// A check that fails for this reason whenever it is made, as Kubernetes' do: a probe that is written wrongly must not
/// pass for one that is not there.
fn failing(why: Error) -> Check {
    Probe::function(move |_| std::future::ready(Err::<(), _>(why.clone()))).check
}

fn probe(declared: &Declared, ports: &[Port]) -> Option<Probe> {
    let check = if let Some(exec) = &declared.exec {
        Check::Exec(exec.command.clone())
    } else if let Some(get) = &declared.http_get {
        number(get.port.as_ref(), ports).map_or_else(
            || failing(no_port(get.port.as_ref())),
            |port| Check::Http {
                port,
                path: get.path.clone().unwrap_or_else(|| "/".into()),
                headers: get.http_headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
            },
        )
    } else if let Some(tcp) = &declared.tcp_socket {
        number(tcp.port.as_ref(), ports).map_or_else(|| failing(no_port(tcp.port.as_ref())), Check::Tcp)
    } else {
        let grpc = declared.grpc.as_ref()?;
        Check::Grpc { port: u16::try_from(grpc.port).ok()?, service: grpc.service.clone().unwrap_or_default() }
    };
    let probe = Probe::new(check)
        .initial_delay(declared.initial_delay())
        .period(declared.period())
        .timeout(declared.timeout())
        .successes(declared.successes())
        .failures(declared.failures());
    Some(probe)
}

/// A `tcpSocket` is accepted and fails whenever it is run, as in Kubernetes, which keeps the field for old manifests.
fn hook(declared: &Handler, ports: &[Port]) -> Option<Hook> {
    if let Some(exec) = &declared.exec {
        return Some(Hook::Exec(exec.command.clone()));
    }
    if let Some(get) = &declared.http_get {
        let path = get.path.clone().unwrap_or_else(|| "/".into());
        return Some(match number(get.port.as_ref(), ports) {
            Some(port) => Hook::Http { port, path },
            None => {
                let why = no_port(get.port.as_ref());
                Hook::function(move |_| std::future::ready(Err::<(), _>(why.clone())))
            }
        });
    }
    if declared.tcp_socket.is_some() {
        let why = Error::new(Kind::Unsupported, "invalid handler: a tcpSocket cannot be run as a lifecycle hook");
        return Some(Hook::function(move |_| std::future::ready(Err::<(), _>(why.clone()))));
    }
    let seconds = declared.sleep.as_ref()?.seconds;
    Some(Hook::Sleep(std::time::Duration::from_secs(seconds.max(0).unsigned_abs())))
}
