//! A container as its pod keeps it: what was declared, made small (many pods are idle most of the time), and what
//! outlives its instances.

use super::{Check, ContainerSpec, Hook, Image, Mount, Port, Probe, Volume, log::Log};
use crate::base::sync::{
    Arc, Lock,
    atomic::{AtomicU64, Ordering},
};
use std::{collections::BTreeMap, time::Duration};

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Sidecar,
    Main,
}

/// The three probes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Startup,
    Liveness,
    Readiness,
}

impl Which {
    pub(super) const ALL: [Which; 3] = [Which::Startup, Which::Liveness, Which::Readiness];

    /// As it stands in messages.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Which::Startup => "startup",
            Which::Liveness => "liveness",
            Which::Readiness => "readiness",
        }
    }
}

pub(super) struct Declared {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) image: Image,
    pub(super) mounts: Box<[(Mount, Volume)]>,
    /// The probes that the container answers by itself.
    reported: [bool; 3],
    // many containers have none of these, and most have none of those
    words: Option<Box<Words>>,
    conduct: Option<Box<Conduct>>,
    pub(super) log: Lock<Log>,
    pub(super) usage: Usage,
}

/// What is declared for the container itself to read, and for those who look.
pub(super) struct Words {
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) env: Variables,
    pub(super) ports: Vec<Port>,
}

static NO_WORDS: Words = Words { command: Vec::new(), args: Vec::new(), env: Variables(Vec::new()), ports: Vec::new() };

struct Conduct {
    /// Those that are made.
    probes: [Option<Box<Probe>>; 3],
    post_start: Option<Hook>,
    pre_stop: Option<Hook>,
}

impl Declared {
    /// The spec was checked: each mount names a volume of the pod.
    pub(super) fn new(spec: ContainerSpec, role: Role, volumes: &BTreeMap<String, Volume>) -> Self {
        let mounts = spec.mounts.into_iter().filter_map(|mount| {
            let volume = volumes.get(&mount.volume)?.clone();
            Some((mount, volume))
        });
        let probes = [spec.startup, spec.liveness, spec.readiness];
        let is_reported = |probe: &Option<Probe>| matches!(probe, Some(Probe { check: Check::Reported, .. }));
        let reported = probes.each_ref().map(is_reported);
        let probes = probes.map(|probe| probe.filter(|probe| !matches!(probe.check, Check::Reported)).map(Box::new));
        let plain = probes.iter().all(Option::is_none) && spec.post_start.is_none() && spec.pre_stop.is_none();
        let conduct = Conduct { probes, post_start: spec.post_start, pre_stop: spec.pre_stop };
        let words = Words {
            command: small(spec.command),
            args: small(spec.args),
            env: Variables::new(spec.env),
            ports: small(spec.ports),
        };
        let silent = words.command.is_empty() && words.args.is_empty() && words.env.0.is_empty();
        let silent = silent && words.ports.is_empty();
        Declared {
            name: spec.name,
            role,
            image: spec.image,
            mounts: mounts.collect(),
            reported,
            words: (!silent).then(|| Box::new(words)),
            conduct: (!plain).then(|| Box::new(conduct)),
            log: Lock::default(),
            usage: Usage::default(),
        }
    }

    pub(super) fn words(&self) -> &Words {
        self.words.as_deref().unwrap_or(&NO_WORDS)
    }

    /// The probe that is made; none where the container answers it by itself.
    pub(super) fn probe(&self, which: Which) -> Option<&Probe> {
        self.conduct.as_ref()?.probes.get(which as usize)?.as_deref()
    }

    /// Whether this probe is one that the container answers by itself, not one that is made.
    pub(super) fn reports(&self, which: Which) -> bool {
        self.reported.get(which as usize) == Some(&true)
    }

    pub(super) fn post_start(&self) -> Option<&Hook> {
        self.conduct.as_ref()?.post_start.as_ref()
    }

    pub(super) fn pre_stop(&self) -> Option<&Hook> {
        self.conduct.as_ref()?.pre_stop.as_ref()
    }
}

fn small<T>(mut list: Vec<T>) -> Vec<T> {
    list.shrink_to_fit();
    list
}

/// An environment, in the order of its keys.
pub(super) struct Variables(Vec<(String, String)>);

impl Variables {
    pub(super) fn new(variables: BTreeMap<String, String>) -> Self {
        Variables(variables.into_iter().collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(at, _)| at.as_str().cmp(key)).ok()?;
        self.0.get(found).map(|(_, value)| value.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Declared use, over all instances.
#[derive(Default)]
pub(super) struct Usage {
    cpu_nanos: AtomicU64,
    memory: AtomicU64,
}

impl Usage {
    pub(super) fn add(&self, cpu: Duration, memory: u64) {
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.memory.store(memory, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> (Duration, u64) {
        let nanos = self.cpu_nanos.load(Ordering::Relaxed);
        (Duration::from_nanos(nanos), self.memory.load(Ordering::Relaxed))
    }
}
