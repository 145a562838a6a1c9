//! A host's network as one of its containers sees it.

use super::{
    Connect, Connection, Event, HostOptions, IN_USE, Listener, Net, Origin, REFUSED, Route, Scope, UNREACHABLE,
    connection::Io,
    directory,
    event::Side,
    link::{Delay, End, Link},
    listener::{Arrival, Backlog, Source},
    tcp,
};
use crate::base::{Error, Kind, Result, Verdict, sync::Lock, time};
use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::net::TcpSocket;

/// Redirects a host's traffic to ports of its proxy, unseen by who connects and by who listens.
///
/// The proxy finds the true destination in [`Connection::original_destination`]; its own connections are made from an
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
    listening: BTreeMap<u16, Arc<Backlog>>,
    next: u16,
}

/// The ports that are given out: those of IANA's dynamic range.
const EPHEMERAL: u16 = 49_152;

impl Ports {
    fn ephemeral(&mut self) -> u16 {
        loop {
            self.next = self.next.checked_add(1).unwrap_or(EPHEMERAL);
            if self.listening.len() > usize::from(u16::MAX - EPHEMERAL) || !self.listening.contains_key(&self.next) {
                return self.next;
            }
        }
    }
}

impl Interface {
    pub(super) fn new(ip: IpAddr, options: HostOptions) -> Self {
        Interface {
            origin: Origin { ip, name: options.name.into(), search: options.search.into() },
            intercept: Lock::new(options.intercept),
            detached: AtomicBool::new(false),
            ports: Lock::new(Ports { listening: BTreeMap::new(), next: EPHEMERAL - 1 }),
        }
    }

    pub(super) fn free(&self, port: u16) {
        let freed = self.ports.lock().listening.remove(&port);
        drop(freed);
    }
}

/// A host's network as one of its containers sees it; cheap to clone.
///
/// Containers of one host share its address, its ports and `localhost`. Each has a [scope](Host::scope) of its own,
/// which its sockets belong to: [`scoped`](Host::scoped) makes the same host for another container.
#[derive(Clone)]
pub struct Host {
    net: Net,
    interface: Arc<Interface>,
    scope: Scope,
    exempt: bool,
}

/// How a connection goes: where to, and what for.
struct Plan {
    to: SocketAddr,
    original: Option<SocketAddr>,
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Host {
    pub(super) fn new(net: Net, interface: Arc<Interface>, scope: Scope) -> Self {
        Host { net, interface, scope, exempt: false }
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.interface.origin.ip
    }

    /// Its name; empty where it has none.
    pub fn name(&self) -> &str {
        &self.interface.origin.name
    }

    /// The network it is attached to.
    pub fn net(&self) -> &Net {
        &self.net
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
        *self.interface.intercept.lock() = intercept;
    }

    /// Frees the address: new connections to it are unreachable, and this host makes no more. What is open stays open
    /// until its scope is killed. Again: does nothing.
    pub fn detach(&self) {
        self.interface.detached.store(true, Relaxed);
        self.net.detach(&self.interface);
    }

    /// Listens on a port; 0 is one that is free.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where the port is in use, [`Kind::Closed`] once the scope was killed, [`Kind::Unavailable`]
    /// once detached, [`Kind::Unsupported`] over TCP under paused time, and what the system says.
    pub async fn listen(&self, port: u16) -> Result<Listener> {
        let address = SocketAddr::new(self.ip(), port);
        self.attached().map_err(|error| error.at(address.to_string()))?;
        if self.net.is_tcp() { self.listen_tcp(address) } else { self.listen_memory(address) }
    }

    fn listen_memory(&self, mut address: SocketAddr) -> Result<Listener> {
        let mut ports = self.interface.ports.lock();
        if address.port() == 0 {
            address.set_port(ports.ephemeral());
        }
        if ports.listening.contains_key(&address.port()) {
            return Err(Error::new(Kind::Conflict, IN_USE).at(address.to_string()));
        }
        let backlog = Backlog::new(self.net.backlog(), address.port(), Arc::downgrade(&self.interface));
        let entry = self.scope.register(backlog.clone()).map_err(|error| error.at(address.to_string()))?;
        ports.listening.insert(address.port(), backlog.clone());
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
            socket.listen(u32::try_from(self.net.backlog()).unwrap_or(u32::MAX))
        };
        let listener = bind().map_err(|error| tcp::error(error, address))?;
        let bound = listener.local_addr().map_err(|error| tcp::error(error, address))?;
        let listener = tcp::Shared::new(listener);
        let entry = self.scope.register(listener.clone()).map_err(place)?;
        Ok(Listener::new(bound, self.clone(), Source::Tcp(listener, entry)))
    }

