//! The life of a pod as a decision: events and the time go in, orders come out. No clock, no task, no lock.
//!
//! It is level-triggered: [`Machine::apply`] notes what has happened, [`Machine::advance`] looks at everything and does
//! what is due. So an event may come late, twice or in any order, and is bounded by what it can change.

use super::{
    RestartPolicy, Status,
    container::{Exited, Resolved},
    declared::{Declared, Role, Which},
    probe::Outcome,
    slot::{GRACE_MIN, Run, Slot, Step},
    status::{Condition, phase},
};
use crate::base::{
    sync::Arc,
    time::{Instant, WallClock, after},
};
use std::{net::IpAddr, time::Duration};

/// What has happened. Those about an instance are ignored once it is not the current one.
#[derive(Debug)]
pub(super) enum Event {
    /// Its function has ended.
    Exited { slot: usize, instance: u32, exit: Exited },
    /// All of its tasks have.
    Gone { slot: usize, instance: u32 },
    /// The post-start hook is over.
    PostStarted { slot: usize, instance: u32, failure: Option<Arc<str>> },
    /// The pre-stop hook is over; why it failed, if it did.
    PreStopped { slot: usize, instance: u32, failure: Option<Arc<str>> },
    /// A probe has a result, and what to say of it.
    Probed { slot: usize, instance: u32, which: Which, outcome: Outcome, message: Option<Arc<str>> },
    /// It has said that it is ready.
    Reported { slot: usize, instance: u32 },
    /// The owner wants the pod to be over by then.
    Stop { kill_at: Instant },
}

/// What is to be done.
pub(super) enum Order {
    /// Run it, and its post-start hook.
    Start { slot: usize, instance: u32, image: Resolved },
    /// Run its pre-stop hook.
    PreStop { slot: usize, instance: u32 },
    /// Ask it to stop.
    Signal { slot: usize },
    /// Kill it.
    Kill { slot: usize },
    /// Its function has ended: end its tasks, and tell when they have.
    End { slot: usize, instance: u32 },
    /// Make this check.
    Probe { slot: usize, instance: u32, which: Which },
}

pub(super) struct Machine {
    slots: Vec<Slot>,
    restart: RestartPolicy,
    grace: Duration,
    wall: WallClock,
    started: Instant,
    initialized: (bool, Instant),
    ready: (bool, Instant),
    /// By when all is to be over, once anybody wants that.
    kill_at: Option<Instant>,
    over: bool,
    version: u64,
    orders: Vec<Order>,
}

impl Machine {
    /// Init containers and sidecars first, in their order.
    pub(super) fn new(
        declared: &[Arc<Declared>],
        restart: RestartPolicy,
        grace: Duration,
        wall: WallClock,
        now: Instant,
    ) -> Self {
        let inits = declared.iter().any(|declared| declared.role != Role::Main);
        let reason = if inits { "PodInitializing" } else { "ContainerCreating" };
        let slots = declared.iter().map(|declared| Slot::new(declared.clone(), reason)).collect();
        let (initialized, ready) = ((false, now), (false, now));
        let (kill_at, over, version, orders) = (None, false, 1, Vec::new());
        Machine { slots, restart, grace, wall, started: now, initialized, ready, kill_at, over, version, orders }
    }

