//! Echoing streams, straight and through a proxy, under kills, resets, refusals, delays, stalls and detached hosts: what
//! arrives is in order and whole, or ends in a reset; an end in order was meant; nothing is left.

use crate::schedule::{Hits, Subject, alive, simulate};
use seedpod::{
    base::{Error, Faults, Kind, Rng, Seed, Verdict, fault::Guard, hash, sync::Lock, time},
    net::{Connect, Connection, Event, Host, HostOptions, Net, splice},
};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

const SUBJECT: Subject = Subject {
    test: "net::schedules_streams",
    faults: &[
        "abandoned stream",
        "client killed",
        "connect delayed",
        "connect refused",
        "half-close",
        "host detached",
        "latency",
        "proxy killed",
        "reset",
        "server killed",
        "server stalled",
    ],
    one_in: 1,
    usual: 200,
};

#[test]
fn schedules_streams() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

fn host(net: &Net, name: &str) -> Host {
    net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap()
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What all parts of a schedule know of each other.
#[derive(Default)]
struct Ledger {
    streams: AtomicU64,
    /// How many bytes the streams sent that their clients ended in order.
    ended: Lock<BTreeMap<u64, u64>>,
    hits: Lock<Vec<&'static str>>,
    /// Until when the servers do not read.
    stalled: Lock<Option<time::Instant>>,
    healing: AtomicBool,
    whole: AtomicU64,
}

impl Ledger {
    fn hit_if(&self, met: bool, fault: &'static str) {
        if met {
            self.hits.lock().push(fault);
        }
    }

    async fn unstalled(&self) {
        loop {
            let until = *self.stalled.lock();
            match until {
                Some(until) if until > time::now() => time::sleep_until(until).await,
                _ => return,
            }
        }
    }
}

/// The byte at this place of this stream.
fn byte(stream: u64, at: u64) -> u8 {
    (stream.wrapping_mul(31) ^ at.wrapping_mul(7) ^ (at >> 8)) as u8
}

fn check(stream: u64, at: &mut u64, bytes: &[u8]) {
    for got in bytes {
        assert_eq!(*got, byte(stream, *at), "byte {at} of stream {stream}");
        *at += 1;
    }
}

async fn echo(mut connection: Connection, ledger: Arc<Ledger>) {
    let Ok(stream) = connection.read_u64().await else { return };
    let (mut space, mut at) = ([0; 97], 0);
    loop {
        ledger.unstalled().await;
        match connection.read(&mut space).await {
            Ok(0) => {
                let meant = ledger.ended.lock().get(&stream).copied();
                assert_eq!(meant, Some(at), "stream {stream} ended in order, and its client did not mean that");
                return;
            }
            Ok(read) => {
                check(stream, &mut at, &space[..read]);
                if connection.write_all(&space[..read]).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return;
            }
        }
    }
}

/// Accepts until it is killed; each connection has a task, which echoes or passes on.
async fn serve(host: Host, ledger: Arc<Ledger>, onto: Option<&'static str>) {
    let mut listener = match host.listen(80).await {
        Ok(listener) => listener,
        // closed: killed before it listened; unavailable: its host was detached before it did; in use would be a leak
        Err(error) => {
            return assert!(matches!(error.kind(), Kind::Closed | Kind::Unavailable), "the port is free: {error}");
        }
    };
    loop {
        ledger.unstalled().await;
        let Ok(connection) = listener.accept().await else { return };
        match onto {
            None => drop(host.scope().spawn(echo(connection, ledger.clone()))),
            Some(target) => {
                let own = host.clone();
                host.scope().spawn(async move {
                    match own.connect(target).await {
                        Ok(up) => drop(splice(connection, up).await),
                        Err(_) => connection.reset(),
                    }
                });
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Whole,
    Reset,
    Abandon,
}

/// One stream, as its client sees it.
struct Stream<'a> {
    number: u64,
    size: u64,
    sent: AtomicU64,
    got: AtomicU64,
    ledger: &'a Ledger,
}

/// Sends one stream and reads what comes back. Well: it came back whole, or was given up as this manner has it.
async fn talk(host: &Host, target: &str, manner: Manner, mut rng: Rng, ledger: &Ledger) -> Result<(), Error> {
    let mut connection = host.connect(target).await?;
    let number = ledger.streams.fetch_add(1, Relaxed);
    connection.write_u64(number).await?;
    let stream = Stream { number, size: rng.below(400), sent: AtomicU64::new(0), got: AtomicU64::new(0), ledger };
    let (mut read, mut write) = tokio::io::split(connection);
    let ended = match manner {
        Manner::Whole => {
            let (ended, sent) = tokio::join!(stream.receive(&mut read, u64::MAX), stream.send(&mut write, true, rng));
            ended.and_then(|ended| sent.map(|()| ended))
        }
        // nobody may read any more, so that the sending must be given up as well
        _ => {
            let limit = rng.below(200);
            tokio::select! {
                biased;
                Err(error) = stream.receive(&mut read, limit) => Err(error),
                sent = async { tokio::join!(stream.send(&mut write, false, rng), time::sleep(milliseconds(30))).0 } => {
                    sent.map(|()| false)
                }
                () = time::sleep(milliseconds(40)) => Ok(false),
            }
        }
    };
    let (sent, got) = (stream.sent.load(Relaxed), stream.got.load(Relaxed));
    let connection = read.unsplit(write);
    match (manner, ended) {
        (_, Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "stream {number}");
            return Err(error.into());
        }
        (Manner::Whole, Ok(ended)) => {
            assert!(ended && got == stream.size, "stream {number} ended in order, and not whole");
            ledger.whole.fetch_add(1, Relaxed);
        }
        (Manner::Reset, _) => {
            ledger.hit_if(sent > got, "reset");
            connection.reset();
        }
        (Manner::Abandon, _) => {
            ledger.hit_if(sent > got, "abandoned stream");
            ledger.ended.lock().insert(number, sent);
        }
    }
    Ok(())
}

impl Stream<'_> {
    async fn send(&self, write: &mut WriteHalf<Connection>, end: bool, mut rng: Rng) -> std::io::Result<()> {
        while self.sent.load(Relaxed) < self.size {
            let at = self.sent.load(Relaxed);
            let piece = (1 + rng.below(150)).min(self.size - at);
            let bytes: Vec<u8> = (at..at + piece).map(|at| byte(self.number, at)).collect();
            self.sent.fetch_add(write.write(&bytes).await? as u64, Relaxed);
            if rng.chance(0.2) {
                time::sleep(milliseconds(rng.below(4))).await;
            }
        }
        if end {
            self.ledger.hit_if(self.size > self.got.load(Relaxed), "half-close");
            self.ledger.ended.lock().insert(self.number, self.size);
            write.shutdown().await?;
        }
        Ok(())
    }

    /// Reads up to the limit or the end; whether it came to the end.
    async fn receive(&self, read: &mut ReadHalf<Connection>, limit: u64) -> std::io::Result<bool> {
        let (mut space, mut at) = ([0; 61], 0);
        while at < limit {
            match read.read(&mut space).await? {
                0 => return Ok(true),
                bytes => check(self.number, &mut at, &space[..bytes]),
            }
            self.got.store(at, Relaxed);
            assert!(at <= self.sent.load(Relaxed), "more came back than was sent");
        }
        Ok(false)
    }
}

async fn client(host: Host, mut rng: Rng, ledger: Arc<Ledger>) {
    while !ledger.healing.load(Relaxed) {
        let target = *rng.choose(&["one:80", "two:80", "proxy:80"]).unwrap();
        let manner =
            *rng.choose(&[Manner::Whole, Manner::Whole, Manner::Whole, Manner::Reset, Manner::Abandon]).unwrap();
        if talk(&host, target, manner, rng.fork(), &ledger).await.is_err() {
            time::sleep(milliseconds(1)).await;
        }
    }
}

/// A host and what runs on it now.
struct Role {
    host: Host,
    run: Box<dyn Fn(&Host)>,
    /// The scopes before.
    past: Vec<Host>,
}

impl Role {
    fn new(host: Host, run: impl Fn(&Host) + 'static) -> Self {
        run(&host);
        Role { host, run: Box::new(run), past: Vec::new() }
    }

    fn again(&mut self, net: &Net) {
        let next = self.host.scoped(net.scope());
        self.past.push(std::mem::replace(&mut self.host, next));
        (self.run)(&self.host);
    }
}

fn network(seed: Seed, rng: &mut Rng, ledger: &Arc<Ledger>, course: &Arc<AtomicU64>, faults: &Faults<Connect>) -> Net {
    let course = course.clone();
    let observer = move |event: &Event<'_>| {
        let so_far = course.load(Relaxed);
        course.store(hash::of(format!("{so_far} {event}").as_bytes()), Relaxed);
    };
    let net = Net::memory().seed(seed).buffer(1 + rng.below(200) as usize).observe(observer).faults(faults.clone());
    let net = if rng.chance(0.7) { net.perturb() } else { net };
    let latency = rng.chance(0.6);
    ledger.hit_if(latency, "latency");
    if latency { net.latency(|_, _, rng| milliseconds(rng.below(4))) } else { net }.build()
}

