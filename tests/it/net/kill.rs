//! Kill: peers see a reset, own ends fail, ports are free, and nothing is left, at whatever moment it comes.

use super::{host, pair};
use crate::simulated::simulate;
use seedpod::{
    base::{Kind, Rng, Seed, time},
    net::{Host, Net},
};
use std::{io::ErrorKind, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn killed(net: Net) {
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    let mut listener = b.listen(80).await.unwrap();
    let (mut here, mut there) = pair(&a, &b).await;
    let mut waiting = a.connect("b:80").await.unwrap();
    // both wait outside of the scope: nobody aborts them
    let own = tokio::spawn(async move { there.read_u8().await.unwrap_err().kind() });
    let accepting = tokio::spawn(async move {
        let first = listener.accept().await;
        (first.is_ok(), listener.accept().await.unwrap_err().kind(), first)
    });
    while !net.is_tcp() && b.scope().sockets() < 3 {
        tokio::task::yield_now().await;
    }
    if net.is_tcp() {
        time::sleep(Duration::from_millis(20)).await; // for the kernel to hand the connection over
    }
    b.scope().kill();
    assert!(b.scope().is_dead());
    assert_eq!(here.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(waiting.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(own.await.unwrap(), ErrorKind::ConnectionReset);
    let (first, second, _held) = accepting.await.unwrap();
    assert_eq!((first, second), (true, Kind::Closed));
    b.scope().gone().await;
    assert_eq!(b.scope().sockets(), 0);
    for dead in [b.listen(81).await.map(drop), b.connect("a:80").await.map(drop)] {
        assert!(matches!(dead.unwrap_err().kind(), Kind::Closed | Kind::Unavailable));
    }
    let next = b.scoped(net.scope());
    next.listen(80).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn killed_in_memory() {
    killed(Net::memory().build()).await;
}

#[tokio::test]
async fn killed_over_tcp() {
    killed(Net::tcp().build()).await;
}

/// Echoes on port 80, a task per connection.
async fn echo(host: Host) {
    let Ok(mut listener) = host.listen(80).await else { return };
    while let Ok(mut connection) = listener.accept().await {
        host.scope().spawn(async move {
            let mut space = [0; 256];
            while let Ok(read @ 1..) = connection.read(&mut space).await {
                if connection.write_all(&space[..read]).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Connects, talks, drops, resets and half-closes without end.
async fn talk(host: Host, mut rng: Rng) {
    loop {
        let Ok(mut connection) = host.connect("b:80").await else {
            time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        for _ in 0..rng.below(6) {
            let size = 1 + rng.below(200) as usize;
            let mut back = vec![0; size];
            if connection.write_all(&vec![1; size]).await.is_err() || connection.read_exact(&mut back).await.is_err() {
                break;
            }
        }
        match rng.below(4) {
            0 => connection.reset(),
            1 => drop(connection.shutdown().await),
            2 => drop(connection.write_all(b"left unread").await),
            _ => {}
        }
    }
}

/// One storm. Whether a connection was open when the kill came.
async fn storm(net: Net, seed: Seed) -> bool {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let mut rng = seed.fork("storm").rng();
    let (a, b) = (host(&net, "a"), host(&net, "b"));
    b.scope().spawn(echo(b.clone()));
    for _ in 0..4 {
        a.scope().spawn(talk(a.clone(), rng.fork()));
    }
    time::sleep(Duration::from_micros(rng.below(20_000))).await;
    for _ in 0..rng.below(40) {
        tokio::task::yield_now().await;
    }
    let hit = a.scope().sockets() > 0;
    let order = if rng.chance(0.5) { [&a, &b] } else { [&b, &a] };
    for host in order {
        host.scope().kill();
        for _ in 0..rng.below(5) {
            tokio::task::yield_now().await;
        }
    }
    for host in order {
        host.scope().gone().await;
        let left = (host.scope().tasks(), host.scope().sockets(), host.scope().panics());
        assert_eq!(left, (0, 0, 0), "seed {}", seed.get());
    }
    // the last future is dropped; on several workers the runtime's own record of its task may go a moment later
    for _ in 0..5000 {
        if alive() == before {
            return hit;
        }
        time::sleep(Duration::from_millis(1)).await;
    }
    panic!("seed {}: {} tasks are left", seed.get(), alive() - before);
}

#[test]
fn nothing_is_left_in_memory() {
    let mut hits = 0;
    for seed in (0..200).map(Seed::new) {
        hits += u32::from(simulate(seed, async {
            let net = Net::memory().perturb().buffer(100).latency(|_, _, rng| Duration::from_micros(rng.below(900)));
            storm(net.build(), seed).await
        }));
    }
    assert!(hits > 100, "only {hits} kills hit something in flight");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_on_two_threads() {
    let mut hits = 0;
    for seed in 0..100 {
        hits += u32::from(storm(Net::memory().seed(Seed::new(seed)).build(), Seed::new(seed)).await);
    }
    for seed in 0..30 {
        hits += u32::from(storm(Net::tcp().seed(Seed::new(seed)).build(), Seed::new(seed)).await);
    }
    assert!(hits > 65, "only {hits} kills hit something in flight");
}
