//! One container in the eyes of the machine: what it is doing, and what its events change. Pure.

use super::{
    ContainerStatus, Exit, RestartPolicy, State, Terminated,
    container::Exited,
    declared::{Declared, Role, Which},
    probe::{Outcome, Prober},
    restart::Restarts,
    status::Seen,
};
use crate::base::{
    sync::Arc,
    time::{Instant, WallClock},
};
use std::time::{Duration, SystemTime};

/// What a container gets to react to its stop signal where its pre-stop hook used up the grace, and what a sidecar gets
/// where the containers did: Kubernetes' minimum.
pub(super) const GRACE_MIN: Duration = Duration::from_secs(2);

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    PreStop,
    Signalled,
    Killed,
}

#[derive(Debug)]
pub(super) enum Run {
    /// Not yet, or not again yet; without a time as soon as its turn comes.
    Waiting { reason: &'static str, message: Arc<str>, until: Option<Instant> },
    /// Its function runs; `hook` while the post-start hook does, too.
    Running { since: Instant, hook: bool },
    /// Asked to end, or about to be.
    Stopping { since: Instant, step: Step, kill_at: Instant },
    /// Its function has ended, its tasks are ending.
    Ending { since: Instant, exit: Exited },
    /// Over for good.
    Terminated(Box<Terminated>),
}

pub(super) struct Slot {
    pub(super) declared: Arc<Declared>,
    pub(super) run: Run,
    /// The number of the instance that runs or ran last; the first is 1.
    pub(super) instance: u32,
    pub(super) last: Option<Box<Terminated>>,
    pub(super) started: bool,
    /// Has started once, or ended well: those behind it may go on.
    pub(super) passed: bool,
    /// A probe or hook has failed: it is restarted even where it then ends well.
    pub(super) failed: bool,
    /// Its image was not found the last time.
    missing: bool,
    reported: bool,
    probers: [Option<Box<Prober>>; 3],
    restarts: Restarts,
    /// What a probe or hook has said, until the same succeeds.
    unhealthy: Option<(Source, Arc<str>)>,
}

/// Who says that something is wrong with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Probe(Which),
    PostStart,
    PreStop,
}

impl Source {
    /// As Kubernetes' events have it.
    fn reason(self) -> &'static str {
        match self {
            Source::Probe(_) => "Unhealthy",
            Source::PostStart => "FailedPostStartHook",
            Source::PreStop => "FailedPreStopHook",
        }
    }
}

impl Slot {
    pub(super) fn new(declared: Arc<Declared>, reason: &'static str) -> Self {
        Slot {
            declared,
            run: Run::Waiting { reason, message: Arc::default(), until: None },
            instance: 0,
            last: None,
            started: false,
            passed: false,
            failed: false,
            missing: false,
            reported: false,
            probers: [const { None }; 3],
            restarts: Restarts::default(),
            unhealthy: None,
        }
    }

    pub(super) fn role(&self) -> Role {
        self.declared.role
    }

