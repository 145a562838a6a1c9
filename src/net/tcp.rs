//! The same ends over TCP: what a kill reaches through its scope is shared with the holder, so that it takes effect at
//! once, whoever holds the end.

use super::{
    scope::SocketEntry,
    socket::{Cut, remember, wake},
};
use crate::base::{Error, Kind, Result, sync::Lock, time};
use std::{
    io::{self, ErrorKind, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// A socket that can be taken away from under its holder.
pub(super) struct Shared<S>(Lock<State<S>>);

struct State<S> {
    socket: Option<S>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<S> Shared<S> {
    pub(super) fn new(socket: S) -> Arc<Self> {
        Arc::new(Shared(Lock::new(State { socket: Some(socket), reader: None, writer: None })))
    }

    fn take(&self) -> Option<S> {
        let mut state = self.0.lock();
        let (socket, wakers) = (state.socket.take(), [state.reader.take(), state.writer.take()]);
        drop(state);
        wake(wakers);
        socket
    }
}

impl Cut for Shared<TcpStream> {
    fn cut(&self) {
        if let Some(stream) = self.take() {
            let _ = stream.set_zero_linger(); // then the drop sends a reset; an error means that the peer has, already
        }
    }
}

impl Cut for Shared<TcpListener> {
    fn cut(&self) {
        drop(self.take());
    }
}

impl Shared<TcpListener> {
    /// Waits for a connection. Failures of a single connection are passed over; where the system has no room for
    /// another one, it waits a second. Fails when cut.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let accepted = std::future::poll_fn(|cx| {
                let mut state = self.0.lock();
                let Some(listener) = &state.socket else { return Poll::Ready(None) };
                let accepted = listener.poll_accept(cx);
                if accepted.is_pending() {
                    remember(&mut state.reader, cx);
                }
                accepted.map(Some)
            });
            match accepted.await {
                None => return Err(ErrorKind::ConnectionAborted.into()),
                Some(Ok(accepted)) => return Ok(accepted),
                Some(Err(error)) => match error.kind() {
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused => {}
                    _ => {
                        tracing::warn!(%error, "cannot accept, trying again in a second");
                        time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
    }
}

/// One end of a TCP connection.
pub(super) struct End {
    stream: Arc<Shared<TcpStream>>,
    entry: SocketEntry,
}

impl End {
    pub(super) fn new(stream: Arc<Shared<TcpStream>>, entry: SocketEntry) -> Self {
        End { stream, entry }
    }

    pub(super) fn reset(&self) {
        self.stream.cut();
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.stream.0.lock();
        let Some(stream) = &mut state.socket else { return Poll::Ready(Err(ErrorKind::ConnectionReset.into())) };
        let read = Pin::new(stream).poll_read(cx, into);
        if read.is_pending() {
            remember(&mut state.reader, cx);
        }
        read
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writing(cx, |stream, cx| stream.poll_write_vectored(cx, from))
    }

    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.writing(cx, |stream, cx| stream.poll_shutdown(cx))) {
            // the peer was faster: there is nothing left to end
            Err(error) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())),
            ended => Poll::Ready(ended),
        }
    }

    fn writing<T>(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.stream.0.lock();
        let Some(stream) = &mut state.socket else { return Poll::Ready(Err(ErrorKind::ConnectionReset.into())) };
        let written = write(Pin::new(stream), cx);
        if written.is_pending() {
            remember(&mut state.writer, cx);
        }
        written
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.entry.remove() {
            self.stream.cut();
        }
    }
}

/// Refuses a runtime whose clock is paused: it would jump ahead whenever all wait for the network, and every time-out
/// would fire.
pub(super) fn refuse_paused_time() -> Result {
    // a clock that runs differs at the second look, or soon after where it ticks coarsely
    let first = time::now();
    if (0..10_000).all(|_| time::now() == first) {
        return Err(Error::new(
            Kind::Unsupported,
            "TCP needs time that runs: this runtime's is paused, use Net::memory()",
        ));
    }
    Ok(())
}

/// A failure of the system's as one of ours, in the words that the network in memory uses too.
pub(super) fn error(error: io::Error, place: impl ToString) -> Error {
    let ours = match error.kind() {
        ErrorKind::ConnectionRefused => Error::new(Kind::Unavailable, super::REFUSED),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Error::new(Kind::Unavailable, super::UNREACHABLE)
        }
        ErrorKind::AddrInUse => Error::new(Kind::Conflict, super::IN_USE),
        _ => Error::from(error),
    };
    ours.at(place.to_string())
}
