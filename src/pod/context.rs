//! The world as a container sees it.

use super::{Port, Volume, keeper::Instance, machine::Event};
use crate::{
    base::{
        Error, Kind, Result, Rng, Seed,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::WallClock,
    },
    net::{Connection, Host, Listener, Scope},
};
use std::{any::Any, fmt, future::Future, net::IpAddr, time::Duration};
use tokio::task::JoinHandle;

/// The world as one instance of a container sees it; cheap to clone.
///
/// A restarted container gets a new one. Everything opened or spawned through it belongs to the instance: when the
/// container's function ends, or is killed, so do its tasks and sockets.
///
/// Code that takes all it needs from here runs unchanged wherever containers run: in one process, in a simulation, in a
/// real pod.
#[derive(Clone)]
pub struct Context(pub(super) Arc<Instance>);

impl Context {
    /// The container's name.
    pub fn name(&self) -> &str {
        &self.0.declared.name
    }

    /// The pod's name.
    pub fn pod(&self) -> &str {
        &self.0.keeper.name
    }

    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        &self.0.keeper.namespace
    }

    /// The pod's address.
    pub fn ip(&self) -> IpAddr {
        self.host().ip()
    }

    /// The pod's network, with the sockets of this container: for who needs more than [`listen`](Context::listen) and
    /// [`connect`](Context::connect).
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// What its tasks and sockets belong to; also an executor for hyper and tonic.
    pub fn scope(&self) -> &Scope {
        self.0.host.scope()
    }

    /// Listens on a port of the pod; 0 is one that is free.
    ///
    /// # Errors
    /// [`Kind::Conflict`], naming address and port, where another container of the pod listens on it.
    pub async fn listen(&self, port: u16) -> Result<Listener> {
        self.host().listen(port).await
    }

    /// Connects to `name:port`, `address:port`, or `localhost:port`, which is this pod.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] where nobody listens; [`Kind::NotFound`] for a name that nobody has.
    pub async fn connect(&self, target: impl AsRef<str>) -> Result<Connection> {
        self.host().connect(target.as_ref()).await
    }

    /// A variable of its environment: the container's own, else the pod's.
    pub fn env(&self, key: &str) -> Option<&str> {
        self.0.declared.words().env.get(key).or_else(|| self.0.keeper.env.get(key))
    }

    /// All variables of its environment, in order.
    pub fn envs(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = &self.0.declared.words().env;
        let mut all: Vec<_> = self.0.keeper.env.iter().filter(|(key, _)| own.get(key).is_none()).collect();
        all.extend(own.iter());
        all.sort_unstable();
        all.into_iter()
    }

    /// Its declared command; empty where the image's own is meant.
    pub fn command(&self) -> &[String] {
        &self.0.declared.words().command
    }

    /// Its declared arguments.
    pub fn args(&self) -> &[String] {
        &self.0.declared.words().args
    }

    /// The ports that it is declared to listen on.
    pub fn ports(&self) -> &[Port] {
        &self.0.declared.words().ports
    }

    /// A volume that it mounts, by the volume's name or by the path where it is mounted.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming what it mounts.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let mounts = &self.0.declared.mounts;
        let path = |path: &str| path.trim_end_matches('/') == name.trim_end_matches('/');
        match mounts.iter().find(|(mount, _)| mount.volume == name || path(&mount.path)) {
            Some((mount, volume)) if mount.read_only => Ok(volume.read_only()),
            Some((_, volume)) => Ok(volume.clone()),
            None => {
                let mounted: Vec<_> = mounts.iter().map(|(mount, _)| mount.volume.as_str()).collect();
                let message = match mounted.is_empty() {
                    true => format!("container {} mounts no volume", self.name()),
                    false => format!("container {} mounts: {}", self.name(), mounted.join(", ")),
                };
                Err(Error::new(Kind::NotFound, message).at(format!("volume {name}")))
            }
        }
    }

    /// The thing of this type under this name in the pod's resource map.
    pub fn resource<T: Any + Send + Sync>(&self, name: &str) -> Option<std::sync::Arc<T>> {
        self.0.keeper.resources.get(name)
    }

    /// Spawns a task that dies with the container. Its panic ends that task alone, and is counted in the scope.
    ///
    /// A bare `tokio::spawn` is not tracked and outlives a kill.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.scope().spawn(future)
    }

    /// Resolves when the container is asked to stop: it should end in order, within the pod's grace.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let instance = self.0.clone();
        async move {
            let stop = &instance.stop;
            loop {
                let notified = stop.notify.notified(); // before the look, so that no signal is missed
                if stop.asked.load(Ordering::Acquire) {
                    break;
                }
                notified.await;
            }
        }
    }

    /// Whether it has been asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.asked.load(Ordering::Acquire)
    }

    /// Says that it is ready: what [`Check::Reported`](super::Check::Reported) waits for. Without such a probe it says
    /// nothing new. Again: does nothing.
    pub fn ready(&self) {
        if !self.0.reported.swap(true, Ordering::Relaxed) {
            self.0.keeper.tell(Event::Reported { slot: self.0.slot, instance: self.0.number });
        }
    }

    /// Adds to its log, line by line. The log is bounded: the oldest lines go first, and are counted.
    pub fn log(&self, line: impl AsRef<str>) {
        self.0.declared.log.lock().push(self.wall().now(), line.as_ref());
    }

    /// The seed of this instance: of the pod's, by the container's name and the number of restarts.
    pub fn seed(&self) -> Seed {
        self.0.keeper.seed.fork(self.name()).fork_index(u64::from(self.0.number))
    }

    /// A generator for this purpose; the same one whenever this instance asks.
    pub fn rng(&self, purpose: &str) -> Rng {
        self.seed().fork(purpose).rng()
    }

    /// The network's wall clock.
    pub fn wall(&self) -> WallClock {
        self.host().net().wall_clock()
    }

    /// Declares use: this much more computing time, and this many bytes held from now on. Functions are not metered:
    /// what they declare is what autoscaling and accounting see, under virtual time as well.
    pub fn consume(&self, cpu: Duration, memory: u64) {
        self.0.declared.usage.add(cpu, memory);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({}/{} {})", self.namespace(), self.pod(), self.name())
    }
}

/// The stop signal of one instance.
#[derive(Default)]
pub(super) struct Stop {
    asked: AtomicBool,
    notify: tokio::sync::Notify,
}

impl Stop {
    pub(super) fn signal(&self) {
        self.asked.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }
}