    /// Whether an instance of it exists.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.run, Run::Running { .. } | Run::Stopping { .. } | Run::Ending { .. })
    }

    /// Whether it waits and may start now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.run, Run::Waiting { until, .. } if until.is_none_or(|until| until <= now))
    }

    /// A new instance runs from now on.
    pub(super) fn start(&mut self, now: Instant) -> u32 {
        if std::mem::take(&mut self.missing) {
            self.restarts = Restarts::default();
        }
        self.instance += 1;
        self.run = Run::Running { since: now, hook: self.declared.post_start().is_some() };
        (self.started, self.failed, self.reported, self.probers) = (false, false, false, [const { None }; 3]);
        self.advance_started();
        self.instance
    }

    /// Its image was not found: it waits, longer each time.
    pub(super) fn not_found(&mut self, message: Arc<str>, now: Instant) {
        let reason = if self.missing { "ImagePullBackOff" } else { "ErrImagePull" };
        self.missing = true;
        self.run = Run::Waiting { reason, message, until: Some(now + self.restarts.next_pull()) };
    }

    /// Whether this probe is made at the moment.
    fn probes(&self, which: Which) -> bool {
        let by_stage = match which {
            Which::Startup => matches!(self.run, Run::Running { hook: false, .. }) && !self.started,
            Which::Liveness => matches!(self.run, Run::Running { .. }) && self.started,
            // until it has ended, as Kubernetes does
            Which::Readiness => matches!(self.run, Run::Running { .. } | Run::Stopping { .. }) && self.started,
        };
        by_stage && self.declared.probe(which).is_some()
    }

    /// What a probe has decided: nothing declared passes.
    fn passes(&self, which: Which) -> bool {
        match self.declared.probe(which) {
            None => self.reported || !self.declared.reports(which),
            Some(_) => self.probers.get(which as usize).and_then(|prober| prober.as_ref()?.passing()) == Some(true),
        }
    }

    /// Whether it may get traffic.
    pub(super) fn ready(&self) -> bool {
        match self.role() {
            Role::Init => matches!(&self.run, Run::Terminated(end) if end.exit_code == 0),
            _ => self.is_live() && self.started && self.passes(Which::Readiness),
        }
    }

    /// Probes that are due, begun; and when the next one will be.
    pub(super) fn advance_probes(&mut self, now: Instant, mut begin: impl FnMut(Which)) -> Option<Instant> {
        let mut soonest: Option<Instant> = None;
        for which in Which::ALL {
            if !self.probes(which) {
                continue;
            }
            let since = match self.run {
                Run::Running { since, .. } => since,
                _ => now,
            };
            let (Some(probe), Some(prober)) = (self.declared.probe(which), self.probers.get_mut(which as usize)) else {
                continue;
            };
            let prober = prober.get_or_insert_with(|| Box::new(Prober::new(probe, since)));
            if prober.begin(probe, now) {
                begin(which);
            }
            soonest = soonest.into_iter().chain(prober.deadline()).min();
        }
        soonest
    }

    /// Takes the result of a probe; whether anything that can be seen has changed.
    pub(super) fn probed(&mut self, which: Which, outcome: Outcome, message: Option<Arc<str>>) -> bool {
        let probes = self.probes(which);
        let (Some(probe), Some(Some(prober))) = (self.declared.probe(which), self.probers.get_mut(which as usize))
        else {
            return false;
        };
        let mut changed = prober.record(probe, outcome);
        let pass_at_once = outcome == Outcome::Success && which != Which::Readiness;
        let decided = if pass_at_once { Some(true) } else { prober.passing() };
        if !probes {
            return false; // begun before the container's stage changed
        }
        let said = message.map(|message| (Source::Probe(which), message));
        let another = self.unhealthy.as_ref().is_some_and(|(by, _)| *by != Source::Probe(which));
        if self.unhealthy != said && !(outcome == Outcome::Success && another) {
            self.unhealthy = said;
            changed = true;
        }
        match (which, decided) {
            (Which::Startup, Some(true)) => changed |= self.begin_started(),
            (Which::Startup | Which::Liveness, Some(false)) => self.failed = true,
            _ => {}
        }
        changed
    }

    /// The container has said that it is ready; whether that changes anything.
    pub(super) fn report(&mut self) -> bool {
        if self.reported {
            return false;
        }
        self.reported = true;
        self.advance_started();
        Which::ALL.iter().any(|which| self.declared.reports(*which))
    }

    /// The post-start hook is over; whether that changes anything.
    pub(super) fn hooked(&mut self, failure: Option<Arc<str>>) -> bool {
        if let Run::Running { hook, .. } = &mut self.run {
            *hook = false;
        }
        self.failed |= failure.is_some();
        if failure.is_some() || matches!(self.unhealthy, Some((Source::PostStart, _))) {
            self.unhealthy = failure.map(|failure| (Source::PostStart, failure));
        }
        if !self.failed {
            self.advance_started();
        }
        true
    }

    /// Counts as started where neither hook nor startup probe holds it back.
    fn advance_started(&mut self) {
        let free = self.declared.probe(Which::Startup).is_none() && self.passes(Which::Startup);
        if matches!(self.run, Run::Running { hook: false, .. }) && free {
            self.begin_started();
        }
    }

    fn begin_started(&mut self) -> bool {
        let before = self.started;
        self.started = true;
        self.passed |= self.role() != Role::Init;
        !before
    }

    /// Its function has ended; whether that is news.
    pub(super) fn exited(&mut self, exit: Exited) -> bool {
        let (Run::Running { since, .. } | Run::Stopping { since, .. }) = self.run else { return false };
        self.run = Run::Ending { since, exit };
        true
    }

    /// Its pre-stop hook is over; whether it is to be asked to stop now.
    pub(super) fn pre_stopped(&mut self, failure: Option<Arc<str>>, now: Instant) -> bool {
        if let Some(failure) = failure {
            self.unhealthy = Some((Source::PreStop, failure));
        }
        match &mut self.run {
            Run::Stopping { step: step @ Step::PreStop, kill_at, .. } => {
                *step = Step::Signalled;
                *kill_at = (*kill_at).max(now + GRACE_MIN);
                true
            }
            _ => false,
        }
    }

    /// Where its grace is over: the step that it is at now.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Step> {
        match &mut self.run {
            Run::Stopping { kill_at, .. } if *kill_at > now => None,
            Run::Stopping { step: Step::Killed, .. } => None,
            Run::Stopping { step, kill_at, .. } => {
                *step = match step {
                    Step::PreStop => Step::Signalled,
                    _ => Step::Killed,
                };
                *kill_at = now + GRACE_MIN;
                Some(*step)
            }
            _ => None,
        }
    }

    /// When its state changes by itself.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.run {
            Run::Waiting { until, .. } => until.filter(|until| *until > now),
            Run::Stopping { step: Step::Killed, .. } => None,
            Run::Stopping { kill_at, .. } => Some(*kill_at),
            _ => None,
        }
    }

    /// Its instance is over, with all of its tasks: whether and when it runs again; without a policy, never.
    pub(super) fn gone(&mut self, policy: Option<RestartPolicy>, wall: &WallClock, now: Instant) -> bool {
        let Run::Ending { since, exit } = &self.run else { return false };
        let since = *since;
        let terminated = exit.terminated(wall.at(since), wall.at(now));
        let well = exit.code == 0;
        let again = match (self.role(), policy) {
            (_, None) => false,
            (Role::Sidecar, _) => true,
            (Role::Init, Some(policy)) => !well && policy != RestartPolicy::Never,
            (Role::Main, Some(policy)) if self.failed => policy != RestartPolicy::Never,
            (Role::Main, Some(policy)) => policy.restarts(exit.code),
        };
        (self.started, self.reported, self.probers) = (false, false, [const { None }; 3]);
        if !again {
            self.passed |= self.role() == Role::Init && well;
            self.run = Run::Terminated(terminated);
            return true;
        }
        self.last = Some(terminated);
        let wait = self.restarts.next(since, now);
        let message = format!("back-off {}s restarting failed container={}", wait.as_secs(), self.declared.name);
        let message = if wait.is_zero() { Arc::default() } else { message.into() };
        self.run = Run::Waiting { reason: "CrashLoopBackOff", message, until: Some(now + wait) };
        true
    }

    /// It will not run any more: what waited for a restart ends as it ended last.
    pub(super) fn give_up(&mut self) {
        if matches!(self.run, Run::Waiting { .. })
            && let Some(last) = self.last.take()
        {
            self.run = Run::Terminated(last);
        }
    }

    /// Killed with its pod.
    pub(super) fn kill(&mut self, now: Instant, wall: &WallClock) {
        self.give_up();
        let (since, exit) = match &self.run {
            Run::Running { since, .. } | Run::Stopping { since, .. } => (*since, Exited::killed()),
            Run::Ending { since, exit } => (*since, exit.clone()),
            _ => return,
        };
        self.started = false;
        self.run = Run::Terminated(exit.terminated(wall.at(since), wall.at(now)));
    }

    pub(super) fn seen(&self) -> Seen {
        match (&self.run, &self.last) {
            (Run::Terminated(end), _) | (Run::Waiting { .. }, Some(end)) => Seen::Ended(end.exit_code),
            (Run::Waiting { .. }, None) => Seen::Waiting,
            _ => Seen::Running,
        }
    }

    pub(super) fn status(&self, wall: &WallClock) -> ContainerStatus {
        let state = match &self.run {
            Run::Waiting { reason, message, .. } => State::Waiting { reason, message: message.clone() },
            Run::Terminated(terminated) => State::Terminated(Terminated::clone(terminated)),
            Run::Running { since, .. } | Run::Stopping { since, .. } | Run::Ending { since, .. } => {
                State::Running { started: wall.at(*since) }
            }
        };
        ContainerStatus {
            name: self.declared.name.clone(),
            image: self.declared.image.name(),
            state,
            last: self.last.as_deref().cloned(),
            ready: self.ready(),
            started: self.started,
            restarts: self.instance.saturating_sub(1),
            unhealthy: self.unhealthy.as_ref().map(|(_, said)| said.clone()),
            unhealthy_reason: self.unhealthy.as_ref().map_or("", |(by, _)| by.reason()),
        }
    }
}

impl Exited {
    pub(super) fn killed() -> Self {
        Exited { code: Exit::KILLED, message: Arc::default() }
    }

    fn terminated(&self, started: SystemTime, finished: SystemTime) -> Box<Terminated> {
        let reason = if self.code == 0 { "Completed" } else { "Error" };
        Box::new(Terminated { exit_code: self.code, reason, message: self.message.clone(), started, finished })
    }
}
