//! The same patterns over HTTP and the network: a replica is a client with a base.

use super::*;
use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::Full;
use seedpod::{
    http::{Client, serve},
    net::{Host, HostOptions, Net},
};
use std::future::IntoFuture;

fn host(net: &Net, name: &str) -> Host {
    net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_killed_under_traffic_costs_no_request() {
    let net = Net::memory().seed(Seed::new(3)).build();
    let (caller, endpoints) = (host(&net, "caller"), seeded("shop"));
    let servers = ["a", "b", "c"].map(|name| host(&net, name));
    for (key, server) in ["a", "b", "c"].into_iter().zip(&servers) {
        let slowly = get(move || async move {
            time::sleep(20 * MILLI).await;
            key
        });
        let listener = server.listen(80).await.unwrap();
        server.scope().spawn(serve(listener, Router::new().route("/", slowly)).into_future());
        endpoints.insert(key, Client::new(&caller).base(&format!("http://{}", server.ip())).unwrap());
    }
    let layers = ServiceBuilder::new().layer(DeadlineLayer::new(5 * SECOND));
    let layers = layers.layer(RetryLayer::new().classify(HttpStatus).seed(Seed::new(4)));
    let service = layers.service(Replicas::new(endpoints.clone()).classify(HttpStatus));
    let calls = FuturesUnordered::new();
    for number in 0..300 {
        let request = ::http::Request::get("/").body(Full::<Bytes>::default()).unwrap();
        calls.push(tokio::spawn(service.clone().oneshot(request)));
        time::sleep(MILLI).await;
        if number == 100 {
            assert!(endpoints.pending("b") > Some(0), "it has requests in flight");
            servers[1].scope().kill();
        }
    }
    let mut answers = BTreeMap::new();
    for answer in calls.collect::<Vec<_>>().await {
        let name = answer.unwrap().unwrap().into_body().text().await.unwrap();
        *answers.entry(name).or_insert(0) += 1;
    }
    assert_eq!(answers.values().sum::<u32>(), 300, "{answers:?}");
    assert!(answers["b"] > 10 && answers["b"] < 100, "{answers:?}");
}
