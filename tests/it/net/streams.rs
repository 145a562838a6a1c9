//! One body of tests, run in memory under paused time and over TCP.

use super::{host, pair};
use seedpod::{
    base::Kind,
    net::{HostOptions, Intercept, Net, splice},
};
use std::{
    io::ErrorKind,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

macro_rules! on_both {
    ($($test:ident),*) => {
        mod memory {
            use super::*;
            $(#[tokio::test(start_paused = true)] async fn $test() { super::$test(Net::memory().build()).await; })*
        }
        mod tcp {
            use super::*;
            $(#[tokio::test] async fn $test() { super::$test(Net::tcp().build()).await; })*
        }
    };
}

on_both!(
    half_close,
    reset,
    orderly_end,
    unread_data_resets,
    refusal,
    ports,
    interception,
    keeps_until_dropped,
    spliced
);

async fn half_close(net: Net) {
    let (mut here, mut there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    here.write_all(b"all of it").await.unwrap();
    here.shutdown().await.unwrap();
    let mut all = String::new();
    there.read_to_string(&mut all).await.unwrap();
    there.write_all(format!("got {all}").as_bytes()).await.unwrap();
    drop(there);
    let mut answer = String::new();
    here.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "got all of it");
    assert_eq!(here.write_all(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

async fn reset(net: Net) {
    let (mut here, there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    there.reset();
    assert_eq!(here.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn orderly_end(net: Net) {
    let (mut here, mut there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    there.write_all(b"bye").await.unwrap();
    drop(there);
    let mut all = String::new();
    here.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "bye");
}

async fn unread_data_resets(net: Net) {
    let (mut here, mut there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    here.write_all(b"x never read").await.unwrap();
    there.read_u8().await.unwrap(); // so that the rest has arrived, over TCP too
    drop(there);
    assert_eq!(here.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn refusal(net: Net) {
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let listener = b.listen(7070).await.unwrap();
    drop(listener);
    let refused = a.connect("b:7070").await.unwrap_err();
    assert_eq!(refused.to_string(), format!("{}:7070: unavailable: connection refused", b.ip()));
    let refused = a.connect("localhost:7070").await.unwrap_err();
    assert_eq!(refused.to_string(), format!("{}:7070: unavailable: connection refused", a.ip()));
    for wrong in ["b", "b:", ":80", "b:99999", ""] {
        assert_eq!(a.connect(wrong).await.unwrap_err().kind(), Kind::Invalid, "{wrong}");
    }
}

async fn ports(net: Net) {
    let a = host(&net, "a");
    let one = a.listen(7070).await.unwrap();
    let taken = a.listen(7070).await.unwrap_err();
    assert_eq!(taken.to_string(), format!("{}:7070: conflict: the port is in use", a.ip()));
    let (two, three) = (a.listen(0).await.unwrap(), a.listen(0).await.unwrap());
    assert_ne!(two.local_addr(), three.local_addr());
    assert_eq!(a.scope().sockets(), 3);
    drop((one, two, three));
    assert_eq!(a.scope().sockets(), 0);
    a.listen(7070).await.unwrap();
    let again = net.host(HostOptions { ip: Some(a.ip()), ..Default::default() }).unwrap_err();
    assert_eq!(again.to_string(), format!("{}: conflict: the address is taken", a.ip()));
}

async fn interception(net: Net) {
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let (mut out, mut into) = (a.listen(15001).await.unwrap(), b.listen(15006).await.unwrap());
    let mut plain = b.listen(80).await.unwrap();
    a.intercept(Intercept { outbound: Some(15001), inbound: None });
    b.intercept(Intercept { outbound: None, inbound: Some(15006) });
    let wanted = format!("{}:80", b.ip()).parse().unwrap();

    let asked = a.connect("b:80").await.unwrap();
    assert_eq!(asked.peer_addr(), wanted, "unseen by who connects");
    let outgoing = out.accept().await.unwrap();
    assert_eq!(outgoing.original_destination(), Some(wanted));

    let proxied = a.exempt().connect(&wanted.to_string()).await.unwrap();
    let incoming = into.accept().await.unwrap();
    assert_eq!((incoming.original_destination(), incoming.peer_addr()), (Some(wanted), proxied.local_addr()));

    let local = b.connect("localhost:80").await.unwrap();
    let arrived = plain.accept().await.unwrap();
    assert_eq!((arrived.original_destination(), arrived.peer_addr()), (None, local.local_addr()));
}

/// Something that tells when it goes.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

async fn keeps_until_dropped(net: Net) {
    let (mut here, _there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    let held = Arc::new(AtomicUsize::new(2));
    here.keep(Box::new(Held(held.clone())));
    here.keep(Box::new(Held(held.clone())));
    here.write_u8(1).await.unwrap();
    assert_eq!(held.load(Relaxed), 2);
    drop(here);
    assert_eq!(held.load(Relaxed), 0);
}

async fn spliced(net: Net) {
    let (a, proxy, b) = (host(&net, "a"), host(&net, "proxy"), host(&net, "b"));
    let (mut here, down) = pair(&a, &proxy).await;
    let (up, mut there) = pair(&proxy, &b).await;
    let splicing = tokio::spawn(splice(down, up));
    let sent: Vec<u8> = (0..1 << 20).map(|index| (index * 5 / 3) as u8).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        here.write_all(&copy).await.unwrap();
        here.shutdown().await.unwrap();
        here
    });
    let mut got = Vec::new();
    there.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    there.write_all(b"thanks").await.unwrap();
    drop(there);
    let (mut here, mut answer) = (writing.await.unwrap(), String::new());
    here.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "thanks");
    assert_eq!(splicing.await.unwrap().unwrap(), (1 << 20, 6));
    assert_eq!(proxy.scope().sockets(), 0);

    let (mut here, down) = pair(&a, &proxy).await;
    let (up, there) = pair(&proxy, &b).await;
    let splicing = tokio::spawn(splice(down, up));
    there.reset();
    assert_eq!(here.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset, "a reset passes through");
    assert_eq!(splicing.await.unwrap().unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn tcp_refuses_paused_time() {
    let net = Net::tcp().build();
    let a = host(&net, "a");
    for error in [a.listen(0).await.unwrap_err(), a.connect("localhost:80").await.unwrap_err()] {
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("Net::memory()"), "{error}");
    }
}
