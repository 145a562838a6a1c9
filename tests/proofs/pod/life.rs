//! What is known of each container's instances, and what must hold whenever one begins and whenever a status is seen.

use seedpod::{
    base::{Seed, sync::Lock, time},
    pod::{Context, Phase, RestartPolicy, State, Status},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Sidecar,
    Main,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Well,
    Badly,
    /// It was dropped on its way: killed, or not over yet.
    Cut,
}

/// The life of one container so far.
struct Life {
    instances: u32,
    started: time::Instant,
    finished: time::Instant,
    /// The current one.
    instance: Seed,
    /// The functions, hooks, checks and other tasks that live, each by its instance.
    tasks: Vec<Seed>,
    end: End,
    /// It has probes or hooks that may end it.
    probed: bool,
    /// Restarts in a row without forgiveness.
    tries: u32,
}

/// Pod and container.
pub(super) type Place = (usize, String);

/// What all pods of a schedule share.
pub(super) struct World {
    start: time::Instant,
    lives: Lock<BTreeMap<Place, Life>>,
    /// When each pod was told to end.
    ended: Lock<BTreeMap<usize, time::Instant>>,
    pub(super) hits: Lock<Vec<&'static str>>,
    violations: Lock<Vec<String>>,
    pub(super) course: Lock<Vec<String>>,
    /// No container misbehaves any more.
    pub(super) calm: AtomicBool,
}

/// Kubernetes' waits.
fn wait(tries: u32) -> Duration {
    Duration::from_secs([0, 10, 20, 40, 80, 160].get(tries as usize).copied().unwrap_or(300))
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(World {
            start: time::now(),
            lives: Lock::default(),
            ended: Lock::default(),
            hits: Lock::default(),
            violations: Lock::default(),
            course: Lock::default(),
            calm: AtomicBool::new(false),
        })
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Relaxed)
    }

    pub(super) fn hit_if(&self, met: bool, fault: &'static str) {
        if met {
            self.hits.lock().push(fault);
        }
    }

    pub(super) fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.lock().push(format!("{:?}: {}", self.start.elapsed(), what()));
        }
    }

    pub(super) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.course.lock().push(format!("{:?} {what}", self.start.elapsed()));
    }

    /// Panics with what was found, if anything was.
    pub(super) fn judge(&self) {
        let violations = self.violations.lock().clone();
        assert!(violations.is_empty(), "{:#?}\nin the end: {violations:#?}", self.course.lock());
    }

    pub(super) fn told_to_end(&self, pod: usize) {
        self.ended.lock().entry(pod).or_insert_with(time::now);
    }

    pub(super) fn tasks(&self, pod: usize) -> usize {
        self.lives.lock().iter().filter(|((of, _), _)| *of == pod).map(|(_, life)| life.tasks.len()).sum()
    }

    /// An instance begins: nothing of the one before is left, the policy wants it, and the wait is over to the tick.
    pub(super) fn begin(self: &Arc<Self>, place: &Place, role: Role, policy: RestartPolicy, context: &Context) -> Task {
        let now = time::now();
        let ended = self.ended.lock().get(&place.0).copied();
        self.hold(ended.is_none_or(|ended| now <= ended), || format!("{place:?} begins after its pod's end"));
        self.note(format_args!("{place:?} begins"));
        {
            let mut lives = self.lives.lock();
            let life = lives.entry(place.clone()).or_insert_with(|| Life::new(now));
            life.instance = context.seed();
            let tasks = life.tasks.iter().filter(|task| **task != life.instance).count();
            if life.instances > 0 {
                self.hold(tasks == 0, || format!("{place:?} begins while {tasks} tasks of its last instance live"));
                let again = match (role, policy) {
                    (Role::Sidecar, _) => true,
                    (Role::Init, RestartPolicy::Never) | (Role::Main, RestartPolicy::Never) => false,
                    (Role::Init, _) => life.end != End::Well,
                    (Role::Main, RestartPolicy::Always) => true,
                    (Role::Main, RestartPolicy::OnFailure) => life.end != End::Well || life.probed,
                };
                let end = life.end;
                self.hold(again, || format!("{place:?} runs again after {end:?} under {policy}"));
                if life.finished - life.started >= Duration::from_secs(600) {
                    life.tries = 0;
                }
                let (wanted, waited) = (wait(life.tries), now - life.finished);
                let in_time = waited >= wanted && waited <= wanted + Duration::from_millis(5);
                self.hold(in_time, || format!("{place:?} waited {waited:?}, not {wanted:?}"));
                life.tries += 1;
            }
            life.instances += 1;
            (life.started, life.end) = (now, End::Cut);
        }
        self.task(place, context)
    }

    /// One more task of this instance. (A check may begin before the function does.)
    pub(super) fn task(self: &Arc<Self>, place: &Place, context: &Context) -> Task {
        let (instance, mut lives) = (context.seed(), self.lives.lock());
        lives.entry(place.clone()).or_insert_with(|| Life::new(time::now())).tasks.push(instance);
        Task { world: self.clone(), place: place.clone(), instance }
    }

    pub(super) fn end(&self, place: &Place, end: End) {
        self.note(format_args!("{place:?} ends {end:?}"));
        if let Some(life) = self.lives.lock().get_mut(place) {
            life.end = end;
        }
    }

    /// This container may be ended by a probe or a hook.
    pub(super) fn probed(&self, place: &Place) {
        self.lives.lock().entry(place.clone()).or_insert_with(|| Life::new(time::now())).probed = true;
    }
}

