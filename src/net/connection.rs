//! An open byte stream.

use super::{link, tcp};
use std::{
    any::Any,
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An open byte stream between two hosts, in memory or over TCP alike.
///
/// - Bytes arrive in order, all of them, or the stream fails.
/// - Shutting down ends one direction: the peer reads to the end and may still write.
/// - Dropping it ends it in order, unless something was left unread or its scope was killed: then the peer sees a reset.
/// - A writer whose peer does not read waits once the buffer is full (64 KiB by default in memory).
/// - After a reset or a kill, both ends fail with `ConnectionReset`; a write to a peer that has closed fails with
///   `BrokenPipe` (over TCP perhaps only the next one).
///
/// **Cancel-safety**: that of tokio's streams: `read` and `write` lose nothing, `read_exact` and `write_all` may have
/// moved a part.
pub struct Connection {
    // first, so that the stream has ended before what is kept with it goes
    io: Io,
    local: SocketAddr,
    peer: SocketAddr,
    original: Option<SocketAddr>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

pub(super) enum Io {
    Memory(link::End),
    Tcp(tcp::End),
}

impl Connection {
    pub(super) fn new(io: Io, local: SocketAddr, peer: SocketAddr, original: Option<SocketAddr>) -> Self {
        Connection { io, local, peer, original, kept: Vec::new() }
    }

    /// This end's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address: for the client the one it asked for, even where that is virtual or intercepted.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The destination that the client meant, where an interception brought the connection here.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.original
    }

    /// Ends both directions at once; the peer sees a reset.
    pub fn reset(self) {
        match &self.io {
            Io::Memory(end) => end.reset(),
            Io::Tcp(end) => end.reset(),
        }
    }

    /// Keeps this until the connection is dropped: a lease, a permit, a count.
    pub fn keep(&mut self, guard: Box<dyn Any + Send + Sync>) {
        self.kept.push(guard);
    }
}

impl Connection {
    /// As `poll_read`; says whether the task is already registered for what comes next, so that it need not ask again.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        match &mut self.io {
            Io::Memory(end) => end.poll_read(cx, into, true),
            Io::Tcp(end) => end.poll_read(cx, into).map_ok(|()| false),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} - {})", self.local, self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Memory(end) => end.poll_read(cx, into, false).map_ok(drop),
            Io::Tcp(end) => end.poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Memory(end) => end.poll_write(cx, from),
            Io::Tcp(end) => end.poll_write(cx, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Memory(end) => {
                end.shutdown();
                Poll::Ready(Ok(()))
            }
            Io::Tcp(end) => end.poll_shutdown(cx),
        }
    }
}
