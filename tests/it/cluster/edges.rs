//! What a manifest may ask for that nobody expects, and what happens to a name that is used twice.

use super::world::{builder, fetch, pods, ready, shop, start};
use seedpod::{base::time::sleep, pod::Context, store::Write};
use std::time::Duration;

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
