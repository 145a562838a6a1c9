//! What all parts of a schedule share, and what is to be done in it.

use super::{checks::Checks, clients, workers};
use crate::queue::{
    features::{Features, HEADER},
    process::Process,
    wire::{Weather, Wire},
    witness::Witness,
};
use seedpod::{
    Kind, Result,
    base::{Rng, Seed, sync::Lock, time},
    net::Net,
    queue::{Id, Job, Queue, Subscription, Taken, Topic, Unique},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// How long leases hold.
pub(super) const HOLD: Duration = milliseconds(200);
/// How long a handler may be silent.
pub(super) const SILENCE: Duration = milliseconds(400);
/// For how long a unique key with a window is taken.
pub(super) const WINDOW: Duration = milliseconds(300);

pub(super) const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What a job is about, as its handler gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) features: u16,
    /// Which of its key it is.
    pub(super) key: Option<(String, u64)>,
    pub(super) unique: Option<String>,
}

impl Piece {
    pub(super) fn has(&self, feature: Features) -> bool {
        self.features().has(feature)
    }

    pub(super) fn features(&self) -> Features {
        Features::read(self.features)
    }
}

/// A job to be submitted.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) piece: Piece,
    pub(super) priority: u8,
    pub(super) delay: Duration,
    /// The terms of its unique key.
    pub(super) taken: Option<(Taken, bool)>,
}

impl Plan {
    pub(super) fn draw(client: usize, number: u64, rng: &mut Rng) -> Plan {
        let mut features = Features::NONE;
        let odds = [
            (Features::ORDER, 0.5),
            (Features::PRIORITY, 0.5),
            (Features::DELAY, 0.4),
            (Features::UNIQUE, 0.45),
            (Features::CANCEL, 0.3),
            (Features::RESULT, 0.5),
            (Features::DONE, 0.5),
            (Features::PROGRESS, 0.45),
        ];
        for (feature, odds) in odds {
            if rng.chance(odds) {
                features = features | feature;
            }
        }
        let key = features.has(Features::ORDER).then(|| (format!("key-{client}-{}", rng.below(2)), number));
        let (word, taken) = [
            ("keep", (Taken::Keep, false)),
            ("refuse", (Taken::Refuse, false)),
            ("replace", (Taken::Replace, false)),
            ("window", (Taken::Keep, true)),
        ][rng.below(4) as usize];
        let unique = features.has(Features::UNIQUE).then(|| format!("{word}-{}", rng.below(2)));
        Plan {
            taken: unique.is_some().then_some(taken),
            priority: if features.has(Features::PRIORITY) { 1 + rng.below(2) as u8 } else { 0 },
            delay: milliseconds(if features.has(Features::DELAY) { 1 + rng.below(100) } else { 0 }),
            piece: Piece { name: format!("{client}/{number}"), features: features.bits(), key, unique },
        }
    }

    pub(super) fn job(&self) -> Job<Piece> {
        let piece = &self.piece;
        let mut job = Job::new(piece.clone()).priority(self.priority).delay(self.delay);
        job = job.header(HEADER, piece.features().write());
        if let Some((key, _)) = &piece.key {
            job = job.key(key.as_str());
        }
        match (&piece.unique, self.taken) {
            (Some(key), Some((taken, within))) => {
                let unique = Unique::key(key.as_str()).when_taken(taken);
                job.unique(if within { unique.within(WINDOW) } else { unique })
            }
            _ => job.with_id(Id::of(&piece.name)),
        }
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Worker,
    /// Takes jobs, and settles them by hand.
    Hand,
    Client(usize),
    Redriver,
    Caller,
    Responder,
    /// A container per item.
    Cutter,
}

/// A process, and its wire.
pub(super) struct Node {
    pub(super) role: Role,
    pub(super) process: Process,
    pub(super) wire: Wire,
}

/// What is to be done yet, whoever does it and on whatever broker.
#[derive(Default)]
pub(super) struct Agenda {
    /// What each client has to submit.
    pub(super) plans: Lock<Vec<VecDeque<Plan>>>,
    pub(super) questions: Lock<VecDeque<u32>>,
}

/// What all parts of a schedule share.
pub(super) struct World {
    pub(super) broker: Arc<Witness>,
    pub(super) weather: Weather,
    pub(super) net: Net,
    pub(super) checks: Arc<Checks>,
    pub(super) agenda: Arc<Agenda>,
    /// One crash is enough for the quarantine.
    pub(super) is_wary: bool,
    pub(super) healing: AtomicBool,
    pub(super) healed: Lock<Option<time::Instant>>,
    rng: Lock<Rng>,
}

impl World {
    pub(super) fn new(
        weather: Weather,
        net: Net,
        checks: Arc<Checks>,
        agenda: Arc<Agenda>,
        mut rng: Rng,
    ) -> Arc<World> {
        Arc::new(World {
            broker: weather.broker.clone(),
            weather,
            net,
            checks,
            agenda,
            is_wary: rng.chance(0.6),
            healing: AtomicBool::new(false),
            healed: Lock::default(),
            rng: Lock::new(rng),
        })
    }

