//! Workloads come to life, are disturbed, and recover.

use super::world::{fetch, pods, ready, shop, start};
use std::{collections::BTreeSet, time::Duration};

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_available_and_answers_under_its_name() {
    let cluster = start().await;
    let applied = cluster.apply(&shop("cart", 3)).await.unwrap();
    let text: Vec<_> = applied.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["deployment.apps/cart created", "service/cart created"]);
    cluster.available("deployment/cart").await.unwrap();
    let mut answers = BTreeSet::new();
    for _ in 0..50 {
        // a client of its own each time, since connections stay with their pod
        let client = seedpod::http::Client::new(cluster.host());
        answers.insert(
            client.get("http://cart.default.svc.cluster.local/").await.unwrap().into_body().text().await.unwrap(),
        );
    }
    let names: BTreeSet<_> = pods(&cluster, "cart").iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!(answers, names);
    let nodes: BTreeSet<_> = pods(&cluster, "cart").iter().map(|pod| pod.node().unwrap().to_owned()).collect();
    assert_eq!(nodes.len(), 3, "spread over the nodes");
    let again: Vec<_> = cluster.apply(&shop("cart", 3)).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(again, ["deployment.apps/cart unchanged", "service/cart unchanged"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acted_on_is_told_when_it_is_applied() {
    let cluster = start().await;
    let manifest = shop("cart", 1).replace("image: web", "image: web\n        securityContext: {privileged: true}");
    for _ in 0..2 {
        let applied = cluster.apply(&manifest).await.unwrap();
        let told = applied.iter().map(|it| it.warnings.iter().map(ToString::to_string).collect::<Vec<_>>());
        let said = "document 1, line 15: Deployment cart: \
                    spec.template.spec.containers[0].securityContext: stored, not acted on";
        assert_eq!(told.collect::<Vec<_>>(), [vec![said.to_string()], Vec::new()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_pod_is_replaced() {
    let cluster = start().await;
    cluster.apply(&shop("cart", 2)).await.unwrap();
    cluster.available("deployment/cart").await.unwrap();
    let before: BTreeSet<_> = pods(&cluster, "cart").iter().map(|pod| pod.name().to_owned()).collect();
    let victim = before.first().unwrap();
    cluster.kill_pod(victim).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    cluster.available("deployment/cart").await.unwrap();
    let after: BTreeSet<_> = pods(&cluster, "cart").iter().map(|pod| pod.name().to_owned()).collect();
    assert_eq!((after.len(), after.contains(victim), after.intersection(&before).count()), (2, false, 1));
    assert!(pods(&cluster, "cart").iter().all(ready));
    for _ in 0..20 {
        let client = seedpod::http::Client::new(cluster.host());
        let answer = client.get("http://cart/").await.unwrap().into_body().text().await.unwrap();
        assert!(after.contains(&answer), "{answer}");
    }
    assert!(fetch(&cluster, "http://nobody/").await.is_err());
}
