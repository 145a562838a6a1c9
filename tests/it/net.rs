//! net: the same promises in memory and over TCP.

use seedpod::{
    base::Kind,
    net::{HostOptions, Net},
};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Half-close, reset, orderly end, refusal: told alike by every network.
async fn streams(net: Net) {
    let server = net.host(HostOptions { name: "server".into(), ..Default::default() }).unwrap();
    let client = net.host(HostOptions::default()).unwrap();
    let mut listener = server.listen(7070).await.unwrap();
    assert_eq!(server.listen(7070).await.unwrap_err().kind(), Kind::Conflict);
    server.scope().spawn(async move {
        let mut half = listener.accept().await.unwrap();
        let mut all = String::new();
        half.read_to_string(&mut all).await.unwrap();
        half.write_all(format!("got {all}").as_bytes()).await.unwrap();
        drop(half);
        let mut cut = listener.accept().await.unwrap();
        cut.read_u8().await.unwrap();
        cut.reset();
        drop(listener.accept().await.unwrap());
    });
    let mut half = client.connect("server:7070").await.unwrap();
    half.write_all(b"all of it").await.unwrap();
    half.shutdown().await.unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "got all of it");
    let mut cut = client.connect("server:7070").await.unwrap();
    cut.write_u8(1).await.unwrap();
    assert_eq!(cut.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut ended = client.connect("server:7070").await.unwrap();
    assert_eq!(ended.read_u8().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    server.scope().gone().await;
    let refused = client.connect("server:7070").await.unwrap_err();
    assert_eq!(refused.to_string(), format!("{}:7070: unavailable: connection refused", server.ip()));
    let refused = client.connect("localhost:1").await.unwrap_err();
    assert_eq!(refused.to_string(), format!("{}:1: unavailable: connection refused", client.ip()));
}

#[tokio::test(start_paused = true)]
async fn streams_in_memory() {
    streams(Net::memory().build()).await;
}

#[tokio::test]
async fn streams_over_tcp() {
    streams(Net::tcp().build()).await;
}
