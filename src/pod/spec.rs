//! What is declared: a pod and its containers.

use super::{
    Context, Image, Probe, Resources, RestartPolicy, Volume,
    probe::{CheckFunction, function},
};
use crate::{
    base::{BoxError, Error, Kind, Labels, Result, Seed},
    net::Intercept,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

/// A pod as declared: containers that share an address, volumes and their fate.
///
/// The defaults are Kubernetes': always restarted, 30 s of grace.
///
/// ```
/// use seedpod::pod::{ContainerSpec, Context, PodSpec, RestartPolicy, Volume};
/// # async fn app(_: Context) -> seedpod::Result { Ok(()) }
/// # async fn shipper(_: Context) -> seedpod::Result { Ok(()) }
/// let spec = PodSpec::new("web")
///     .volume("logs", Volume::memory())
///     .sidecar(ContainerSpec::new("shipper", shipper).mount("logs", "/logs"))
///     .container(ContainerSpec::new("app", app).env("MODE", "fast").mount("logs", "/var/log/app"));
/// assert_eq!(spec.restart, RestartPolicy::Always);
/// ```
#[derive(Clone)]
pub struct PodSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace: `default`.
    pub namespace: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its address: the network's next free one.
    pub ip: Option<IpAddr>,
    /// DNS suffixes that its names are tried with.
    pub search: Vec<String>,
    /// Environment of all containers, below their own.
    pub env: BTreeMap<String, String>,
    /// Whether containers that have ended run again.
    pub restart: RestartPolicy,
    /// How long its containers may take to stop: 30 s.
    pub grace: Duration,
    /// Run before the containers, one after the other; the sidecars among them keep running.
    pub init: Vec<ContainerSpec>,
    /// Run together, once all of `init` is done or started.
    pub containers: Vec<ContainerSpec>,
    /// What containers can mount, by name.
    pub volumes: BTreeMap<String, Volume>,
    /// What its containers find by name, of any type.
    pub resources: Resources,
    /// Where its containers' chance comes from: the network's seed.
    pub seed: Option<Seed>,
    /// Whether its traffic is redirected to ports of a proxy among its containers.
    pub intercept: Intercept,
}

/// A container as declared.
#[derive(Clone)]
pub struct ContainerSpec {
    /// Its name, unique in the pod.
    pub name: Arc<str>,
    /// What it runs.
    pub image: Image,
    /// In the place of the image's own command; for the container to read.
    pub command: Vec<String>,
    /// For the container to read.
    pub args: Vec<String>,
    /// For the container to read.
    pub env: BTreeMap<String, String>,
    /// Ports that it says it listens on. For those who look: nothing is opened or closed by it.
    pub ports: Vec<Port>,
    /// The volumes that it sees, and where.
    pub mounts: Vec<Mount>,
    /// Whether it has started; until then the other two do not run. Its failure restarts the container.
    pub startup: Option<Probe>,
    /// Whether it is alive. Its failure restarts the container.
    pub liveness: Option<Probe>,
    /// Whether it may get traffic. Without one: as soon as it has started.
    pub readiness: Option<Probe>,
    /// Run beside it when it starts. Its failure restarts the container.
    pub post_start: Option<Hook>,
    /// Run before it is asked to stop, within the grace.
    pub pre_stop: Option<Hook>,
    /// Among `init` only: it keeps running, is always restarted, and stops after the containers.
    pub sidecar: bool,
}

/// A port that a container says it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// What it is called, where it has a name.
    pub name: Option<Arc<str>>,
    /// Its number.
    pub number: u16,
}

/// A volume as a container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name in the pod.
    pub volume: String,
    /// Where the container expects it.
    pub path: String,
    /// Whether the container can only read.
    pub read_only: bool,
}

/// What is run when a container starts or is about to be stopped.
#[derive(Clone)]
#[non_exhaustive]
pub enum Hook {
    /// The image's exec function, with this command.
    Exec(Vec<String>),
    /// This function.
    Function(CheckFunction),
    /// A GET of this path on this port. Needs the feature `http`.
    Http {
        /// The port, on the pod's own address.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// Nothing, for this long.
    Sleep(Duration),
}

impl Hook {
    /// A function, whatever its error.
    pub fn function<F, Fut, E>(hook: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Hook::Function(function(hook))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hook::Exec(command) => f.debug_tuple("Exec").field(command).finish(),
            Hook::Function(_) => f.write_str("Function(..)"),
            Hook::Http { port, path } => f.debug_struct("Http").field("port", port).field("path", path).finish(),
            Hook::Sleep(wait) => f.debug_tuple("Sleep").field(wait).finish(),
        }
    }
}

/// Of the environment it shows the names alone: values may be secrets.
impl fmt::Debug for PodSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodSpec")
            .field("name", &format_args!("{}/{}", self.namespace, self.name))
            .field("labels", &self.labels)
            .field("env", &self.env.keys())
            .field("restart", &self.restart)
            .field("grace", &self.grace)
            .field("init", &self.init)
            .field("containers", &self.containers)
            .field("volumes", &self.volumes)
            .finish_non_exhaustive()
    }
}

