//! A running pod, as its owner holds it.

use super::{Line, Output, Phase, PodSpec, Status, keeper::Keeper, machine::Event};
use crate::{
    base::{
        Labels, Result,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::{after, now},
    },
    net::{Host, Net},
};
use std::{fmt, net::IpAddr, time::Duration};

/// Containers that share an address, volumes and their fate. Dropping it kills it.
///
/// 1. [`start`](Pod::start) takes an address. Init containers run one after the other; the sidecars among them start in
///    their place and keep running; then the containers start together.
/// 2. Containers that end, panic, or fail their liveness probe run again as the policy says: at once, then after 10 s,
///    20 s … 5 min; ten minutes of running forgive what was before.
/// 3. [`stop`](Pod::stop) ends it in order: the containers get their pre-stop hook, then the stop signal; then the
///    sidecars, the last first. Who is not over when the grace ends is killed.
/// 4. [`kill`](Pod::kill) ends it at once.
///
/// ```
/// use seedpod::net::Net;
/// use seedpod::pod::{ContainerSpec, Context, Phase, Pod, PodSpec};
///
/// async fn app(context: Context) -> seedpod::Result {
///     context.log("serving");
///     context.stopped().await;
///     Ok(())
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
/// let net = Net::memory().build();
/// let pod = Pod::start(PodSpec::new("web").container(ContainerSpec::new("app", app)), &net)?;
/// pod.until(|status| status.ready.holds).await;
/// assert_eq!(&*pod.logs("app")[0].text, "serving");
/// assert_eq!(pod.stop(pod.grace()).await, Phase::Succeeded);
/// # Ok::<_, seedpod::Error>(()) }).unwrap();
/// ```
///
/// # Guarantees
/// - A panic in a container ends that container alone, with exit code 101. (This needs unwinding: with `panic = "abort"`
///   it ends the process.)
/// - Each instance has its own scope. Before a container runs again, all tasks and sockets of the instance before are
///   gone.
/// - At a kill, a request in flight sees a reset, and its handler stops at its next await and never resumes.
///
/// # Not guaranteed
/// - A bare `tokio::spawn` is not tracked, and outlives its container until it touches one of its streams.
/// - A task that never awaits cannot be stopped: its container does not end, nor does [`stop`](Pod::stop).
#[must_use = "dropping a pod kills it"]
pub struct Pod {
    keeper: Arc<Keeper>,
    seen: AtomicU64,
}