/// A rule that fails or delays some connects.
fn rule(faults: &Faults<Connect>, mut rng: Rng, ledger: &Arc<Ledger>) -> Guard {
    let (ledger, delay) = (ledger.clone(), rng.chance(0.5).then(|| milliseconds(1 + rng.below(10))));
    faults.rule(move |_: &Connect| match delay {
        _ if rng.chance(0.5) => Verdict::Pass,
        Some(delay) => {
            ledger.hit_if(true, "connect delayed");
            Verdict::Delay(delay)
        }
        None => {
            ledger.hit_if(true, "connect refused");
            Verdict::Fail(Error::new(Kind::Unavailable, "cut off"))
        }
    })
}

async fn schedule(seed: Seed, hits: &mut Hits) -> (u64, u64) {
    let mut rng = seed.fork("schedule").rng();
    let (ledger, course, faults) = (Arc::<Ledger>::default(), Arc::<AtomicU64>::default(), Faults::default());
    let before = alive();
    let net = network(seed, &mut rng, &ledger, &course, &faults);
    let mut roles: Vec<_> = [("one", None), ("two", None), ("proxy", Some("one:80"))]
        .map(|(name, onto)| {
            let ledger = ledger.clone();
            let run = move |host: &Host| drop(host.scope().spawn(serve(host.clone(), ledger.clone(), onto)));
            Role::new(host(&net, name), run)
        })
        .into();
    for number in 0..3 {
        let (ledger, draws) = (ledger.clone(), Lock::new(rng.fork()));
        let run = move |host: &Host| {
            let rng = draws.lock().fork();
            host.scope().spawn(client(host.clone(), rng, ledger.clone()));
        };
        roles.push(Role::new(host(&net, &format!("client-{number}")), run));
    }
    let mut guards = Vec::new();
    for _ in 0..4 + rng.below(5) {
        time::sleep(milliseconds(rng.below(10))).await;
        for _ in 0..rng.below(20) {
            tokio::task::yield_now().await;
        }
        fault(&net, &mut roles, &mut guards, &faults, &mut rng, &ledger).await;
    }
    drop(guards);
    heal(&net, &roles, &ledger, &mut rng).await;
    end(&net, roles, &mut rng, before).await;
    for fault in ledger.hits.lock().drain(..) {
        hits.hit(fault);
    }
    (course.load(Relaxed), ledger.whole.load(Relaxed))
}

