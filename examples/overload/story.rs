//! In virtual time: two servers with five places each, calls of 20 ms; five hundred calls a second is what they can do.

use seedpod::{
    Error, Result,
    base::{BoxError, Seed},
    layer::{
        AdaptiveLimitLayer, AdmissionLayer, ConcurrencyLimitLayer, DeadlineLayer, Gradient2, Request, RetryLayer,
        Throttle,
    },
    serving::{Endpoints, Replicas},
    testing::fleet::{Backend, Fleet, Latency, Report, Server, Wire},
};
use std::{cell::RefCell, convert::identity, time::Duration};
use tower::{Layer, Service, ServiceBuilder, util::option_layer};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Calls a second.
const CAPACITY: f64 = 500.0;
const SECONDS: u32 = 5;
const TIMES: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// Runs on paused time and fixed seeds, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let chapters = [no_limit().await?, a_limit().await?, a_limit_that_is_found().await?, fewer_are_sent().await?];
        Ok(chapters.join("\n\n"))
    })
}

fn fleet(times: f64) -> Fleet {
    let server = Server::new(Latency::fixed(20 * MILLI)).workers(5);
    Fleet::new(Seed::new(8)).servers(2, server).clients(2).rate(CAPACITY * times).lasting(SECONDS * SECOND)
}

/// A deadline of a second, and up to three attempts out of the default budget.
fn client<T>(number: usize, endpoints: Endpoints<Wire<T>>) -> impl Service<Request<u64>, Error = Error> + Clone
where
    T: Service<Request<u64>> + Clone,
    T::Error: Into<BoxError> + 'static,
{
    let retry = RetryLayer::new().seed(Seed::new(6).fork_index(number as u64));
    ServiceBuilder::new().layer(DeadlineLayer::new(SECOND)).layer(retry).service(Replicas::new(endpoints))
}

fn line(times: f64, report: &Report) -> String {
    let goodput = report.success() * report.requests() as f64 / f64::from(SECONDS) / CAPACITY;
    format!(
        "  {times:>4} x   {goodput:>6.2} x   {:>13} ms   {:>13.2}",
        report.percentile(0.99).as_millis(),
        report.amplification()
    )
}

const HEAD: &str = "  offered   goodput   p99 of the well   attempts each";

async fn no_limit() -> Result<String> {
    let mut lines = vec!["Lines that have no end: soon all that is answered is too late.".to_string(), HEAD.into()];
    for times in [1.0, 1.5, 2.0] {
        lines.push(line(times, &fleet(times).run(identity, client).await?));
    }
    Ok(lines.join("\n"))
}

async fn a_limit() -> Result<String> {
    let title = "Each server takes five at a time, five more may stand in line, the others are told so at once.";
    let mut lines = vec![title.to_string(), HEAD.into()];
    for times in TIMES {
        let guarded = |backend: Backend| ConcurrencyLimitLayer::wait(5, 5).layer(backend);
        lines.push(line(times, &fleet(times).run(guarded, client).await?));
    }
    Ok(lines.join("\n"))
}

async fn a_limit_that_is_found() -> Result<String> {
    let title = "Nobody told them five: each finds its limit by how its answers slow down.";
    let mut lines = vec![title.to_string(), HEAD.into()];
    let mut found = Vec::new();
    for times in TIMES {
        let handles = RefCell::new(Vec::new());
        let guarded = |backend: Backend| {
            let layer = AdaptiveLimitLayer::shed(Gradient2::new().between(1, 100).initial(10)).ok();
            handles.borrow_mut().extend(layer.as_ref().map(AdaptiveLimitLayer::handle));
            option_layer(layer).layer(backend)
        };
        lines.push(line(times, &fleet(times).run(guarded, client).await?));
        found = handles.borrow().iter().map(|handle| handle.limit().to_string()).collect();
    }
    lines.push(format!("  limits at the end: {}", found.join(", ")));
    Ok(lines.join("\n"))
}

async fn fewer_are_sent() -> Result<String> {
    let title = "To refuse costs work, too: clients that are refused much send less.";
    let mut lines = vec![title.to_string(), HEAD.into()];
    for times in TIMES {
        let guarded = |backend: Backend| ConcurrencyLimitLayer::wait(5, 5).layer(backend);
        let layer = AdmissionLayer::new(Throttle::new().window(SECOND))?.seed(Seed::new(9));
        let admission = |number, endpoints| layer.layer(client(number, endpoints));
        lines.push(line(times, &fleet(times).run(guarded, admission).await?));
    }
    Ok(lines.join("\n"))
}
