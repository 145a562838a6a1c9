//! Clients that balance by themselves over a service's pods lose nothing while these come and go.

use super::world::{builder, pods, shop};
use futures::{StreamExt, future::join_all};
use seedpod::{
    Kind, Result,
    base::{Labels, Seed, time::sleep},
    cluster::{Builder, Cluster, object::Object, schedule::Shape, service::Services},
    http::{Body, Client},
    net::{Host, HostOptions, Srv},
    pod::Context,
    serving::{Dns, Endpoints, Member, Replicas, Status},
};
use std::{
    collections::BTreeSet,
    future::IntoFuture,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::ServiceExt;

/// Makes a client for each address.
fn clients(host: &Host) -> impl FnMut(&SocketAddr) -> Client + Send + 'static {
    let client = Client::new(host);
    move |address| client.clone().base(&format!("http://{address}")).unwrap()
}

/// One request after another, without a second try; how many, and by whom they were answered.
async fn requests(replicas: Replicas<Client>, stop: Arc<AtomicBool>) -> Result<(u64, BTreeSet<String>)> {
    let (mut sent, mut by) = (0, BTreeSet::new());
    while !stop.load(Relaxed) {
        let request = http::Request::get("/").body(Body::empty())?;
        let answer = replicas.clone().oneshot(request).await?;
        by.insert(seedpod::http::successful(answer)?.into_body().text().await?);
        sent += 1;
        sleep(Duration::from_millis(20)).await;
    }
    Ok((sent, by))
}