impl Pod {
    /// Starts a pod on this network.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) for a pod without containers, with two of one name, or with a mount of a
    /// volume that it does not have; [`Kind::Conflict`](crate::Kind::Conflict) where its address is taken. A missing
    /// image is none: the container waits for it.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as `tokio::spawn` does.
    pub fn start(spec: PodSpec, net: &Net) -> Result<Pod> {
        Ok(Pod { keeper: Keeper::start(spec, net)?, seen: AtomicU64::new(0) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.keeper.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.keeper.namespace
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.keeper.labels
    }

    /// How long its containers may take to stop, as declared.
    pub fn grace(&self) -> Duration {
        self.keeper.grace
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.keeper.host.ip()
    }

    /// Its network, as seen by none of its containers: for who looks into it from outside.
    pub fn host(&self) -> &Host {
        &self.keeper.host
    }

    /// What can be seen of it now.
    pub fn status(&self) -> Status {
        self.keeper.status()
    }

    /// Waits until the status is another than the last one that this returned; the first call returns at once.
    ///
    /// Changes in between are seen as one. Several who wait share one mark: each further one takes an
    /// [`observer`](Pod::observe). **Cancel-safety**: dropped early it has seen nothing.
    pub async fn changed(&self) -> Status {
        let status = self.keeper.changed(self.seen.load(Ordering::Relaxed)).await;
        self.seen.store(status.version, Ordering::Relaxed);
        status
    }

    /// One more who watches it, without holding it alive.
    pub fn observe(&self) -> Observer {
        Observer { keeper: self.keeper.clone(), seen: 0 }
    }

    /// Waits until its status is as asked; or until the pod is over, whose status stays as it is.
    ///
    /// **Cancel-safety**: may be dropped at any time.
    pub async fn until(&self, condition: impl FnMut(&Status) -> bool) -> Status {
        self.observe().until(condition).await
    }

    /// Waits until it is over: all containers have ended, and none will run again.
    ///
    /// **Cancel-safety**: may be dropped at any time.
    pub async fn finished(&self) -> Phase {
        self.until(|_| false).await.phase
    }

    /// Ends it in order, within this grace, and waits until it is over. Without grace this is [`kill`](Pod::kill).
    ///
    /// Called again with less grace it hurries. [`Phase::Succeeded`] where all containers ended well.
    ///
    /// **Cancel-safety**: dropped early, the end goes on.
    pub async fn stop(&self, grace: Duration) -> Phase {
        self.begin_stop(grace);
        self.finished().await
    }

    /// Begins what [`stop`](Pod::stop) does, without waiting.
    pub fn begin_stop(&self, grace: Duration) {
        match grace.is_zero() {
            true => self.kill(),
            false => self.keeper.tell(Event::Stop { kill_at: after(now(), grace) }),
        }
    }

    /// Ends it at once, without asking: its address is unreachable, tasks stop at their next await, streams are reset.
    ///
    /// Again, or once it is over: does nothing.
    pub fn kill(&self) {
        self.keeper.kill();
    }

    /// Waits until no task of it is left: after a kill that is when each has come to its next await.
    pub async fn gone(&self) {
        self.keeper.gone().await;
    }

    /// How many tasks its containers have.
    pub fn tasks(&self) -> usize {
        self.keeper.holdings().0
    }

    /// How many streams and listeners its containers have open.
    pub fn sockets(&self) -> usize {
        self.keeper.holdings().1
    }

    /// What this container has logged, in its current or last instance, oldest first; nothing for an unknown name.
    pub fn logs(&self, container: &str) -> Vec<Line> {
        self.log(container, |log| log.lines(false))
    }

    /// What the instance before that had logged.
    pub fn previous_logs(&self, container: &str) -> Vec<Line> {
        self.log(container, |log| log.lines(true))
    }

    /// How many lines of its current or last instance were dropped at the bound.
    pub fn logs_dropped(&self, container: &str) -> u64 {
        self.log(container, |log| log.dropped(false))
    }

    fn log<T: Default>(&self, container: &str, read: impl FnOnce(&super::log::Log) -> T) -> T {
        let mut declared = self.keeper.declared.iter();
        let found = declared.find(|declared| &*declared.name == container);
        found.map(|declared| read(&declared.log.lock())).unwrap_or_default()
    }

    /// What this container has declared to use, in all of its instances: computing time in all, and the bytes it holds.
    pub fn usage(&self, container: &str) -> (Duration, u64) {
        let mut declared = self.keeper.declared.iter();
        let found = declared.find(|declared| &*declared.name == container);
        found.map(|declared| declared.usage.get()).unwrap_or_default()
    }

    /// Runs a command in the running instance of a container.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) for an unknown container, [`Kind::Unavailable`](crate::Kind::Unavailable)
    /// where it does not run or ends first, [`Kind::Panicked`](crate::Kind::Panicked), and what the command's function
    /// returns. A command that went wrong is an [`Output`] with its exit code.
    ///
    /// **Cancel-safety**: dropped early, the command is aborted at its next await.
    pub async fn exec(&self, container: &str, command: impl IntoIterator<Item = impl Into<String>>) -> Result<Output> {
        self.keeper.exec(container, command.into_iter().map(Into::into).collect()).await
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.keeper.kill();
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod({}/{} {})", self.namespace(), self.name(), self.ip())
    }
}

/// Watches a pod without holding it alive.
#[derive(Clone)]
pub struct Observer {
    keeper: Arc<Keeper>,
    seen: u64,
}

impl Observer {
    /// What can be seen of it now.
    pub fn status(&self) -> Status {
        self.keeper.status()
    }

    /// Waits until the status is another than the last one that this returned; the first call returns at once. Once the
    /// pod is over, nothing changes any more.
    ///
    /// **Cancel-safety**: dropped early it has seen nothing.
    pub async fn changed(&mut self) -> Status {
        let status = self.keeper.changed(self.seen).await;
        self.seen = status.version;
        status
    }

    /// Waits until the status is as asked, or the pod is over.
    pub async fn until(&mut self, mut condition: impl FnMut(&Status) -> bool) -> Status {
        loop {
            let status = self.changed().await;
            if status.phase.is_over() || condition(&status) {
                return status;
            }
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observer({}/{})", self.keeper.namespace, self.keeper.name)
    }
}
