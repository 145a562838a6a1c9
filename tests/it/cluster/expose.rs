//! A real TCP port in front of a service: on the real clock, since real sockets know no other.

use super::world::{pods, shop, start};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_browser_reaches_a_service() {
    let cluster = start().await;
    cluster.apply(&shop("web", 2)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    let address = cluster.expose("web", "127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // the request ends with our half of the connection; the answer must still come
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(pods(&cluster, "web").iter().any(|pod| text.ends_with(pod.name())), "{text}");

    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for pod in pods(&cluster, "web") {
        cluster.kill_pod(pod.name()).await.unwrap();
    }
    let error = open.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "a kill is a reset outside, too");

    let again = cluster.expose("web:80", ("127.0.0.1", 0)).await.unwrap();
    assert_ne!(again.port(), address.port(), "one address has many ports");
    let taken = cluster.expose("web", address).await.unwrap_err();
    assert!(taken.is_conflict() && taken.place() == Some(&*address.to_string()), "{taken}");
    assert!(cluster.expose("nobody", "127.0.0.1:0").await.unwrap_err().is_not_found());
    assert!(cluster.expose("web:99", "127.0.0.1:0").await.is_err());
    cluster.shutdown().await;
}

/// Several threads, too: nothing here may rely on one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cluster_over_real_sockets() {
    let cluster = super::world::builder(1).network(seedpod::net::Net::tcp()).start().await.unwrap();
    cluster.apply(&shop("web", 2)).await.unwrap();
    cluster.available("deployment/web").await.unwrap();
    // the workload counts its pods a moment before its service knows them
    let answer = async {
        loop {
            match super::world::fetch(&cluster, "http://web/").await {
                Err(error) if error.chain().contains("no endpoint is ready") => tokio::task::yield_now().await,
                answer => break answer.unwrap(),
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap();
    assert!(answer.starts_with("web-"));
}
