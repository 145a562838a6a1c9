//! The connections of a client: few, found again in a fixed order, and given up when idle.

use super::Body;
use crate::{
    base::{Deadline, Error, Kind, Result, sync::Lock, time},
    net::{Connection, Host},
};
use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Beyond so many targets, those that nobody uses right now are forgotten, idle connections and all.
const TARGETS: usize = 1024;

/// How a pool behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) idle_for: Duration,
    pub(super) idle: usize,
    pub(super) requests: usize,
    pub(super) connect: Duration,
}

/// All targets of one client.
pub(super) struct Pool {
    host: Host,
    limits: Limits,
    sweeping: AtomicBool,
    targets: Lock<BTreeMap<Box<str>, Arc<Target>>>,
}

/// The connections to one authority.
pub(super) struct Target {
    /// With its port.
    address: String,
    /// Last in, first out: the others may go. The oldest is in front.
    idle: Lock<VecDeque<Idle>>,
    /// One for all under HTTP/2. The lock is held while it is made, so that it is made once.
    shared: Mutex<Option<http2::SendRequest<Body>>>,
    /// One per request under way.
    room: Arc<Semaphore>,
}

struct Idle {
    since: Instant,
    sender: http1::SendRequest<Body>,
}

impl Target {
    /// Whether there is an open connection for all. One that is just being made counts.
    fn is_shared(&self) -> bool {
        self.shared.try_lock().map_or(true, |shared| shared.as_ref().is_some_and(|sender| !sender.is_closed()))
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until there is room for one more request.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit> {
        // a semaphore that nobody closes always gives
        self.room.clone().acquire_owned().await.map_err(|_| Kind::Closed.into())
    }
}

impl Pool {
    pub(super) fn new(host: Host, limits: Limits) -> Self {
        Pool { host, limits, sweeping: AtomicBool::new(false), targets: Lock::default() }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The target of an authority; without a port it is 80.
    pub(super) fn target(&self, authority: &http::uri::Authority) -> Arc<Target> {
        let mut targets = self.targets.lock();
        if let Some(target) = targets.get(authority.as_str()) {
            return target.clone();
        }
        if targets.len() >= TARGETS {
            targets.retain(|_, target| Arc::strong_count(target) > 1);
        }
        let target = Arc::new(Target {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            idle: Lock::default(),
            shared: Mutex::new(None),
            room: Arc::new(Semaphore::new(self.limits.requests)),
        });
        targets.insert(authority.as_str().into(), target.clone());
        target
    }

    /// A connection that is free, the last one given back first; else a new one. Whether it was used before.
    pub(super) async fn http1(&self, target: &Target) -> Result<(http1::SendRequest<Body>, bool)> {
        loop {
            let Some(Idle { since, sender }) = target.idle.lock().pop_back() else { break };
            if time::after(since, self.limits.idle_for) > time::now() && sender.is_ready() {
                return Ok((sender, true));
            }
        }
        let io = self.connect(target).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        self.host.scope().spawn(async move {
            let _ = connection.with_upgrades().await; // whoever waits for an answer is told why it will not come
        });
        Ok((sender, false))
    }

    /// The one connection; made anew where it has ended.
    pub(super) async fn http2(&self, target: &Target) -> Result<http2::SendRequest<Body>> {
        let mut shared = target.shared.lock().await;
        if let Some(sender) = &*shared
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let io = self.connect(target).await?;
        let (sender, connection) = http2::Builder::new(self.host.scope().clone())
            .timer(TokioTimer::new())
            .max_concurrent_reset_streams(1024)
            .handshake(TokioIo::new(io))
            .await?;
        self.host.scope().spawn(async move {
            let _ = connection.await; // as above
        });
        Ok(shared.insert(sender).clone())
    }

    async fn connect(&self, target: &Target) -> Result<Connection> {
        Deadline::within(self.limits.connect)
            .bound(self.host.connect(&target.address))
            .await
            .map_err(|late| Error::new(late.kind(), "no connection in time").at(&*target.address))?
    }

    /// Takes back a connection whose response is over, as soon as its request is as well: a server may answer before it
    /// has read all, and the next request must not wait for that.
    fn take_back(self: &Arc<Self>, target: &Arc<Target>, mut sender: http1::SendRequest<Body>) {
        if sender.is_closed() || self.limits.idle == 0 {
            return;
        }
        if sender.is_ready() {
            return self.keep(target, sender);
        }
        let (pool, target) = (Arc::downgrade(self), target.clone());
        self.host.scope().spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                pool.keep(&target, sender);
            }
        });
    }

    /// Keeps a connection that is free.
    fn keep(self: &Arc<Self>, target: &Target, sender: http1::SendRequest<Body>) {
        let mut idle = target.idle.lock();
        let oldest = if idle.len() >= self.limits.idle { idle.pop_front() } else { None };
        idle.push_back(Idle { since: time::now(), sender });
        drop(idle);
        drop(oldest);
        if !self.sweeping.load(Relaxed) && !self.sweeping.swap(true, Relaxed) {
            let (pool, idle_for) = (Arc::downgrade(self), self.limits.idle_for);
            self.host.scope().spawn(async move {
                let mut next = time::after(time::now(), idle_for);
                loop {
                    time::sleep_until(next).await;
                    let Some(found) = pool.upgrade().and_then(|pool| pool.sweep()) else { return };
                    next = found;
                }
            });
        }
    }

    /// Gives up what has been idle for too long, targets in their order, each from its oldest; forgets targets that
    /// nobody uses. When to look again; never, where nothing is left to look at or somebody else has begun to.
    fn sweep(&self) -> Option<Instant> {
        self.sweeping.store(false, Relaxed); // first: what is given back behind this look begins another sweep
        let now = time::now();
        let (mut next, mut stale) = (None::<Instant>, Vec::new());
        let mut targets = self.targets.lock();
        targets.retain(|_, target| {
            let mut idle = target.idle.lock();
            while let Some(oldest) = idle.front()
                && time::after(oldest.since, self.limits.idle_for) <= now
            {
                stale.extend(idle.pop_front());
            }
            let front = idle.front().map(|oldest| time::after(oldest.since, self.limits.idle_for));
            drop(idle);
            next = [next, front].into_iter().flatten().min();
            front.is_some() || Arc::strong_count(target) > 1 || target.is_shared()
        });
        drop(targets);
        drop(stale); // closes them: not under the lock
        next.filter(|_| !self.sweeping.swap(true, Relaxed))
    }
}

