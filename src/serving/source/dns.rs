//! Endpoints from DNS: a name that is resolved again and again.

use super::{
    Family, Member, Resolver, Srv,
    answer::{self, MEMBERS_MAX},
    refresh::{Found, Pace, Refresh},
};
use crate::{
    base::{
        Backoff, Deadline, Error, Kind, Result, Rng, Seed,
        sync::Lock,
        time::{self, Instant, sleep},
    },
    store::{Change, Entry, Key},
};
use futures::{Stream, StreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// How many targets of SRV records are resolved at a time.
const TARGETS_AT_ONCE: usize = 32;
/// How many are resolved at all.
const TARGETS_MAX: usize = 256;

/// The endpoints of a name, as DNS has them: a source for [`Endpoints::follow`](super::super::Endpoints::follow).
///
/// Use it where replicas stand behind a name: a headless service, a service outside of the cluster. Each address is an
/// endpoint under the key `address:port`.
///
/// ```
/// use seedpod::net::{HostOptions, Net};
/// use seedpod::serving::{Dns, Endpoints, Member};
/// use std::{future::IntoFuture, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let net = Net::memory().build();
/// let one = net.host(HostOptions { name: "cart".into(), ..HostOptions::default() })?;
/// let client = net.host(HostOptions::default())?;
///
/// let endpoints = Endpoints::named("cart");
/// let cart = Dns::new(client.clone(), "cart:7070")?;
/// tokio::spawn(endpoints.follow(cart.changes(), Member::of, |address| *address).into_future());
/// tokio::time::sleep(Duration::from_secs(1)).await;
/// assert_eq!(*endpoints.keys()[0], *format!("{}:7070", one.ip()));
/// # seedpod::Result::<()>::Ok(()) }).unwrap();
/// ```
///
/// **Guarantees**
/// - When a question fails (no answer in time, a server's failure), the last good answer stays, however long, and
///   [`Resolution`] tells the error.
/// - That the name is not there, or has no address, is believed when it was said three times in a row
///   ([`absent_after`](Dns::absent_after)), so that one wrong answer empties no set; then the set is empty.
/// - Of SRV records, the lowest priority of which any target has an address is used. The addresses of a target share its
///   weight. Weight 0 is a tenth of weight 1 beside others, and equal among its like. A target that does not resolve
///   keeps its last addresses.
/// - Bounded: 4,096 endpoints, the lowest addresses in whatever order they come, and 256 targets. Names that are none and
///   addresses where nobody can be are left out. What was left out beyond the bounds is told as an error.
///
/// **Not guaranteed**: that a higher priority number takes over where the endpoints of a lower one are down: only what
/// DNS says counts here.
///
/// # Defaults
///
/// | setting | default | from |
/// | --- | --- | --- |
/// | [`interval`](Dns::interval), where the resolver tells no time to live | 5 s | Envoy's `dns_refresh_rate` |
/// | [`ttl`](Dns::ttl), between which a time to live is obeyed | 1 s to 300 s | ours: no storm, and no day that a move takes |
/// | [`jitter`](Dns::jitter) | up to a tenth later | ours, added as Envoy's `dns_jitter` is |
/// | [`timeout`](Dns::timeout) of a question | 5 s | `resolv.conf` |
/// | [`failed`](Dns::failed), before it is asked again after a failure | 1 s, doubling to 30 s | gRPC's first back-off and its least time between resolutions |
/// | [`absent_after`](Dns::absent_after) | 3 | a probe's failure threshold in Kubernetes |
/// | [`family`](Dns::family) | all addresses | |
#[must_use = "nothing is asked until its changes are followed"]
pub struct Dns<R> {
    resolver: R,
    name: Arc<str>,
    /// None for SRV records, which have their own.
    port: Option<u16>,
    family: Family,
    pace: Pace,
    timeout: Duration,
    rng: Rng,
    resolution: Resolution,
}

impl<R: Resolver> Dns<R> {
    /// The addresses of a host, all with this port: `cart.shop:7070`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is not `name:port`.
    pub fn new(resolver: R, host: &str) -> Result<Self> {
        let wrong = || Error::new(Kind::Invalid, "not name:port").at(host);
        let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        Dns::asking(resolver, name, Some(port))
    }

    /// The places of a service, as its SRV records have them: `_http._tcp.cart.shop`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where it is not a name.
    pub fn srv(resolver: R, service: &str) -> Result<Self> {
        Dns::asking(resolver, service, None)
    }

    fn asking(resolver: R, name: &str, port: Option<u16>) -> Result<Self> {
        answer::check(name)?;
        let second = Duration::from_secs(1);
        let pace = Pace {
            interval: 5 * second,
            floor: second,
            ceiling: 300 * second,
            jitter: 0.1,
            failed: Backoff::new(second, 30 * second),
            absent_after: 3,
        };
        Ok(Dns {
            resolver,
            name: name.into(),
            port,
            family: Family::default(),
            pace,
            timeout: 5 * second,
            rng: Seed::ambient().fork("dns").fork(name).rng(),
            resolution: Resolution::default(),
        })
    }

    /// How long after an answer it is asked again, where the resolver tells no time to live; at least 1 ms.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.pace.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// A shorter time to live counts as the floor (at least 1 ms), a longer one as the ceiling.
    pub fn ttl(mut self, floor: Duration, ceiling: Duration) -> Self {
        self.pace.floor = floor.max(Duration::from_millis(1));
        self.pace.ceiling = ceiling.max(self.pace.floor);
        self
    }

    /// By how much of itself each wait is longer at most, drawn anew each time: from 0 to 1.
    pub fn jitter(mut self, part: f64) -> Self {
        self.pace.jitter = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// How long one question may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        Dns { timeout, ..self }
    }

    /// How long after a failure it is asked again: `first`, at least 1 ms, then doubling to `max`.
    pub fn failed(mut self, first: Duration, max: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.pace.failed = Backoff::new(first, max.max(first));
        self
    }

    /// How many times in a row it must be said that there is nothing before that is believed: 1 for at once,
    /// [`u32::MAX`] for never.
    pub fn absent_after(mut self, times: u32) -> Self {
        self.pace.absent_after = times.max(1);
        self
    }

    /// Which addresses count.
    pub fn family(self, family: Family) -> Self {
        Dns { family, ..self }
    }

    /// What its jitter is drawn from.
    pub fn seed(self, seed: Seed) -> Self {
        Dns { rng: seed.fork("dns").rng(), ..self }
    }

    /// What becomes of its questions: to look at while its changes are followed.
    pub fn resolution(&self) -> Resolution {
        self.resolution.clone()
    }

    /// Its endpoints, told as a whole whenever they change; nothing before the first good answer. It never ends, and
    /// asks only while it is polled.
    pub fn changes(self) -> impl Stream<Item = Vec<Change<Member<SocketAddr>>>> + Send + 'static {
        let asking =
            Asking { refresh: Refresh::default(), ips: BTreeMap::new(), wait: Duration::ZERO, told: 0, dns: self };
        stream::unfold(asking, |mut asking| async move { Some((asking.next().await, asking)) })
    }
}

