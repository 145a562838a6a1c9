//! One network: who is attached to it, and how it behaves.

use super::{
    Connect, Directory, Event, Host, Intercept, Scope,
    host::Interface,
    link::{Latency, Observer},
};
use crate::base::{Error, Faults, Kind, Result, Rng, Seed, sync::Lock, time::WallClock};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A network of hosts; cheap to clone.
///
/// In memory, nothing leaves the process and everything repeats by the seed. Over TCP, the same types stand on real
/// sockets: hosts of this process get loopback addresses of their own (which Linux has without further setup).
///
/// ```
/// use seedpod::net::{HostOptions, Net};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let net = Net::memory().build();
/// let server = net.host(HostOptions { name: "server".into(), ..HostOptions::default() })?;
/// let client = net.host(HostOptions::default())?;
///
/// let mut listener = server.listen(80).await?;
/// let mut here = client.connect("server:80").await?;
/// let mut there = listener.accept().await?;
/// here.write_all(b"hello").await?;
/// drop(here);
/// let mut heard = String::new();
/// there.read_to_string(&mut heard).await?;
/// assert_eq!(heard, "hello");
///
/// let refused = client.connect("server:81").await.unwrap_err();
/// assert_eq!(refused.to_string(), "10.0.0.1:81: unavailable: connection refused");
/// # seedpod::Result::<()>::Ok(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Net(Arc<Shared>);

struct Shared {
    tcp: bool,
    seed: Seed,
    perturb: bool,
    buffer: usize,
    backlog: usize,
    directory: Option<Box<dyn Directory>>,
    latency: Option<Latency>,
    observer: Option<Observer>,
    faults: Faults<Connect>,
    wall: WallClock,
    links: AtomicU64,
    scopes: AtomicU64,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<IpAddr, Arc<Interface>>,
    next: u32,
    /// Over TCP, what an intercepted connection was meant for, by its source: stands for `SO_ORIGINAL_DST`.
    originals: BTreeMap<SocketAddr, SocketAddr>,
}

/// What a host is like.
///
/// ```
/// use seedpod::net::HostOptions;
/// let options = HostOptions { name: "cart".into(), search: vec!["shop.svc.cluster.local".into()], ..Default::default() };
/// ```
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// Its address: the next free one by default, in 10.0.0.0/8 in memory, in 127.64.0.0/10 over TCP.
    ///
    /// The unspecified address (`0.0.0.0`), over TCP alone, is the machine itself: it listens on all addresses, and
    /// `localhost` is the machine's.
    pub ip: Option<IpAddr>,
    /// Its name, for directories, observers and fault rules.
    pub name: String,
    /// The suffixes that directories try for short names, in order.
    pub search: Vec<String>,
    /// Whether its traffic is redirected.
    pub intercept: Intercept,
}

/// How a network behaves. Each setting has a default.
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    shared: Shared,
}

impl Builder {
    fn new(tcp: bool) -> Self {
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
    /// tokio's timers tick in milliseconds: shorter latencies are rounded up to the next tick.
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
        Net(Arc::new(self.shared))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("tcp", &self.shared.tcp).finish_non_exhaustive()
    }
}

/// Where the addresses over TCP begin: apart per process, so that two of them do not meet on a port.
static LOOPBACK: AtomicU32 = AtomicU32::new(0);

impl Net {
    /// A network in memory.
    pub fn memory() -> Builder {
        Builder::new(false)
    }

    /// A network over TCP. It refuses a runtime whose time is paused.
    pub fn tcp() -> Builder {
        Builder::new(true)
    }

    /// Attaches a host.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where its address is taken; [`Kind::Overloaded`] where none is free;
    /// [`Kind::Invalid`] for the unspecified address in memory.
    pub fn host(&self, options: HostOptions) -> Result<Host> {
        let mut state = self.0.state.lock();
        let ip = match options.ip {
            Some(ip) if ip.is_unspecified() && !self.0.tcp => {
                return Err(
                    Error::new(Kind::Invalid, "a host in memory needs an address of its own").at(ip.to_string())
                );
            }
            Some(ip) if state.hosts.contains_key(&ip) => {
                return Err(Error::new(Kind::Conflict, "the address is taken").at(ip.to_string()));
            }
            Some(ip) => ip,
            None => self.next_address(&mut state)?,
        };
        let interface = Arc::new(Interface::new(ip, options));
        state.hosts.insert(ip, interface.clone());
        drop(state);
        Ok(Host::new(self.clone(), interface, self.scope()))
    }