/// The body of a response; read to its end, it gives its connection back.
pub(super) struct Pooled {
    body: Incoming,
    home: Option<Home>,
}

/// Where a connection belongs. Dropped before its time, it closes the connection: the rest of the response would be in
/// the way of the next.
pub(super) struct Home {
    pub(super) pool: Arc<Pool>,
    pub(super) target: Arc<Target>,
    /// None under HTTP/2, where the connection is shared.
    pub(super) sender: Option<http1::SendRequest<Body>>,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Pooled {
    pub(super) fn new(body: Incoming, home: Home) -> Self {
        let mut pooled = Pooled { body, home: Some(home) };
        if pooled.body.is_end_stream() {
            pooled.settle();
        }
        pooled
    }

    pub(super) fn body(&self) -> &Incoming {
        &self.body
    }

    fn settle(&mut self) {
        if let Some(Home { pool, target, sender, permit }) = self.home.take() {
            if let Some(sender) = sender {
                pool.take_back(&target, sender);
            }
            drop(permit); // after the connection is back, so that whoever waits finds it
        }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Err(error)) => {
                let error = Error::from(error);
                Some(Err(match self.home.take() {
                    Some(home) => error.at(home.target.address()),
                    None => error,
                }))
            }
            frame => {
                if frame.is_none() || self.body.is_end_stream() {
                    self.settle();
                }
                frame.map(|frame| frame.map_err(Error::from))
            }
        })
    }
}
