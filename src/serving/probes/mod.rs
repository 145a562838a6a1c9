//! Who is ready: endpoints that are asked at a pace.
//!
//! - [`Probes`]: what is asked, where, how often — start here
//! - [`ProbeReport`]: what was found
//! - `book`: which endpoint is due, and what its results say; pure, on the thresholds of a pod's probes

mod book;

use super::Endpoints;
use crate::{
    base::{
        BoxError, Deadline, Error, Kind, Result, Rng, Seed,
        sync::Lock,
        time::{now, sleep_until},
    },
    net::Host,
    pod::{Check, Probe, ask},
};
use book::Book;
use futures::{FutureExt, StreamExt, TryFutureExt, future::BoxFuture, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, IntoFuture, Pending, pending},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

/// What is asked about the endpoints of a set, where, and how often.
///
/// The checks, their pace and thresholds are those of a pod's [`Probe`]; here they come from outside, from a client that
/// sees the endpoints over its own network. Give them to [`Endpoints::probe`].
///
/// The check's port is the one that is asked: it need not be the one that serves, so that a sidecar can answer for the
/// application beside it.
///
/// ```
/// use seedpod::net::{HostOptions, Net};
/// use seedpod::pod::Probe;
/// use seedpod::serving::{Endpoints, Probes};
/// use std::{future::IntoFuture, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let net = Net::memory().build();
/// let (cart, client) = (net.host(HostOptions::default())?, net.host(HostOptions::default())?);
/// let endpoints = Endpoints::named("cart");
/// tokio::spawn(endpoints.probe(Probes::new(&client, Probe::tcp(15021))).into_future());
/// # tokio::time::sleep(Duration::from_millis(1)).await;
///
/// endpoints.insert(format!("{}:7070", cart.ip()), 'a');
/// tokio::time::sleep(Duration::from_secs(1)).await;
/// assert_eq!(endpoints.describe()[0].status.to_string(), "not ready");
///
/// let sidecar = cart.listen(15021).await?;
/// tokio::time::sleep(Duration::from_secs(10)).await;
/// assert_eq!(endpoints.describe()[0].status.to_string(), "ready");
/// # drop(sidecar); seedpod::Result::<()>::Ok(()) }).unwrap();
/// ```
///
/// # Defaults
///
/// | setting | default | from |
/// | --- | --- | --- |
/// | period, timeout, successes, failures | 10 s, 1 s, 1, 3 | the kubelet: [`Probe`] |
/// | the first check of who is there already | at random within a period | the kubelet's, after its own restart |
/// | the first check of who comes later | at once | the kubelet |
/// | [`new_are_ready`](Probes::new_are_ready) | no: not before the first success | the kubelet |
/// | [`at_once`](Probes::at_once) | 64 checks | ours |
#[must_use = "nothing is asked until a set is probed"]
pub struct Probes {
    ask: Ask,
    pace: Probe,
    at_once: usize,
    new_are_ready: bool,
    rng: Rng,
    report: ProbeReport,
}

#[derive(Clone)]
enum Ask {
    Check(Host, Check, Arc<dyn Fn(&str) -> String + Send + Sync>),
    Function(Arc<dyn Fn(Arc<str>) -> BoxFuture<'static, Result> + Send + Sync>),
}

impl Ask {
    async fn about(self, key: Arc<str>) -> Result {
        match self {
            Ask::Check(host, check, at) => ask(&check, &host, &at(&key)).await,
            Ask::Function(function) => function(key).await,
        }
    }
}

/// The host in a key such as `10.0.0.1:7070`.
fn host_of(key: &str) -> String {
    let port = |(_, port): &(&str, &str)| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
    match key.rsplit_once(':').filter(port) {
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host.to_owned(),
        _ => key.to_owned(),
    }
}

impl Probes {
    /// This probe from this host, at the host that an endpoint's key names: `10.0.0.1` of `10.0.0.1:7070`, as
    /// [`Dns`](super::Dns) has it. For other keys say [`at`](Probes::at) which it is.
    pub fn new(host: &Host, probe: Probe) -> Self {
        let check = Ask::Check(host.clone(), probe.check.clone(), Arc::new(host_of));
        Probes::asking(check, probe)
    }

