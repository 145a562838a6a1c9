//! What a pod needs before it runs, and what it finds when it does.

use super::world::{builder, fetch, pods, ready, shop, start, waiting};
use seedpod::{
    base::time::sleep,
    cluster::{Cluster, object::PodStatus},
    http::{self, Body},
    pod::Context,
};
use std::{convert::Infallible, time::Duration};

fn reasons(cluster: &Cluster) -> Vec<String> {
    cluster.events().iter().map(|event| format!("{} {}: {}", event.type_, event.reason, event.message)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_unknown_image_is_waited_for_and_named() {
    let cluster = start().await;
    cluster.apply(&shop("cart", 1).replace("image: web", "image: shop/cart:v1")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let first = waiting(&pods(&cluster, "cart")[0]);
    assert!(first.as_deref() == Some("ErrImagePull") || first.as_deref() == Some("ImagePullBackOff"), "{first:?}");
    let error = cluster.available("deployment/cart").within(Duration::from_secs(60)).await.unwrap_err();
    assert!(error.is_timeout());
    let text = error.to_string();
    for part in
        ["deployments/default/cart", "0 of 1 pods are available", "container main: ImagePullBackOff", "shop/cart:v1"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let events = reasons(&cluster);
    assert!(
        events.iter().any(|it| it.starts_with("Warning Failed: Failed to pull image \"shop/cart:v1\"")),
        "{events:#?}"
    );
    assert!(events.iter().any(|it| it.contains("BackOff: Back-off pulling image \"shop/cart:v1\"")), "{events:#?}");
    cluster.images().register("shop/cart", super::world::web);
    cluster.available("deployment/cart").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_what_the_container_ended_with() {
    async fn broken(_: Context) -> seedpod::Result {
        Err(seedpod::Error::new(seedpod::Kind::Invalid, "no such colour").at("COLOUR"))
    }
    let cluster = builder(1).image("broken", broken).start().await.unwrap();
    cluster.apply(&shop("cart", 1).replace("image: web", "image: broken")).await.unwrap();
    let error = cluster.available("deployment/cart").within(Duration::from_secs(30)).await.unwrap_err();
    let says = "container main: CrashLoopBackOff: back-off 20s restarting failed container=main, it ended with \"COLOUR: \
                invalid: no such colour\"";
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_init_container_waits_for_a_service() {
    async fn wait(context: Context) -> seedpod::Result {
        while context.connect("late:80").await.is_err() {
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
    let cluster = builder(1).image("busybox", wait).start().await.unwrap();
    let init = "      initContainers: [{name: wait, image: 'busybox:latest'}]\n      containers:";
    cluster.apply(&shop("early", 1).replace("      containers:", init)).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    let pod = &pods(&cluster, "early")[0];
    assert!(!ready(pod));
    assert_eq!(waiting(pod).as_deref(), Some("PodInitializing"));
    cluster.apply(&shop("late", 1)).await.unwrap();
    cluster.available("deployment/early").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn readiness_decides_about_traffic_and_liveness_about_restarts() {
    // ready once it has been asked three times; ill after a minute
    async fn moody(context: Context) -> seedpod::Result {
        let listener = context.listen(8080).await?;
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let started = seedpod::base::time::now();
        let answer = move |request: ::http::Request<Body>| {
            let count = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let well = match request.uri().path() {
                "/ready" => count >= 3,
                "/alive" => started.elapsed() < Duration::from_secs(60),
                _ => true,
            };
            async move { Ok::<_, Infallible>(http::text(if well { 200 } else { 503 }, "")) }
        };
        http::serve(listener, tower::service_fn(answer)).until(context.stopped()).await
    }
    let cluster = builder(1).image("moody", moody).start().await.unwrap();
    let probes = "readinessProbe: {httpGet: {path: /ready, port: web}, periodSeconds: 7}
        livenessProbe: {httpGet: {path: /alive, port: 8080}, periodSeconds: 10, failureThreshold: 2}
        ports: [{name: web, containerPort: 8080}]";
    let old = "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}";
    cluster.apply(&shop("moody", 1).replace(old, probes).replace("image: web", "image: moody")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(!ready(&pods(&cluster, "moody")[0]));
    assert!(fetch(&cluster, "http://moody/").await.is_err());
    cluster.available("deployment/moody").await.unwrap();
    fetch(&cluster, "http://moody/").await.unwrap();
    sleep(Duration::from_secs(100)).await;
    let pod = &pods(&cluster, "moody")[0];
    assert!(pod.view::<PodStatus>().unwrap().container_statuses[0].restart_count >= 1);
    let events = reasons(&cluster);
    assert!(events.iter().any(|it| it.starts_with("Warning Unhealthy: ") && it.contains("iveness")), "{events:#?}");
}

#[tokio::test(start_paused = true)]
async fn settings_reach_containers_as_variables_and_files_and_follow_changes() {
    async fn tell(context: Context) -> seedpod::Result {
        let listener = context.listen(8080).await?;
        let variables = ["MODE", "PASSWORD", "POD", "NODE", "WEB_SERVICE_PORT", "ALL_mode"];
        let said: Vec<_> = variables.iter().map(|name| context.env(name).unwrap_or("-").to_owned()).collect();
        let (config, cache) = (context.volume("config")?, context.volume("cache")?);
        cache.write("mine", "1")?;
        let answer = move |_: ::http::Request<Body>| {
            let text = format!(
                "{} {} {}",
                said.join(" "),
                String::from_utf8_lossy(&config.read("app/mode").unwrap_or_default()),
                config.write("app/mode", "no").is_err(),
            );
            async move { Ok::<_, Infallible>(http::text(200, text)) }
        };
        http::serve(listener, tower::service_fn(answer)).until(context.stopped()).await
    }
    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tell, labels: {app: web}}
spec:
  containers:
  - name: main
    image: tell
    args: [$(MODE)]
    envFrom: [{prefix: ALL_, configMapRef: {name: settings}}]
    env:
    - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: login, key: password}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    volumeMounts: [{name: config, mountPath: /config}, {name: cache, mountPath: /cache}]
  volumes:
  - {name: config, configMap: {name: settings, items: [{key: mode, path: app/mode}]}}
  - {name: cache, emptyDir: {}}
";
    let settings = |mode: &str| {
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings}}, data: {{mode: {mode}}}}}")
    };
    let cluster = builder(1).image("tell", tell).start().await.unwrap();
    cluster.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}").await.unwrap();
    cluster.apply(POD).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        waiting(&cluster.get("pod/tell").unwrap()).as_deref(),
        Some("ContainerCreating"),
        "its volume is missing"
    );
    let events = reasons(&cluster);
    assert!(
        events.iter().any(|it| it.contains("FailedMount") && it.contains("configmap \"settings\" not found")),
        "{events:#?}"
    );
    cluster.apply(&settings("slow")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(waiting(&cluster.get("pod/tell").unwrap()).as_deref(), Some("CreateContainerConfigError"));
    cluster
        .apply("{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {password: hunter2}}")
        .await
        .unwrap();
    cluster.available("pod/tell").within(Duration::from_secs(5)).await.unwrap();
    let node = cluster.get("pod/tell").unwrap().node().unwrap().to_owned();
    assert_eq!(fetch(&cluster, "http://web/").await.unwrap(), format!("slow hunter2 tell {node} 80 slow slow true"));
    cluster.apply(&settings("fast")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let text = fetch(&cluster, "http://web/").await.unwrap();
    assert_eq!(text, format!("slow hunter2 tell {node} 80 slow fast true"), "files follow, variables stay");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_waits_until_there_is_room() {
    let cluster = start().await;
    for node in ["node-0", "node-1", "node-2"] {
        cluster.cordon(node).await.unwrap();
    }
    cluster.apply(&shop("web", 1)).await.unwrap();
    let error = cluster.available("deployment/web").within(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.to_string().contains("0/3 nodes are available: 3 node(s) were unschedulable."), "{error}");
    cluster.uncordon("node/node-1").await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    assert_eq!(pods(&cluster, "web")[0].node(), Some("node-1"));
    let big = shop("big", 1).replace("image: web", "image: web\n        resources: {requests: {cpu: '5'}}");
    cluster.apply(&big).await.unwrap();
    let error = cluster.available("deployment/big").within(Duration::from_secs(10)).await.unwrap_err();
    let expected = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.";
    assert!(error.to_string().contains(expected), "{error}");
}

#[tokio::test(start_paused = true)]
async fn logs_and_commands() {
    let image = seedpod::pod::Image::new(super::world::web).exec(|_: Context, command: Vec<String>| async move {
        Ok::<_, seedpod::Error>(seedpod::pod::Output::ok(command.join(" ")))
    });
    let cluster = builder(1).image("talkative", image).start().await.unwrap();
    cluster.apply(&shop("web", 1).replace("image: web", "image: talkative")).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let pod = pods(&cluster, "web")[0].name().to_owned();
    assert_eq!(&*cluster.logs(&pod, "main").unwrap()[0].text, "serving");
    assert_eq!(cluster.exec(&pod, "main", ["say", "hello"]).await.unwrap().stdout, "say hello");
    assert!(cluster.logs("nobody", "main").unwrap_err().is_not_found());
}
