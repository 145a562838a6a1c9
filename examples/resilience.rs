//! Resilience: one thing after the other goes wrong in a fleet of six servers, and for each there is a layer.
//!
//! Every chapter runs the same fleet twice, bare and with one more layer in front, in virtual time. What a layer costs
//! stands beside what it brings: attempts are what the servers get.
//!
//! ```text
//! cargo run --example resilience
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Result,
    base::{Backoff, Kind, Seed, time},
    layer::{
        BreakerLayer, BulkheadLayer, DeadlineLayer, FaultLayer, HedgeLayer, Injection, Rate, RateLimitLayer, Request,
        RetryLayer, ShadowLayer, Split, Trip, Window,
    },
    serving::{Endpoints, Replicas},
    testing::fleet::{Backend, Fleet, Latency, Report, Server, Wire},
};
use std::{convert::identity, time::Duration};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, layer::util::Stack, service_fn};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn main() -> Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and fixed seeds, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let chapters = async {
        let chapters = [
            one_server_fails().await?,
            answers_never_come().await?,
            some_answers_are_slow().await?,
            all_servers_fail().await?,
            one_tenant_wants_everything().await?,
            a_new_version_comes().await?,
        ];
        Ok::<_, Error>(chapters.join("\n\n"))
    };
    runtime.block_on(chapters)
}

/// Six servers that take 20 ms, one of them different; 300 requests a second for half a minute.
fn fleet(sick: impl FnOnce(Server) -> Server) -> Fleet {
    let well = Server::new(Latency::normal(20 * MILLI, 2 * MILLI));
    Fleet::new(Seed::new(6)).servers(5, well.clone()).server(sick(well)).rate(300.0).lasting(30 * SECOND)
}

/// The fleet behind replicas with these layers in front.
async fn with<L, S>(fleet: &Fleet, layer: L) -> Result<Report>
where
    L: Layer<Replicas<Wire<Backend>>, Service = S>,
    S: Service<Request<u64>> + Clone,
    S::Error: Into<seedpod::base::BoxError> + 'static,
{
    fleet.run(identity, |_, endpoints: Endpoints<_>| layer.layer(Replicas::new(endpoints))).await
}

fn bare() -> tower::layer::util::Identity {
    tower::layer::util::Identity::new()
}

fn line(what: &str, report: &Report) -> String {
    let millis = |share| report.percentile(share).as_millis();
    format!(
        "  {what:<22} {:>6.2} % well, p50 {} ms, p99 {:>3} ms, slowest {:>6} ms, {:.2} attempts each",
        100.0 * report.success(),
        millis(0.5),
        millis(0.99),
        millis(1.0),
        report.amplification()
    )
}

async fn one_server_fails() -> Result<String> {
    let fleet = fleet(|server| server.during(10 * SECOND..20 * SECOND, |server| server.failing(0.5)));
    let retry = RetryLayer::new().seed(Seed::new(1));
    Ok(format!(
        "For ten seconds one server fails every other call: try again, elsewhere.\n{}\n{}",
        line("bare", &with(&fleet, bare()).await?),
        line("retry", &with(&fleet, retry).await?),
    ))
}

async fn answers_never_come() -> Result<String> {
    let hangs = Latency::fixed(600 * SECOND);
    let fleet = fleet(|server| server.during(10 * SECOND..20 * SECOND, |server| server.latency(hangs)));
    let deadline = DeadlineLayer::new(SECOND);
    let retry = RetryLayer::new().seed(Seed::new(1)).attempt_timeout(100 * MILLI);
    Ok(format!(
        "For ten seconds one server hangs: a deadline for the whole, a time-out for each attempt.\n{}\n{}\n{}",
        line("bare", &with(&fleet, bare()).await?),
        line("deadline", &with(&fleet, deadline.clone()).await?),
        line("deadline, retry", &with(&fleet, Stack::new(retry, deadline)).await?),
    ))
}

async fn some_answers_are_slow() -> Result<String> {
    let pauses = Latency::by(|rng| if rng.chance(0.01) { 500 * MILLI } else { 20 * MILLI });
    let server = Server::new(pauses);
    let fleet = Fleet::new(Seed::new(6)).servers(6, server).rate(300.0).lasting(60 * SECOND);
    let hedge = HedgeLayer::new(0.02)?;
    let report = with(&fleet, hedge.clone()).await?;
    let delay = hedge.handle().delay().unwrap_or_default();
    Ok(format!(
        "One call in a hundred takes half a second: ask a second server when the first is late.\n{}\n{}\n  \
         it waits {} ms, as it has learnt; of {} hedges {} came first",
        line("bare", &with(&fleet, bare()).await?),
        line("hedge of 2 %", &report),
        delay.as_millis(),
        hedge.handle().hedged(),
        hedge.handle().won(),
    ))
}

