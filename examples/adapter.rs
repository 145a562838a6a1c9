//! Adapter: an old order service has its own words for everything. Four adapters beside it give it the interface that all others
//! have: Prometheus metrics, JSON logs, health by HTTP and gRPC, and the API of today. The service is not changed, and does not
//! know.
//!
//! ```text
//! cargo run --example adapter
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use ::http::Request;
use seedpod::{
    Error, Result,
    adapter::{
        ApiAdapter, HealthAdapter, LogAdapter, MetricsAdapter,
        api::{Edits, Mapping, Route},
        health,
        logs::Format,
        metrics::{Registry, Shape},
    },
    base::{Seed, time},
    http::{Body, Client, serve, text},
    net::{Connection, HostOptions, Net},
    pod::{self, Container, ContainerSpec, Context, Pod, PodSpec, Probe, Volume},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;

fn main() -> Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let _simulation = Seed::new(7).simulate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

/// The service as it was always: none of its habits is anybody else's.
async fn orders(context: Context) -> Result {
    let served = Arc::new(AtomicU32::new(0));
    let mut statsd = context.connect("localhost:8125").await.ok();
    let log = context.volume("logs")?;
    log.write("orders.log", "2030-01-01 00:00:00,000 [NOTICE] loading 3 orders\n")?;

    let begin = time::now();
    let ruok = service_fn(move |mut connection: Connection| async move {
        let mut asked = [0; 4];
        connection.read_exact(&mut asked).await?;
        let loaded = time::now() - begin >= Duration::from_secs(10);
        connection.write_all(if loaded { b"imok" } else { b"wait" }).await?;
        connection.shutdown().await
    });
    let (count, lines) = (served.clone(), log.clone());
    let page = service_fn(move |request: Request<Body>| {
        let (count, lines) = (count.clone(), lines.clone());
        async move {
            let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
            let mut written = String::from_utf8_lossy(&lines.read("orders.log")?).into_owned();
            let answer = match path.as_str() {
                "/stats" => {
                    let served = count.load(SeqCst);
                    json(format!(
                        r#"{{"served": {served}, "mem_kb": 2048, "queues": {{"mail": {{"len": 2}}, "sms": {{"len": 0}}}}, "build": "r1742"}}"#
                    ))
                }
                "/order.cgi?no=7" => {
                    count.fetch_add(1, SeqCst);
                    written.push_str("2030-01-01 00:00:20,120 [INFO] order 7 shown\n");
                    json(r#"{"order_no": 7, "cust_nm": "Ada", "sum": 10.50}"#.into())
                }
                _ => {
                    written.push_str("2030-01-01 00:00:21,000 [SEVERE] java.lang.NullPointerException: order\n\tat shop.Orders.find(Orders.java:42)\n\tat shop.Cgi.run(Cgi.java:7)\n");
                    let mut answer = json(r#"{"err": "no such order"}"#.into());
                    *answer.status_mut() = ::http::StatusCode::INTERNAL_SERVER_ERROR;
                    answer
                }
            };
            lines.write("orders.log", written)?;
            Ok::<_, Error>(answer)
        }
    });
    if let Some(statsd) = &mut statsd {
        statsd.write_all(b"db.query:3|ms\ndb.query:40|ms|#table:orders\ndb.pool:8|g\nca fe\n").await?;
    }
    let listener = context.listen(8080).await?;
    let talk = pod::serve(7000, ruok).run(context.clone());
    let web = async { serve(listener, page).until(context.stopped()).await };
    tokio::try_join!(talk, web).map(drop)
}

fn json(body: String) -> ::http::Response<Body> {
    let mut answer = text(200, body);
    answer.headers_mut().insert("content-type", ::http::HeaderValue::from_static("application/json"));
    answer
}

/// What stands between its words and everybody else's.
fn spec(volume: &Volume) -> Result<PodSpec> {
    let metrics = MetricsAdapter::new(9090).registry(Registry::new().prefix("shop")).statsd(8125).http(
        "http://localhost:8080/stats",
        Shape::json()
            .counter("served")
            .help("served", "Orders shown.")
            .name("mem_kb", "memory_bytes")
            .scale("mem_kb", 1024.0)
            .label("queues", "queue")
            .gauge("queues.len")
            .ignore("build"),
    );
    let logs = LogAdapter::new(Format::plain()).file("logs", "orders.log").join_traces();
    let health = HealthAdapter::new(8086)
        .live("port", Probe::tcp(8080))
        .ready("orders", health::says(7000, "ruok", "imok").period(Duration::from_secs(5)).failures(1));
    let order = Edits::new()
        .rename("order_no", "id")
        .rename("cust_nm", "customer.name")
        .rename("sum", "total")
        .add("currency", "EUR");
    let api = Mapping::new().route(
        Route::new("GET", "/v2/orders/{id}")
            .to("GET", "/order.cgi?no={id}")
            .status(500, 404)
            .response_json(order)
            .failure_json(Edits::new().rename("err", "error.message")),
    );
    Ok(PodSpec::new("orders")
        .volume("logs", volume.clone())
        .sidecar(ContainerSpec::new("metrics", metrics))
        .sidecar(ContainerSpec::new("logs", logs).mount("logs", "/logs"))
        .sidecar(ContainerSpec::new("health", health))
        .sidecar(ContainerSpec::new("api", ApiAdapter::new(80, 8080, api.layer()?)))
        .container(
            ContainerSpec::new("orders", orders).mount("logs", "/logs").readiness(Probe::grpc(8086).failures(1)),
        ))
}

async fn tell() -> Result<String> {
    let (net, volume) = (Net::memory().build(), Volume::memory());
    let pod = Pod::start(spec(&volume)?, &net)?;
    let client = Client::new(&net.host(HostOptions::default())?);
    let mut story = Vec::new();
    let get = async |port: u16, path: &str| {
        let answer = client.get(&format!("http://{}:{port}{path}", pod.ip())).await?;
        Ok::<_, Error>((answer.status().as_u16(), answer.into_body().text().await?))
    };

    time::sleep(Duration::from_secs(6)).await;
    story.push("It loads. To `ruok` it says `wait`; GET /readyz says".into());
    let (status, text) = get(8086, "/readyz").await?;
    story.extend(text.lines().map(|line| format!("  {status} {line}")));
    story.push(format!("  and the pod is ready: {}", pod.status().ready.holds));
    time::sleep(Duration::from_secs(14)).await;
    let (status, text) = get(8086, "/readyz").await?;
    story.push(format!(
        "Ten seconds later, `imok`: {status} {text}; gRPC's health says it to the kubelet: ready {}",
        pod.status().ready.holds
    ));

    story.push("Its API, and that of today:".into());
    for (port, path) in [
        (8080, "/order.cgi?no=7"),
        (80, "/v2/orders/7"),
        (80, "/v2/orders/8"),
        (80, "/order.cgi?no=7"),
        (80, "/v2/orders/.."),
    ] {
        let (status, text) = get(port, path).await?;
        story.push(format!("  {port:<5}{path:<17} {status} {}", text.trim()));
    }

    time::sleep(Duration::from_secs(1)).await;
    story.push("Its log:".into());
    let lines = volume.read("orders.log")?;
    story.extend(String::from_utf8_lossy(&lines).lines().map(|line| format!("  {}", line.replace('\t', "        "))));
    story.push("as JSON lines, the trace in one of them:".into());
    story.extend(pod.logs("logs").iter().map(|line| format!("  {}", line.text)));

    story.push("Its statistics:".into());
    story.push(format!("  {}", get(8080, "/stats").await?.1));
    story.push("and its StatsD lines, one of them broken, at GET /metrics (without the empty ones):".into());
    let (_, text) = get(9090, "/metrics").await?;
    let dull = |line: &str| {
        line.ends_with(" 0")
            || line.contains("_bucket")
            || line.starts_with("# HELP seedpod")
            || line.starts_with("# TYPE seedpod")
    };
    story.extend(text.lines().filter(|line| !dull(line)).map(|line| format!("  {line}")));
    pod.stop(Duration::from_secs(10)).await;
    Ok(story.join("\n"))
}
