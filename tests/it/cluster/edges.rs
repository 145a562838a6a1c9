//! What a manifest may ask for that nobody expects, and what happens to a name that is used twice.

use super::world::{builder, fetch, pods, ready, shop, start};
use seedpod::{
    base::time::sleep,
    cluster::{
        Change,
        object::{Condition, PodPhase, PodStatus, Secret, ServiceSpec},
    },
    pod::Context,
    store::Write,
};
use std::time::Duration;
use tokio::io::AsyncReadExt;

const SECOND: Duration = Duration::from_secs(1);

/// Does not heed its stop signal.
async fn stubborn(context: Context) -> seedpod::Result {
    let _listener = context.listen(8080).await?;
    std::future::pending().await
}

fn bare(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  {spec}
  containers: [{{name: main, image: web, readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}}}]
"
    )
}

#[tokio::test(start_paused = true)]
async fn a_grace_beyond_all_clocks_is_a_long_one() {
    let cluster = start().await;
    let spec = format!("terminationGracePeriodSeconds: {}", i64::MAX);
    cluster.apply(&bare("patient", &spec)).await.unwrap();
    cluster.available("pod/patient").within(60 * SECOND).await.unwrap();
    cluster.delete("pod/patient").await.unwrap();
    assert!(cluster.get("pod/patient").unwrap().metadata().is_deleting());
    sleep(10 * SECOND).await;
    assert!(cluster.get("pod/patient").is_err(), "its container ends when it is told");
    assert_eq!(cluster.control_plane().status().restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_a_port_that_no_container_names_never_passes() {
    let cluster = start().await;
    let spec = shop("typo", 1).replace("port: 8080}, periodSeconds", "port: nosuch}, periodSeconds");
    cluster.apply(&spec).await.unwrap();
    sleep(30 * SECOND).await;
    assert!(!ready(&pods(&cluster, "typo")[0]));
    let said = cluster.events().iter().any(|event| event.message.ends_with("couldn't find port: nosuch"));
    assert!(said, "{:#?}", cluster.events());
}

#[tokio::test(start_paused = true)]
async fn a_hook_over_tcp_is_accepted_and_fails_whenever_it_is_run() {
    let cluster = start().await;
    let spec = |stage: &str| {
        let hook = format!("name: main, lifecycle: {{{stage}: {{tcpSocket: {{port: 8080}}}}}},");
        bare(&stage.to_lowercase(), "terminationGracePeriodSeconds: 5").replace("name: main,", &hook)
    };
    cluster.apply(&[spec("postStart"), spec("preStop")].join("---")).await.unwrap();
    cluster.available("pod/prestop").within(10 * SECOND).await.unwrap();
    sleep(10 * SECOND).await;
    let status = cluster.get("pod/poststart").unwrap().view::<PodStatus>().unwrap().clone();
    assert!(status.container_statuses[0].restart_count > 0, "its container is killed and started again");
    cluster.delete("pod/prestop").await.unwrap();
    sleep(10 * SECOND).await;
    assert!(cluster.get("pod/prestop").is_err(), "the stop goes on");
    for (reason, stage) in [("FailedPostStartHook", "post-start"), ("FailedPreStopHook", "pre-stop")] {
        let events = cluster.events();
        let event = events.iter().find(|event| event.reason == reason).unwrap_or_else(|| panic!("{events:#?}"));
        let said = "hook: unsupported: invalid handler: a tcpSocket cannot be run as a lifecycle hook";
        assert_eq!((event.message.as_str(), event.type_.as_str()), (format!("{stage} {said}").as_str(), "Warning"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_used_again_while_its_last_pod_ends_is_a_pod_of_its_own() {
    for seed in 0..5 {
        let cluster = builder(seed).image("web", stubborn).start().await.unwrap();
        cluster.apply(&bare("twice", "")).await.unwrap();
        cluster.available("pod/twice").within(60 * SECOND).await.unwrap();
        let first = cluster.get("pod/twice").unwrap();
        cluster.delete("pod/twice").await.unwrap();
        sleep(5 * SECOND).await; // under way to its end
        cluster.kill_pod("twice").await.unwrap();
        cluster.apply(&bare("twice", "")).await.unwrap();
        cluster.available("pod/twice").within(60 * SECOND).await.unwrap();
        sleep(100 * SECOND).await;
        let second = cluster.get("pod/twice").unwrap();
        assert_ne!(first.uid(), second.uid());
        assert!(ready(&second));
        assert!(cluster.exec("twice", "main", ["x"]).await.is_ok(), "it runs");
    }
}

#[tokio::test(start_paused = true)]
async fn less_grace_counts_even_while_services_turn_away() {
    let cluster = builder(1).image("web", stubborn).start().await.unwrap();
    cluster.apply(&bare("slow", "terminationGracePeriodSeconds: 300")).await.unwrap();
    cluster.available("pod/slow").within(60 * SECOND).await.unwrap();
    cluster.delete("pod/slow").await.unwrap();
    sleep(Duration::from_millis(20)).await; // endpoints have just heard of it, its container has not
    let told = cluster.store().get("pods/default/slow").unwrap();
    let hurried = told.value.edit_metadata(|metadata| metadata.deletion_grace_period_seconds = Some(2)).unwrap();
    cluster.store().commit(vec![Write::replace(&told, hurried)]).await.unwrap();
    sleep(5 * SECOND).await;
    assert!(cluster.get("pod/slow").is_err());
}

#[tokio::test(start_paused = true)]
async fn two_protocols_on_one_number_are_two_ports() {
    let cluster = start().await;
    let both = "ports: [{name: web, port: 80, targetPort: 8080}, {name: dns, port: 80, targetPort: 53, protocol: UDP}]";
    cluster.apply(&shop("both", 1).replace("ports: [{port: 80, targetPort: 8080}]", both)).await.unwrap();
    cluster.available("deployment/both").await.unwrap();
    sleep(SECOND).await;
    assert!(fetch(&cluster, "http://both/").await.is_ok(), "connections are for the one of TCP");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_takes_all_that_was_in_it() {
    let cluster = start().await;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: gone}\n";
    let inside = shop("web", 3).replace("metadata: {name: web}", "metadata: {name: web, namespace: gone}");
    cluster.apply(&format!("{namespace}---\n{inside}")).await.unwrap();
    cluster.available("deployment/gone/web").await.unwrap();
    cluster.delete("namespace/gone").await.unwrap();
    sleep(60 * SECOND).await;
    let left: Vec<_> = cluster.store().list("", None, usize::MAX).entries.into_iter().map(|entry| entry.key).collect();
    let left: Vec<_> = left.iter().filter(|key| key.segments().any(|segment| segment == "gone")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_gains_and_gives_up_its_address_with_its_type() {
    let cluster = start().await;
    let name = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    let outside = format!("{name}spec: {{type: ExternalName, externalName: elsewhere.example.com}}\n");
    let inside = format!("{name}spec: {{clusterIP: 10.96.0.77, selector: {{app: web}}, ports: [{{port: 80}}]}}\n");
    let any = inside.replace("clusterIP: 10.96.0.77, ", "");
    let address = || cluster.get("service/web").unwrap().view::<ServiceSpec>().unwrap().cluster_ip.clone();
    for _ in 0..2 {
        cluster.apply(&outside).await.unwrap();
        assert_eq!(address(), "");
        cluster.apply(&inside).await.unwrap();
        assert_eq!(address(), "10.96.0.77");
        cluster.apply(&outside).await.unwrap();
        assert_eq!(address(), "");
        cluster.apply(&any).await.unwrap();
        assert!(address().starts_with("10."), "{}", address());
    }
    cluster.apply(&outside).await.unwrap();
    cluster.apply(&inside.replace("name: web}", "name: other}")).await.expect("the address is free again");
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_a_node_that_is_not_there_does_not_run_and_is_deleted() {
    let cluster = start().await;
    cluster.apply(&bare("lost", "nodeName: nosuch")).await.unwrap();
    sleep(39 * SECOND).await;
    assert!(cluster.logs("lost", "main").is_err() && !ready(&cluster.get("pod/lost").unwrap()));
    sleep(2 * SECOND).await;
    assert!(cluster.get("pod/lost").unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_deleted_node_end_and_come_back_elsewhere() {
    let cluster = start().await;
    cluster.apply(&shop("web", 6)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let on = |node: &str| pods(&cluster, "web").into_iter().filter(|pod| pod.node() == Some(node)).collect::<Vec<_>>();
    let lost = on("node-1");
    assert_eq!(lost.len(), 2);
    let address = lost[0].view::<PodStatus>().unwrap().pod_ip.clone() + ":8080";
    let mut watch = cluster.watch("pods").unwrap();
    cluster.delete("node/node-1").await.unwrap();
    sleep(39 * SECOND).await;
    assert_eq!(on("node-1").len(), 2, "the node could still come back");
    let mut open = cluster.host().connect(&address).await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(on("node-1").len(), 0);
    let error = open.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "what ran is killed");
    assert!(cluster.host().connect(&address).await.is_err());
    cluster.available("deployment/web").within(10 * SECOND).await.unwrap();
    assert_eq!((pods(&cluster, "web").len(), on("node-0").len() + on("node-2").len()), (6, 6));
    let mut told = Vec::new();
    while let Some(changes) = futures::FutureExt::now_or_never(watch.next()).flatten() {
        for change in &changes {
            if let seedpod::store::Change::Remove(entry) = change {
                let status = entry.value.view::<PodStatus>().unwrap();
                told.push((status.phase, Condition::holds(&status.conditions, "DisruptionTarget")));
            }
        }
    }
    assert_eq!(told, [(PodPhase::Failed, true); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_in_time_keeps_its_pods() {
    let cluster = start().await;
    cluster.apply(&shop("web", 3)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let names = || pods(&cluster, "web").iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>();
    let before = names();
    let node = "{apiVersion: v1, kind: Node, metadata: {name: node-1}, status: {capacity: {cpu: 4, memory: 16Gi}}}";
    for _ in 0..2 {
        cluster.delete("node/node-1").await.unwrap();
        sleep(30 * SECOND).await;
        cluster.apply(node).await.unwrap();
        sleep(30 * SECOND).await;
    }
    assert_eq!(names(), before, "each time it is missed anew");
    assert!(pods(&cluster, "web").iter().all(ready));
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_of_a_secret_is_noted_without_its_values() {
    let cluster = start().await;
    let secret =
        |data: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{{data}}}\n");
    let keys =
        || cluster.get("secret/login").unwrap().view::<Secret>().unwrap().data.keys().cloned().collect::<Vec<_>>();
    cluster.apply(&secret("user: me, password: hunter2")).await.unwrap();
    let object = cluster.get("secret/login").unwrap();
    assert!(object.write(0).contains("aHVudGVyMg=="), "it is there");
    let shown = format!("{object:?} {:?} {:?}", object.metadata(), object.view::<Secret>().unwrap());
    assert!(!shown.contains("aHVudGVyMg==") && !shown.contains("hunter2"), "{shown}");
    assert_eq!(cluster.apply(&secret("user: me, password: hunter2")).await.unwrap()[0].change, Change::Unchanged);
    cluster.apply(&secret("password: hunter3")).await.unwrap();
    assert_eq!(keys(), ["password"], "what is left out is taken out");
}
