//! Keeps one pod: obeys the machine. One task per pod gives effect to its orders and waits for the next thing to happen.

use super::{
    Context, Output, PodSpec, Resources, Status,
    container::Resolved,
    context::Stop,
    declared::{Declared, Role, Variables},
    errand,
    machine::{Event, Machine, Order},
};
use crate::{
    base::{
        Error, Kind, Labels, Result, Seed,
        sync::{Arc, Lock, atomic::AtomicBool},
        time::{self, now},
    },
    net::{Host, HostOptions, Net, Scope},
};
use std::{any::Any, time::Duration};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// One instance of a container.
pub(super) struct Instance {
    pub(super) keeper: Arc<Keeper>,
    pub(super) declared: Arc<Declared>,
    pub(super) slot: usize,
    pub(super) number: u32,
    pub(super) host: Host,
    pub(super) stop: Stop,
    pub(super) reported: AtomicBool,
    pub(super) image: Resolved,
}

/// What a pod's handle, its contexts and its task share.
pub(super) struct Keeper {
    pub(super) name: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) labels: Labels,
    pub(super) env: Variables,
    pub(super) resources: Resources,
    pub(super) grace: Duration,
    pub(super) declared: Box<[Arc<Declared>]>,
    pub(super) host: Host,
    pub(super) seed: Seed,
    state: Lock<State>,
    /// Something has happened: the task should look.
    wake: Notify,
    /// Something that can be seen has changed.
    changed: Notify,
}

struct State {
    machine: Machine,
    /// The running instance of each container. They point back here, so they go when the pod is over.
    live: Vec<Option<Context>>,
    /// The scopes that may still have tasks or sockets.
    scopes: Vec<Scope>,
    announced: u64,
}

impl Keeper {
    /// Takes a place on the network and begins.
    pub(super) fn start(spec: PodSpec, net: &Net) -> Result<Arc<Self>> {
        spec.check()?;
        let PodSpec { name, namespace, labels, resources, restart, grace, .. } = spec;
        let host = net.host(HostOptions {
            ip: spec.ip,
            name: name.to_string(),
            search: spec.search,
            intercept: spec.intercept,
        })?;
        let seed = spec.seed.unwrap_or_else(|| net.seed()).fork(&namespace).fork(&name);
        let init = spec.init.into_iter().map(|spec| match spec.sidecar {
            true => (Role::Sidecar, spec),
            false => (Role::Init, spec),
        });
        let mains = spec.containers.into_iter().map(|spec| (Role::Main, spec));
        let declare = |(role, container)| Arc::new(Declared::new(container, role, &spec.volumes));
        let declared: Box<[_]> = init.chain(mains).map(declare).collect();
        let machine = Machine::new(&declared, restart, grace, net.wall_clock(), now());
        let live = declared.iter().map(|_| None).collect();
        let scopes = Vec::with_capacity(declared.len());
        let keeper = Arc::new(Keeper {
            name,
            namespace,
            labels,
            env: Variables::new(spec.env),
            resources,
            grace,
            declared,
            host,
            seed,
            state: Lock::new(State { machine, live, scopes, announced: 0 }),
            wake: Notify::new(),
            changed: Notify::new(),
        });
        keeper.host.scope().spawn(keeper.clone().keep());
        Ok(keeper)
    }

    /// The pod's task.
    async fn keep(self: Arc<Self>) {
        loop {
            let (deadline, orders, over) = {
                let mut state = self.state.lock();
                let deadline = state.machine.advance(now());
                (deadline, state.machine.orders(), state.machine.is_over())
            };
            for order in orders {
                self.obey(order);
            }
            if over {
                self.end(); // first: who hears of it finds the address free
            }
            self.announce();
            if over {
                return;
            }
            match deadline {
                None => self.wake.notified().await,
                Some(deadline) => {
                    // boxed, since a pod holds this future all its life, and mostly without a timer
                    let timer = Box::pin(time::sleep_until(deadline));
                    tokio::select! {
                        biased;
                        () = self.wake.notified() => {}
                        () = timer => {}
                    }
                }
            }
        }
    }

    /// All is over in order: the address is free, and what points back here goes.
    fn end(&self) {
        self.host.detach();
        let live: Vec<_> = self.state.lock().live.iter_mut().map(Option::take).collect();
        drop(live);
    }

    /// Tells the machine what has happened.
    pub(super) fn tell(&self, event: Event) {
        self.state.lock().machine.apply(event, now());
        self.wake.notify_one();
    }

