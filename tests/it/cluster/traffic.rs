//! Traffic flows while pods come and go, and no request is lost.

use super::world::{builder, pods, ready, shop, start};
use bytes::Bytes;
use http_body_util::BodyExt;
use seedpod::{
    base::{Seed, Selector, time::sleep},
    cluster::Cluster,
    http::{Body, Client},
    layer::{HttpStatus, RetryLayer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::{Service, ServiceBuilder, ServiceExt};

/// Requests until it is told to stop: how many, and how many failed.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<(u64, u64)>>,
}

impl Traffic {
    pub(super) fn start(cluster: &Cluster, url: &'static str, clients: u64) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let client = Client::new(cluster.host());
            let send = tower::service_fn(move |request: ::http::Request<Bytes>| {
                let client = client.clone();
                async move { client.request(request.map(Body::from)).await }
            });
            let retry = RetryLayer::new().attempts(5).classify(HttpStatus).seed(Seed::new(number));
            let mut service = ServiceBuilder::new().layer(retry).service(send);
            let stop = stop.clone();
            tokio::spawn(async move {
                let (mut all, mut failed) = (0, 0);
                while !stop.load(Relaxed) {
                    let request = ::http::Request::get(url).body(Bytes::new()).unwrap();
                    let answer = service.ready().await.unwrap().call(request).await;
                    all += 1;
                    match answer {
                        Ok(response) if response.status().is_success() => drop(response.into_body().collect().await),
                        other => {
                            println!("failed: {other:?}");
                            failed += 1;
                        }
                    }
                    sleep(Duration::from_millis(20)).await;
                }
                (all, failed)
            })
        });
        let clients = clients.collect();
        Traffic { stop, clients }
    }

    pub(super) async fn stop(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        let (mut all, mut failed) = (0, 0);
        for client in self.clients {
            let (one, bad) = client.await.unwrap();
            all += one;
            failed += bad;
        }
        (all, failed)
    }
}

/// The fewest pods that were ready at any time.
fn watch_ready(cluster: &Cluster, app: &'static str) -> (Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let least = Arc::new(AtomicU64::new(u64::MAX));
    let (seen, cluster) = (least.clone(), cluster.clone());
    let task = tokio::spawn(async move {
        let mut watch = cluster.watch("pods").unwrap();
        while watch.next().await.is_some() {
            let count = pods(&cluster, app).iter().filter(|pod| ready(pod)).count() as u64;
            seen.fetch_min(count, Relaxed);
        }
    });
    (least, task)
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_keeps_enough_and_loses_nothing() {
    let cluster = start().await;
    cluster.apply(&shop("web", 4)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let traffic = Traffic::start(&cluster, "http://web/", 4);
    sleep(Duration::from_secs(2)).await;
    let (least, watching) = watch_ready(&cluster, "web");
    let before: Vec<_> = pods(&cluster, "web").iter().map(|pod| pod.name().to_owned()).collect();
    cluster.restart("web").await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    sleep(Duration::from_secs(15)).await;
    watching.abort();
    let (sent, failed) = traffic.stop().await;
    assert!(sent > 500, "{sent}");
    assert_eq!(failed, 0, "of {sent}");
    assert!(least.load(Relaxed) >= 3, "{least:?} ready at worst: 25 % of 4 may be missing");
    let after = pods(&cluster, "web");
    assert!(after.len() == 4 && after.iter().all(|pod| !before.contains(&pod.name().to_owned())));
    let sets = cluster.list("replicasets").unwrap();
    assert_eq!(sets.len(), 2, "the old one is kept, empty");
    let revision = |at: usize| sets[at].metadata().annotations["deployment.kubernetes.io/revision"].clone();
    let mut revisions = [revision(0), revision(1)];
    revisions.sort();
    assert_eq!(revisions, ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_is_left_in_order() {
    let cluster = start().await;
    cluster.apply(&shop("web", 6)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let on = |node: &str| pods(&cluster, "web").iter().filter(|pod| pod.node() == Some(node)).count();
    assert_eq!(on("node-1"), 2);
    let traffic = Traffic::start(&cluster, "http://web/", 4);
    let (least, watching) = watch_ready(&cluster, "web");
    sleep(Duration::from_secs(1)).await;
    cluster.drain("node-1").await.unwrap();
    let everywhere: Selector = "app=web".parse().unwrap();
    let left = cluster.list("pods").unwrap();
    assert!(!left.iter().any(|pod| everywhere.matches(pod.labels()) && pod.node() == Some("node-1")));
    cluster.available("deployment/web").await.unwrap();
    watching.abort();
    let (sent, failed) = traffic.stop().await;
    assert_eq!((failed, on("node-1"), pods(&cluster, "web").len()), (0, 0, 6), "of {sent}");
    assert!(least.load(Relaxed) >= 5, "{least:?} ready at worst: one at a time");
    cluster.uncordon("node-1").await.unwrap();
    cluster.scale("web", 9).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    assert_eq!(on("node-1"), 3, "it gets pods again");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_sees_a_kill_as_a_reset() {
    let cluster = builder(1).env("DELAY", "60000").start().await.unwrap();
    cluster.apply(&shop("slow", 1).replace("httpGet: {path: /, port: 8080}", "tcpSocket: {port: 8080}")).await.unwrap();
    cluster.available("deployment/slow").await.unwrap();
    let request = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.http().get("http://slow/").await.map(|_| ()) }
    });
    sleep(Duration::from_millis(10)).await;
    let victim = pods(&cluster, "slow")[0].name().to_owned();
    cluster.kill_pod(&victim).await.unwrap();
    let error = request.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), seedpod::Kind::Unavailable, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn without_an_endpoint_a_connection_is_refused_by_name() {
    let cluster = start().await;
    cluster.apply(&shop("web", 1)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    cluster.scale("web", 0).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(cluster.list("pods").unwrap().len(), 0);
    let error = cluster.host().connect("web:80").await.unwrap_err();
    assert!(error.chain().contains("no endpoint is ready"), "{}", error.chain());
    cluster.scale("deployment/web", 2).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    cluster.host().connect("web:80").await.unwrap();
}
