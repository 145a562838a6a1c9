//! Pods with names that stay: their order, their names in DNS, and shards by name.

use super::world::{self, builder, fetch, pods, ready};
use seedpod::{
    base::{Kind, time::sleep},
    cluster::{
        Cluster,
        object::{PodSpec, PodStatus, StatefulSetStatus},
    },
    http::Client,
    pod::Context,
    serving::{Endpoints, Member},
};
use std::{future::IntoFuture, net::SocketAddr, time::Duration};

const HEADLESS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---";

fn db(replicas: u32, spec: &str, env: &str) -> String {
    format!(
        "{HEADLESS}
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  replicas: {replicas}
  serviceName: db
  {spec}
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: web
        env: [{{name: DELAY, value: '{env}'}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, initialDelaySeconds: 2, periodSeconds: 1}}
"
    )
}

/// What was created and deleted, in the order of the last time: `+0 +1 -1`. What happened twice is one event.
fn story(cluster: &Cluster) -> String {
    let events = cluster.events().into_iter().filter(|event| event.involved_object.kind == "StatefulSet");
    let step = |message: &str| {
        let number = message.split("db-").nth(1)?.chars().next()?;
        Some(format!("{}{number}", if message.starts_with("create") { '+' } else { '-' }))
    };
    events.filter_map(|event| step(&event.message)).collect::<Vec<_>>().join(" ")
}

fn status(cluster: &Cluster) -> StatefulSetStatus {
    cluster.get("statefulset/db").unwrap().view::<StatefulSetStatus>().unwrap().clone()
}