/// Of the environment it shows the names alone: values may be secrets.
impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerSpec")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("env", &self.env.keys())
            .field("ports", &self.ports)
            .field("mounts", &self.mounts)
            .field("probes", &[&self.startup, &self.liveness, &self.readiness])
            .field("sidecar", &self.sidecar)
            .finish_non_exhaustive()
    }
}

impl PodSpec {
    /// Kubernetes' default grace.
    pub const GRACE: Duration = Duration::from_secs(30);

    /// A pod of this name, without containers.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        PodSpec {
            name: name.into(),
            namespace: "default".into(),
            labels: Labels::new(),
            ip: None,
            search: Vec::new(),
            env: BTreeMap::new(),
            restart: RestartPolicy::default(),
            grace: PodSpec::GRACE,
            init: Vec::new(),
            containers: Vec::new(),
            volumes: BTreeMap::new(),
            resources: Resources::default(),
            seed: None,
            intercept: Intercept::default(),
        }
    }

    /// Adds a container.
    #[must_use]
    pub fn container(mut self, container: ContainerSpec) -> Self {
        self.containers.push(container);
        self
    }

    /// Adds an init container behind those that are there.
    #[must_use]
    pub fn init(mut self, container: ContainerSpec) -> Self {
        self.init.push(container);
        self
    }

    /// Adds a sidecar behind the init containers and sidecars that are there.
    #[must_use]
    pub fn sidecar(mut self, container: ContainerSpec) -> Self {
        self.init.push(ContainerSpec { sidecar: true, ..container });
        self
    }

    /// Adds a volume.
    #[must_use]
    pub fn volume(mut self, name: impl Into<String>, volume: Volume) -> Self {
        self.volumes.insert(name.into(), volume);
        self
    }

    /// Sets a variable for all containers.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Says whether containers that have ended run again.
    #[must_use]
    pub fn restart(mut self, restart: RestartPolicy) -> Self {
        self.restart = restart;
        self
    }

    /// Puts a thing into the resource map.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, name: impl Into<String>, thing: T) -> Self {
        self.resources.insert(name, thing);
        self
    }

    /// Finds what cannot be started.
    pub(super) fn check(&self) -> Result {
        let invalid = |container: &ContainerSpec, message: String| {
            let place = format!("pod {}/{}, container {}", self.namespace, self.name, container.name);
            Err(Error::new(Kind::Invalid, message).at(place))
        };
        if self.containers.is_empty() {
            let place = format!("pod {}/{}", self.namespace, self.name);
            return Err(Error::new(Kind::Invalid, "it has no container").at(place));
        }
        let mut names = BTreeSet::new();
        for container in self.init.iter().chain(&self.containers) {
            if !names.insert(&container.name) {
                return invalid(container, "two containers have this name".into());
            }
            if let Some(mount) = container.mounts.iter().find(|mount| !self.volumes.contains_key(&mount.volume)) {
                return invalid(
                    container,
                    format!("it mounts the volume {}, which the pod does not have", mount.volume),
                );
            }
        }
        if let Some(container) = self.containers.iter().find(|container| container.sidecar) {
            return invalid(container, "a sidecar stands among the init containers".into());
        }
        Ok(())
    }
}

impl ContainerSpec {
    /// A container of this name, with nothing but what it runs.
    pub fn new(name: impl Into<Arc<str>>, image: impl Into<Image>) -> Self {
        ContainerSpec {
            name: name.into(),
            image: image.into(),
            command: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            ports: Vec::new(),
            mounts: Vec::new(),
            startup: None,
            liveness: None,
            readiness: None,
            post_start: None,
            pre_stop: None,
            sidecar: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Declares a port.
    #[must_use]
    pub fn port(mut self, number: u16) -> Self {
        self.ports.push(Port { name: None, number });
        self
    }

    /// Mounts a volume of the pod, to read and write.
    #[must_use]
    pub fn mount(mut self, volume: impl Into<String>, path: impl Into<String>) -> Self {
        self.mounts.push(Mount { volume: volume.into(), path: path.into(), read_only: false });
        self
    }

    /// Sets the startup probe.
    #[must_use]
    pub fn startup(mut self, probe: Probe) -> Self {
        self.startup = Some(probe);
        self
    }

    /// Sets the liveness probe.
    #[must_use]
    pub fn liveness(mut self, probe: Probe) -> Self {
        self.liveness = Some(probe);
        self
    }

    /// Sets the readiness probe.
    #[must_use]
    pub fn readiness(mut self, probe: Probe) -> Self {
        self.readiness = Some(probe);
        self
    }

    /// Sets what runs beside it when it starts.
    #[must_use]
    pub fn post_start(mut self, hook: Hook) -> Self {
        self.post_start = Some(hook);
        self
    }

    /// Sets what runs before it is asked to stop.
    #[must_use]
    pub fn pre_stop(mut self, hook: Hook) -> Self {
        self.pre_stop = Some(hook);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_environment_are_not_printed() {
        async fn app(_: Context) -> Result {
            Ok(())
        }
        let spec = PodSpec::new("web").env("A", "hush").container(ContainerSpec::new("app", app).env("TOKEN", "hush"));
        let text = format!("{spec:#?}");
        assert!(text.contains("TOKEN") && text.contains("default/web") && !text.contains("hush"), "{text}");
    }
}