    fn next_address(&self, state: &mut State) -> Result<IpAddr> {
        const MEMORY: (u32, u32) = (0x0A00_0000, 0x00FF_FFFF); // 10.0.0.0/8
        const TCP: (u32, u32) = (0x7F40_0000, 0x003F_FFFF); // 127.64.0.0/10
        let (base, mask) = if self.0.tcp { TCP } else { MEMORY };
        for _ in 0..mask {
            let offset = if self.0.tcp {
                let _ = LOOPBACK.compare_exchange(0, std::process::id().wrapping_mul(1021) << 8, Relaxed, Relaxed);
                LOOPBACK.fetch_add(1, Relaxed)
            } else {
                state.next = state.next.wrapping_add(1);
                state.next
            } & mask;
            let ip = IpAddr::V4(Ipv4Addr::from_bits(base | offset));
            if offset & 0xFF != 0 && offset & 0xFF != 0xFF && !state.hosts.contains_key(&ip) {
                return Ok(ip);
            }
        }
        Err(Error::new(Kind::Overloaded, "no address is free"))
    }

    /// A scope for one container instance; perturbed where the network is.
    pub fn scope(&self) -> Scope {
        if !self.0.perturb {
            return Scope::default();
        }
        Scope::perturbed(self.0.seed.fork("scopes").fork_index(self.0.scopes.fetch_add(1, Relaxed)).rng())
    }

    /// What its chance comes from.
    pub fn seed(&self) -> Seed {
        self.0.seed
    }

    /// What time of day it is on it.
    pub fn wall_clock(&self) -> WallClock {
        self.0.wall
    }

    /// Whether it stands on real sockets.
    pub fn is_tcp(&self) -> bool {
        self.0.tcp
    }

    pub(super) fn buffer(&self) -> usize {
        self.0.buffer
    }

    pub(super) fn backlog(&self) -> usize {
        self.0.backlog
    }

    pub(super) fn directory(&self) -> Option<&dyn Directory> {
        self.0.directory.as_deref()
    }

    pub(super) fn latency(&self) -> Option<&Latency> {
        self.0.latency.as_ref()
    }

    pub(super) fn observer(&self) -> Option<&Observer> {
        self.0.observer.as_ref()
    }

    pub(super) fn faults(&self) -> &Faults<Connect> {
        &self.0.faults
    }

    pub(super) fn next_link(&self) -> u64 {
        self.0.links.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn interface(&self, ip: IpAddr) -> Option<Arc<Interface>> {
        self.0.state.lock().hosts.get(&ip).cloned()
    }

    /// The hosts of this name, in the order of their addresses.
    pub(super) fn named(&self, name: &str) -> Vec<IpAddr> {
        let state = self.0.state.lock();
        state.hosts.values().filter(|host| &*host.origin.name == name).map(|host| host.origin.ip).collect()
    }

    pub(super) fn detach(&self, interface: &Arc<Interface>) {
        let mut state = self.0.state.lock();
        let ip = interface.origin.ip;
        if state.hosts.get(&ip).is_some_and(|there| Arc::ptr_eq(there, interface)) {
            state.hosts.remove(&ip);
        }
    }

    /// Remembers what a connection over TCP was meant for until it is accepted, or the guard is dropped.
    pub(super) fn intercepted(&self, source: SocketAddr, original: SocketAddr) -> Intercepted {
        self.0.state.lock().originals.insert(source, original);
        Intercepted { net: self.clone(), source }
    }

    pub(super) fn take_original(&self, source: SocketAddr) -> Option<SocketAddr> {
        self.0.state.lock().originals.remove(&source)
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.0.state.lock().hosts.len();
        f.debug_struct("Net").field("tcp", &self.0.tcp).field("hosts", &hosts).finish_non_exhaustive()
    }
}

/// Forgets an intercepted connection that nobody accepted.
pub(super) struct Intercepted {
    net: Net,
    source: SocketAddr,
}

impl Drop for Intercepted {
    fn drop(&mut self) {
        self.net.take_original(self.source);
    }
}