/// Looks at the pods ten times a second: none may be created while one of a lower number is not ready.
fn watch_order(cluster: &Cluster) -> tokio::task::JoinHandle<()> {
    let cluster = cluster.clone();
    tokio::spawn(async move {
        loop {
            let mut there: Vec<_> = pods(&cluster, "db");
            there.sort_by_key(|pod| pod.name().to_owned());
            if let Some((_, below)) = there.split_last() {
                assert!(below.iter().all(ready), "{there:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn pods_come_in_order_go_in_reverse_and_each_has_its_name_in_dns() {
    let cluster = builder(1).start().await.unwrap();
    let order = watch_order(&cluster);
    cluster.apply(&db(3, "", "0")).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!(story(&cluster), "+0 +1 +2");
    for number in 0..3 {
        let name = format!("db-{number}");
        let url = format!("http://{name}.db.default.svc.cluster.local:8080/");
        assert_eq!(fetch(&cluster, &url).await.unwrap(), name);
        let pod = cluster.get(&format!("pod/{name}")).unwrap();
        assert_eq!(pod.labels().get("statefulset.kubernetes.io/pod-name"), Some(&*name));
        assert_eq!(pod.labels().get("apps.kubernetes.io/pod-index"), Some(&*number.to_string()));
    }
    cluster.scale("statefulset/db", 1).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!(story(&cluster), "+0 +1 +2 -2 -1");
    assert!(fetch(&cluster, "http://db-2.db:8080/").await.is_err());
    assert!(!order.is_finished(), "an order was broken");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_dies_comes_back_under_its_name_and_at_its_name() {
    let cluster = builder(2).start().await.unwrap();
    cluster.apply(&db(2, "", "0")).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    let before = cluster.get("pod/db-0").unwrap();
    cluster.delete("pod/db-0").await.unwrap();
    sleep(Duration::from_secs(20)).await;
    cluster.available("statefulset/db").await.unwrap();
    let after = cluster.get("pod/db-0").unwrap();
    assert_ne!(before.uid(), after.uid());
    assert_eq!(fetch(&cluster, "http://db-0.db:8080/").await.unwrap(), "db-0");
    assert_eq!(story(&cluster), "+1 +0");
}

#[tokio::test(start_paused = true)]
async fn a_new_template_goes_from_the_highest_number_down_one_at_a_time() {
    let cluster = builder(3).start().await.unwrap();
    cluster.apply(&db(3, "", "0")).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    let old = status(&cluster);
    assert_eq!((old.current_replicas, old.updated_replicas, &old.current_revision), (3, 3, &old.update_revision));
    cluster.apply(&db(3, "", "1")).await.unwrap();
    sleep(Duration::from_secs(6)).await;
    let amid = status(&cluster);
    assert!(amid.current_revision == old.current_revision && amid.update_revision != old.update_revision);
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!(story(&cluster), "-2 +2 -1 +1 -0 +0");
    let new = status(&cluster);
    assert_eq!((new.current_replicas, new.updated_replicas, &new.current_revision), (3, 3, &amid.update_revision));

    cluster.apply(&db(3, "updateStrategy: {type: OnDelete}", "2")).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(status(&cluster).updated_replicas, 0);
    cluster.delete("pod/db-1").await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert_eq!((status(&cluster).updated_replicas, status(&cluster).available_replicas), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn parallel_pods_wait_for_nobody() {
    let cluster = builder(4).start().await.unwrap();
    cluster.apply(&db(3, "podManagementPolicy: Parallel", "0")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((pods(&cluster, "db").len(), status(&cluster).ready_replicas), (3, 0));
    cluster.available("statefulset/db").await.unwrap();
    cluster.scale("statefulset/db", 0).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!(pods(&cluster, "db").len(), 0);
    let error = cluster.apply(&db(3, "", "0")).await.unwrap_err();
    assert!(error.to_string().contains("podManagementPolicy cannot change"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_somebody_else_under_the_name_is_told_and_not_touched() {
    let cluster = builder(5).start().await.unwrap();
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0"}, "spec": {"containers": [{"name": "m", "image": "web"}]}}"#;
    cluster.apply(pod).await.unwrap();
    cluster.apply(&db(1, "", "0")).await.unwrap();
    let error = cluster.available("statefulset/db").within(Duration::from_secs(30)).await.unwrap_err();
    assert!(error.kind() == Kind::Timeout && error.to_string().contains("already exists"), "{error}");
    cluster.delete("pod/db-0").await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn its_pods_are_endpoints_by_name_for_a_client_that_follows() {
    let cluster = builder(6).start().await.unwrap();
    cluster.apply(&db(2, "", "0")).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    let (endpoints, client) = (Endpoints::named("db"), Client::new(cluster.host()));
    let make = move |address: &SocketAddr| client.clone().base(&format!("http://{address}")).unwrap();
    let follow = endpoints.follow(cluster.services().watch("db").unwrap(), Member::of, make);
    tokio::spawn(follow.into_future());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(endpoints.keys(), ["db-0".into(), "db-1".into()]);
    cluster.scale("statefulset/db", 3).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(endpoints.keys(), ["db-0".into(), "db-1".into(), "db-2".into()]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_set_that_is_deleted_go_too() {
    let cluster = builder(7).start().await.unwrap();
    cluster.apply(&db(2, "", "0")).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    cluster.delete("statefulset/db").await.unwrap();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(pods(&cluster, "db").len(), 0);
    assert!(cluster.list("pods").unwrap().is_empty());
}

/// Counts its starts in its volume, and serves.
async fn counting(context: Context) -> seedpod::Result {
    let volume = context.volume("data")?;
    let before = volume.read("starts").map_or(0, |bytes| bytes.len());
    volume.write("starts", "x".repeat(before + 1))?;
    context.log(format!("start {}", before + 1));
    world::web(context).await
}

#[tokio::test(start_paused = true)]
async fn each_pod_finds_its_own_volume_again_also_after_the_set_was_scaled_down() {
    let cluster = builder(8).image("counting", counting).start().await.unwrap();
    let claims = "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 4}}}}]";
    let manifest = db(2, claims, "0")
        .replace("image: web", "image: counting\n        volumeMounts: [{name: data, mountPath: /data}]");
    let starts =
        |pod: &str| cluster.logs(pod, "main").unwrap().iter().map(|line| line.text.to_string()).next().unwrap();
    cluster.apply(&manifest).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!([starts("db-0"), starts("db-1")], ["start 1", "start 1"]);
    cluster.delete("pod/db-1").await.unwrap();
    sleep(Duration::from_secs(20)).await;
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!([starts("db-0"), starts("db-1")], ["start 1", "start 2"]);
    cluster.scale("statefulset/db", 1).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    cluster.scale("statefulset/db", 2).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    assert_eq!(starts("db-1"), "start 3");
    let pod = cluster.get("pod/db-1").unwrap();
    let claim = pod.view::<PodSpec>().unwrap().volumes[0].persistent_volume_claim.clone().unwrap();
    assert_eq!(claim.claim_name, "data-db-1");
}

#[tokio::test(start_paused = true)]
async fn a_claims_volume_holds_what_was_asked_for_and_goes_with_its_namespace() {
    let cluster = builder(9).image("counting", counting).start().await.unwrap();
    let claims = "volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1}}}}]";
    let manifest = db(1, claims, "0")
        .replace("image: web", "image: counting\n        volumeMounts: [{name: data, mountPath: /data}]");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---";
    let manifest = manifest.replace("{name: db}\nspec", "{name: db, namespace: shop}\nspec");
    for _ in 0..2 {
        cluster.apply(&format!("{namespace}{manifest}")).await.unwrap();
        cluster.available("statefulset/shop/db").await.unwrap();
        cluster.delete("pod/shop/db-0").await.unwrap();
        sleep(Duration::from_secs(60)).await;
        let pod = cluster.get("pod/shop/db-0").unwrap();
        let status = pod.view::<PodStatus>().unwrap();
        let ended = status.container_statuses[0].last_state.terminated.clone().unwrap();
        assert!(ended.message.contains("its limit is 1"), "{ended:?}");
        cluster.delete("namespace/shop").await.unwrap();
        sleep(Duration::from_secs(30)).await;
    }
}