    /// A function of an endpoint's key, which says by an error that it is not ready. An error of any kind counts, and so
    /// does a panic.
    pub fn function<F, Fut, E>(check: F) -> Self
    where
        F: Fn(Arc<str>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let check = move |key| check(key).map_err(|error| Error::adopt(error, Kind::Failed)).boxed();
        Probes::asking(Ask::Function(Arc::new(check)), Probe::new(Check::Reported))
    }

    fn asking(ask: Ask, pace: Probe) -> Self {
        let rng = Seed::ambient().fork("probes").rng();
        Probes { ask, pace, at_once: 64, new_are_ready: false, rng, report: ProbeReport::default() }
    }

    /// Where the endpoint of a key is asked: a host's name or address, or `host:port` for another port than the check's.
    pub fn at(mut self, at: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        if let Ask::Check(_, _, known) = &mut self.ask {
            *known = Arc::new(at);
        }
        self
    }

    /// A check comes this long after the one before; at least 1 ms.
    pub fn period(self, period: Duration) -> Self {
        Probes { pace: self.pace.period(period), ..self }
    }

    /// A check may take this long; then it counts as failed.
    pub fn timeout(self, timeout: Duration) -> Self {
        Probes { pace: self.pace.timeout(timeout), ..self }
    }

    /// This many successes in a row make an endpoint ready; at least 1.
    pub fn successes(self, successes: u32) -> Self {
        Probes { pace: self.pace.successes(successes), ..self }
    }

    /// This many failures in a row make it not ready; at least 1.
    pub fn failures(self, failures: u32) -> Self {
        Probes { pace: self.pace.failures(failures), ..self }
    }

    /// Whether an endpoint that comes counts as ready before anything is decided of it.
    pub fn new_are_ready(self, ready: bool) -> Self {
        Probes { new_are_ready: ready, ..self }
    }

    /// How many checks run at a time; at least 1. Further ones that are due wait for one to end.
    pub fn at_once(self, checks: usize) -> Self {
        Probes { at_once: checks.max(1), ..self }
    }

    /// What the first checks are spread by.
    pub fn seed(self, seed: Seed) -> Self {
        Probes { rng: seed.fork("probes").rng(), ..self }
    }

    /// What they find: to look at while they run.
    pub fn report(&self) -> ProbeReport {
        self.report.clone()
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("pace", &self.pace).field("at_once", &self.at_once).finish_non_exhaustive()
    }
}

impl<S> Endpoints<S> {
    /// Asks the endpoints whether they take calls, and says so by [`set_ready`](Endpoints::set_ready). See [`Probes`] and
    /// [`Probing`].
    pub fn probe(&self, probes: Probes) -> Probing<S> {
        Probing { endpoints: self.clone(), probes, until: pending() }
    }
}

/// A set of endpoints about to be probed; it begins when awaited. Made by [`Endpoints::probe`].
///
/// **Guarantees**
/// - It follows the set: who comes is checked at once, of who goes nothing more is asked, and what a check finds after
///   its endpoint was taken out counts for nobody.
/// - Who is in the set when it begins is as ready as before until the thresholds decide.
/// - Who is [ejected](Endpoints::eject) is brought back by a check that succeeds, unless the settings
///   [say otherwise](super::Ejection::heal). That it still counts as ready after a check that failed brings nobody back.
/// - One check at a time for each endpoint, and a bounded number over all. A check that takes too long is dropped.
///
/// **Not guaranteed**: that an endpoint gets no call between being put in and the moment this sees it. Put it in as not
/// [ready](super::Attributes::ready) where that matters, and tell its source.
///
/// # Errors
/// [`Kind::Unsupported`] where the check cannot be made at all (it is one that runs inside of a container, or its feature
/// is off). Otherwise it ends with [`until`](Probing::until) alone.
///
/// **Cancel-safety**: dropping it stops the checks, also those under way; its last words stand. Two over one set
/// overrule one another.
#[must_use = "nothing is asked until it is awaited"]
pub struct Probing<S, U = Pending<()>> {
    endpoints: Endpoints<S>,
    probes: Probes,
    until: U,
}

impl<S, U> Probing<S, U> {
    /// Ends when this future does, such as [`Context::stopped`](crate::pod::Context::stopped).
    pub fn until<V: Future>(self, until: V) -> Probing<S, V> {
        Probing { endpoints: self.endpoints, probes: self.probes, until }
    }

