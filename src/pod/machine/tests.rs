//! The machine against a random world that obeys it.

use super::*;
use crate::{
    base::{Error, Rng, Seed, time::now},
    pod::{ContainerSpec, Context, Exit, Phase, Probe},
};
use std::{collections::BTreeMap, net::Ipv4Addr};

async fn nothing(_: Context) -> Result<(), Error> {
    Ok(())
}

fn declared(roles: &[Role], probes: bool) -> Vec<Arc<Declared>> {
    let declare = |(index, role): (usize, &Role)| {
        let mut spec = ContainerSpec::new(format!("c{index}"), nothing);
        if probes && *role != Role::Init {
            spec = spec.startup(Probe::tcp(1)).liveness(Probe::tcp(1)).readiness(Probe::tcp(1).failures(1));
            spec.pre_stop = Some(crate::pod::Hook::Sleep(Duration::ZERO));
        }
        Arc::new(Declared::new(spec, *role, &BTreeMap::new()))
    };
    roles.iter().enumerate().map(declare).collect()
}

fn machine(roles: &[Role], restart: RestartPolicy, probes: bool, now: Instant) -> Machine {
    let wall = WallClock::starting_at(std::time::SystemTime::UNIX_EPOCH);
    Machine::new(&declared(roles, probes), restart, Duration::from_secs(30), wall, now)
}

/// What really runs, as told by orders alone.
#[derive(Clone, Debug, Default)]
struct World {
    running: Vec<Option<u32>>,
    ending: Vec<Option<u32>>,
    signalled: Vec<bool>,
    killed: Vec<bool>,
    starts: u64,
}

impl World {
    fn obey(&mut self, roles: &[Role], machine: &mut Machine, stopping: bool, pending: &mut Vec<Event>, rng: &mut Rng) {
        for order in machine.orders() {
            match order {
                Order::Start { slot, instance, .. } => {
                    assert!(!stopping, "nothing starts once it is to stop");
                    assert_eq!((self.running[slot], self.ending[slot]), (None, None), "never twice at once");
                    let before = roles.iter().take(slot).position(|role| *role != Role::Main);
                    if roles[slot] == Role::Main {
                        assert!(machine.initialized.0 || before.is_none(), "init containers come first");
                    }
                    self.running[slot] = Some(instance);
                    (self.signalled[slot], self.killed[slot]) = (false, false);
                    self.starts += 1;
                }
                Order::PreStop { slot, instance } => {
                    assert!(!self.signalled[slot]);
                    if rng.chance(0.7) {
                        pending.push(Event::PreStopped { slot, instance, failure: None });
                    }
                }
                Order::Signal { slot } => {
                    assert!(self.running[slot].is_some() && !self.signalled[slot], "asked once");
                    if stopping && roles[slot] == Role::Sidecar && !machine.slots[slot].failed {
                        let others = |index: &usize| roles[*index] != Role::Sidecar || *index > slot;
                        let live = |index: usize| self.running[index].is_some() || self.ending[index].is_some();
                        assert!(!(0..roles.len()).filter(others).any(live), "sidecars stop last, the last first");
                    }
                    self.signalled[slot] = true;
                }
                Order::Kill { slot } => {
                    assert!(self.signalled[slot] && !self.killed[slot], "asked first, killed once");
                    self.killed[slot] = true;
                }
                Order::End { slot, instance } => {
                    assert_eq!(self.ending[slot], Some(instance));
                    pending.push(Event::Gone { slot, instance });
                }
                Order::Probe { slot, instance, which } => {
                    assert_eq!(self.running[slot].or(self.ending[slot]), Some(instance));
                    let outcome = if rng.chance(0.7) { Outcome::Success } else { Outcome::Failure };
                    pending.push(Event::Probed { slot, instance, which, outcome, message: None });
                }
            }
        }
    }

    /// Somebody ends, or somebody's event arrives, or an old one arrives again.
    fn event(&mut self, pending: &mut Vec<Event>, rng: &mut Rng) -> Option<Event> {
        let slot = rng.below(self.running.len() as u64) as usize;
        let ends = match self.running[slot] {
            Some(_) if self.killed[slot] => true,
            Some(_) if self.signalled[slot] => rng.chance(0.5),
            Some(_) => rng.chance(0.1),
            None => false,
        };
        if ends {
            let instance = self.running[slot].take()?;
            self.ending[slot] = Some(instance);
            let code = if self.killed[slot] { Exit::KILLED } else { rng.below(2) as i32 };
            return Some(Event::Exited { slot, instance, exit: Exited { code, message: Arc::default() } });
        }
        if rng.chance(0.05) {
            let instance = 1 + rng.below(3) as u32; // of an instance that may be long gone
            return Some(match self.running[slot] == Some(instance) {
                true => Event::Reported { slot, instance },
                false if self.ending[slot] != Some(instance) => Event::Gone { slot, instance },
                false => return None,
            });
        }
        let at = rng.below(pending.len() as u64) as usize;
        let event = (at < pending.len()).then(|| pending.swap_remove(at))?;
        if let Event::Gone { slot, .. } = event {
            self.ending[slot] = None;
        }
        Some(event)
    }
}