/// A task of an instance, for as long as it lives.
pub(super) struct Task {
    world: Arc<World>,
    place: Place,
    instance: Seed,
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(life) = self.world.lives.lock().get_mut(&self.place)
            && let Some(own) = life.tasks.iter().position(|task| *task == self.instance)
        {
            life.tasks.swap_remove(own);
            life.finished = time::now();
        }
    }
}

impl Life {
    fn new(now: time::Instant) -> Self {
        let (end, tasks, instance) = (End::Cut, Vec::new(), Seed::new(0));
        Life { instances: 0, started: now, finished: now, instance, tasks, end, probed: false, tries: 0 }
    }
}

/// Holds a status to itself and to the one before.
pub(super) fn check(world: &World, pod: usize, before: &Status, status: &Status) {
    let rank = |phase| match phase {
        Phase::Pending => 0,
        Phase::Running => 1,
        Phase::Succeeded | Phase::Failed => 2,
    };
    let hold = |holds, what: &str| world.hold(holds, || format!("pod {pod}: {what}: {before:#?} then {status:#?}"));
    hold(rank(before.phase) <= rank(status.phase), "its phase went back");
    hold(!before.stopping || status.stopping, "it was told to stop, and is not any more");
    hold(!before.initialized.holds || status.initialized.holds, "it was initialized, and is not any more");
    hold(status.phase != Phase::Running || status.initialized.holds, "it runs before it is initialized");
    let all = || status.containers.iter().chain(&status.init);
    for (old, new) in before.containers.iter().chain(&before.init).zip(all()) {
        hold(old.restarts <= new.restarts, "restarts were taken back");
        let over = old.state.terminated().is_some();
        hold(!over || new.state == old.state, "a container that was over for good is not");
    }
    let serving = |sidecar: &&seedpod::pod::ContainerStatus| sidecar.name.starts_with("side");
    let ready = status.containers.iter().chain(status.init.iter().filter(serving)).all(|container| container.ready);
    hold(!status.ready.holds || (ready && !status.phase.is_over()), "it is ready, and its containers are not");
    hold(status.ready == status.containers_ready, "two words for one thing differ");
    for container in status.containers.iter().chain(status.init.iter().filter(serving)) {
        let running = container.state.is_running();
        hold(!container.ready || (running && container.started), "what does not run is ready");
        hold(!(status.phase.is_over() && running), "it is over, and a container runs");
        hold(running || !container.started, "what does not run has started");
    }
    let codes = status.containers.iter().map(|container| match &container.state {
        State::Terminated(end) => Some(end.exit_code),
        _ => None,
    });
    let well = codes.clone().all(|code| code == Some(0));
    match status.phase {
        Phase::Succeeded => hold(well, "it succeeded, and not all containers ended well"),
        Phase::Running => {
            hold(
                !status.containers.iter().any(|one| matches!(one.state, State::Waiting { .. }) && one.last.is_none()),
                "it runs, and one has not begun",
            );
        }
        Phase::Failed => {
            let inits = status.init.iter().all(|one| one.ready || one.name.starts_with("side"));
            hold(!well || !inits, "it failed, and all containers ended well");
        }
        Phase::Pending => {}
    }
}