async fn start(seed: u64) -> Cluster {
    let mut cluster = Cluster::builder().seed(Seed::new(seed)).image("web", super::world::web);
    for number in 0..3 {
        let labels = Labels::from([("topology.kubernetes.io/zone", ["east", "west", "east"][number])]);
        cluster = cluster.node(format!("node-{number}"), Shape { labels, ..Builder::shape() });
    }
    cluster.env("DELAY", "30").start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_scales_and_rolls_fails_no_request_of_a_client_that_follows_its_pods() {
    let cluster = start(1).await;
    cluster.apply(&shop("web", 3)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let endpoints = Endpoints::named("web");
    let watch = cluster.services().watch("web").unwrap();
    tokio::spawn(endpoints.follow(watch, Member::of, clients(cluster.host())).into_future());
    sleep(Duration::from_millis(1)).await;
    let seen: BTreeSet<_> = endpoints.describe().into_iter().map(|it| it.to_string()).collect();
    let zone = |pod: &Object| if pod.node() == Some("node-1") { "west" } else { "east" };
    let expected = pods(&cluster, "web")
        .into_iter()
        .map(|pod| format!("{}: ready, zone {}, {}", pod.name(), zone(&pod), pod.labels()));
    assert_eq!(seen, expected.collect());

    let stop = Arc::new(AtomicBool::new(false));
    let replicas = Replicas::new(endpoints.clone());
    let traffic: Vec<_> = (0..4).map(|_| tokio::spawn(requests(replicas.clone(), stop.clone()))).collect();
    let most = Arc::new(AtomicBool::new(false));
    let drained = tokio::spawn({
        let (endpoints, most) = (endpoints.clone(), most.clone());
        async move {
            let mut version = 0;
            loop {
                version = endpoints.changed(version).await;
                most.fetch_or(endpoints.describe().iter().any(|it| it.status == Status::Draining), Relaxed);
            }
        }
    });
    for wanted in [6, 2, 5] {
        cluster.scale("web", wanted).await.unwrap();
        cluster.available("deployment/web").await.unwrap();
        sleep(Duration::from_secs(15)).await;
        assert_eq!(endpoints.len(), wanted as usize);
    }
    let before: BTreeSet<_> = endpoints.keys().into_iter().collect();
    cluster.restart("web").await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    sleep(Duration::from_secs(15)).await;
    let after: BTreeSet<_> = endpoints.keys().into_iter().collect();
    assert!(after.len() == 5 && before.is_disjoint(&after));
    stop.store(true, Relaxed);
    let mut by = BTreeSet::new();
    for client in join_all(traffic).await {
        let (sent, names) = client.unwrap().unwrap_or_else(|error| panic!("{}", error.chain()));
        assert!(sent > 1000, "{sent}");
        by.extend(names);
    }
    assert!(by.len() > 10, "{by:?}");
    assert!(most.load(Relaxed), "pods were seen to drain");
    drained.abort();
    cluster.scale("web", 0).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert!(endpoints.is_empty());
}

/// Balances over the pods of `web` by itself, and serves the answers under its own port.
async fn front(context: Context) -> Result {
    let endpoints = Endpoints::named("web");
    let pods = Services::of(&context)?.watch("web:80")?;
    context.spawn(endpoints.follow(pods, Member::of, clients(context.host())).into_future());
    seedpod::http::serve(context.listen(8080).await?, Replicas::new(endpoints)).until(context.stopped()).await
}

#[tokio::test(start_paused = true)]
async fn a_container_finds_the_pods_of_a_service_that_comes_later() {
    let cluster = builder(5).image("front", front).start().await.unwrap();
    cluster
        .apply(
            &shop("front", 1)
                .replace("image: web", "image: front")
                .replace("httpGet: {path: /, port", "tcpSocket: {port"),
        )
        .await
        .unwrap();
    cluster.available("deployment/front").await.unwrap();
    let early = cluster.http().get("http://front/").await.unwrap();
    assert_eq!(early.status(), 503, "there is none yet");
    cluster.apply(&shop("web", 2)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    for _ in 0..10 {
        let answer = super::world::fetch(&cluster, "http://front/").await.unwrap();
        assert!(answer.starts_with("web-"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_or_port_that_cannot_be_is_told_at_once_and_the_stream_ends_with_the_cluster() {
    let cluster = start(1).await;
    cluster.apply(&shop("web", 1)).await.unwrap();
    let services = cluster.services();
    let error = |service: &str| services.watch(service).err().unwrap().to_string();
    assert_eq!(error("web:http"), "web:http: not found: its ports are: 80 ");
    assert!(error("web/80").starts_with("web/80: invalid: "));
    let mut watch = Box::pin(services.watch("web.default:80").unwrap());
    cluster.available("deployment/web").await.unwrap();
    assert!(watch.next().await.is_some());
    let ended = tokio::spawn(async move { while watch.next().await.is_some() {} });
    cluster.shutdown().await;
    drop(cluster);
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends").unwrap();
    assert!(services.watch("web").err().unwrap().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_named_port_is_followed_by_its_srv_records() {
    let cluster = start(2).await;
    let named = |name: &str, more: &str| {
        let web = shop(name, 2)
            .replace("ports: [{port: 80, targetPort: 8080}]", "ports: [{name: web, port: 80, targetPort: 8080}]");
        let web = web.replace("spec: {selector", &format!("spec: {{{more}selector"));
        assert!(web.contains("name: web, port"), "{web}");
        web
    };
    cluster.apply(&named("headless", "clusterIP: None, ")).await.unwrap();
    cluster.apply(&named("virtual", "")).await.unwrap();
    for name in ["headless", "virtual"] {
        cluster.available(&format!("deployment/{name}")).await.unwrap();
    }
    let host = cluster.network().host(HostOptions { name: "outside".into(), ..HostOptions::default() }).unwrap();
    let asked = |name: &'static str| host.services(name);
    let one = asked("_web._tcp.virtual.default.svc.cluster.local").await.unwrap();
    let target = String::from("virtual.default.svc.cluster.local");
    assert_eq!(one, [Srv { priority: 0, weight: 100, port: 80, target }]);
    let pods = asked("_web._tcp.headless.default.svc.cluster.local.").await.unwrap();
    assert_eq!(pods.iter().map(|pod| (pod.weight, pod.port)).collect::<Vec<_>>(), [(50, 8080); 2]);
    for pod in &pods {
        assert_eq!(host.resolve(&pod.target).await.unwrap().len(), 1, "{pod:?}");
    }
    for nobody in ["_grpc._tcp.virtual", "_web._udp.virtual", "_web._tcp.nobody"] {
        let error = host.services(&format!("{nobody}.default.svc.cluster.local")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{nobody}");
    }
    let names = Dns::srv(host.clone(), "_web._tcp.headless.default.svc.cluster.local").unwrap();
    let endpoints = Endpoints::named("web");
    tokio::spawn(endpoints.follow(names.changes(), Member::of, clients(&host)).into_future());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(endpoints.len(), 2);
    let request = http::Request::get("/").body(Body::empty()).unwrap();
    assert!(Replicas::new(endpoints.clone()).oneshot(request).await.unwrap().status().is_success());
    cluster.scale("headless", 3).await.unwrap();
    cluster.available("deployment/headless").await.unwrap();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(endpoints.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_headless_service_is_followed_by_its_name() {
    let cluster = start(2).await;
    cluster.apply(&shop("web", 2).replace("spec: {selector", "spec: {clusterIP: None, selector")).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let host = cluster.network().host(HostOptions { name: "outside".into(), ..HostOptions::default() }).unwrap();
    let names = Dns::new(host.clone(), "web.default.svc.cluster.local:8080").unwrap();
    let endpoints = Endpoints::named("web");
    tokio::spawn(endpoints.follow(names.changes(), Member::of, clients(&host)).into_future());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(endpoints.len(), 2);
    let replicas = Replicas::new(endpoints.clone());
    let request = http::Request::get("/").body(Body::empty()).unwrap();
    assert!(replicas.oneshot(request).await.unwrap().status().is_success());
    cluster.scale("web", 4).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(endpoints.len(), 4);
    cluster.scale("web", 0).await.unwrap();
    sleep(Duration::from_secs(40)).await;
    assert!(endpoints.is_empty());
}
