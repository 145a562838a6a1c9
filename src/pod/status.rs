//! What can be seen of a pod from outside: phase, conditions, and the state of each container.

use std::{fmt, net::IpAddr, sync::Arc, time::SystemTime};

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not every container has run yet.
    #[default]
    Pending,
    /// Every container has run; at least one still does, or will again.
    Running,
    /// All containers have ended well, and none will run again.
    Succeeded,
    /// All containers have ended, at least one of them not well, and none will run again.
    Failed,
}

impl Phase {
    /// Whether the pod is over.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }

    /// The phase as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a container is doing. The reasons are Kubernetes' own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not running, but it will.
    Waiting {
        /// `PodInitializing`, `ContainerCreating`, `CrashLoopBackOff`, `ErrImagePull`, `ImagePullBackOff`.
        reason: &'static str,
        /// In words; may be empty.
        message: Arc<str>,
    },
    /// Running.
    Running {
        /// Since when.
        started: SystemTime,
    },
    /// Over, and it will not run again.
    Terminated(Terminated),
}

impl State {
    /// Whether it runs now.
    pub fn is_running(&self) -> bool {
        matches!(self, State::Running { .. })
    }

    /// How it ended, where it has.
    pub fn terminated(&self) -> Option<&Terminated> {
        match self {
            State::Terminated(terminated) => Some(terminated),
            _ => None,
        }
    }

    /// The reason, where the state has one.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            State::Waiting { reason, .. } => Some(reason),
            State::Running { .. } => None,
            State::Terminated(terminated) => Some(terminated.reason),
        }
    }
}

/// How one instance of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminated {
    /// 0 for `Ok`; else as [`Exit`](super::Exit) says.
    pub exit_code: i32,
    /// `Completed` or `Error`.
    pub reason: &'static str,
    /// The error with its causes, or what the panic said; empty when it ended well.
    pub message: Arc<str>,
    /// When it began.
    pub started: SystemTime,
    /// When it had ended, with all of its tasks.
    pub finished: SystemTime,
}

/// What can be seen of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// The image that it was declared with.
    pub image: Arc<str>,
    /// What it is doing.
    pub state: State,
    /// How the instance before this one ended.
    pub last: Option<Terminated>,
    /// Whether it may get traffic: it runs, has started, and its readiness probe (if any) says so. For an init
    /// container: whether it has ended well.
    pub ready: bool,
    /// Whether it has started: it runs, its post-start hook is over, and its startup probe (if any) has succeeded.
    pub started: bool,
    /// How many times it was started again.
    pub restarts: u32,
    /// What its last failed probe or hook said, until the same succeeds.
    pub unhealthy: Option<Arc<str>>,
    /// The same in one word, as Kubernetes' events have it: `Unhealthy` for a probe, `FailedPostStartHook` or
    /// `FailedPreStopHook`; empty where nothing is wrong.
    pub unhealthy_reason: &'static str,
}

/// One of the things that are true of a pod, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub holds: bool,
    /// Since when it has been so.
    pub since: SystemTime,
}

/// What can be seen of a pod: a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its address.
    pub ip: IpAddr,
    /// When it was started.
    pub started: SystemTime,
    /// Whether it has been asked to stop.
    pub stopping: bool,
    /// Init containers and sidecars, in the order declared.
    pub init: Vec<ContainerStatus>,
    /// The containers, in the order declared.
    pub containers: Vec<ContainerStatus>,
    /// All init containers have ended well and all sidecars have started.
    pub initialized: Condition,
    /// All containers and sidecars are ready.
    pub containers_ready: Condition,
    /// The pod may get traffic. The same as `containers_ready`; readiness gates are for who adds them.
    pub ready: Condition,
    /// Counts up whenever anything above changes.
    pub version: u64,
}

impl Status {
    /// The container of this name, among all.
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().chain(&self.init).find(|container| &*container.name == name)
    }

    /// How many times its containers (init containers and sidecars not counted) were started again.
    pub fn restarts(&self) -> u32 {
        self.containers.iter().map(|container| container.restarts).sum()
    }

    /// Why it is not ready, as Kubernetes gives it: reason and message. None once it is.
    pub fn unready(&self) -> Option<(&'static str, String)> {
        let names = |containers: &[ContainerStatus]| {
            let unready = containers.iter().filter(|container| !container.ready);
            unready.map(|container| &*container.name).collect::<Vec<_>>().join(" ")
        };
        match (self.phase, self.ready.holds) {
            (_, true) => None,
            (Phase::Succeeded, _) => Some(("PodCompleted", String::new())),
            (Phase::Failed, _) => Some(("PodFailed", String::new())),
            _ if !self.initialized.holds => {
                let names = names(&self.init);
                Some(("ContainersNotInitialized", format!("containers with incomplete status: [{names}]")))
            }
            _ => {
                let names = names(&self.containers);
                Some(("ContainersNotReady", format!("containers with unready status: [{names}]")))
            }
        }
    }
}

/// What the phase is computed from, of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Has never run.
    Waiting,
    /// Runs.
    Running,
    /// Has ended with this code; it may run again.
    Ended(i32),
}

/// The phase of a pod, as Kubernetes' kubelet computes it: what waits for a restart counts as running.
pub(crate) fn phase(initialized: bool, over: bool, init_ok: bool, containers: &[Seen]) -> Phase {
    let ended_well = init_ok && containers.iter().all(|seen| *seen == Seen::Ended(0));
    match () {
        () if over && ended_well => Phase::Succeeded,
        () if over => Phase::Failed,
        () if !initialized || containers.contains(&Seen::Waiting) => Phase::Pending,
        () => Phase::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases() {
        use Seen::*;
        for (initialized, over, init_ok, containers, expected) in [
            (false, false, false, vec![Waiting], Phase::Pending),
            (true, false, true, vec![Running, Waiting], Phase::Pending),
            (true, false, true, vec![Running, Ended(0)], Phase::Running),
            (true, false, true, vec![Ended(1)], Phase::Running),
            (true, true, true, vec![Ended(0), Ended(0)], Phase::Succeeded),
            (true, true, true, vec![Ended(0), Ended(137)], Phase::Failed),
            (false, true, false, vec![Waiting], Phase::Failed),
            (true, true, true, vec![Waiting], Phase::Failed),
        ] {
            assert_eq!(phase(initialized, over, init_ok, &containers), expected, "{containers:?}");
        }
    }

    #[test]
    fn an_unready_pod_says_which_containers_are_not() {
        let since = SystemTime::UNIX_EPOCH;
        let no = Condition { holds: false, since };
        let container = |name: &str, ready| ContainerStatus {
            name: name.into(),
            image: "".into(),
            state: State::Running { started: since },
            last: None,
            ready,
            started: true,
            restarts: 2,
            unhealthy: None,
            unhealthy_reason: "",
        };
        let mut status = Status {
            phase: Phase::Running,
            ip: [10, 0, 0, 1].into(),
            started: since,
            stopping: false,
            init: vec![container("setup", false)],
            containers: vec![container("app", true), container("cache", false), container("log", false)],
            initialized: no,
            containers_ready: no,
            ready: no,
            version: 1,
        };
        assert_eq!(status.unready().unwrap().1, "containers with incomplete status: [setup]");
        status.initialized.holds = true;
        let unready = status.unready().unwrap();
        assert_eq!(unready, ("ContainersNotReady", "containers with unready status: [cache log]".into()));
        status.ready.holds = true;
        assert_eq!(status.unready(), None);
        assert_eq!(status.restarts(), 6);
        assert_eq!(status.container("setup").map(|container| container.ready), Some(false));
    }
}