#[test]
fn a_million_random_steps_keep_every_promise() {
    let mut rng = Seed::new(11).rng();
    let (mut steps, mut pods, mut starts, mut phases) = (0_u64, 0_u64, 0, BTreeMap::new());
    while steps < 1_000_000 {
        let mut roles: Vec<_> = (0..rng.below(4)).map(|_| *rng.choose(&[Role::Init, Role::Sidecar]).unwrap()).collect();
        roles.extend((0..1 + rng.below(3)).map(|_| Role::Main));
        let restart = *rng.choose(&[RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]).unwrap();
        let mut time = now();
        let mut machine = machine(&roles, restart, rng.chance(0.7), time);
        let count = roles.len();
        let mut world = World {
            running: vec![None; count],
            ending: vec![None; count],
            signalled: vec![false; count],
            killed: vec![false; count],
            starts: 0,
        };
        let (mut pending, mut stop_by, stop_at) = (Vec::new(), None, rng.below(400));
        for step in 0..2000 {
            steps += 1;
            let deadline = machine.advance(time);
            let stopping = machine.kill_at.is_some();
            world.obey(&roles, &mut machine, stopping, &mut pending, &mut rng);
            assert!(deadline.is_none_or(|deadline| deadline > time), "no busy wait");
            if machine.is_over() {
                break;
            }
            if step == stop_at {
                let kill_at = time + Duration::from_secs(1 + rng.below(60));
                machine.apply(Event::Stop { kill_at }, time);
                // each sidecar may get its minimum after the others
                stop_by = Some(kill_at + Duration::from_secs(2) * (1 + count as u32));
            }
            match world.event(&mut pending, &mut rng) {
                Some(event) => machine.apply(event, time),
                None if world
                    .killed
                    .iter()
                    .zip(&world.running)
                    .any(|(killed, running)| *killed && running.is_some()) => {}
                // nothing happens: time goes on, to the next deadline or not so far
                None => {
                    let jump = Duration::from_millis(1 + rng.below(3000));
                    time = deadline.map_or(time + jump, |deadline| deadline.min(time + jump));
                }
            }
            if rng.chance(0.01) {
                let version = machine.version();
                let status = machine.status(Ipv4Addr::LOCALHOST.into());
                assert!(!status.ready.holds || status.initialized.holds);
                assert_eq!((status.version, machine.version()), (version, version));
            }
        }
        assert!(machine.is_over(), "{roles:?} {restart} {world:?}");
        assert!(world.running.iter().all(Option::is_none), "over means that nothing runs");
        assert!(stop_by.is_none_or(|stop_by| time <= stop_by), "the grace bounds the stop");
        pods += 1;
        starts += world.starts;
        let status = machine.status(Ipv4Addr::LOCALHOST.into());
        assert!(!status.ready.holds);
        *phases.entry(status.phase.as_str()).or_insert(0_u64) += 1;
        let well = status.init.iter().chain(&status.containers).zip(&roles).all(|(container, role)| {
            *role == Role::Sidecar || container.state.terminated().is_some_and(|end| end.exit_code == 0)
        });
        assert_eq!(status.phase == Phase::Succeeded, well, "{status:?}");
    }
    assert!(
        starts > pods && phases.values().all(|count| *count > 100) && phases.len() == 2,
        "{pods} {starts} {phases:?}"
    );
}

#[test]
fn late_and_repeated_events_change_nothing() {
    let start = now();
    let mut machine = machine(&[Role::Main], RestartPolicy::Always, false, start);
    machine.advance(start);
    assert_eq!(machine.orders().len(), 1);
    let exit = || Event::Exited { slot: 0, instance: 1, exit: Exited { code: 1, message: Arc::default() } };
    machine.apply(exit(), start);
    machine.apply(exit(), start);
    assert_eq!(machine.orders().len(), 1, "ended once");
    machine.apply(Event::Gone { slot: 0, instance: 1 }, start);
    machine.apply(Event::Gone { slot: 0, instance: 1 }, start);
    machine.advance(start);
    let version = machine.version();
    for event in [exit(), Event::Gone { slot: 0, instance: 1 }, Event::Reported { slot: 9, instance: 1 }] {
        machine.apply(event, start);
    }
    assert_eq!(machine.version(), version);
    assert!(matches!(machine.orders()[..], [Order::Start { instance: 2, .. }]));
    machine.kill(start);
    machine.apply(Event::Stop { kill_at: start }, start);
    assert!(machine.advance(start).is_none() && machine.orders().is_empty());
}