impl<R> fmt::Debug for Dns<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

struct Asking<R> {
    dns: Dns<R>,
    refresh: Refresh,
    /// The last addresses of each target.
    ips: BTreeMap<String, Vec<IpAddr>>,
    wait: Duration,
    told: u64,
}

impl<R: Resolver> Asking<R> {
    async fn next(&mut self) -> Vec<Change<Member<SocketAddr>>> {
        loop {
            sleep(self.wait).await;
            let found = match self.dns.port {
                Some(port) => self.hosts(port).await,
                None => self.services().await,
            };
            let dns = &mut self.dns;
            let found = found.map_err(|error| error.at(dns.name.clone()));
            let next = self.refresh.take(found, &dns.pace, &mut dns.rng);
            self.wait = next.wait;
            dns.resolution.note(&self.refresh);
            if next.changed {
                self.told += 1;
                return vec![self.tell()];
            }
        }
    }

    async fn hosts(&self, port: u16) -> Result<Found> {
        let dns = &self.dns;
        let records = Deadline::within(dns.timeout).bound(dns.resolver.addresses(&dns.name)).await??;
        let (members, cut) = answer::hosts(&records.list, port, dns.family);
        Ok(Found { trouble: cut.then(too_many), members, ttl: records.ttl })
    }

    async fn services(&mut self) -> Result<Found> {
        let dns = &self.dns;
        let records = Deadline::within(dns.timeout).bound(dns.resolver.services(&dns.name)).await??;
        let wanted: BTreeSet<_> = records.list.iter().filter_map(answer::target).collect();
        let mut trouble = (wanted.len() > TARGETS_MAX)
            .then(|| Error::new(Kind::Overloaded, format!("{} targets are more than {TARGETS_MAX}", wanted.len())));
        let wanted: Vec<_> = wanted.into_iter().take(TARGETS_MAX).collect();
        let ask = |name: String| async {
            let asked = async {
                answer::check(&name)?;
                Deadline::within(dns.timeout).bound(dns.resolver.addresses(&name)).await?
            };
            let answer = asked.await;
            (name, answer)
        };
        let answers: Vec<_> = stream::iter(wanted).map(ask).buffered(TARGETS_AT_ONCE).collect().await;
        let mut ips = BTreeMap::new();
        let mut ttl = records.ttl;
        for (name, answer) in answers {
            match answer {
                Ok(found) => {
                    ttl = ttl.into_iter().chain(found.ttl).min();
                    ips.insert(name, found.list);
                }
                Err(error) => {
                    let last = self.ips.remove(&name).filter(|_| !error.is_not_found());
                    trouble.get_or_insert_with(|| error.at(name.as_str()));
                    ips.extend(last.map(|last| (name, last)));
                }
            }
        }
        self.ips = ips;
        let (members, cut) = answer::services(&records.list, &self.ips, self.dns.family);
        if members.is_empty() && records.list.iter().any(|record: &Srv| answer::target(record).is_some()) {
            // there is a service, and none of its hosts could be found: that says nothing of whether it is there
            if let Some(error) = trouble.take_if(|error| !error.is_not_found()) {
                return Err(error);
            }
        }
        Ok(Found { trouble: trouble.or_else(|| cut.then(too_many)), members, ttl })
    }