    fn announce(&self) {
        let mut state = self.state.lock();
        let version = state.machine.version();
        if state.announced != version {
            state.announced = version;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    fn obey(self: &Arc<Self>, order: Order) {
        match order {
            Order::Start { slot, instance, image } => self.begin(slot, instance, image),
            Order::PreStop { slot, instance } => {
                if let Some(context) = self.live(slot, Some(instance)) {
                    context.clone().spawn(errand::pre_stop(context));
                }
            }
            Order::Signal { slot } => {
                if let Some(context) = self.live(slot, None) {
                    context.0.stop.signal();
                }
            }
            Order::Kill { slot } => {
                if let Some(context) = self.live(slot, None) {
                    context.scope().kill();
                }
            }
            Order::End { slot, instance } => self.bury(slot, instance),
            Order::Probe { slot, instance, which } => {
                if let Some(context) = self.live(slot, Some(instance)) {
                    context.clone().spawn(errand::examine(context, which));
                }
            }
        }
    }

    /// The running instance of this container: any, or the one of this number.
    fn live(&self, slot: usize, instance: Option<u32>) -> Option<Context> {
        let state = self.state.lock();
        let context = state.live.get(slot)?.as_ref()?;
        instance.is_none_or(|number| context.0.number == number).then(|| context.clone())
    }

    /// A new instance, in a scope of its own.
    fn begin(self: &Arc<Self>, slot: usize, number: u32, image: Resolved) {
        let Some(declared) = self.declared.get(slot).cloned() else { return };
        if number > 1 {
            declared.log.lock().begin();
        }
        let host = self.host.scoped(self.host.net().scope());
        let (stop, reported) = (Stop::default(), AtomicBool::new(false));
        let keeper = self.clone();
        let context = Context(Arc::new(Instance { keeper, declared, slot, number, host, stop, reported, image }));
        {
            let mut state = self.state.lock();
            let State { machine, live, scopes, .. } = &mut *state;
            let Some(place) = live.get_mut(slot).filter(|_| !machine.is_over()) else { return };
            scopes.push(context.scope().clone());
            *place = Some(context.clone());
        }
        // the function itself is foreign code: it is called inside the task, where its panic is caught
        context.clone().spawn(errand::run(context.clone()));
        if context.0.declared.post_start().is_some() {
            context.clone().spawn(errand::post_start(context));
        }
    }

    /// Ends the tasks of an instance whose function has ended, and tells when they have.
    fn bury(self: &Arc<Self>, slot: usize, instance: u32) {
        let context = {
            let mut state = self.state.lock();
            match state.live.get_mut(slot) {
                Some(place) if place.as_ref().is_some_and(|context| context.0.number == instance) => place.take(),
                _ => None,
            }
        };
        let Some(context) = context else { return };
        let scope = context.scope().clone();
        drop(context);
        scope.kill();
        if scope.tasks() == 0 {
            self.buried(slot, instance);
            return;
        }
        let keeper = self.clone();
        self.host.scope().spawn(async move {
            scope.gone().await;
            keeper.buried(slot, instance);
        });
    }

    fn buried(&self, slot: usize, instance: u32) {
        self.state.lock().scopes.retain(|scope| !scope.is_dead() || scope.tasks() > 0);
        self.tell(Event::Gone { slot, instance });
    }

    /// Ends everything at once: the address is unreachable, tasks stop at their next await, streams are reset.
    pub(super) fn kill(&self) {
        let (live, scopes) = {
            let mut state = self.state.lock();
            if state.machine.is_over() {
                return;
            }
            state.machine.kill(now());
            (std::mem::take(&mut state.live), state.scopes.clone())
        };
        self.host.detach();
        self.host.scope().kill();
        for scope in &scopes {
            scope.kill();
        }
        drop(live);
        self.announce();
    }

    /// Waits until no task of the pod is left.
    pub(super) async fn gone(&self) {
        let scopes = self.state.lock().scopes.clone();
        for scope in scopes {
            scope.gone().await;
        }
        self.host.scope().gone().await;
    }

    /// How many tasks and sockets its containers have.
    pub(super) fn holdings(&self) -> (usize, usize) {
        let state = self.state.lock();
        let count = |count: fn(&Scope) -> usize| state.scopes.iter().map(count).sum();
        (count(Scope::tasks), count(Scope::sockets))
    }

    pub(super) fn status(&self) -> Status {
        self.state.lock().machine.status(self.host.ip())
    }

    /// Waits until the version is another than this one.
    pub(super) async fn changed(&self, seen: u64) -> Status {
        loop {
            let changed = self.changed.notified(); // before the look, so that no change is missed
            if let Some(status) = self.status_since(seen) {
                return status;
            }
            changed.await;
        }
    }

    fn status_since(&self, seen: u64) -> Option<Status> {
        let state = self.state.lock();
        (state.machine.version() != seen).then(|| state.machine.status(self.host.ip()))
    }

    /// Runs a command in the running instance of this container.
    pub(super) async fn exec(&self, container: &str, command: Vec<String>) -> Result<Output> {
        let place = || format!("pod {}/{}, container {container}", self.namespace, self.name);
        let slot = self.declared.iter().position(|declared| &*declared.name == container);
        let slot = slot.ok_or_else(|| Error::new(Kind::NotFound, "no such container").at(place()))?;
        let context = self.live(slot, None);
        let context = context.ok_or_else(|| Error::new(Kind::Unavailable, "it does not run").at(place()))?;
        let running = {
            let context = context.clone();
            AbortOnDropHandle::new(
                context.clone().spawn(async move { context.0.image.exec(context.clone(), command).await }),
            )
        };
        match running.await {
            Ok(output) => output,
            Err(error) if error.is_panic() => {
                Err(Error::new(Kind::Panicked, panic_text(&*error.into_panic())).at(place()))
            }
            Err(_) => Err(Error::new(Kind::Unavailable, "the container ended first").at(place())),
        }
    }
}

/// What a panic said, where it said it in words.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not in words".into())
}
