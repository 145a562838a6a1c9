//! A fleet in virtual time: clients in front of servers whose latency follows a script.
//!
//! Put your own stack of layers between them and see what it does when a server slows down, when all fail, when ten
//! times too much comes. A minute of a thousand requests a second passes in seconds, and one seed always tells the same.
//!
//! - [`Fleet`]: who asks whom, how often, for how long — start here
//! - [`Server`], [`Behaviour`], [`Latency`]: how a server answers, and when that changes
//! - [`Backend`]: a server as a service; [`Wire`]: the way to it
//! - [`Report`]: what came of it
//!
//! # What such runs show
//!
//! Eleven servers take 167 ms, one of them 2 s for half of a minute, at a thousand requests a second: the experiment that
//! Buoyant published in 2016, with success rates of about 95, 99 and 99.9 % for a caller who waits for a second. Here, by
//! [`RoundRobin`](crate::serving::RoundRobin), [`LeastPending`](crate::serving::LeastPending) and
//! [`PeakEwma`](crate::serving::PeakEwma), the percentiles in milliseconds:
//!
//! ```text
#![doc = include_str!("eleven.txt")]
//! ```
//!
//! Ten servers, six tenths busy, fail for half a minute; callers have a second and try up to three times. The success of
//! each ten seconds, in per cent, with [`Retry`](crate::layer::Retry) as it comes and with a budget that has no end: the
//! servers drown in what is tried again, long after they work well.
//!
//! ```text
#![doc = include_str!("outage.txt")]
//! ```
//!
//! One of ten servers fails at once, or takes requests and never answers, for half of a minute; callers wait for half a
//! second and try once. The success of that half minute in per cent, and how many requests the sick server got in the
//! whole one, as it is and with [ejection](Fleet::eject), which keeps it out beyond its illness until a probe goes well:
//!
//! ```text
#![doc = include_str!("ejection.txt")]
//! ```
//!
//! Four servers of five workers, each behind a [`ConcurrencyLimit`](crate::layer::ConcurrencyLimit) of five with five
//! more in line, are offered up to ten times what they can do:
//!
//! ```text
#![doc = include_str!("overload.txt")]
//! ```

mod report;
mod server;
mod wire;

pub use report::{Report, Second};
pub use server::{Backend, Behaviour, Latency, Server};
pub use wire::Wire;

use crate::{
    base::{BoxError, Error, Kind, Outcome, Result, Seed, time},
    layer::Request,
    serving::{Ejection, Endpoints},
};
use futures::{
    FutureExt, StreamExt,
    future::{Either, join_all},
    stream::FuturesUnordered,
};
use report::Tally;
use std::{ops::Range, time::Duration};
use tower::{Service, ServiceExt};

/// How many requests one client has under way at most: beyond it the fleet stands still, and the run ends with an error.
const UNDER_WAY_MAX: usize = 1_000_000;

/// Clients in front of servers, in an open loop: requests come when they come, however the earlier ones fare.
///
/// Each client has a set of endpoints and a stack of its own, as in a real fleet: none knows what the others see.
///
/// ```
/// use seedpod::{base::Seed, serving::Replicas, testing::fleet::{Fleet, Latency, Server}};
/// use std::{convert::identity, time::Duration};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let second = Duration::from_secs(1);
/// let usual = Server::new(Latency::fixed(second / 100));
/// let sick = usual.clone().during(5 * second..10 * second, |server| server.failing(1.0));
/// let report = Fleet::new(Seed::new(1))
///     .servers(9, usual)
///     .server(sick)
///     .rate(200.0)
///     .lasting(20 * second)
///     .run(identity, |_, endpoints| Replicas::new(endpoints))
///     .await?;
/// assert_eq!(report.requests(), 4_000);
/// assert!(report.success() > 0.99);
/// # Ok::<(), seedpod::Error>(()) }).unwrap();
/// ```
///
/// Run it with time paused; in real time it lasts as long as it says.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: Seed,
    servers: Vec<Server>,
    clients: usize,
    rates: Vec<(Range<Duration>, f64)>,
    rate: f64,
    lasting: Duration,
    within: Option<Duration>,
    ejection: Option<Ejection>,
}

