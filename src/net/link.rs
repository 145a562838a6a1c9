//! A connection in memory: two pipes and their two ends. One allocation each, buffers grow on demand.

use super::{
    event::{Event, Side},
    pipe::{Pipe, Read},
    scope::SocketEntry,
    socket::{Cut, remember, wake},
};
use crate::base::{Rng, sync::Lock, time};
use std::{
    future::Future,
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::ReadBuf,
    task::coop::poll_proceed,
    time::{Instant, Sleep},
};

/// Sees everything that crosses the network.
pub(super) type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
/// Draws the latency from one address to another.
pub(super) type Latency = Arc<dyn Fn(IpAddr, IpAddr, &mut Rng) -> Duration + Send + Sync>;

/// Draws a latency for each write of one direction. Its end holds it, so that it is drawn under no lock: the closure is
/// the user's, and may do what it likes to the network.
pub(super) struct Delay {
    pub(super) latency: Latency,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) rng: Rng,
}

impl Delay {
    fn arrival(&mut self) -> Instant {
        time::after(time::now(), (self.latency)(self.from, self.to, &mut self.rng))
    }
}

/// Both directions: `halves[side]` is what that side reads.
pub(super) struct Link {
    number: u64,
    limit: usize,
    halves: [Lock<Half>; 2],
    observer: Option<Observer>,
}

#[derive(Default)]
struct Half {
    pipe: Pipe,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Link {
    pub(super) fn new(number: u64, limit: usize, observer: Option<Observer>) -> Arc<Self> {
        Arc::new(Link { number, limit, halves: Default::default(), observer })
    }

    fn note(&self, event: impl FnOnce(u64) -> Event<'static>) {
        if let Some(observer) = &self.observer {
            observer(&event(self.number));
        }
    }

    fn half(&self, side: usize) -> &Lock<Half> {
        let [client, server] = &self.halves;
        if side == 0 { client } else { server }
    }
}

impl Cut for Link {
    fn cut(&self) {
        let mut news = false;
        for half in &self.halves {
            let mut half = half.lock();
            news |= half.pipe.reset();
            let wakers = [half.reader.take(), half.writer.take()];
            drop(half);
            wake(wakers);
        }
        if news {
            self.note(|link| Event::Reset { link });
        }
    }
}

/// One end of a link.
pub(super) struct End {
    link: Arc<Link>,
    side: usize,
    entry: SocketEntry,
    /// On the way to the other side.
    delay: Option<Box<Delay>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl End {
    pub(super) fn new(link: Arc<Link>, side: Side, entry: SocketEntry, delay: Option<Delay>) -> Self {
        End { link, side: side as usize, entry, delay: delay.map(Box::new), sleep: None }
    }

    /// When what is sent now arrives, if anything would be: drawn with no lock held.
    fn arrival(&mut self, sends: impl FnOnce(&Pipe) -> bool) -> Option<Instant> {
        let delay = self.delay.as_mut()?;
        let sends = sends(&self.link.half(1 - self.side).lock().pipe);
        sends.then(|| delay.arrival())
    }

    pub(super) fn reset(&self) {
        self.link.cut();
    }

    /// Nobody let it in: it ends without a word.
    pub(super) fn discard(self) {
        for half in &self.link.halves {
            half.lock().pipe.reset();
        }
    }

    /// Reads; says whether the task is already registered for what comes next, so that it need not ask again.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        register: bool,
    ) -> Poll<io::Result<bool>> {
        let budget = ready!(poll_proceed(cx));
        let mut half = self.link.half(self.side).lock();
        loop {
            if half.pipe.is_delayed() {
                half.pipe.arrive(time::now());
            }
            match half.pipe.read(self.link.limit, into) {
                Ok((Read::Wait(arrival), _)) => {
                    if let Some(at) = arrival {
                        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                        if sleep.deadline() != at {
                            sleep.as_mut().reset(at);
                        }
                        if sleep.as_mut().poll(cx).is_ready() {
                            continue;
                        }
                    }
                    remember(&mut half.reader, cx);
                    return Poll::Pending;
                }
                Ok((read @ (Read::Bytes | Read::End), room)) => {
                    let writer = if room { half.writer.take() } else { None };
                    let registered = register && read == Read::Bytes && half.pipe.is_quiet();
                    if registered {
                        remember(&mut half.reader, cx);
                    }
                    drop(half);
                    wake([writer]);
                    budget.made_progress();
                    return Poll::Ready(Ok(registered));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        let limit = self.link.limit;
        let arrival = self.arrival(|pipe| pipe.takes(limit, from));
        let mut half = self.link.half(1 - self.side).lock();
        let taken = match half.pipe.write(limit, from, arrival) {
            Ok(Some(taken)) => taken,
            Ok(None) => {
                remember(&mut half.writer, cx);
                return Poll::Pending;
            }
            Err(error) => return Poll::Ready(Err(error)),
        };
        let reader = half.reader.take();
        drop(half);
        if let Some(observer) = &self.link.observer {
            self.tell(&**observer, from, taken);
        }
        wake([reader]);
        budget.made_progress();
        Poll::Ready(Ok(taken))
    }

    fn tell(&self, observer: &dyn Fn(&Event<'_>), from: &[IoSlice<'_>], mut taken: usize) {
        for part in from {
            let bytes = part.get(..taken).unwrap_or(part);
            if !bytes.is_empty() {
                observer(&Event::Write { link: self.link.number, side: Side::of(self.side), bytes });
            }
            taken -= bytes.len();
        }
    }

    /// Half-close: the peer reads to the end, and may still write.
    pub(super) fn shutdown(&mut self) {
        let arrival = self.arrival(Pipe::is_open);
        let mut half = self.link.half(1 - self.side).lock();
        let news = half.pipe.end(arrival);
        let reader = half.reader.take();
        drop(half);
        wake([reader]);
        if news {
            self.link.note(|link| Event::End { link, side: Side::of(self.side) });
        }
    }
}

impl Drop for End {
    /// As TCP does: closing with unread data resets, and so does a kill.
    fn drop(&mut self) {
        let killed = self.entry.remove();
        let mut half = self.link.half(self.side).lock();
        let unread = half.pipe.deafen();
        let writer = half.writer.take();
        drop(half);
        wake([writer]);
        if killed || unread { self.link.cut() } else { self.shutdown() }
    }
}
