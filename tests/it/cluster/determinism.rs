//! One seed, one history: every change of the store and every byte on the network.

use super::{
    traffic::Traffic,
    world::{builder, pods, shop},
};
use seedpod::{
    base::{Seed, hash, sync::Lock, time},
    net::Net,
    store::{Change, Start},
};
use std::{fmt::Write as _, sync::Arc, time::Duration};

type Log = Arc<Lock<Vec<String>>>;

/// Traffic, a kill, a rollout, a drain: all that happened, line by line.
fn history(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let _simulation = Seed::new(seed).simulate();
    runtime.block_on(async {
        let log = Log::default();
        let (on_net, begin) = (log.clone(), time::now());
        let network = Net::memory()
            .latency(|_, _, rng| Duration::from_micros(rng.range(0..3000)))
            .observe(move |event| on_net.lock().push(format!("{:?} {event}", begin.elapsed())));
        let cluster = builder(seed).network(network).start().await.unwrap();
        let (on_store, mut watch) = (log.clone(), cluster.store().watch("", Start));
        let watching = tokio::spawn(async move {
            while let Some(changes) = watch.next().await {
                let mut log = on_store.lock();
                for change in changes {
                    let removed = matches!(change, Change::Remove(_));
                    for entry in change.entries() {
                        let text = entry.value.write(entry.revision);
                        let mut line = format!("{:?} store {} {}", begin.elapsed(), entry.revision, entry.key);
                        write!(line, " {removed} {:016x}", hash::of(text.as_bytes())).unwrap();
                        log.push(line);
                    }
                }
            }
        });
        cluster.apply(&[shop("web", 4), shop("cart", 3)].join("---")).await.unwrap();
        cluster.available("deployment/web").await.unwrap();
        cluster.available("deployment/cart").await.unwrap();
        let (web, cart) = (Traffic::start(&cluster, "http://web/", 8), Traffic::start(&cluster, "http://cart/", 8));
        time::sleep(Duration::from_secs(3)).await;
        let mut victims = pods(&cluster, "cart");
        Seed::new(seed).fork("victims").rng().shuffle(&mut victims);
        cluster.kill_pod(victims[0].name()).await.unwrap();
        time::sleep(Duration::from_secs(2)).await;
        cluster.restart("web").await.unwrap();
        cluster.available("deployment/web").await.unwrap();
        cluster.drain("node-2").await.unwrap();
        cluster.available("deployment/cart").await.unwrap();
        web.stop().await;
        cart.stop().await;
        cluster.shutdown().await;
        watching.abort();
        std::mem::take(&mut *log.lock())
    })
}

#[test]
fn one_seed_one_history() {
    let (first, second) = (history(7), history(7));
    assert!(first.len() >= 10_000, "{} events", first.len());
    if let Some(at) = first.iter().zip(&second).position(|(one, other)| one != other) {
        panic!(
            "event {at} differs:\n{:#?}\n{:#?}",
            &first[at.saturating_sub(3)..=at],
            &second[at.saturating_sub(3)..=at]
        );
    }
    assert_eq!(first.len(), second.len());
    assert_ne!(first, history(8));
}

/// All of a history in one word.
fn digest(seed: u64) -> String {
    let history = history(seed);
    format!("{} events {:016x}", history.len(), hash::of(history.join("\n").as_bytes()))
}

/// Where [`tells_its_history`] finds its seed.
const SEED: &str = "SEEDPOD_HISTORY_SEED";

#[test]
#[ignore = "a history in a process of its own, started by another test"]
fn tells_its_history() {
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        println!("\nhistory: {}", digest(seed));
    }
}

/// The same in two processes, which differ in all that a program must not depend on: addresses of memory, seeds of hash
/// maps, environment, threads.
#[test]
fn one_seed_one_history_in_every_process() {
    let told = |seed: u64, threads: &str| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cluster::determinism::tells_its_history", "--ignored", "--nocapture"])
            .env(SEED, seed.to_string())
            .env("RUST_TEST_THREADS", threads)
            .env("SEEDPOD_OTHER", "x".repeat(threads.len() * 1000))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("history: ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let first = told(7, "1");
    assert_eq!(told(7, "16"), first);
    assert_eq!(digest(7), first, "and here");
    assert_ne!(told(8, "1"), first);
}
