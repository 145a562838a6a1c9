//! A host's network as one of its containers sees it.

use super::{
    HostOptions, IN_USE, Listener, Net, Origin, Scope,
    listener::{Backlog, Source},
    tcp,
};
use crate::base::{Error, Kind, Result, sync::Lock};
use smallvec::SmallVec;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::net::TcpSocket;

/// Redirects a host's traffic to ports of its proxy, unseen by who connects and by who listens.
///
/// The proxy finds the true destination in [`Connection::original_destination`](crate::net::Connection::original_destination); its own connections are made from an
/// [exempt](Host::exempt) host. Connections within the host are left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intercept {
    /// Connections from other hosts arrive at this port, whatever port they are for.
    pub inbound: Option<u16>,
    /// Connections to other hosts arrive at this port instead.
    pub outbound: Option<u16>,
}

/// What the containers of a host share.
pub(super) struct Interface {
    pub(super) origin: Origin,
    intercept: Lock<Intercept>,
    detached: AtomicBool,
    ports: Lock<Ports>,
}

struct Ports {
    /// In their order. Most hosts have one or two.
    listening: SmallVec<[(u16, Arc<Backlog>); 2]>,
    next: u16,
}

/// The ports that are given out: those of IANA's dynamic range.
const EPHEMERAL: u16 = 49_152;

impl Ports {
    /// Where this port is, or where it would be.
    fn find(&self, port: u16) -> Result<usize, usize> {
        self.listening.binary_search_by_key(&port, |(port, _)| *port)
    }

    fn ephemeral(&mut self) -> u16 {
        loop {
            self.next = self.next.checked_add(1).unwrap_or(EPHEMERAL);
            if self.listening.len() > usize::from(u16::MAX - EPHEMERAL) || self.find(self.next).is_err() {
                return self.next;
            }
        }
    }
}

impl Interface {
    pub(super) fn new(ip: IpAddr, options: HostOptions) -> Self {
        let search = if options.search.is_empty() { Arc::default() } else { options.search.into() };
        Interface {
            origin: Origin { ip, name: options.name.into(), search },
            intercept: Lock::new(options.intercept),
            detached: AtomicBool::new(false),
            ports: Lock::new(Ports { listening: SmallVec::new(), next: EPHEMERAL - 1 }),
        }
    }

    pub(super) fn intercepted(&self) -> Intercept {
        *self.intercept.lock()
    }

    /// Who listens on this port.
    pub(super) fn listening(&self, port: u16) -> Option<Arc<Backlog>> {
        let ports = self.ports.lock();
        let (_, backlog) = ports.listening.get(ports.find(port).ok()?)?;
        Some(backlog.clone())
    }

    /// A port to connect from.
    pub(super) fn source(&self) -> SocketAddr {
        SocketAddr::new(self.origin.ip, self.ports.lock().ephemeral())
    }

    pub(super) fn free(&self, port: u16) {
        let mut ports = self.ports.lock();
        let freed = ports.find(port).ok().map(|at| ports.listening.remove(at));
        drop(ports);
        drop(freed);
    }
}

/// A host's network as one of its containers sees it; cheap to clone.
///
/// Containers of one host share its address, its ports and `localhost`. Each has a [scope](Host::scope) of its own,
/// which its sockets belong to: [`scoped`](Host::scoped) makes the same host for another container.
///
/// When the last clone is dropped, listeners' included, the host is [detached](Host::detach): its address is free, its
/// name unknown, and open connections stay open.
#[derive(Clone)]
pub struct Host {
    attachment: Arc<Attachment>,
    scope: Scope,
    exempt: bool,
}

/// A host's place on its network; given up when the last of its handles goes.
struct Attachment {
    net: Net,
    interface: Arc<Interface>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.net.detach(&self.interface);
    }
}

impl Host {
    pub(super) fn is_exempt(&self) -> bool {
        self.exempt
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.interface().origin
    }

    pub(super) fn interface(&self) -> &Interface {
        &self.attachment.interface
    }

    pub(super) fn new(net: Net, interface: Arc<Interface>, scope: Scope) -> Self {
        Host { attachment: Arc::new(Attachment { net, interface }), scope, exempt: false }
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.interface().origin.ip
    }

    /// Its name; empty where it has none.
    pub fn name(&self) -> &str {
        &self.interface().origin.name
    }

    /// The network it is attached to.
    pub fn net(&self) -> &Net {
        &self.attachment.net
    }

    /// What its sockets belong to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same host for another container: the same address and ports, another scope.
    #[must_use]
    pub fn scoped(&self, scope: Scope) -> Host {
        Host { scope, ..self.clone() }
    }

    /// The same host for its proxy: connections made from it are not intercepted on their way out.
    #[must_use]
    pub fn exempt(&self) -> Host {
        Host { exempt: true, ..self.clone() }
    }

    /// Redirects its traffic from now on; open connections stay as they are.
    pub fn intercept(&self, intercept: Intercept) {
        *self.interface().intercept.lock() = intercept;
    }

    /// Frees the address: new connections to it are unreachable, and this host makes no more. What is open stays open
    /// until its scope is killed. Again: does nothing.
    pub fn detach(&self) {
        self.interface().detached.store(true, Relaxed);
        self.net().detach(&self.attachment.interface);
    }

    /// Listens on a port; 0 is one that is free.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where the port is in use, [`Kind::Closed`] once the scope was killed, [`Kind::Unavailable`]
    /// once detached, [`Kind::Unsupported`] over TCP under paused time, and what the system says.
    pub async fn listen(&self, port: u16) -> Result<Listener> {
        let address = SocketAddr::new(self.ip(), port);
        self.attached().map_err(|error| error.at(address.to_string()))?;
        if self.net().is_tcp() { self.listen_tcp(address) } else { self.listen_memory(address) }
    }

    fn listen_memory(&self, mut address: SocketAddr) -> Result<Listener> {
        let mut ports = self.interface().ports.lock();
        if address.port() == 0 {
            address.set_port(ports.ephemeral());
        }
        let Err(at) = ports.find(address.port()) else {
            return Err(Error::new(Kind::Conflict, IN_USE).at(address.to_string()));
        };
        let backlog = Backlog::new(self.net().backlog(), address.port(), Arc::downgrade(&self.attachment.interface));
        let entry = self.scope.register(backlog.clone()).map_err(|error| error.at(address.to_string()))?;
        ports.listening.insert(at, (address.port(), backlog.clone()));
        drop(ports);
        Ok(Listener::new(address, self.clone(), Source::Memory(backlog, entry)))
    }

    fn listen_tcp(&self, address: SocketAddr) -> Result<Listener> {
        let place = |error: Error| error.at(address.to_string());
        tcp::refuse_paused_time().map_err(place)?;
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?; // connections of an earlier listener linger, and must not keep its port
            socket.bind(address)?;
            socket.listen(u32::try_from(self.net().backlog()).unwrap_or(u32::MAX))
        };
        let listener = bind().map_err(|error| tcp::error(error, address))?;
        let bound = listener.local_addr().map_err(|error| tcp::error(error, address))?;
        let listener = tcp::Shared::new(listener);
        let entry = self.scope.register(listener.clone()).map_err(place)?;
        Ok(Listener::new(bound, self.clone(), Source::Tcp(listener, entry)))
    }

    /// Fails once detached.
    pub(super) fn attached(&self) -> Result {
        if self.interface().detached.load(Relaxed) {
            return Err(Error::new(Kind::Unavailable, "this host is detached"));
        }
        Ok(())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("ip", &self.ip()).field("name", &self.name()).finish_non_exhaustive()
    }
}