    async fn run(self) -> Result
    where
        U: Future,
    {
        let Probing { endpoints, probes, until } = self;
        let Probes { ask, pace, at_once, new_are_ready, mut rng, report } = probes;
        let (timeout, period) = (pace.timeout, pace.period);
        let made = matches!(ask, Ask::Check(..));
        let mut book = Book::new(pace, at_once);
        let mut checks = FuturesUnordered::new();
        let mut version = endpoints.version();
        let keys = endpoints.keys();
        book.follow(&keys, now(), || period.mul_f64(rng.unit()));
        report.follow(&keys);
        let mut until = pin!(until);
        loop {
            while let Some((key, number)) = book.begin(now()) {
                let check = AssertUnwindSafe(examine(ask.clone(), key.clone(), timeout)).catch_unwind();
                checks.push(async move {
                    let found = check.await.unwrap_or_else(|_| Err(Error::new(Kind::Panicked, "the check panicked")));
                    (key, number, found)
                });
            }
            let deadline = book.deadline();
            tokio::select! {
                biased;
                _ = &mut until => return Ok(()),
                other = endpoints.changed(version) => {
                    version = other;
                    let keys = endpoints.keys();
                    for key in book.follow(&keys, now(), || Duration::ZERO) {
                        endpoints.note_ready(&key, new_are_ready, false);
                    }
                    report.follow(&keys);
                }
                Some((key, number, found)) = checks.next(), if !checks.is_empty() => {
                    if let Err(error) = &found && made && error.kind() == Kind::Unsupported {
                        return Err(error.clone().at(key));
                    }
                    let good = found.is_ok();
                    if let Some(decided) = book.record(&key, number, good) {
                        // also without news: the endpoint may have been out of the set and back in between
                        decided.map(|ready| endpoints.note_ready(&key, ready, ready && good));
                        report.note(Probed { key, ready: decided, error: found.err() });
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(now)), if deadline.is_some() => {}
            }
        }
    }
}

async fn examine(ask: Ask, key: Arc<str>, timeout: Duration) -> Result {
    match Deadline::within(timeout).bound(ask.about(key)).await {
        Ok(found) => found,
        Err(_) => Err(Error::new(Kind::Timeout, format!("no answer within {timeout:?}"))),
    }
}

impl<S, U> IntoFuture for Probing<S, U>
where
    S: Send + Sync + 'static,
    U: Future + Send + 'static,
{
    type Output = Result;
    type IntoFuture = BoxFuture<'static, Result>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S, U> fmt::Debug for Probing<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probing")
            .field("endpoints", &self.endpoints)
            .field("probes", &self.probes)
            .finish_non_exhaustive()
    }
}

/// What probes have found so far; clones see the same.
#[derive(Clone, Default)]
pub struct ProbeReport(Arc<Lock<BTreeMap<Arc<str>, Probed>>>);

/// What a probe has found of one endpoint.
#[derive(Clone, Debug)]
pub struct Probed {
    /// Its key.
    pub key: Arc<str>,
    /// What the thresholds have decided: none before they have.
    pub ready: Option<bool>,
    /// What the last check failed with.
    pub error: Option<Error>,
}

impl ProbeReport {
    /// The set has these now.
    fn follow(&self, keys: &[Arc<str>]) {
        let mut list = self.0.lock();
        let mut known = std::mem::take(&mut *list);
        let of = |key: &Arc<str>| known.remove(key).unwrap_or(Probed { key: key.clone(), ready: None, error: None });
        *list = keys.iter().map(of).map(|probed| (probed.key.clone(), probed)).collect();
    }

    fn note(&self, probed: Probed) {
        self.0.lock().insert(probed.key.clone(), probed);
    }

    /// Each endpoint that is probed, in the order of keys.
    pub fn list(&self) -> Vec<Probed> {
        self.0.lock().values().cloned().collect()
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self.ready {
            None => "undecided",
            Some(true) => "ready",
            Some(false) => "not ready",
        };
        write!(f, "{}: {said}", self.key)?;
        if let Some(error) = &self.error {
            write!(f, ", last: {}", error.chain())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list().iter().map(ToString::to_string)).finish()
    }
}

#[cfg(test)]
mod tests;