impl Fleet {
    /// No servers yet, one client, 100 requests a second for a minute.
    pub fn new(seed: Seed) -> Self {
        Fleet {
            seed,
            servers: Vec::new(),
            clients: 1,
            rates: Vec::new(),
            rate: 100.0,
            lasting: Duration::from_secs(60),
            within: None,
            ejection: None,
        }
    }

    /// One more server; they are named `server-0`, `server-1` and so on.
    #[must_use]
    pub fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// So many more, all alike.
    #[must_use]
    pub fn servers(mut self, count: usize, server: Server) -> Self {
        self.servers.extend(std::iter::repeat_n(server, count));
        self
    }

    /// How many clients share the rate.
    #[must_use]
    pub fn clients(mut self, count: usize) -> Self {
        self.clients = count;
        self
    }

    /// Requests a second, of all clients together, evenly spaced.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = per_second;
        self
    }

    /// Another rate in this span of the run. Where spans overlap, the one that was said last counts.
    #[must_use]
    pub fn rate_during(mut self, span: Range<Duration>, per_second: f64) -> Self {
        self.rates.push((span, per_second));
        self
    }

    /// For how long requests come. The run ends when the last one has been answered.
    #[must_use]
    pub fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = lasting;
        self
    }

    /// The deadline that each request carries; none unless said. What the stack makes of it is the stack's affair.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Each client ejects who fails, by these settings, as it alone sees it: [`Endpoints::eject`]. Nobody does unless said.
    #[must_use]
    pub fn eject(mut self, settings: Ejection) -> Self {
        self.ejection = Some(settings);
        self
    }

    /// Runs it: `server` wraps each backend in what stands on the server's side, `client` makes a client, by its number,
    /// from its own endpoints; [`identity`](std::convert::identity) leaves a server bare. Requests are idempotent and carry their number.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where there is no server or no client, a rate is not a positive number, or the settings of ejection
    /// make no sense;
    /// [`Kind::Overloaded`] when a client has a million requests under way.
    pub async fn run<T, S>(
        &self,
        server: impl Fn(Backend) -> T,
        client: impl Fn(usize, Endpoints<Wire<T>>) -> S,
    ) -> Result<Report>
    where
        T: Clone,
        S: Service<Request<u64>> + Clone,
        S::Error: Into<BoxError> + 'static,
    {
        self.check()?;
        let start = time::now();
        let wired = |(number, script): (usize, &Server)| {
            let name = format!("server-{number}");
            let seed = self.seed.fork(&name);
            (name.clone(), Wire::new(server(Backend::new(name, script.clone(), seed, start))))
        };
        let wires: Vec<(String, Wire<T>)> = self.servers.iter().enumerate().map(wired).collect();
        let clients = (0..self.clients).map(|number| {
            let name = format!("client-{number}");
            let endpoints = Endpoints::named(name.as_str()).seed(self.seed.fork(&name));
            endpoints.update(|changes| {
                for (name, wire) in &wires {
                    changes.insert(name.as_str(), wire.clone());
                }
            });
            let endpoints = match &self.ejection {
                Some(settings) => endpoints.eject(settings.clone())?,
                None => endpoints,
            };
            Ok(self.drive(number, start, client(number, endpoints)))
        });
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let tallies = join_all(clients).await.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Report::new(tallies, wires.iter().map(|(name, wire)| (name.clone(), wire.sent())).collect()))
    }

    fn check(&self) -> Result {
        let invalid = |message: String| Err(Error::new(Kind::Invalid, message).at("fleet"));
        if self.servers.is_empty() {
            return invalid("it has no servers".into());
        }
        if self.clients == 0 {
            return invalid("it has no clients".into());
        }
        let rates = self.rates.iter().map(|(_, rate)| *rate).chain([self.rate]);
        match rates.into_iter().find(|rate| !rate.is_finite() || *rate <= 0.0) {
            Some(rate) => invalid(format!("a rate of {rate} requests a second")),
            None => Ok(()),
        }
    }

    /// The time between two requests of one client, at this point of the run.
    fn gap(&self, at: Duration) -> Duration {
        let spans = self.rates.iter().rev();
        let rate = spans.into_iter().find(|(span, _)| span.contains(&at)).map_or(self.rate, |(_, rate)| *rate);
        Duration::from_secs_f64(self.clients as f64 / rate)
    }

    /// One client's requests, from the first to the last answer.
    async fn drive<S>(&self, client: usize, start: time::Instant, mut service: S) -> Result<Tally>
    where
        S: Service<Request<u64>> + Clone,
        S::Error: Into<BoxError> + 'static,
    {
        let (mut tally, mut under_way, mut number) = (Tally::default(), FuturesUnordered::new(), 0);
        // clients take turns within the gap, so that together they are evenly spaced too
        let mut next = self.gap(Duration::ZERO).mul_f64(client as f64 / self.clients as f64);
        loop {
            let more = next < self.lasting;
            tokio::select! {
                biased;
                Some((at, took, outcome)) = under_way.next() => tally.add(at, took, outcome),
                () = time::sleep_until(start + next), if more => {
                    if under_way.len() >= UNDER_WAY_MAX {
                        return Err(Error::new(Kind::Overloaded, format!("{UNDER_WAY_MAX} requests under way"))
                            .at(format!("client-{client}")));
                    }
                    let mut request = Request::new(number).idempotent();
                    if let Some(within) = self.within {
                        request = request.within(within);
                    }
                    number += 1;
                    // a handle that is ready is used as it is, since it may remember; one that is not makes this call wait
                    let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).now_or_never();
                    let call = match ready {
                        Some(Ok(())) => Either::Left(service.call(request)),
                        _ => Either::Right(service.clone().oneshot(request)),
                    };
                    let at = next;
                    let sent = time::now();
                    under_way.push(async move {
                        let result = call.await.map_err(|error| Error::adopt(error, Kind::Failed));
                        let outcome = result.map_or_else(|error| Outcome::of(&error), |_| Outcome::Success);
                        (at, time::now() - sent, outcome)
                    });
                    next += self.gap(next);
                }
                else => return Ok(tally),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::Replicas;
    use std::convert::identity;

    const SECOND: Duration = Duration::from_secs(1);

    fn quick(seed: u64) -> Fleet {
        let server = Server::new(Latency::normal(SECOND / 100, SECOND / 1000));
        Fleet::new(Seed::new(seed)).servers(5, server).clients(3).rate(300.0).lasting(4 * SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_come_at_their_rate_whatever_the_answers_do_and_one_seed_tells_one_story() {
        let run = async |fleet: Fleet| fleet.run(identity, |_, endpoints| Replicas::new(endpoints)).await.unwrap();
        let report = run(quick(1)).await;
        assert_eq!((report.requests(), report.attempts(), report.success()), (1_200, 1_200, 1.0));
        assert!(report.seconds().iter().all(|second| second.offered == 300), "{:?}", report.seconds());
        assert_eq!(report.to_string(), run(quick(1)).await.to_string());
        assert_ne!(report.to_string(), run(quick(2)).await.to_string());
        let doubled = run(quick(1).rate_during(SECOND..2 * SECOND, 600.0)).await;
        let offered: Vec<u64> = doubled.seconds().iter().map(|second| second.offered).collect();
        assert!(matches!(offered[..], [300, 599..=601, 300, 300]), "{offered:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_cannot_run_says_why() {
        let run = async |fleet: Fleet| fleet.run(identity, |_, endpoints| Replicas::new(endpoints)).await.unwrap_err();
        assert_eq!(run(Fleet::new(Seed::new(1))).await.to_string(), "fleet: invalid: it has no servers");
        assert_eq!(run(quick(1).clients(0)).await.to_string(), "fleet: invalid: it has no clients");
        let rate = run(quick(1).rate_during(SECOND..SECOND, f64::NAN)).await;
        assert_eq!(rate.to_string(), "fleet: invalid: a rate of NaN requests a second");
        let cap = run(quick(1).eject(Ejection::new().cap(101))).await;
        assert_eq!(cap.to_string(), "ejection: invalid: the cap is a percentage, not 101");
    }
}