    /// Whether all is over.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Counts up whenever anything that can be seen changes.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What is to be done since the last call.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    fn instance(&mut self, slot: usize, instance: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot).filter(|slot| slot.instance == instance && slot.is_live())
    }

    /// Notes what has happened.
    pub(super) fn apply(&mut self, event: Event, now: Instant) {
        if self.over {
            return;
        }
        let changed = match event {
            Event::Exited { slot: index, instance, exit } => {
                if self.instance(index, instance).is_some_and(|slot| slot.exited(exit)) {
                    self.orders.push(Order::End { slot: index, instance });
                }
                false
            }
            Event::Gone { slot, instance } => {
                let policy = self.kill_at.is_none().then_some(self.restart);
                let wall = self.wall;
                match self.instance(slot, instance) {
                    Some(slot) => slot.gone(policy, &wall, now),
                    None => false,
                }
            }
            Event::PostStarted { slot, instance, failure } => {
                self.instance(slot, instance).is_some_and(|slot| slot.hooked(failure))
            }
            Event::PreStopped { slot: index, instance, failure } => {
                let failed = failure.is_some();
                if self.instance(index, instance).is_some_and(|slot| slot.pre_stopped(failure, now)) {
                    self.orders.push(Order::Signal { slot: index });
                }
                failed
            }
            Event::Probed { slot, instance, which, outcome, message } => {
                self.instance(slot, instance).is_some_and(|slot| slot.probed(which, outcome, message))
            }
            Event::Reported { slot, instance } => self.instance(slot, instance).is_some_and(Slot::report),
            Event::Stop { kill_at } => {
                let before = self.kill_at;
                self.kill_at = Some(before.map_or(kill_at, |before| before.min(kill_at)));
                for slot in &mut self.slots {
                    if let Run::Stopping { kill_at: at, .. } = &mut slot.run {
                        *at = kill_at.min(*at);
                    }
                }
                self.kill_at != before
            }
        };
        self.version += u64::from(changed);
        self.refresh(now);
    }

    /// Does what is due; returns when to look again if nothing happens before.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Instant> {
        if self.over {
            return None;
        }
        if self.kill_at.is_none() {
            self.advance_start(now);
        }
        let grace = after(now, self.grace);
        let unhealthy = |slot: &Slot| slot.failed && matches!(slot.run, Run::Running { .. });
        for index in 0..self.slots.len() {
            if self.slots.get(index).is_some_and(unhealthy) {
                self.stop_slot(index, self.kill_at.unwrap_or(grace), now);
            }
        }
        if let Some(kill_at) = self.kill_at {
            self.advance_stop(kill_at, now);
        }
        let mut soonest: Option<Instant> = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let instance = slot.instance;
            let orders = &mut self.orders;
            let probe = slot.advance_probes(now, |which| orders.push(Order::Probe { slot: index, instance, which }));
            match slot.overdue(now) {
                Some(Step::Signalled) => orders.push(Order::Signal { slot: index }),
                Some(Step::Killed) => orders.push(Order::Kill { slot: index }),
                _ => {}
            }
            soonest = soonest.into_iter().chain(probe).chain(slot.deadline(now)).min();
        }
        self.refresh(now);
        soonest
    }

    /// Starts whose turn it is; begins the end where all is done, or cannot be.
    fn advance_start(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { break };
            if slot.is_due(now) {
                match slot.declared.image.resolve() {
                    Ok(image) => {
                        let instance = slot.start(now);
                        self.orders.push(Order::Start { slot: index, instance, image });
                    }
                    Err(error) => slot.not_found(error.chain().into(), now),
                }
                self.version += 1;
            }
            if slot.role() != Role::Main && !slot.passed {
                if matches!(slot.run, Run::Terminated(_)) {
                    self.kill_at = Some(after(now, self.grace)); // it failed for good: so has the pod
                }
                return;
            }
        }
        if !self.initialized.0 {
            self.initialized = (true, now);
            self.version += 1;
        }
        let over = |slot: &Slot| slot.role() != Role::Main || matches!(slot.run, Run::Terminated(_));
        if self.slots.iter().all(over) {
            self.kill_at = Some(after(now, self.grace)); // the sidecars have nobody left to serve
        }
    }

    /// Ends the containers together, then the sidecars one by one, the last first.
    fn advance_stop(&mut self, kill_at: Instant, now: Instant) {
        let mut live = false;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.role() != Role::Sidecar) else { continue };
            slot.give_up();
            if slot.is_live() {
                live = true;
                self.stop_slot(index, kill_at, now);
            }
        }
        for index in (0..self.slots.len()).rev() {
            let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.role() == Role::Sidecar) else { continue };
            if live {
                break;
            }
            slot.give_up();
            if slot.is_live() {
                live = true;
                self.stop_slot(index, kill_at.max(now + GRACE_MIN), now);
            }
        }
        if !live {
            self.over = true;
            self.version += 1;
        }
    }

    /// Asks one to stop, unless it was asked before.
    fn stop_slot(&mut self, index: usize, kill_at: Instant, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Run::Running { since, .. } = slot.run else { return };
        let (step, order) = match slot.declared.pre_stop() {
            Some(_) if kill_at > now => (Step::PreStop, Order::PreStop { slot: index, instance: slot.instance }),
            _ => (Step::Signalled, Order::Signal { slot: index }),
        };
        slot.run = Run::Stopping { since, step, kill_at };
        self.orders.push(order);
    }

    /// Everything ends now.
    pub(super) fn kill(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.kill(now, &self.wall);
        }
        self.over = true;
        self.version += 1;
        self.orders.clear();
        self.refresh(now);
    }

    fn refresh(&mut self, now: Instant) {
        let mut serving = self.slots.iter().filter(|slot| slot.role() != Role::Init);
        let ready = !self.over && self.initialized.0 && serving.all(Slot::ready);
        if ready != self.ready.0 {
            self.ready = (ready, now);
            self.version += 1;
        }
    }

    /// What can be seen.
    pub(super) fn status(&self, ip: IpAddr) -> Status {
        let (init, containers): (Vec<_>, Vec<_>) = self.slots.iter().partition(|slot| slot.role() != Role::Main);
        let seen: Vec<_> = containers.iter().map(|slot| slot.seen()).collect();
        let init_ok = init.iter().all(|slot| slot.role() == Role::Sidecar || slot.passed);
        let condition = |(holds, since): (bool, Instant)| Condition { holds, since: self.wall.at(since) };
        Status {
            phase: phase(self.initialized.0, self.over, init_ok, &seen),
            ip,
            started: self.wall.at(self.started),
            stopping: self.kill_at.is_some(),
            init: init.iter().map(|slot| slot.status(&self.wall)).collect(),
            containers: containers.iter().map(|slot| slot.status(&self.wall)).collect(),
            initialized: condition(self.initialized),
            containers_ready: condition(self.ready),
            ready: condition(self.ready),
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests;
