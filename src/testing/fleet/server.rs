//! A server as a simulation knows it: a line, so many workers, and work that takes its time.

use crate::{
    base::{
        Error, Kind, Rng, Seed,
        sync::Lock,
        time::{self, Instant},
    },
    layer::Request,
};
use futures::future::BoxFuture;
use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// How long a piece of work takes: drawn anew for each.
#[derive(Clone)]
pub struct Latency(Arc<dyn Fn(&mut Rng) -> Duration + Send + Sync>);

impl Latency {
    /// Always this long.
    pub fn fixed(takes: Duration) -> Self {
        Latency::by(move |_| takes)
    }

    /// Anything in this range, all equally likely.
    pub fn uniform(range: Range<Duration>) -> Self {
        Latency::by(move |rng| range.start + range.end.saturating_sub(range.start).mul_f64(rng.unit()))
    }

    /// Around this median with this standard deviation, by the bell curve (cut at six deviations); never negative.
    pub fn normal(median: Duration, deviation: Duration) -> Self {
        // twelve draws summed are as near to the bell as a simulation needs, and the same to the bit everywhere
        let bell = |rng: &mut Rng| (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
        Latency::by(move |rng| {
            let seconds = bell(rng).mul_add(deviation.as_secs_f64(), median.as_secs_f64());
            Duration::from_secs_f64(seconds.max(0.0))
        })
    }

    /// By a function of its own: a tail, a trace, two humps.
    pub fn by(draw: impl Fn(&mut Rng) -> Duration + Send + Sync + 'static) -> Self {
        Latency(Arc::new(draw))
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latency(..)")
    }
}

/// How a server answers, for a while.
#[derive(Clone, Debug)]
pub struct Behaviour {
    latency: Latency,
    failing: f64,
    kind: Kind,
}

impl Behaviour {
    /// Work takes this long.
    #[must_use]
    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// This share of the answers, from 0.0 to 1.0, are failures. They take as long as the others.
    #[must_use]
    pub fn failing(mut self, share: f64) -> Self {
        self.failing = share;
        self
    }

    /// Of which kind failures are: [`Kind::Unavailable`] unless said.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// A server and its script: workers that take requests from a line in the order in which they came.
///
/// What its caller gives up is worked on to the end all the same, as most servers do: a retry then costs twice.
#[derive(Clone, Debug)]
pub struct Server {
    usual: Behaviour,
    phases: Vec<(Range<Duration>, Behaviour)>,
    workers: usize,
    line_max: usize,
}

impl Server {
    /// Work takes this long, and all requests are worked on at once.
    pub fn new(latency: Latency) -> Self {
        let usual = Behaviour { latency, failing: 0.0, kind: Kind::Unavailable };
        Server { usual, phases: Vec::new(), workers: usize::MAX, line_max: usize::MAX }
    }

    /// Works on so many at a time (0 counts as 1). With a latency of 10 ms, 4 workers answer 400 a second.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count.max(1);
        self
    }

    /// So many may wait in line for a worker; the next is refused at once as [`Kind::Overloaded`]. No bound unless said.
    #[must_use]
    pub fn line(mut self, max: usize) -> Self {
        self.line_max = max;
        self
    }

    /// Behaves otherwise in this span of the run: work that begins in it. Where spans overlap, the one that was said
    /// last counts.
    #[must_use]
    pub fn during(mut self, span: Range<Duration>, change: impl FnOnce(Behaviour) -> Behaviour) -> Self {
        self.phases.push((span, change(self.usual.clone())));
        self
    }

    fn behaviour(&self, at: Duration) -> &Behaviour {
        self.phases.iter().rev().find(|(span, _)| span.contains(&at)).map_or(&self.usual, |(_, phase)| phase)
    }
}

/// A server of a running fleet, as a service: it answers with the number that the request carries.
#[derive(Clone)]
pub struct Backend(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    server: Server,
    start: Instant,
    state: Lock<State>,
}

/// What is accepted is planned at once: in a line that nobody leaves, it is known when each piece of work begins.
struct State {
    rng: Rng,
    /// When each worker is free again; only as many as were ever busy at once.
    free: Vec<Instant>,
    /// When those in line begin, in order.
    line: VecDeque<Instant>,
    accepted: u64,
    refused: u64,
}

impl State {
    /// When the work on a request that comes now ends, and whether badly.
    fn accept(&mut self, server: &Server, start: Instant, now: Instant) -> Result<(Instant, Option<Kind>), Error> {
        while self.line.front().is_some_and(|begin| *begin <= now) {
            self.line.pop_front();
        }
        let idle = self.free.iter().position(|free| *free <= now);
        let worker = match idle {
            Some(worker) => worker,
            None if self.free.len() < server.workers => {
                self.free.push(now);
                self.free.len() - 1
            }
            None if self.line.len() >= server.line_max => {
                self.refused += 1;
                return Err(Error::new(Kind::Overloaded, format!("{} are in line", self.line.len())));
            }
            None => self.free.iter().enumerate().min_by_key(|(_, free)| **free).map_or(0, |(worker, _)| worker),
        };
        self.accepted += 1;
        let Some(free) = self.free.get_mut(worker) else { return Err(Kind::Failed.into()) };
        let begin = now.max(*free);
        if begin > now {
            self.line.push_back(begin);
        }
        let behaviour = server.behaviour(begin - start);
        *free = begin + (behaviour.latency.0)(&mut self.rng);
        Ok((*free, self.rng.chance(behaviour.failing).then_some(behaviour.kind)))
    }
}

impl Backend {
    pub(super) fn new(name: String, server: Server, seed: Seed, start: Instant) -> Self {
        let (free, line) = (Vec::new(), VecDeque::new());
        let state = State { rng: seed.rng(), free, line, accepted: 0, refused: 0 };
        Backend(Arc::new(Shared { name: name.into(), server, start, state: Lock::new(state) }))
    }

