//! How a network behaves.

use super::{Connect, Directory, Event, Net, network::Shared};
use crate::base::{Faults, Rng, Seed, sync::Lock, time::WallClock};
use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// How a network behaves. Each setting has a default.
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    shared: Shared,
}

impl Builder {
    pub(super) fn new(tcp: bool) -> Self {
        let shared = Shared {
            tcp,
            seed: Seed::ambient(),
            perturb: false,
            buffer: 64 << 10,
            backlog: 128,
            directory: None,
            latency: None,
            observer: None,
            faults: Faults::default(),
            wall: WallClock::ambient(),
            links: AtomicU64::new(0),
            scopes: AtomicU64::new(0),
            state: Lock::default(),
        };
        Builder { shared }
    }

    /// What its latencies and perturbations are drawn from. Default: the simulation's seed, or the system's.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.shared.seed = seed;
        self
    }

    /// How many bytes one direction of a connection in memory holds before its writer waits; at least one.
    /// Default: 64 KiB, as tokio's and Linux' pipes have it.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.shared.buffer = bytes.max(1);
        self
    }

    /// How many connections wait to be accepted; further ones are refused. Default: 128, as Linux had it for decades.
    pub fn backlog(mut self, connections: usize) -> Self {
        self.shared.backlog = connections.max(1);
        self
    }

    /// Who answers for names and virtual addresses. Default: the names of the hosts, then over TCP the system's
    /// resolver; no virtual addresses.
    pub fn directory(mut self, directory: impl Directory) -> Self {
        self.shared.directory = Some(Box::new(directory));
        self
    }

    /// How long bytes take from one address to another, drawn per write; order is kept within a connection. A
    /// connect takes one way there and one back. Not within a host, and not over TCP. Default: no time at all.
    ///
    /// tokio's timers tick in milliseconds: shorter latencies are rounded up to the next tick. The closure is called with
    /// no lock held: it may look at the network and change it.
    pub fn latency(mut self, latency: impl Fn(IpAddr, IpAddr, &mut Rng) -> Duration + Send + Sync + 'static) -> Self {
        self.shared.latency = Some(Arc::new(latency));
        self
    }

    /// Sees everything that crosses the network in memory, in order, byte for byte. On one thread and with paused
    /// time, two runs of the same seed show it the same; on several threads, order holds only within one writer.
    pub fn observe(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.shared.observer = Some(Arc::new(observer));
        self
    }

    /// Rules that delay or fail connects. Default: none.
    pub fn faults(mut self, faults: Faults<Connect>) -> Self {
        self.shared.faults = faults;
        self
    }

    /// Scopes made by [`Net::scope`] skip polls by a seeded coin: other interleavings of the same program.
    pub fn perturb(mut self) -> Self {
        self.shared.perturb = true;
        self
    }

    /// What time of day it is for whoever serves on it. Default: the system's when this is built; in a simulation a
    /// fixed one.
    pub fn wall_clock(mut self, clock: WallClock) -> Self {
        self.shared.wall = clock;
        self
    }

    /// The network.
    pub fn build(self) -> Net {
        Net::new(self.shared)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("tcp", &self.shared.tcp).finish_non_exhaustive()
    }
}
