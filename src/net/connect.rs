//! How a host connects: names, interception, the directory, fault rules, and then the other's door.

use super::{
    Connect, Connection, Event, Host, REFUSED, Route, Srv, UNREACHABLE,
    connection::Io,
    directory,
    event::Side,
    link::{Delay, End, Link},
    listener::Arrival,
    tcp,
};
use crate::base::{Error, Kind, Result, Verdict, time};
use std::{
    any::Any,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::net::TcpSocket;

/// How a connection goes: where to, and what for.
struct Plan {
    to: SocketAddr,
    original: Option<SocketAddr>,
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Host {
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
        let origin = self.origin();
        let found = match self.net().directory() {
            Some(directory) => directory.resolve(origin, name).await.map_err(|error| error.at(name))?,
            None => {
                let named = origin.candidates(name).map(|name| self.net().named(&name)).find(|found| !found.is_empty());
                match named {
                    Some(found) => found,
                    None if self.net().is_tcp() => directory::system(name).await?,
                    None => Vec::new(),
                }
            }
        };
        if found.is_empty() { Err(directory::unknown(name)) } else { Ok(found) }
    }

    /// The places of a service (`_http._tcp.cart.shop`): its SRV records, as the network's [directory](super::Directory) has
    /// them.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown name; [`Kind::Unsupported`] where the network has no directory, or one without such
    /// records; what the directory says.
    pub async fn services(&self, name: &str) -> Result<Vec<Srv>> {
        match self.net().directory() {
            Some(directory) => directory.services(self.origin(), name).await.map_err(|error| error.at(name)),
            None => Err(directory::no_services(name)),
        }
    }

    /// Where a connection really goes: out through the proxy, or by the directory and in through the other's proxy.
    fn plan(&self, wanted: SocketAddr) -> Result<Plan> {
        let own = self.ip();
        if wanted.ip() == own {
            return Ok(Plan { to: wanted, original: None, guard: None });
        }
        let outbound = self.interface().intercepted().outbound;
        if let Some(port) = outbound
            && !self.is_exempt()
        {
            return Ok(Plan { to: SocketAddr::new(own, port), original: Some(wanted), guard: None });
        }
        let route = self.net().directory().map_or(Ok(Route::Direct), |it| it.route(self.origin(), wanted));
        let (to, guard) = match route? {
            Route::Direct => (wanted, None),
            Route::To { address, guard } => (address, guard),
        };
        let inbound = match self.net().interface(to.ip()) {
            Some(interface) if to.ip() != own => interface.intercepted().inbound,
            _ => None,
        };
        Ok(match inbound {
            Some(port) if port != to.port() => Plan { to: SocketAddr::new(to.ip(), port), original: Some(to), guard },
            _ => Plan { to, original: None, guard },
        })
    }

    /// Connects to one address.
    async fn open(&self, mut wanted: SocketAddr) -> Result<Connection> {
        let loopback = wanted.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) || wanted.ip() == Ipv6Addr::LOCALHOST;
        if loopback && !self.ip().is_unspecified() {
            wanted.set_ip(self.ip());
        }
        let place = |error: Error| error.at(wanted.to_string());
        self.attached().map_err(place)?;
        let plan = self.plan(wanted).map_err(place)?;
        let link = self.net().next_link();
        let to = plan.to;
        let opened = match self.judge(wanted, to).await {
            Ok(()) if self.net().is_tcp() => self.open_tcp(wanted, plan).await,
            Ok(()) => self.open_memory(link, wanted, plan).await,
            Err(error) => Err(error),
        };
        if opened.is_err()
            && !self.net().is_tcp()
            && let Some(observer) = self.net().observer()
        {
            observer(&Event::Refuse { link, to });
        }
        opened.map_err(place)
    }

    /// Asks the fault rules.
    async fn judge(&self, wanted: SocketAddr, to: SocketAddr) -> Result {
        if self.net().faults().is_empty() {
            return Ok(());
        }
        match self.net().faults().verdict(&Connect { from: self.origin().clone(), wanted, to }) {
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
        if let Some(latency) = self.net().latency()
            && here != there
        {
            let mut rng = self.net().seed().fork("latency").fork_index(number).rng();
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

    /// At the other's door: a link into its backlog, or a refusal. The delays are those to the client and to the server.
    fn knock(
        &self,
        number: u64,
        to: SocketAddr,
        original: Option<SocketAddr>,
        delays: [Option<Delay>; 2],
    ) -> Result<(End, SocketAddr)> {
        let refused = |message| Error::new(Kind::Unavailable, message).at(to.to_string());
        let server = self.net().interface(to.ip()).ok_or_else(|| refused(UNREACHABLE))?;
        let backlog = server.listening(to.port()).ok_or_else(|| refused(REFUSED))?;
        let local = self.interface().source();
        let [to_client, to_server] = delays;
        let link = Link::new(number, self.net().buffer(), self.net().observer().cloned());
        let end = End::new(link.clone(), Side::Client, self.scope().register(link.clone())?, to_server);
        if !backlog.push(Arrival { link, local: to, peer: local, original, delay: to_client }) {
            end.discard();
            return Err(refused(REFUSED));
        }
        if let Some(observer) = self.net().observer() {
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
            Some(original) => Some(self.net().intercepted(socket.local_addr().map_err(failed)?, original)),
            None => None,
        };
        let stream = socket.connect(to).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let local = stream.local_addr().map_err(failed)?;
        let stream = tcp::Shared::new(stream);
        let entry = self.scope().register(stream.clone())?;
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