    /// Its name in the fleet.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many requests it has accepted, given up ones included.
    pub fn accepted(&self) -> u64 {
        self.0.state.lock().accepted
    }

    /// How many it has refused because its line was full.
    pub fn refused(&self) -> u64 {
        self.0.state.lock().refused
    }
}

impl Service<Request<u64>> for Backend {
    type Response = u64;
    type Error = Error;
    type Future = BoxFuture<'static, Result<u64, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        let shared = self.0.clone();
        // a request reaches the server when its call is first polled, as one on a wire would
        Box::pin(async move {
            let name = || shared.name.clone();
            let accepted = shared.state.lock().accept(&shared.server, shared.start, time::now());
            let (end, failure) = accepted.map_err(|error| error.at(name()))?;
            time::sleep_until(end).await;
            match failure {
                Some(kind) => Err(Error::new(kind, "scripted").at(name())),
                None => Ok(request.into_message()),
            }
        })
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::join_all};

    const MILLI: Duration = Duration::from_millis(1);

    fn backend(server: Server) -> Backend {
        Backend::new("server-0".into(), server, Seed::new(1), time::now())
    }

    #[tokio::test(start_paused = true)]
    async fn workers_take_from_the_line_in_order_and_a_full_line_refuses() {
        let mut backend = backend(Server::new(Latency::fixed(10 * MILLI)).workers(2).line(3));
        let start = time::now();
        let calls = (0..6).map(|number| {
            let call = backend.call(Request::new(number));
            async move { (call.await.map_err(|error| error.to_string()), start.elapsed().as_millis()) }
        });
        let answers = join_all(calls).await;
        let refused = Err("server-0: overloaded: 3 are in line".to_string());
        assert_eq!(answers, [(Ok(0), 10), (Ok(1), 10), (Ok(2), 20), (Ok(3), 20), (Ok(4), 30), (refused, 0)]);
        assert_eq!((backend.accepted(), backend.refused()), (5, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_worked_on_all_the_same() {
        let mut backend = backend(Server::new(Latency::fixed(10 * MILLI)).workers(1));
        let start = time::now();
        assert!(backend.call(Request::new(1)).now_or_never().is_none());
        backend.call(Request::new(2)).await.unwrap();
        assert_eq!(start.elapsed(), 20 * MILLI);
    }

    #[tokio::test(start_paused = true)]
    async fn the_script_changes_how_it_answers_and_the_last_word_counts() {
        let second = 1_000 * MILLI;
        let server = Server::new(Latency::fixed(MILLI))
            .during(second..4 * second, |server| server.latency(Latency::fixed(second / 2)))
            .during(2 * second..3 * second, |server| server.failing(1.0).kind(Kind::Rejected));
        let (mut backend, mut told) = (backend(server), Vec::new());
        for _ in 0..5 {
            let sent = time::now();
            let result = backend.call(Request::new(0)).await;
            told.push((sent.elapsed(), result.map_err(|error| error.kind())));
            time::sleep(second - sent.elapsed()).await;
        }
        let slow = (second / 2, Ok(0));
        assert_eq!(told, [(MILLI, Ok(0)), slow, (MILLI, Err(Kind::Rejected)), slow, (MILLI, Ok(0))]);
    }

    #[test]
    fn latencies_are_drawn_as_they_say() {
        let mut rng = Seed::new(3).rng();
        let mut draw = |latency: &Latency| (latency.0)(&mut rng).as_secs_f64() * 1_000.0;
        let normal = Latency::normal(167 * MILLI, 5 * MILLI);
        let drawn: Vec<f64> = (0..100_000).map(|_| draw(&normal)).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let deviation = (drawn.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / drawn.len() as f64).sqrt();
        assert!((mean - 167.0).abs() < 0.1 && (deviation - 5.0).abs() < 0.1, "{mean} {deviation}");
        let uniform = Latency::uniform(MILLI..3 * MILLI);
        assert!((0..1_000).map(|_| draw(&uniform)).all(|ms| (1.0..3.0).contains(&ms)));
        assert_eq!(draw(&Latency::normal(Duration::ZERO, Duration::ZERO)), 0.0);
    }
}
