//! Where connections arrive.

use super::{
    Connection, Host, Scope,
    connection::Io,
    event::Side,
    host::Interface,
    link::{Delay, End, Link},
    scope::SocketEntry,
    socket::{Cut, remember, wake},
    tcp,
};
use crate::base::{Error, Kind, Result, sync::Lock};
use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};
use tokio::net::TcpListener;

/// Listens on a port of a host.
///
/// Connections wait in a backlog (128 by default); where that is full, further ones are refused. Dropping the listener
/// refuses what comes and resets what waits.
pub struct Listener {
    address: SocketAddr,
    host: Host,
    source: Source,
}

pub(super) enum Source {
    Memory(Arc<Backlog>, SocketEntry),
    Tcp(Arc<tcp::Shared<TcpListener>>, SocketEntry),
}

impl Listener {
    pub(super) fn new(address: SocketAddr, host: Host, source: Source) -> Self {
        Listener { address, host, source }
    }

    /// Where it listens; the port is the real one where an ephemeral one was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The scope that its connections belong to. Servers spawn what serves them here, so that it dies with the
    /// container that listens.
    pub fn scope(&self) -> &Scope {
        self.host.scope()
    }

    /// The host it listens on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// [`Kind::Closed`] once the scope was killed, and nothing else: what fails a single connection is passed over.
    ///
    /// **Cancel-safety**: may be dropped at any time; no connection is lost.
    pub async fn accept(&mut self) -> Result<Connection> {
        match &self.source {
            Source::Memory(backlog, entry) => {
                let Arrival { link, local, peer, original, delay } =
                    std::future::poll_fn(|cx| backlog.poll(cx)).await.ok_or_else(|| self.closed())?;
                let entry = entry.scope().register(link.clone()).inspect_err(|_| link.cut())?;
                Ok(Connection::new(Io::Memory(End::new(link, Side::Server, entry, delay)), local, peer, original))
            }
            Source::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await.map_err(|_| self.closed())?;
                let _ = stream.set_nodelay(true); // fails only where the peer has gone already
                let original = self.host.net().take_original(peer);
                let stream = tcp::Shared::new(stream);
                let entry = self.scope().register(stream.clone()).inspect_err(|_| stream.cut())?;
                Ok(Connection::new(Io::Tcp(tcp::End::new(stream, entry)), self.address, peer, original))
            }
        }
    }

    fn closed(&self) -> Error {
        Error::new(Kind::Closed, "the container was killed").at(self.address.to_string())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        match &self.source {
            Source::Memory(backlog, entry) => {
                entry.remove();
                backlog.cut();
            }
            Source::Tcp(listener, entry) => {
                entry.remove();
                listener.cut();
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

/// A connection that nobody has accepted yet.
pub(super) struct Arrival {
    pub(super) link: Arc<Link>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) original: Option<SocketAddr>,
    /// On the way to the client.
    pub(super) delay: Option<Delay>,
}

/// Arrivals at one port, in order.
pub(super) struct Backlog {
    limit: usize,
    port: u16,
    interface: Weak<Interface>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arrival>,
    closed: bool,
    waker: Option<Waker>,
}

impl Backlog {
    pub(super) fn new(limit: usize, port: u16, interface: Weak<Interface>) -> Arc<Self> {
        Arc::new(Backlog { limit, port, interface, state: Lock::default() })
    }

    /// Lets it in, unless there is no room or nobody listens any more.
    pub(super) fn push(&self, arrival: Arrival) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.queue.len() >= self.limit {
            return false;
        }
        state.queue.push_back(arrival);
        let waker = state.waker.take();
        drop(state);
        wake([waker]);
        true
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Arrival>> {
        let mut state = self.state.lock();
        if let Some(arrival) = state.queue.pop_front() {
            return Poll::Ready(Some(arrival));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        remember(&mut state.waker, cx);
        Poll::Pending
    }
}

impl Cut for Backlog {
    /// The port is free again at once, even while a task outside of the scope still holds the listener.
    fn cut(&self) {
        let mut state = self.state.lock();
        let news = !std::mem::replace(&mut state.closed, true);
        let (queue, waker) = (std::mem::take(&mut state.queue), state.waker.take());
        drop(state);
        if news && let Some(interface) = self.interface.upgrade() {
            interface.free(self.port);
        }
        for arrival in queue {
            arrival.link.cut();
        }
        wake([waker]);
    }
}
