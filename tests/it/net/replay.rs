//! The same seed shows an observer the same bytes in the same order; another seed does not.

use super::host;
use seedpod::{
    base::{Seed, sync::Lock, time},
    net::{Host, Net},
};
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn echo(host: Host) {
    let mut listener = host.listen(80).await.unwrap();
    while let Ok(mut connection) = listener.accept().await {
        host.scope().spawn(async move {
            let mut space = [0; 64];
            while let Ok(read @ 1..) = connection.read(&mut space).await {
                connection.write_all(&space[..read]).await.unwrap();
            }
        });
    }
}

fn run(seed: u64) -> Vec<String> {
    let seed = Seed::new(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (log, start) = (Arc::new(Lock::new(Vec::new())), time::now());
        let wire = log.clone();
        let net = Net::memory()
            .seed(seed)
            .perturb()
            .latency(|_, _, rng| Duration::from_micros(rng.below(20_000)))
            .observe(move |event| wire.lock().push(format!("{:?} {event}", start.elapsed())))
            .build();
        let server = host(&net, "server");
        server.scope().spawn(echo(server.clone()));
        let clients: Vec<_> = (0..8).map(|index| host(&net, &format!("client-{index}"))).collect();
        for (index, client) in clients.iter().enumerate() {
            let client = client.clone();
            client.scope().clone().spawn(async move {
                for size in 1..20 {
                    let Ok(mut connection) = client.connect("server:80").await else { continue };
                    let (bytes, mut back) = (vec![index as u8; size * 10], vec![0; size * 10]);
                    connection.write_all(&bytes).await.unwrap();
                    connection.read_exact(&mut back).await.unwrap();
                    assert_eq!(back, bytes);
                }
            });
        }
        time::sleep(Duration::from_millis(150)).await;
        clients[0].scope().kill();
        for client in &clients {
            client.scope().gone().await;
        }
        server.scope().kill();
        server.scope().gone().await;
        std::mem::take(&mut *log.lock())
    })
}

#[test]
fn replays_byte_for_byte() {
    let logs: Vec<_> = (0..5).map(run).collect();
    for (seed, log) in logs.iter().enumerate() {
        assert!(log.len() > 400, "{}", log.len());
        assert_eq!(log, &run(seed as u64), "seed {seed}");
        assert_eq!(logs.iter().filter(|other| *other == log).count(), 1, "seed {seed}");
        assert!(log.iter().any(|line| line.ends_with("reset")), "the kill hit something in flight: seed {seed}");
    }
}
