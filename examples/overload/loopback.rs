//! On loopback TCP, in real time: HTTP servers with limits, and calls in an open loop.

use futures::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use seedpod::{
    Error, Result,
    base::{Kind, time},
    http::{Body, Client, serve, successful, text},
    layer::{Budget, ConcurrencyLimitLayer, DeadlineLayer, RetryLayer},
    net::{HostOptions, Net},
    serving::Replicas,
};
use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

const SERVERS: u32 = 4;
/// Calls at a time, and as many in line, of each server.
const PLACES: u32 = 5;
const TAKES: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);

type Stack = BoxCloneSyncService<Request<String>, Response<Body>, Error>;

pub(crate) fn run() -> Result {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result {
    let net = Net::tcp().build();
    let sent = Arc::new(AtomicU64::new(0));
    let replicas = Replicas::named("work");
    let client = Client::new(&net.host(HostOptions::default())?).requests(10_000);
    for number in 0..SERVERS {
        let host = net.host(HostOptions::default())?;
        let listener = host.listen(0).await?;
        let url = format!("http://{}", listener.local_addr());
        host.scope().spawn(serve(listener, server(sent.clone())).into_future());
        let wire = client.clone().base(&url)?;
        let wire = ServiceExt::<Request<String>>::map_future(wire, |answer| async move {
            let (head, body) = answer.await?.into_parts();
            // read to its end even where it is a refusal, so that its connection is used again; then an error, by the
            // server's own words
            successful(Response::from_parts(head, Body::from(body.bytes().await?)))
        });
        replicas.endpoints().insert(format!("server-{number}"), BoxCloneSyncService::new(wire));
    }

    let capacity = capacity(BoxCloneSyncService::new(replicas.clone())).await;
    println!("{SERVERS} servers on loopback take {capacity:.0} calls a second");
    println!("budget   offered   goodput   p99 of the well   attempts each");
    let mut missed = Vec::new();
    for percent in [20, 10] {
        let mut base = Duration::ZERO;
        for times in [1.0, 2.0, 5.0, 10.0] {
            sent.store(0, Relaxed);
            // a budget of its own: what one saved in a quiet time would come on top
            let retry = RetryLayer::new().budget(Budget::new(10, percent));
            let stack =
                ServiceBuilder::new().layer(DeadlineLayer::new(DEADLINE)).layer(retry).service(replicas.clone());
            let load = offer(BoxCloneSyncService::new(stack), capacity * times).await;
            let goodput = load.took.len() as f64 / MEASURED.as_secs_f64() / capacity;
            let attempts = sent.load(Relaxed) as f64 / load.offered as f64;
            let p99 = load.percentile(0.99);
            println!("{percent:>4} %   {times:>5} x   {goodput:>5.2} x   {p99:>15.1?}   {attempts:>13.2}");
            if times == 1.0 {
                base = p99;
            }
            // the floor of the budget, ten for each second of its window of ten, comes on top
            let most = 1.0 + f64::from(percent) / 100.0 + 100.0 / load.offered as f64;
            let goals = [goodput >= 0.95, p99 <= 2 * base, attempts <= most + 0.005];
            if goals.contains(&false) {
                missed.push(format!("{percent} % at {times} x"));
            }
        }
    }
    if missed.is_empty() {
        println!("all goals met: goodput at least 0.95, p99 at most twice that at 1 x, attempts within the budget");
        return Ok(());
    }
    Err(Error::new(Kind::Failed, format!("goals missed: {}", missed.join(", "))).at("overload"))
}

/// Takes its time, so many calls at once, and counts what comes.
fn server(
    sent: Arc<AtomicU64>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Error, Future: Send> + Clone {
    let work = service_fn(|_: Request<Body>| async {
        time::sleep(TAKES).await;
        Ok::<_, Error>(text(200, "done"))
    });
    let limited = ConcurrencyLimitLayer::wait(PLACES, PLACES).layer(work);
    limited.map_request(move |request| {
        sent.fetch_add(1, Relaxed);
        request
    })
}

fn request() -> Request<String> {
    let mut request = Request::new(String::new());
    *request.uri_mut() = http::Uri::from_static("/");
    request
}

/// What callers get done who are just enough to fill all places and half of the lines, for two seconds.
async fn capacity(service: Stack) -> f64 {
    let end = time::now() + Duration::from_secs(2);
    let callers = (0..SERVERS * PLACES * 3 / 2).map(|_| async {
        let mut done = 0_u32;
        while time::now() < end {
            done += u32::from(service.clone().oneshot(request()).await.is_ok());
        }
        done
    });
    futures::future::join_all(callers).await.iter().sum::<u32>() as f64 / 2.0
}

struct Load {
    offered: u64,
    /// How long those took that were answered well, in order.
    took: Vec<Duration>,
}

impl Load {
    fn percentile(&self, share: f64) -> Duration {
        let rank = (share * self.took.len() as f64).ceil() as usize;
        self.took.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// So many calls a second, whatever becomes of the earlier ones. What is due while the clock was not looked at is sent at
/// once; its time counts from when it was due.
async fn offer(service: Stack, rate: f64) -> Load {
    let (start, mut offered, mut took) = (time::now(), 0, Vec::new());
    let mut under_way = FuturesUnordered::new();
    loop {
        let due = start + Duration::from_secs_f64(f64::from(u32::try_from(offered).unwrap_or(u32::MAX)) / rate);
        let more = due < start + MEASURED;
        tokio::select! {
            biased;
            () = time::sleep_until(due), if more => {
                let call = tokio::spawn(service.clone().oneshot(request()));
                under_way.push(async move { (call.await.is_ok_and(|answer| answer.is_ok()), due.elapsed()) });
                offered += 1;
            }
            Some((well, time)) = under_way.next() => took.extend(well.then_some(time)),
            else => break,
        }
    }
    took.sort_unstable();
    Load { offered, took }
}