    pub(super) fn is_healing(&self) -> bool {
        self.healing.load(Relaxed)
    }

    /// All has healed for long enough that nothing of before is left.
    pub(super) fn is_settled(&self) -> bool {
        self.healed.lock().is_some_and(|since| since.elapsed() > Duration::from_secs(10))
    }

    pub(super) fn fork(&self) -> Rng {
        self.rng.lock().fork()
    }

    /// Starts a process of this role.
    pub(super) fn start(self: &Arc<Self>, role: Role) -> Node {
        let process = Process::new(&self.net);
        let wire = Wire::new(self.weather.clone(), self.fork(), Some(process.clone()));
        let (own, part, broker) = (self.clone(), process.clone(), Arc::new(wire.clone()));
        match role {
            Role::Worker => process.spawn(workers::worker(own, part, broker)),
            Role::Hand => process.spawn(workers::hand(own, part, broker)),
            Role::Client(number) => process.spawn(clients::client(own, part, broker, number)),
            Role::Redriver => process.spawn(clients::redriver(own, part, broker)),
            Role::Caller => process.spawn(clients::caller(own, part, broker)),
            Role::Responder => process.spawn(workers::responder(own, part, broker)),
            Role::Cutter => process.spawn(workers::cutter(own, part, broker)),
        }
        Node { role, process, wire }
    }

    /// What a handler does with a message at this try is drawn from both: the same in each run of a seed.
    pub(super) fn dice(&self, id: impl AsRef<str>, tries: u32) -> Rng {
        Seed::ambient().fork_index(tries.into()).fork(id.as_ref()).rng()
    }
}

/// What was opened; where the broker has closed, its process waits to be killed.
pub(super) async fn opened<T>(opening: impl Future<Output = Result<T>>) -> T {
    match opening.await {
        Ok(opened) => opened,
        Err(error) if error.kind() == Kind::Closed => std::future::pending().await,
        Err(error) => panic!("{}", error.chain()),
    }
}

/// The queue of jobs, by this broker.
pub(super) async fn jobs(broker: Arc<Wire>) -> Queue<Piece> {
    opened(Queue::builder(broker, "jobs").capacity(24).open()).await
}

/// The names of what is there.
pub(super) struct Places {
    pub(super) jobs: Subscription,
    pub(super) quarantine: Subscription,
    pub(super) dead: Subscription,
    pub(super) questions: Subscription,
    pub(super) films: Subscription,
    pub(super) effects: Subscription,
    pub(super) cut: Subscription,
}

impl Places {
    pub(super) fn new() -> Places {
        let at = |topic: &str, name: &str| Topic::new(topic).subscription(name);
        Places {
            jobs: at("jobs", "workers"),
            quarantine: at("jobs.quarantine", "workers"),
            dead: at("jobs.dead", seedpod::queue::DEAD_LETTERS),
            questions: at("questions", "oracle"),
            films: at("films", "cutter"),
            effects: at("effects", "all"),
            cut: at("films.cut", "all"),
        }
    }
}

/// A while that a handler takes.
pub(super) async fn a_while(rng: &mut Rng, most: u64) {
    time::sleep(milliseconds(rng.below(most))).await;
}