    fn tell(&self) -> Change<Member<SocketAddr>> {
        let entry = |(address, member): (&SocketAddr, &Member<SocketAddr>)| Entry {
            key: Key::new(&address.to_string()),
            created: self.told,
            revision: self.told,
            value: member.clone(),
        };
        Change::Reset { entries: self.refresh.members.iter().map(entry).collect(), revision: self.told }
    }
}

fn too_many() -> Error {
    Error::new(Kind::Overloaded, format!("it has more than {MEMBERS_MAX} endpoints; what is beyond is left out"))
}

/// What becomes of the questions of a [`Dns`]; clones see the same.
#[derive(Clone, Default)]
pub struct Resolution(Arc<Lock<Seen>>);

#[derive(Clone, Debug, Default)]
struct Seen {
    answered: Option<Instant>,
    error: Option<Error>,
    failures: u32,
}

impl Resolution {
    fn note(&self, refresh: &Refresh) {
        let mut seen = self.0.lock();
        seen.error = refresh.error.clone();
        seen.failures = refresh.failures.saturating_add(refresh.absences);
        if refresh.failures == 0 {
            seen.answered = Some(time::now());
        }
    }

    /// What is wrong with the last answer; none while all is well. [`Kind::NotFound`] where the name is not there or has
    /// no address.
    pub fn error(&self) -> Option<Error> {
        self.0.lock().error.clone()
    }

    /// How many questions in a row have failed or found nothing.
    pub fn failures(&self) -> u32 {
        self.0.lock().failures
    }

    /// How old the last answer is; none before the first.
    pub fn age(&self) -> Option<Duration> {
        self.0.lock().answered.map(|answered| answered.elapsed())
    }
}

impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().fmt(f)
    }
}

#[cfg(test)]
mod tests;