    /// Connects to `name:port`, `address:port` or `localhost:port` (this host itself). A name's addresses are tried in
    /// their order.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown name; [`Kind::Unavailable`] where nobody listens, the host cannot be reached,
    /// or the backlog is full; [`Kind::Invalid`] for a target that is none; [`Kind::Closed`] once the scope was killed;
    /// [`Kind::Unsupported`] over TCP under paused time; what a fault rule says. The place is the address.
    ///
    /// **Cancel-safety**: may be dropped at any time; a connection that was made is closed in order.
    pub async fn connect(&self, target: &str) -> Result<Connection> {
        if let Ok(address) = target.parse() {
            return self.open(address).await;
        }
        let (name, port) = target
            .rsplit_once(':')
            .and_then(|(name, port)| Some((name, port.parse().ok()?)))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::new(Kind::Invalid, "not host:port").at(target))?;
        let mut failed = directory::unknown(target);
        for ip in self.resolve(name).await? {
            match self.open(SocketAddr::new(ip, port)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The addresses that a name stands for; an address stands for itself, `localhost` for this host.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown name; what the directory says.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>> {
        if let Ok(ip) = name.parse() {
            return Ok(vec![ip]);
        }
        if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            let own = self.ip();
            return Ok(vec![if own.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { own }]);
        }
        let origin = &self.interface.origin;
        let found = match self.net.directory() {
            Some(directory) => directory.resolve(origin, name).await.map_err(|error| error.at(name))?,
            None => {
                let named = origin.candidates(name).map(|name| self.net.named(&name)).find(|found| !found.is_empty());
                match named {
                    Some(found) => found,
                    None if self.net.is_tcp() => directory::system(name).await?,
                    None => Vec::new(),
                }
            }
        };
        if found.is_empty() { Err(directory::unknown(name)) } else { Ok(found) }
    }

    fn attached(&self) -> Result {
        if self.interface.detached.load(Relaxed) {
            return Err(Error::new(Kind::Unavailable, "this host is detached"));
        }
        Ok(())
    }

    /// Where a connection really goes: out through the proxy, or by the directory and in through the other's proxy.
    fn plan(&self, wanted: SocketAddr) -> Result<Plan> {
        let own = self.ip();
        if wanted.ip() == own {
            return Ok(Plan { to: wanted, original: None, guard: None });
        }
        let outbound = self.interface.intercept.lock().outbound;
        if let Some(port) = outbound
            && !self.exempt
        {
            return Ok(Plan { to: SocketAddr::new(own, port), original: Some(wanted), guard: None });
        }
        let route = self.net.directory().map_or(Ok(Route::Direct), |it| it.route(&self.interface.origin, wanted));
        let (to, guard) = match route? {
            Route::Direct => (wanted, None),
            Route::To { address, guard } => (address, guard),
        };
        let inbound = match self.net.interface(to.ip()) {
            Some(interface) if to.ip() != own => interface.intercept.lock().inbound,
            _ => None,
        };
        Ok(match inbound {
            Some(port) if port != to.port() => Plan { to: SocketAddr::new(to.ip(), port), original: Some(to), guard },
            _ => Plan { to, original: None, guard },
        })
    }

    /// Connects to one address.
    async fn open(&self, mut wanted: SocketAddr) -> Result<Connection> {
        let loopback = wanted.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) || wanted.ip() == std::net::Ipv6Addr::LOCALHOST;
        if loopback && !self.ip().is_unspecified() {
            wanted.set_ip(self.ip());
        }
        let place = |error: Error| error.at(wanted.to_string());
        self.attached().map_err(place)?;
        let plan = self.plan(wanted).map_err(place)?;
        let link = self.net.next_link();
        let to = plan.to;
        let opened = match self.judge(wanted, to).await {
            Ok(()) if self.net.is_tcp() => self.open_tcp(wanted, plan).await,
            Ok(()) => self.open_memory(link, wanted, plan).await,
            Err(error) => Err(error),
        };
        if opened.is_err()
            && let Some(observer) = self.net.observer()
        {
            observer(&Event::Refuse { link, to });
        }
        opened.map_err(place)
    }

