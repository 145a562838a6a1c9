//! The metrics adapter beside applications that know nothing of Prometheus.

use super::prometheus;
use seedpod::{
    Kind, Result,
    adapter::metrics::{Dropped, MetricsAdapter, Registry, Shape},
    base::time,
    http::{self, Body, Client},
    net::{Connection, HostOptions, Net},
    pod::{ContainerSpec, Context, Pod, PodSpec, Volume, serve},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tower::service_fn;

/// Has its metrics as JSON over HTTP, as `stats` over a text protocol, and in a file.
async fn app(context: Context) -> Result {
    let listener = context.listen(8080).await?;
    let page = service_fn(|_: ::http::Request<Body>| async {
        Ok::<_, seedpod::Error>(http::text(200, r#"{"requests": 12, "queue": {"depth": 3}, "version": "1.2"}"#))
    });
    let cache = service_fn(|connection: Connection| async move {
        let (read, mut write) = tokio::io::split(connection);
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            match line.as_str() {
                "stats" => write.write_all(b"STAT hits 7\r\nSTAT pid 1\r\nEND\r\n").await?,
                _ => break,
            }
        }
        write.shutdown().await
    });
    context.volume("shared")?.write("batch.txt", "rows = 40\nlast run = yesterday\n")?;
    use seedpod::pod::Container;
    let cache = serve(11211, cache).run(context.clone());
    let web = async { http::serve(listener, page).until(context.stopped()).await };
    tokio::try_join!(cache, web).map(drop)
}

fn adapter() -> MetricsAdapter {
    MetricsAdapter::new(9090)
        .registry(Registry::new().prefix("shop").label("app", "cart"))
        .statsd(8125)
        .http("http://localhost:8080/stats", Shape::json().counter("requests").gauge("queue.depth").ignore("version"))
        .tcp("localhost:11211", "stats\r\nquit\r\n", Shape::key_values().counter("hits").ignore("END"))
        .file("shared", "batch.txt", Shape::key_values().gauge("rows"))
}

struct World {
    pod: Pod,
    client: Client,
    scraper: seedpod::net::Host,
    volume: Volume,
}

impl World {
    async fn start(adapter: MetricsAdapter) -> Result<World> {
        let (net, volume) = (Net::memory().build(), Volume::memory());
        let pod = PodSpec::new("cart")
            .volume("shared", volume.clone())
            .sidecar(ContainerSpec::new("metrics", adapter).mount("shared", "/shared"))
            .container(ContainerSpec::new("app", app).mount("shared", "/shared"));
        let pod = Pod::start(pod, &net)?;
        pod.until(|status| status.ready.holds).await;
        time::sleep(Duration::from_millis(5)).await;
        let scraper = net.host(HostOptions::default())?;
        Ok(World { client: Client::new(&scraper), pod, scraper, volume })
    }

    async fn scrape(&self) -> Result<BTreeMap<String, f64>> {
        let answer = self.client.get(&format!("http://{}:9090/metrics", self.pod.ip())).await?;
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = answer.into_body().text().await?;
        Ok(prometheus::read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}")))
    }
}

fn labelled(name: &str) -> String {
    format!("shop_{name}[(\"app\", \"cart\")]")
}

#[tokio::test(start_paused = true)]
async fn a_scrape_asks_the_application_in_its_own_words() -> Result {
    let world = World::start(adapter()).await?;
    let mut sender = world.scraper.connect(&format!("{}:8125", world.pod.ip())).await?;
    sender.write_all(b"orders:1|c\norders:2|c|#kind:gift\nla").await?;
    time::sleep(Duration::from_millis(1)).await;
    sender.write_all(b"tency:30|ms\nnonsense\n").await?;
    time::sleep(Duration::from_millis(1)).await;

    let seen = world.scrape().await?;
    for (name, value) in [
        ("requests_total", 12.0),
        ("queue_depth", 3.0),
        ("hits_total", 7.0),
        ("pid", 1.0),
        ("rows", 40.0),
        ("orders_total", 1.0),
        ("latency_seconds_count", 1.0),
    ] {
        assert_eq!(seen.get(&labelled(name)), Some(&value), "{name} of {seen:#?}");
    }
    let own = |name: &str, label: &str| seen[&format!("seedpod_adapter_{name}[(\"app\", \"cart\"), {label}]")];
    assert_eq!(own("dropped_total", r#"("reason", "malformed")"#), 1.0);
    assert_eq!(own("dropped_total", r#"("reason", "not_a_number")"#), 1.0, "when the batch ran");
    assert_eq!(own("up", r#"("source", "localhost:11211")"#), 1.0);
    assert_eq!(world.scrape().await?.len(), seen.len());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_gone_has_no_series_and_counts_as_down() -> Result {
    let world = World::start(adapter().file("shared", "late.txt", Shape::key_values())).await?;
    let up = r#"seedpod_adapter_up[("app", "cart"), ("source", "shared/late.txt")]"#;
    assert_eq!(world.scrape().await?[up], 0.0);
    let files = world.scrape().await?;
    assert_eq!(files[&up.replace("_up", "_failures_total")], 2.0);
    let logs = world.pod.logs("metrics");
    assert_eq!(logs.len(), 1, "said once: {logs:?}");
    assert_eq!(&*logs[0].text, "file \"late.txt\": not found");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_document_beyond_the_bound_is_refused_whole() -> Result {
    let world = World::start(MetricsAdapter::new(9090).file("shared", "big.txt", Shape::key_values())).await?;
    let volume = world.volume.clone();
    let up = r#"seedpod_adapter_up[("source", "shared/big.txt")]"#;
    volume.write("big.txt", format!("a=1\n{}", " ".repeat((4 << 20) - 4)))?;
    assert_eq!((world.scrape().await?[up], world.scrape().await?.get("a[]")), (1.0, Some(&1.0)));
    volume.write("big.txt", format!("a=1\n{}", " ".repeat((4 << 20) - 3)))?;
    assert_eq!((world.scrape().await?[up], world.scrape().await?.get("a[]")), (0.0, None));
    assert!(world.pod.logs("metrics")[0].text.contains("longer than 4194304 bytes"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up_and_the_others_are_shown() -> Result {
    // says nothing, and never closes
    let hanging = serve(
        7000,
        service_fn(|connection: Connection| async move {
            let _held = connection;
            std::future::pending::<Result>().await
        }),
    );
    let net = Net::memory().build();
    let adapter = MetricsAdapter::new(9090).tcp("localhost:7000", "", Shape::key_values()).statsd(8125);
    let pod = PodSpec::new("stuck")
        .container(ContainerSpec::new("app", hanging))
        .container(ContainerSpec::new("metrics", adapter));
    let pod = Pod::start(pod, &net)?;
    pod.until(|status| status.ready.holds).await;
    let client = Client::new(&net.host(HostOptions::default())?);
    let begin = time::now();
    let text = client.get(&format!("http://{}:9090/metrics", pod.ip())).await?.into_body().text().await?;
    assert_eq!((time::now() - begin).as_secs(), 5);
    assert_eq!(prometheus::read(&text).unwrap()[r#"seedpod_adapter_up[("source", "localhost:7000")]"#], 0.0);
    assert_eq!(client.get(&format!("http://{}:9090/other", pod.ip())).await?.status(), 404);
    assert_eq!(client.post(&format!("http://{}:9090/metrics", pod.ip()), "x").await?.status(), 405);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn to_a_file_it_needs_no_http_and_a_stop_ends_what_is_open() -> Result {
    let net = Net::memory().build();
    let volume = Volume::memory();
    let adapter = MetricsAdapter::to_file("shared", "app.prom", Duration::from_secs(10)).statsd(8125);
    let spec = PodSpec::new("cart")
        .volume("shared", volume.clone())
        .container(ContainerSpec::new("metrics", adapter).mount("shared", "/shared"));
    let pod = Pod::start(spec, &net)?;
    pod.until(|status| status.ready.holds).await;
    let mut sender = net.host(HostOptions::default())?.connect(&format!("{}:8125", pod.ip())).await?;
    sender.write_all(b"orders:1|c\n").await?;
    time::sleep(Duration::from_secs(11)).await;
    let text = String::from_utf8(volume.read("app.prom")?.to_vec()).unwrap();
    assert_eq!(prometheus::read(&text).unwrap()["orders_total[]"], 1.0);
    let begin = time::now();
    pod.stop(Duration::from_secs(30)).await;
    assert!(time::now() - begin < Duration::from_secs(1), "the sender still holds its connection");
    Ok(())
}

#[test]
fn beyond_the_bound_new_series_are_dropped_and_the_old_go_on() {
    let mut registry = Registry::new().series_max(3);
    for index in 0..1_000 {
        registry.statsd(format!("hits:1|c|#user:{index}\nsize:1|h\n").as_bytes());
    }
    assert_eq!((registry.series(), registry.dropped(Dropped::SeriesLimit)), (3, 998));
    registry.statsd(b"hits:1|c|#user:0");
    let seen = prometheus::read(&registry.exposition()).unwrap();
    assert_eq!(seen[r#"hits_total[("user", "0")]"#], 2.0);
    assert_eq!(seen["size_count[]"], 1_000.0);
}

#[test]
fn a_document_of_another_shape_is_an_error_with_its_place() {
    let mut registry = Registry::new();
    let error = registry.read("app", &Shape::json(), b"a=1").unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::Invalid, Some("metrics of app")));
}
