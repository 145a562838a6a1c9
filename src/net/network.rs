//! One network: who is attached to it, and how it behaves.

use super::{
    Builder, Connect, Directory, Host, Intercept, Scope,
    host::Interface,
    link::{Latency, Observer},
};
use crate::base::{Error, Faults, Kind, Result, Seed, sync::Lock, time::WallClock};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
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

pub(super) struct Shared {
    pub(super) tcp: bool,
    pub(super) seed: Seed,
    pub(super) perturb: bool,
    pub(super) buffer: usize,
    pub(super) backlog: usize,
    pub(super) directory: Option<Box<dyn Directory>>,
    pub(super) latency: Option<Latency>,
    pub(super) observer: Option<Observer>,
    pub(super) faults: Faults<Connect>,
    pub(super) wall: WallClock,
    pub(super) links: AtomicU64,
    pub(super) scopes: AtomicU64,
    pub(super) state: Lock<State>,
}

#[derive(Default)]
pub(super) struct State {
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

/// Where the addresses over TCP begin: apart per process, so that two of them do not meet on a port.
static LOOPBACK: AtomicU32 = AtomicU32::new(0);

impl Net {
    pub(super) fn new(shared: Shared) -> Self {
        Net(Arc::new(shared))
    }

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