    /// Asks the fault rules.
    async fn judge(&self, wanted: SocketAddr, to: SocketAddr) -> Result {
        if self.net.faults().is_empty() {
            return Ok(());
        }
        match self.net.faults().verdict(&Connect { from: self.interface.origin.clone(), wanted, to }) {
            Verdict::Delay(wait) => time::sleep(wait).await,
            Verdict::Fail(error) => return Err(error),
            _ => {}
        }
        Ok(())
    }

    async fn open_memory(&self, number: u64, wanted: SocketAddr, plan: Plan) -> Result<Connection> {
        let Plan { to, original, guard } = plan;
        let (here, there) = (self.ip(), to.ip());
        let mut delays = [None, None];
        let mut back = None;
        if let Some(latency) = self.net.latency()
            && here != there
        {
            let mut rng = self.net.seed().fork("latency").fork_index(number).rng();
            time::sleep(latency(here, there, &mut rng)).await;
            back = Some(latency(there, here, &mut rng));
            delays = [(there, here), (here, there)]
                .map(|(from, to)| Some(Delay { latency: latency.clone(), from, to, rng: rng.fork() }));
        }
        let knocked = self.knock(number, to, original, delays);
        if let Some(back) = back {
            time::sleep(back).await; // the answer, good or bad
        }
        let (end, local) = knocked?;
        let mut connection = Connection::new(Io::Memory(end), local, wanted, None);
        if let Some(guard) = guard {
            connection.keep(guard);
        }
        Ok(connection)
    }

    /// At the other's door: a link into its backlog, or a refusal.
    fn knock(
        &self,
        number: u64,
        to: SocketAddr,
        original: Option<SocketAddr>,
        delays: [Option<Delay>; 2],
    ) -> Result<(End, SocketAddr)> {
        let refused = |message| Error::new(Kind::Unavailable, message).at(to.to_string());
        let server = self.net.interface(to.ip()).ok_or_else(|| refused(UNREACHABLE))?;
        let backlog = server.ports.lock().listening.get(&to.port()).cloned().ok_or_else(|| refused(REFUSED))?;
        let local = SocketAddr::new(self.ip(), self.interface.ports.lock().ephemeral());
        let link = Link::new(number, self.net.buffer(), delays, self.net.observer().cloned());
        let end = End::new(link.clone(), Side::Client, self.scope.register(link.clone())?);
        if !backlog.push(Arrival { link, local: to, peer: local, original }) {
            end.discard();
            return Err(refused(REFUSED));
        }
        if let Some(observer) = self.net.observer() {
            observer(&Event::Connect { link: number, from: local, to, original });
        }
        Ok((end, local))
    }

    async fn open_tcp(&self, wanted: SocketAddr, plan: Plan) -> Result<Connection> {
        let Plan { to, original, guard } = plan;
        tcp::refuse_paused_time()?;
        let failed = |error| tcp::error(error, to);
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        let own = self.ip();
        // a loopback address reaches no other machine
        if !own.is_unspecified() && own.is_ipv4() == to.is_ipv4() && own.is_loopback() == to.ip().is_loopback() {
            socket.bind(SocketAddr::new(own, 0)).map_err(failed)?;
        }
        let intercepted = match original {
            Some(original) => Some(self.net.intercepted(socket.local_addr().map_err(failed)?, original)),
            None => None,
        };
        let stream = socket.connect(to).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let local = stream.local_addr().map_err(failed)?;
        let stream = tcp::Shared::new(stream);
        let entry = self.scope.register(stream.clone())?;
        let mut connection = Connection::new(Io::Tcp(tcp::End::new(stream, entry)), local, wanted, None);
        if let Some(intercepted) = intercepted {
            connection.keep(Box::new(intercepted));
        }
        if let Some(guard) = guard {
            connection.keep(guard);
        }
        Ok(connection)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("ip", &self.ip()).field("name", &self.name()).finish_non_exhaustive()
    }
}