async fn all_servers_fail() -> Result<String> {
    let server = Server::new(Latency::fixed(20 * MILLI)).during(10 * SECOND..20 * SECOND, |server| server.failing(1.0));
    let fleet = Fleet::new(Seed::new(6)).servers(6, server).rate(300.0).lasting(30 * SECOND);
    let trip = Trip::new().window(Window::Time(2 * SECOND)).open(Backoff::new(SECOND, 4 * SECOND).exact());
    let breaker = BreakerLayer::new("cart", trip)?;
    let (bare, guarded) = (with(&fleet, bare()).await?, with(&fleet, breaker.clone()).await?);
    let back = guarded.seconds().iter().skip(20).position(|second| second.success() == 1.0).unwrap_or(10);
    Ok(format!(
        "For ten seconds all servers fail: stop calling, probe, come back.\n{}\n{}\n  \
         {} calls were spared the servers; all is well again {back} s after the servers are; circuit: {}",
        line("bare", &bare),
        line("breaker", &guarded),
        breaker.handle().refused(),
        breaker.handle().explain(),
    ))
}

/// Ten calls at a time of 50 ms each is all that the service can do. One tenant sends forty at a time, two send one.
async fn one_tenant_wants_everything() -> Result<String> {
    let work = tower::limit::ConcurrencyLimitLayer::new(10).layer(service_fn(|_: &'static str| async {
        time::sleep(50 * MILLI).await;
        Ok::<_, Error>(())
    }));
    let tenant = |tenant: &&'static str| *tenant;
    let bulkhead = BulkheadLayer::wait(8, 100, tenant);
    let rate = RateLimitLayer::shed(Rate::new(100, SECOND)?).keyed(tenant);
    Ok(format!(
        "One tenant sends forty calls at a time, two send one: a compartment and a rate for each.\n  \
         bare                   {}\n  \
         bulkhead of 8          {}\n  \
         100 a second for each  {}",
        tenants(work.clone()).await,
        tenants(ServiceBuilder::new().layer(bulkhead).service(work.clone())).await,
        tenants(ServiceBuilder::new().layer(rate).service(work)).await,
    ))
}

/// What each tenant gets done in ten seconds.
async fn tenants<S>(service: S) -> String
where
    S: Service<&'static str, Error = Error> + Clone,
{
    let end = time::now() + 10 * SECOND;
    let sends = |name: &'static str, at_a_time: usize| {
        let service = service.clone();
        async move {
            let callers = (0..at_a_time).map(|_| async {
                let (mut done, mut refused) = (0, 0);
                while time::now() < end {
                    match service.clone().oneshot(name).await {
                        Ok(_) => done += 1,
                        Err(error) => {
                            refused += 1;
                            time::sleep(error.retry_after().unwrap_or(10 * MILLI)).await;
                        }
                    }
                }
                (done, refused)
            });
            let counts = futures::future::join_all(callers).await;
            let (done, refused) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
            format!("{name} {done} done, {refused} refused")
        }
    };
    let (loud, ann, bob) = futures::join!(sends("loud", 40), sends("ann", 1), sends("bob", 1));
    [loud, ann, bob].join("; ")
}

async fn a_new_version_comes() -> Result<String> {
    let broken = FaultLayer::new().seed(Seed::new(2));
    let faults = broken.handle();
    let bug = faults.inject(Injection::fail(Kind::Failed).share(0.2))?;
    let version = |name: &'static str| service_fn(move |_: Request<u64>| async move { Ok::<_, Error>(name) });
    let (old, new) = (version("v1"), broken.layer(version("v2")));

    let shadow = ShadowLayer::new(new.clone(), 0.1)?.seed(Seed::new(3));
    let mut service = shadow.layer(old);
    let mut well = 0;
    for number in 0..10_000 {
        well += u32::from(service.ready().await?.call(Request::new(number).idempotent()).await.is_ok());
        tokio::task::yield_now().await;
    }
    let copies = shadow.handle();
    let shadowed =
        format!("10,000 calls: {well} well; of {} copies {} failed, unnoticed", copies.mirrored(), copies.failed());

    drop(bug);
    let versions = [("v1", FaultLayer::new().layer(old), 100), ("v2", new, 0)];
    let mut split = Split::new(versions)?.seed(Seed::new(4));
    let weights = split.handle();
    let mut shares = Vec::new();
    for percent in [1, 10, 50, 100] {
        weights.set([("v1", 100 - percent), ("v2", percent)])?;
        let mut second = 0;
        for number in 0..1_000 {
            second += u32::from(split.call(Request::new(number)).await? == "v2");
        }
        shares.push(format!("{percent} %: {second} of 1,000"));
    }
    Ok(format!(
        "A new version comes: first it gets copies, then, mended, its share of the calls.\n  \
         shadow of 10 %         {shadowed}\n  \
         split                  {}",
        shares.join(", ")
    ))
}
