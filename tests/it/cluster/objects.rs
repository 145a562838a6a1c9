//! Objects come and go: all or nothing, with what they own.

use super::world::{builder, pods, shop, start};
use seedpod::{
    Kind,
    base::time::sleep,
    cluster::object::{self, ServiceSpec},
};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_refused_manifest_leaves_the_store_as_it_was() {
    let cluster = start().await;
    cluster.apply(&shop("web", 1)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let before = cluster.store().revision();
    let good = shop("other", 1);
    for (bad, kind) in [
        ("apiVersion: v1\nkind: Service\nmetadata: {name: Bad_Name}\nspec: {ports: [{port: 80}]}", Kind::Invalid),
        ("apiVersion: v1\nkind: Gadget\nmetadata: {name: a}", Kind::Invalid),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}", Kind::NotFound),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.1.1.1, ports: [{port: 80}]}}",
            Kind::Invalid,
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.77, selector: {app: web}, ports: [{port: 80}]}}",
            Kind::Invalid,
        ),
        (": : :", Kind::Invalid),
    ] {
        let error = cluster.apply(&format!("{good}---\n{bad}\n")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{bad}: {error}");
        assert_eq!(cluster.store().revision(), before, "{bad}");
    }
    cluster.apply(&good).await.unwrap();
    let at = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: 10.96.0.50, ports: [{{port: 80}}]}}}}\n"
        )
    };
    let nowhere = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}\n";
    cluster.apply(&format!("{}---\n{nowhere}", at("refused"))).await.unwrap_err();
    cluster.apply(&at("taken")).await.expect("what was refused holds no address");
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_one_commit() {
    let cluster = start().await;
    sleep(Duration::from_secs(60)).await;
    let before = cluster.store().revision();
    cluster.apply(&shop("web", 1)).await.unwrap();
    assert_eq!(cluster.store().revision(), before + 1, "nobody sees the one without the other");
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_and_is_left_out_goes_and_what_others_set_stays() {
    let cluster = start().await;
    let with =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {x: '1', y: '2'}}, data: {a: '1', b: '2'}}";
    let without = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {x: '1'}}, data: {a: '3'}}";
    cluster.apply(with).await.unwrap();
    assert_eq!(cluster.apply(with).await.unwrap()[0].to_string(), "configmap/a unchanged");
    assert_eq!(cluster.apply(without).await.unwrap()[0].to_string(), "configmap/a configured");
    let map = cluster.get("cm/a").unwrap();
    assert_eq!(map.labels().to_string(), "x=1");
    assert_eq!(map.view::<object::ConfigMap>().unwrap().data, [("a".to_string(), "3".to_string())].into());

    cluster.apply(&shop("web", 1)).await.unwrap();
    let address = |name| cluster.get(name).unwrap().view::<ServiceSpec>().unwrap().cluster_ip.clone();
    let first = address("service/web");
    assert!(first.starts_with("10."), "{first}");
    cluster.apply(&shop("web", 1).replace("port: 80,", "port: 81,")).await.unwrap();
    assert_eq!(address("service/web"), first);
    cluster.scale("web", 3).await.unwrap();
    cluster.apply(&shop("web", 1)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    assert_eq!(pods(&cluster, "web").len(), 3, "a manifest that does not say how many leaves them");
    cluster.apply(&shop("web", 2)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    assert_eq!(pods(&cluster, "web").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_owned_goes_with_its_owner() {
    let cluster = start().await;
    cluster.apply(&shop("web", 2)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    assert_eq!(cluster.list("endpointslices").unwrap().len(), 1);
    cluster.delete("deployment/web").await.unwrap();
    cluster.delete("service/web").await.unwrap();
    sleep(Duration::from_secs(15)).await;
    for kind in ["deployments", "replicasets", "pods", "endpointslices", "services"] {
        assert_eq!(cluster.list(kind).unwrap().len(), 0, "{kind}");
    }
    assert!(cluster.delete("deployment/web").await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_emptied_before_it_goes() {
    let cluster = start().await;
    cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").await.unwrap();
    let inside = shop("web", 2).replace("metadata: {name: web}", "metadata: {name: web, namespace: shop}");
    cluster.apply(&inside).await.unwrap();
    cluster.available("deployment/shop/web").await.unwrap();
    cluster.host().connect("web.shop:80").await.unwrap();
    assert!(cluster.host().connect("web:80").await.unwrap_err().is_not_found());
    cluster.delete("namespace/shop").await.unwrap();
    let error = cluster.apply(&inside).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected, "{error}");
    sleep(Duration::from_secs(30)).await;
    assert!(cluster.get("namespace/shop").unwrap_err().is_not_found());
    assert_eq!(cluster.list("pods/shop").unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn headless_services_lead_to_pods() {
    let cluster = start().await;
    let headless = shop("db", 2).replace("spec: {selector", "spec: {clusterIP: None, selector");
    cluster.apply(&headless).await.unwrap();
    cluster.available("deployment/db").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let ips = cluster.host().resolve("db").await.unwrap();
    assert_eq!(ips.len(), 2);
    assert!(ips.iter().all(|ip| ip.to_string().starts_with("10.244.")), "{ips:?}");
    cluster.host().connect("db:8080").await.unwrap();
    let alias = "{apiVersion: v1, kind: Service, metadata: {name: alias}, spec: {type: ExternalName, externalName: db.default.svc.cluster.local}}";
    cluster.apply(alias).await.unwrap();
    assert_eq!(cluster.host().resolve("alias").await.unwrap(), ips);
}

#[tokio::test(start_paused = true)]
async fn what_is_injected_comes_through_admission() {
    let admit = |pod: object::Object| match pod.labels().get("app") {
        Some("bad") => Err(seedpod::Error::new(Kind::Rejected, "not here")),
        _ => pod.edit_metadata(|metadata| drop(metadata.labels.insert("injected", "yes"))),
    };
    let cluster = builder(1).admit(admit).start().await.unwrap();
    cluster.apply(&shop("web", 1)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    assert_eq!(pods(&cluster, "web")[0].labels().get("injected"), Some("yes"));
    cluster.apply(&shop("bad", 1)).await.unwrap();
    let error = cluster.available("deployment/bad").within(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.to_string().contains("event FailedCreate"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_pods_in_order() {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };
    let ended = Arc::new(AtomicU64::new(0));
    let seen = ended.clone();
    let tidy = move |context: seedpod::pod::Context| {
        let seen = seen.clone();
        async move {
            context.stopped().await;
            sleep(Duration::from_secs(2)).await;
            seen.fetch_add(1, Relaxed);
            Ok::<_, seedpod::Error>(())
        }
    };
    let cluster = builder(1).image("tidy", tidy).start().await.unwrap();
    let probe = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}";
    cluster.apply(&shop("tidy", 3).replace("image: web", "image: tidy").replace(probe, "args: []")).await.unwrap();
    cluster.available("deployment/tidy").await.unwrap();
    cluster.shutdown().await;
    assert_eq!(ended.load(Relaxed), 3);
}
