//! What only the network in memory promises: bounds to the byte, latency to the tick, reachability.

use super::{host, pair};
use seedpod::{
    base::{Error, Faults, Kind, Rng, Verdict, sync::Lock, time},
    net::{HostOptions, Net, Scope},
};
use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(start_paused = true)]
async fn a_full_buffer_holds_its_writer_back_until_half_is_free() {
    let net = Net::memory().buffer(100).build();
    let (mut here, mut there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    assert_eq!(here.write(&[1; 300]).await.unwrap(), 100);
    let rest = tokio::spawn(async move { here.write(&[2; 300]).await.unwrap() });
    let (mut part, second) = ([0; 30], Duration::from_secs(1));
    time::sleep(second).await;
    there.read_exact(&mut part).await.unwrap();
    time::sleep(second).await;
    assert!(!rest.is_finished(), "there is room for 30, and yet it is not woken for so little");
    there.read_exact(&mut part).await.unwrap();
    assert_eq!(rest.await.unwrap(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_megabyte_through_a_hundred_bytes() {
    let net = Net::memory().buffer(100).build();
    let (mut here, mut there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    let sent: Vec<u8> = (0..1 << 20).map(|index| (index * 7 / 3) as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move { here.write_all(&copy).await });
    let mut got = Vec::new();
    there.read_to_end(&mut got).await.unwrap();
    writer.await.unwrap().unwrap();
    assert!(got == sent);
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_refuses_and_a_dropped_one_resets() {
    let net = Net::memory().backlog(2).build();
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let mut listener = b.listen(80).await.unwrap();
    let mut waiting = [a.connect("b:80").await.unwrap(), a.connect("b:80").await.unwrap()];
    assert_eq!(a.connect("b:80").await.unwrap_err().to_string(), "10.0.0.2:80: unavailable: connection refused");
    assert_eq!(a.scope().sockets(), 2, "a refused one leaves nothing");
    let accepted = listener.accept().await.unwrap();
    assert_eq!(accepted.peer_addr(), waiting[0].local_addr(), "in the order of arrival");
    let third = a.connect("b:80").await.unwrap();
    drop(listener);
    assert_eq!(waiting[1].read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    waiting[0].write_u8(1).await.unwrap();
    drop((third, accepted, waiting));
    assert_eq!((a.scope().sockets(), b.scope().sockets()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn latency_delays_bytes_and_keeps_their_order() {
    let milliseconds = Duration::from_millis;
    let net = Net::memory().latency(move |_, to, _| milliseconds(if to.to_string() == "10.0.0.1" { 30 } else { 10 }));
    let net = net.build();
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let start = time::now();
    let (mut here, mut there) = pair(&a, &b).await;
    assert_eq!(start.elapsed(), milliseconds(40), "there and back");
    here.write_all(b"x").await.unwrap();
    here.shutdown().await.unwrap();
    assert_eq!(start.elapsed(), milliseconds(40), "the writer does not wait");
    let mut all = Vec::new();
    there.read_to_end(&mut all).await.unwrap();
    assert_eq!((&*all, start.elapsed()), (&b"x"[..], milliseconds(50)));
    there.write_all(b"y").await.unwrap();
    here.read_u8().await.unwrap();
    assert_eq!(start.elapsed(), milliseconds(80));
    let start = time::now();
    let _ = pair(&a, &a).await;
    assert_eq!(start.elapsed(), milliseconds(0), "not within a host");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_takes_the_way_there_and_back() {
    let net = Net::memory().latency(|_, _, _| Duration::from_millis(10)).build();
    let (a, _b) = (host(&net, "a"), host(&net, "b"));
    let start = time::now();
    a.connect("b:80").await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn a_detached_host_is_unreachable_and_reaches_nobody() {
    let net = Net::memory().build();
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let _listener = b.listen(80).await.unwrap();
    let (mut here, mut there) = pair(&a, &b).await;
    let address = b.ip();
    b.detach();
    let unreachable = a.connect(&format!("{address}:80")).await.unwrap_err();
    assert_eq!(unreachable.to_string(), "10.0.0.2:80: unavailable: host unreachable");
    assert_eq!(a.connect("b:80").await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(b.connect("a:80").await.unwrap_err().to_string(), "10.0.0.1:80: unavailable: this host is detached");
    assert_eq!(b.listen(81).await.unwrap_err().kind(), Kind::Unavailable);
    here.write_u8(1).await.unwrap();
    assert_eq!(there.read_u8().await.unwrap(), 1, "what is open stays open");
    let next = net.host(HostOptions { ip: Some(address), ..Default::default() }).unwrap();
    b.detach();
    assert!(a.connect(&format!("{address}:80")).await.unwrap_err().to_string().ends_with("connection refused"));
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn faults_delay_and_fail_connects() {
    let faults = Faults::default();
    let net = Net::memory().faults(faults.clone()).build();
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let _listener = b.listen(80).await.unwrap();
    let cut = faults.rule(|call: &seedpod::net::Connect| match &*call.from.name {
        "a" => Verdict::Fail(Error::new(Kind::Unavailable, "cut off")),
        _ => Verdict::Delay(Duration::from_secs(3)),
    });
    assert_eq!(a.connect("b:80").await.unwrap_err().to_string(), "10.0.0.2:80: unavailable: cut off");
    let start = time::now();
    b.connect("b:80").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    drop(cut);
    a.connect("b:80").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_busy_stream_lets_others_have_their_turn() {
    let net = Net::memory().build();
    let (mut here, mut there) = pair(&host(&net, "a"), &host(&net, "b")).await;
    let turns = tokio::spawn(async move {
        let mut turns = 0_u32;
        loop {
            turns += 1;
            tokio::task::yield_now().await;
            if turns == 10 {
                return;
            }
        }
    });
    // never pending by itself: only the budget makes it yield
    let talk = tokio::spawn(async move {
        loop {
            here.write_u8(1).await.unwrap();
            there.read_u8().await.unwrap();
        }
    });
    turns.await.unwrap();
    talk.abort();
}

#[tokio::test(start_paused = true)]
async fn what_draws_a_latency_may_use_the_network() {
    let (server, draws) = (Arc::new(Lock::new(None::<Scope>)), Arc::new(AtomicU32::new(0)));
    let victim = server.clone();
    let latency = move |_, _, _: &mut Rng| {
        if draws.fetch_add(1, Relaxed) == 3 {
            // two of the connect, one of the first write; this is the second one's, in the middle of it
            victim.lock().take().unwrap().kill();
        }
        Duration::from_millis(1)
    };
    let net = Net::memory().latency(latency).build();
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let (mut here, _there) = pair(&a, &b).await;
    *server.lock() = Some(b.scope().clone());
    here.write_u8(1).await.unwrap();
    assert_eq!(here.write_u8(2).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_of_a_host_takes_its_address_along() {
    let net = Net::memory().build();
    let options = || HostOptions { ip: Some([10, 9, 9, 9].into()), name: "b".into(), ..HostOptions::default() };
    let (a, b) = (host(&net, "a"), net.host(options()).unwrap());
    let mut listener = b.listen(80).await.unwrap();
    let other = b.scoped(net.scope());
    drop(b);
    let mut here = a.connect("b:80").await.unwrap();
    let mut there = listener.accept().await.unwrap();
    drop(other);
    assert!(net.host(options()).unwrap_err().is_conflict(), "its listener still stands on it");
    drop(listener);
    assert!(a.connect("b:80").await.unwrap_err().is_not_found());
    let again = net.host(options()).unwrap();
    here.write_u8(7).await.unwrap();
    assert_eq!(there.read_u8().await.unwrap(), 7, "what is open stays open");
    drop((here, there));
    again.listen(80).await.unwrap();
    again.detach();
    let third = net.host(options()).unwrap();
    drop(again);
    assert!(net.host(options()).unwrap_err().is_conflict(), "an old handle frees nothing of a new host's");
    drop(third);
}