async fn fault(
    net: &Net,
    roles: &mut [Role],
    guards: &mut Vec<Guard>,
    faults: &Faults<Connect>,
    rng: &mut Rng,
    ledger: &Arc<Ledger>,
) {
    match rng.below(8) {
        0 => guards.push(rule(faults, rng.fork(), ledger)),
        1 => drop((guards.pop(), guards.push(rule(faults, rng.fork(), ledger)))),
        2 => {
            ledger.hit_if(roles[..2].iter().any(|role| role.host.scope().sockets() > 1), "server stalled");
            *ledger.stalled.lock() = Some(time::now() + milliseconds(rng.below(15)));
        }
        3 => {
            // its address goes to another, while its streams live on
            let server = &mut roles[rng.below(2) as usize];
            let (ip, name) = (server.host.ip(), server.host.name().to_owned());
            ledger.hit_if(server.host.scope().sockets() > 1, "host detached");
            server.host.detach();
            let next = net.host(HostOptions { ip: Some(ip), name, ..Default::default() }).unwrap();
            server.past.push(std::mem::replace(&mut server.host, next));
            (server.run)(&server.host);
        }
        _ => {
            let victim = rng.below(roles.len() as u64) as usize;
            let scope = roles[victim].host.scope().clone();
            let (name, idle) = match victim {
                0 | 1 => ("server killed", 1),
                2 => ("proxy killed", 1),
                _ => ("client killed", 0),
            };
            ledger.hit_if(scope.sockets() > idle, name);
            scope.kill();
            if rng.chance(0.5) {
                scope.gone().await;
            }
            time::sleep(milliseconds(rng.below(4))).await;
            roles[victim].again(net);
        }
    }
}

/// Without faults every client comes to its end, and whatever it then sends comes back.
async fn heal(net: &Net, roles: &[Role], ledger: &Arc<Ledger>, rng: &mut Rng) {
    ledger.healing.store(true, Relaxed);
    for role in &roles[3..] {
        tokio::time::timeout(Duration::from_secs(60), role.host.scope().gone()).await.expect("a client hangs");
        let own = role.host.scoped(net.scope());
        for target in ["one:80", "two:80", "proxy:80"] {
            let talking = talk(&own, target, Manner::Whole, rng.fork(), ledger);
            tokio::time::timeout(Duration::from_secs(60), talking).await.expect("a stream hangs").unwrap();
        }
        assert_eq!((own.scope().tasks(), own.scope().sockets()), (0, 0));
    }
}

/// All is killed: no task, no socket, no port is left, and no task has panicked.
async fn end(net: &Net, mut roles: Vec<Role>, rng: &mut Rng, before: usize) {
    rng.shuffle(&mut roles);
    for role in &roles {
        role.host.scope().kill();
        role.past.iter().for_each(|past| past.scope().kill());
    }
    for role in &roles {
        for host in role.past.iter().chain([&role.host]) {
            let scope = host.scope();
            scope.gone().await;
            assert_eq!((scope.tasks(), scope.sockets(), scope.panics()), (0, 0, 0), "{}", host.name());
        }
        role.host.scoped(net.scope()).listen(80).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(alive(), before, "tasks are left");
}
